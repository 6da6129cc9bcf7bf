/** Objects that are not plain, and receivers that are not instances. */

import { BalanceMonitor, DeviceBuffer, MTAdam, MTAdamError, writeReport } from "../../lib";
import { inBuffers, Mischief, outcome, ownDevice, revoked, throwing } from "../support/hostile";
import { uses } from "../support/uses";

describe("objects that are not plain ones", () => {
  const nothing = (entries: object): object => Object.assign(Object.create(null) as object, entries);

  test("without a prototype are options, gradients, callbacks and weights", async () => {
    const { optimizer, g } = inBuffers();
    optimizer.step(nothing({ content: nothing({ w: g[0] }) }) as never, nothing({ gradientScale: 2 }));
    await optimizer.stepEach(nothing({ style: () => g }) as never);
    optimizer.weights = nothing({ style: 2 }) as Record<string, number>;
    expect(optimizer.weights).toEqual([1, 2]);
    const parameters = [nothing({ parameters: [nothing({ data: g[0], name: "w" })], lr: 1 })];
    const other = new MTAdam(parameters as never, nothing({ terms: 1 }) as never);
    other.step([[null]]);
    expect([other.iterations, optimizer.iterations]).toEqual([1, 3]);
  });

  test("that are revoked proxies are refused with a code, wherever memory, a stream or an optimizer is expected", async () => {
    const { optimizer, g, prepared } = inBuffers();
    const calls: Record<string, () => unknown> = {
      parameter: () => new MTAdam([revoked() as never], { terms: 1 }),
      data: () => new MTAdam([{ data: revoked() as never, length: 1 }], { terms: 1 }),
      gradient: () => optimizer.step([[revoked() as never, null], null]),
      stream: () => optimizer.step([g, g], { stream: revoked() as never }),
      group: () => optimizer.addParamGroup(revoked() as never),
      added: () => optimizer.addGradients([revoked()] as never, g),
      prepared: () => prepared.set(0, 0, revoked() as never),
      monitor: () => new BalanceMonitor(revoked() as never, { file: "none" }),
      report: () => writeReport([revoked()] as never, "none.html"),
      hole: () => writeReport(new Array(1) as never, "none.html"),
    };
    const outcomes = await Promise.all(
      Object.entries(calls).map(async ([key, call]) => [key, await outcome(call)]),
    );
    expect(outcomes.filter(([, came]) => !came!.startsWith("ERR_MTADAM_"))).toEqual([]);
  });

  test("with names of Object.prototype work like others", async () => {
    const names = ["__proto__", "constructor", "toString", "hasOwnProperty", "valueOf", "then"];
    const buffers = names.map((_, k) => ownDevice.buffer(Float32Array.of(k)));
    const parameters = names.map((name, k) => ({ name, data: buffers[k]! }));
    const optimizer = new MTAdam(parameters, { terms: names, lr: 0.5 });
    const gradient = ownDevice.buffer(Float32Array.of(1));
    for (const name of names) {
      const before = await Promise.all(buffers.map((one) => one.download()));
      const gradients = Object.fromEntries([[name, Object.fromEntries([[name, gradient]])]]);
      optimizer.step(gradients);
      const now = await Promise.all(buffers.map((one) => one.download()));
      expect(names.filter((_, k) => before[k]![0] !== now[k]![0])).toEqual([name]);
    }
    await optimizer.loadStateDict(await optimizer.stateDict());
    expect(await outcome(() => optimizer.accumulate("isPrototypeOf", null))).toBe("ERR_MTADAM_TERM");
    expect(
      await outcome(() =>
        optimizer.step(JSON.parse('{"propertyIsEnumerable": null}') as Record<string, null>),
      ),
    ).toBe("ERR_MTADAM_TERM");
    expect(
      await outcome(() => new MTAdam([gradient], JSON.parse('{"terms": 1, "__proto__": 1}') as never)),
    ).toBe("ERR_MTADAM_OPTION");
  });

  const evil: Record<string, () => unknown> = {
    "a revoked proxy": revoked,
    "a proxy that throws": () => throwing({}),
    "a list that throws": () => throwing([]),
    "a function that throws": () => throwing((): void => undefined),
    "an object whose conversion throws": () => ({
      [Symbol.toPrimitive]: () => {
        throw new Mischief();
      },
    }),
    "an array that has only holes": () => new Array<unknown>(2),
    "a class": () => Map,
    "an array with an iterator that throws": () =>
      Object.assign([null, null], {
        [Symbol.iterator]: () => {
          throw new Mischief();
        },
      }),
  };
  test.each(Object.entries(evil))("%s as any argument throws or does nothing", async (_, make) => {
    const wrong: string[] = [];
    const tried = Object.entries(uses).flatMap(([name, use]) =>
      Array.from({ length: use.arguments.length }, (_, position) => ({ name, use, position })),
    );
    for (const { name, use, position } of tried) {
      const scene = inBuffers();
      const before = await scene.fingerprint();
      const given = use.arguments.map((argument, k) => (k === position ? make() : argument(scene)));
      const came = await outcome(() => use.call(scene, given as never[])).catch(String);
      if (!/^(works|Mischief|TypeError|ERR_MTADAM_\w+)$/.test(came))
        wrong.push(`${name}, ${position}: ${came}`);
      if (came !== "works" && (await scene.fingerprint()) !== before)
        wrong.push(`${name}, ${position}: has changed`);
    }
    expect(wrong).toEqual([]);
  });
});

describe("methods called on another object", () => {
  const makeInstances = (): Record<string, object> => {
    const { optimizer, prepared, device, g } = inBuffers();
    return { optimizer, prepared, device, buffer: g[0], error: new MTAdamError("OPTION", "A.") };
  };
  const receivers: ((prototype: object, make: () => Record<string, object>) => unknown)[] = [
    ...[undefined, null, 5, "x", {}, [], new Float32Array(3), Map, revoked(), throwing({})].map(
      (one) => () => one,
    ),
    (prototype) => prototype,
    (prototype) => Object.create(prototype) as object,
    ...Object.keys(makeInstances()).flatMap((name) => [
      (_: object, make: () => Record<string, object>) => make()[name],
      (_: object, make: () => Record<string, object>) => new Proxy(make()[name]!, {}),
    ]),
  ];
  test.each(Object.keys(makeInstances()))("methods of the %s", async (name) => {
    const prototype = Object.getPrototypeOf(makeInstances()[name]) as object;
    const wrong: string[] = [];
    for (const key of Reflect.ownKeys(prototype)) {
      if (key === "constructor") continue;
      const property = Reflect.getOwnPropertyDescriptor(prototype, key) as Record<string, unknown>;
      for (const part of ["value", "get", "set"]) {
        const call = property[part];
        if (typeof call !== "function") continue;
        for (const [k, receiver] of receivers.entries()) {
          const given = receiver(prototype, makeInstances);
          const came = await outcome(
            () => Reflect.apply(call, given, [0, [null, null], {}]) as unknown,
          ).catch(String);
          const where = `${String(key)} on receiver ${k}: ${came}`;
          if (!/^(works|TypeError|Mischief|ERR_MTADAM_\w+)$/.test(came)) wrong.push(where);
        }
      }
    }
    expect(wrong).toEqual([]);
  });

  test("classes called as functions, and constructed for another class", async () => {
    const { g, prepared, device } = inBuffers();
    for (const one of [MTAdam, DeviceBuffer, MTAdamError, prepared.constructor, device.constructor]) {
      expect(await outcome(() => Reflect.apply(one, undefined, [[g[0]], { terms: 1 }]) as unknown)).toBe(
        "TypeError",
      );
    }
    const made = (): unknown => Reflect.construct(MTAdam, [[g[0]], { terms: 1 }], Array);
    expect(await outcome(made)).toMatch(/^(works|TypeError)$/);
  });

  test("subclasses work", () => {
    class Own extends MTAdam {
      override get iterations(): number {
        return super.iterations * 2;
      }
    }
    const own = new Own([ownDevice.buffer(1)], { terms: 1 });
    own.step([[null]]);
    expect(own.iterations).toBe(2);
  });
});
