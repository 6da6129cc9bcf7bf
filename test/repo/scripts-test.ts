import { readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { callers, unreached } from "../support/scripts";

// Every script is reached from a command of package.json, from .ci or from a workflow.

const root = path.join(__dirname, "../..");
const read = (name: string): string => readFileSync(path.join(root, name), "utf8");

function filesBelow(folder: string): string[] {
  return (readdirSync(path.join(root, folder), { recursive: true }) as string[])
    .map((name) => path.posix.join(folder, name.split(path.sep).join("/")))
    .filter((name) => statSync(path.join(root, name)).isFile() && !name.includes("__pycache__"))
    .sort();
}

const commands = (JSON.parse(read("package.json")) as { scripts: Record<string, string> }).scripts;
const sources = new Map([
  ...Object.entries(commands).map(([name, line]) => [`npm run ${name}`, line] as const),
  ...[".ci", ".github/workflows", "scripts"].flatMap(filesBelow).map((name) => [name, read(name)] as const),
]);
const planted = (name: string, text: string): ReadonlyMap<string, string> =>
  new Map([...sources, [name, text]]);

describe("scripts", () => {
  test("are all reached by a command, .ci or a workflow", () => {
    expect(unreached(sources)).toEqual([]);
  });

  test("that nothing calls are found, even if they name or call each other", () => {
    const orphan = planted("scripts/test/orphan.js", 'require("./other-orphan"); // scripts/test/orphan.js');
    expect(unreached(orphan)).toEqual(["scripts/test/orphan.js"]);
    const pair = new Map([...orphan, ["scripts/test/other-orphan.js", 'require("./orphan");']]);
    expect(unreached(pair)).toEqual(["scripts/test/orphan.js", "scripts/test/other-orphan.js"]);
    expect(unreached(planted("scripts/gpu/orphan.py", ""))).toEqual(["scripts/gpu/orphan.py"]);
  });

  test("that only a comment names are found", () => {
    const name = "scripts/test/orphan.js";
    for (const [caller, comment] of [
      [".ci/run", `\n# ${name}\n`],
      ["scripts/test/lint.js", `\n// require("./orphan")\n/* ${name} */\n`],
      ["scripts/gpu/check.py", `\n"""${name}"""\n`],
    ] as const) {
      const orphan = planted(name, "");
      expect(unreached(new Map([...orphan, [caller, read(caller) + comment]]))).toEqual([name]);
    }
  });

  test("that a command, a workflow, or another script calls are not", () => {
    const name = "scripts/test/added.js";
    for (const [caller, call] of [
      [".ci/run", `node ${name} --fast`],
      [".github/workflows/test.yml", `      - run: node ${name}`],
      ["scripts/test/lint.js", 'require("./added");'],
      ["scripts/test/lint.js", 'run(path.join(__dirname, "added.js"));'],
      ["scripts/test/lint.js", 'run(path.join(setup.root, "scripts", "test", "added.js"));'],
    ] as const) {
      expect(unreached(new Map([...planted(name, ""), [caller, `${read(caller)}\n${call}\n`]]))).toEqual([]);
    }
  });

  test("use those of their own group and of groups below: test, release, build", () => {
    const floors = ["build", "release", "test"];
    const floorOf = (name: string): number => floors.indexOf(/^scripts\/(\w+)\//.exec(name)?.[1] ?? "");
    const upwards = [...callers(sources)].flatMap(([script, by]) =>
      by
        .filter((name) => floorOf(name) >= 0 && floorOf(script) > floorOf(name))
        .map((name) => [name, script]),
    );
    expect(upwards).toEqual([]);
  });
});

describe("the table of scripts in CONTRIBUTING.md", () => {
  const rows = Array.from(
    read("CONTRIBUTING.md").matchAll(/^\| `(scripts\/[^`]+)` +\|[^|]*\| (.*?) +\|$/gm),
    ([, script, by]) => ({
      script: script!,
      by: Array.from(by!.matchAll(/`([^`]+)`/g), ([, name]) => name!),
    }),
  );
  const isOf = (script: string, row: string): boolean =>
    new RegExp(`^${row.replaceAll(".", "\\.").replaceAll("*", "[^/]*")}$`).test(script);

  test("has each script once", () => {
    expect(rows.length).toBeGreaterThan(0);
    for (const script of callers(sources).keys()) {
      expect([script, rows.filter((row) => isOf(script, row.script)).length]).toEqual([script, 1]);
    }
  });

  test.each(rows)("names callers of $script", ({ script, by }) => {
    const known = [...callers(sources)].filter(([name]) => isOf(name, script)).flatMap(([, names]) => names);
    const said = by.map((name) => (name === "npm test" ? "npm run test" : name));
    expect(said.length).toBeGreaterThan(0);
    const full = (name: string): string[] => [name, `scripts/${name}`, `.github/workflows/${name}`];
    expect(said.filter((name) => !full(name).some((each) => known.includes(each)))).toEqual([]);
  });
});
