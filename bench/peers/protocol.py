"""What every peer says and understands. A line in, a line out, until standard input ends:

  version                                      ok <PyTorch's version>
  check <terms> <threads> <steps>              ok <parameters after them, float32 in base64>
  setup <terms> <threads> <sets> <lengths>     ok
  time <steps>                                 ok <seconds of all>

Lengths are those of the tensors, "288,32,3500x3000". With no sets there is nothing to time, and no memory held. What
cannot be done is answered "error <sentence>". The only argument is --device, PyTorch's name of where everything lies.
"""

import argparse
import array
import base64
import sys
import time

import torch

CHECK_LENGTHS = [5, 300, 1, 4096]  # as in speed/check.mts
LR, BETAS, EPS = 1e-3, (0.9, 0.999, 0.9), 1e-8
LEAST_NORM = 1e-10

arguments = argparse.ArgumentParser()
arguments.add_argument("--device", default="cpu")
DEVICE = torch.device(arguments.parse_args().device)


def require(major, minor, what):
    """Answers every line with an error and ends, where PyTorch is older."""
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version >= (major, minor):
        return
    for _ in sys.stdin:
        print(f"error {what} needs PyTorch {major}.{minor} or newer, and this is {torch.__version__}.", flush=True)
    sys.exit()


def serve(optimizer_class, forget=lambda: None):
    """Runs `optimizer_class(parameters, terms)`, whose `step(gradients)` takes a list of tensors per term. `forget` drops
    what was compiled for the model before."""
    session = Session(optimizer_class, forget)
    verbs = {"version": session.version, "check": session.check, "setup": session.setup, "time": session.time}
    for line in sys.stdin:
        verb, *words = line.split()
        try:
            print("ok", verbs[verb](*words), flush=True)
        except Exception as error:  # whatever it is, the other side wants a line
            print("error", " ".join(f"{type(error).__name__}: {error}".split())[:300], flush=True)


class Session:
    def __init__(self, optimizer_class, forget):
        self.optimizer_class = optimizer_class
        self.forget = forget
        self.copies = []
        self.call = 0

    def version(self):
        return torch.__version__

    def check(self, terms, threads, steps):
        terms = int(terms)
        torch.set_num_threads(int(threads))
        parameters = [(integers(n) * 37 + 101 * p) % 201 for p, n in enumerate(CHECK_LENGTHS)]
        parameters = [((k - 100).double() / 100).float().to(DEVICE) for k in parameters]
        optimizer = self.optimizer_class(parameters, terms)
        for step in range(int(steps)):
            optimizer.step([check_gradients(step, term) for term in range(terms)])
        return base64.b64encode(array.array("f", torch.cat(parameters).tolist()).tobytes()).decode()

    def setup(self, terms, threads, sets, lengths):
        terms = int(terms)
        torch.set_num_threads(int(threads))
        lengths = parse_lengths(lengths)
        self.copies = []
        self.forget()
        if DEVICE.type == "cuda":
            torch.cuda.empty_cache()
        for _ in range(int(sets)):
            parameters = [filled(n, 0.5) for n in lengths]
            gradients = [[filled(n, 0.01 * (term + 1)) for n in lengths] for term in range(terms)]
            self.copies.append((self.optimizer_class(parameters, terms), gradients))
        for optimizer, gradients in self.copies:  # what is made at the first step is not part of a step
            optimizer.step(gradients)
        finish()
        return ""

    def time(self, steps):
        finish()
        start = time.perf_counter()
        for _ in range(int(steps)):
            optimizer, gradients = self.copies[self.call % len(self.copies)]
            optimizer.step(gradients)
            self.call += 1
        finish()
        return time.perf_counter() - start


def finish():
    """Waits for what is enqueued."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize(DEVICE)


def filled(count, value):
    return torch.full((count,), value, device=DEVICE)


def integers(count):
    return torch.arange(count, dtype=torch.int64)


def check_gradients(step, term):
    numbers = [(integers(n) * 53 + 29 * p + 17 * term + 71 * step) % 199 for p, n in enumerate(CHECK_LENGTHS)]
    return [((term + 1) * (k - 80).double() / 64).float().to(DEVICE) for k in numbers]


def parse_lengths(text):
    lengths = []
    for run in text.split(","):
        length, _, count = run.partition("x")
        lengths += [int(length)] * int(count or 1)
    return lengths
