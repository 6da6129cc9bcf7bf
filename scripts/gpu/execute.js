"use strict";

// A command that is given so much time and no more.

const { spawn } = require("node:child_process");
const { performance } = require("node:perf_hooks");
const { clearTimeout, setTimeout } = require("node:timers");
const { root } = require("../setup");

/** Of what a command prints, the end is kept. */
const KEPT_CHARACTERS = 64 * 1024;

/** Seconds after which a command that was killed is left to itself: a process that is stuck in the driver does not end. */
const PATIENCE = 5;

/**
 * Runs a command in the checkout, with all that it starts, and ends them when the time is up.
 *
 * @param {number} limit seconds
 * @returns {Promise<{ status: number | null, timedOut: boolean, output: string, seconds: number }>} `output`: standard
 *     output and standard error as they came; `status` null: a signal ended it, it could not be started, or it did not even
 *     end when it was killed
 */
function execute(command, args, limit) {
  return new Promise((resolve) => {
    const begin = performance.now();
    // A process group of its own: a checker's child must end with it.
    const child = spawn(command, args, { cwd: root, detached: true, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    let timedOut = false;
    const keep = (text) => {
      output = (output + text).slice(-KEPT_CHARACTERS);
    };
    const end = () => {
      try {
        process.kill(-child.pid, "SIGKILL");
      } catch {
        // It has ended by itself.
      }
    };
    // Being a group of its own, it does not hear the Ctrl-C that ends this process.
    const interrupted = () => {
      end();
      process.exit(1);
    };
    process.once("SIGINT", interrupted);
    process.once("SIGTERM", interrupted);
    let timer = setTimeout(() => {
      timedOut = true;
      end();
      timer = setTimeout(leave, PATIENCE * 1000);
    }, limit * 1000);
    const settle = (status) => {
      clearTimeout(timer);
      process.off("SIGINT", interrupted);
      process.off("SIGTERM", interrupted);
      resolve({ status, timedOut, output, seconds: (performance.now() - begin) / 1000 });
    };
    // Neither it nor a pipe that something holds open keeps this process from its end.
    const leave = () => {
      child.unref();
      for (const stream of [child.stdout, child.stderr]) stream.destroy();
      settle(null);
    };
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", keep);
    child.on("error", (error) => {
      keep(error.message);
      settle(null);
    });
    child.on("close", settle);
  });
}

module.exports = { execute };
