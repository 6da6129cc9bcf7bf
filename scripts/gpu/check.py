"""scripts/gpu-check: runs all checks that need a GPU, and writes a report to docs/gpu."""

import argparse
import datetime
import os
import re
import signal
import sys
import time
import traceback

from . import build, machine, products
from .commit import commit
from .parts import Found, all_parts
from .report import render, report_name

FAILED = 1
NO_GPU = 2

EPILOG = "Exits with 0 if every part that ran passed, 1 if one failed, 2 without a GPU."


class Failure(Exception):
    """A sentence for the caller."""


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Failure(message)


def read_options(arguments):
    parser = Parser(prog="gpu-check", description=__doc__, epilog=EPILOG, allow_abbrev=False)
    parser.add_argument("--built", action="store_true", help="runs the programs that --prepare built, here or elsewhere")
    parser.add_argument("--prepare", action="store_true", help="only builds, which needs nvcc but no GPU")
    parser.add_argument("--node", action="store_true", help="also builds for the TypeScript suite and the benchmark")
    parser.add_argument("--architecture", help="the compute capability to build for, such as 90; default: this machine's")
    parser.add_argument("--part", action="append", help="runs only parts whose name begins so; may be given several times")
    parser.add_argument("--report", help="the file of the report")
    options = parser.parse_args(arguments)
    if options.built and options.prepare:
        raise Failure("`--built` and `--prepare` exclude each other.")
    if options.architecture is not None and not re.fullmatch(r"\d{2,3}", options.architecture):
        raise Failure(f'`--architecture` must be a number such as 90; got "{options.architecture}".')
    return options


def chosen_parts(options, report):
    parts = all_parts(report)
    for name in options.part or []:
        if not any(part.name.startswith(name) for part in parts):
            names = ", ".join(part.name for part in parts)
            raise Failure(f'`--part` must be the beginning of one of {names}; got "{name}".')
    chosen = tuple(options.part or [""])
    return [part if part.name.startswith(chosen) else part.left_out() for part in parts]


def run_part(part):
    """Runs one part. If it raises, it has failed, and the next part runs."""
    begin = time.monotonic()
    try:
        found = part.run(part.limit)
    except Exception:
        found = Found("failed", remark="raised an exception", log=traceback.format_exc())
    return found, time.monotonic() - begin


def outcome_line(part, found, seconds):
    counts = "" if found.passed is None else f", {found.passed} passed, {found.failed} failed"
    remark = f" ({found.remark})" if found.remark else ""
    return f"{part.name}: {found.outcome}{counts}{remark}, {seconds:.1f} s"


def run_parts(parts, file, facts):
    """Runs the parts and writes the report after each one, so that an interrupted run leaves its results."""
    os.makedirs(os.path.dirname(file), exist_ok=True)
    cut_off = Found("not run", remark="the check was cut off before it had an outcome")
    results = [(part.name, cut_off, 0.0) for part in parts]

    def write():
        with open(file, "w", encoding="utf-8") as stream:
            stream.write(render(facts, results))

    write()
    for index, part in enumerate(parts):
        found, seconds = run_part(part)
        results[index] = (part.name, found, seconds)
        write()
        print(outcome_line(part, found, seconds), flush=True)
        if found.outcome == "failed":
            print(found.log, flush=True)
    return FAILED if any(found.outcome == "failed" for _, found, _ in results) else 0


def check(options):
    if not machine.has_gpu():
        print("There is no NVIDIA GPU on this machine, so nothing was checked.", file=sys.stderr)
        return NO_GPU
    if not options.built:
        build.native(options.architecture or machine.architecture())
        if options.node:
            build.node(options.architecture or machine.architecture())
    needed = products.TESTED if options.built else products.TIMED
    absent = [name for name in needed if not os.path.exists(products.program(name))]
    if absent:
        raise Failure(f"`scripts/gpu-check --prepare` must build {', '.join(absent)} first.")
    facts = machine.describe()
    facts["commit"] = commit()
    date = datetime.date.today().isoformat()
    file = os.path.abspath(
        options.report or os.path.join(products.ROOT, "docs", "gpu", report_name(date, facts["device"]))
    )
    parts = chosen_parts(options, file)
    code = run_parts(parts, file, {"date": date, **facts})
    print(f"The report is {file}")
    return code


def main(arguments):
    # sys.exit runs the cleanup that ends this process's children.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(FAILED))
    try:
        options = read_options(arguments)
        if options.prepare:
            build.prepare(options.architecture, options.node)
            return 0
        return check(options)
    except (Failure, build.Failure, machine.Failure) as failure:
        print(f"gpu-check: {failure}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return FAILED
