// Trains a small pix2pix of bench/paper in the folder given, for paper-test.ts: a line per training, then the results.

import { existsSync, readFileSync } from "node:fs";
import { writeReport } from "mtadam";

const load = (name) => import(`../../build/test/paper/bench/${name}.mjs`);

const { run } = await load("common/runner");
const { Store } = await load("common/store");
const { pictureExperiments } = await load("paper/pictures");

const folder = process.argv[2];
const [pix2pix] = pictureExperiments({ judged: 80, classifierSteps: 1 });
const experiment = {
  ...pix2pix,
  arms: pix2pix.arms.filter(({ key }) => key === "recommended"),
  variants: ["wrong weights"],
  rates: [1e-3],
};
const extent = { seeds: 2, steps: 4 };
const conditions = { again: false, deadline: Infinity, log: (line) => console.log(`trained ${line}`) };
const store = await Store.open(folder, experiment);
const choices = await run(experiment, store, extent, conditions);
const outcomes = [];
for (const seed of [1, 2]) {
  const { value, details, picture, records } = store.find(choices(experiment.arms[0], "wrong weights"), {
    variant: "wrong weights",
    seed,
    steps: extent.steps,
  });
  const page = `${folder}/page.html`;
  if (records) await writeReport([`${folder}/${records}`], page, { title: "pix2pix: a title" });
  const html = records && readFileSync(page, "utf8");
  outcomes.push({
    value,
    details,
    picture: picture !== undefined && existsSync(`${folder}/${picture}`),
    // The terms, a tensor, and the title.
    pageHas: html
      ? ['["adversarial","pixels"]', "generator.up1.bias", "pix2pix: "].map((text) => html.includes(text))
      : [],
  });
}
console.log(JSON.stringify(outcomes));
