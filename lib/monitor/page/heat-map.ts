const ROW = 18;

type Colour = readonly [red: number, green: number, blue: number];

/** From the lowest to the highest value; lightness alone tells them apart, too. */
const SCALES: Record<"light" | "dark", readonly Colour[]> = {
  light: [
    [244, 246, 250],
    [120, 170, 214],
    [8, 48, 107],
  ],
  dark: [
    [30, 36, 44],
    [52, 120, 168],
    [253, 231, 150],
  ],
};

const theme = matchMedia("(prefers-color-scheme: dark)");

/** The colour of a value from 0 to 1. */
function heat(value: number): string {
  const scale = SCALES[theme.matches ? "dark" : "light"];
  const place = Math.min(0.9999, Math.max(0, value)) * (scale.length - 1);
  const [low, high] = [scale[Math.floor(place)]!, scale[Math.floor(place) + 1]!];
  const parts = low.map((part, k) => Math.round(part + (high[k]! - part) * (place % 1)));
  return `rgb(${parts.join(",")})`;
}

/** Canvases are drawn when they are on the page, and again when its width or theme changes. */
const canvases: {
  canvas: HTMLCanvasElement;
  draw: (context: CanvasRenderingContext2D, width: number) => void;
  rows: number;
}[] = [];

function canvasOf(
  label: string,
  rows: number,
  draw: (context: CanvasRenderingContext2D, width: number) => void,
): HTMLCanvasElement {
  const canvas = element("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  canvases.push({ canvas, draw, rows });
  return canvas;
}

function drawCanvases(): void {
  for (const { canvas, draw, rows } of canvases) {
    const width = canvas.parentElement!.clientWidth;
    canvas.width = Math.round(width * devicePixelRatio);
    canvas.height = Math.round(rows * ROW * devicePixelRatio);
    canvas.style.height = `${rows * ROW}px`;
    const context = canvas.getContext("2d")!;
    context.scale(devicePixelRatio, devicePixelRatio);
    draw(context, width);
  }
}

function ink(property: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(property).trim();
}

interface HeatMap {
  label: string;
  rows: readonly string[];
  value: (column: number, row: number) => number | null | undefined;
  /** From 0 to 1, for the colour. */
  position?: (value: number) => number;
  /** Whether a cell is crossed out, for readers who cannot tell the colours apart. */
  isMarked?: (value: number) => boolean;
}

/** A row per name, a cell per column. Cells without a value stay empty. */
function heatMap({ label, rows, value, position = (given) => given, isMarked }: HeatMap): HTMLElement[] {
  const canvas = canvasOf(label, rows.length, (context, width) => {
    const columns = currentRun().steps.length;
    const cell = width / columns;
    context.strokeStyle = ink("--mark");
    for (let row = 0; row < rows.length; ++row) {
      for (let column = 0; column < columns; ++column) {
        const given = value(column, row);
        if (given === null || given === undefined) continue;
        context.fillStyle = heat(position(given));
        context.fillRect(column * cell, row * ROW, cell + 0.5, ROW - 1);
        if (isMarked?.(given) !== true) continue;
        context.beginPath();
        context.moveTo(column * cell, row * ROW + ROW / 2);
        context.lineTo((column + 1) * cell, row * ROW + ROW / 2);
        context.stroke();
      }
    }
  });
  const describe = (column: number, at: number): string => {
    const row = Math.floor(at * rows.length);
    return `${label}, ${rows[row]!}: ${shown(value(column, row))}`;
  };
  return plot(rowNames(rows), canvas, describe);
}

/** The colours from the lowest to the highest value. */
function colourKey(lowest: string, highest: string): HTMLElement {
  const canvas = canvasOf(`Colours from ${lowest} to ${highest}`, 1, (context, width) => {
    for (let x = 0; x < width; ++x) {
      context.fillStyle = heat(x / width);
      context.fillRect(x, 2, 1, ROW - 4);
    }
  });
  return element("div", { className: "key" }, lowest, element("div", {}, canvas), highest);
}

function rowNames(rows: readonly string[]): HTMLElement {
  const names = rows.map((name) => element("span", { title: name }, name));
  return element("div", { className: "names rows" }, ...names);
}

/** A row per layer: the number and colour of the term that is the anchor, from one change to the next. */
function anchorMap(layers: readonly number[]): HTMLElement[] {
  const run = currentRun();
  const anchorAt = (column: number, row: number): number => run.anchors[column]![layers[row]!] ?? -1;
  const canvas = canvasOf("The anchor's term per layer", layers.length, (context, width) => {
    const columns = run.steps.length;
    const cell = width / columns;
    context.font = "bold 12px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (let row = 0; row < layers.length; ++row) {
      for (let from = 0, to = 0; from < columns; from = to) {
        const term = anchorAt(from, row);
        while (to < columns && anchorAt(to, row) === term) to += 1;
        if (term < 0) continue;
        context.fillStyle = ink(`--c${term % 6}`);
        context.fillRect(from * cell, row * ROW, (to - from) * cell - 1, ROW - 2);
        const number = String(term + 1);
        if ((to - from) * cell < context.measureText(number).width + 6) continue;
        context.fillStyle = ink("--card");
        context.fillText(number, from * cell + 3, row * ROW + ROW / 2);
      }
    }
  });
  const describe = (column: number, at: number): string => {
    const row = Math.floor(at * layers.length);
    return `${run.layers[layers[row]!]!}: the anchor is ${run.terms[anchorAt(column, row)] ?? "none of the terms"}`;
  };
  return plot(rowNames(layers.map((layer) => run.layers[layer]!)), canvas, describe);
}
