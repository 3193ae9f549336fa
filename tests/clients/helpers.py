"""Small things the client tests share: bodies that follow from a seed, checksums computed apart, refusals, commands."""

import base64
import contextlib
import hashlib
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import zlib

import awscrt.checksums
import botocore.exceptions
import pytest

KIB = 1024
MIB = 1024 * KIB


def tool(name):
    """Where a command is: among the Python clients, else on the PATH; nothing where it could not be had."""
    ours = pathlib.Path(sys.executable).with_name(name)
    return str(ours) if ours.exists() else shutil.which(name)


def needs(*names):
    """Skips a test, and says why, where one of these commands is missing."""
    missing = [name for name in names if not tool(name)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed, and not to be had here: {', '.join(missing)}")


def body_of(size, seed=0):
    return random.Random(f"{size}-{seed}").randbytes(size)


def md5(data):
    return hashlib.md5(data).hexdigest()


def sha256_of_file(path):
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else hashlib.sha256(file.read()).hexdigest()
        )


CHECKSUMS = {
    "CRC32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "CRC32C": lambda data: awscrt.checksums.crc32c(data).to_bytes(4, "big"),
    "CRC64NVME": lambda data: awscrt.checksums.crc64nvme(data).to_bytes(8, "big"),
    "SHA1": lambda data: hashlib.sha1(data).digest(),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
}


def checksum(algorithm, data):
    return base64.b64encode(CHECKSUMS[algorithm](data)).decode()


@contextlib.contextmanager
def refused(*codes):
    """The body must be refused with one of these S3 error codes (HEAD has no body, so there the code is the status)."""
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        yield caught
    assert caught.value.response["Error"]["Code"] in codes


def absent(client, bucket, key):
    try:
        client.head_object(Bucket=bucket, Key=key)
    except botocore.exceptions.ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    return False


def read(client, bucket, key, **more):
    return client.get_object(Bucket=bucket, Key=key, **more)["Body"].read()


def wait_for(condition, seconds=60):
    """Until it holds; its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.05)


def run(*command, env=None, timeout=300, check=True):
    """A command's standard output; its failure shows all it said."""
    done = subprocess.run(
        [str(c) for c in command],
        env={**os.environ, **(env or {})},
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert not check or done.returncode == 0, f"{command}: exit code {done.returncode}\n{said}"
    return done.stdout


def plant(directory, files, large, suffix=lambda n: "bin"):
    """A tree of that many files of up to 50 KiB with names that clients stumble over, and a large one; its directory."""
    for n in range(files):
        file = directory / f"d{n % 7}" / f"file {n} ü+%.{suffix(n)}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body_of((n * 1009) % (50 * KIB), n))
    (directory / "large").write_bytes(body_of(large))
    return directory


def tree_of(directory):
    """{relative path: bytes} of every file below."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def free_address():
    """Below the ports of connections, which could take it before it is bound."""
    while True:
        address = ("127.0.0.1", random.randrange(10_000, 32_000))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(address)
            return "%s:%d" % address


@contextlib.contextmanager
def server(*command, env=None, log):
    """A process that runs beside the test; its last words go to the log."""
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [str(c) for c in command],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        print(log.read_text(errors="replace"))


@contextlib.contextmanager
def mount(*command, point, env=None, log):
    """A file system that a process serves in the foreground. Skips the test where mounting is impossible."""
    if not (os.path.exists("/dev/fuse") and os.access("/dev/fuse", os.R_OK | os.W_OK)):
        pytest.skip("no /dev/fuse to mount with")
    if not shutil.which("fusermount3"):
        pytest.skip("fusermount3 is not installed")
    point.mkdir()
    with server(*command, env=env, log=log) as process:
        try:
            wait_for(lambda: os.path.ismount(point) or process.poll() is not None)
            said = log.read_text(errors="replace")
            if process.poll() is not None and "Operation not permitted" in said:
                pytest.skip("mounting is not permitted here")
            assert process.poll() is None, said
            yield process
        finally:
            if os.path.ismount(point):
                subprocess.run(["fusermount3", "-uz", point], check=False)
