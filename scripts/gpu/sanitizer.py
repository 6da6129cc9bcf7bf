"""NVIDIA's compute-sanitizer: where it is, how its tools are called, and what they say."""

import os
import re

NAME = "compute-sanitizer"

# Options by tool: what kernels read and write, races in shared memory, reads of what nobody wrote, barriers.
TOOLS = {
    "memcheck": ["--tool", "memcheck", "--leak-check", "full", "--error-exitcode", "86"],
    "racecheck": ["--tool", "racecheck", "--error-exitcode", "86"],
    "initcheck": ["--tool", "initcheck", "--error-exitcode", "86"],
    "synccheck": ["--tool", "synccheck", "--error-exitcode", "86"],
}

# What each tool closes with when it found nothing.
CLEAN = {
    "memcheck": [r"^=+ LEAK SUMMARY: 0 bytes leaked in 0 allocations\b", r"^=+ ERROR SUMMARY: 0 errors\b"],
    "racecheck": [r"^=+ RACECHECK SUMMARY: 0 hazards displayed\b"],
    "initcheck": [r"^=+ ERROR SUMMARY: 0 errors\b"],
    "synccheck": [r"^=+ ERROR SUMMARY: 0 errors\b"],
}


def find(name=NAME):
    """A tool on the PATH or in the toolkit; None where it is in neither."""
    toolkits = [os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    folders = os.environ.get("PATH", "").split(os.pathsep)
    for toolkit in filter(None, toolkits):
        folders += [os.path.join(toolkit, "bin"), os.path.join(toolkit, name)]
    # Some toolkits have a folder of that name.
    return next((file for file in (os.path.join(folder, name) for folder in folders) if os.path.isfile(file)), None)


def refusal(output):
    """Why it does not watch this device; None where it does."""
    found = re.search(r"^=+ Error: (Device not supported)", output, re.MULTILINE)
    return found and found[1]


def findings(tool, output):
    """What a tool found, in one line; None where it found nothing. One that sums up nothing has not watched."""
    if all(re.search(line, output, re.MULTILINE) for line in CLEAN[tool]):
        return None
    summaries = re.findall(r"^=+ (\w+ SUMMARY: .*)$", output, re.MULTILINE)
    return "; ".join(summaries) or f"{tool} did not say what it found"
