import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { emptiedFolder } from "../support/folder";

const root = path.join(__dirname, "../..");
const folder = emptiedFolder();

/** Packs a copy of the checkout that has no build. */
function npmPack(): { status: number | null; lines: string[] } {
  const { status, stderr } = spawnSync("npm", ["pack", "--dry-run"], {
    cwd: folder,
    encoding: "utf8",
    shell: process.platform === "win32",
  });
  return { status, lines: stderr.split("\n") };
}

test("npm pack fails without a build and says what is missing; with it, it packs", () => {
  for (const name of ["package.json", "scripts", "lib"]) {
    cpSync(path.join(root, name), path.join(folder, name), { recursive: true });
  }
  const refused = npmPack();
  expect(refused.status).not.toBe(0);
  expect(refused.lines).toContain(
    "The package is not complete; `npm run build:prebuilds` builds what is missing:",
  );
  const missing = refused.lines.flatMap((line) => /^ {2}it must have (.*)$/.exec(line)?.[1] ?? []);
  expect(missing).toContain("dist/index.d.ts");
  expect(missing.filter((name) => /^prebuilds\/[a-z0-9-]+\/mtadam\.[a-z.]*node$/.test(name))).toHaveLength(1);
  for (const name of missing) {
    mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    writeFileSync(path.join(folder, name), "");
  }
  expect(npmPack().status).toBe(0);
});
