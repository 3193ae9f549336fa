"""s3fs: a bucket mounted with FUSE, every operation straight to the store."""

import os
import shutil

import pytest

from helpers import KIB, MIB, body_of, mount, needs, read, tree_of

pytestmark = needs("s3fs")


@pytest.fixture
def mounted(cluster, bucket, tmp_path):
    passwords = tmp_path / "passwords"
    passwords.write_text(f"{cluster.main.access_key}:{cluster.main.secret_key}")
    passwords.chmod(0o600)
    settings = {
        "url": cluster.endpoints[0],
        "endpoint": cluster.region,
        "passwd_file": passwords,
        "use_cache": tmp_path / "cache",
        "multipart_size": 10,
        "stat_cache_expire": 1,
    }
    options = ",".join(f"{name}={value}" for name, value in settings.items())
    point = tmp_path / "mount"
    command = ["s3fs", bucket, point, "-f", "-o", options, "-o", "use_path_request_style,sigv4"]
    with mount(*command, point=point, log=tmp_path / "s3fs.log"):
        yield point


def test_a_bucket_is_a_file_system(mounted, s3, bucket):
    large = body_of(25 * MIB + 3)
    (mounted / "folder/deeper").mkdir(parents=True)
    (mounted / "folder/deeper/small ü").write_text("hello")
    (mounted / "large").write_bytes(large)
    assert (mounted / "large").read_bytes() == large
    assert read(s3, bucket, "large") == large
    assert read(s3, bucket, "folder/deeper/small ü") == b"hello"

    # In place and at the end: parts that did not change are copied on the server.
    with open(mounted / "large", "r+b") as file:
        file.seek(12 * MIB)
        file.write(b"changed")
        file.seek(0, os.SEEK_END)
        file.write(b"appended")
    changed = large[: 12 * MIB] + b"changed" + large[12 * MIB + 7 :] + b"appended"
    assert read(s3, bucket, "large") == changed

    os.truncate(mounted / "large", 6 * MIB)
    assert read(s3, bucket, "large") == changed[: 6 * MIB]
    (mounted / "large").rename(mounted / "folder/renamed")
    assert sorted(os.listdir(mounted / "folder")) == ["deeper", "renamed"]
    assert read(s3, bucket, "folder/renamed") == changed[: 6 * MIB]

    # Its metadata is the object's: a mode and a time that were set are there for whoever mounts it next.
    os.chmod(mounted / "folder/renamed", 0o640)
    os.utime(mounted / "folder/renamed", (1_000_000_000, 1_000_000_000))
    metadata = s3.head_object(Bucket=bucket, Key="folder/renamed")["Metadata"]
    assert (int(metadata["mode"]) & 0o777, int(float(metadata["mtime"]))) == (0o640, 1_000_000_000)
    assert read(s3, bucket, "folder/renamed") == changed[: 6 * MIB]


def test_a_tree_is_copied_moved_and_removed(mounted, s3, bucket, tmp_path):
    for n in range(12):
        file = tmp_path / "tree" / f"d{n % 3}" / f"file {n}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body_of((n * 1009) % (50 * KIB), n))
    tree = tree_of(tmp_path / "tree")
    shutil.copytree(tmp_path / "tree", mounted / "t")
    assert tree_of(mounted / "t") == tree
    (mounted / "t").rename(mounted / "moved")
    assert tree_of(mounted / "moved") == tree and not (mounted / "t").exists()
    assert read(s3, bucket, "moved/d1/file 1") == tree["d1/file 1"]
    s3.put_object(Bucket=bucket, Key="moved/theirs", Body=b"from elsewhere")
    assert (mounted / "moved/theirs").read_bytes() == b"from elsewhere"
    shutil.rmtree(mounted / "moved")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
