/**
 * Which addon is loaded, and the error if none can be loaded. Each test runs a process on a copy of the package that is
 * prepared for the situation.
 */

import { cpSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import {
  builtAddon,
  forArm,
  forFutureGlibc,
  install,
  LOCAL,
  PREBUILT,
  version,
  withoutSections,
  type Ended,
  type Installation,
} from "../support/installed";

const addon = readFileSync(builtAddon);

interface Caught {
  name: string;
  code: string;
  message: string;
  keys: string[];
}

const REPORT = `(error) => process.stdout.write(JSON.stringify({
  name: error.name, code: error.code, message: error.message, keys: Object.keys(error),
}))`;

const REQUIRE = `try { require("mtadam") } catch (error) { (${REPORT})(error) }`;

/** The error of loading the package. */
function failure(installed: Installation, environment?: Record<string, string>, program = REQUIRE): Caught {
  return parsedError(installed.node(["-e", program], environment));
}

function parsedError({ stdout, stderr }: Ended): Caught {
  expect(stderr).toBe("");
  return JSON.parse(stdout) as Caught;
}

/** The attempts: the lines of the message between the first line and the advice. */
function attempts({ message }: Caught): string[] {
  return message
    .split("\n")
    .filter((line) => line.startsWith("  "))
    .map((line) => line.trim());
}

const step = `
const { MTAdam } = require("mtadam");
const parameter = new Float32Array(1);
new MTAdam([parameter], { terms: 1, lr: 0.5 }).step([[Float32Array.of(4)]]);
process.stdout.write(parameter[0].toFixed(3));
`;

describe("an addon that cannot be loaded", () => {
  test("none at all: lists the attempts, the system and the remedy", () => {
    const installed = install();
    const error = failure(installed);
    expect(error).toMatchObject({ name: "MTAdamError", code: "ERR_MTADAM_LOAD", keys: ["code"] });
    const [first, local, prebuilt, ...advice] = error.message.split("\n");
    expect(first).toContain(`mtadam ${version} cannot be loaded on ${process.platform}-${process.arch}`);
    expect(first).toContain(`Node ${process.versions.node}`);
    expect(local).toBe(`  local build: there is none in ${path.join(installed.package, "build", "Release")}`);
    expect(prebuilt).toContain(`  prebuilt: there is none for ${process.platform}-${process.arch}`);
    expect(advice.join("\n")).toMatch(/`npx mtadam build` .*CMake 3\.22.*C\+\+20[^]*`npx mtadam inspect`/);
  });

  test("prebuilts for others are named", () => {
    const installed = install();
    installed.plant("prebuilds/sunos-sparc/mtadam.node", "");
    expect(attempts(failure(installed))[1]).toMatch(/, only for sunos-sparc$/);
  });

  test.each([
    ["an empty file", "", /: file too short /],
    ["a text file", "Not found.\n".repeat(100), /: invalid ELF header /],
    ["half of an addon's header", addon.subarray(0, 32), /: file too short /],
  ])("%s", (_, content, says) => {
    const installed = install();
    const file = installed.plant(LOCAL, content);
    const [local] = attempts(failure(installed));
    expect(local).toMatch(says);
    expect(local).toContain(`local build: ${file}: `);
    expect(local).toContain("(it is no whole ELF file of 64 bits)");
  });

  test.each([2, 10, 1000])("one of which only 1/%d was copied, which would kill the process", (part) => {
    const installed = install();
    const file = installed.plant(LOCAL, addon.subarray(0, addon.length / part));
    expect(attempts(failure(installed))[0]).toBe(`local build: ${file}: the file is cut short`);
  });

  test("one cut short that has lost its table of sections, as some tools leave it", () => {
    const installed = install();
    const bare = withoutSections(addon);
    const file = installed.plant(LOCAL, bare.subarray(0, bare.length / 2));
    expect(attempts(failure(installed))[0]).toBe(`local build: ${file}: the file is cut short`);
  });

  test("a folder in its place", () => {
    const installed = install();
    mkdirSync(path.join(installed.package, LOCAL), { recursive: true });
    expect(attempts(failure(installed))[0]).toContain("EISDIR");
  });

  test("one of another architecture, which the system calls missing", () => {
    const installed = install();
    installed.plant(LOCAL, forArm());
    expect(attempts(failure(installed))[0]).toContain(
      `(it is for arm64, and this process is ${process.arch})`,
    );
  });

  test("one for a newer glibc: both versions", () => {
    const installed = install();
    installed.plant(PREBUILT, forFutureGlibc());
    const [, prebuilt] = attempts(failure(installed));
    expect(prebuilt).toMatch(/version `GLIBC_9\.\d+' not found/);
    expect(prebuilt).toMatch(/\(it needs glibc 9\.\d+, and this system has \d+\.\d+\)$/);
  });

  test("one of another version of the package", () => {
    const installed = install();
    installed.plant(LOCAL, addon);
    installed.edit({ version: "9.9.9" });
    expect(attempts(failure(installed))[0]).toMatch(
      new RegExp(
        `: it is of version ${version.replaceAll(".", "\\.")}, and the package of version 9\\.9\\.9$`,
      ),
    );
  });

  test("one that is no addon of this package", () => {
    const installed = install();
    installed.plant(LOCAL, addon);
    const foreign = `require("node:module")._extensions[".node"] = (module) => { module.exports = {} };`;
    expect(attempts(failure(installed, {}, foreign + REQUIRE))[0]).toContain(": it is no addon of mtadam");
  });

  test("both of them: an attempt each", () => {
    const installed = install();
    const [local, prebuilt] = [
      installed.plant(LOCAL, ""),
      installed.plant(PREBUILT, "no addon either".repeat(9)),
    ];
    expect(attempts(failure(installed))).toEqual([
      expect.stringContaining(`local build: ${local}: file too short`),
      expect.stringContaining(`prebuilt: ${prebuilt}: invalid ELF header`),
    ]);
  });

  test("is the same error at the second try, in a worker and in ESM", () => {
    const installed = install();
    installed.plant(LOCAL, "");
    const expected = failure(installed);
    expect(failure(installed, {}, `try { require("mtadam") } catch {} ${REQUIRE}`)).toEqual(expected);
    // Imports twice: Node does not evaluate a failed module again, and must have kept its error.
    expect(failure(installed, {}, `import("mtadam").catch(() => import("mtadam")).catch(${REPORT})`)).toEqual(
      expected,
    );
    const worker = `
      const { Worker } = require("node:worker_threads");
      new Worker(${JSON.stringify(REQUIRE.replace("process.stdout.write", "require('node:worker_threads').parentPort.postMessage"))}, { eval: true })
        .on("message", (text) => process.stdout.write(text));`;
    expect(failure(installed, {}, worker)).toEqual(expected);
  });

  test("on a Node that is too old, reported first", () => {
    const installed = install();
    installed.edit({ engines: { node: ">=99" } });
    expect(failure(installed).message).toContain("\nNode 99 or newer is needed.\n");
  });

  test("where Node loads no addons: names the flag, also in inspect", () => {
    const installed = install();
    installed.plant(LOCAL, addon);
    const error = parsedError(installed.node(["--no-addons", "-e", REQUIRE]));
    const advice = "Node runs with the flag `--no-addons`, perhaps from NODE_OPTIONS: leave it out.";
    expect(error).toMatchObject({ code: "ERR_MTADAM_LOAD" });
    expect(error.message).toContain(`\n${advice}\n`);
    expect(error.message).not.toContain("mtadam build");
    const { stdout } = installed.mtadam(["inspect", "--json"], { NODE_OPTIONS: "--no-addons" });
    expect(JSON.parse(stdout)).toMatchObject({ addon: { loaded: false, advice } });
  });

  test("under the permission model: names the flags to add, until it can be loaded", () => {
    const installed = install();
    installed.plant(LOCAL, addon);
    const model = process.allowedNodeEnvironmentFlags.has("--permission")
      ? "--permission"
      : "--experimental-permission";
    const run = (flags: string[]): Ended => installed.node([model, "--no-warnings", ...flags, "-e", REQUIRE]);
    const advised = (error: Caught): string[] => {
      expect(error).toMatchObject({ code: "ERR_MTADAM_LOAD" });
      const line = /^Node runs with its permission model, which forbids it: add (.*)\.$/m.exec(error.message);
      return line![1]!.split(" ").map((flag) => flag.slice(1, -1));
    };

    expect(advised(parsedError(run(["--allow-fs-read=*"])))).toEqual(["--allow-addons"]);

    const flags = ["package.json", "dist/*"].map(
      (name) => `--allow-fs-read=${path.join(installed.package, name)}`,
    );
    const first = parsedError(run(flags));
    expect(attempts(first)).toEqual([
      `local build: this process may not read ${path.join(installed.package, "build", "Release")}`,
      `prebuilt: this process may not read ${path.join(installed.package, "prebuilds")}`,
    ]);
    const link = path.join(installed.folder, "node_modules", "node-gyp-build");
    flags.push(...advised(first));
    expect(flags.slice(2)).toEqual([
      "--allow-addons",
      `--allow-fs-read=${path.join(installed.package, "*")}`,
      `--allow-fs-read=${link}`,
      ...(process.platform === "linux" ? ["--allow-fs-read=/etc/alpine-release"] : []),
    ]);
    const behind = advised(parsedError(run(flags)));
    expect(behind).toEqual([`--allow-fs-read=${path.join(realpathSync(link), "*")}`]);
    expect(run([...flags, ...behind])).toEqual({ status: 0, stdout: "", stderr: "" });
  });

  test("from code that a bundler has moved", () => {
    const installed = install();
    cpSync(path.join(installed.package, "dist"), path.join(installed.folder, "out"), { recursive: true });
    const other = path.join(installed.folder, "build", "Release", "other.node");
    mkdirSync(path.dirname(other), { recursive: true });
    writeFileSync(path.join(installed.folder, "package.json"), `{ "name": "app", "version": "${version}" }`);
    writeFileSync(other, addon);
    const { message } = failure(installed, {}, REQUIRE.replace(`"mtadam"`, `"./out"`));
    expect(message).toMatch(/A bundler has moved .* declare mtadam as external/);
  });
});

describe("an addon that can be loaded", () => {
  test("a local build is preferred to the prebuilt", () => {
    const installed = install();
    installed.plant(LOCAL, addon);
    installed.plant(PREBUILT, "");
    expect(installed.node(["-e", step])).toEqual({ status: 0, stdout: "-0.500", stderr: "" });
  });

  test("one without a table of sections, which only a linker needs", () => {
    const installed = install();
    installed.plant(LOCAL, withoutSections(addon));
    expect(installed.node(["-e", step])).toEqual({ status: 0, stdout: "-0.500", stderr: "" });
  });

  test("PREBUILDS_ONLY skips the local build", () => {
    const installed = install();
    installed.plant(LOCAL, addon);
    const error = failure(installed, { PREBUILDS_ONLY: "1" });
    expect(attempts(error)).toEqual([
      "local build: not tried, as PREBUILDS_ONLY is set",
      expect.stringContaining("prebuilt: there is none"),
    ]);
    installed.plant(LOCAL, "");
    installed.plant(PREBUILT, addon);
    const ended = installed.node(["-e", step], { PREBUILDS_ONLY: "1" });
    expect(ended).toEqual({ status: 0, stdout: "-0.500", stderr: "" });
  });

  test("MTADAM_PREBUILD names another folder to search", () => {
    const [installed, other] = [install(), install()];
    installed.plant(LOCAL, "");
    other.plant(PREBUILT, addon);
    const environment = { MTADAM_PREBUILD: other.package };
    expect(installed.node(["-e", step], environment)).toEqual({ status: 0, stdout: "-0.500", stderr: "" });
    const [local, prebuilt] = attempts(failure(installed, { MTADAM_PREBUILD: "/nowhere" }));
    expect(local).toBe(`local build: there is none in ${path.join("/nowhere", "build", "Release")}`);
    expect(prebuilt).toContain(` in ${path.join("/nowhere", "prebuilds")}`);
  });

  test("the prebuilt replaces a local build that cannot be loaded, with a warning", () => {
    const installed = install();
    const file = installed.plant(LOCAL, "");
    installed.plant(PREBUILT, addon);
    const { status, stdout, stderr } = installed.node(["-e", step]);
    expect({ status, stdout }).toEqual({ status: 0, stdout: "-0.500" });
    expect(stderr).toContain(
      `[MTADAM_FALLBACK] Warning: mtadam uses its prebuilt, as the local build ${file} cannot be loaded: file too short`,
    );
  });

  test("so it does under Jest, from whose cache no module can be dropped", () => {
    const installed = install();
    const file = installed.plant(LOCAL, "");
    installed.plant(PREBUILT, addon);
    const warn = jest.spyOn(process, "emitWarning").mockImplementation();
    try {
      // In Jest itself, not in a separate process.
      expect(createRequire(__filename)(installed.package)).toHaveProperty("MTAdam");
      expect(warn.mock.calls).toEqual([
        [
          expect.stringContaining(`mtadam uses its prebuilt, as the local build ${file} cannot`),
          { code: "MTADAM_FALLBACK" },
        ],
      ]);
    } finally {
      warn.mockRestore();
    }
  });

  test.each([[undefined], [""]])(
    "searching for the prebuilt changes neither the module cache nor the environment, with PREBUILDS_ONLY %j",
    (value) => {
      const installed = install();
      installed.plant(LOCAL, "");
      installed.plant(PREBUILT, addon);
      const program = `
      require("mtadam");
      const other = require("node-gyp-build/node-gyp-build.js").path(${JSON.stringify(installed.package)});
      process.stdout.write(JSON.stringify([process.env.PREBUILDS_ONLY ?? null, other]));`;
      const { stdout } = installed.node(
        ["-e", program],
        value === undefined ? {} : { PREBUILDS_ONLY: value },
      );
      expect(JSON.parse(stdout)).toEqual([value ?? null, path.join(installed.package, LOCAL)]);
    },
  );
});
