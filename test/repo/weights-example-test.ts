import { execFileSync } from "node:child_process";
import path from "node:path";
import { compileExamples } from "../support/examples";

test("examples/weights finds weights with a smaller error on new points than equal ones, in the steps of five trainings", () => {
  const main = path.join(compileExamples(), "weights", "main.mjs");
  const output = execFileSync(process.execPath, [main], { encoding: "utf8" });
  const rows = [...output.matchAll(/^([\d.]+) : ([\d.]+) +(\d+) +([\d.]+)$/gm)].map(([, ...cells]) =>
    cells.map(Number),
  );
  expect(rows.length).toBeGreaterThan(7);
  expect(rows.reduce((sum, [, , steps]) => sum + steps!, 0)).toBeLessThanOrEqual(5 * 900);
  const [, points, bend] = /The points count ([\d.]+), the bend ([\d.]+)\.$/m.exec(output)!;
  const found = rows.filter((row) => row[0] === Number(points) && row[1] === Number(bend)).at(-1)!;
  const equal = rows.filter((row) => row[0] === row[1]).at(-1)!;
  expect(found[2]).toBe(900);
  expect(found[3]).toBeLessThan(0.8 * equal[3]!);
}, 60_000);
