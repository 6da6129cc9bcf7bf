import { runCommand } from "../common/command.mjs";
import { FULL, pictureExperiments } from "./pictures.mjs";
import { taskExperiments } from "./tasks.mjs";

await runCommand({
  script: "bench:paper",
  purpose: "The kinds of experiment of the MTAdam paper, small enough for two cores. They need PyTorch.",
  experiments: [...pictureExperiments(FULL), ...taskExperiments],
  out: "docs/paper",
});
