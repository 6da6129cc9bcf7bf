import { init, type EChartsOption } from "echarts";

const FONT = "system-ui, Segoe UI, Roboto, Liberation Sans, DejaVu Sans, sans-serif";
export const INK = "#1c2024";
export const SOFT = "#5c646d";
export const LINE = "#d9dee3";
/** Told apart also by those who see fewer colours (Okabe and Ito). */
export const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"];

const NAME = /\bzr\d+-[\w-]+/g;

/** An SVG of this size, on white so that it can be read on any page. */
export function svg(width: number, height: number, option: EChartsOption): string {
  const chart = init(null, null, { renderer: "svg", ssr: true, width, height });
  chart.setOption({
    animation: false,
    backgroundColor: "#ffffff",
    textStyle: { fontFamily: FONT, color: INK },
    ...option,
  });
  const text = chart.renderToSVGString();
  chart.dispose();
  // Names of classes and clips count on from those of the charts before: the same picture should be the same file.
  const names = [...new Set(text.match(NAME))];
  return text.replace(NAME, (name) => `c${names.indexOf(name)}`);
}

/** What axes have in common. */
export const AXIS = {
  axisLine: { show: true, onZero: false, lineStyle: { color: SOFT } },
  axisLabel: { color: INK, fontSize: 12 },
  nameTextStyle: { color: INK, fontSize: 12 },
  splitLine: { show: true, lineStyle: { color: LINE } },
} as const;
