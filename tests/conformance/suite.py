"""Runs tests of ceph/s3-tests and compares what became of them with the lists. `run` prepares what this needs."""

import argparse
import collections
import configparser
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.parse
from pathlib import Path

import boto3

HERE = Path(__file__).parent

# Longer than any test takes: lifecycle tests sleep through several shortened days.
TEST_SECONDS_MAX = 240

# As long as the cluster's days are.
SHORT_DAY_SECONDS = 4

# The keys that the suite's configuration file names.
KMS_KEYS = ("testkey-1", "testkey-2")

# These count what the whole account has, or clear away its users, groups and roles: nothing may run beside them.
ALONE = r"test_list_buckets_paginated$|/test_iam\.py::"


def main():
    options = arguments()
    cluster = json.loads(options.cluster.read_text())
    make_kms_keys(options.annulus, cluster)
    make_user(cluster)
    passing = (options.lists / "passing").read_text().split()
    with tempfile.TemporaryDirectory() as work:
        environment = suite_environment(cluster, cluster["endpoints"][options.gateway], Path(work))
        left_out = left_out_of(options.lists / "left-out")
        wanted = chosen(options, environment, passing, left_out)
        outcomes = run(wanted, options, environment, Path(work))
    options.outcomes.write_text(json.dumps(outcomes, indent=1, sort_keys=True) + "\n")
    passed = {test for test, outcome in outcomes.items() if outcome == "passed"}
    broken = [test for test in passing if test in outcomes and test not in passed]
    added = sorted(test for test in passed - set(passing) if not left_out(test))
    if options.update and added:
        (options.lists / "passing").write_text("".join(f"{test}\n" for test in sorted({*passing, *added})))
    report(outcomes, broken, added, sorted(filter(left_out, passed)))
    sys.exit(1 if broken or not passed else 0)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--cluster", "--annulus", "--suite", "--lists", "--outcomes"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--gateway", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--select", default="")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--all", action="store_true")
    return parser.parse_args()


def make_kms_keys(annulus, cluster):
    keys = {"AWS_ACCESS_KEY_ID": cluster["access_key"], "AWS_SECRET_ACCESS_KEY": cluster["secret_key"]}

    def kms(*command):
        command = [annulus, "kms", *command, "--endpoint", cluster["endpoints"][0], "--json"]
        return subprocess.run(command, env=os.environ | keys, check=True, capture_output=True, text=True).stdout

    there = kms("list")
    for key in KMS_KEYS:
        if f'"{key}"' not in there:
            kms("create", key)


def make_user(cluster):
    """The suite has the first account's users called as the second account is: it gives them policies, and nothing else."""
    name = account(cluster["endpoints"][0], cluster["alt_access_key"], cluster["alt_secret_key"])["user_id"]
    keys = {"aws_access_key_id": cluster["access_key"], "aws_secret_access_key": cluster["secret_key"]}
    iam = boto3.client("iam", endpoint_url=cluster["endpoints"][0], region_name="us-east-1", **keys)
    try:
        iam.create_user(UserName=name)
    except iam.exceptions.EntityAlreadyExistsException:
        pass


def left_out_of(path):
    """Whether a test is left out: lines are a pattern of names and the reason."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    patterns = [re.compile(line.split(maxsplit=1)[0]) for line in lines]
    return lambda test: any(pattern.fullmatch(name_of(test)) for pattern in patterns)


def name_of(test):
    """test_s3.py::test_object_copy of s3tests/functional/test_s3.py::test_object_copy, without parameters."""
    return test.partition("[")[0].rpartition("/")[2]


def chosen(options, environment, passing, left_out):
    if options.all:
        tests = collected(options, environment)
    elif options.update:
        tests = [test for test in collected(options, environment) if not left_out(test)]
    else:
        tests = passing
    tests = [test for test in tests if re.search(options.select, test)]
    return tests or sys.exit("there is no test to run")


def suite_environment(cluster, endpoint, work):
    """Nothing of the person's own AWS configuration reaches the suite."""
    config = work / "s3tests.conf"
    write_config(cluster, endpoint, config)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BOTO", "PYTEST_"))}
    return kept | {
        "S3TEST_CONF": str(config),
        "HOME": str(work),
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONPATH": str(HERE),
        "PYTHONWARNINGS": "ignore",
    }


def write_config(cluster, endpoint, path):
    """Two accounts of the cluster, as the suite's configuration file wants them."""
    address = urllib.parse.urlsplit(endpoint)
    config = configparser.RawConfigParser()
    config["DEFAULT"] = {"host": address.hostname, "port": str(address.port), "is_secure": "False"}
    config["fixtures"] = {"bucket prefix": "annulus-{random}-", "iam name prefix": "s3-tests-"}
    config["fixtures"]["iam path prefix"] = "/s3-tests/"
    main_account = account(endpoint, cluster["access_key"], cluster["secret_key"])
    alt_account = account(endpoint, cluster["alt_access_key"], cluster["alt_secret_key"])
    for section in ("iam", "iam root"):
        config[section] = main_account
    for section in ("s3 alt", "iam alt root"):
        config[section] = alt_account
    config["s3 tenant"] = main_account | {"tenant": ""}
    config["s3 main"] = main_account | {
        "api_name": "us-east-1",
        "kms_keyid": KMS_KEYS[0],
        "kms_keyid2": KMS_KEYS[1],
        "lc_debug_interval": str(SHORT_DAY_SECONDS),
    }
    with path.open("w") as file:
        config.write(file)


def account(endpoint, access_key, secret_key):
    keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key}
    owner = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys).list_buckets()["Owner"]
    return {
        "access_key": access_key,
        "secret_key": secret_key,
        "user_id": owner["ID"],
        "display_name": owner["DisplayName"],
        # local-cluster gives the second account its address, and no test asks for another's.
        "email": "alt@example.com",
    }


def pytest(options, environment, *more, **how):
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "one_by_one", *more]
    return subprocess.run(command, cwd=options.suite, env=environment, check=False, **how)


def collected(options, environment):
    found = pytest(options, environment, "--collect-only", "s3tests", capture_output=True, text=True)
    tests = [line for line in found.stdout.splitlines() if "::" in line]
    return tests or sys.exit(f"no test was found in {options.suite}:\n{found.stdout}{found.stderr}")


def run(tests, options, environment, work):
    """The outcome of each test: passed, failed or skipped, or that it has not ended."""
    outcomes = dict.fromkeys(tests, "not run")
    alone = [test for test in tests if re.search(ALONE, test)]
    for jobs, some in (0, alone), (options.jobs, [test for test in tests if test not in alone]):
        if some:
            outcomes |= run_some(some, jobs, options, environment, work)
    return outcomes


def run_some(tests, jobs, options, environment, work):
    names, outcomes = work / "tests", work / "outcomes"
    names.write_text("".join(f"{test}\n" for test in tests))
    outcomes.write_text("{}")
    limits = ("-n", str(jobs), "--dist", "worksteal", f"--timeout={TEST_SECONDS_MAX}", "--tb=line")
    pytest(options, environment | {"CONFORMANCE_OUTCOMES": str(outcomes)}, *limits, f"@{names}")
    return json.loads(outcomes.read_text())


def report(outcomes, broken, added, beyond):
    for test in broken:
        print(f"BROKEN  {test}: {outcomes[test]}")
    for test in added:
        print(f"NEW     {test}")
    for test in beyond:
        print(f"PASSES, THOUGH LEFT OUT  {test}")
    counts = collections.Counter(outcomes.values())
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()), f"({len(broken)} broken)")


main()
