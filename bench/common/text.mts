import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";

/** The text of a file; undefined if there is none. */
export async function readIfThere(path: string): Promise<string | undefined> {
  return existsSync(path) ? readFile(path, "utf8") : undefined;
}

/** `text` with what stands between the comments for `key` replaced; without them the part comes at the end. */
export function fill(text: string, key: string, content: string): string {
  const [start, end] = [`<!-- results of ${key} -->`, `<!-- end of ${key} -->`];
  const whole = `${start}\n\n${content}\n\n${end}`;
  const [from, to] = [text.indexOf(start), text.indexOf(end)];
  if (from === -1 || to < from) return `${text.trimEnd()}\n\n${whole}\n`;
  return text.slice(0, from) + whole + text.slice(to + end.length);
}

/** "1 seed", "3,000 tensors". */
export function plural(count: number, noun: string): string {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}
