"""A pytest plugin: what became of each test, names of its own for what each makes, and a region for all."""

import json
import os
import sys

import boto3
import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef):
    """What one test leaves behind does not make the next ones fail: a bucket, as they take away what has their prefix, and a
    user, as the suite does not take it out of its groups, without which no user can be deleted."""
    suite = sys.modules.get("s3tests.functional")
    if fixturedef.argname == "setup_teardown":
        suite.prefix = suite.choose_bucket_prefix(template="annulus-{random}-")
    if fixturedef.argname == "iam_root":
        suite.config.iam_name_prefix = suite.choose_bucket_prefix(template="s3-tests-{random}-", max_len=16)


def signed_for_a_region(client):
    """The suite makes some clients of S3 for an empty region, as it has to for IAM's. S3 refuses what is signed for none."""

    def made(*arguments, **named):
        if named.get("service_name") == "s3" and named.get("region_name") == "":
            named["region_name"] = os.environ["AWS_DEFAULT_REGION"]
        return client(*arguments, **named)

    return made


class Outcomes:
    """Passed is what passed in its call, and whose set-up and clean-up did not fail."""

    def __init__(self, path):
        self.path, self.outcomes = path, {}

    def pytest_runtest_logreport(self, report):
        counts = report.when == "call" or not report.passed
        if counts and self.outcomes.get(report.nodeid) != "failed":
            self.outcomes[report.nodeid] = report.outcome
        # Each time, so that a run that is cut off says how far it came.
        with open(self.path, "w") as file:
            json.dump(self.outcomes, file)


def pytest_configure(config):
    boto3.client = signed_for_a_region(boto3.client)
    path = os.environ.get("CONFORMANCE_OUTCOMES")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcomes(path))
