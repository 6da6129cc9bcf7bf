"""The TypeScript suite and `npm run bench`, where Node was carried."""

import json
import os
import shutil

from .execute import execute
from .products import BENCHMARK, JEST, NODE, ROOT

# Processes take turns on a GPU, and each has memory of its own there.
JEST_WORKERS = 2

# Of the benchmark's limit, what is left for the setting that is being measured when the time is up.
LAST_SETTING = 15

# What matters most comes first: a run that is cut off has it.
BENCHMARK_OPTIONS = [
    *["--device", "cuda"],
    *["--shapes", "large,resnet50,many,layers,mnist"],
    *["--terms", "3,1,10,2"],
    *["--rounds", "5"],
    *["--python", "python3"],
    *["--patience", "45"],
]


def absence():
    """Why nothing of Node can run; None where it can."""
    if shutil.which("node") is None:
        return "there is no Node here"
    absent = [file for file in NODE if not os.path.exists(os.path.join(ROOT, file))]
    return f"`scripts/gpu-check --prepare --node` has not built {', '.join(absent)}" if absent else None


def suite(report, limit):
    """Runs the TypeScript suite on the GPU, which writes what it found to `report`."""
    options = ["--json", f"--outputFile={report}", "--selectProjects=cuda", f"--maxWorkers={JEST_WORKERS}"]
    return execute(["node", JEST, *options], limit)


def suite_counts(report):
    """Passed, failed and skipped tests. A file that does not even load counts as one failure."""
    with open(report, encoding="utf-8") as file:
        result = json.load(file)
    failed = result["numFailedTests"] + result["numRuntimeErrorTestSuites"]
    return result["numPassedTests"], failed, result["numPendingTests"] + result["numTodoTests"]


def benchmark(folder, limit):
    """The benchmark's run, how many settings it measured and left, and its tables. None of its figures decides anything."""
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
