"""rclone: copies, checks, and a bucket mounted as a file system."""

import json
import os
import shutil

import pytest

from helpers import KIB, MIB, body_of, free_address, mount, needs, read, run, tree_of, wait_for

pytestmark = needs("rclone")


@pytest.fixture
def environment(cluster):
    return {
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_CONFIG_A_TYPE": "s3",
        "RCLONE_CONFIG_A_PROVIDER": "Other",
        "RCLONE_CONFIG_A_ENDPOINT": cluster.endpoints[0],
        "RCLONE_CONFIG_A_REGION": cluster.region,
        "RCLONE_CONFIG_A_ACCESS_KEY_ID": cluster.main.access_key,
        "RCLONE_CONFIG_A_SECRET_ACCESS_KEY": cluster.main.secret_key,
    }


@pytest.fixture
def rclone(environment):
    return lambda *arguments: run("rclone", *arguments, env=environment).decode()


@pytest.fixture
def tree(tmp_path):
    for n in range(50):
        file = tmp_path / "tree" / f"d{n % 5}" / f"s {n % 3}" / f"file {n} ü.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body_of((n * 1009) % (50 * KIB), n))
    (tmp_path / "tree" / "large").write_bytes(body_of(30 * MIB))
    return tmp_path / "tree"


def test_a_tree_is_copied_checked_and_synchronised(rclone, s3, bucket, tree, tmp_path):
    rclone("copy", tree, f"a:{bucket}/t")
    rclone("check", "--one-way", tree, f"a:{bucket}/t")
    rclone("check", "--download", tree, f"a:{bucket}/t")
    shutil.rmtree(tree / "d1")
    (tree / "large").write_bytes(body_of(7 * MIB, 1))
    rclone("sync", tree, f"a:{bucket}/t")
    rclone("copy", f"a:{bucket}/t", tmp_path / "back")
    assert tree_of(tmp_path / "back") == tree_of(tree)
    assert rclone("size", "--json", f"a:{bucket}").startswith('{"count":%d,' % len(tree_of(tree)))
    rclone("moveto", f"a:{bucket}/t/large", f"a:{bucket}/moved")
    assert read(s3, bucket, "moved") == body_of(7 * MIB, 1)
    rclone("purge", f"a:{bucket}/t")
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["moved"]


def test_a_file_larger_than_one_part(rclone, s3, bucket, tmp_path):
    (tmp_path / "f").write_bytes(body_of(40 * MIB))
    rclone("copyto", "--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M", tmp_path / "f", f"a:{bucket}/f")
    assert s3.head_object(Bucket=bucket, Key="f")["ETag"].endswith('-8"')
    assert read(s3, bucket, "f") == body_of(40 * MIB)


class Mounted:
    """A bucket mounted by rclone. It writes back behind our back: `settle` waits until it has nothing left to do."""

    def __init__(self, point, remote_control):
        self.point, self.remote_control = point, remote_control

    def settle(self):
        def settled():
            cache = json.loads(run("rclone", "rc", "--url", f"http://{self.remote_control}", "vfs/stats"))["diskCache"]
            return cache["uploadsInProgress"] == cache["uploadsQueued"] == 0

        wait_for(settled, seconds=60)


@pytest.fixture
def mounted(environment, bucket, tmp_path):
    point, remote_control = tmp_path / "mount", free_address()
    settings = {
        "vfs-cache-mode": "full",
        "cache-dir": tmp_path / "cache",
        "vfs-write-back": "500ms",
        "dir-cache-time": "1s",
        "rc-addr": remote_control,
    }
    options = [f"--{name}={value}" for name, value in settings.items()]
    command = ["rclone", "mount", f"a:{bucket}", point, "--rc", "--rc-no-auth", "-v", *options]
    with mount(*command, point=point, env=environment, log=tmp_path / "rclone.log"):
        yield Mounted(point, remote_control)


def test_a_bucket_is_a_file_system(mounted, s3, bucket):
    # What a file system has closed is handed to rclone a moment later: that nothing waits does not mean that all is there.
    def is_stored(expected):
        listed = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {o["Key"]: read(s3, bucket, o["Key"]) for o in listed} == expected

    here, large = mounted.point, body_of(20 * MIB + 3)
    (here / "folder/deeper").mkdir(parents=True)
    (here / "folder/deeper/small ü").write_text("hello")
    (here / "large").write_bytes(large)
    assert (here / "large").read_bytes() == large
    mounted.settle()
    wait_for(lambda: is_stored({"folder/deeper/small ü": b"hello", "large": large}))

    # In place, in the middle, and at the end.
    with open(here / "large", "r+b") as file:
        file.seek(5 * MIB)
        file.write(b"changed")
        file.seek(0, os.SEEK_END)
        file.write(b"appended")
    changed = large[: 5 * MIB] + b"changed" + large[5 * MIB + 7 :] + b"appended"
    mounted.settle()
    wait_for(lambda: is_stored({"folder/deeper/small ü": b"hello", "large": changed}))

    (here / "large").rename(here / "folder/renamed")
    mounted.settle()
    wait_for(lambda: is_stored({"folder/deeper/small ü": b"hello", "folder/renamed": changed}))
    assert sorted(os.listdir(here / "folder")) == ["deeper", "renamed"]

    # What others write appears; what is removed goes.
    s3.put_object(Bucket=bucket, Key="theirs", Body=b"from elsewhere")
    wait_for(lambda: "theirs" in os.listdir(here))
    assert (here / "theirs").read_bytes() == b"from elsewhere"
    (here / "theirs").unlink()
    wait_for(lambda: is_stored({"folder/deeper/small ü": b"hello", "folder/renamed": changed}))
