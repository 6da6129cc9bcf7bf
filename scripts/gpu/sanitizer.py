"""NVIDIA's compute-sanitizer: finds it, lists its tools' options, and reads their results."""

import os
import re

NAME = "compute-sanitizer"

# Options by tool. The tools check memory accesses, uninitialized reads, barriers and, which is slow, races in shared memory.
TOOLS = {
    "memcheck": ["--tool", "memcheck", "--leak-check", "full", "--error-exitcode", "86"],
    "initcheck": ["--tool", "initcheck", "--error-exitcode", "86"],
    "synccheck": ["--tool", "synccheck", "--error-exitcode", "86"],
    "racecheck": ["--tool", "racecheck", "--error-exitcode", "86"],
}

# The last lines of each tool's output if it found nothing.
CLEAN = {
    "memcheck": [r"^=+ LEAK SUMMARY: 0 bytes leaked in 0 allocations\b", r"^=+ ERROR SUMMARY: 0 errors\b"],
    "racecheck": [r"^=+ RACECHECK SUMMARY: 0 hazards displayed\b"],
    "initcheck": [r"^=+ ERROR SUMMARY: 0 errors\b"],
    "synccheck": [r"^=+ ERROR SUMMARY: 0 errors\b"],
}


def find(name=NAME):
    """A tool's path, from the PATH or the toolkit; None if it is in neither."""
    toolkits = [os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    folders = os.environ.get("PATH", "").split(os.pathsep)
    for toolkit in filter(None, toolkits):
        folders += [os.path.join(toolkit, "bin"), os.path.join(toolkit, name)]
    # Some toolkits have a folder with that name.
    return next((file for file in (os.path.join(folder, name) for folder in folders) if os.path.isfile(file)), None)


def refusal(output):
    """Why compute-sanitizer does not support this device; None if it does."""
    found = re.search(r"^=+ Error: (Device not supported)", output, re.MULTILINE)
    return found and found[1]


def findings(tool, output):
    """A tool's findings in one line; None if it found nothing. A tool that prints no summary has checked nothing."""
    if all(re.search(line, output, re.MULTILINE) for line in CLEAN[tool]):
        return None
    summaries = re.findall(r"^=+ (\w+ SUMMARY: .*)$", output, re.MULTILINE)
    return "; ".join(summaries) or f"{tool} printed no summary"
