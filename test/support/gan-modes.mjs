// Trains an arm of the GAN example on the CPU: prints how well its points represent the ring, as JSON. node
// gan-modes.mjs EXAMPLES ARM SEED STEPS

import { openDevice } from "./open-device.mjs";

const [examples, key, seed, steps] = process.argv.slice(2);
const { ARMS, Gan } = await import(`${examples}/gan/gan.mjs`);
const { qualityOf } = await import(`${examples}/gan/ring.mjs`);

const arm = ARMS.find((one) => one.key === key);
const gan = new Gan({ device: openDevice("cpu"), arm, seed: Number(seed) });
while (gan.steps < Number(steps)) await gan.step();
console.log(JSON.stringify(qualityOf(await gan.sample(4000))));
