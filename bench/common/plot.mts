import { AXIS, COLOURS, INK, svg } from "./svg.mjs";
import { mean } from "./statistics.mjs";

/** One of several plots side by side: a row of values per name. */
export interface DotPanel {
  title: string;
  rows: readonly { name: string; values: readonly number[] }[];
}

const ROW = 26;
const NAMES = 210;
const PANEL = 380;
const MARGIN = 30;

/** Values by name, names from top to bottom: a faint dot for each, a strong one for the mean. */
export function dots(
  panels: readonly DotPanel[],
  { label, logarithmic, show }: { label: string; logarithmic: boolean; show: (value: number) => string },
): string {
  const rows = panels[0]!.rows.length;
  const top = panels[0]!.title === "" ? 12 : 36;
  const all = panels.flatMap(({ rows }) => rows.flatMap(({ values }) => drawn(values)));
  const scale = logarithmic ? logarithmicScale(all) : { type: "value" as const, scale: true, axisLabel: {} };
  const left = (panel: number) => NAMES + panel * (PANEL + MARGIN);
  return svg(left(panels.length), top + ROW * rows + 52, {
    title: panels.map(({ title }, i) => ({
      text: title,
      left: left(i),
      top: 8,
      textStyle: { fontSize: 14, fontWeight: 600, color: INK },
    })),
    grid: panels.map((_, i) => ({ left: left(i), top, width: PANEL, height: ROW * rows })),
    xAxis: panels.map((_, i) => ({
      ...AXIS,
      gridIndex: i,
      ...scale,
      name: label,
      nameLocation: "middle" as const,
      nameGap: 28,
      axisLabel: { ...AXIS.axisLabel, ...scale.axisLabel, formatter: show, hideOverlap: true },
    })),
    yAxis: panels.map(({ rows }, i) => ({
      ...AXIS,
      gridIndex: i,
      type: "category" as const,
      inverse: true,
      data: rows.map(({ name }) => name),
      axisTick: { show: false },
      axisLabel: { ...AXIS.axisLabel, show: i === 0, interval: 0 },
    })),
    series: panels.flatMap(({ rows }, i) => {
      const axes = { type: "scatter" as const, xAxisIndex: i, yAxisIndex: i };
      return [
        {
          ...axes,
          symbolSize: 7,
          itemStyle: { color: COLOURS[0]!, opacity: 0.35 },
          data: rows.flatMap(({ values }, row) => drawn(values).map((value) => [value, row])),
        },
        {
          ...axes,
          symbol: "diamond",
          symbolSize: 13,
          itemStyle: { color: COLOURS[0]! },
          data: rows.flatMap(({ values }, row) => drawn([mean(values)]).map((value) => [value, row])),
        },
      ];
    }),
  });
}

/** A plot leaves out trainings that diverged and their mean. */
function drawn(values: readonly number[]): readonly number[] {
  return values.filter(Number.isFinite);
}

/** A logarithmic axis that ends at the values instead of at powers of ten, with marks at 1, 2 and 5. */
export function logarithmicScale(values: readonly number[]) {
  const [least, most] = [Math.min(...values) / 1.15, Math.max(...values) * 1.15];
  const powers = Array.from({ length: 40 }, (_, i) => 10 ** (i - 20));
  const customValues = powers
    .flatMap((power) => [power, 2 * power, 5 * power])
    .filter((value) => value >= least && value <= most);
  return {
    type: "log" as const,
    min: least,
    max: most,
    axisTick: { customValues },
    axisLabel: { customValues },
  };
}
