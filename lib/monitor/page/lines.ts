interface Series {
  name: string;
  values: Values;
}

/** With six colours, 30 lines are told apart, and without colours five. */
const DASHES = ["", "7 4", "2 4", "9 3 2 3", "14 5"];

function lineStyle(at: number): Record<string, string> {
  return { stroke: `var(--c${at % 6})`, "stroke-dasharray": DASHES[at % DASHES.length]! };
}

/** Called when the slider moves. */
const onMove: (() => void)[] = [];

/** Lines over the columns, with the values under the slider in the legend. */
function lineChart(title: string, series: readonly Series[]): HTMLElement {
  const columns = currentRun().steps.length;
  const known = series.flatMap(({ values }) => values.filter((value) => value !== null));
  // There may be more values than a call can have arguments.
  const least = known.reduce((one, other) => Math.min(one, other), Infinity);
  const most = known.reduce((one, other) => Math.max(one, other), -Infinity);
  const isLogarithmic = least > 0 && most / least > 30;
  const height = (value: number): number => {
    const position = isLogarithmic
      ? Math.log(value / least) / Math.log(most / least)
      : (value - least) / (most - least);
    return 96 - 92 * (Number.isFinite(position) ? position : 0.5);
  };
  const drawing = svg(
    "svg",
    { viewBox: `0 0 ${columns} 100`, preserveAspectRatio: "none", role: "img", "aria-label": title },
    ...series.map(({ values }, at) => svg("path", { d: pathOf(values, height), ...lineStyle(at) })),
  );
  const names = element("div", { className: "names scale" });
  if (known.length > 0) {
    names.append(element("span", {}, shown(most)));
    if (isLogarithmic) names.append(element("span", {}, "logarithmic"));
    if (least < most) names.append(element("span", {}, shown(least)));
  }
  const figures = series.map(() => element("b"));
  onMove.push(() => {
    for (const [at, { values }] of series.entries()) {
      figures[at]!.textContent = shown(lastKnown(values, state.column));
    }
  });
  const legend = series.map(({ name }, at) => {
    const line = svg("svg", { viewBox: "0 0 30 8" }, svg("path", { d: "M0 4H30", ...lineStyle(at) }));
    return element("li", {}, line, element("span", {}, name), figures[at]!);
  });
  const describe = (column: number): string => {
    return series.map(({ name, values }) => `${name} ${shown(lastKnown(values, column))}`).join(", ");
  };
  return element(
    "figure",
    {},
    element("figcaption", {}, title),
    element("div", { className: "plot" }, ...plot(names, drawing, describe), axis()),
    element("ul", { className: "legend" }, ...legend),
  );
}

/** Not every record has every value. */
function lastKnown(values: Values, column: number): number | null | undefined {
  return values.slice(0, column + 1).findLast((value) => value !== null);
}

/** Points in the middle of their columns. */
function pathOf(values: Values, height: (value: number) => number): string {
  let path = "";
  for (const [at, value] of values.entries()) {
    if (value === null) continue;
    const place = `${at + 0.5} ${height(value).toFixed(2)}`;
    // A line of no length is drawn as a dot.
    path += path === "" ? `M${place}h0` : `L${place}`;
  }
  return path;
}
