function section(title: string, text: string, ...children: Node[]): HTMLElement {
  return element("section", {}, element("h2", {}, title), element("p", {}, text), ...children);
}

function figure(title: string, ...rows: Node[]): HTMLElement {
  const body = element("div", { className: "plot" }, ...rows, axis());
  return element("figure", {}, element("figcaption", {}, title), body);
}

function grid(...children: Node[]): HTMLElement {
  return element("div", { className: "grid" }, ...children);
}

function valuesSection(run: Run): HTMLElement {
  const charts = run.charts.map(({ title, series }) => lineChart(title, series));
  const text = "What was recorded, each point the mean since the one before, and the learning rate.";
  return section("Values over time", text, grid(...charts));
}

function weightsSection(run: Run): HTMLElement {
  const series = run.terms.map((name, term) => {
    return { name, values: run.effectiveWeights.map((weights) => weights[term] ?? null) };
  });
  const text = "The weight that would have had the same effect as balancing, all layers together.";
  return section("Effective weights", text, grid(lineChart("Effective weight of each term", series)));
}

function sharesSection(run: Run): HTMLElement {
  const all = [run.sharesBefore, run.shares].flat(2);
  const largest = all.reduce<number>((most, share) => Math.max(most, share ?? 0), 0);
  const maps = shownLayers().map((layer) => {
    const values = (shares: readonly Values[]) => (column: number, term: number) => {
      return shares[column]![term * run.layers.length + layer];
    };
    const name = run.layers[layer]!;
    const position = (share: number): number => (largest > 0 ? share / largest : 0);
    const map = (label: string, shares: readonly Values[]): HTMLElement[] =>
      heatMap({ label: `${name}, ${label}`, rows: run.terms, value: values(shares), position });
    const beside = grid(
      figure("before balancing", ...map("share before", run.sharesBefore)),
      figure("after balancing", ...map("share after", run.shares)),
    );
    return element("div", {}, element("h3", {}, name), beside);
  });
  const text = "The share of each term in a layer’s gradients, as they were given and as they were scaled.";
  return section("Shares of the terms", text, colourKey("0 %", `${Math.ceil(100 * largest)} %`), ...maps);
}

function anchorsSection(run: Run): HTMLElement {
  const key = run.terms.map((name, term) => `${term + 1} = ${name}`).join(", ");
  const text = `The term whose norm the others are scaled to: ${key}. Empty where it is no term’s norm.`;
  return section("Anchors", text, figure("Anchor of each layer", ...anchorMap(shownLayers())));
}

function conflictsSection(run: Run, cosines: readonly Values[]): HTMLElement {
  const pairs = run.terms.flatMap((first, i) =>
    run.terms.slice(i + 1).map((second) => `${first}, ${second}`),
  );
  const figures = shownLayers().map((layer) => {
    const rows = heatMap({
      label: `Cosines in ${run.layers[layer]!}`,
      rows: pairs,
      value: (column, pair) => cosines[column]![layer * pairs.length + pair],
      position: (cosine) => (1 - cosine) / 2,
      isMarked: (cosine) => cosine < 0,
    });
    return figure(run.layers[layer]!, ...rows);
  });
  const text =
    "The cosine between the gradients of two terms. A line marks cells below 0, where the terms pull in opposite directions.";
  return section("Conflicts", text, colourKey("agree (1)", "conflict (−1)"), grid(...figures));
}

const COLUMNS = ["Layer", "Term", "Norm", "Scale", "Before", "After", "Skipped"];

/** All values of one step. */
function stepSection(run: Run): HTMLElement {
  const title = element("h2");
  const body = element("tbody");
  onMove.push(() => {
    title.textContent = `Step ${run.steps[state.column] ?? "–"}`;
    body.replaceChildren(...shownLayers().flatMap((layer) => stepRows(run, layer)));
  });
  const head = COLUMNS.map((name) => element("th", { scope: "col" }, name));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...head)), body);
  const text = "The values of the step under the slider; ⚓ marks the anchor.";
  return element("section", {}, title, element("p", {}, text), element("div", { className: "wide" }, table));
}

function stepRows(run: Run, layer: number): HTMLElement[] {
  const { column } = state;
  return run.terms.map((term, i) => {
    const at = (values: readonly Values[]): number | null => {
      return values[column]?.[i * run.layers.length + layer] ?? null;
    };
    const share = (value: number | null): HTMLElement => {
      const text = value === null ? "–" : `${(100 * value).toFixed(1)} %`;
      return element("td", {}, element("meter", { max: 1, value: value ?? 0, ariaLabel: text }), ` ${text}`);
    };
    const isAnchor = run.anchors[column]?.[layer] === i;
    return element(
      "tr",
      {},
      element("td", {}, i === 0 ? run.layers[layer]! : ""),
      element("td", {}, isAnchor ? `${term} ⚓` : term),
      element("td", {}, shown(at(run.norms))),
      element("td", {}, shown(at(run.scales))),
      share(at(run.sharesBefore)),
      share(at(run.shares)),
      element("td", {}, shown(at(run.skipped))),
    );
  });
}
