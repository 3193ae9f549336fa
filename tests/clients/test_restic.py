"""restic: backups that can be restored, and whose every byte checks out."""

import shutil

import pytest

from helpers import MIB, body_of, needs, plant, run, tree_of

pytestmark = needs("restic")


@pytest.fixture
def restic(cluster, bucket, tmp_path):
    env = {
        **cluster.environment,
        "RESTIC_PASSWORD": "a password for tests",
        "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
        "RESTIC_PROGRESS_FPS": "0.1",
    }

    def command(*arguments, gateway=0):
        repository = f"s3:{cluster.endpoints[gateway]}/{bucket}/backups"
        return run("restic", "-o", "s3.bucket-lookup=path", "-r", repository, *arguments, env=env).decode()

    command("init")
    return command


@pytest.fixture
def tree(tmp_path):
    return plant(tmp_path / "tree", files=40, large=40 * MIB)


def test_a_backup_is_checked_restored_and_forgotten(restic, tree, tmp_path):
    restic("backup", tree)
    before = tree_of(tree)
    shutil.rmtree(tree / "d1")
    (tree / "large").write_bytes(body_of(20 * MIB, 1) + before["large"][20 * MIB :])
    restic("backup", tree, gateway=-1)
    assert "no errors were found" in restic("check", "--read-data", gateway=-1)

    restic("restore", "latest", "--target", tmp_path / "latest", gateway=-1)
    assert tree_of(tmp_path / "latest" / tree.relative_to("/")) == tree_of(tree)
    first = restic("snapshots", "--json").split('"short_id":"')[1][:8]
    restic("restore", first, "--target", tmp_path / "first")
    assert tree_of(tmp_path / "first" / tree.relative_to("/")) == before

    restic("forget", "--keep-last", "1", "--prune")
    assert "no errors were found" in restic("check", "--read-data")
    restic("restore", "latest", "--target", tmp_path / "kept")
    assert tree_of(tmp_path / "kept" / tree.relative_to("/")) == tree_of(tree)


def test_a_damaged_pack_is_noticed(restic, tree, s3, bucket):
    """The check does read: it finds the one byte that is wrong."""
    restic("backup", tree / "d0")
    pack = s3.list_objects_v2(Bucket=bucket, Prefix="backups/data/")["Contents"][0]["Key"]
    data = bytearray(s3.get_object(Bucket=bucket, Key=pack)["Body"].read())
    data[10] ^= 1
    s3.put_object(Bucket=bucket, Key=pack, Body=bytes(data))
    with pytest.raises(AssertionError, match="exit code 1"):
        restic("check", "--read-data")
