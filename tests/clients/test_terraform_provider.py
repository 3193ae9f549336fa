"""What Terraform's AWS provider (6.x) asks for its resources of S3, in its order: made, read twice without a difference, changed,
and taken away. The provider itself is not needed. Those of IAM are in test_iam.py."""

import base64
import hashlib
import json
import uuid

import boto3
import botocore.config
import pytest

from helpers import refused

ARN = "arn:aws:sqs:us-east-1:123456789012:tests"


def client_of(cluster, service, gateway=0):
    return boto3.client(
        service,
        endpoint_url=cluster.endpoints[gateway],
        region_name=cluster.region,
        aws_access_key_id=cluster.main.access_key,
        aws_secret_access_key=cluster.main.secret_key,
        config=botocore.config.Config(signature_version="s3v4" if service.startswith("s3") else "v4"),
    )


class Tags:
    """A bucket's tags by S3 Control. Clients put the account in front of the endpoint's host, which only a name can have."""

    def __init__(self, cluster, bucket, gateway=0):
        self.client = client_of(cluster, "s3control", gateway)
        account = client_of(cluster, "sts", gateway).get_caller_identity()["Account"]
        self.of = {"AccountId": account, "ResourceArn": f"arn:aws:s3:::{bucket}"}
        endpoint = cluster.endpoints[gateway].split("://")[1]
        self.client.meta.events.register(
            "before-sign.s3-control.*",
            lambda request, **_: setattr(request, "url", request.url.replace(f"{account}.{endpoint}", endpoint)),
        )

    def listed(self):
        return {tag["Key"]: tag["Value"] for tag in self.client.list_tags_for_resource(**self.of)["Tags"]}

    def set(self, **tags):
        self.client.tag_resource(**self.of, Tags=[{"Key": key, "Value": value} for key, value in tags.items()])

    def remove(self, *keys):
        self.client.untag_resource(**self.of, TagKeys=list(keys))


@pytest.fixture
def name(s3):
    """A bucket's that is not there yet, and is taken away with all that is in it."""
    name = f"clients-{uuid.uuid4().hex[:16]}"
    yield name
    try:
        destroy(s3, name)
    except s3.exceptions.NoSuchBucket:
        pass


def destroy(s3, name):
    """As `force_destroy` does it."""
    destroy_objects(s3, name)
    s3.delete_bucket(Bucket=name)


def destroy_objects(s3, name):
    """All versions and markers, by pages."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name, MaxKeys=1000):
        found = page.get("Versions", []) + page.get("DeleteMarkers", [])
        listed = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]
        if listed:
            answer = s3.delete_objects(Bucket=name, Delete={"Objects": listed, "Quiet": True})
            assert "Errors" not in answer


# What `aws_s3_bucket` reads of a bucket of which nothing is configured: the errors are those that it takes for nothing.
ABSENT = {
    "get_bucket_policy": "NoSuchBucketPolicy",
    "get_bucket_cors": "NoSuchCORSConfiguration",
    "get_bucket_website": "NoSuchWebsiteConfiguration",
    "get_bucket_lifecycle_configuration": "NoSuchLifecycleConfiguration",
    "get_bucket_encryption": "ServerSideEncryptionConfigurationNotFoundError",
    "get_object_lock_configuration": "ObjectLockConfigurationNotFoundError",
    "get_bucket_replication": "ReplicationConfigurationNotFoundError",
    "get_public_access_block": "NoSuchPublicAccessBlockConfiguration",
    "get_bucket_ownership_controls": "OwnershipControlsNotFoundError",
}


def test_a_bucket_is_made_read_and_destroyed(cluster, s3, s3_elsewhere, name):
    tags = {"managed-by": "terraform", "Name": "a bucket: with/signs"}
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"Tags": listed})
    for client in (s3, s3_elsewhere):
        assert client.head_bucket(Bucket=name)["BucketRegion"] == cluster.region
        for operation, code in ABSENT.items():
            with refused(code):
                getattr(client, operation)(Bucket=name)
        owner = client.get_bucket_acl(Bucket=name)
        assert [grant["Permission"] for grant in owner["Grants"]] == ["FULL_CONTROL"]
        assert owner["Grants"][0]["Grantee"]["ID"] == owner["Owner"]["ID"]
        assert "Status" not in client.get_bucket_versioning(Bucket=name)
        assert client.get_bucket_request_payment(Bucket=name)["Payer"] == "BucketOwner"
        assert "LoggingEnabled" not in client.get_bucket_logging(Bucket=name)
        assert "Status" not in client.get_bucket_accelerate_configuration(Bucket=name)
    assert Tags(cluster, name, -1).listed() == tags
    # A change of tags is by S3 Control too, and what is not the provider's stays.
    control = Tags(cluster, name)
    s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": listed + [{"Key": "other", "Value": "others"}]})
    control.remove("Name")
    control.set(**{"managed-by": "tofu", "stage": ""})
    assert control.listed() == {"managed-by": "tofu", "stage": "", "other": "others"}
    s3.put_object(Bucket=name, Key="left//behind", Body=b"x")
    with refused("BucketNotEmpty"):
        s3.delete_bucket(Bucket=name)
    destroy(s3, name)
    with refused("404"):
        s3_elsewhere.head_bucket(Bucket=name)
    with refused("NoSuchBucket"):
        control.listed()
    with refused("NoSuchBucket"):
        s3.delete_bucket(Bucket=name)


def test_a_bucket_with_locks_is_made(s3, name):
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 5}}
    assert s3.get_object_lock_configuration(Bucket=name)["ObjectLockConfiguration"] == {"ObjectLockEnabled": "Enabled"}
    for configuration in ({"ObjectLockEnabled": "Enabled", "Rule": rule}, {"ObjectLockEnabled": "Enabled"}):
        s3.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration=configuration)
        assert s3.get_object_lock_configuration(Bucket=name)["ObjectLockConfiguration"] == configuration


def test_versioning(s3, s3_elsewhere, bucket):
    for status in ("Enabled", "Suspended"):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
        assert s3_elsewhere.get_bucket_versioning(Bucket=bucket)["Status"] == status


RULES = [
    {
        "ID": "days",
        "Status": "Enabled",
        "Filter": {"Prefix": "logs/"},
        "Expiration": {"Days": 90},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    },
    {
        "ID": "and",
        "Status": "Disabled",
        "Filter": {
            "And": {
                "Prefix": "tmp/",
                "Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}],
                "ObjectSizeGreaterThan": 100,
                "ObjectSizeLessThan": 1000,
            }
        },
        "NoncurrentVersionExpiration": {"NoncurrentDays": 3, "NewerNoncurrentVersions": 2},
    },
    {"ID": "markers", "Status": "Enabled", "Filter": {}, "Expiration": {"ExpiredObjectDeleteMarker": True}},
    {"ID": "tag", "Status": "Enabled", "Filter": {"Tag": {"Key": "a", "Value": "1"}}, "Expiration": {"Days": 1}},
]


# What the provider sends where the resource says nothing of it.
SIZE = "all_storage_classes_128K"


def test_a_lifecycle_configuration_is_as_it_was_put(s3, s3_elsewhere, bucket):
    """The provider waits until rules and size are those that it sent."""
    for rules in (RULES, RULES[:1]):
        s3.put_bucket_lifecycle_configuration(
            Bucket=bucket, LifecycleConfiguration={"Rules": rules}, TransitionDefaultMinimumObjectSize=SIZE
        )
        for client in (s3, s3_elsewhere):
            found = client.get_bucket_lifecycle_configuration(Bucket=bucket)
            assert (found["Rules"], found["TransitionDefaultMinimumObjectSize"]) == (rules, SIZE)
    # Taken away again it is nothing.
    for _ in range(2):
        s3.delete_bucket_lifecycle(Bucket=bucket)
    with refused("NoSuchLifecycleConfiguration"):
        s3_elsewhere.get_bucket_lifecycle_configuration(Bucket=bucket)


def test_a_policy_means_what_was_put(s3, s3_elsewhere, bucket):
    statement = {
        "Sid": "read",
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": ["s3:GetObject", "s3:ListBucket"],
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        "Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}},
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    assert json.loads(s3_elsewhere.get_bucket_policy(Bucket=bucket)["Policy"]) == policy
    for _ in range(2):
        s3.delete_bucket_policy(Bucket=bucket)
    with refused("NoSuchBucketPolicy"):
        s3_elsewhere.get_bucket_policy(Bucket=bucket)


def test_what_else_is_configured_of_a_bucket_is_read_as_it_was_put(s3, s3_elsewhere, bucket):
    """A resource each: put, read, put otherwise, read, deleted, and read as what is not there."""
    block = ["BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"]
    cors = {
        "ID": "one",
        "AllowedHeaders": ["*"],
        "AllowedMethods": ["PUT", "POST"],
        "AllowedOrigins": ["https://a.example.org"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 3000,
    }
    website = {
        "IndexDocument": {"Suffix": "index.html"},
        "ErrorDocument": {"Key": "error.html"},
        "RoutingRules": [
            {"Condition": {"KeyPrefixEquals": "docs/"}, "Redirect": {"ReplaceKeyPrefixWith": "documents/"}}
        ],
    }

    def encryption(algorithm):
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": algorithm}, "BucketKeyEnabled": False}
        return {"Rules": [rule]}

    for resource, argument, values, absent in [
        (
            "public_access_block",
            "PublicAccessBlockConfiguration",
            [dict.fromkeys(block, True), {**dict.fromkeys(block, False), "BlockPublicPolicy": True}],
            "NoSuchPublicAccessBlockConfiguration",
        ),
        (
            "bucket_ownership_controls",
            "OwnershipControls",
            [{"Rules": [{"ObjectOwnership": kind}]} for kind in ("BucketOwnerPreferred", "BucketOwnerEnforced")],
            "OwnershipControlsNotFoundError",
        ),
        (
            "bucket_cors",
            "CORSConfiguration",
            [{"CORSRules": [cors]}, {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}, cors]}],
            "NoSuchCORSConfiguration",
        ),
        (
            "bucket_website",
            "WebsiteConfiguration",
            [website, {"RedirectAllRequestsTo": {"HostName": "example.org", "Protocol": "https"}}],
            "NoSuchWebsiteConfiguration",
        ),
        (
            "bucket_encryption",
            "ServerSideEncryptionConfiguration",
            [encryption("AES256")],
            "ServerSideEncryptionConfigurationNotFoundError",
        ),
    ]:
        for value in values:
            getattr(s3, f"put_{resource}")(Bucket=bucket, **{argument: value})
            found = getattr(s3_elsewhere, f"get_{resource}")(Bucket=bucket)
            found.pop("ResponseMetadata")
            # Cross-origin rules and websites are answered without a name around them.
            assert found.get(argument, found) == value, resource
        for _ in range(2):
            getattr(s3, f"delete_{resource}")(Bucket=bucket)
        with refused(absent):
            getattr(s3_elsewhere, f"get_{resource}")(Bucket=bucket)


def test_a_list_a_log_and_who_pays(s3, s3_elsewhere, bucket):
    """What is never deleted, but put back."""
    s3.put_bucket_ownership_controls(
        Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]}
    )
    owner = s3.get_bucket_acl(Bucket=bucket)["Owner"]
    own = {"Grantee": {**owner, "Type": "CanonicalUser"}, "Permission": "FULL_CONTROL"}

    def granted():
        """A set to the provider."""
        return sorted(s3_elsewhere.get_bucket_acl(Bucket=bucket)["Grants"], key=lambda grant: grant["Permission"])

    everybody = {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/global/AllUsers"}
    read = {"Grantee": everybody, "Permission": "READ"}
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read")
    assert granted() == [own, read]
    s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy={"Owner": owner, "Grants": [own]})
    assert granted() == [own]

    group = {"Grantee": {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/s3/LogDelivery"}}
    grants = [own, {**group, "Permission": "READ_ACP"}, {**group, "Permission": "WRITE"}]
    s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy={"Owner": owner, "Grants": grants})
    assert granted() == grants
    logging = {
        "TargetBucket": bucket,
        "TargetPrefix": "log/",
        "TargetObjectKeyFormat": {"PartitionedPrefix": {"PartitionDateSource": "EventTime"}},
    }
    s3.put_bucket_logging(Bucket=bucket, BucketLoggingStatus={"LoggingEnabled": logging})
    assert s3_elsewhere.get_bucket_logging(Bucket=bucket)["LoggingEnabled"] == logging
    s3.put_bucket_logging(Bucket=bucket, BucketLoggingStatus={})
    assert "LoggingEnabled" not in s3_elsewhere.get_bucket_logging(Bucket=bucket)

    for payer in ("Requester", "BucketOwner"):
        s3.put_bucket_request_payment(Bucket=bucket, RequestPaymentConfiguration={"Payer": payer})
        assert s3_elsewhere.get_bucket_request_payment(Bucket=bucket)["Payer"] == payer


def test_a_notification_is_as_it_was_put(cluster, s3, s3_elsewhere, bucket):
    rules = [{"Name": "Prefix", "Value": "in/"}, {"Name": "Suffix", "Value": ".log"}]
    queue = {
        "Id": "tf-s3-queue-20260101",
        "QueueArn": ARN,
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": rules}},
    }
    topic = {"Id": "tf-s3-topic-20260101", "TopicArn": ARN.replace("sqs", "sns"), "Events": ["s3:ObjectRemoved:Delete"]}
    wanted = {"QueueConfigurations": [queue], "TopicConfigurations": [topic]}
    try:
        # Where nobody listens at the webhook it is not asked.
        s3.put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration=wanted, SkipDestinationValidation=True
        )
    except s3.exceptions.ClientError as error:
        pytest.skip(f"the cluster has no webhook of ours: {error}")
    found = s3_elsewhere.get_bucket_notification_configuration(Bucket=bucket)
    assert {kind: found[kind] for kind in wanted} == wanted
    assert "LambdaFunctionConfigurations" not in found and "EventBridgeConfiguration" not in found
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    assert set(s3_elsewhere.get_bucket_notification_configuration(Bucket=bucket)) == {"ResponseMetadata"}


def test_objects(s3, s3_elsewhere, bucket):
    """`aws_s3_object`, in a bucket with versions: a change of the content is another version, one of the tags is none."""
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    asked = {
        "ContentType": "text/plain",
        "CacheControl": "max-age=60",
        "ContentDisposition": "inline",
        "ContentEncoding": "identity",
        "ContentLanguage": "en",
        "Metadata": {"from": "terraform"},
        "StorageClass": "STANDARD",
        "ServerSideEncryption": "AES256",
    }
    versions = []
    for body in (b"one", b"two"):
        md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
        made = s3.put_object(
            Bucket=bucket, Key="a/key", Body=body, ContentMD5=md5, ChecksumAlgorithm="SHA256", Tagging="a=1&b=2", **asked
        )
        head = s3_elsewhere.head_object(Bucket=bucket, Key="a/key", ChecksumMode="ENABLED")
        assert head["ETag"] == made["ETag"] and head["VersionId"] == made["VersionId"]
        assert head["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(body).digest()).decode()
        # The class of what is stored as usual is not said.
        assert {name: head[name] for name in asked if name != "StorageClass"} == {
            name: value for name, value in asked.items() if name != "StorageClass"
        }
        versions.append(made["VersionId"])
        tags = s3_elsewhere.get_object_tagging(Bucket=bucket, Key="a/key")["TagSet"]
        assert tags == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]
    s3.put_object_tagging(Bucket=bucket, Key="a/key", Tagging={"TagSet": [{"Key": "a", "Value": "3"}]})
    assert s3_elsewhere.get_object_tagging(Bucket=bucket, Key="a/key")["TagSet"] == [{"Key": "a", "Value": "3"}]
    s3.delete_object_tagging(Bucket=bucket, Key="a/key")
    assert s3_elsewhere.get_object_tagging(Bucket=bucket, Key="a/key")["TagSet"] == []
    # Taken away are the versions of this key alone.
    s3.put_object(Bucket=bucket, Key="a/key/below", Body=b"x")
    listed = s3.list_object_versions(Bucket=bucket, Prefix="a/key", MaxKeys=1000)["Versions"]
    assert [one["VersionId"] for one in listed if one["Key"] == "a/key"] == versions[::-1]
    for version in versions:
        s3.head_object(Bucket=bucket, Key="a/key", VersionId=version)
        s3.delete_object(Bucket=bucket, Key="a/key", VersionId=version)
    with refused("404"):
        s3_elsewhere.head_object(Bucket=bucket, Key="a/key")
    destroy_objects(s3, bucket)
