import { BATCH } from "./data.mjs";
import type { PageData } from "./page-data.mjs";
import { clock } from "./progress.mjs";
import type { ReportInput } from "./report.mjs";
import { summarise, type RoundResult } from "./results.mjs";
import { COLUMNS, cells } from "./table.mjs";

// The parts of the report, each a piece of HTML.

function escape(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** The title and a description of the run. */
export function introduction(
  { options, device, stopped }: ReportInput,
  counted: readonly RoundResult[],
): string {
  const { steps } = counted[0]!;
  const rounds = counted.length === 1 ? "one round" : `${counted.length} rounds`;
  return `<h1>Ten losses, wrongly weighted</h1>
<p class="facts">MNIST · network 784-128-10 · ${rounds} of ${steps} steps of ${BATCH} images · learning rate 0.001 ·
seed ${options.seed} · optimizer on ${escape(device)}</p>
${stopped ? `<p class="stopped">${escape(stopped)}</p>` : ""}
<p>The loss is split into ten terms, one for each digit, and each term is multiplied by an arbitrary weight: 1 for the
digit 0, up to 1000 for the others. Adam on their sum learns what the weights happen to favour. MTAdam sees each
term’s gradient by itself and scales it, layer by layer, to the norm of the first term’s gradient, so that the
weights hardly matter: it should come close to Adam with equal weights.</p>`;
}

/** The table of results. */
export function table(counted: readonly RoundResult[]): string {
  const rows = summarise(counted).map((summary) => {
    const [name, ...figures] = cells(summary).map(escape);
    const { key, explanation } = summary.arm;
    return `<tr><th scope="row"><span class="swatch" style="background: var(--arm-${key})"></span>${name}
<small>${escape(explanation)}</small></th>${figures.map((figure) => `<td>${figure}</td>`).join("")}</tr>`;
  });
  const head = COLUMNS.map((name, i) => `<th scope="col"${i > 0 ? ' class="number"' : ""}>${name}</th>`);
  return `<h2>Test accuracy</h2>
<p>After the last step, over all 10,000 test images; with the standard deviation over rounds where there are several.
The times are those of a step: computing the gradients, and the optimizer.</p>
<div class="wide"><table><thead><tr>${head.join("")}</tr></thead>
<tbody>${rows.join("\n")}</tbody></table></div>`;
}

/** Place for the accuracy curves. */
export function curves(counted: readonly RoundResult[]): string {
  const many =
    counted.length > 1 ? " Strong lines are means over the rounds, faint ones the rounds one by one." : "";
  return `<h2>Accuracy during training</h2>
<p>All four start from the same values and see the same images in the same order. Each point is measured on the whole
test set.${many}</p>
<div class="charts"><div class="chart" id="curves"></div></div>`;
}

/** Place for the heat maps of one arm, with a menu of the arms. */
export function heatMaps(data: PageData, rounds: readonly RoundResult[]): string {
  const choices = data.heatMaps.map(
    ({ key, name }, i) =>
      `<label><input type="radio" name="heat" value="${key}"${i === 0 ? " checked" : ""}> ${escape(name)}</label>`,
  );
  const layers = (data.heatMaps[0]?.layers ?? []).map((_, i) => `<div class="chart" id="heat-${i}"></div>`);
  const where = rounds.length > 1 ? " Shown is the first round." : "";
  return `<h2>What MTAdam has to balance</h2>
<p>The share of each term in the gradient norms of a layer, before balancing, as the optimizer’s moving averages have
it: a row for each digit with its weight, 10&nbsp;% where all would be equal. The weights decide the shares at
first; then they change from layer to layer, as some digits are learned sooner than others.${where}</p>
<fieldset class="switch">${choices.join("")}
<span class="scale">0 % <i></i> ${Math.ceil(data.largestShare)} %</span></fieldset>
<div class="charts heat">${layers.join("")}</div>`;
}

/** The weights of each round. */
export function weights(rounds: readonly RoundResult[]): string {
  const rows = rounds.map(({ round, weights }) => {
    const values = weights.map((weight, term) => `<td>${term === 0 ? "1" : weight.toFixed(1)}</td>`);
    return `<tr><th scope="row">round ${round}</th>${values.join("")}</tr>`;
  });
  const head = rounds[0]!.weights.map((_, term) => `<th scope="col" class="number">digit ${term}</th>`);
  return `<h2>The weights drawn</h2>
<div class="wide"><table><thead><tr><th></th>${head.join("")}</tr></thead>
<tbody>${rows.join("\n")}</tbody></table></div>`;
}

/** How to make the report again. */
export function footer({ options, seconds }: ReportInput): string {
  const { rounds, epochs, steps, seed, device } = options;
  const given = Object.entries({ rounds, epochs, steps, seed, device }).filter(
    ([, value]) => value !== undefined,
  );
  const run = given.map(([name, value]) => `--${name} ${value}`).join(" ");
  const when = new Date().toISOString().slice(0, 16).replace("T", " ");
  return `<footer>Made in ${clock(seconds)} minutes on ${when} UTC with Node ${process.versions.node} by
<code>npm run demo -- ${run}</code>. Data: MNIST (Y. LeCun, C. Cortes, C. Burges). Charts: Apache ECharts.</footer>`;
}
