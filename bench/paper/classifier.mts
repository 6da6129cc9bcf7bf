import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { MTAdam } from "mtadam";
import { randomFor } from "../../examples/common/random.mjs";
import { ROOT } from "../common/root.mjs";
import { drawn, loadData, type DataName } from "./data.mjs";
import { openModel, sourcesOf } from "./python.mjs";

const SEED = 1;
const BATCH = 64;

/**
 * The path of a file with the classifier whose features measure pictures of this data set. It is trained with Adam for
 * `steps` steps on the training images and their outlines, if the file does not exist yet.
 */
export async function trainedClassifier(data: DataName, steps: number): Promise<string> {
  const folder = join(ROOT, "build/paper");
  const path = join(folder, `classifier-${data}-${steps}-${version()}.pt`);
  if (existsSync(path)) return path;
  await mkdir(folder, { recursive: true });
  const { train, validation } = await loadData(data);
  const model = await openModel("classifier", { seed: SEED });
  try {
    const optimizer = new MTAdam(model.parameters, { terms: model.terms, lr: 1e-3 });
    const random = randomFor(1, SEED, "classifier");
    for (let step = 0; step < steps; ++step) {
      optimizer.step(await model.gradients({ ...drawn(train, BATCH, random) }));
    }
    optimizer.dispose();
    const { images, classes } = drawn(validation, 2000, random);
    const accuracy = (await model.call("accuracy", { images, classes })) as number[];
    const percent = accuracy.map((share) => (100 * share).toFixed(1)).join(" and ");
    console.log(`The classifier of ${data} names ${percent} % of pictures and outlines (validation).`);
    // Another run may be training the same one.
    const temporary = `${path}.${process.pid}.tmp`;
    await model.call("save", [temporary]);
    await rename(temporary, path);
  } finally {
    await model.close();
  }
  return path;
}

/** Changes with the classifier's sources. */
function version(): string {
  return createHash("sha256").update(sourcesOf("nets", "classifier")).digest("hex").slice(0, 8);
}
