"use strict";

// The report of a run of scripts/gpu-check, in Markdown as prettier writes it.

/** Of what a failed part printed, the last lines are shown. */
const SHOWN_LINES = 100;

/** A file name, such as 2030-01-31-nvidia-h200.md. */
function reportName(date, device) {
  const slug = device
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
  return `${date}-${slug}.md`;
}

function table(head, rows) {
  const cells = [head, ...rows].map((row) => row.map((cell) => String(cell ?? "").replaceAll("|", "\\|")));
  const widths = head.map((_, column) => Math.max(3, ...cells.map((row) => row[column].length)));
  const line = (row) => `| ${row.map((cell, column) => cell.padEnd(widths[column])).join(" | ")} |`;
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  return [line(cells[0]), rule, ...cells.slice(1).map(line)].join("\n");
}

/** A block that what it holds cannot end. */
function block(text) {
  const longest = Math.max(2, ...Array.from(text.matchAll(/`+/g), ([run]) => run.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}text\n${text}\n${fence}`;
}

function lastLines(log = "") {
  return log.trimEnd().split("\n").slice(-SHOWN_LINES).join("\n");
}

function summary(parts) {
  const failed = parts.filter(({ outcome }) => outcome === "failed").map(({ name }) => name);
  const notRun = parts.filter(({ outcome }) => outcome === "not run").length;
  const ran = failed.length === 0 ? "All that ran passed." : `Failed: ${failed.join(", ")}.`;
  const rest = notRun === 0 ? "" : ` ${notRun} of ${parts.length} parts did not run.`;
  return `${ran}${rest}`;
}

/**
 * @param {object} run
 * @param {string} run.date such as 2030-01-31
 * @param {string} run.device and the rest of what machine.describe() finds
 * @param {string} run.commit
 * @param {import("./parts").Found[]} run.parts with their names and seconds
 */
function render({ date, device, computeCapability, driver, runtime, architectures, commit, parts }) {
  const notRun = parts.filter(({ outcome }) => outcome === "not run");
  const failed = parts.filter(({ outcome }) => outcome === "failed");
  const sections = [
    `# ${device}, ${date}`,
    `What \`scripts/gpu-check\` found. ${summary(parts)} Times are what the checks took, and decide nothing.`,
    table(
      ["what", "value"],
      [
        ["device", `${device}, compute capability ${computeCapability}`],
        ["driver", driver],
        ["runtime", runtime],
        ["code for", architectures.join(", ")],
        ["commit", commit],
      ],
    ),
    table(
      ["part", "outcome", "passed", "failed", "skipped", "seconds", "remark"],
      parts.map(({ name, outcome, passed, failed: failures, skipped, seconds, remark }) => {
        const time = outcome === "not run" ? "" : seconds.toFixed(1);
        return [name, outcome, passed, failures, skipped, time, outcome === "not run" ? "" : remark];
      }),
    ),
  ];
  if (notRun.length > 0) {
    sections.push("## What did not run", notRun.map(({ name, remark }) => `- ${name}: ${remark}`).join("\n"));
  }
  for (const { name, tables = [] } of parts) {
    if (tables.length > 0) sections.push(`## Figures of the ${name}`);
    for (const [title, [head, ...rows]] of tables) sections.push(`### ${title}`, table(head, rows));
  }
  for (const { name, log } of failed) sections.push(`## The end of ${name}`, block(lastLines(log)));
  return `${sections.join("\n\n")}\n`;
}

module.exports = { reportName, render };
