"""s3s's own end-to-end tests (the crate s3s-e2e), whole. `tests/clients/run --with-s3s-e2e` compiles them first."""

import re

from helpers import needs, run

pytestmark = needs("s3s-e2e")

# Wants a session of a role that is named "example": that is no ARN, and there is no such role.
REFUSED = {"Advanced/STS/test_assume_role"}


def test_all_of_it(cluster):
    env = {**cluster.environment, "AWS_ENDPOINT_URL": cluster.endpoints[0], "RUST_LOG": "error"}
    said = run("s3s-e2e", env=env, check=False).decode(errors="replace")
    outcomes = re.findall(r"(PASSED|FAILED) .*\[(\w+/\w+/\w+)\]", said)
    assert len(outcomes) > 15, said
    assert {name for outcome, name in outcomes if outcome == "FAILED"} == REFUSED, said
