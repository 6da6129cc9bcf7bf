/** The parser for a checkpoint's header in pieces. It agrees with JSON.parse except for repeated keys and the depth. */

import fc from "fast-check";
import { members, parseObject, parseString, renderObject } from "../../lib/checkpoint/json";
import type { Steps } from "../../lib/checkpoint/pace";
import { onCpu } from "../support/device";

const LIMITS = { depth: 20, elements: 1e6 };

function finish<T>(steps: Steps<T>): { value: T; steps: number } {
  for (let count = 0; ; ++count) {
    const next = steps.next();
    if (next.done === true) return { value: next.value, steps: count };
  }
}

const parse = (text: string, limits = LIMITS): unknown =>
  finish(parseObject(Buffer.from(text), limits)).value;

/** Converts objects to ones with the tests' own prototype, for toEqual. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value)) as unknown;

onCpu("JSON in pieces", () => {
  test("any object is parsed as by JSON.parse", () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.string({ unit: "binary" }), fc.jsonValue()),
        fc.nat(3),
        (object, space) => {
          const text = JSON.stringify(object, null, space);
          expect(plain(parse(text))).toEqual(JSON.parse(text));
        },
      ),
    );
  });

  test("any other text is refused if JSON.parse refuses it", () => {
    const text = '{"a":[1,{"b":"c\\\\\\"d"},[]],"e":-1.5e3,"f":{"g":null}}';
    expect(plain(parse(text))).toEqual(JSON.parse(text));
    const change = fc.tuple(fc.nat(text.length - 1), fc.constantFrom("", ...Array.from('{}[],:"\\ 1etn\n')));
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
        const characters = Array.from(text);
        for (const [at, character] of changes) characters[at] = character;
        const changed = characters.join("");
        let expected: unknown;
        try {
          expected = JSON.parse(changed);
        } catch {
          expect(() => parse(changed)).toThrow(SyntaxError);
          return;
        }
        let parsed: unknown;
        try {
          parsed = plain(parse(changed));
        } catch (error) {
          // In addition, only repeated keys are refused.
          expect((error as Error).message).toMatch(/twice/);
          return;
        }
        expect(parsed).toEqual(expected);
      }),
      { numRuns: 5000 },
    );
  });

  test.each([
    '{"a":1,"a":1}',
    '{"a":1,"\\u0061":2}',
    '{"b":{"a":1,"c":":","a":1}}',
    '{"b":[{"a":1},{"a":1,"a":2}]}',
    '{"__proto__":1,"__proto__":2}',
  ])("a key that comes twice is refused: %s", (text) => {
    expect(() => parse(text)).toThrow(/twice/);
  });

  test("`__proto__` and `constructor` are keys like others", () => {
    const parsed = parse('{"__proto__":{"a":1},"constructor":2}') as object;
    expect(Object.keys(parsed)).toEqual(["__proto__", "constructor"]);
  });

  test("nesting is counted in lists and objects, and not in strings", () => {
    const limits = { depth: 3, elements: 10 };
    expect(plain(parse('{"a":[{}],"b":"[[[[{{{{"}', limits))).toEqual({ a: [{}], b: "[[[[{{{{" });
    expect(() => parse('{"a":[{"b":[]}]}', limits)).toThrow("it is nested deeper than 3 levels");
    // Found before it is parsed, so that it cannot exhaust the stack.
    expect(() => parse(`{"a":${"[".repeat(1e6)}`, limits)).toThrow(SyntaxError);
    expect(() => parse(`{"a":${"[".repeat(1e6)}}`, limits)).toThrow("it is nested deeper than 3 levels");
  });

  test("a long list is cut between its elements, and may not be longer than is allowed", () => {
    const list = Array.from({ length: 50_000 }, (_, k) => ({ name: `p,${k}]"`, shape: [k, 1] }));
    const text = Buffer.from(JSON.stringify({ list, after: 1 }));
    const { value, steps } = finish(parseObject(text, LIMITS));
    expect(plain(value)).toEqual({ list, after: 1 });
    expect(steps).toBeGreaterThan(2 * (text.length / 2 ** 16) - 5);
    expect(() => finish(parseObject(text, { depth: 20, elements: 1000 }))).toThrow(/more than 1000/);
  });

  test("a long string is cut where no escape and no character is", () => {
    const string = '"\\,\u{1f525}ü\n\\\\,'.repeat(30_000);
    const text = Buffer.from(JSON.stringify(string));
    const { value, steps } = finish(parseString(text, { begin: 0, end: text.length }));
    expect(value === string).toBe(true);
    expect(steps).toBeGreaterThan(4);
  });

  test("members say where their values are", () => {
    const text = Buffer.from(' { "a" : [1, 2] ,\n"b":"," } ');
    const found = [...members(text, { begin: 0, end: text.length }, 2)].filter(
      (member) => member !== undefined,
    );
    expect(found.map(({ key, begin, end }) => [key, text.toString("utf8", begin, end)])).toEqual([
      ["a", "[1, 2]"],
      ["b", '","'],
    ]);
  });

  test("what is rendered in pieces is JSON.stringify's text", () => {
    const list = Array.from({ length: 1500 }, (_, k) => ({ name: `ü"${k}` }));
    for (const object of [{}, { a: 1 }, { list, empty: [], inner: { list: [1, 2] }, last: null }]) {
      const pieces = [...renderObject(object)];
      expect(pieces.join("")).toBe(JSON.stringify(object));
    }
  });
});
