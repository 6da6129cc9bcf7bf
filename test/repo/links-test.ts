import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { temporaryFolder } from "../support/folder";
import { cellsOf } from "../support/markdown";

// The links of the pages, as they are read in the repository and in the package. `npm run docs` checks those of the site.

const root = path.join(__dirname, "../..");
const read = (page: string): string => readFileSync(path.join(root, page), "utf8");
const pages = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "*.md"], {
  cwd: root,
  encoding: "utf8",
})
  .trim()
  .split("\n")
  .filter((page) => existsSync(path.join(root, page)));

/** Without blocks of code and code within a line. */
const prose = (page: string): string =>
  read(page)
    .replaceAll(/^```[^]*?^```$/gm, "")
    .replaceAll(/`[^`\n]+`/g, "");

function linksOf(page: string): string[] {
  const text = prose(page);
  const targets = [/\]\(([^)\s]+)\)/g, /^\[[^\]]+\]: (\S+)$/gm].flatMap((form) =>
    Array.from(text.matchAll(form), ([, target]) => target!),
  );
  return targets.filter((target) => !/^[a-z]+:/.test(target));
}

/** The anchors of a page's headings, as hosts of repositories make them. */
function anchorsOf(page: string): Set<string> {
  const headings = Array.from(
    read(page)
      .replaceAll(/^```[^]*?^```$/gm, "")
      .matchAll(/^#+ (.*)$/gm),
    ([, heading]) => heading!,
  );
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
        .replaceAll(" ", "-"),
    ),
  );
}

test("the links of all pages lead to files, and their anchors to headings", () => {
  const links = pages.flatMap((page) => linksOf(page).map((link) => ({ page, link })));
  expect(links.length).toBeGreaterThan(100);
  const broken = links.filter(({ page, link }) => {
    const [place, anchor] = link.split("#");
    const target = place === "" ? page : path.join(path.dirname(page), place!);
    if (!existsSync(path.join(root, target))) return true;
    return anchor !== undefined && target.endsWith(".md") && !anchorsOf(target).has(anchor);
  });
  expect(broken).toEqual([]);
});

test("links by a name have a definition, which has a line of its own", () => {
  const broken = pages.flatMap((page) => {
    const text = prose(page);
    const defined = new Set(Array.from(text.matchAll(/^\[([^\]]+)\]: \S+$/gm), ([, name]) => name));
    return Array.from(text.matchAll(/\]\[([^\]]+)\]/g), ([, name]) => ({ page, name })).filter(
      ({ name }) => !defined.has(name),
    );
  });
  expect(broken).toEqual([]);
});

test("the rows of a table have as many cells as its head", () => {
  const broken = pages.flatMap((page) => {
    const tables = read(page).replaceAll(/^```[^]*?^```$/gm, "").match(/(?:^\|.*\n)+/gm) ?? []; // prettier-ignore
    return tables.flatMap((table) => {
      // A bar that is escaped is part of a cell.
      const [head, ...rows] = table
        .trimEnd()
        .split("\n")
        .map((row) => cellsOf(row.replaceAll("\\|", "")));
      return rows.filter((row) => row.length !== head!.length).map(([first]) => ({ page, first }));
    });
  });
  expect(broken).toEqual([]);
});

describe("the check of the site", () => {
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- JavaScript without declarations
  const { brokenLinks } = require("../../scripts/build/docs") as {
    brokenLinks: (site: string) => string[];
  };
  const site = temporaryFolder();

  test("finds links to files and places that are not there, and accepts the others", () => {
    mkdirSync(path.join(site, "pages"));
    const start = `<a href="pages/guide.html#a-b">1</a> <img src="plot.svg"> <a href="https://example.org/x">2</a>
      <a id="top" href="#top">3</a> <a href="plot.svg#part">4</a>`;
    const guide = `<h2 id="a-b">A b</h2> <a href="../start.html">1</a>`;
    writeFileSync(path.join(site, "plot.svg"), "");
    writeFileSync(path.join(site, "start.html"), start);
    writeFileSync(path.join(site, "pages", "guide.html"), guide);
    expect(brokenLinks(site)).toEqual([]);
    const wrong = `<a href="start.html">1</a> <a href="#b">2</a> <a href="../start.html#topp">3</a>`;
    writeFileSync(path.join(site, "pages", "guide.html"), `${guide} ${wrong}`);
    expect(brokenLinks(site)).toEqual(
      ["start.html", "#b", "../start.html#topp"].map(
        (link) => `pages/guide.html has a link to ${link}, which is not there`,
      ),
    );
  });
});

test("the figures of docs/choosing.md are those of the balancing page", () => {
  const cells = (line: string): string[] => cellsOf(line.replaceAll("*", ""));
  const balancing = read("docs/balancing/README.md");
  const [head, , ...rows] = /^\| experiment [^]*?\n\n/m.exec(read("docs/choosing.md"))![0].trim().split("\n");
  expect(rows.length).toBeGreaterThan(3);
  for (const row of rows) {
    const [experiment, ...figures] = cells(row);
    const [, anchor] = /#([\w-]+)\)/.exec(experiment!)!;
    const section = balancing
      .split(/^(?=##+ )/m)
      .find((text) => new RegExp(`^##+-${anchor}`).test(text.toLowerCase().replaceAll(" ", "-")))!;
    for (const [k, figure] of figures.entries()) {
      if (figure === "–") continue;
      const setting = cells(head!)[k + 1]!;
      // Other names of one setting: where all arms search their rates, the page names methods, and where units are
      // arbitrary, equal weights are those in true units.
      const names = [
        setting,
        setting.replace('`preset: "recommended"`', "MTAdam, recommended"),
        setting.replace("equal weights", "true units"),
      ];
      const arm = section.split("\n").find((line) => names.includes(cells(line)[0]!))!;
      const known = cells(arm).map((cell) => cell.split(" ")[0]);
      expect([experiment, figure, known.includes(figure)]).toEqual([experiment, figure, true]);
    }
  }
});
