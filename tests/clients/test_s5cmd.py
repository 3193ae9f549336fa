"""s5cmd: many files at once, wildcards, pipes and synchronisation."""

import json
import subprocess

import pytest

from helpers import MIB, body_of, needs, plant, read, run, tool, tree_of

pytestmark = needs("s5cmd")
S5CMD = tool("s5cmd")


@pytest.fixture
def s5cmd(cluster):
    def command(*arguments, gateway=0, check=True):
        env = {**cluster.environment, "S3_ENDPOINT_URL": cluster.endpoints[gateway]}
        return run(S5CMD, *arguments, env=env, check=check).decode()

    return command


@pytest.fixture
def tree(tmp_path):
    return plant(tmp_path / "tree", files=100, large=20 * MIB, suffix=lambda n: "txt" if n % 2 else "bin")


def test_a_tree_goes_up_is_synchronised_and_comes_down(s5cmd, s3, bucket, tree, tmp_path):
    s5cmd("cp", "--part-size", "5", f"{tree}/", f"s3://{bucket}/t/")
    assert s3.head_object(Bucket=bucket, Key="t/large")["ETag"].endswith('-4"')
    listed = [json.loads(line) for line in s5cmd("--json", "ls", f"s3://{bucket}/t/*", gateway=-1).splitlines()]
    # It does not say the size of what is empty.
    sizes = {entry["key"].removeprefix(f"s3://{bucket}/t/"): entry.get("size", 0) for entry in listed}
    assert sizes == {name: len(data) for name, data in tree_of(tree).items()}

    next(tree.rglob("file 7 *")).unlink()
    (tree / "new").write_text("new")
    s5cmd("sync", "--delete", "--size-only", f"{tree}/", f"s3://{bucket}/t/", gateway=-1)
    assert s5cmd("sync", "--delete", "--size-only", f"{tree}/", f"s3://{bucket}/t/") == ""
    s5cmd("cp", f"s3://{bucket}/t/*", tmp_path / "back/", gateway=-1)
    assert tree_of(tmp_path / "back") == tree_of(tree)


def test_wildcards_select_what_is_copied_moved_and_removed(s5cmd, s3, bucket, tree):
    def keys():
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {o["Key"] for page in pages for o in page.get("Contents", [])}

    s5cmd("cp", f"{tree}/", f"s3://{bucket}/t/")
    names = set(tree_of(tree))
    s5cmd("cp", f"s3://{bucket}/t/*.txt", f"s3://{bucket}/texts/")
    texts = {name for name in names if name.endswith(".txt")}
    assert keys() == {f"t/{n}" for n in names} | {f"texts/{n}" for n in texts}
    s5cmd("mv", f"s3://{bucket}/texts/*", f"s3://{bucket}/moved/")
    s5cmd("rm", f"s3://{bucket}/t/*", gateway=-1)
    assert keys() == {f"moved/{n}" for n in texts}
    total = sum(len(tree_of(tree)[n]) for n in texts)
    assert json.loads(s5cmd("--json", "du", f"s3://{bucket}/*"))["size"] == total


def test_streams_and_single_objects(s5cmd, cluster, s3, bucket):
    data = body_of(12 * MIB)
    subprocess.run(
        [S5CMD, "--endpoint-url", cluster.endpoints[0], "pipe", f"s3://{bucket}/piped"],
        env=cluster.environment,
        input=data,
        check=True,
    )
    assert read(s3, bucket, "piped") == data
    env = {**cluster.environment, "S3_ENDPOINT_URL": cluster.endpoints[-1]}
    assert run(S5CMD, "cat", f"s3://{bucket}/piped", env=env) == data
    assert json.loads(s5cmd("--json", "head", f"s3://{bucket}/piped"))["size"] == len(data)
    assert "403" not in s5cmd("cat", f"s3://{bucket}/none", check=False)
