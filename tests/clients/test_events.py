"""Whom a bucket tells of what, and what is told: boto3, the aws command and MinIO's library for Python."""

import http.server
import json
import os
import pathlib
import queue
import sys
import threading
import urllib.parse

import pytest

from helpers import refused, run

ARN = "arn:aws:sqs:us-east-1:123456789012:tests"


AWS = pathlib.Path(sys.executable).with_name("aws")


@pytest.fixture(scope="module")
def hook():
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


@pytest.fixture
def posts(hook):
    """The same, with nothing of other tests in it."""
    while not hook.empty():
        hook.get()
    return hook


def told(posts, bucket):
    """The next record that is about this bucket."""
    while True:
        message = posts.get(timeout=60)
        if "Records" in message and message["Records"][0]["s3"]["bucket"]["name"] == bucket:
            return message["Records"][0]


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
    records = [told(posts, bucket) for _ in range(3)]
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


def test_the_aws_command_asks_for_events(cluster, s3, bucket, posts):
    def aws(*arguments):
        env = {**cluster.environment, "AWS_DEFAULT_OUTPUT": "json", "AWS_PAGER": ""}
        return run(AWS, "--endpoint-url", cluster.endpoints[-1], "s3api", *arguments, "--bucket", bucket, env=env)

    topic = {
        "Id": "mine",
        "TopicArn": ARN.replace("sqs", "sns"),
        "Events": ["s3:ObjectRemoved:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "Prefix", "Value": "a"}]}},
    }
    asked = {"TopicConfigurations": [topic]}
    aws("put-bucket-notification-configuration", "--notification-configuration", json.dumps(asked))
    assert json.loads(aws("get-bucket-notification-configuration")) == asked
    for key in ["b", "a"]:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
        s3.delete_object(Bucket=bucket, Key=key)
    record = told(posts, bucket)
    assert (record["eventName"], record["s3"]["object"]["key"]) == ("ObjectRemoved:Delete", "a")
    assert record["s3"]["configurationId"] == "mine"
    aws("put-bucket-notification-configuration", "--notification-configuration", "{}")
    assert aws("get-bucket-notification-configuration").strip() == b""


def test_minios_library_for_python_asks_for_events(cluster, s3, bucket, posts):
    minio = pytest.importorskip("minio")
    from minio import notificationconfig as wanted

    client = minio.Minio(
        cluster.endpoints[0].removeprefix("http://"),
        access_key=cluster.main.access_key,
        secret_key=cluster.main.secret_key,
        region=cluster.region,
        secure=False,
    )
    prefix = wanted.PrefixFilterRule("in/")
    asked = wanted.QueueConfig(
        queue=ARN, events=["s3:ObjectCreated:*"], config_id="mine", prefix_filter_rule=prefix
    )
    client.set_bucket_notification(bucket, wanted.NotificationConfig(queue_config_list=[asked]))
    (kept,) = client.get_bucket_notification(bucket).queue_config_list
    assert (kept.queue, kept.events, kept.config_id) == (ARN, ["s3:ObjectCreated:*"], "mine")
    # What filters there are it understands from MinIO alone, which writes their names in small letters.
    (kept,) = s3.get_bucket_notification_configuration(Bucket=bucket)["QueueConfigurations"]
    assert kept["Filter"]["Key"]["FilterRules"] == [{"Name": "Prefix", "Value": "in/"}]
    for key in ["out", "in/a"]:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert told(posts, bucket)["s3"]["object"]["key"] == "in/a"
    # An answer that tells of events for as long as it is read is MinIO's own.
    with pytest.raises(minio.error.S3Error, match="NotImplemented"), client.listen_bucket_notification(bucket) as events:
        next(iter(events))
    client.delete_bucket_notification(bucket)
    assert "QueueConfigurations" not in s3.get_bucket_notification_configuration(Bucket=bucket)
