"""The machine's first GPU and its software."""

import os
import re
import subprocess

from .products import STEPS, program


class Failure(Exception):
    """Why CUDA cannot use the device."""


def nvidia_smi(*arguments):
    try:
        done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def query(name):
    """A property of the first GPU; None if nvidia-smi is missing or does not know it."""
    value = nvidia_smi(f"--query-gpu={name}", "--format=csv,noheader", "--id=0").partition("\n")[0].strip()
    return None if value == "" or value.startswith("[") else value


def has_gpu():
    """Whether there is a GPU, as far as can be seen before the build. A GPU that CUDA cannot use
    counts; describe() reports that."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    folder = "/proc/driver/nvidia/gpus"
    listed = os.path.isdir(folder) and len(os.listdir(folder)) > 0
    return listed or os.path.exists("/dev/nvidia0") or re.search(r"^GPU ", nvidia_smi("-L"), re.MULTILINE) is not None


def architecture():
    """The first GPU's compute capability in nvcc's form, such as "90"; None if nvidia-smi does not print it."""
    capability = query("compute_cap")
    return None if capability is None else capability.replace(".", "")


def describe():
    """The device and the software, by name, as the package sees them."""
    done = subprocess.run([program(STEPS), "--describe"], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(done.stderr.strip() or f"{STEPS} --describe ended with {done.returncode}.")
    facts = dict(line.split("\t", 1) for line in done.stdout.splitlines())
    version = query("driver_version")
    if version is not None:
        facts["driver"] = f"{version}, {facts['driver']}"
    return facts
