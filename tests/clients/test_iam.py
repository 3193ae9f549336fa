"""Users, groups, policies, roles and sessions, as `aws iam` and boto3 make and use them."""

import json
import pathlib
import sys
import types
import uuid

import boto3
import botocore.config
import pytest

from helpers import read, refused, run

AWS = pathlib.Path(sys.executable).with_name("aws")

READ = {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"}
TRUST = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@pytest.fixture
def aws(cluster, tmp_path):
    def command(*arguments, gateway=0, check=True, account=None):
        account = account or cluster.main
        env = {
            "AWS_ACCESS_KEY_ID": account.access_key,
            "AWS_SECRET_ACCESS_KEY": account.secret_key,
            "AWS_DEFAULT_REGION": cluster.region,
            "AWS_DEFAULT_OUTPUT": "json",
            "AWS_PAGER": "",
            "AWS_CONFIG_FILE": str(tmp_path / "none"),
        }
        answer = run(AWS, "--endpoint-url", cluster.endpoints[gateway], *arguments, env=env, check=check).decode()
        return json.loads(answer) if check and answer.strip() else answer

    return command


@pytest.fixture
def name():
    return f"clients-{uuid.uuid4().hex[:12]}"


def keys_of(account):
    return {"AccessKeyId": account.access_key, "SecretAccessKey": account.secret_key}


def session(cluster, keys, service="s3", gateway=0):
    return boto3.client(
        service,
        endpoint_url=cluster.endpoints[gateway],
        region_name=cluster.region,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys.get("SessionToken"),
        config=botocore.config.Config(signature_version="s3v4" if service == "s3" else "v4"),
    )


def a_user(aws, account, name, statement):
    """A user of an account who may do this, as an account of its own is given."""
    aws("iam", "create-user", "--user-name", name, account=account)
    aws("iam", "put-user-policy", "--user-name", name, "--policy-name", "own", "--policy-document", document(statement),
        account=account)
    keys = aws("iam", "create-access-key", "--user-name", name, account=account)["AccessKey"]
    return types.SimpleNamespace(access_key=keys["AccessKeyId"], secret_key=keys["SecretAccessKey"])


def test_a_user_a_key_and_a_policy(aws, cluster, name, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    user = aws("iam", "create-user", "--user-name", name, "--path", "/clients/", "--tags", "Key=team,Value=storage")["User"]
    assert user["Arn"].endswith(f":user/clients/{name}")
    keys = aws("iam", "create-access-key", "--user-name", name)["AccessKey"]
    client = session(cluster, keys, gateway=-1)
    with refused("AccessDenied"):
        client.get_object(Bucket=bucket, Key="k")
    policy = aws("iam", "create-policy", "--policy-name", name, "--policy-document", document(READ))["Policy"]
    aws("iam", "attach-user-policy", "--user-name", name, "--policy-arn", policy["Arn"])
    assert read(client, bucket, "k") == b"x"
    with refused("AccessDenied"):
        client.put_object(Bucket=bucket, Key="k", Body=b"y")
    aws("iam", "put-user-policy", "--user-name", name, "--policy-name", "own", "--policy-document",
        document({"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/*"}))
    client.put_object(Bucket=bucket, Key="k", Body=b"y")
    own = aws("iam", "get-user-policy", "--user-name", name, "--policy-name", "own")["PolicyDocument"]
    assert own["Statement"][0]["Action"] == "s3:PutObject"
    attached = aws("iam", "list-attached-user-policies", "--user-name", name)["AttachedPolicies"]
    assert attached == [{"PolicyName": name, "PolicyArn": policy["Arn"]}]
    assert aws("iam", "get-user", "--user-name", name)["User"]["Tags"] == [{"Key": "team", "Value": "storage"}]
    with refused("DeleteConflict"):
        session(cluster, keys_of(cluster.main), "iam").delete_user(UserName=name)
    aws("iam", "delete-access-key", "--user-name", name, "--access-key-id", keys["AccessKeyId"])
    with refused("InvalidAccessKeyId"):
        client.list_buckets()
    aws("iam", "delete-user-policy", "--user-name", name, "--policy-name", "own")
    aws("iam", "detach-user-policy", "--user-name", name, "--policy-arn", policy["Arn"])
    aws("iam", "delete-policy", "--policy-arn", policy["Arn"])
    aws("iam", "delete-user", "--user-name", name)
    assert name not in json.dumps(aws("iam", "list-users"))


def test_a_group_gives_its_users_rights(aws, cluster, name):
    aws("iam", "create-group", "--group-name", name)
    aws("iam", "create-user", "--user-name", name)
    aws("iam", "add-user-to-group", "--group-name", name, "--user-name", name)
    client = session(cluster, aws("iam", "create-access-key", "--user-name", name)["AccessKey"])
    with refused("AccessDenied"):
        client.list_buckets()
    aws("iam", "put-group-policy", "--group-name", name, "--policy-name", "p", "--policy-document", document(READ))
    client.list_buckets()
    assert [user["UserName"] for user in aws("iam", "get-group", "--group-name", name)["Users"]] == [name]
    assert aws("iam", "list-groups-for-user", "--user-name", name)["Groups"][0]["GroupName"] == name


def test_a_role_is_assumed(aws, cluster, name, bucket):
    role = aws("iam", "create-role", "--role-name", name, "--assume-role-policy-document", document(TRUST))["Role"]
    assert role["AssumeRolePolicyDocument"]["Statement"] == [TRUST]
    aws("iam", "attach-role-policy", "--role-name", name, "--policy-arn", "arn:aws:iam::aws:policy/AmazonS3FullAccess")
    asked = ["sts", "assume-role", "--role-arn", role["Arn"], "--role-session-name", "night", "--policy", document(READ)]
    # Not by an account's own key, as on AWS.
    with refused("AccessDenied"):
        session(cluster, keys_of(cluster.other), "sts").assume_role(RoleArn=role["Arn"], RoleSessionName="night")
    user = a_user(aws, cluster.other, name, {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role["Arn"]})
    assumed = aws(*asked, account=user)
    client = session(cluster, assumed["Credentials"], gateway=-1)
    client.list_objects_v2(Bucket=bucket)
    with refused("AccessDenied"):
        client.put_object(Bucket=bucket, Key="k", Body=b"x")
    identity = session(cluster, assumed["Credentials"], "sts").get_caller_identity()
    assert identity["Arn"] == assumed["AssumedRoleUser"]["Arn"]
    presigned = client.generate_presigned_url("list_objects_v2", Params={"Bucket": bucket})
    assert b"ListBucketResult" in run("curl", "-fsS", presigned)


def test_a_session_of_ones_own(aws, cluster, bucket):
    keys = aws("sts", "get-session-token")["Credentials"]
    session(cluster, keys).put_object(Bucket=bucket, Key="k", Body=b"x")
    assert read(session(cluster, keys, gateway=-1), bucket, "k") == b"x"
    with refused("AccessDenied"):
        session(cluster, keys, "iam").list_users()
    with refused("InvalidToken"):
        session(cluster, {**keys, "SessionToken": "x" + keys["SessionToken"][1:]}).list_buckets()


def test_what_terraforms_aws_provider_asks(cluster, name):
    """Its calls for `aws_iam_user` (with `force_destroy`), `aws_iam_access_key`, `aws_iam_user_policy`, `aws_iam_policy` and
    `aws_iam_user_policy_attachment`, in its order: made, read twice without a difference, changed, and taken away."""
    iam = session(cluster, keys_of(cluster.main), "iam")
    again = session(cluster, keys_of(cluster.main), "iam", gateway=-1)
    assert session(cluster, keys_of(cluster.main), "sts").get_caller_identity()["Account"].isdigit()
    tags = [{"Key": "managed-by", "Value": "terraform"}]
    own, managed = document(READ), document({"Effect": "Allow", "Action": "s3:PutObject", "Resource": "*"})

    user = iam.create_user(Path="/system/", UserName=name, Tags=tags)["User"]
    assert (user["Path"], user["UserName"], user["Tags"]) == ("/system/", name, tags)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    assert key["Status"] == "Active" and key["SecretAccessKey"]
    iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=own)
    policy = iam.create_policy(PolicyName=name, Path="/", PolicyDocument=managed, Description="d", Tags=tags)["Policy"]
    arn = policy["Arn"]
    iam.attach_user_policy(UserName=name, PolicyArn=arn)

    def refreshed(client, document, version):
        """What a plan reads; the provider compares documents by what they mean, and all else as it is."""
        read = client.get_user(UserName=name)["User"]
        assert {field: read[field] for field in user} == user
        assert client.list_user_tags(UserName=name)["Tags"] == tags
        listed = client.list_access_keys(UserName=name)["AccessKeyMetadata"]
        assert [(one["AccessKeyId"], one["Status"]) for one in listed] == [(key["AccessKeyId"], "Active")]
        # As AWS answers for a key that was never used: without a date.
        used = client.get_access_key_last_used(AccessKeyId=key["AccessKeyId"])
        assert (used["UserName"], used["AccessKeyLastUsed"]) == (name, {"ServiceName": "N/A", "Region": "N/A"})
        inline = client.get_user_policy(UserName=name, PolicyName="own")
        assert (inline["UserName"], inline["PolicyDocument"]) == (name, json.loads(own))
        found = client.get_policy(PolicyArn=arn)["Policy"]
        assert (found["PolicyName"], found["Description"], found["Path"]) == (name, "d", "/")
        assert (found["Tags"], found["DefaultVersionId"], found["AttachmentCount"]) == (tags, version, 1)
        current = client.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]
        assert (current["Document"], current["IsDefaultVersion"]) == (json.loads(document), True)
        attached = client.get_paginator("list_attached_user_policies").paginate(UserName=name)
        assert list(attached.search("AttachedPolicies[].PolicyArn")) == [arn]
        entities = client.list_entities_for_policy(PolicyArn=arn)
        assert [one["UserName"] for one in entities["PolicyUsers"]] == [name]
        assert entities["PolicyGroups"] == entities["PolicyRoles"] == []

    for client in (iam, again):
        refreshed(client, managed, "v1")
    # Another document is another version, and the oldest goes when there are five.
    for number in range(2, 8):
        versions = iam.list_policy_versions(PolicyArn=arn)["Versions"]
        if len(versions) == 5:
            oldest = min((one for one in versions if not one["IsDefaultVersion"]), key=lambda one: int(one["VersionId"][1:]))
            iam.delete_policy_version(PolicyArn=arn, VersionId=oldest["VersionId"])
        changed = document({"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::b{number}/*"})
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=changed, SetAsDefault=True)
        refreshed(again, changed, f"v{number}")

    iam.detach_user_policy(UserName=name, PolicyArn=arn)
    for version in iam.list_policy_versions(PolicyArn=arn)["Versions"]:
        if not version["IsDefaultVersion"]:
            iam.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])
    iam.delete_policy(PolicyArn=arn)
    iam.delete_user_policy(UserName=name, PolicyName="own")
    # What a user could have elsewhere is looked for before it goes: there is never any here.
    assert iam.list_groups_for_user(UserName=name)["Groups"] == []
    for listed in iam.list_access_keys(UserName=name)["AccessKeyMetadata"]:
        iam.delete_access_key(UserName=name, AccessKeyId=listed["AccessKeyId"])
    assert iam.list_ssh_public_keys(UserName=name)["SSHPublicKeys"] == []
    assert iam.list_virtual_mfa_devices(AssignmentStatus="Assigned")["VirtualMFADevices"] == []
    assert iam.list_mfa_devices(UserName=name)["MFADevices"] == []
    with refused("NoSuchEntity"):
        iam.get_login_profile(UserName=name)
    with refused("NoSuchEntity"):
        iam.delete_login_profile(UserName=name)
    assert iam.list_signing_certificates(UserName=name)["Certificates"] == []
    assert iam.list_service_specific_credentials(UserName=name)["ServiceSpecificCredentials"] == []
    iam.delete_user(UserName=name)
    # And what is gone is said to be gone, which takes it out of a state.
    for gone in (
        lambda: again.get_user(UserName=name),
        lambda: again.list_access_keys(UserName=name),
        lambda: again.get_user_policy(UserName=name, PolicyName="own"),
        lambda: again.list_attached_user_policies(UserName=name),
        lambda: again.get_policy(PolicyArn=arn),
        lambda: again.get_policy_version(PolicyArn=arn, VersionId="v1"),
        lambda: again.list_entities_for_policy(PolicyArn=arn),
        lambda: again.get_access_key_last_used(AccessKeyId=key["AccessKeyId"]),
    ):
        with refused("NoSuchEntity"):
            gone()


def test_what_terraforms_aws_provider_asks_of_roles_and_groups(cluster, name):
    """The same for `aws_iam_role` (with `force_detach_policies`), `aws_iam_role_policy`, `aws_iam_role_policy_attachment`,
    `aws_iam_group`, `aws_iam_group_policy` and `aws_iam_user_group_membership`."""
    iam = session(cluster, keys_of(cluster.main), "iam")
    again = session(cluster, keys_of(cluster.main), "iam", gateway=-1)
    managed = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
    role = iam.create_role(
        RoleName=name, Path="/service/", AssumeRolePolicyDocument=document(TRUST), Description="d",
        MaxSessionDuration=7200, Tags=[{"Key": "a", "Value": "1"}],
    )["Role"]
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=document(READ))
    iam.attach_role_policy(RoleName=name, PolicyArn=managed)

    def refreshed(client, trust, **wanted):
        read = client.get_role(RoleName=name)["Role"]
        assert {field: read[field] for field in ("Arn", "CreateDate", "Path", "RoleId", "RoleName")} == {
            field: role[field] for field in ("Arn", "CreateDate", "Path", "RoleId", "RoleName")
        }
        assert read["AssumeRolePolicyDocument"] == json.loads(trust)
        assert {field: read[field] for field in wanted} == wanted
        assert list(client.get_paginator("list_role_policies").paginate(RoleName=name).search("PolicyNames[]")) == ["own"]
        inline = client.get_role_policy(RoleName=name, PolicyName="own")
        assert (inline["RoleName"], inline["PolicyDocument"]) == (name, json.loads(document(READ)))
        attached = client.get_paginator("list_attached_role_policies").paginate(RoleName=name)
        assert list(attached.search("AttachedPolicies[].PolicyArn")) == [managed]

    for client in (iam, again):
        refreshed(client, document(TRUST), Description="d", MaxSessionDuration=7200, Tags=[{"Key": "a", "Value": "1"}])
    trust = document({**TRUST, "Principal": {"AWS": role["Arn"].replace(":role/service/" + name, ":root")}})
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=trust)
    iam.update_role_description(RoleName=name, Description="other")
    iam.update_role(RoleName=name, MaxSessionDuration=3600, Description="other")
    iam.untag_role(RoleName=name, TagKeys=["a"])
    iam.tag_role(RoleName=name, Tags=[{"Key": "b", "Value": "2"}])
    refreshed(again, trust, Description="other", MaxSessionDuration=3600, Tags=[{"Key": "b", "Value": "2"}])
    with refused("DeleteConflict"):
        iam.delete_role(RoleName=name)
    assert iam.list_instance_profiles_for_role(RoleName=name)["InstanceProfiles"] == []
    iam.detach_role_policy(RoleName=name, PolicyArn=managed)
    iam.delete_role_policy(RoleName=name, PolicyName="own")
    iam.delete_role(RoleName=name)

    iam.create_group(GroupName=name, Path="/teams/")
    iam.create_user(UserName=name)
    iam.add_user_to_group(GroupName=name, UserName=name)
    iam.put_group_policy(GroupName=name, PolicyName="own", PolicyDocument=document(READ))
    for client in (iam, again):
        members = list(client.get_paginator("get_group").paginate(GroupName=name).search("Users[].UserName"))
        assert members == [name]
        groups = client.get_paginator("list_groups_for_user").paginate(UserName=name)
        assert list(groups.search("Groups[].GroupName")) == [name]
        assert client.get_group_policy(GroupName=name, PolicyName="own")["PolicyDocument"] == json.loads(document(READ))
    iam.update_group(GroupName=name, NewPath="/other/", NewGroupName=f"{name}-other")
    assert again.get_group(GroupName=f"{name}-other")["Group"]["Path"] == "/other/"
    iam.remove_user_from_group(GroupName=f"{name}-other", UserName=name)
    iam.delete_group_policy(GroupName=f"{name}-other", PolicyName="own")
    iam.delete_group(GroupName=f"{name}-other")
    iam.delete_user(UserName=name)
    for gone in (
        lambda: again.get_role(RoleName=name),
        lambda: again.list_role_policies(RoleName=name),
        lambda: again.get_role_policy(RoleName=name, PolicyName="own"),
        lambda: again.list_attached_role_policies(RoleName=name),
        lambda: again.get_group(GroupName=name),
        lambda: again.get_group_policy(GroupName=name, PolicyName="own"),
    ):
        with refused("NoSuchEntity"):
            gone()
