"""Terraform's S3 backend with `use_lockfile`: a lock is an object that only one may create."""

import concurrent.futures
import json
import subprocess

import pytest

from helpers import absent, needs, read, refused, run, tool, wait_for

TERRAFORM = tool("terraform") or tool("tofu")
needs_terraform = needs("terraform" if tool("terraform") else "tofu")

BACKEND = """
terraform {
  backend "s3" {
    bucket                      = "%s"
    key                         = "states/main.tfstate"
    region                      = "%s"
    endpoints                   = { s3 = "%s" }
    use_lockfile                = true
    use_path_style              = true
    encrypt                     = true
    skip_credentials_validation = true
    skip_metadata_api_check     = true
    skip_region_validation      = true
    skip_requesting_account_id  = true
  }
}
variable "say" { default = "nothing" }
resource "terraform_data" "held" {
  input            = var.say
  triggers_replace = var.say
  provisioner "local-exec" {
    command = "touch started; while [ ! -e go ]; do sleep 0.05; done"
  }
}
output "said" { value = terraform_data.held.output }
"""
STATE, LOCK = "states/main.tfstate", "states/main.tfstate.tflock"


def test_the_lock_protocol_without_terraform(cluster, bucket):
    """What the backend sends: a conditional put takes the lock, a get tells who has it, a delete gives it back."""
    clients = [cluster.client(n % len(cluster.endpoints)) for n in range(8)]

    def take(n):
        try:
            clients[n].put_object(Bucket=bucket, Key=LOCK, Body=b'{"ID":"%d"}' % n, IfNoneMatch="*")
            return n
        except clients[n].exceptions.ClientError as error:
            assert error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict")
            return None

    with concurrent.futures.ThreadPoolExecutor(len(clients)) as pool:
        for _ in range(3):
            holders = [n for n in pool.map(take, range(len(clients))) if n is not None]
            assert len(holders) == 1
            assert json.loads(read(clients[-1], bucket, LOCK)) == {"ID": str(holders[0])}
            with refused("PreconditionFailed"):
                clients[0].put_object(Bucket=bucket, Key=LOCK, Body=b"mine", IfNoneMatch="*")
            clients[-1].delete_object(Bucket=bucket, Key=LOCK)
            assert absent(clients[0], bucket, LOCK)


class Directory:
    """One person's checkout of the configuration."""

    def __init__(self, cluster, bucket, path, gateway):
        self.path = path
        self.path.mkdir()
        (path / "main.tf").write_text(BACKEND % (bucket, cluster.region, cluster.endpoints[gateway]))
        self.env = {**cluster.environment, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "HOME": str(path)}
        self("init", "-input=false")

    def __call__(self, *arguments, check=True):
        return run(TERRAFORM, f"-chdir={self.path}", *arguments, env=self.env, check=check).decode()

    def start(self, *arguments):
        """The same, without waiting for its end."""
        command = [TERRAFORM, f"-chdir={self.path}", *arguments]
        return subprocess.Popen(command, env={**self.env, "PATH": "/usr/bin:/bin"}, stdin=subprocess.DEVNULL)

    def refused(self, *arguments):
        """What it said when it failed, on one line."""
        done = subprocess.run(
            [TERRAFORM, f"-chdir={self.path}", *arguments, "-no-color"],
            env={**self.env, "PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        assert done.returncode != 0
        return " ".join(done.stderr.decode().split())

    def go(self):
        (self.path / "go").touch()


APPLY = ("apply", "-input=false", "-auto-approve")


@pytest.fixture
def mine_and_theirs(cluster, bucket, tmp_path):
    return Directory(cluster, bucket, tmp_path / "mine", 0), Directory(cluster, bucket, tmp_path / "theirs", -1)


@needs_terraform
def test_a_state_is_changed_by_one_at_a_time(mine_and_theirs, s3, bucket):
    mine, theirs = mine_and_theirs
    first = mine.start(*APPLY, "-var=say=first")
    wait_for(lambda: (mine.path / "started").exists() or first.poll() is not None, seconds=60)
    assert not absent(s3, bucket, LOCK)
    assert "Error acquiring the state lock" in theirs.refused(*APPLY, "-var=say=second")
    theirs.go()
    waiting = theirs.start(*APPLY, "-var=say=second", "-lock-timeout=120s")
    mine.go()
    assert (first.wait(120), waiting.wait(120)) == (0, 0)
    assert json.loads(mine("output", "-json"))["said"]["value"] == "second"
    assert absent(s3, bucket, LOCK)
    state = s3.get_object(Bucket=bucket, Key=STATE)
    assert state["ServerSideEncryption"] == "AES256"
    assert json.loads(state["Body"].read())["outputs"]["said"]["value"] == "second"


@needs_terraform
def test_a_lock_that_was_left_behind_is_broken(mine_and_theirs, s3, bucket):
    mine, theirs = mine_and_theirs
    first = mine.start(*APPLY)
    wait_for(lambda: (mine.path / "started").exists() or first.poll() is not None, seconds=60)
    first.kill()
    first.wait()
    mine.go()
    theirs.go()
    assert "Error acquiring the state lock" in theirs.refused(*APPLY)
    theirs("force-unlock", "-force", json.loads(read(s3, bucket, LOCK))["ID"])
    theirs(*APPLY)
    assert absent(s3, bucket, LOCK)


@needs_terraform
def test_workspaces_are_listed_and_removed(mine_and_theirs, s3, bucket):
    mine, theirs = mine_and_theirs
    mine("workspace", "new", "staging")
    mine.go()
    mine(*APPLY)
    assert "staging" in theirs("workspace", "list")
    assert not absent(s3, bucket, f"env:/staging/{STATE}")
    mine("destroy", "-auto-approve")
    mine("workspace", "select", "default")
    mine("workspace", "delete", "staging")
    assert "staging" not in theirs("workspace", "list")
