// The scripts of a report. They have no imports: report.ts puts them into one function, in the order that it lists.

type PageData = import("../page-data").PageData;
type Run = import("../page-data").Run;
type Values = import("../page-data").Values;

/** Layers shown before the reader asks for more, so that a large model's page stays quick. */
const FIRST_LAYERS = 8;

const state = {
  data: JSON.parse(document.getElementById("data")!.textContent) as PageData,
  run: 0,
  /** The column under the slider; the last one at first. */
  column: Infinity,
  filter: "",
  showsAll: false,
};

function currentRun(): Run {
  return state.data.runs[state.run]!;
}

/** The indices of the layers whose name has the filter's text. */
function matchingLayers(): number[] {
  const wanted = state.filter.toLowerCase();
  return currentRun().layers.flatMap((name, layer) => (name.toLowerCase().includes(wanted) ? [layer] : []));
}

function shownLayers(): number[] {
  const layers = matchingLayers();
  return state.showsAll ? layers : layers.slice(0, FIRST_LAYERS);
}

/** Three significant digits. */
function shown(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  const isPlain = value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e5);
  return isPlain ? String(Number(value.toPrecision(3))) : value.toExponential(1);
}
