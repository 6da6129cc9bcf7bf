"""The parts of scripts/gpu-check, in order, with their time limits."""

import os
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass, field, replace
from typing import Callable, List, Optional, Tuple

from . import googletest, ncu, node, peers, sanitizer
from .execute import execute
from .products import PROGRAMS, STEPS, STEPS_BEFORE, TESTS, program

# Tests of the executor's assumptions about CUDA's runtime; they make calls that fail.
SEMANTICS = "RuntimeSemantics.*"
# Tests whose digests are the same on every machine. They are long, and under a checker they test nothing more.
DIGESTS = "Digest*"

# A checker that watches each access of a kernel takes up to this many times as long.
SLOWER = 48

# Seconds that a tool of the checker gets. With racecheck, 27 tests took 34 to 39 s on an H100 and an H200, and with the
# others up to 4 s; there are more tests now.
QUICK_TOOL, RACECHECK = 20, 160

# What ncu looks at: a shape, a form of the moments, and whether it is the step with current or with lagged scales.
PROFILED = [
    ("one tensor of 50M", "per-term", "step"),
    ("3,000 tensors of 3,500", "per-term", "step"),
    ("one tensor of 50M", "per-term", "lagged"),
    ("one tensor of 50M", "one pair, bfloat16", "step"),
    ("one tensor of 50M", "one pair, bfloat16", "lagged"),
    ("one tensor of 50M", "summed, 8bit", "lagged"),
]
COMPARED = ["one tensor of 50M", "ResNet-50", "3,000 tensors of 3,500", "perceptron"]
WITH_PEERS = ["one tensor of 50M", "ResNet-50", "MNIST CNN"]
TERMS = 3

# What each peer is compared with: how our step stores moments, and whether its scales are lagged. A fused Adam of one
# term reads and writes 28 bytes per parameter, as three terms do in the second form; in the last one they move 22.
PER_TERM = [("per-term", False)]
SUMMED = [("summed", False)]
FORMS_FOR = {
    "eager": PER_TERM,
    "foreach": PER_TERM,
    "fused": [*SUMMED, ("one pair, bfloat16", True), ("one pair and gradients, bfloat16", True)],
    "compiled": SUMMED,
}

# The number of turns of each variant, if there is time.
TURNS = 5

Table = Tuple[str, List[list]]


@dataclass
class Found:
    outcome: str  # "passed", "failed" or "not run"
    passed: Optional[int] = None  # tests, as `failed` and `skipped`
    failed: Optional[int] = None
    skipped: Optional[int] = None
    remark: str = ""  # one line; why it did not run
    log: str = ""  # the end of what it printed
    tables: List[Table] = field(default_factory=list)  # a title and rows, of which the first is the head


@dataclass
class Part:
    name: str
    limit: float  # seconds
    run: Callable[[float], Found]

    def left_out(self):
        return replace(self, run=lambda _: Found("not run", remark="it was left out"))


def outcome_of(execution, limit, report, counts_of):
    """The outcome of a program that writes a report of its tests. Without a report it has failed."""
    if execution.timed_out:
        return Found("failed", remark=execution.end(limit), log=execution.output)
    if not os.path.exists(report):
        return Found("failed", remark=f"no report, {execution.end(limit)}", log=execution.output)
    passed, failed, skipped = counts_of(report)
    good = execution.status == 0 and failed == 0 and passed > 0
    remark = "" if execution.status == 0 or failed else execution.end(limit)
    return Found("passed" if good else "failed", passed, failed, skipped, remark, execution.output)


def rows_of(output):
    """The table that gpu_steps prints."""
    return [line.split("\t") for line in output.splitlines() if "\t" in line]


class Check:
    """The parts, and the results that later parts take from earlier ones."""

    def __init__(self, report):
        self.figures = os.path.splitext(report)[0] + "-speed"
        self.step_times = {}  # microseconds of a step, by shape, terms, form and whether its scales are lagged

    # ---- The tests ----

    def run_tests(self, filters, limit, before=(), options=()):
        """Runs the native tests, with `before` under a checker; returns the outcome and the output."""
        with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
            report = os.path.join(folder, "report.json")
            arguments = [f"--gtest_filter={filters}", f"--gtest_output=json:{report}", *options]
            execution = execute([*before, program(TESTS), *arguments], limit)
            found = outcome_of(execution, limit, report, googletest.counts)
            passed, running, found.log = googletest.progress(execution.output)
            if execution.timed_out and running is not None:
                # It has then written no report; its output says how far it came.
                found = replace(found, passed=passed, failed=1, remark=f"{found.remark} in {running}")
            if found.outcome == "passed":
                digest = googletest.recorded(report, "digest")
                found.remark = f"digest {digest}" if digest else ""
            return found, execution.output

    def tests(self, filters, limit):
        if not os.path.exists(program(TESTS)):
            return Found("not run", remark="GoogleTest was not there to build it")
        return self.run_tests(filters, limit)[0]

    def sanitized(self, tool, limit):
        checker = sanitizer.find()
        if checker is None:
            return Found("not run", remark=f"there is no {sanitizer.NAME} here")
        if not os.path.exists(program(TESTS)):
            return Found("not run", remark="GoogleTest was not there to build the tests")
        filters = f"-{SEMANTICS}:{DIGESTS}"
        before = [checker, *sanitizer.TOOLS[tool]]
        found, output = self.run_tests(filters, limit, before, [f"--divide-rounds={SLOWER}"])
        refused = sanitizer.refusal(output)
        if refused is not None:
            return Found("not run", remark=refused)
        if found.outcome == "failed":
            return found
        remark = sanitizer.findings(tool, output)
        return found if remark is None else replace(found, outcome="failed", remark=remark)

    # ---- Times ----

    def timings(self, limit):
        execution = execute([program(STEPS)], limit)
        rows = rows_of(execution.output)
        current, lagged = [rows[0].index(name) for name in ("step µs", "lagged µs")] if rows else (0, 0)
        for row in rows[1:]:
            self.step_times[(*row[:3], False)] = float(row[current])
            self.step_times[(*row[:3], True)] = float(row[lagged])
        remark = f"{max(0, len(rows) - 1)} settings measured"
        # It measures the most important settings first, so a run that was cut off is still useful.
        good = len(rows) > 1 and (execution.status == 0 or execution.timed_out)
        if execution.status != 0:
            remark += f", {execution.end(limit)}"
        said = [line for line in execution.output.splitlines() if line and "\t" not in line]
        title = said[0].rstrip(".") if said else "Steps"
        tables = [(title, rows)] if len(rows) > 1 else []
        return Found("passed" if good else "failed", remark=remark, log=execution.output, tables=tables)

    def profile(self, limit):
        profiler = sanitizer.find("ncu")
        if profiler is None:
            return Found("not run", remark="there is no ncu here")
        deadline = time.monotonic() + limit
        rows = []
        for index, (shape, form, which) in enumerate(PROFILED):
            with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
                log = os.path.join(folder, "ncu.csv")
                steps = [program(STEPS), "--rounds", "1", "--shape", shape, "--terms", str(TERMS)]
                command = [profiler, *ncu.OPTIONS, "--log-file", log, *steps, "--form", form, "--only", which]
                share = (deadline - time.monotonic()) / (len(PROFILED) - index)
                execution = execute(command, share)
                text = ""
                if os.path.exists(log):
                    with open(log, encoding="utf-8", errors="replace") as file:
                        text = file.read()
            refused = ncu.refusal(text + execution.output)
            if refused is not None:
                return Found("not run", remark=refused)
            found = ncu.rows(shape, form if which == "step" else f"{form}, lagged", text)
            rows += found
            if not found or execution.status != 0:
                tables = [("Stalls of the kernels", [ncu.HEAD, *rows])] if rows else []
                remark = f"{shape}, {form}, {which}: {len(found)} kernels, {execution.end(share)}"
                return Found("failed", remark=remark, log=execution.output + text, tables=tables)
        return Found("passed", tables=[("Stalls of the kernels", [ncu.HEAD, *rows])])

    def variants(self, limit):
        """Runs gpu_steps with each variant of the kernels in turn, several times. Gives the median ratio of a variant's
        time to the plain kernels' time in the same turn."""
        names = sorted(name[len(STEPS) + 1 :] for name in os.listdir(PROGRAMS) if name.startswith(f"{STEPS}_"))
        if not names:
            return Found("not run", remark="no variant was built")
        deadline = time.monotonic() + limit
        ratios, failed, log, turns, longest = {}, [], "", 0, 0.0
        while turns < TURNS and deadline - time.monotonic() > longest:
            begin = time.monotonic()
            plain = None
            for name in [None, *(name for name in names if name not in failed)]:
                times, problem = self.variant_times(name, deadline)
                if name is None:
                    plain = times
                if problem is None and times.keys() != plain.keys():
                    problem = f"it measured {len(times)} settings of {len(plain)}"
                if problem is not None:
                    failed.append(name or "plain")
                    log += f"{failed[-1]}: {problem}\n"
                    if name is None:
                        return Found("failed", remark="the plain kernels failed", log=log)
                    continue
                if name is not None:
                    for key, values in times.items():
                        pairs = [value / of_plain for value, of_plain in zip(values, plain[key])]
                        ratios.setdefault((name, key), []).append(pairs)
            turns += 1
            longest = max(longest, time.monotonic() - begin)
        rows = [["variant", "shape", "I", "moments", "norms ÷ plain", "update ÷ plain", "step ÷ plain"]]
        for (name, key), turn in ratios.items():
            rows.append([f"`{name}`", *key, *(f"{statistics.median(column):.3f}" for column in zip(*turn))])
        remark = f"{turns} turns" + (f"; failed: {', '.join(failed)}" if failed else "")
        tables = [("Variants of the kernels", rows)] if len(rows) > 1 else []
        return Found("failed" if failed else "passed", remark=remark, log=log, tables=tables)

    def variant_times(self, name, deadline):
        """The norms', the update's and the step's times by setting; and what went wrong, or None. A form at a time: the
        earlier commit's program takes no more."""
        steps = STEPS if name is None else f"{STEPS}_{name}"
        options = ["--rounds", "7", "--terms", str(TERMS)]
        if steps != STEPS_BEFORE:
            options += ["--only", "step"]
        for shape in COMPARED:
            options += ["--shape", shape]
        times = {}
        for form in ("per-term", "summed"):
            left = deadline - time.monotonic()
            execution = execute([program(steps), *options, "--form", form], left)
            found = {tuple(row[:3]): [float(row[k]) for k in (3, 5, 7)] for row in rows_of(execution.output)[1:]}
            if execution.status != 0 or not found:
                return times, f"{execution.end(left)}\n{execution.output}"
            times.update(found)
        return times, None

    def peers(self, limit):
        python = shutil.which("python3")
        if python is None:
            return Found("not run", remark="there is no python3 here")
        deadline = time.monotonic() + limit
        listed = execute([program(STEPS), "--shapes"], limit)
        lengths = dict(rows_of(listed.output))
        rows = [["peer", "shape", "I", "µs", "our moments", "÷ our step"]]
        reasons = []
        for index, (name, title) in enumerate(peers.PEERS.items()):
            share = (deadline - time.monotonic()) / (len(peers.PEERS) - index)
            with peers.Peer(python, name, share) as peer:
                try:
                    peer.ask("version")
                    for shape in WITH_PEERS:
                        if name == "compiled" and lengths[shape].count(",") >= peers.MOST_COMPILED:
                            continue
                        took = peer.step_time(lengths[shape], TERMS)
                        for form, is_lagged in FORMS_FOR[name]:
                            ours = self.step_times.get((shape, str(TERMS), form, is_lagged))
                            ratio = f"{took / ours:.2f}" if ours else ""
                            moments = f"{form}, lagged" if is_lagged else form
                            rows.append([title, shape, TERMS, f"{took:.0f}", moments, ratio])
                except peers.Silence as silence:
                    reasons.append(f"{title}: {silence}")
        remark = "; ".join(reasons)
        if len(rows) == 1:
            return Found("not run", remark=remark)
        return Found("passed", remark=remark, tables=[("Peers, one set of buffers", rows)])

    # ---- Where Node was carried ----

    def type_script(self, limit):
        absence = node.absence()
        if absence is not None:
            return Found("not run", remark=absence)
        with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
            report = os.path.join(folder, "report.json")
            return outcome_of(node.suite(report, limit), limit, report, node.suite_counts)

    def benchmark(self, limit):
        absence = node.absence()
        if absence is not None:
            return Found("not run", remark=absence)
        execution, settings, left, tables = node.benchmark(self.figures, limit)
        end = f"{left} left" if execution.status == 0 else execution.end(limit)
        good = settings > 0 and (execution.status == 0 or execution.timed_out)
        remark = f"{settings} settings measured, {end}"
        return Found("passed" if good else "failed", remark=remark, log=execution.output, tables=tables)


def all_parts(report):
    """`report`: the report's path; the benchmark's results go beside it."""
    check = Check(report)
    return [
        Part("device tests", 60, lambda limit: check.tests(f"-{SEMANTICS}", limit)),
        Part("semantics of the runtime", 30, lambda limit: check.tests(SEMANTICS, limit)),
        Part("timings", 110, check.timings),
        Part("PyTorch's peers", 60, check.peers),
        Part("ncu", 45, check.profile),
        Part("A/B builds", 75, check.variants),
        *(
            Part(
                f"compute-sanitizer {tool}",
                RACECHECK if tool == "racecheck" else QUICK_TOOL,
                lambda limit, tool=tool: check.sanitized(tool, limit),
            )
            for tool in sanitizer.TOOLS
        ),
        Part("TypeScript suite", 180, check.type_script),
        Part("benchmark", 120, check.benchmark),
    ]
