"""What is wrong gets AWS's error code, and stores nothing."""

import botocore.exceptions
import botocore.handlers
import pytest

from conftest import new_bucket
from helpers import absent, refused


def test_what_is_not_there(s3, bucket):
    with refused("NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="none")
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="none")
    none = f"{bucket}-none"
    for attempt in (
        lambda: s3.get_object(Bucket=none, Key="k"),
        lambda: s3.put_object(Bucket=none, Key="k", Body=b"x"),
        lambda: s3.list_objects_v2(Bucket=none),
        lambda: s3.delete_object(Bucket=none, Key="k"),
        lambda: s3.create_multipart_upload(Bucket=none, Key="k"),
        lambda: s3.delete_bucket(Bucket=none),
        lambda: s3.get_bucket_location(Bucket=none),
    ):
        with refused("NoSuchBucket"):
            attempt()
    with refused("404"):
        s3.head_bucket(Bucket=none)


def test_a_bucket_with_something_in_it_stays(s3, s3_elsewhere, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    with refused("BucketNotEmpty"):
        s3_elsewhere.delete_bucket(Bucket=bucket)
    assert not absent(s3, bucket, "k")


def test_a_deleted_bucket_is_gone_everywhere_and_may_be_made_again(s3, s3_elsewhere):
    name = new_bucket(s3)
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    s3.delete_object(Bucket=name, Key="k")
    s3.delete_bucket(Bucket=name)
    with refused("NoSuchBucket"):
        s3_elsewhere.put_object(Bucket=name, Key="k", Body=b"x")
    s3_elsewhere.create_bucket(Bucket=name)
    assert "Contents" not in s3.list_objects_v2(Bucket=name)
    s3.delete_bucket(Bucket=name)


def test_making_ones_own_bucket_again_changes_nothing(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    # us-east-1 says yes, every other region no.
    try:
        s3.create_bucket(Bucket=bucket)
    except botocore.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == "BucketAlreadyOwnedByYou"
    assert not absent(s3, bucket, "k")


@pytest.fixture(scope="module")
def unchecked(cluster):
    """A client that lets us be wrong: boto3 would refuse such names itself."""
    client = cluster.client()
    client.meta.events.unregister("before-parameter-build.s3", botocore.handlers.validate_bucket_name)
    return client


@pytest.mark.parametrize(
    "name",
    [
        "ab",
        "a" * 64,
        "Upper",
        "under_score",
        "-dash",
        "dash-",
        "dot..dot",
        "192.168.0.1",
        "sp ace",
        "xn--puny",
        "name-s3alias",
        "upload",
    ],
)
def test_bucket_names_outside_the_rules(unchecked, name):
    with refused("InvalidBucketName", "BucketAlreadyExists") as caught:
        unchecked.create_bucket(Bucket=name)
    code = caught.value.response["Error"]["Code"]
    # The reserved name keeps the rules, so it may be said to be taken.
    assert code == "InvalidBucketName" or name == "upload"


def test_a_key_that_is_too_long(s3, bucket):
    with refused("KeyTooLongError"):
        s3.put_object(Bucket=bucket, Key="k" * 1025, Body=b"x")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_arguments_outside_their_bounds(s3, bucket):
    with refused("InvalidArgument"):
        s3.list_objects_v2(Bucket=bucket, MaxKeys=-1)
    with refused("InvalidArgument"):
        s3.list_objects_v2(Bucket=bucket, ContinuationToken="not one of ours")
    with refused("MalformedXML"):
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": f"k{i}"} for i in range(1001)]})


def test_what_is_not_built_says_so(s3, bucket):
    """Never a silent success: a person who asked for it would rely on it."""
    with refused("NotImplemented"):
        s3.put_bucket_analytics_configuration(
            Bucket=bucket, Id="x", AnalyticsConfiguration={"Id": "x", "StorageClassAnalysis": {}}
        )
