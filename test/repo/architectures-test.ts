import { readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
// eslint-disable-next-line @typescript-eslint/no-require-imports -- JavaScript without declarations
const { capability, shippedArchitectures } = require("../../scripts/build/architectures") as {
  capability: (architecture: string) => string;
  shippedArchitectures: () => string[];
};

// The kernels' architectures are listed once, in CMakeLists.txt. Other files read that list or are compared with it.

const root = path.join(__dirname, "../..");
const read = (name: string): string => readFileSync(path.join(root, name), "utf8");
const shipped = shippedArchitectures();
const capabilities = shipped.map(capability);
const [oldest = ""] = capabilities;

test("the list is CMake's: machine code from the oldest on, and PTX of the newest for what comes", () => {
  expect(shipped.length).toBeGreaterThan(2);
  for (const name of shipped.slice(0, -1)) expect(name).toMatch(/^\d+-real$/);
  expect(shipped.at(-1)).toBe(shipped.at(-2)!.replace("-real", "-virtual"));
  const numbers = shipped.slice(0, -1).map((name) => Number.parseInt(name, 10));
  expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
});

test("an architecture is named as a compute capability", () => {
  expect(["75-real", "90", "100-real", "120-virtual"].map(capability)).toEqual([
    "7.5",
    "9.0",
    "10.0",
    "12.0+PTX",
  ]);
});

describe("as in the list", () => {
  test("are those that docs/install.md names", () => {
    const [, said = ""] =
      /machine code for compute capabilities ([^]*?), and\s+PTX/.exec(read("docs/install.md")) ?? [];
    const named = said.replace(/\s*\([^)]*\)/g, "").split(/,\s+|\s+and\s+/);
    expect(named).toEqual(capabilities.filter((name) => !name.endsWith("+PTX")));
  });

  test("are those that docs/troubleshooting.md shows", () => {
    expect(read("docs/troubleshooting.md")).toContain(`with code for ${capabilities.join(", ")}\n`);
  });

  test("is the oldest in docs/cuda.md, docs/troubleshooting.md and for the GPU's roof", () => {
    expect(read("docs/cuda.md")).toContain(`compute capability ${oldest} and newer`);
    expect(read("docs/troubleshooting.md")).toContain(`(${oldest} is the oldest)`);
    const virtual = shipped[0]!.replace("-real", "-virtual");
    expect(read("bench/speed/CMakeLists.txt")).toContain(`set(MTADAM_ROOF_ARCHITECTURES ${virtual} `);
  });
});

describe("another list", () => {
  const numbers = shipped.map((name) => String(Number.parseInt(name, 10)));
  const dotted = capabilities.map((name) => name.replace("+PTX", "").replace(".", "\\."));
  // The first three in sequence, in either spelling, possibly with others between them that run an older one's code.
  const between = String.raw`(?:-real)?(?:["',;\s]|\([^)]*\)|8\.?[69])+`;
  const either = [numbers, dotted].map((each) => each.slice(0, 3).join(between)).join("|");
  const spelled = new RegExp(`(?<![\\d.])(?:${either})\\b`);

  test("is recognised", () => {
    for (const text of [
      "75-real 80-real 90-real 100-real",
      "[75, 80, 86, 89, 90]",
      '["7.5", "8.0",\n  "9.0"]',
      "7.5, 8.0 (which 8.6 and 8.9 run as well), 9.0",
    ]) {
      expect(text).toMatch(spelled);
    }
    for (const text of ["75,90,100", '"7.5", "9.0"', "1.75, 80, 90", "75; 801; 90"]) {
      expect(text).not.toMatch(spelled);
    }
  });

  test("is in no file but those above", () => {
    const skipped = /^(node_modules|build|dist|prebuilds|\.git|docs\/(gpu|speed|balancing)|test\/golden)$/;
    const filesBelow = (folder: string): string[] =>
      readdirSync(path.join(root, folder)).flatMap((entry) => {
        const name = path.posix.join(folder, entry);
        if (skipped.test(name)) return [];
        return statSync(path.join(root, name)).isDirectory() ? filesBelow(name) : [name];
      });
    const own = path.posix.join("test/repo", path.basename(__filename));
    const found = filesBelow(".").filter((name) => name !== own && spelled.test(read(name)));
    expect(found.sort()).toEqual(["CMakeLists.txt", "docs/install.md", "docs/troubleshooting.md"]);
  });
});
