"""A Docker registry that keeps its images here: pushed in pieces, pulled, removed and collected by its own S3 driver."""

import hashlib
import json
import urllib.error
import urllib.request

import pytest

from helpers import MIB, body_of, free_address, needs, run, server, wait_for

pytestmark = needs("docker-registry")

CONFIG = """
version: 0.1
log: {level: info}
storage:
  s3:
    accesskey: %s
    secretkey: %s
    region: %s
    regionendpoint: %s
    bucket: %s
    secure: false
    v4auth: true
    chunksize: 5242880
    rootdirectory: /images
  delete: {enabled: true}
  redirect: {disable: true}
  maintenance:
    uploadpurging: {enabled: false}
http: {addr: "%s"}
"""
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """The registry's HTTP API, as `docker push` and `docker pull` use it."""

    def __init__(self, address):
        self.base = f"http://{address}"

    def ask(self, method, path, body=None, **headers):
        url = path if path.startswith("http") else self.base + path
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(url, data=body, method=method, headers=named)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.headers, answer.read()

    def ready(self):
        try:
            self.ask("GET", "/v2/")
            return True
        except OSError:
            return False

    def push_blob(self, name, data, piece):
        location = self.ask("POST", f"/v2/{name}/blobs/uploads/")[0]["Location"]
        for at in range(0, len(data), piece):
            location = self.push_piece(location, at, data[at : at + piece])
        digest = digest_of(data)
        self.ask("PUT", f"{location}&digest={digest}", b"")
        return {"size": len(data), "digest": digest}

    def push_piece(self, location, at, piece):
        octets = {"Content_Type": "application/octet-stream", "Content_Range": f"{at}-{at + len(piece) - 1}"}
        return self.ask("PATCH", location, piece, **octets)[0]["Location"]

    def push(self, name, tag, layers, piece=7 * MIB):
        config = self.push_blob(name, json.dumps({"architecture": "amd64", "os": "linux"}).encode(), piece)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", **config},
            "layers": [
                {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", **self.push_blob(name, layer, piece)}
                for layer in layers
            ],
        }
        headers, _ = self.ask("PUT", f"/v2/{name}/manifests/{tag}", json.dumps(manifest).encode(), Content_Type=MANIFEST)
        return headers["Docker-Content-Digest"]

    def pull(self, name, reference):
        manifest = json.loads(self.ask("GET", f"/v2/{name}/manifests/{reference}", Accept=MANIFEST)[1])
        return [self.ask("GET", f"/v2/{name}/blobs/{layer['digest']}")[1] for layer in manifest["layers"]]


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.fixture
def config(cluster, bucket, tmp_path):
    """For each gateway a registry that keeps its images in the same bucket."""

    def write(gateway, address):
        file = tmp_path / f"registry-{gateway}.yml"
        account = (cluster.main.access_key, cluster.main.secret_key)
        file.write_text(CONFIG % (*account, cluster.region, cluster.endpoints[gateway], bucket, address))
        return file

    return write


@pytest.fixture
def start(config, tmp_path):
    def started(gateway):
        address = free_address()
        log = tmp_path / f"registry-{gateway}.log"
        return Registry(address), server("docker-registry", "serve", config(gateway, address), log=log)

    return started


def test_images_are_pushed_pulled_and_collected(start, config, s3, bucket):
    (here, first), (there, second) = start(0), start(-1)
    with first, second:
        wait_for(lambda: here.ready() and there.ready())
        # Pieces smaller and larger than the driver's parts: it copies what it has before it goes on.
        old = [body_of(23 * MIB, 1), body_of(3 * MIB, 2)]
        new = [old[0], body_of(11 * MIB, 3)]
        old_digest = here.push("tools/one", "v1", old)
        here.push("tools/one", "v2", new, piece=2 * MIB)
        assert there.pull("tools/one", "v1") == old
        assert there.pull("tools/one", "v2") == new
        assert json.loads(there.ask("GET", "/v2/tools/one/tags/list")[1])["tags"] == ["v1", "v2"]
        assert json.loads(there.ask("GET", "/v2/_catalog")[1])["repositories"] == ["tools/one"]
        there.ask("DELETE", f"/v2/tools/one/manifests/{old_digest}")

    # Collecting is done while nobody serves; it removes what no manifest names any more.
    run("docker-registry", "garbage-collect", config(0, free_address()))
    blobs = [o["Key"] for o in s3.list_objects_v2(Bucket=bucket, Prefix="images/docker/registry/v2/blobs")["Contents"]]
    assert any(digest_of(new[1])[7:] in key for key in blobs)
    assert not any(digest_of(old[1])[7:] in key for key in blobs)
    registry, process = start(-1)
    with process:
        wait_for(registry.ready)
        assert registry.pull("tools/one", "v2") == new
        with pytest.raises(urllib.error.HTTPError, match="404"):
            registry.pull("tools/one", old_digest)


def test_an_upload_that_was_given_up_leaves_no_data(start, s3, bucket):
    registry, process = start(0)
    with process:
        wait_for(registry.ready)
        location = registry.ask("POST", "/v2/tools/two/blobs/uploads/")[0]["Location"]
        registry.ask("DELETE", registry.push_piece(location, 0, body_of(6 * MIB)))
    # Its own state of an upload of no bytes it writes once more, at the end of the very request that gives up.
    keys = [o["Key"] for o in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    assert all(key.endswith("/hashstates/sha256/0") for key in keys)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
