"""Times a peer's step (bench/peers) without Node. A peer answers each line of input with a line of output."""

import statistics
import subprocess
import threading

from .execute import PATIENCE, kill
from .products import ROOT

# The title of each script.
PEERS = {
    "eager": "PyTorch op by op",
    "foreach": "`torch._foreach`",
    "fused": "fused Adam, one term, on the sum",
    "compiled": "`torch.compile`",
}

# With more tensors torch.compile takes minutes.
MOST_COMPILED = 16

ROUNDS = 5
STEPS = 5


class Silence(Exception):
    """The reason why a peer answered with an error or not at all."""


class Peer:
    """A peer's process; it and its children are ended after the limit."""

    def __init__(self, python, name, limit):
        self.process = subprocess.Popen(
            [python, "-B", f"bench/peers/{name}.py", "--device", "cuda:0"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.timed_out = False
        self.timer = threading.Timer(limit, self.end_late)
        self.timer.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.timer.cancel()
        kill(self.process)
        try:
            self.process.communicate(timeout=PATIENCE)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            pass

    def end_late(self):
        self.timed_out = True
        kill(self.process)

    def ask(self, *words):
        """The answer to a line; other output of PyTorch is skipped."""
        last = ""
        try:
            print(*words, file=self.process.stdin, flush=True)
            for line in self.process.stdout:
                verdict, _, rest = line.strip().partition(" ")
                if verdict == "ok":
                    return rest
                if verdict == "error":
                    raise Silence(rest)
                last = line.strip() or last
        except BrokenPipeError:
            last = last or self.process.stdout.read().strip().rpartition("\n")[2]
        raise Silence("it took too long" if self.timed_out else last or "it ended without a word")

    def step_time(self, lengths, terms):
        """Microseconds of a step, the median of rounds."""
        self.ask("setup", terms, 1, 1, lengths)
        seconds = [float(self.ask("time", STEPS)) / STEPS for _ in range(ROUNDS)]
        return statistics.median(seconds) * 1e6
