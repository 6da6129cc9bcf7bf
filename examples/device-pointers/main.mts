import { describeDevices } from "mtadam";
import { openRuntime } from "./runtime.mjs";
import { train } from "./train.mjs";

// Memory that CUDA's runtime allocates is trained in place. Any package that hands out addresses will do.
const { reason } = describeDevices().cuda;
if (reason === undefined) {
  const point = await train(openRuntime());
  console.log(
    `MTAdam ends at ${[...point].map((value) => value.toFixed(2)).join(", ")}: between the corners`,
  );
} else {
  console.error(`This example needs a CUDA device: ${reason}`);
  process.exitCode = 1;
}
