// The script of the report: report.mts writes its compiled text into the page, after that of echarts. It runs
// in a browser and may import types only.
import type * as ECharts from "echarts";
import type { Curve, HeatMap, PageData } from "./page-data.mjs";

declare const echarts: typeof ECharts;

const data = JSON.parse(document.getElementById("data")!.textContent) as PageData;
const charts = new Map<string, ECharts.EChartsType>();

/** The chart in the element `id`, drawn again with `option`; `description` is for screen readers. */
function draw(id: string, description: string, option: object): void {
  const element = document.getElementById(id)!;
  if (!charts.has(id)) charts.set(id, echarts.init(element));
  const text = { color: colour("--ink"), fontFamily: "system-ui, sans-serif" };
  const aria = { enabled: true, label: { description } };
  const general = { backgroundColor: "transparent", textStyle: text, animation: false, aria };
  charts.get(id)!.setOption({ ...general, ...option }, { notMerge: true });
}

/** A custom property of the style sheet, which has values for light and dark. */
function colour(property: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(property).trim();
}

function axis(name: string, gap: number) {
  const line = { lineStyle: { color: colour("--line") } };
  const quiet = { color: colour("--soft") };
  const title = { name, nameLocation: "middle", nameGap: gap, nameTextStyle: quiet };
  return { ...title, axisLabel: quiet, axisLine: line, axisTick: line, splitLine: line };
}

function tooltip(more: object) {
  const text = { color: colour("--ink"), fontSize: 13 };
  return { backgroundColor: colour("--paper"), borderColor: colour("--line"), textStyle: text, ...more };
}

function drawCurves(): void {
  // The first steps, when little is learned, would take most of the height: the axis begins above them.
  const late = data.curves.flatMap(({ mean }) => mean.slice(Math.floor(mean.length / 5)));
  const lowest = Math.min(...late.map(([, accuracy]) => accuracy));
  // On a narrow page the legend takes a line for each arm.
  const narrow = document.getElementById("curves")!.clientWidth < 840;
  const pointer = { label: { formatter: ({ value }: { value: number }) => `step ${value}` } };
  draw("curves", "Test accuracy of the four arms over the steps of training.", {
    grid: { left: 62, right: 20, top: narrow ? 28 * data.curves.length : 48, bottom: 56 },
    legend: {
      top: 0,
      left: 4,
      orient: narrow ? "vertical" : "horizontal",
      icon: "roundRect",
      itemWidth: 20,
      itemHeight: 4,
      itemGap: 18,
      textStyle: { color: colour("--ink") },
    },
    tooltip: tooltip({ trigger: "axis", valueFormatter: (value: number) => `${value.toFixed(2)} %` }),
    xAxis: {
      type: "value",
      max: "dataMax",
      ...axis("steps", 32),
      splitLine: { show: false },
      axisPointer: pointer,
    },
    yAxis: {
      type: "value",
      min: Math.max(0, 10 * Math.floor((lowest - 5) / 10)),
      max: 100,
      ...axis("test accuracy, %", 40),
    },
    series: data.curves.flatMap(seriesOf),
  });
}

/**
 * The mean as a strong line; the rounds, if several, as faint ones that share its name and so its legend
 * entry.
 */
function seriesOf({ key, name, mean, rounds }: Curve) {
  const common = { type: "line", name, color: colour(`--arm-${key}`), showSymbol: false };
  const type = key === "equal" ? "dashed" : "solid";
  const faint = { lineStyle: { width: 1, opacity: 0.3, type }, silent: true, tooltip: { show: false } };
  return [
    { ...common, data: mean, lineStyle: { width: 2.25, type }, z: 3 },
    ...rounds.map((points) => ({ ...common, ...faint, data: points })),
  ];
}

function drawHeatMaps(): void {
  const chosen = document.querySelector<HTMLInputElement>("input[name=heat]:checked");
  const map = data.heatMaps.find(({ key }) => key === chosen?.value);
  map?.layers.forEach((layer, index) =>
    draw(`heat-${index}`, `Norm share of each term over time in ${layer.name}.`, heatMapOption(map, layer)),
  );
}

function heatMapOption({ steps }: HeatMap, { name, cells }: HeatMap["layers"][number]) {
  const scale = [0, 1, 2, 3].map((i) => colour(`--heat-${i}`));
  const describe = ({ value: [column, term, share] }: { value: [number, number, number] }) =>
    `step ${steps[column]}, digit ${data.terms[term]}: ${share.toFixed(2)} %`;
  return {
    title: {
      text: name,
      left: 72,
      top: 4,
      textStyle: { color: colour("--ink"), fontSize: 14, fontWeight: 600 },
    },
    grid: { left: 72, right: 8, top: 32, bottom: 48 },
    tooltip: tooltip({ formatter: describe }),
    xAxis: { type: "category", data: steps, ...axis("steps", 28), splitLine: { show: false } },
    yAxis: { type: "category", data: data.terms, inverse: true, ...axis("", 0), splitLine: { show: false } },
    visualMap: { show: false, min: 0, max: data.largestShare, inRange: { color: scale } },
    series: [{ type: "heatmap", data: cells, progressive: 0, emphasis: { disabled: true } }],
  };
}

function drawAll(): void {
  drawCurves();
  drawHeatMaps();
}

drawAll();
document
  .querySelectorAll("input[name=heat]")
  .forEach((input) => input.addEventListener("change", drawHeatMaps));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
addEventListener("resize", () => {
  charts.forEach((chart) => chart.resize());
  drawAll();
});
