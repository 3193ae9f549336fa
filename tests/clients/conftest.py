"""What every client test starts from: the gateways, two accounts, clients for both, and a bucket of its own."""

import dataclasses
import json
import os
import pathlib
import uuid

import boto3
import botocore.config
import pytest

# Nothing here may ask the network who we are, or follow a person's own settings: only the keys are taken from AWS_*.
AWS_KEPT = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"}
for name in [n for n in os.environ if n.lower().endswith("_proxy") or (n.startswith("AWS_") and n not in AWS_KEPT)]:
    del os.environ[name]
os.environ.update(AWS_EC2_METADATA_DISABLED="true", AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)


@dataclasses.dataclass(frozen=True)
class Account:
    access_key: str
    secret_key: str


@dataclasses.dataclass(frozen=True)
class Cluster:
    endpoints: list
    region: str
    main: Account
    other: Account | None

    @property
    def environment(self):
        """The main account as most tools read it."""
        return {
            "AWS_ACCESS_KEY_ID": self.main.access_key,
            "AWS_SECRET_ACCESS_KEY": self.main.secret_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
        }

    def client(self, gateway=0, account=None, **config):
        """A boto3 client of one gateway; -1 is the last, another one than 0 wherever there are several."""
        account = account or self.main
        settings = {
            "signature_version": "s3v4",
            "s3": {"addressing_style": "path"},
            "max_pool_connections": 64,
            "retries": {"total_max_attempts": 3, "mode": "standard"},
            "read_timeout": 60,
            **config,
        }
        return boto3.client(
            "s3",
            endpoint_url=self.endpoints[gateway],
            region_name=self.region,
            aws_access_key_id=account.access_key,
            aws_secret_access_key=account.secret_key,
            config=botocore.config.Config(**settings),
        )


@pytest.fixture(scope="session")
def cluster():
    file = os.environ.get("CLIENTS_CLUSTER")
    if file:
        state = json.loads(pathlib.Path(file).read_text())
        return Cluster(
            state["endpoints"],
            state.get("region", "us-east-1"),
            Account(state["access_key"], state["secret_key"]),
            Account(state["alt_access_key"], state["alt_secret_key"]),
        )
    env = os.environ
    if "CLIENTS_ENDPOINTS" not in env:
        pytest.exit("start these with tests/clients/run", returncode=2)
    other = Account(env["ALT_ACCESS_KEY_ID"], env["ALT_SECRET_ACCESS_KEY"]) if "ALT_ACCESS_KEY_ID" in env else None
    return Cluster(
        env["CLIENTS_ENDPOINTS"].split(),
        env.get("AWS_DEFAULT_REGION", "us-east-1"),
        Account(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]),
        other,
    )


@pytest.fixture(scope="session")
def s3(cluster):
    """The main account at the first gateway."""
    return cluster.client()


@pytest.fixture(scope="session")
def s3_elsewhere(cluster):
    """The main account at another gateway: whatever was written must be seen there at once."""
    return cluster.client(-1)


@pytest.fixture(scope="session")
def stranger(cluster):
    """The second account."""
    if cluster.other is None:
        pytest.skip("no second account: set ALT_ACCESS_KEY_ID and ALT_SECRET_ACCESS_KEY")
    return cluster.client(account=cluster.other)


@pytest.fixture
def bucket(s3):
    name = new_bucket(s3)
    yield name
    remove_bucket(s3, name)


@pytest.fixture(scope="module")
def module_bucket(s3):
    """For tests that only read what their module has put there."""
    name = new_bucket(s3)
    yield name
    remove_bucket(s3, name)


def new_bucket(client):
    name = f"clients-{uuid.uuid4().hex[:16]}"
    client.create_bucket(Bucket=name)
    return name


def remove_bucket(client, name):
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=name):
        for upload in page.get("Uploads", []):
            client.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
        keys = [{"Key": o["Key"]} for o in page.get("Contents", [])]
        if keys:
            answer = client.delete_objects(Bucket=name, Delete={"Objects": keys, "Quiet": True})
            assert "Errors" not in answer
    client.delete_bucket(Bucket=name)
