"""The TypeScript suite and `npm run bench`, if the check was built with --node."""

import json
import os
import shutil

from .execute import execute
from .products import BENCHMARK, JEST, NODE, ROOT

# Processes take turns on a GPU, and each one takes memory there.
JEST_WORKERS = 4

# Seconds of the benchmark's limit that are kept for the setting that is being measured when the time is up.
LAST_SETTING = 15

# The most important settings come first, in case the run is cut off.
BENCHMARK_OPTIONS = [
    *["--device", "cuda"],
    *["--shapes", "large,resnet50,many,layers,mnist"],
    *["--terms", "3,1,10,2"],
    *["--rounds", "5"],
    *["--python", "python3"],
    *["--patience", "45"],
]


def absence():
    """Why the parts that need Node cannot run; None if they can."""
    if shutil.which("node") is None:
        return "there is no Node here"
    absent = [file for file in NODE if not os.path.exists(os.path.join(ROOT, file))]
    return f"`scripts/gpu-check --prepare --node` has not built {', '.join(absent)}" if absent else None


def suite(report, limit):
    """Runs the TypeScript suite on the GPU; jest writes its results to `report`."""
    options = ["--json", f"--outputFile={report}", "--selectProjects=cuda", f"--maxWorkers={JEST_WORKERS}"]
    return execute(["node", JEST, *options], limit)


def suite_counts(report):
    """Passed, failed and skipped tests. A file that does not load counts as one failure."""
    with open(report, encoding="utf-8") as file:
        result = json.load(file)
    failed = result["numFailedTests"] + result["numRuntimeErrorTestSuites"]
    return result["numPassedTests"], failed, result["numPendingTests"] + result["numTodoTests"]


def benchmark(folder, limit):
    """Runs the benchmark; returns the run, the numbers of settings measured and left, and the tables. No figure is
    a failure."""
    results = os.path.join(folder, "results.json")
    if os.path.exists(results):
        os.remove(results)  # an earlier run's
    seconds = str(max(1, int(limit) - LAST_SETTING))
    command = ["node", BENCHMARK]
    done = execute([*command, *BENCHMARK_OPTIONS, "--figures", "--seconds", seconds, "--out", folder], limit)
    if not os.path.exists(results):
        return done, 0, 0, []
    with open(results, encoding="utf-8") as file:
        found = json.load(file)
    tables = execute([*command, "--tables", "--out", folder], LAST_SETTING)
    return done, len(found["settings"]), found.get("left", 0), json.loads(tables.output)
