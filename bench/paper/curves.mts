import { AXIS, COLOURS, INK, svg } from "../common/svg.mjs";
import type { Experiment, Results, Row } from "../common/experiment.mjs";
import { logarithmicScale } from "../common/plot.mjs";
import { mean } from "../common/statistics.mjs";

const [WIDTH, HEIGHT, LEFT, GAP, TOP, LEGEND] = [360, 300, 75, 70, 36, 250];

/** The value after each quarter of the training, the mean over the seeds: a line per arm, a panel per variant. */
export function curves(results: Results, { measure, show }: Pick<Experiment, "measure" | "show">): string {
  const panels = [...results];
  const linesOf = (rows: readonly Row[]) =>
    rows.map(({ outcomes }) => meanCurve(outcomes.map(({ details }) => details!["curve"] as number[])));
  const scale = logarithmicScale(
    panels.flatMap(([, rows]) => linesOf(rows).flatMap((line) => line.filter((value) => value !== null))),
  );
  const left = (panel: number) => LEFT + panel * (WIDTH + GAP);
  const end = left(panels.length);
  return svg(end + LEGEND, TOP + HEIGHT + 50, {
    title: panels.map(([variant], i) => ({
      text: variant,
      left: left(i),
      top: 8,
      textStyle: { fontSize: 14, fontWeight: 600, color: INK },
    })),
    legend: { orient: "vertical", left: end - GAP + 20, top: TOP, textStyle: { color: INK } },
    grid: panels.map((_, i) => ({ left: left(i), top: TOP, width: WIDTH, height: HEIGHT })),
    xAxis: panels.map((_, i) => ({
      ...AXIS,
      gridIndex: i,
      type: "category" as const,
      data: ["25 %", "50 %", "75 %", "100 %"],
      name: "of the training",
      nameLocation: "middle" as const,
      nameGap: 28,
    })),
    yAxis: panels.map((_, i) => ({
      ...AXIS,
      gridIndex: i,
      ...scale,
      name: i === 0 ? measure : "",
      nameLocation: "middle" as const,
      nameGap: 45,
      axisLabel: { ...AXIS.axisLabel, ...scale.axisLabel, formatter: show },
    })),
    series: panels.flatMap(([, rows], i) =>
      linesOf(rows).map((data, row) => ({
        type: "line" as const,
        name: rows[row]!.arm.name,
        xAxisIndex: i,
        yAxisIndex: i,
        symbolSize: 5,
        itemStyle: { color: COLOURS[row % COLOURS.length]! },
        lineStyle: {
          color: COLOURS[row % COLOURS.length]!,
          type: row < COLOURS.length ? ("solid" as const) : ("dashed" as const),
        },
        data,
      })),
    ),
  });
}

/** The mean over the trainings at each moment; null where one has diverged. */
function meanCurve(ofTrainings: readonly (readonly (number | null)[])[]): (number | null)[] {
  return (ofTrainings[0] ?? []).map((_, moment) => {
    const value = mean(ofTrainings.map((curve) => curve[moment] ?? NaN));
    return Number.isFinite(value) ? value : null;
  });
}
