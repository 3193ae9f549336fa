"""boto3: multipart uploads, their listings, and all that can be wrong with them."""

import base64
import concurrent.futures
import hashlib
import io

import boto3.s3.transfer
import pytest

from helpers import MIB, absent, body_of, checksum, md5, read, refused

PART = 5 * MIB


def begin(client, bucket, key="k", **more):
    return client.create_multipart_upload(Bucket=bucket, Key=key, **more)["UploadId"]


def put_part(client, bucket, upload, number, body, key="k", **more):
    answer = client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body, **more)
    return {"PartNumber": number, "ETag": answer["ETag"]}


def complete(client, bucket, upload, parts, key="k", **more):
    return client.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}, **more
    )


def composite_etag(bodies):
    digests = b"".join(hashlib.md5(body).digest() for body in bodies)
    return f'"{md5(digests)}-{len(bodies)}"'


def test_parts_in_any_order_through_any_gateway(s3, s3_elsewhere, bucket):
    bodies = {1: body_of(PART, 1), 3: body_of(PART + 1, 3), 7: body_of(11, 7)}
    upload = begin(s3, bucket, Metadata={"a": "1"}, ContentType="text/plain")
    parts = [put_part((s3, s3_elsewhere)[n % 2], bucket, upload, n, bodies[n]) for n in (7, 1, 3)]
    assert absent(s3, bucket, "k"), "nothing is visible before it is complete"
    listed = s3_elsewhere.list_parts(Bucket=bucket, Key="k", UploadId=upload)["Parts"]
    assert [(p["PartNumber"], p["Size"], p["ETag"]) for p in listed] == [
        (n, len(b), f'"{md5(b)}"') for n, b in sorted(bodies.items())
    ]
    done = complete(s3_elsewhere, bucket, upload, sorted(parts, key=lambda p: p["PartNumber"]))
    whole = b"".join(b for _, b in sorted(bodies.items()))
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == whole
    assert got["ETag"] == done["ETag"] == composite_etag([b for _, b in sorted(bodies.items())])
    assert (got["Metadata"], got["ContentType"]) == ({"a": "1"}, "text/plain")
    across = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={PART - 10}-{PART + 9}")
    assert across["Body"].read() == whole[PART - 10 : PART + 10]
    second = s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert (second["Body"].read(), second["PartsCount"]) == (bodies[3], 3)
    assert s3.head_object(Bucket=bucket, Key="k", PartNumber=3)["ContentLength"] == 11


def test_a_part_sent_again_replaces_the_first(s3, bucket):
    upload = begin(s3, bucket)
    put_part(s3, bucket, upload, 1, b"old")
    part = put_part(s3, bucket, upload, 1, b"new")
    assert len(s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)["Parts"]) == 1
    complete(s3, bucket, upload, [part])
    assert read(s3, bucket, "k") == b"new"


def test_what_is_wrong_with_a_completion(s3, bucket):
    upload = begin(s3, bucket)
    small, large = put_part(s3, bucket, upload, 1, b"small"), put_part(s3, bucket, upload, 2, body_of(PART))
    with refused("EntityTooSmall"):
        complete(s3, bucket, upload, [small, large])
    with refused("InvalidPartOrder"):
        complete(s3, bucket, upload, [large, small])
    with refused("InvalidPart"):
        complete(s3, bucket, upload, [{"PartNumber": 2, "ETag": small["ETag"]}])
    with refused("InvalidPart"):
        complete(s3, bucket, upload, [{"PartNumber": 3, "ETag": small["ETag"]}])
    with refused("MalformedXML"):
        complete(s3, bucket, upload, [])
    with refused("NoSuchUpload"):
        complete(s3, bucket, "no-such-upload", [large])
    with refused("InvalidArgument"):
        put_part(s3, bucket, upload, 10001, b"x")
    assert absent(s3, bucket, "k")
    complete(s3, bucket, upload, [large])
    assert read(s3, bucket, "k") == body_of(PART)


def test_an_abort_leaves_nothing(s3, s3_elsewhere, bucket):
    upload = begin(s3, bucket)
    part = put_part(s3, bucket, upload, 1, body_of(PART))
    s3_elsewhere.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)
    with refused("NoSuchUpload"):
        s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)
    with refused("NoSuchUpload"):
        put_part(s3, bucket, upload, 2, b"late")
    with refused("NoSuchUpload"):
        complete(s3, bucket, upload, [part])
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    assert absent(s3, bucket, "k")


def test_uploads_are_listed_by_key(s3, s3_elsewhere, bucket):
    keys = ["a", "b/1", "b/2", "c", "c"]
    uploads = [(key, begin(s3, bucket, key)) for key in keys]
    found, pages = [], 0
    for page in s3_elsewhere.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, MaxUploads=2):
        found += [(u["Key"], u["UploadId"]) for u in page.get("Uploads", [])]
        pages += 1
    assert sorted(found) == sorted(uploads) and [key for key, _ in found] == keys and pages == 3
    rolled = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [p["Prefix"] for p in rolled["CommonPrefixes"]] == ["b/"]
    assert [u["Key"] for u in rolled["Uploads"]] == ["a", "c", "c"]


def test_checksums_of_parts_and_whole(s3, bucket):
    bodies = [body_of(PART, 1), body_of(77, 2)]
    upload = begin(s3, bucket, ChecksumAlgorithm="SHA256")
    parts = []
    for n, body in enumerate(bodies, 1):
        answer = s3.upload_part(
            Bucket=bucket, Key="k", UploadId=upload, PartNumber=n, Body=body, ChecksumAlgorithm="SHA256"
        )
        assert answer["ChecksumSHA256"] == checksum("SHA256", body)
        parts.append({"PartNumber": n, "ETag": answer["ETag"], "ChecksumSHA256": answer["ChecksumSHA256"]})
    done = complete(s3, bucket, upload, parts)
    of_parts = base64.b64encode(hashlib.sha256(b"".join(hashlib.sha256(b).digest() for b in bodies)).digest()).decode()
    assert (done["ChecksumSHA256"], done["ChecksumType"]) == (f"{of_parts}-2", "COMPOSITE")
    attributes = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts", "ObjectSize"])
    assert [p["Size"] for p in attributes["ObjectParts"]["Parts"]] == [PART, 77]


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
def test_checksums_of_the_full_object(s3, bucket, algorithm):
    bodies = [body_of(PART, 1), body_of(PART, 2), body_of(77, 3)]
    upload = begin(s3, bucket, ChecksumAlgorithm=algorithm, ChecksumType="FULL_OBJECT")
    parts = [put_part(s3, bucket, upload, n, body, ChecksumAlgorithm=algorithm) for n, body in enumerate(bodies, 1)]
    field, right = f"Checksum{algorithm}", checksum(algorithm, b"".join(bodies))
    with refused("BadDigest"):
        complete(s3, bucket, upload, parts, ChecksumType="FULL_OBJECT", **{field: checksum(algorithm, b"else")})
    done = complete(s3, bucket, upload, parts, ChecksumType="FULL_OBJECT", **{field: right})
    assert (done[field], done["ChecksumType"]) == (right, "FULL_OBJECT")
    assert s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")[field] == right


def test_conditions_are_judged_when_it_completes(s3, s3_elsewhere, bucket):
    upload = begin(s3, bucket)
    part = put_part(s3, bucket, upload, 1, b"late")
    s3_elsewhere.put_object(Bucket=bucket, Key="k", Body=b"first")
    with refused("PreconditionFailed"):
        complete(s3, bucket, upload, [part], IfNoneMatch="*")
    assert read(s3, bucket, "k") == b"first"


def test_parts_may_be_copied(s3, bucket):
    source = body_of(12 * MIB)
    s3.put_object(Bucket=bucket, Key="source", Body=source)
    upload, parts = begin(s3, bucket), []
    for n, (first, last) in enumerate([(0, PART - 1), (PART + 3, 2 * PART + 2), (100, 199)], 1):
        answer = s3.upload_part_copy(
            Bucket=bucket,
            Key="k",
            UploadId=upload,
            PartNumber=n,
            CopySource={"Bucket": bucket, "Key": "source"},
            CopySourceRange=f"bytes={first}-{last}",
        )
        parts.append({"PartNumber": n, "ETag": answer["CopyPartResult"]["ETag"]})
    complete(s3, bucket, upload, parts)
    assert read(s3, bucket, "k") == source[:PART] + source[PART + 3 : 2 * PART + 3] + source[100:200]
    with refused("InvalidRange", "InvalidArgument"):
        other = begin(s3, bucket, "other")
        s3.upload_part_copy(
            Bucket=bucket,
            Key="other",
            UploadId=other,
            PartNumber=1,
            CopySource={"Bucket": bucket, "Key": "source"},
            CopySourceRange="bytes=0-99999999",
        )


def test_many_parts_at_a_time(s3, s3_elsewhere, bucket):
    bodies = [body_of(PART, n) for n in range(1, 13)]
    upload = begin(s3, bucket)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        parts = list(
            pool.map(lambda n: put_part((s3, s3_elsewhere)[n % 2], bucket, upload, n, bodies[n - 1]), range(1, 13))
        )
    complete(s3, bucket, upload, parts)
    assert read(s3_elsewhere, bucket, "k") == b"".join(bodies)


def test_the_transfer_of_a_large_file(s3, s3_elsewhere, bucket):
    body = body_of(64 * MIB + 7)
    config = boto3.s3.transfer.TransferConfig(
        multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB, max_concurrency=8
    )
    s3.upload_fileobj(io.BytesIO(body), bucket, "k", Config=config)
    back = io.BytesIO()
    s3_elsewhere.download_fileobj(bucket, "k", back, Config=config)
    assert back.getvalue() == body
