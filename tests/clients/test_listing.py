"""boto3: the listings of 3,000 keys against a model that is as simple as the definition."""

import concurrent.futures
import random

import pytest

KEYS_MAX = 3000


def make_keys():
    """Nested folders, neighbours around the delimiter, and names that sort differently in bytes and in characters."""
    keys = {f"dir{i % 10}/sub{i % 7}/key-{i:05d}" for i in range(2400)}
    keys |= {f"flat-{i:04d}" for i in range(500)}
    keys |= {f"ü/{i}" for i in range(20)} | {f"z{i}" for i in range(20)} | {f"😀{i}" for i in range(10)}
    keys |= {f"\uffee{i}" for i in range(10)}
    keys |= {"dir1", "dir1/", "dir1/sub", "dir1-", "dir10", "a b+c%/x", "/lead", "//"}
    keys |= {f"more/{i}" for i in range(KEYS_MAX - len(keys))}
    return sorted(keys, key=str.encode)


KEYS = make_keys()


def model(prefix="", delimiter="", after=""):
    """(keys, common prefixes), as the S3 reference describes them."""
    keys, prefixes = [], []
    for key in KEYS:
        if not key.startswith(prefix):
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        if cut < 0:
            if key.encode() > after.encode():
                keys.append(key)
        else:
            rolled = key[: cut + len(delimiter)]
            if rolled not in prefixes and rolled.encode() > after.encode():
                prefixes.append(rolled)
    return keys, prefixes


@pytest.fixture(scope="module")
def listed(s3, s3_elsewhere, module_bucket):
    def put(n, key):
        (s3, s3_elsewhere)[n % 2].put_object(Bucket=module_bucket, Key=key, Body=b"x")

    shuffled = random.Random(1).sample(KEYS, len(KEYS))
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        list(pool.map(put, range(len(shuffled)), shuffled))
    return module_bucket


def collect(client, operation, page_size, **params):
    """All pages, each checked for its size and order."""
    keys, prefixes = [], []
    pages = client.get_paginator(operation).paginate(PaginationConfig={"PageSize": page_size}, **params)
    for page in pages:
        here = [o["Key"] for o in page.get("Contents", [])]
        rolled = [p["Prefix"] for p in page.get("CommonPrefixes", [])]
        assert len(here) + len(rolled) <= page_size
        assert here == sorted(here, key=str.encode) and rolled == sorted(rolled, key=str.encode)
        keys += here
        prefixes += rolled
    return keys, prefixes


SHAPES = [
    ("", ""),
    ("", "/"),
    ("dir1", ""),
    ("dir1", "/"),
    ("dir1/", "/"),
    ("dir3/sub", "/"),
    ("dir3/sub2/", "/"),
    ("none", "/"),
    ("flat-", "-"),
    ("ü/", ""),
    ("", "sub"),
    ("😀", ""),
    ("/", "/"),
    ("", "ü"),
]


@pytest.mark.parametrize("operation", ["list_objects_v2", "list_objects"])
@pytest.mark.parametrize("prefix, delimiter", SHAPES)
def test_whole_listings(s3_elsewhere, listed, operation, prefix, delimiter):
    found = collect(s3_elsewhere, operation, 1000, Bucket=listed, Prefix=prefix, Delimiter=delimiter)
    assert found == model(prefix, delimiter)


@pytest.mark.parametrize("operation", ["list_objects_v2", "list_objects"])
@pytest.mark.parametrize(
    "page_size, prefix, delimiter",
    [(97, "", ""), (3, "", "/"), (2, "dir1", "/"), (7, "dir4/", ""), (1, "dir1", "/"), (5, "", "-")],
)
def test_pages_neither_lose_nor_repeat(s3, listed, operation, page_size, prefix, delimiter):
    assert collect(s3, operation, page_size, Bucket=listed, Prefix=prefix, Delimiter=delimiter) == model(
        prefix, delimiter
    )


OUTSIDE_FOLDERS = ["", "dir1", "flat-0250", "zzz", "no such"]


@pytest.mark.parametrize(
    "delimiter, after",
    [
        *(("", after) for after in [*OUTSIDE_FOLDERS, "dir1/", "dir1/sub3/", "dir1/sub3/key-99999", "ü/5"]),
        *(("/", after) for after in OUTSIDE_FOLDERS),
    ],
)
def test_starting_after(s3, listed, delimiter, after):
    page = s3.list_objects_v2(Bucket=listed, StartAfter=after, Delimiter=delimiter, MaxKeys=50)
    keys, prefixes = model(delimiter=delimiter, after=after)
    merged = sorted(keys + prefixes, key=str.encode)[:50]
    found = [o["Key"] for o in page.get("Contents", [])] + [p["Prefix"] for p in page.get("CommonPrefixes", [])]
    assert sorted(found, key=str.encode) == merged
    assert page["KeyCount"] == len(merged) and page["IsTruncated"] == (len(keys) + len(prefixes) > 50)


def test_every_version_is_listed_as_the_only_one(s3, listed):
    versions = [
        v for page in s3.get_paginator("list_object_versions").paginate(Bucket=listed) for v in page["Versions"]
    ]
    assert [v["Key"] for v in versions] == KEYS
    assert {v["VersionId"] for v in versions} == {"null"} and all(v["IsLatest"] for v in versions)


def test_a_page_of_none(s3, listed):
    page = s3.list_objects_v2(Bucket=listed, MaxKeys=0)
    assert (page["KeyCount"], page["IsTruncated"]) == (0, False)


def test_owners_are_told_when_asked_for(s3, listed):
    assert "Owner" not in s3.list_objects_v2(Bucket=listed, MaxKeys=1)["Contents"][0]
    owner = s3.list_objects_v2(Bucket=listed, MaxKeys=1, FetchOwner=True)["Contents"][0]["Owner"]
    assert owner["ID"] == s3.list_buckets()["Owner"]["ID"]
