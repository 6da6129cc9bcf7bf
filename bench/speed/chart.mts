import type { CustomSeriesRenderItem } from "echarts";
import { AXIS, COLOURS, INK, svg } from "../common/svg.mjs";
import { contenderOf, shareOfCopy, shareOfTraffic, type Results } from "./results.mjs";
import { SUBJECTS } from "./shapes.mjs";
import type { Spread } from "./statistics.mjs";

const SERIES = [
  { title: "per-term, step", form: "perTerm", name: "step", colour: COLOURS[0]! },
  { title: "per-term, streamed", form: "perTerm", name: "streamed", colour: COLOURS[4]! },
  { title: "summed, step", form: "summed", name: "step", colour: COLOURS[1]! },
  { title: "summed, streamed", form: "summed", name: "streamed", colour: COLOURS[5]! },
] as const;

const WIDTH = 900;
const LEFT = 60;
const PLOT = 150;
const ROW = 215;
const TOP = 50;

/**
 * Bars of the share of the same traffic, or on a GPU of a copy's bandwidth, with quartiles: a plot per shape with cold
 * inputs, the roof a line at 100 %.
 */
export function chart({ gpu, settings }: Results): string {
  const cold = settings.filter(({ inputs }) => inputs === "cold");
  const plots = SUBJECTS.filter(({ key }) => cold.some(({ subject }) => subject === key));
  const terms = [...new Set(cold.map((setting) => setting.terms))].sort((a, b) => a - b);
  const shares = plots.map(({ key }) =>
    SERIES.map(({ form, name }) =>
      terms.map((count) => {
        const setting = cold.find(
          (each) => each.subject === key && each.terms === count && each.form === form,
        );
        const contender = setting && contenderOf(setting, name);
        return contender && (gpu ? shareOfCopy(contender) : shareOfTraffic(contender));
      }),
    ),
  );
  const most = Math.max(100, ...shares.flat(2).map((share) => 100 * (share?.high ?? 0)));
  return svg(WIDTH, TOP + ROW * Math.max(1, plots.length), {
    legend: {
      top: 4,
      data: plots.length === 0 ? [] : SERIES.map(({ title }) => title),
      textStyle: { color: INK, fontSize: 12 },
    },
    title: plots.map(({ title }, i) => ({
      text: title,
      left: LEFT,
      top: TOP + i * ROW - 14,
      textStyle: { fontSize: 13, fontWeight: 600, color: INK },
    })),
    grid: plots.map((_, i) => ({
      left: LEFT,
      top: TOP + i * ROW + 14,
      width: WIDTH - LEFT - 30,
      height: PLOT,
    })),
    xAxis: plots.map((_, i) => ({
      ...AXIS,
      gridIndex: i,
      type: "category" as const,
      data: terms.map((count) => `I = ${count}`),
      axisTick: { show: false },
      splitLine: { show: false },
    })),
    yAxis: plots.map((_, i) => ({
      ...AXIS,
      gridIndex: i,
      type: "value" as const,
      max: Math.ceil(most / 20) * 20,
      axisLabel: { ...AXIS.axisLabel, formatter: "{value} %" },
    })),
    series: plots.flatMap((_, i) =>
      SERIES.flatMap(({ title, colour }, j) => {
        const axes = { xAxisIndex: i, yAxisIndex: i, name: title };
        return [
          {
            ...axes,
            type: "bar" as const,
            itemStyle: { color: colour },
            data: shares[i]![j]!.map((share) => (share ? 100 * share.median : "-")),
            ...(j === 0 ? { markLine: ROOF } : {}),
          },
          {
            ...axes,
            type: "custom" as const,
            itemStyle: { color: colour },
            z: 10,
            renderItem: whisker(j),
            data: shares[i]![j]!.flatMap((share, k) => (share ? [whiskerData(k, share)] : [])),
          },
        ];
      }),
    ),
  });
}

const ROOF = {
  symbol: "none",
  silent: true,
  label: { show: false },
  lineStyle: { color: INK, type: "solid" as const, width: 1.5 },
  data: [{ yAxis: 100 }],
};

function whiskerData(place: number, { low, high }: Spread): number[] {
  return [place, 100 * low, 100 * high];
}

/** A line from quartile to quartile in the middle of the bar of that number. */
function whisker(bar: number): CustomSeriesRenderItem {
  return (_, api) => {
    const [place, low, high] = [0, 1, 2].map((dimension) => Number(api.value(dimension)));
    const offset = api.barLayout({ count: SERIES.length })?.[bar]?.offsetCenter ?? 0;
    const from = api.coord([place!, low!]);
    const to = api.coord([place!, high!]);
    const x = from[0]! + offset;
    return {
      type: "line",
      shape: { x1: x, y1: from[1]!, x2: x, y2: to[1]! },
      style: { stroke: INK, lineWidth: 1.5 },
    };
  };
}
