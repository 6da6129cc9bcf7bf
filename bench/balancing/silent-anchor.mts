import { MTAdam, type MTAdamOptions } from "mtadam";
import { AXIS, COLOURS, svg } from "../common/svg.mjs";

/** The first and the last step in which the first term is silent, counted from 1. */
export const SILENCE = { from: 101, to: 400 };
const STEPS = 550;

/** Options, and whether the silent term's gradient is left out instead of being zero. */
interface Remedy {
  name: string;
  options?: Partial<MTAdamOptions<"a" | "b">>;
  absent?: boolean;
}

export const REMEDIES: readonly Remedy[] = [
  { name: "default" },
  { name: 'anchor: "max"', options: { anchor: "max" } },
  { name: 'anchor: "mean"', options: { anchor: "mean" } },
  { name: 'anchor: "b"', options: { anchor: "b" } },
  { name: "absent, not zero", absent: true },
  { name: 'silence: "rest"', options: { silence: "rest" } },
];

/**
 * How far the second of two terms moves its element of a layer in every step, in units of lr. Its gradient is always 1.
 * The first term, which has another element, falls silent and comes back.
 */
export function stepLengths({ options, absent }: Remedy): number[] {
  const lr = 1e-3;
  const data = new Float32Array(2);
  const optimizer = new MTAdam([data], { ...options, lr, terms: ["a", "b"] });
  const second = Float32Array.of(0, 1);
  const lengths = Array.from({ length: STEPS }, (_, i) => {
    const silent = i + 1 >= SILENCE.from && i + 1 <= SILENCE.to;
    data.fill(0); // so that small steps are not rounded away
    optimizer.step([silent && absent ? [null] : [Float32Array.of(silent ? 0 : 1, 0)], [second]]);
    return Math.abs(data[1]!) / lr;
  });
  optimizer.dispose();
  return lengths;
}

/** The plots of all remedies, on one scale. */
export function silentAnchor(): string {
  const [width, height, gapX, gapY, left, top] = [300, 130, 24, 52, 64, 40];
  const places = REMEDIES.map((_, i) => ({
    left: left + (i % 3) * (width + gapX),
    top: top + Math.floor(i / 3) * (height + gapY),
  }));
  return svg(left + 3 * (width + gapX), top + 2 * (height + gapY) + 10, {
    title: REMEDIES.map(({ name }, i) => ({
      text: name,
      left: places[i]!.left,
      top: places[i]!.top - 24,
      textStyle: { fontSize: 13, fontWeight: 600 as const },
    })),
    grid: places.map((place) => ({ ...place, width, height })),
    xAxis: REMEDIES.map((_, i) => ({
      ...AXIS,
      gridIndex: i,
      type: "value" as const,
      min: 0,
      max: STEPS,
      interval: 100,
      splitLine: { show: false },
      axisLabel: { ...AXIS.axisLabel, showMaxLabel: false },
      name: i >= 3 ? "step" : "",
      nameLocation: "middle" as const,
      nameGap: 26,
    })),
    yAxis: REMEDIES.map((_, i) => ({
      ...AXIS,
      gridIndex: i,
      type: "value" as const,
      min: -10,
      max: 2,
      interval: 2,
      name: i % 3 === 0 ? "step of b / lr" : "",
      nameLocation: "middle" as const,
      nameGap: 46,
      axisLabel: {
        ...AXIS.axisLabel,
        show: i % 3 === 0,
        formatter: (power: number) => (power === 0 ? "1" : `1e${power}`),
      },
    })),
    series: REMEDIES.map((remedy, i) => ({
      type: "line" as const,
      xAxisIndex: i,
      yAxisIndex: i,
      showSymbol: false,
      silent: true,
      lineStyle: { color: COLOURS[0]!, width: 1.8 },
      data: stepLengths(remedy).map((length, step) => [step + 1, Math.log10(length)]),
      markArea: {
        itemStyle: { color: "#eceff2" },
        data: [[{ xAxis: SILENCE.from }, { xAxis: SILENCE.to }]],
      },
    })),
  });
}
