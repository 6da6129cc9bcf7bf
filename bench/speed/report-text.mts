import { plural } from "../common/text.mjs";
import type { Results } from "./results.mjs";
import { DEFAULTS, SUBJECTS, total } from "./shapes.mjs";

// What both reports say alike.

/** The shapes that are measured by default, and what else was. */
export function shapeList({ gpu, settings }: Results): string {
  const usual = DEFAULTS[gpu ? "cuda" : "cpu"];
  const subjects = SUBJECTS.filter(
    (subject) => usual.includes(subject) || settings.some((setting) => setting.subject === subject.key),
  );
  return subjects
    .flatMap((subject) => [subject, ...(subject.beside ? [subject.beside] : [])])
    .map(
      ({ title, lengths }) =>
        `- **${title}**: ${plural(lengths.length, "tensor")}, ${total(lengths).toLocaleString("en")} parameters`,
    )
    .join("\n");
}

/** Which peers were held to our parameters, and how far they are from them. */
export function checked({ peers }: Results): string {
  if (peers.length === 0) return "None was run for this report.";
  const versions = [...new Set(peers.flatMap(({ version }) => version ?? []))];
  const held = peers.flatMap(({ name, difference, notRun }) =>
    difference === undefined || notRun !== undefined ? [] : [`${name} ${difference.toExponential(1)}`],
  );
  const of = versions.length === 0 ? "" : ` (PyTorch ${versions.join(", ")})`;
  return held.length === 0 ? `None passed${of}.` : `Largest differences: ${held.join("; ")}${of}.`;
}
