"""boto3: whom a bucket tells of what, and what is told."""

import http.server
import json
import os
import queue
import threading
import urllib.parse

import pytest

from helpers import refused

ARN = "arn:aws:sqs:us-east-1:123456789012:tests"


@pytest.fixture(scope="module")
def posts():
    """What the webhook `tests` of the cluster is sent."""
    port = os.environ.get("CLIENTS_WEBHOOK_PORT")
    if not port:
        pytest.skip("the cluster has no webhook of ours: only one that tests/clients/run started has")
    arrived = queue.Queue()

    class Webhook(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            arrived.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Webhook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield arrived
    server.shutdown()


def test_what_was_asked_for_is_told_in_order(s3, s3_elsewhere, bucket, posts):
    filters = [{"Name": "prefix", "Value": "in/"}, {"Name": "suffix", "Value": ".txt"}]
    asked = {
        "Id": "mine",
        "QueueArn": ARN,
        "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"],
        "Filter": {"Key": {"FilterRules": filters}},
    }
    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [asked]}
    )
    test = posts.get(timeout=60)
    assert (test["Event"], test["Bucket"]) == ("s3:TestEvent", bucket)
    (kept,) = s3_elsewhere.get_bucket_notification_configuration(Bucket=bucket)["QueueConfigurations"]
    kept["Filter"]["Key"]["FilterRules"] = [
        {**rule, "Name": rule["Name"].lower()} for rule in kept["Filter"]["Key"]["FilterRules"]
    ]
    assert kept == asked

    key = "in/a b+ü.txt"
    s3.put_object(Bucket=bucket, Key="in/other", Body=b"x")
    s3.put_object(Bucket=bucket, Key=key, Body=b"hello")
    s3_elsewhere.copy_object(Bucket=bucket, Key=key, CopySource={"Bucket": bucket, "Key": "in/other"})
    s3.delete_object(Bucket=bucket, Key=key)
    records = [posts.get(timeout=60)["Records"][0] for _ in range(3)]
    names = [record["eventName"] for record in records]
    assert names == ["ObjectCreated:Put", "ObjectCreated:Copy", "ObjectRemoved:Delete"]
    for record in records:
        assert urllib.parse.unquote_plus(record["s3"]["object"]["key"]) == key
        assert record["s3"]["bucket"]["name"] == bucket
    assert records[0]["s3"]["object"]["size"] == 5
    sequencers = [record["s3"]["object"]["sequencer"] for record in records]
    assert sequencers == sorted(set(sequencers))

    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    assert "QueueConfigurations" not in s3.get_bucket_notification_configuration(Bucket=bucket)


def test_what_nobody_could_be_told_is_refused(s3, bucket, posts):
    for events, arn in [(["s3:ObjectCreated:*"], ARN + "-unknown"), (["s3:ObjectCreated:Never"], ARN)]:
        asked = {"QueueConfigurations": [{"QueueArn": arn, "Events": events}]}
        with refused("InvalidArgument"):
            s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=asked)
