"""Reads GoogleTest's results: its JSON reports (--gtest_output=json:…), and its output during a run."""

import json
import re


def tests(report):
    with open(report, encoding="utf-8") as file:
        return [test for suite in json.load(file)["testsuites"] for test in suite["testsuite"]]


def counts(report):
    """Passed, failed and skipped tests. A test that did not finish has not passed."""
    results = tests(report)
    skipped = sum(test["result"] in ("SKIPPED", "SUPPRESSED") for test in results)
    passed = sum(test["result"] == "COMPLETED" and "failures" not in test for test in results)
    return passed, len(results) - passed - skipped, skipped


def recorded(report, name):
    """A property that a test recorded (RecordProperty)."""
    return next((test[name] for test in tests(report) if name in test), None)


def progress(output):
    """The state of a run that may be unfinished: the number of passed tests, the running test, and the output without
    passed tests that printed nothing."""
    passed = len(re.findall(r"^\[ {7}OK \] ", output, re.MULTILINE))
    rest = re.sub(r"^\[ RUN {6}\] (\S+)\n\[ {7}OK \] \1 .*\n", "", output, flags=re.MULTILINE)
    lines = re.findall(r"^\[( RUN | {7}OK| {2}FAILED| {2}SKIPPED) *\] (\S+)", output, re.MULTILINE)
    running = lines[-1][1] if lines and lines[-1][0] == " RUN " else None
    return passed, running, rest
