"""Tables whose every commit is one conditional write: Delta Lake, Iceberg, and what lies below both."""

import concurrent.futures
import json

import pytest

from helpers import read

WRITERS, COMMITS = 4, 3


class TestDelta:
    @pytest.fixture
    def delta(self):
        return pytest.importorskip("deltalake", reason="deltalake is not to be had here")

    @pytest.fixture
    def options(self, cluster):
        return lambda gateway: {
            "AWS_ENDPOINT_URL": cluster.endpoints[gateway],
            "AWS_ALLOW_HTTP": "true",
            "AWS_CONDITIONAL_PUT": "etag",
            **cluster.environment,
        }

    def rows(self, first, number):
        pa = pytest.importorskip("pyarrow", reason="pyarrow is not to be had here")
        return pa.table({"id": list(range(first, first + number)), "word": [f"word {n}" for n in range(number)]})

    def test_writers_that_race_lose_nothing(self, delta, options, cluster, bucket):
        url = f"s3://{bucket}/table"
        delta.write_deltalake(url, self.rows(0, 10), storage_options=options(0))

        def write(writer):
            for commit in range(COMMITS):
                first = 1_000 * (writer + 1) + 10 * commit
                gateway = writer % len(cluster.endpoints)
                delta.write_deltalake(url, self.rows(first, 10), mode="append", storage_options=options(gateway))

        with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(write, range(WRITERS)))
        table = delta.DeltaTable(url, storage_options=options(-1))
        assert table.version() == WRITERS * COMMITS
        ids = table.to_pyarrow_table()["id"].to_pylist()
        wanted = set(range(10)) | {1_000 * (w + 1) + n for w in range(WRITERS) for n in range(10 * COMMITS)}
        assert len(ids) == len(wanted) and set(ids) == wanted
        # Every version is there, once.
        assert [entry["version"] for entry in table.history()][::-1] == list(range(table.version() + 1))

    def test_two_changes_of_the_same_rows_conflict(self, delta, options, bucket):
        url = f"s3://{bucket}/table"
        delta.write_deltalake(url, self.rows(0, 100), storage_options=options(0))
        one, other = (delta.DeltaTable(url, storage_options=options(gateway)) for gateway in (0, -1))
        one.delete("id >= 50")
        with pytest.raises(delta.exceptions.CommitFailedError):
            other.update({"word": "'theirs'"}, predicate="id < 90")
        assert delta.DeltaTable(url, storage_options=options(-1)).to_pyarrow_table().num_rows == 50

    def test_a_table_is_compacted_cleaned_and_read_as_it_was(self, delta, options, s3, bucket):
        url = f"s3://{bucket}/table"
        for n in range(4):
            delta.write_deltalake(url, self.rows(10 * n, 10), mode="append", storage_options=options(n % 2))
        table = delta.DeltaTable(url, storage_options=options(0))
        assert delta.DeltaTable(url, version=1, storage_options=options(-1)).to_pyarrow_table().num_rows == 20
        table.optimize.compact()
        table.create_checkpoint()
        assert len(table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)) == 4
        assert delta.DeltaTable(url, storage_options=options(-1)).to_pyarrow_table().num_rows == 40
        data = [o for o in s3.list_objects_v2(Bucket=bucket)["Contents"] if "_delta_log" not in o["Key"]]
        assert len(data) == 1


def test_an_iceberg_table_lives_here(cluster, bucket, tmp_path):
    """Its catalogue is a local file; data, manifests and metadata are objects."""
    pytest.importorskip("pyiceberg", reason="pyiceberg is not to be had here")
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not to be had here")
    from pyiceberg.catalog.sql import SqlCatalog

    def catalogue(gateway):
        return SqlCatalog(
            "test",
            uri=f"sqlite:///{tmp_path}/catalogue.db",
            warehouse=f"s3://{bucket}/warehouse",
            **{
                "s3.endpoint": cluster.endpoints[gateway],
                "s3.access-key-id": cluster.main.access_key,
                "s3.secret-access-key": cluster.main.secret_key,
                "s3.region": cluster.region,
            },
        )

    one = catalogue(0)
    one.create_namespace("space")
    rows = pa.table({"id": pa.array(range(100), pa.int64()), "day": [f"2024-01-{n % 5 + 1:02}" for n in range(100)]})
    table = one.create_table("space.events", schema=rows.schema)
    table.append(rows)
    table.append(rows.slice(0, 10))
    other = catalogue(-1).load_table("space.events")
    assert other.scan().to_arrow().num_rows == 110
    other.delete("id < 10")
    with other.update_schema() as update:
        from pyiceberg.types import StringType

        update.add_column("note", StringType())
    table.refresh()
    found = table.scan(row_filter="day = '2024-01-02'", selected_fields=("id", "note")).to_arrow()
    assert sorted(found["id"].to_pylist()) == list(range(11, 100, 5)) and found["note"].null_count == 18
    first = table.history()[0].snapshot_id
    assert table.scan(snapshot_id=first).to_arrow().num_rows == 100


def test_commits_to_a_catalogue_of_objects_alone(cluster, bucket):
    """A version file that only one may create, then a pointer that moves only from what was read: no commit is lost."""
    cluster.client().put_object(Bucket=bucket, Key="version-hint", Body=b"0")
    cluster.client().put_object(Bucket=bucket, Key="v0.metadata.json", Body=b"[]", IfNoneMatch="*")

    def commit(client, what):
        while True:
            hint = client.get_object(Bucket=bucket, Key="version-hint")
            version = int(hint["Body"].read())
            log = json.loads(read(client, bucket, f"v{version}.metadata.json")) + [what]
            try:
                pointer = {"Bucket": bucket, "Key": "version-hint", "Body": str(version + 1), "IfMatch": hint["ETag"]}
                name = f"v{version + 1}.metadata.json"
                client.put_object(Bucket=bucket, Key=name, Body=json.dumps(log), IfNoneMatch="*")
                client.put_object(**pointer)
                return
            except client.exceptions.ClientError as error:
                assert error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412)

    def write(writer):
        client = cluster.client(writer % len(cluster.endpoints))
        for number in range(COMMITS):
            commit(client, [writer, number])

    with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))
    client = cluster.client(-1)
    version = int(read(client, bucket, "version-hint"))
    log = json.loads(read(client, bucket, f"v{version}.metadata.json"))
    assert version == len(log) == WRITERS * COMMITS
    assert sorted(log) == [[writer, number] for writer in range(WRITERS) for number in range(COMMITS)]
