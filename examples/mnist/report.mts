import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import type { Options } from "./options.mjs";
import { pageData } from "./page-data.mjs";
import { countedRounds, type RoundResult } from "./results.mjs";
import { curves, footer, heatMaps, introduction, table, weights } from "./sections.mjs";
import { STYLE } from "./style.mjs";

/** The contents of a report. */
export interface ReportInput {
  /** At least one. */
  rounds: readonly RoundResult[];
  options: Options;
  /** The name of the optimizer's device. */
  device: string;
  /** The total time. */
  seconds: number;
  /** If the training was stopped: where. */
  stopped: string | undefined;
}

/** The report: one HTML page with the charting library in it, which needs nothing from the network. */
export async function reportHtml(input: ReportInput): Promise<string> {
  const first = input.rounds[0]!;
  const counted = countedRounds(input.rounds);
  const data = pageData(counted, first);
  const library = createRequire(import.meta.url).resolve("echarts/dist/echarts.min.js");
  const [echarts, script] = await Promise.all([
    readFile(library, "utf8"),
    readFile(new URL("./page.mjs", import.meta.url), "utf8"),
  ]);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>MTAdam on MNIST with wrong weights</title>
<style>${STYLE}</style>
</head>
<body>
${introduction(input, counted)}
${table(counted)}
${curves(counted)}
${heatMaps(data, input.rounds)}
${weights(input.rounds)}
${footer(input)}
<script type="application/json" id="data">${inScript(JSON.stringify(data))}</script>
<script>${inScript(echarts)}</script>
<script type="module">${inScript(script)}</script>
</body>
</html>
`;
}

/**
 * Escapes text for a script element, so that nothing in it ends the element. The escape is valid in string literals of
 * JSON and JavaScript, the only places where such text occurs.
 */
function inScript(text: string): string {
  return text.replace(/<(?=\/script|!--)/gi, "\\u003c");
}
