"""Two accounts: what is one's is nobody else's, and a wrong key is nobody."""

import botocore
import pytest

from conftest import Account
from helpers import read, refused


def test_who_they_are(s3, stranger):
    main, other = s3.list_buckets()["Owner"], stranger.list_buckets()["Owner"]
    assert main["ID"] and other["ID"] and main["ID"] != other["ID"]


def test_buckets_are_listed_to_their_owner_alone(s3, stranger, bucket):
    assert bucket in [b["Name"] for b in s3.list_buckets()["Buckets"]]
    assert bucket not in [b["Name"] for b in stranger.list_buckets()["Buckets"]]


def test_a_stranger_can_do_nothing(s3, stranger, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"mine")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    here = {"Bucket": bucket, "Key": "k"}
    attempts = [
        lambda: stranger.get_object(**here),
        lambda: stranger.put_object(**here, Body=b"yours"),
        lambda: stranger.delete_object(**here),
        lambda: stranger.get_object_attributes(**here, ObjectAttributes=["ETag"]),
        lambda: stranger.copy_object(Bucket=bucket, Key="k2", CopySource=here),
        lambda: stranger.list_objects_v2(Bucket=bucket),
        lambda: stranger.list_objects(Bucket=bucket),
        lambda: stranger.list_object_versions(Bucket=bucket),
        lambda: stranger.list_multipart_uploads(Bucket=bucket),
        lambda: stranger.list_parts(Bucket=bucket, Key="m", UploadId=upload),
        lambda: stranger.upload_part(Bucket=bucket, Key="m", UploadId=upload, PartNumber=1, Body=b"x"),
        lambda: stranger.abort_multipart_upload(Bucket=bucket, Key="m", UploadId=upload),
        lambda: stranger.create_multipart_upload(**here),
        lambda: stranger.get_bucket_location(Bucket=bucket),
        lambda: stranger.delete_bucket(Bucket=bucket),
    ]
    for attempt in attempts:
        with refused("AccessDenied"):
            attempt()
    for attempt in (lambda: stranger.head_object(**here), lambda: stranger.head_bucket(Bucket=bucket)):
        with refused("403"):
            attempt()
    answer = stranger_deletes(stranger, bucket)
    assert answer == "AccessDenied"
    assert read(s3, bucket, "k") == b"mine"


def stranger_deletes(stranger, bucket):
    """DeleteObjects may refuse as a whole or key by key."""
    try:
        answer = stranger.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}]})
    except stranger.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
    return answer["Errors"][0]["Code"]


def test_nothing_is_copied_out_of_a_strangers_bucket(s3, stranger, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"mine")
    theirs = f"{bucket}-theirs"
    stranger.create_bucket(Bucket=theirs)
    try:
        with refused("AccessDenied"):
            stranger.copy_object(Bucket=theirs, Key="k", CopySource={"Bucket": bucket, "Key": "k"})
        assert "Contents" not in stranger.list_objects_v2(Bucket=theirs)
    finally:
        stranger.delete_bucket(Bucket=theirs)


def test_a_bucket_name_belongs_to_one(stranger, bucket):
    with refused("BucketAlreadyExists"):
        stranger.create_bucket(Bucket=bucket)


@pytest.mark.parametrize(
    "change, code",
    [
        (
            lambda a: Account(a.access_key, a.secret_key[:-1] + ("0" if a.secret_key[-1] != "0" else "1")),
            "SignatureDoesNotMatch",
        ),
        (lambda a: Account("AKIANOSUCHKEY0000000", a.secret_key), "InvalidAccessKeyId"),
    ],
)
def test_wrong_keys(cluster, bucket, change, code):
    nobody = cluster.client(account=change(cluster.main))
    for attempt in (lambda: nobody.list_buckets(), lambda: nobody.put_object(Bucket=bucket, Key="k", Body=b"x")):
        with refused(code) as caught:
            attempt()
        assert cluster.main.secret_key not in str(caught.value.response)


def test_nobody_at_all(cluster, bucket):
    nobody = cluster.client(signature_version=botocore.UNSIGNED)
    with refused("AccessDenied"):
        nobody.list_objects_v2(Bucket=bucket)
    with refused("AccessDenied"):
        nobody.put_object(Bucket=bucket, Key="k", Body=b"x")
