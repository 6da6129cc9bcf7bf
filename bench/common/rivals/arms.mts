import type { Arm } from "../experiment.mjs";
import { annealing } from "./annealing.mjs";
import { caGrad } from "./cagrad.mjs";
import { famo } from "./famo.mjs";
import { firstNorms } from "./first-norms.mjs";
import { gradNorm } from "./gradnorm.mjs";
import { mgda } from "./mgda.mjs";
import { pcGrad } from "./pcgrad.mjs";
import type { Combiner, Start } from "./rival.mjs";
import { uncertainty } from "./uncertainty.mjs";

function combining(key: string, name: string, start: (start: Start) => Combiner): Arm {
  return { key, name, rival: { kind: "combine", start } };
}

/** Other methods on the same gradients, with the settings of their papers. */
export const RIVALS: readonly Arm[] = [
  combining("gradnorm", "GradNorm", gradNorm(1.5)),
  combining("famo", "FAMO", famo),
  combining("cagrad", "CAGrad", caGrad(0.4)),
  combining("pcgrad", "PCGrad", pcGrad),
  combining("mgda", "MGDA", mgda),
  combining("uncertainty", "uncertainty weights", uncertainty),
  combining("first-norms", "fixed 1/n₀", firstNorms),
  { key: "adatask", name: "AdaTask", rival: { kind: "own denominators", of: "sum" } },
  {
    key: "multiadam",
    name: "MultiAdam",
    rival: { kind: "own denominators", of: "mean", betas: [0.99, 0.99] },
  },
];

/** One more method is made for equations: its first term is the equation. */
export const RIVALS_OF_PINNS: readonly Arm[] = [...RIVALS, combining("annealing", "λ annealing", annealing)];
