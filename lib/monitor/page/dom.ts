type Child = Node | string;

function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function svg(tag: string, attributes: Record<string, string | number>, ...children: Node[]): SVGElement {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/**
 * Names at the left of a drawing over the columns of the run, with the slider's cursor. A pointer on it moves the
 * slider, and `describe` says what is below the pointer; `row` is its height, from 0 to 1.
 */
function plot(
  names: HTMLElement,
  drawing: Element,
  describe: (column: number, row: number) => string,
): [names: HTMLElement, area: HTMLElement] {
  const area = element("div", { className: "area" }, drawing, element("div", { className: "cursor" }));
  const columnAt = ({ clientX, clientY }: PointerEvent): [column: number, row: number] => {
    const { left, top, width, height } = area.getBoundingClientRect();
    const columns = currentRun().steps.length;
    const column = Math.floor(((clientX - left) / width) * columns);
    const row = (clientY - top) / height;
    return [Math.min(columns - 1, Math.max(0, column)), Math.min(0.999, Math.max(0, row))];
  };
  area.addEventListener("pointermove", (event) => {
    const [column, row] = columnAt(event);
    if (event.buttons > 0) moveTo(column);
    say(`step ${currentRun().steps[column]!}: ${describe(column, row)}`);
  });
  area.addEventListener("pointerdown", (event) => moveTo(columnAt(event)[0]));
  return [names, area];
}

/** The first, middle and last step. */
function axis(): HTMLElement {
  const { steps } = currentRun();
  const places = [...new Set([0, Math.floor((steps.length - 1) / 2), steps.length - 1])];
  return element("div", { className: "axis" }, ...places.map((at) => element("span", {}, String(steps[at]))));
}
