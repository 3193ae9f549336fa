"""The aws command, as people use it."""

import json
import os
import pathlib
import sys
import time
import urllib.request

import pytest

from helpers import KIB, MIB, absent, body_of, read, run, sha256_of_file, tree_of

AWS = pathlib.Path(sys.executable).with_name("aws")


@pytest.fixture
def aws(cluster, tmp_path):
    # Version 1 presigns with SigV2 unless it is told otherwise; Annulus, like AWS's newer regions, takes SigV4 alone.
    config = tmp_path / "aws-config"
    config.write_text("[default]\ns3 =\n  signature_version = s3v4\n")

    def command(*arguments, gateway=0, check=True):
        env = {
            **cluster.environment,
            "AWS_DEFAULT_OUTPUT": "json",
            "AWS_PAGER": "",
            "AWS_CONFIG_FILE": str(config),
        }
        return run(AWS, "--endpoint-url", cluster.endpoints[gateway], *arguments, env=env, check=check).decode()

    return command


@pytest.fixture
def tree(tmp_path):
    """Files and folders as people have them, older than any object: sync compares with LastModified, whole seconds."""
    for n in range(60):
        file = tmp_path / "tree" / f"folder {n % 7}" / f"file-{n} ü+%.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body_of((n * 997) % (40 * KIB), n))
    (tmp_path / "tree" / "empty").touch()
    for file in (tmp_path / "tree").rglob("*"):
        os.utime(file, (time.time() - 3600,) * 2)
    return tmp_path / "tree"


def test_a_bucket_is_made_and_removed(aws, bucket, tmp_path):
    name = f"s3://{bucket}-cli"
    aws("s3", "mb", name)
    assert f"{bucket}-cli" in aws("s3", "ls", gateway=-1)
    (tmp_path / "f").write_text("x")
    aws("s3", "cp", tmp_path / "f", f"{name}/a/f")
    aws("s3", "rb", name, check=False)
    assert f"{bucket}-cli" in aws("s3", "ls"), "a bucket with something in it stays"
    aws("s3", "rb", name, "--force")
    assert f"{bucket}-cli" not in aws("s3", "ls", gateway=-1)


@pytest.mark.parametrize("size", [0, 10, 64 * MIB])
def test_a_file_goes_up_and_comes_down(aws, s3, bucket, tmp_path, size):
    """64 MiB go by multipart."""
    up, down = tmp_path / "up", tmp_path / "down"
    up.write_bytes(body_of(size))
    aws("s3", "cp", up, f"s3://{bucket}/dir/file")
    aws("s3", "cp", f"s3://{bucket}/dir/file", down, gateway=-1)
    assert sha256_of_file(up) == sha256_of_file(down)
    assert ("-" in s3.head_object(Bucket=bucket, Key="dir/file")["ETag"]) == (size == 64 * MIB)


def test_a_tree_is_synchronised(aws, s3, bucket, tree, tmp_path):
    aws("s3", "sync", tree, f"s3://{bucket}/t")
    # Nothing changed, nothing to do.
    assert aws("s3", "sync", tree, f"s3://{bucket}/t", gateway=-1) == ""
    aws("s3", "sync", f"s3://{bucket}/t", tmp_path / "back", gateway=-1)
    assert tree_of(tmp_path / "back") == tree_of(tree)
    gone = next(tree.rglob("file-7*"))
    gone.unlink()
    (tree / "new").write_text("new")
    aws("s3", "sync", tree, f"s3://{bucket}/t", "--delete")
    keys = {o["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket) for o in page["Contents"]}
    assert keys == {f"t/{name}" for name in tree_of(tree)}


def test_a_tree_is_listed_moved_and_removed(aws, s3, bucket, tree):
    aws("s3", "cp", "--recursive", tree, f"s3://{bucket}/t")
    files = tree_of(tree)
    listing = aws("s3", "ls", "--recursive", "--summarize", f"s3://{bucket}/t/", gateway=-1)
    assert f"Total Objects: {len(files)}" in listing
    assert f"Total Size: {sum(map(len, files.values()))}" in listing
    assert "PRE folder 3/" in aws("s3", "ls", f"s3://{bucket}/t/")
    aws("s3", "mv", f"s3://{bucket}/t/empty", f"s3://{bucket}/moved")
    assert absent(s3, bucket, "t/empty") and read(s3, bucket, "moved") == b""
    aws("s3", "rm", "--recursive", f"s3://{bucket}/t")
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["moved"]


def test_a_url_that_is_presigned_needs_no_key(aws, s3, bucket):
    s3.put_object(Bucket=bucket, Key="a b", Body=b"for whoever has the link")
    url = aws("s3", "presign", f"s3://{bucket}/a b", "--expires-in", "600").strip()
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.read() == b"for whoever has the link"


def test_the_low_level_commands(aws, bucket, tmp_path):
    up, down = tmp_path / "up", tmp_path / "down"
    up.write_bytes(body_of(100 * KIB))
    put = json.loads(
        aws(
            "s3api",
            "put-object",
            "--bucket",
            bucket,
            "--key",
            "k",
            "--body",
            up,
            "--checksum-algorithm",
            "SHA256",
            "--metadata",
            "colour=blue",
        )
    )
    assert put["ChecksumSHA256"]
    got = json.loads(aws("s3api", "get-object", "--bucket", bucket, "--key", "k", "--range", "bytes=1000-1999", down))
    assert got["Metadata"] == {"colour": "blue"} and down.read_bytes() == up.read_bytes()[1000:2000]
    assert json.loads(aws("s3api", "head-object", "--bucket", bucket, "--key", "k", gateway=-1))["ETag"] == put["ETag"]


def test_a_stream_goes_through(aws, cluster, s3, bucket, tmp_path):
    """From standard input the length is unknown beforehand."""
    source = tmp_path / "source"
    source.write_bytes(body_of(20 * MIB))
    script = '"$0" --endpoint-url "$1" s3 cp - "$2" < "$3" && "$0" --endpoint-url "$1" s3 cp "$2" - > "$3.back"'
    run(
        "bash",
        "-c",
        script,
        AWS,
        cluster.endpoints[0],
        f"s3://{bucket}/stream",
        source,
        env=cluster.environment,
    )
    assert sha256_of_file(source) == sha256_of_file(f"{source}.back")
