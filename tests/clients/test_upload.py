"""curl and /upload, with the original system's command line: sent to one gateway, fetched from another."""

import json
import urllib.parse
import uuid

import pytest

from helpers import CHECKSUMS, MIB, body_of, checksum, md5, run, sha256_of_file

BUCKET = "uploads"
CURL = ("curl", "-sS", "--max-time", "120")


@pytest.fixture
def name():
    """No test meets another's files."""
    return f"clients-{uuid.uuid4().hex[:12]}.bin"


@pytest.fixture(autouse=True)
def swept(s3):
    """`uploads` is everybody's: leave nothing of ours there."""
    yield
    keys = [
        o["Key"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="clients-")
        for o in page.get("Contents", [])
    ]
    for key in keys:
        s3.delete_object(Bucket=BUCKET, Key=key)


def upload(endpoint, *forms):
    answer = run(
        *CURL, "--fail-with-body", "-X", "POST", *(a for form in forms for a in ("-F", form)), f"{endpoint}/upload"
    )
    return json.loads(answer)["files"]


def download(endpoint, url, path):
    """The URL in the answer, at whichever gateway we like."""
    run(*CURL, "--fail", "-o", path, endpoint + urllib.parse.urlsplit(url).path)
    return path


def check(entry, body):
    assert (entry["bucket"], entry["size"]) == (BUCKET, len(body))
    assert entry["etag"].strip('"') == md5(body)
    if entry["checksum"]["algorithm"] in CHECKSUMS:
        assert entry["checksum"]["value"] == checksum(entry["checksum"]["algorithm"], body)


@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 5 * MIB])
def test_one_file(cluster, s3_elsewhere, tmp_path, name, size):
    file = tmp_path / name
    file.write_bytes(body_of(size))
    [entry] = upload(cluster.endpoints[0], f"file=@{file}")
    assert entry["key"] == name
    check(entry, body_of(size))
    assert download(cluster.endpoints[-1], f"/upload/{name}", tmp_path / "back").read_bytes() == body_of(size)
    assert download(cluster.endpoints[-1], entry["url"], tmp_path / "back").read_bytes() == body_of(size)
    # The same object through S3.
    assert s3_elsewhere.get_object(Bucket=BUCKET, Key=name)["Body"].read() == body_of(size)


def test_several_files_at_once(cluster, tmp_path, name):
    files = {name.replace("clients-", f"clients-{n}-"): body_of(1000 * n, n) for n in range(1, 6)}
    for key, body in files.items():
        (tmp_path / key).write_bytes(body)
    entries = upload(cluster.endpoints[-1], *(f"file{n}=@{tmp_path / key}" for n, key in enumerate(files)))
    assert [e["key"] for e in entries] == list(files)
    for entry, body in zip(entries, files.values()):
        check(entry, body)
        assert download(cluster.endpoints[0], entry["url"], tmp_path / "back").read_bytes() == body


def test_a_large_file(cluster, tmp_path, name):
    file = tmp_path / name
    file.write_bytes(body_of(100 * MIB))
    [entry] = upload(cluster.endpoints[0], f"file=@{file}")
    assert entry["size"] == 100 * MIB
    assert sha256_of_file(download(cluster.endpoints[-1], entry["url"], tmp_path / "back")) == sha256_of_file(file)


def test_uploaded_again_it_is_replaced(cluster, tmp_path, name):
    file = tmp_path / name
    for body in (b"first", b"second, and longer"):
        file.write_bytes(body)
        [entry] = upload(cluster.endpoints[0], f"file=@{file}")
        assert download(cluster.endpoints[-1], entry["url"], tmp_path / "back").read_bytes() == body


@pytest.mark.parametrize(
    "odd",
    [
        "with space.txt",
        "ümläut-日本.txt",
        "plus+percent%.txt",
        "q?x=1&y.txt",
        "#hash.txt",
        "'quote'.txt",
        "semi;colon.txt",
        "no-extension",
    ],
)
def test_odd_names(cluster, tmp_path, odd):
    odd = f"clients-{odd}"
    (tmp_path / "f").write_bytes(odd.encode())
    [entry] = upload(cluster.endpoints[0], f'file=@{tmp_path / "f"};filename="{odd}"')
    assert entry["key"] == odd
    assert download(cluster.endpoints[-1], entry["url"], tmp_path / "back").read_bytes() == odd.encode()


@pytest.mark.parametrize("evil", ["../../clients-etc", "/etc/clients-passwd", "..\\clients-up", "clients-a/../../b"])
def test_a_name_leads_nowhere_else(cluster, tmp_path, evil):
    """Of a path only the last name counts, as browsers and RFC 7578 have it."""
    (tmp_path / "f").write_bytes(b"x")
    answer = run(
        *CURL,
        "-o",
        tmp_path / "answer",
        "-w",
        "%{http_code}",
        "-F",
        f'file=@{tmp_path / "f"};filename="{evil}"',
        f"{cluster.endpoints[0]}/upload",
    ).decode()
    if answer == "200":
        [entry] = json.loads((tmp_path / "answer").read_bytes())["files"]
        assert "/" not in entry["key"] and "\\" not in entry["key"] and entry["key"] not in (".", "..")
    else:
        assert answer == "400"


@pytest.mark.parametrize(
    "arguments, statuses",
    [
        (["-d", "x=1"], ("400", "415")),
        (["-H", "Content-Type: multipart/form-data", "-d", "no boundary"], ("400",)),
        (
            [
                "-H",
                "Content-Type: multipart/form-data; boundary=b",
                "-d",
                '--b\r\nContent-Disposition: form-data; name="file"; filename="clients-cut"\r\n\r\ncut off',
            ],
            ("400",),
        ),
        (["-F", "comment=no file here"], ("400",)),
        (["-X", "PUT", "-d", "x"], ("400", "403", "405")),
    ],
)
def test_what_is_no_upload(cluster, s3, tmp_path, arguments, statuses):
    status = run(
        *CURL, "-o", tmp_path / "answer", "-w", "%{http_code}", *arguments, f"{cluster.endpoints[0]}/upload"
    ).decode()
    assert status in statuses, (tmp_path / "answer").read_text(errors="replace")
    assert s3.list_objects_v2(Bucket=BUCKET, Prefix="clients-cut")["KeyCount"] == 0


def test_what_was_never_uploaded(cluster, tmp_path):
    url = f"{cluster.endpoints[0]}/upload/clients-never"
    assert run(*CURL, "-o", tmp_path / "answer", "-w", "%{http_code}", url).decode() == "404"
