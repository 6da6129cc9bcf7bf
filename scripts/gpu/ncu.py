"""Nsight Compute: measures the stalls of the kernels of a step."""

import csv
import re

DRAM = "dram__throughput.avg.pct_of_peak_sustained_elapsed"
TIME = "gpu__time_duration.sum"
STALL = re.compile(r"smsp__average_warps_issue_stalled_(\w+)_per_issue_active\.ratio")
SHOWN_STALLS = 3

HEAD = ["shape", "kernel", "µs", "of the memory's peak", "warps that wait per instruction, and for what"]

# A step is two launches: skip two steps, and profile the third. The section has all stalls that this GPU reports.
OPTIONS = [
    "--csv",
    *["--page", "raw"],
    *["--print-units", "base"],
    *["--clock-control", "none"],
    *["--kernel-name", "regex:(norms|update)_kernel"],
    *["--launch-skip", "4"],
    *["--launch-count", "2"],
    *["--section", "WarpStateStats"],
    *["--metrics", f"{TIME},{DRAM}"],
]


def refusal(output):
    """Why the GPU's counters cannot be read on this machine; None if they can."""
    if "ERR_NVGPUCTRPERM" in output:
        return "this user may not read the GPU's counters (ERR_NVGPUCTRPERM)"
    return None


def number(text):
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None  # "n/a"


def row_of(shape, launch):
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
        f"`{kernel}`",
        "" if time is None else f"{time / 1000:.1f}",
        "" if share is None else f"{share:.1f} %",
        main,
    ]


def rows(shape, log):
    """The report's rows from a log, which has names, units, and one line per launch."""
    lines = [line for line in log.splitlines() if line.startswith('"')]
    return [row_of(shape, launch) for launch in csv.DictReader(lines) if launch["ID"] != ""]
