"""What became of mint's tests: counts by part, and every failure with the reason that `explained` has for it, or without one."""

import collections
import json
import re
import sys
from pathlib import Path


# As `timeout` says it.
TIMED_OUT = 124


def main(log, explained):
    reasons = reasons_of(Path(explained))
    wrong = False
    for part in sorted(Path(log).iterdir()):
        outcomes = outcomes_of(part / "outcomes")
        counts = collections.Counter(outcome["status"] for outcome in outcomes)
        code = int((part / "code").read_text())
        failures = [outcome for outcome in outcomes if outcome["status"] == "FAIL"]
        unexplained = [failure for failure in failures if not reason(reasons, part.name, failure)]
        # A part whose tests fail may say so by its code.
        ended = bool(counts["PASS"]) and (code == 0 or bool(failures)) and code != TIMED_OUT
        wrong = wrong or bool(unexplained) or not ended
        print(f"{part.name}: {counts['PASS']} passed, {counts['FAIL']} failed, {counts['NA']} not applicable", end="")
        print("" if ended else f"; it did not run to its end (exit code {code}): {part / 'errors'}")
        for failure in failures:
            why = reason(reasons, part.name, failure) or "NOT EXPLAINED: " + failure.get("error", "")[:300]
            print(f"  {title(failure)}: {why}")
    sys.exit(1 if wrong else 0)


def outcomes_of(path):
    """Lines of JSON; what else a part prints is not about outcomes."""
    outcomes = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            outcome = json.loads(line)
        except ValueError:
            continue
        if isinstance(outcome, dict) and "status" in outcome:
            outcomes.append(outcome | {"status": outcome["status"].upper(), "error": str(outcome.get("error", ""))})
    return outcomes


def title(outcome):
    """What the test is called: some say it in their name, others as a function, with where that was compiled before it."""
    name = str(outcome.get("name", ""))
    name = name if ":" in name else str(outcome.get("function") or name)
    return re.sub(r"^/\S*/", "", " ".join(name.split()))[:160]


def reasons_of(path):
    """Lines are a part, a pattern of what it says of a failure, and the reason; the three are parted by two spaces."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    triples = [re.split(r" {2,}", line, maxsplit=2) for line in lines]
    return [(part, re.compile(pattern), why) for part, pattern, why in triples]


def reason(reasons, part, failure):
    said = f"{title(failure)}: {failure['error']}"
    return next((why for of, pattern, why in reasons if of == part and pattern.search(said)), None)


main(*sys.argv[1:])
