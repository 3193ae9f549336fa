"""File systems for Python programs: pyarrow's own and s3fs; DuckDB's httpfs; the MinIO client library."""

import datetime
import io
import pathlib
import urllib.request

import pytest

from helpers import MIB, body_of, md5, read


@pytest.fixture
def pa():
    return pytest.importorskip("pyarrow", reason="pyarrow is not to be had here")


@pytest.fixture
def arrow(pa, cluster):
    from pyarrow.fs import S3FileSystem

    return lambda gateway=0: S3FileSystem(
        endpoint_override=cluster.endpoints[gateway],
        access_key=cluster.main.access_key,
        secret_key=cluster.main.secret_key,
        region=cluster.region,
        force_virtual_addressing=False,
        background_writes=True,
    )


@pytest.fixture
def rows(pa):
    return pa.table({"id": range(1000), "part": [n % 4 for n in range(1000)], "word": [f"wörd {n}" for n in range(1000)]})


class TestArrow:
    def test_files(self, arrow, bucket):
        from pyarrow.fs import FileSelector, FileType

        fs, data = arrow(), body_of(22 * MIB)
        with fs.open_output_stream(f"{bucket}/dir/large", metadata={"Content-Type": "a/b"}) as file:
            for at in range(0, len(data), 3 * MIB):
                file.write(data[at : at + 3 * MIB])
        elsewhere = arrow(-1)
        with elsewhere.open_input_file(f"{bucket}/dir/large") as file:
            assert file.size() == len(data)
            assert file.read_at(1000, 5 * MIB) == data[5 * MIB : 5 * MIB + 1000]
            assert file.readall() == data
            assert file.metadata()["Content-Type"] == b"a/b"
        fs.copy_file(f"{bucket}/dir/large", f"{bucket}/dir/deeper/copy")
        fs.create_dir(f"{bucket}/empty")
        infos = elsewhere.get_file_info(FileSelector(bucket, recursive=True))
        assert {i.path.removeprefix(f"{bucket}/"): i.type for i in infos} == {
            "dir": FileType.Directory,
            "dir/deeper": FileType.Directory,
            "dir/deeper/copy": FileType.File,
            "dir/large": FileType.File,
            "empty": FileType.Directory,
        }
        fs.move(f"{bucket}/dir/deeper/copy", f"{bucket}/moved")
        fs.delete_dir(f"{bucket}/dir")
        fs.delete_dir(f"{bucket}/empty")
        assert [i.path for i in elsewhere.get_file_info(FileSelector(bucket, recursive=True))] == [f"{bucket}/moved"]
        assert elsewhere.get_file_info(f"{bucket}/none").type == FileType.NotFound
        with pytest.raises(FileNotFoundError):
            fs.open_input_file(f"{bucket}/none")

    def test_partitioned_parquet(self, pa, arrow, bucket, rows):
        import pyarrow.dataset

        options = {"format": "parquet", "partitioning": ["part"], "partitioning_flavor": "hive"}
        pa.dataset.write_dataset(rows, f"{bucket}/rows", filesystem=arrow(), **options)
        dataset = pa.dataset.dataset(f"{bucket}/rows", filesystem=arrow(-1), format="parquet", partitioning="hive")
        found = dataset.to_table(filter=(pa.compute.field("part") == 3) & (pa.compute.field("id") > 990))
        assert sorted(found["id"].to_pylist()) == [991, 995, 999]
        assert dataset.count_rows() == 1000


class TestS3fs:
    @pytest.fixture
    def s3fs(self, cluster):
        module = pytest.importorskip("s3fs", reason="s3fs is not to be had here")
        return lambda gateway=0: module.S3FileSystem(
            endpoint_url=cluster.endpoints[gateway],
            key=cluster.main.access_key,
            secret=cluster.main.secret_key,
            client_kwargs={"region_name": cluster.region},
            config_kwargs={"signature_version": "s3v4", "s3": {"addressing_style": "path"}},
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def test_files(self, s3fs, s3, bucket, tmp_path):
        fs, elsewhere, data = s3fs(), s3fs(-1), body_of(13 * MIB)
        with fs.open(f"{bucket}/a b/large+ü", "wb", block_size=5 * MIB) as file:
            file.write(data)
        assert elsewhere.info(f"{bucket}/a b/large+ü")["size"] == len(data)
        with elsewhere.open(f"{bucket}/a b/large+ü", "rb") as file:
            file.seek(-1000, io.SEEK_END)
            assert file.read() == data[-1000:]
        # An object is appended to by copying it as the first part.
        with fs.open(f"{bucket}/a b/large+ü", "ab") as file:
            file.write(b"appended")
        assert read(s3, bucket, "a b/large+ü") == data + b"appended"
        fs.pipe({f"{bucket}/many/{n}": b"x" * n for n in range(30)})
        assert sorted(elsewhere.du(f"{bucket}/many", total=False).values()) == list(range(30))
        assert sorted(elsewhere.glob(f"{bucket}/many/2*")) == [f"{bucket}/many/{n}" for n in (2, *range(20, 30))]
        fs.get(f"{bucket}/many/", str(tmp_path / "many"), recursive=True)
        assert len(list((tmp_path / "many").iterdir())) == 30
        fs.copy(f"{bucket}/many", f"{bucket}/moved", recursive=True)
        fs.rm(f"{bucket}/many", recursive=True)
        assert len(elsewhere.ls(f"{bucket}/moved")) == 30 and not elsewhere.exists(f"{bucket}/many")
        fs.touch(f"{bucket}/empty")
        fs.setxattr(f"{bucket}/empty", colour="blue")
        assert elsewhere.getxattr(f"{bucket}/empty", "colour") == "blue"
        fs.rm(f"{bucket}/moved", recursive=True)
        assert sorted(elsewhere.find(bucket)) == [f"{bucket}/a b/large+ü", f"{bucket}/empty"]

    def test_a_file_made_once(self, s3fs, bucket):
        s3fs().pipe_file(f"{bucket}/once", b"first", mode="create")
        with pytest.raises(FileExistsError):
            s3fs(-1).pipe_file(f"{bucket}/once", b"second", mode="create")
        assert s3fs().cat(f"{bucket}/once") == b"first"

    def test_a_url_that_is_signed_needs_no_key(self, s3fs, bucket):
        fs = s3fs()
        fs.pipe(f"{bucket}/k", b"hello")
        with urllib.request.urlopen(fs.url(f"{bucket}/k"), timeout=30) as answer:
            assert answer.read() == b"hello"


class TestDuckdb:
    @pytest.fixture
    def duck(self, cluster):
        duckdb = pytest.importorskip("duckdb", reason="duckdb is not to be had here")
        httpfs = pytest.importorskip("duckdb_extension_httpfs", reason="duckdb's httpfs is not to be had here")
        (extension,) = pathlib.Path(httpfs.__file__).parent.rglob("httpfs.duckdb_extension")

        def connect(gateway=0):
            connection = duckdb.connect()
            connection.load_extension(str(extension))
            connection.execute(
                f"CREATE SECRET (TYPE s3, KEY_ID '{cluster.main.access_key}', SECRET '{cluster.main.secret_key}',"
                f" REGION '{cluster.region}', ENDPOINT '{cluster.endpoints[gateway].removeprefix('http://')}',"
                " URL_STYLE 'path', USE_SSL false)"
            )
            return connection

        return connect

    def test_a_query_reads_and_writes(self, duck, s3, bucket):
        one, other = duck(), duck(-1)
        one.execute(
            "COPY (SELECT range AS id, range % 3 AS part, 'word ' || range AS word FROM range(300000))"
            f" TO 's3://{bucket}/rows' (FORMAT parquet, PARTITION_BY part)"
        )
        keys = [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]]
        assert sorted({key.split("/")[1] for key in keys}) == ["part=0", "part=1", "part=2"]
        query = f"SELECT count(*), sum(id) FROM read_parquet('s3://{bucket}/rows/*/*.parquet', hive_partitioning = true)"
        assert other.execute(query).fetchone() == (300_000, 299_999 * 150_000)
        assert other.execute(f"{query} WHERE part = 1 AND id < 10").fetchone() == (3, 12)
        one.execute(f"COPY (SELECT * FROM range(5)) TO 's3://{bucket}/odd names/ü +%.csv' (HEADER)")
        found = other.execute(f"SELECT sum(range) FROM read_csv('s3://{bucket}/odd names/*.csv')").fetchone()
        assert found == (10,)


class TestMinioLibrary:
    @pytest.fixture
    def minio(self, cluster):
        module = pytest.importorskip("minio", reason="minio's library is not to be had here")
        return lambda gateway=0: module.Minio(
            endpoint=cluster.endpoints[gateway].removeprefix("http://"),
            access_key=cluster.main.access_key,
            secret_key=cluster.main.secret_key,
            region=cluster.region,
            secure=False,
        )

    def test_objects(self, minio, bucket, tmp_path):
        one, other = minio(), minio(-1)
        data = body_of(17 * MIB)
        one.put_object(bucket_name=bucket, object_name="a/large", data=io.BytesIO(data), length=len(data))
        one.put_object(bucket_name=bucket, object_name="a/unknown", data=io.BytesIO(data), length=-1, part_size=5 * MIB)
        for name in ("a/large", "a/unknown"):
            other.fget_object(bucket_name=bucket, object_name=name, file_path=str(tmp_path / "f"))
            assert md5((tmp_path / "f").read_bytes()) == md5(data)
        assert [o.object_name for o in other.list_objects(bucket_name=bucket)] == ["a/"]
        found = other.list_objects(bucket_name=bucket, recursive=True)
        assert [(o.object_name, o.size) for o in found] == [("a/large", len(data)), ("a/unknown", len(data))]
        url = other.presigned_get_object(
            bucket_name=bucket, object_name="a/large", expires=datetime.timedelta(minutes=5)
        )
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert md5(answer.read()) == md5(data)
