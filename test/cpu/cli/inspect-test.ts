import { readFileSync } from "node:fs";
import path from "node:path";
import { describeDevices } from "../../../lib";
import { render, type Inspection } from "../../../lib/cli/inspect";
import { builtAddon, forArm, install, LOCAL, PREBUILT, version, type Ended } from "../../support/installed";

const addon = readFileSync(builtAddon);

function parsed({ stdout, stderr }: Ended): Inspection {
  expect(stderr).toBe("");
  return JSON.parse(stdout) as Inspection;
}

const KEYS = [
  "addon",
  "arch",
  "cpu",
  "cuda",
  "environment",
  "kernelModule",
  "libc",
  "node",
  "package",
  "platform",
  "version",
];

describe("mtadam inspect --json", () => {
  test("with an addon", () => {
    const installed = install();
    const file = installed.plant(LOCAL, addon);
    const ended = installed.mtadam(["inspect", "--json"], { CUDA_VISIBLE_DEVICES: "" });
    expect(ended.status).toBe(0);
    const found = parsed(ended);
    expect(Object.keys(found).sort()).toEqual(KEYS);
    expect(found).toMatchObject({
      version,
      package: installed.package,
      node: process.versions.node,
      platform: process.platform,
      arch: process.arch,
      addon: { loaded: true, kind: "local build", file, failed: [], advice: null },
      environment: { CUDA_VISIBLE_DEVICES: "" },
    });
    const { cpu, cuda } = describeDevices();
    expect(found.cpu).toEqual({ ...cpu, usable: true });
    expect(found.cuda?.architectures).toEqual(cuda.architectures);
    expect(found.cuda?.usable).toBe(false);
    expect(found.cuda?.reason).toMatch(/./);
    expect(found.libc).toEqual({ name: "glibc", version: expect.stringMatching(/^2\.\d+$/) as string });
    expect(found.addon.needs).toMatchObject({
      GLIBC: expect.stringMatching(/^2\.\d+$/) as string,
      GLIBCXX: expect.stringMatching(/^3\.4/) as string,
    });
  });

  test("without an addon: the reason, the advice and the facts that need none", () => {
    const installed = install();
    const file = installed.plant(PREBUILT, forArm());
    const ended = installed.mtadam(["inspect", "--json"]);
    expect(ended.status).toBe(1);
    const found = parsed(ended);
    expect(Object.keys(found).sort()).toEqual(KEYS);
    expect(found).toMatchObject({
      version,
      addon: {
        loaded: false,
        kind: null,
        file,
        needs: { GLIBC: expect.stringMatching(/^2\./) as string },
        failed: [
          { kind: "local build", problem: expect.stringContaining("there is none") as string },
          { kind: "prebuilt", file, problem: expect.stringContaining("it is for arm64") as string },
        ],
        advice: expect.stringContaining("`npx mtadam build`") as string,
      },
      cpu: null,
      cuda: null,
    });
  });

  test("lists a local build that was skipped", () => {
    const installed = install();
    const [local, prebuilt] = [installed.plant(LOCAL, ""), installed.plant(PREBUILT, addon)];
    const { status, stdout } = installed.mtadam(["inspect", "--json"]);
    expect(status).toBe(0);
    const { addon: found } = JSON.parse(stdout) as Inspection;
    expect(found).toMatchObject({
      loaded: true,
      kind: "prebuilt",
      file: prebuilt,
      failed: [{ kind: "local build", file: local }],
    });
  });

  test("with an addon that fails for any reason", () => {
    const installed = install();
    installed.plant(LOCAL, addon);
    installed.edit({ version: "9.9.9" });
    expect(installed.mtadam(["inspect"]).status).toBe(1);
    installed.edit({ name: "another" });
    const ended = installed.mtadam(["inspect", "--json"]);
    expect(ended.status).toBe(1);
    expect(parsed(ended).version).toBeNull();
  });
});

describe("mtadam inspect", () => {
  test("with an addon", () => {
    const installed = install();
    const file = installed.plant(LOCAL, addon);
    const { status, stdout, stderr } = installed.mtadam(["inspect"], { CUDA_VISIBLE_DEVICES: "" });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const lines = stdout.split("\n").map((line) => line.trimEnd());
    expect(lines[0]).toBe(`mtadam       ${version}, ${installed.package}`);
    expect(lines).toContain(`addon        local build, ${file}`);
    expect(stdout).toMatch(/\n {13}needs glibc 2\.\d+ \(this system has 2\.\d+\), GLIBCXX 3\.4/);
    expect(stdout).toContain(`, ${describeDevices().cpu.threads} thread`);
    expect(stdout).toMatch(/\ncuda +\S/);
    expect(lines).toContain("environment  CUDA_VISIBLE_DEVICES=");
  });

  test("an ordinary installation has a prebuilt and no warnings", () => {
    const installed = install();
    const file = installed.plant(PREBUILT, addon);
    const { status, stdout } = installed.mtadam(["inspect"]);
    expect(status).toBe(0);
    expect(stdout).toMatch(/\naddon {8}prebuilt, .*\n {13}needs /);
    expect(stdout).toContain(file);
  });

  test("without one", () => {
    const installed = install();
    const file = installed.plant(LOCAL, "");
    const { status, stdout, stderr } = installed.mtadam(["inspect"]);
    expect({ status, stderr }).toEqual({ status: 1, stderr: "" });
    expect(stdout).toMatch(/\naddon +cannot be loaded\n/);
    expect(stdout).toContain(`local build: ${file}: file too short (it is no whole ELF file of 64 bits)`);
    expect(stdout).toMatch(/\nto do +`npx mtadam build`/);
  });
});

describe("the description of CUDA", () => {
  const inspection = (cuda: Inspection["cuda"], kernelModule: string | null = null): Inspection => ({
    version: "1.2.3",
    package: "/app/node_modules/mtadam",
    node: "20.0.0",
    platform: "linux",
    arch: "x64",
    libc: { name: "glibc", version: "2.36" },
    addon: { loaded: true, kind: "prebuilt", file: "/m.node", needs: {}, failed: [], advice: null },
    cpu: { name: "C", instructionSet: "baseline", instructionSets: ["baseline"], threads: 1, usable: true },
    cuda,
    kernelModule,
    environment: {},
  });
  /** From the line of CUDA to the end. */
  const said = (...args: Parameters<typeof inspection>): string[] => {
    const lines = render(inspection(...args)).split("\n");
    return lines.slice(
      lines.findIndex((line) => line.startsWith("cuda")),
      -1,
    );
  };

  test("each device, and why it cannot be used", () => {
    const cuda = {
      usable: true,
      driver: "13.0",
      runtime: "13.0",
      architectures: ["7.5", "12.0+PTX"],
      devices: [
        { index: 0, name: "New", computeCapability: "12.0", usable: true },
        { index: 1, name: "Old", computeCapability: "6.1", usable: false, reason: "Old is too old." },
      ],
    };
    expect(said(cuda, "580.65.06")).toEqual([
      "cuda         runtime 13.0 in the addon, with code for 7.5, 12.0+PTX",
      "             driver for CUDA 13.0 and older",
      "             kernel module 580.65.06",
      "cuda:0       New, compute capability 12.0",
      "             usable",
      "cuda:1       Old, compute capability 6.1",
      "             Old is too old.",
    ]);
  });

  test("a container that has the host's kernel module but no driver", () => {
    const cuda = { usable: false, reason: "R.", runtime: "13.0", architectures: ["9.0"], devices: [] };
    expect(said(cuda, "580.65.06")).toEqual([
      "cuda         runtime 13.0 in the addon, with code for 9.0",
      "             no driver",
      "             kernel module 580.65.06",
      "             R.",
    ]);
  });

  test("a build without CUDA, which cannot detect a driver", () => {
    const cuda = { usable: false, reason: "No CUDA here.", architectures: [], devices: [] };
    expect(said(cuda)).toEqual(["cuda         No CUDA here."]);
  });

  test("no addon, and a kernel module", () => {
    expect(said(null, "580.65.06")).toEqual(["cuda         kernel module 580.65.06"]);
  });

  test("no line is empty or ends in blanks", () => {
    const cuda = { usable: false, reason: "R.", runtime: "13.0", architectures: ["9.0"], devices: [] };
    expect(render(inspection(cuda))).not.toMatch(/\n\n| $|undefined|null/m);
  });
});

test("the documentation names every key", () => {
  const guide = readFileSync(path.join(__dirname, "..", "..", "..", "docs", "troubleshooting.md"), "utf8");
  for (const key of KEYS) expect(guide).toContain(`\`${key}\``);
});
