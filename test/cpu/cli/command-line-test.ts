import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { install, version, type Ended } from "../../support/installed";

const installed = install();

test("--help lists the commands, also after a command", () => {
  for (const args of [["--help"], ["-h"], ["inspect", "--help"], ["build", "--help"], ["report", "-h"]]) {
    const { status, stdout, stderr } = installed.mtadam(args);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toMatch(
      /^Usage: npx mtadam <command>[^]*\n {2}inspect [^]*--json[^]*\n {2}build [^]*--cuda[^]*\n {2}merge [^]*--output[^]*\n {2}report [^]*--watch/,
    );
  }
});

test("--version", () => {
  expect(installed.mtadam(["--version"])).toEqual({ status: 0, stdout: `${version}\n`, stderr: "" });
});

test.each<[string[], string]>([
  [[], "No command was given; `npx mtadam --help` lists the commands."],
  [["inspekt"], '"inspekt" is not a command of mtadam; `npx mtadam --help` lists the commands.'],
  [["--json"], '"--json" is not a command of mtadam; `npx mtadam --help` lists the commands.'],
  [["inspect", "--jsn"], '"--jsn" is not an option of `mtadam inspect`.'],
  [["inspect", "--json", "all"], '"all" is not an option of `mtadam inspect`.'],
  [["merge"], "`mtadam merge` must get the pieces of a checkpoint."],
  [["merge", "a"], "--output must name the file: the first piece's name does not end as in .1-of-2."],
  [["build", "--fast"], "`--fast` is not an option of the build."],
  [["build", "addon"], "`addon` is not an argument of the build."],
  [["build", "--cuda", "maybe"], '`--cuda` must be on, off or auto; got "maybe".'],
  [["build", "--cuda"], "`--cuda` needs a value."],
  [["build", "--verbose=yes"], "`--verbose` takes no value."],
  [["build", "--architecture", "hopper"], '`--architecture` must be a number such as 90; got "hopper".'],
  [["build", "--architecture=90", "--cuda=off"], "`--architecture` and `--cuda off` exclude each other."],
])("%j: one sentence and exit code 2", (args, sentence) => {
  expect(installed.mtadam(args)).toEqual<Ended>({ status: 2, stdout: "", stderr: `${sentence}\n` });
});

test.each([["inspect"], ["inspekt"]])("%s ends quietly where nobody reads its output", async (command) => {
  const main = path.join(installed.package, "dist", "cli", "main.js");
  const before = installed.mtadam([command]);
  const isWritten = before.stderr === "" ? "stdout" : "stderr";
  const child = spawn(process.execPath, [main, command]);
  child[isWritten].destroy();
  let other = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (other += String(text)));
  const [code] = (await once(child, "close")) as [number];
  expect({ code, other }).toEqual({ code: before.status, other: "" });
});
