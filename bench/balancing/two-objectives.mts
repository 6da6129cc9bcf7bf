import { randomFor } from "../../examples/common/random.mjs";
import {
  COMMON,
  type Arm,
  type Experiment,
  type Outcome,
  type Results,
  type Task,
} from "../common/experiment.mjs";
import { AXIS, COLOURS, svg } from "../common/svg.mjs";
import { TOLERANCE, distanceToParetoSet, objectives, paretoSet, type Point } from "./toy.mjs";
import { Trainer } from "../common/trainer.mjs";

/** The factor of the first objective. */
const SCALES = [0.001, 0.1, 1, 10];

/** The starting points of Nash-MTL and FAMO. */
const STARTS: readonly Point[] = [
  [-8.5, 7.5],
  [0, 0],
  [9, 9],
  [-7.5, -0.5],
  [9, -1],
];

/** The arms whose paths are drawn, and the number of points per path. */
const DRAWN = ["adam", "default"];
const POINTS = 50;

/**
 * Five starting points: for seed 1 those of the papers, for other seeds random points in the square that the papers
 * plot.
 */
function startsFor(seed: number): readonly Point[] {
  if (seed === 1) return STARTS;
  const random = randomFor(1, seed, "starts");
  return STARTS.map(() => [20 * random() - 10, 20 * random() - 10]);
}

/** Trains from all five starts, each with an optimizer of its own. */
async function run(arm: Arm, { variant, seed, steps }: Task): Promise<Outcome> {
  const scale = Number(variant.replace("scale ", ""));
  const parameters = startsFor(seed).map((start) => Float32Array.from(start));
  const gradients = parameters.map(() => [[new Float32Array(2)], [new Float32Array(2)]] as const);
  const weights = [10 ** (arm.exponent ?? 0), 1];
  const trainers = parameters.map(
    (parameter, i) => new Trainer(arm, [parameter], gradients[i]!, { lr: 1e-3, weights }),
  );
  const here = () => parameters.map((parameter) => [parameter[0]!, parameter[1]!] as const);
  const paths = here().map((point) => [...point]);
  for (let step = 1; step <= steps; ++step) {
    for (const [i, point] of here().entries()) {
      const [first, second] = objectives(point).gradients;
      gradients[i]![0][0].set([scale * first[0], scale * first[1]]);
      gradients[i]![1][0].set(second);
      trainers[i]!.step();
    }
    if (step % Math.ceil(steps / POINTS) === 0)
      for (const [i, point] of here().entries()) paths[i]!.push(...point);
  }
  for (const trainer of trainers) trainer.dispose();
  const distances = here().map(distanceToParetoSet);
  const rounded = (values: readonly number[], decimals: number) =>
    values.map((value) => Number(value.toFixed(decimals)));
  return {
    value: distances.filter((distance) => distance <= TOLERANCE).length,
    details: {
      ends: here().map((point) => rounded(point, 3)),
      distances: rounded(distances, 3),
      ...(DRAWN.includes(arm.key) && { paths: paths.map((path) => rounded(path, 2)) }),
    },
  };
}

const SIDE = 230;
const GAP = 20;
const LEFT = 100;
const TOP = 36;

/** The paths from the five starts in the plane of the parameters: a row per drawn arm, a column per scale. */
function picture(results: Results): string {
  const front = paretoSet(29);
  const panels = [...results].flatMap(([variant, rows], column) =>
    rows
      .filter(({ arm }) => DRAWN.includes(arm.key))
      .map(({ arm, outcomes }, row) => ({
        place: { left: LEFT + column * (SIDE + GAP), top: TOP + row * (SIDE + GAP) },
        arm,
        variant,
        row,
        column,
        paths: (outcomes[0]!.details!["paths"] as number[][]).map((path) =>
          Array.from({ length: path.length / 2 }, (_, i) => [path[2 * i]!, path[2 * i + 1]!]),
        ),
      })),
  );
  const columns = results.size;
  const text = { fontSize: 14, fontWeight: 600 } as const;
  return svg(LEFT + columns * (SIDE + GAP), TOP + DRAWN.length * (SIDE + GAP) + 20, {
    title: [
      ...panels
        .filter(({ row }) => row === 0)
        .map(({ variant, place }) => ({ text: variant, left: place.left, top: 8, textStyle: text })),
      ...panels
        .filter(({ column }) => column === 0)
        .map(({ arm, place }) => ({
          text: arm.name.replace(", ", ",\n"),
          left: 6,
          top: place.top,
          textStyle: { ...text, fontSize: 12 },
        })),
    ],
    grid: panels.map(({ place }) => ({ ...place, width: SIDE, height: SIDE })),
    xAxis: panels.map(({ row }, gridIndex) => axis(gridIndex, row === DRAWN.length - 1)),
    yAxis: panels.map(({ column }, gridIndex) => axis(gridIndex, column === 0)),
    series: panels.flatMap(({ paths }, i) => {
      const axes = { xAxisIndex: i, yAxisIndex: i, silent: true, showSymbol: false };
      const line = { ...axes, type: "line" as const };
      return [
        { ...line, data: front.map((point) => [...point]), lineStyle: { color: "#b3bcc6", width: 7 } },
        ...paths.map((path, start) => ({
          ...line,
          data: path,
          lineStyle: { color: COLOURS[start]!, width: 1.5 },
        })),
        {
          ...axes,
          type: "scatter" as const,
          data: paths.flatMap((path, start) => [
            { value: path[0]!, symbolSize: 6, itemStyle: { color: COLOURS[start]! } },
            { value: path.at(-1)!, symbol: "diamond", symbolSize: 11, itemStyle: { color: COLOURS[start]! } },
          ]),
        },
      ];
    }),
  });
}

function axis(gridIndex: number, labelled: boolean) {
  return {
    ...AXIS,
    gridIndex,
    type: "value" as const,
    min: -11,
    max: 11,
    interval: 5.5,
    axisLine: { show: false },
    axisTick: { show: false },
    axisLabel: { ...AXIS.axisLabel, show: labelled },
  };
}

export const twoObjectives: Experiment = {
  key: "two-objectives",
  measure: `starts of five that end within ${TOLERANCE} of the Pareto set`,
  better: "higher",
  variants: SCALES.map((scale) => `scale ${scale}`),
  arms: COMMON,
  grid: {
    exponents: [0, -1, 1, -2, 2, -3, 3],
    describe: (exponent) => `${10 ** exponent} and 1`,
  },
  tuningSeeds: [101, 102],
  seeds: 1,
  steps: 50_000,
  show: (value) => String(Number(value.toFixed(1))),
  run,
  picture: { caption: "ways from the five starts to the Pareto set", draw: picture },
};
