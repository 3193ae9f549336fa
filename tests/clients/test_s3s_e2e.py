"""s3s's own end-to-end tests (the crate s3s-e2e), whole. `tests/clients/run --with-s3s-e2e` compiles them first."""

from helpers import needs, run

pytestmark = needs("s3s-e2e")


def test_all_of_it(cluster):
    env = {**cluster.environment, "AWS_ENDPOINT_URL": cluster.endpoints[0], "RUST_LOG": "error"}
    said = run("s3s-e2e", env=env).decode(errors="replace")
    assert "PASSED" in said and "FAILED" not in said, said
