"use strict";

// The machine's first GPU and its software.

const fs = require("node:fs");
const path = require("node:path");
const { spawnSync } = require("node:child_process");
const { root } = require("../setup");
const { PACKAGE } = require("./products");

function nvidiaSmi(...args) {
  const { status, stdout } = spawnSync("nvidia-smi", args, { encoding: "utf8" });
  return status === 0 ? stdout : "";
}

/** A property of the first GPU; undefined where nvidia-smi is not there or does not know. */
function query(property) {
  const [value = ""] = nvidiaSmi(`--query-gpu=${property}`, "--format=csv,noheader", "--id=0").split("\n");
  return value === "" || value.startsWith("[") ? undefined : value.trim();
}

function isFilled(folder) {
  return fs.existsSync(folder) && fs.readdirSync(folder).length > 0;
}

/**
 * Whether there is a GPU, as far as that shows before anything is built. One that CUDA cannot use counts: that is for
 * {@link describe} to say.
 */
function hasGpu() {
  const { CUDA_VISIBLE_DEVICES: visible } = process.env;
  if (visible === "" || visible === "-1") return false;
  return (
    /^GPU /m.test(nvidiaSmi("-L")) || isFilled("/proc/driver/nvidia/gpus") || fs.existsSync("/dev/nvidia0")
  );
}

/** The first GPU's compute capability as nvcc has it, such as "90"; undefined where nvidia-smi does not say. */
function architecture() {
  return query("compute_cap")?.replace(".", "");
}

/**
 * As the package sees it.
 *
 * @throws Error with the reason, where CUDA cannot use the device
 */
function describe() {
  const { cuda } = require(path.join(root, PACKAGE)).describeDevices();
  const [device] = cuda.devices;
  if (device === undefined || !device.usable) throw new Error(device?.reason ?? cuda.reason);
  const version = query("driver_version");
  return {
    device: device.name,
    computeCapability: device.computeCapability,
    driver: `${version === undefined ? "" : `${version}, `}serves CUDA ${cuda.driver}`,
    runtime: `CUDA ${cuda.runtime}`,
    architectures: cuda.architectures,
  };
}

module.exports = { hasGpu, architecture, describe };
