"""boto3: one object at a time, written at one gateway and read at another."""

import datetime
import json
import urllib.error
import urllib.parse
import urllib.request

import pytest

from helpers import CHECKSUMS, KIB, MIB, absent, body_of, checksum, md5, read, refused, wait_for

# Around the inline limit and the chunk size, where layouts change.
SIZES = [0, 1, 16 * KIB - 1, 16 * KIB, 16 * KIB + 1, MIB, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 9 * MIB + 5]

ODD_KEYS = [
    "plain",
    "a b",
    "a+b",
    "a%20b",
    "100%",
    "%2F",
    "ü/ä",
    "日本語/キー",
    "😀",
    "quote'\"",
    "<&>",
    "semi;colon:at@",
    "q?x=1&y=2",
    "#hash",
    "[brackets]{braces}",
    "back\\slash",
    "~tilde!*'()",
    "a//b",
    "trailing/",
    "/leading",
    "-",
    "...",
    "e\u0301 and \u00e9",
    "k" * 1024,
    "é" * 512,
]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_put_is_got(s3, s3_elsewhere, bucket, size):
    body = body_of(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=body)
    got = s3_elsewhere.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == body
    assert put["ETag"] == got["ETag"] == f'"{md5(body)}"'
    assert got["ContentLength"] == size
    assert got["ContentType"] == "binary/octet-stream"
    head = s3_elsewhere.head_object(Bucket=bucket, Key="k")
    assert (head["ETag"], head["ContentLength"], head["LastModified"]) == (put["ETag"], size, got["LastModified"])
    assert abs(datetime.datetime.now(datetime.timezone.utc) - got["LastModified"]) < datetime.timedelta(minutes=5)


def test_a_new_value_is_seen_everywhere_at_once(s3, s3_elsewhere, bucket):
    for round_ in range(20):
        writer, reader = (s3, s3_elsewhere) if round_ % 2 else (s3_elsewhere, s3)
        body = body_of(100 if round_ % 3 else 40 * KIB, round_)
        writer.put_object(Bucket=bucket, Key="k", Body=body)
        assert read(reader, bucket, "k") == body
        listed = reader.list_objects_v2(Bucket=bucket)["Contents"]
        assert [(o["Key"], o["Size"], o["ETag"]) for o in listed] == [("k", len(body), f'"{md5(body)}"')]
        writer.delete_object(Bucket=bucket, Key="k")
        assert absent(reader, bucket, "k")
        assert "Contents" not in reader.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize("key", ODD_KEYS, ids=range(len(ODD_KEYS)))
def test_odd_keys(s3, s3_elsewhere, bucket, key):
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert read(s3_elsewhere, bucket, key) == key.encode()
    assert [o["Key"] for o in s3_elsewhere.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    deleted = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}]})
    assert [d["Key"] for d in deleted["Deleted"]] == [key]
    assert absent(s3_elsewhere, bucket, key)


RANGES = [
    ("bytes=0-0", 0, 1),
    ("bytes=0-", 0, None),
    ("bytes=10-19", 10, 20),
    ("bytes=-1", -1, None),
    ("bytes=-100000000", 0, None),
    ("bytes=4194300-4194310", 4194300, 4194311),
    ("bytes=4194304-4194304", 4194304, 4194305),
    ("bytes=5000000-99999999", 5000000, None),
    ("bytes=100-8388608", 100, 8388609),
]


@pytest.fixture(scope="module")
def ranged(s3, module_bucket):
    body = body_of(9 * MIB + 123)
    s3.put_object(Bucket=module_bucket, Key="ranged", Body=body)
    return module_bucket, body


@pytest.mark.parametrize("header, start, end", RANGES)
def test_ranges(s3_elsewhere, ranged, header, start, end):
    bucket, body = ranged
    got = s3_elsewhere.get_object(Bucket=bucket, Key="ranged", Range=header)
    expected = body[start:end]
    first = start % len(body)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["ContentRange"] == f"bytes {first}-{first + len(expected) - 1}/{len(body)}"
    assert got["Body"].read() == expected


def test_ranges_that_cannot_be(s3, ranged):
    bucket, body = ranged
    with refused("InvalidRange"):
        s3.get_object(Bucket=bucket, Key="ranged", Range=f"bytes={len(body)}-")
    # What is no range is no range: the whole object, as RFC 9110 has it.
    assert s3.get_object(Bucket=bucket, Key="ranged", Range="bytes=9-3")["ContentLength"] == len(body)


def test_headers_and_user_metadata_come_back(s3, s3_elsewhere, bucket):
    expires = datetime.datetime(2031, 5, 4, 3, 2, 1, tzinfo=datetime.timezone.utc)
    sent = {
        "ContentType": "text/x-own; charset=utf-8",
        "CacheControl": "max-age=7",
        "ContentEncoding": "identity",
        "ContentDisposition": 'attachment; filename="x y.txt"',
        "ContentLanguage": "de-CH",
        "Metadata": {"colour": "blue", "mixed-case": "A b  c", "empty": ""},
    }
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Expires=expires, StorageClass="STANDARD_IA", **sent)
    for answer in (s3_elsewhere.get_object(Bucket=bucket, Key="k"), s3_elsewhere.head_object(Bucket=bucket, Key="k")):
        assert {name: answer[name] for name in sent} == sent
        assert answer["ExpiresString"] == "Sun, 04 May 2031 03:02:01 GMT"
        assert answer["StorageClass"] == "STANDARD_IA"


def test_a_reader_may_ask_for_other_headers(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain")
    got = s3.get_object(
        Bucket=bucket,
        Key="k",
        ResponseContentType="text/html",
        ResponseCacheControl="no-store",
        ResponseContentDisposition="inline",
    )
    assert (got["ContentType"], got["CacheControl"], got["ContentDisposition"]) == ("text/html", "no-store", "inline")


@pytest.mark.parametrize("size", [0, 1000, 5 * MIB])
@pytest.mark.parametrize("algorithm", CHECKSUMS)
def test_checksums_are_computed_and_kept(s3, s3_elsewhere, bucket, algorithm, size):
    body, field = body_of(size), f"Checksum{algorithm}"
    put = s3.put_object(Bucket=bucket, Key="k", Body=body, ChecksumAlgorithm=algorithm)
    assert put[field] == checksum(algorithm, body)
    got = s3_elsewhere.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got[field] == put[field] and got["Body"].read() == body
    assert s3_elsewhere.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")["ChecksumType"] == "FULL_OBJECT"


@pytest.mark.parametrize("algorithm", CHECKSUMS)
def test_a_wrong_checksum_stores_nothing(s3, s3_elsewhere, bucket, algorithm):
    with refused("BadDigest"):
        s3.put_object(
            Bucket=bucket, Key="k", Body=body_of(70 * KIB), **{f"Checksum{algorithm}": checksum(algorithm, b"else")}
        )
    assert absent(s3_elsewhere, bucket, "k")


def test_a_wrong_md5_stores_nothing(s3, bucket):
    with refused("BadDigest"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentMD5="XrY7u+Ae7tCTyyK7j1rNww==")
    with refused("InvalidDigest"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentMD5="bm90IGFuIG1kNQ==")
    assert absent(s3, bucket, "k")


def test_object_attributes(s3, bucket):
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"four", ChecksumAlgorithm="SHA256")
    got = s3.get_object_attributes(
        Bucket=bucket, Key="k", ObjectAttributes=["ETag", "ObjectSize", "Checksum", "StorageClass"]
    )
    assert (got["ETag"], got["ObjectSize"], got["StorageClass"]) == (put["ETag"].strip('"'), 4, "STANDARD")
    assert got["Checksum"]["ChecksumSHA256"] == checksum("SHA256", b"four")


# ---- conditions ------------------------------------------------------------------------------------------------------


def test_conditions_on_reads(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    at = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    before, hour = at - datetime.timedelta(hours=1), datetime.timedelta(hours=1)
    for call, name in ((s3.get_object, "PreconditionFailed"), (s3.head_object, "412")):
        assert call(Bucket=bucket, Key="k", IfMatch=etag)["ETag"] == etag
        assert call(Bucket=bucket, Key="k", IfNoneMatch='"other"')["ETag"] == etag
        assert call(Bucket=bucket, Key="k", IfModifiedSince=before)["ETag"] == etag
        assert call(Bucket=bucket, Key="k", IfUnmodifiedSince=at + hour)["ETag"] == etag
        with refused(name):
            call(Bucket=bucket, Key="k", IfMatch='"other"')
        with refused(name):
            call(Bucket=bucket, Key="k", IfUnmodifiedSince=before)
        with refused("304"):
            call(Bucket=bucket, Key="k", IfNoneMatch=etag)
        with refused("304"):
            call(Bucket=bucket, Key="k", IfModifiedSince=at)


def test_conditions_on_writes(s3, s3_elsewhere, bucket):
    with refused("NoSuchKey"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", IfMatch='"any"')
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    with refused("PreconditionFailed"):
        s3_elsewhere.put_object(Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*")
    second = s3_elsewhere.put_object(Bucket=bucket, Key="k", Body=b"3", IfMatch=first)["ETag"]
    with refused("PreconditionFailed"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"4", IfMatch=first)
    assert read(s3, bucket, "k") == b"3"
    with refused("PreconditionFailed"):
        s3.delete_object(Bucket=bucket, Key="k", IfMatch=first)
    s3.delete_object(Bucket=bucket, Key="k", IfMatch=second)
    assert absent(s3_elsewhere, bucket, "k")


# ---- copies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1000, 9 * MIB])
def test_copies(s3, s3_elsewhere, bucket, size):
    body = body_of(size)
    s3.put_object(Bucket=bucket, Key="from/ü", Body=body, Metadata={"a": "1"}, ContentType="text/plain")
    source = {"Bucket": bucket, "Key": "from/ü"}
    copied = s3_elsewhere.copy_object(Bucket=bucket, Key="kept", CopySource=source)["CopyObjectResult"]
    assert copied["ETag"] == f'"{md5(body)}"'
    kept = s3.get_object(Bucket=bucket, Key="kept")
    assert (kept["Body"].read(), kept["Metadata"], kept["ContentType"]) == (body, {"a": "1"}, "text/plain")
    s3.copy_object(Bucket=bucket, Key="new", CopySource=source, MetadataDirective="REPLACE", Metadata={"b": "2"})
    new = s3_elsewhere.get_object(Bucket=bucket, Key="new")
    assert (new["Body"].read(), new["Metadata"]) == (body, {"b": "2"})
    # A copy lives on its own.
    s3.delete_object(Bucket=bucket, Key="from/ü")
    assert read(s3, bucket, "kept") == body


def test_copies_that_cannot_be(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    source = {"Bucket": bucket, "Key": "k"}
    with refused("InvalidRequest"):
        s3.copy_object(Bucket=bucket, Key="k", CopySource=source)
    with refused("NoSuchKey"):
        s3.copy_object(Bucket=bucket, Key="k2", CopySource={"Bucket": bucket, "Key": "none"})
    with refused("PreconditionFailed"):
        s3.copy_object(Bucket=bucket, Key="k2", CopySource=source, CopySourceIfNoneMatch=etag)
    assert absent(s3, bucket, "k2")
    s3.copy_object(Bucket=bucket, Key="k", CopySource=source, MetadataDirective="REPLACE", Metadata={"n": "1"})
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"n": "1"}


# ---- deletes ---------------------------------------------------------------------------------------------------------


def test_deletes(s3, s3_elsewhere, bucket):
    s3.delete_object(Bucket=bucket, Key="never was")
    for i in range(10):
        s3.put_object(Bucket=bucket, Key=f"k{i}", Body=b"x")
    keys = [{"Key": f"k{i}"} for i in range(5)] + [{"Key": "never was"}]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": keys})
    assert sorted(d["Key"] for d in answer["Deleted"]) == sorted(k["Key"] for k in keys) and "Errors" not in answer
    assert "Deleted" not in s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k5"}], "Quiet": True})
    assert [o["Key"] for o in s3_elsewhere.list_objects_v2(Bucket=bucket)["Contents"]] == ["k6", "k7", "k8", "k9"]


# ---- presigned -------------------------------------------------------------------------------------------------------


def fetch(url, data=None, method=None, headers=None):
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_presigned(s3, cluster, bucket):
    params = {"Bucket": bucket, "Key": "a b/ü+%"}
    body = body_of(100 * KIB)
    put = s3.generate_presigned_url("put_object", params)
    assert fetch(put, body, "PUT", {"Content-Type": ""})[0] == 200
    get = s3.generate_presigned_url("get_object", {**params, "ResponseContentType": "text/css"})
    assert fetch(get) == (200, body)
    code, text = fetch(get.replace("text%2Fcss", "text%2Fhtml"))
    assert code == 403 and b"<Code>SignatureDoesNotMatch</Code>" in text
    assert cluster.main.secret_key.encode() not in text
    short = s3.generate_presigned_url("get_object", params, ExpiresIn=1)
    code, text = wait_for(lambda: (answer := fetch(short))[0] == 403 and answer)
    assert b"<Code>AccessDenied</Code>" in text


def test_presigned_for_one_gateway_is_no_use_without_its_host(s3, cluster, bucket):
    """The host is signed: a URL is for the endpoint it names."""
    if len(cluster.endpoints) < 2:
        pytest.skip("only one gateway")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    url = urllib.parse.urlsplit(s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"}))
    moved = url._replace(netloc=urllib.parse.urlsplit(cluster.endpoints[-1]).netloc).geturl()
    assert fetch(moved)[0] == 403


def test_the_service_speaks_of_its_health_without_a_key(cluster):
    for endpoint in cluster.endpoints:
        assert fetch(f"{endpoint}/-/health/live")[0] == 200
        assert fetch(f"{endpoint}/-/health/ready")[0] == 200
        code, text = fetch(f"{endpoint}/-/admin/v1/status")
        assert code in (401, 403), json.dumps(text.decode(errors="replace"))
