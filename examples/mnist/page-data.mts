import type { Arm } from "./arms.mjs";
import { normShares, type RoundResult } from "./results.mjs";
import { percent } from "./table.mjs";

/** The data that the report's script draws. Accuracies and shares are in percent. */
export interface PageData {
  curves: Curve[];
  heatMaps: HeatMap[];
  /** The largest share in any of the heat maps: they all have the same scale. */
  largestShare: number;
  /** The labels of the rows of the heat maps, one per term. */
  terms: string[];
}

/** Test accuracy of one arm. */
export interface Curve {
  key: Arm["key"];
  name: string;
  mean: [step: number, accuracy: number][];
  /** The rounds one by one, if there are several. */
  rounds: [step: number, accuracy: number][][];
}

/** Norm shares of one arm in the first round. */
export interface HeatMap {
  key: Arm["key"];
  name: string;
  steps: number[];
  layers: { name: string; cells: [column: number, term: number, share: number][] }[];
}

/** The data for the charts: curves over the `counted` rounds, heat maps of the `first`. */
export function pageData(counted: readonly RoundResult[], first: RoundResult): PageData {
  const heatMaps = first.arms.flatMap(({ arm, history }) => {
    if (!history) return [];
    const layers = history.layers.map((name, layer) => ({
      name,
      cells: history.norms.flatMap((norms, column) =>
        normShares(norms, history.layers.length, layer).flatMap((share, term): [number, number, number][] =>
          Number.isNaN(share) ? [] : [[column, term, Number(percent(share, 2))]],
        ),
      ),
    }));
    return [{ key: arm.key, name: arm.name, steps: history.steps, layers }];
  });
  const shares = heatMaps.flatMap(({ layers }) =>
    layers.flatMap(({ cells }) => cells.map(([, , share]) => share)),
  );
  return {
    curves: first.arms.map((_, arm) => curve(counted, arm)),
    heatMaps,
    largestShare: shares.reduce((largest, share) => Math.max(largest, share), 0),
    terms: first.weights.map((weight, term) => `${term}  (×${weight.toFixed(0)})`),
  };
}

/** Rounds that count have the same steps, so their curves have the same points. */
function curve(rounds: readonly RoundResult[], index: number): Curve {
  const { key, name } = rounds[0]!.arms[index]!.arm;
  const each = rounds.map((round) => round.arms[index]!.curve.map(inPercent));
  const mean = each[0]!.map(([step], point): [number, number] => {
    const sum = each.reduce((total, points) => total + points[point]![1], 0);
    return [step, Number((sum / each.length).toFixed(3))];
  });
  return { key, name, mean, rounds: each.length > 1 ? each : [] };
}

function inPercent([step, accuracy]: [number, number]): [number, number] {
  return [step, Number(percent(accuracy, 2))];
}
