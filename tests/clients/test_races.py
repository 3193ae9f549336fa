"""Fifty writers race for one key through every gateway: exactly one may win, and all must agree who.

The requests go over plain sockets: each is sent but for its last byte, then all the last bytes follow at once, so that
the fifty are decided together. No client library retries behind our back.
"""

import selectors
import socket
import urllib.parse

import pytest

from helpers import KIB, body_of, read

WRITERS = 50
ROUNDS = 20
# An inline object and a chunked one take different ways to the same decision.
BODY_SIZES = (200, 64 * KIB)
ANSWER_SECONDS_MAX = 60


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_only_one_creates_a_key(cluster, bucket, round_):
    race(cluster, bucket, f"create-{round_}", round_, "If-None-Match", "*", {"IfNoneMatch": "*"})


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_only_one_replaces_an_etag(cluster, s3, bucket, round_):
    key = f"replace-{round_}"
    etag = s3.put_object(Bucket=bucket, Key=key, Body=b"the one they all know")["ETag"]
    race(cluster, bucket, key, round_, "If-Match", etag, {"IfMatch": etag})


def race(cluster, bucket, key, round_, header, value, condition):
    clients = [cluster.client(i) for i in range(len(cluster.endpoints))]
    bodies = [body_of(BODY_SIZES[round_ % 2], f"{round_}-{n}") for n in range(WRITERS)]
    requests = []
    for n, body in enumerate(bodies):
        url = clients[n % len(clients)].generate_presigned_url(
            "put_object", {"Bucket": bucket, "Key": key, **condition}
        )
        requests.append((urllib.parse.urlsplit(url), body))
    answers = send_at_once(requests, header, value)

    winners = [n for n, (status, _) in enumerate(answers) if status == 200]
    assert len(winners) == 1, sorted(status for status, _ in answers)
    # 409 is S3's word for a conflict with a write still under way; both mean that nothing was written.
    assert {status for status, _ in answers} <= {200, 412, 409}
    for client in clients:
        got = client.get_object(Bucket=bucket, Key=key)
        assert got["ETag"] == answers[winners[0]][1]
        assert read(client, bucket, key) == bodies[winners[0]]


def send_at_once(requests, header, value):
    """(status, ETag) of each, in order."""
    sockets = []
    try:
        for url, body in requests:
            connection = socket.create_connection((url.hostname, url.port), timeout=ANSWER_SECONDS_MAX)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sockets.append(connection)
            head = (
                f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\n{header}: {value}\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            connection.sendall(head.encode() + body[:-1])
        for connection, (_, body) in zip(sockets, requests):
            connection.sendall(body[-1:])
        return read_answers(sockets)
    finally:
        for connection in sockets:
            connection.close()


def read_answers(sockets):
    received = {connection: b"" for connection in sockets}
    with selectors.DefaultSelector() as selector:
        for connection in sockets:
            selector.register(connection, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(ANSWER_SECONDS_MAX)
            assert ready, f"{len(selector.get_map())} writers got no answer"
            for event, _ in ready:
                piece = event.fileobj.recv(65536)
                received[event.fileobj] += piece
                if not piece:
                    selector.unregister(event.fileobj)
    return [parse(received[connection]) for connection in sockets]


def parse(answer):
    lines = answer.split(b"\r\n\r\n", 1)[0].decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:] if ": " in line)}
    return (int(lines[0].split(" ")[1]) if lines[0] else 0), headers.get("etag")
