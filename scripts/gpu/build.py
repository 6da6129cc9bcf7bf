"""Builds the programs of scripts/gpu-check. Needs CMake, a C++ compiler, nvcc and, for the tests, GoogleTest."""

import glob
import io
import os
import shutil
import subprocess
import tarfile

from .commit import head
from .products import BENCHMARK_ROOF, BUILD, COMMIT, NODE_TRAVELS, PROGRAMS, ROOT, STEPS, STEPS_BEFORE, TESTS, program

# The commit of the last kernels that a GPU has run, which are compared with the current ones.
BEFORE = "a66057f"

# The limit for the files that are copied to another machine.
MOST_BYTES = 60 * 1024 * 1024


class Failure(Exception):
    """A sentence for the caller."""


def run(*command):
    try:
        subprocess.run(command, cwd=ROOT, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    except OSError as error:
        raise Failure(f"The build needs {command[0]}: {error.strerror}.") from error
    except subprocess.CalledProcessError as error:
        raise Failure(f"The build failed: `{' '.join(command)}` ended with {error.returncode}.") from error


def cmake(source, folder, options, targets):
    run("cmake", "-S", source, "-B", folder, *options)
    run("cmake", "--build", folder, "--parallel", str(os.cpu_count()), "--target", *targets)


def has_googletest():
    compiler = os.environ.get("CXX", "c++")
    try:
        done = subprocess.run(
            [compiler, "-E", "-x", "c++", "-"], input=b"#include <gtest/gtest.h>\n", capture_output=True, check=False
        )
    except OSError as error:
        raise Failure(f"The build needs {compiler}: {error.strerror}.") from error
    return done.returncode == 0


def options_for(architecture, tests):
    # Without an architecture, an earlier choice is removed from CMake's cache. PTX runs on every device.
    kernels, roof = ("-UMTADAM_CUDA_ARCHITECTURES", "-UMTADAM_ROOF_ARCHITECTURES")
    if architecture is not None:
        kernels = f"-DMTADAM_CUDA_ARCHITECTURES={architecture}-real"
        roof = f"-DMTADAM_ROOF_ARCHITECTURES={architecture}-real"
    return ["-DMTADAM_GPU_STEPS=ON", "-DMTADAM_CUDA=ON", f"-DMTADAM_TESTS={'ON' if tests else 'OFF'}", kernels, roof]


def variants():
    with open(os.path.join(ROOT, "bench", "speed", "variants.cmake"), encoding="utf-8") as file:
        calls = file.read().split("gpu_steps_variant(")[1:]
    return [f"{STEPS}_{call.split()[0]}" for call in calls]


def before(architecture):
    """Builds gpu_steps of an earlier commit, with its kernels, if git has it."""
    try:
        archive = subprocess.run(
            ["git", "archive", BEFORE, "CMakeLists.txt", "native", "bench/speed"],
            cwd=ROOT,
            capture_output=True,
            check=False,
        )
    except OSError:
        archive = None
    if archive is None or archive.returncode != 0:
        print(f"Not built: {STEPS_BEFORE}, since git does not have {BEFORE} here.")
        return
    sources = os.path.join(BUILD, f"sources-{BEFORE}")
    if not os.path.exists(sources):
        # A run that ends meanwhile does not leave a part of them under this name.
        part = f"{sources}.part"
        shutil.rmtree(part, ignore_errors=True)
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(part)
        os.rename(part, sources)
    folder = os.path.join(BUILD, "before")
    options = [*options_for(architecture, False), "-DMTADAM_GPU_VARIANTS=OFF"]
    cmake(os.path.join(sources, "bench", "speed"), folder, options, [STEPS])
    shutil.copy2(os.path.join(folder, "bin", STEPS), program(STEPS_BEFORE))


def native(architecture):
    """Builds the native programs; returns whether they include the tests."""
    tests = has_googletest()
    if not tests:
        print(f"Not built: {TESTS}, since GoogleTest is not here.")
    print("Building the native programs …", flush=True)
    targets = [STEPS, *variants(), *([TESTS] if tests else [])]
    # Also tests of an earlier commit, which would be run as this one's.
    for stale in glob.glob(os.path.join(PROGRAMS, "*")):
        if os.path.basename(stale) not in targets:
            os.remove(stale)
    cmake("bench/speed", BUILD, [*options_for(architecture, tests), "-DMTADAM_WERROR=ON"], targets)
    before(architecture)
    commit = head()
    if commit is not None:
        with open(COMMIT, "w", encoding="utf-8") as file:
            file.write(f"{commit}\n")
    return tests


def node(architecture):
    """Builds the addon, the package's TypeScript and the benchmark."""
    print("Building the addon, the package and the benchmark …", flush=True)
    run("node", "-e", 'require("./scripts/build/setup").packages()')
    only = [] if architecture is None else [f"--architecture={architecture}"]
    run("npm", "run", "--silent", "build:native", "--", *only)
    run("npm", "run", "--silent", "build:ts")
    options = [option for option in options_for(architecture, False) if "ROOF" in option]
    cmake("bench/speed", os.path.dirname(BENCHMARK_ROOF), ["-DCMAKE_BUILD_TYPE=Release", *options], ["gpu_roof"])
    run("node", "node_modules/typescript/bin/tsc", "-p", "bench")


def prepare(architecture, with_node):
    if not has_googletest():
        raise Failure("The tests need GoogleTest. On Debian and Ubuntu: apt-get install libgtest-dev")
    native(architecture)
    print("Files to carry to the machine with the GPU, besides those that git tracks:")
    total = 0
    for file in sorted(glob.glob(os.path.join(PROGRAMS, "*"))):
        total += os.path.getsize(file)
        print(f"  {os.path.relpath(file, ROOT)}  {os.path.getsize(file) / 2**20:.1f} MiB")
    print(f"  {os.path.relpath(COMMIT, ROOT)}\n{total / 2**20:.1f} MiB together")
    if total > MOST_BYTES:
        raise Failure(f"The files to carry must not exceed {MOST_BYTES // 2**20} MiB.")
    if with_node:
        node(architecture)
        print("For the TypeScript suite and the benchmark:\n  " + "\n  ".join(NODE_TRAVELS))
