"""Runs commands with a time limit."""

import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Optional

from .products import ROOT

# The number of bytes kept from the end of a command's output.
KEPT_BYTES = 64 * 1024

# Seconds to wait for a killed command: a process that is stuck in the driver does not end.
PATIENCE = 5


@dataclass
class Execution:
    status: Optional[int]  # None: it could not be started, or it did not even end when it was killed
    timed_out: bool
    output: str  # standard output and standard error as they came

    def end(self, limit):
        """The sentence that says how it ended."""
        if self.timed_out:
            return f"ended after {limit:.0f} s"
        return "it could not be started" if self.status is None else f"exit code {self.status}"


def kill(process):
    """Ends a process and its children; it must lead its own process group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # all have ended


def execute(command, limit, environment=None):
    """Runs a command in the checkout, and ends it and its children after `limit` seconds."""
    try:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return Execution(None, False, str(error))
    kept = bytearray()

    def read():
        while True:
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                return
            kept.extend(chunk)
            del kept[:-KEPT_BYTES]

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    timed_out = False
    try:
        try:
            process.wait(max(limit, 0))
        except subprocess.TimeoutExpired:
            timed_out = True
    finally:
        kill(process)
    deadline = time.monotonic() + PATIENCE
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        pass
    # A child that left the process group may hold the pipe open.
    reader.join(max(0, deadline - time.monotonic()))
    return Execution(process.returncode if not timed_out else None, timed_out, kept.decode(errors="replace"))
