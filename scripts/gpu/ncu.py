"""Nsight Compute: measures the stalls of the kernels of a step."""

import csv
import re

DRAM = "dram__throughput.avg.pct_of_peak_sustained_elapsed"
TIME = "gpu__time_duration.sum"
STALL = re.compile(r"smsp__average_warps_issue_stalled_(\w+)_per_issue_active\.ratio")
SHOWN_STALLS = 3

HEAD = ["shape", "moments", "kernel", "µs", "of the memory's peak", "warps that wait per instruction, and for what"]

# A step is one launch or two; the first steps of a term are two. The section has all stalls that this GPU reports.
OPTIONS = [
    "--csv",
    *["--page", "raw"],
    *["--print-units", "base"],
    *["--clock-control", "none"],
    *["--kernel-name", "regex:.*(norms|update|lagged)_kernel"],
    *["--launch-skip", "6"],
    *["--launch-count", "2"],
    *["--section", "WarpStateStats"],
    *["--metrics", f"{TIME},{DRAM}"],
]


# What ncu prints where the GPU's counters cannot be read, as in a virtual machine.
REFUSALS = {
    "ERR_NVGPUCTRPERM": "this user may not read the GPU's counters (ERR_NVGPUCTRPERM)",
    "LibraryNotLoaded": "ncu cannot load the driver's profiling library (LibraryNotLoaded)",
}


def refusal(output):
    """Why the GPU's counters cannot be read on this machine; None if they can."""
    return next((reason for sign, reason in REFUSALS.items() if sign in output), None)


def number(text):
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None  # "n/a"


def row_of(shape, moments, launch):
    stalls = []
    for name, text in launch.items():
        stall, value = STALL.fullmatch(name), number(text)
        if stall and value is not None and stall[1] != "selected":  # which is no stall
            stalls.append((value, stall[1].replace("_", " ")))
    main = ", ".join(f"{value:.1f} {stall}" for value, stall in sorted(stalls, reverse=True)[:SHOWN_STALLS])
    kernel = re.search(r"\w+_kernel", launch["Kernel Name"])[0]
    time, share = number(launch[TIME]), number(launch[DRAM])
    return [
        shape,
        moments,
        f"`{kernel}`",
        "" if time is None else f"{time / 1000:.1f}",
        "" if share is None else f"{share:.1f} %",
        main,
    ]


def rows(shape, moments, log):
    """The report's rows from a log, which has names, units, and one line per launch: the first launch of each kernel."""
    lines = [line for line in log.splitlines() if line.startswith('"')]
    launches = {}
    for launch in csv.DictReader(lines):
        if launch["ID"] != "":
            launches.setdefault(launch["Kernel Name"], launch)
    return [row_of(shape, moments, launch) for launch in launches.values()]
