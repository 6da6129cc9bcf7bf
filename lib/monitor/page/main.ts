const main = document.querySelector("main")!;
const content = element("div");
const message = element("output");
const slider = element("input", { type: "range", min: "0" });
const filter = element("input", { type: "search", placeholder: "part of a name" });
const more = element("button", { type: "button" });

function say(text: string): void {
  message.textContent = text;
}

function moveTo(column: number): void {
  const run = currentRun();
  const columns = run.steps.length;
  state.column = Math.min(columns - 1, Math.max(0, column));
  slider.value = String(state.column);
  slider.setAttribute("aria-valuetext", `step ${run.steps[state.column] ?? "–"}`);
  document.documentElement.style.setProperty("--at", String((state.column + 0.5) / Math.max(1, columns)));
  for (const update of onMove) update();
  say(`step ${run.steps[state.column] ?? "–"} of ${run.steps.at(-1) ?? "–"}`);
}

/** Builds everything below the controls. */
function render(): void {
  onMove.length = 0;
  canvases.length = 0;
  const run = currentRun();
  const hidden = matchingLayers().length - shownLayers().length;
  more.hidden = hidden === 0;
  more.textContent = `Show ${hidden} more layers`;
  slider.max = String(Math.max(0, run.steps.length - 1));
  content.replaceChildren(
    element("p", {}, `${run.terms.length} terms, ${run.layers.length} layers, ${run.records} records`),
    ...(run.steps.length === 0
      ? [element("p", {}, "There are no records yet.")]
      : [
          valuesSection(run),
          weightsSection(run),
          sharesSection(run),
          anchorsSection(run),
          ...(run.cosines === undefined ? [] : [conflictsSection(run, run.cosines)]),
          stepSection(run),
        ]),
  );
  drawCanvases();
  moveTo(state.column);
}

function controls(): HTMLElement {
  const labelled = (text: string, control: HTMLElement): HTMLElement => element("label", {}, text, control);
  const choices = element("div", { className: "controls" });
  if (state.data.runs.length > 1) {
    const select = element(
      "select",
      {},
      ...state.data.runs.map(({ name }, k) => new Option(name, String(k))),
    );
    select.addEventListener("change", () => {
      state.run = Number(select.value);
      state.column = Infinity;
      render();
    });
    choices.append(labelled("Run", select));
  }
  slider.addEventListener("input", () => moveTo(Number(slider.value)));
  filter.addEventListener("input", () => {
    state.filter = filter.value;
    render();
  });
  more.addEventListener("click", () => {
    state.showsAll = true;
    render();
  });
  choices.append(labelled("Step", slider), labelled("Layers", filter), more, message);
  return choices;
}

/** The server's data may have grown: the slider stays at its step, or at the end. */
function replaceData(fresh: PageData): void {
  const { steps } = currentRun();
  const isAtEnd = state.column >= steps.length - 1;
  const step = steps[state.column];
  state.data = fresh;
  const now = currentRun().steps;
  const place = now.findIndex((other) => step !== undefined && other >= step);
  state.column = isAtEnd || place < 0 ? Infinity : place;
  render();
}

async function watch(): Promise<void> {
  let last = JSON.stringify(state.data);
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 2000));
    try {
      const answer = await fetch("data.json");
      const text = await answer.text();
      if (!answer.ok) throw new Error(text);
      if (text !== last) replaceData(JSON.parse(text) as PageData);
      last = text;
    } catch (error) {
      say(`No new data: ${String(error)}`);
    }
  }
}

main.append(
  element("h1", {}, state.data.title),
  ...state.data.notes.map((note) => element("p", {}, note)),
  controls(),
  content,
);
render();
theme.addEventListener("change", drawCanvases);
addEventListener("resize", drawCanvases);
if ("watch" in document.documentElement.dataset) void watch();
