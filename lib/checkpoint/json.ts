import type { Steps } from "./pace";

// JSON in pieces: a header of many tensors is cut at the commas of its outer levels, and each piece is parsed by
// JSON.parse. Thus no parse takes long, and deep nesting and repeated keys are refused.

/** Bytes of a text, from `begin` up to `end`. */
export interface Range {
  readonly begin: number;
  readonly end: number;
}

/** A member of an object: its key, and where its value is. */
export interface Member extends Range {
  readonly key: string;
}

/** Bytes that are parsed or scanned without a break. */
const PIECE_BYTES = 2 ** 16;

const [QUOTE, BACKSLASH, COMMA, COLON] = [0x22, 0x5c, 0x2c, 0x3a];
const [OPEN_BRACKET, CLOSE_BRACKET, OPEN_BRACE, CLOSE_BRACE] = [0x5b, 0x5d, 0x7b, 0x7d];

/**
 * The members of an object.
 *
 * @param depth how many levels the object may have
 * @throws SyntaxError
 */
export function* members(
  text: Buffer,
  range: Range,
  depth: number,
): Generator<Member | undefined, void, void> {
  const keys = new Set<string>();
  for (const part of parts(text, range, OPEN_BRACE, depth)) {
    if (part === undefined) {
      yield undefined;
      continue;
    }
    const member = splitMember(text, part);
    if (keys.has(member.key)) throw twice(member.key);
    keys.add(member.key);
    yield member;
  }
}

/**
 * An object of JSON.
 *
 * @param limits `depth`: its levels; `elements`: of a list that is too long for one piece
 * @throws SyntaxError
 */
export function* parseObject(
  text: Buffer,
  limits: { depth: number; elements: number },
): Steps<Record<string, unknown>> {
  // Without a prototype, so that every key becomes a property of its own.
  const object = Object.create(null) as Record<string, unknown>;
  for (const member of members(text, { begin: 0, end: text.length }, limits.depth)) {
    if (member === undefined) yield undefined;
    else object[member.key] = yield* parseValue(text, member, limits);
  }
  return object;
}

function* parseValue(
  text: Buffer,
  range: Range,
  limits: { depth: number; elements: number },
): Steps<unknown> {
  if (range.end - range.begin <= PIECE_BYTES || text[range.begin] !== OPEN_BRACKET) return parse(text, range);
  const list: unknown[] = [];
  for (const part of parts(text, range, OPEN_BRACKET, limits.depth)) {
    if (list.length > limits.elements) throw new SyntaxError(`it has more than ${limits.elements} in a list`);
    if (part === undefined) yield undefined;
    else list.push(parse(text, part));
  }
  return list;
}

/**
 * A string, decoded in pieces.
 *
 * @throws SyntaxError
 */
export function* parseString(text: Buffer, { begin, end }: Range): Steps<string> {
  if (text[begin] !== QUOTE || text[end - 1] !== QUOTE || end - begin < 2) {
    throw new SyntaxError("it has another value for a string");
  }
  const pieces: string[] = [];
  for (let at = begin + 1; at < end - 1;) {
    // A comma is never inside an escape or a character of several bytes.
    const comma = at + PIECE_BYTES < end ? text.indexOf(COMMA, at + PIECE_BYTES) : -1;
    const cut = comma === -1 ? end - 1 : Math.min(comma, end - 1);
    pieces.push(JSON.parse(`"${text.toString("utf8", at, cut)}"`) as string);
    at = cut;
    yield undefined;
  }
  return pieces.join("");
}

/**
 * A value that is parsed at once.
 *
 * @throws SyntaxError also if an object in it has a key twice
 */
export function parse(text: Buffer, range: Range): unknown {
  const value: unknown = JSON.parse(text.toString("utf8", range.begin, range.end));
  // Of repeated keys, JSON.parse keeps only the last.
  if (countKeys(value) !== countColons(text, range)) throw new SyntaxError("it has a key twice in an object");
  return value;
}

function countKeys(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  const values = Object.values(value) as unknown[];
  let count = Array.isArray(value) ? 0 : values.length;
  for (const inner of values) count += countKeys(inner);
  return count;
}

function countColons(text: Buffer, { begin, end }: Range): number {
  let count = 0;
  let inString = false;
  for (let k = begin; k < end; ++k) {
    const byte = text[k];
    if (byte === QUOTE) inString = !inString;
    else if (byte === BACKSLASH && inString) ++k;
    else if (byte === COLON && !inString) ++count;
  }
  return count;
}

/** The parts between the commas of an object or a list; undefined now and then, to let others run. */
function* parts(
  text: Buffer,
  range: Range,
  opening: number,
  most: number,
): Generator<Range | undefined, void, void> {
  const closing = opening === OPEN_BRACE ? CLOSE_BRACE : CLOSE_BRACKET;
  const { begin, end } = trim(text, range);
  if (end - begin < 2 || text[begin] !== opening || text[end - 1] !== closing) {
    throw new SyntaxError(`it has another value for ${opening === OPEN_BRACE ? "an object" : "a list"}`);
  }
  let depth = 1;
  let inString = false;
  let first = begin + 1;
  let rest = first + PIECE_BYTES;
  for (let k = first; k < end - 1; ++k) {
    const byte = text[k];
    if (k >= rest) {
      yield undefined;
      rest = k + PIECE_BYTES;
    }
    if (byte === QUOTE) inString = !inString;
    else if (inString) {
      if (byte === BACKSLASH) ++k;
    } else if (byte === COMMA && depth === 1) {
      yield trim(text, { begin: first, end: k });
      first = k + 1;
    } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
      if (++depth > most) throw new SyntaxError(`it is nested deeper than ${most} levels`);
    } else if ((byte === CLOSE_BRACE || byte === CLOSE_BRACKET) && --depth === 0) {
      throw new SyntaxError("it goes on after its end");
    }
  }
  if (inString || depth !== 1) throw new SyntaxError("it ends too early");
  const last = trim(text, { begin: first, end: end - 1 });
  // An empty part is valid only if it is the only one.
  if (last.begin < last.end || first > begin + 1) yield last;
}

/** `"key": value`, taken apart. */
function splitMember(text: Buffer, part: Range): Member {
  let k = part.begin;
  if (text[k] !== QUOTE) throw new SyntaxError("it has a member without a key");
  while (++k < part.end && text[k] !== QUOTE) if (text[k] === BACKSLASH) ++k;
  const key = JSON.parse(text.toString("utf8", part.begin, k + 1)) as string;
  const colon = trim(text, { begin: k + 1, end: part.end });
  if (text[colon.begin] !== COLON) throw new SyntaxError(`it has no value for ${quoted(key)}`);
  return { key, ...trim(text, { begin: colon.begin + 1, end: part.end }) };
}

function trim(text: Buffer, { begin, end }: Range): Range {
  while (begin < end && isSpace(text[begin])) ++begin;
  while (end > begin && isSpace(text[end - 1])) --end;
  return { begin, end };
}

const isSpace = (byte: number | undefined): boolean =>
  byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;

const quoted = (key: string): string => JSON.stringify(key.slice(0, 40));
const twice = (key: string): SyntaxError => new SyntaxError(`it has the key ${quoted(key)} twice`);

/** Renders an object as JSON, in pieces. A list that is a direct member is cut after every few elements. */
export function* renderObject(object: object): Generator<string, void, void> {
  let before = "{";
  for (const [key, value] of Object.entries(object) as [string, unknown][]) {
    yield `${before}${JSON.stringify(key)}:`;
    before = ",";
    if (!Array.isArray(value) || value.length === 0) {
      yield JSON.stringify(value);
      continue;
    }
    let next = 0;
    while (next < value.length) {
      const first = next;
      for (let length = 0; next < value.length && next - first < ELEMENTS && length < LENGTH; ++next) {
        const element: unknown = value[next];
        length += typeof element === "string" ? element.length : 0;
      }
      const text = JSON.stringify(value.slice(first, next));
      yield `${first === 0 ? "[" : ","}${text.slice(1, -1)}`;
    }
    yield "]";
  }
  yield before === "{" ? "{}" : "}";
}

/** Elements of a list in one piece, and characters of names after which a piece ends. */
const ELEMENTS = 512;
const LENGTH = 2 ** 20;
