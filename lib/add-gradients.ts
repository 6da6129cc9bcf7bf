import type { NativeOptimizer, NativeStream } from "./addon/native";
import { fromNative } from "./errors";
import { checkSource, nativeSource, recheckSource, type Source } from "./memory/source";
import type { FlatParameters } from "./parameters";
import type { Names } from "./per-name";

/** A parameter's two gradients: `source` is added to `target`. */
export interface GradientPair {
  /** The parameter's name in brackets, for messages. */
  readonly key: string;
  readonly parameter: number;
  readonly length: number;
  readonly target: Source;
  readonly source: Source;
}

/**
 * The gradients in `source`, each with its target.
 *
 * @throws MTAdamError OPTION, LENGTH, DTYPE, INVALID_POINTER, DISPOSED
 */
export function readGradientPairs(
  target: unknown,
  source: unknown,
  names: Names,
  { device, parameters }: FlatParameters,
): GradientPair[] {
  const targets = names.read("target", target ?? {});
  const sources = names.read("source", source ?? {});
  return parameters.flatMap(({ name, length, gradientDtype }, parameter): GradientPair[] => {
    const from = sources[parameter] ?? null;
    if (from === null) return [];
    const key = `[${JSON.stringify(name)}]`;
    return [
      {
        key,
        parameter,
        length,
        target: checkSource(`target${key}`, targets[parameter], length, gradientDtype, device, "write"),
        source: checkSource(`source${key}`, from, length, gradientDtype, device),
      },
    ];
  });
}

/** @throws MTAdamError INVALID_POINTER, LENGTH, DISPOSED, CUDA */
export function addGradientPairs(
  native: NativeOptimizer,
  pairs: readonly GradientPair[],
  stream: NativeStream,
): void {
  for (const { key, target, source, length } of pairs) {
    // Reading the later pairs may have run the user's code.
    recheckSource(() => `target${key}`, target, length);
    recheckSource(() => `source${key}`, source, length);
  }
  fromNative(
    () => {
      native.add(
        pairs.map(({ target }) => nativeSource(target)),
        pairs.map(({ source }) => nativeSource(source)),
        Uint32Array.from(pairs, ({ parameter }) => parameter),
        stream,
      );
    },
    ({ index = 0, role = "target" }) => `${role}${pairs[index]?.key}`,
  );
}
