"""A pytest plugin: what became of each test, and a prefix of its own for the buckets of each."""

import json
import os
import sys

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef):
    """A bucket that one test leaves behind does not make the next ones fail, which take away what has their prefix."""
    if fixturedef.argname == "setup_teardown":
        suite = sys.modules["s3tests.functional"]
        suite.prefix = suite.choose_bucket_prefix(template="annulus-{random}-")


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
    path = os.environ.get("CONFORMANCE_OUTCOMES")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcomes(path))
