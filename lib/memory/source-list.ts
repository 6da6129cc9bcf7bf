import { typedArrayLength } from "../inspect";
import { disposals, isBuffer } from "./device";
import { isArraySource, recheckSource, type ArraySource, type Source } from "./source";

/**
 * Memory that was checked, by number, and a fast way to check it again. A counter shows whether any buffer was disposed
 * of since; arrays can be detached at any time without notice.
 */
export class SourceList {
  readonly #sources: (Source | null)[];
  readonly #lengths: number[];
  // The arrays among the sources, a second time. A step checks all of them, and visiting the other objects as well would
  // take ten times as long, because they are no longer in the caches.
  readonly #arrays: (ArraySource | null)[];
  #arrayCount = 0;
  /** The counter when all sources were last checked. */
  #disposals = disposals;

  constructor(count: number) {
    this.#sources = new Array<Source | null>(count).fill(null);
    this.#lengths = new Array<number>(count).fill(0);
    this.#arrays = new Array<ArraySource | null>(count).fill(null);
  }

  get(at: number): Source | null {
    return this.#sources[at] ?? null;
  }

  /** @param length elements, as the source was checked to have */
  set(at: number, source: Source | null, length: number): void {
    const array = isArraySource(source) ? source : null;
    this.#arrayCount += Number(array !== null) - Number(this.#arrays[at] !== null);
    this.#sources[at] = source;
    this.#lengths[at] = length;
    this.#arrays[at] = array;
  }

  /** For sources that were checked some time ago: the next {@link recheck} looks at each. */
  distrust(): void {
    this.#disposals = -1;
  }

  /** Whether a source still has its memory. */
  isAlive(at: number): boolean {
    const source = this.get(at);
    if (isArraySource(source)) return typedArrayLength(source) === this.#lengths[at];
    return !isBuffer(source) || !source.disposed;
  }

  copy(): SourceList {
    const copy = new SourceList(this.#sources.length);
    for (const [at, source] of this.#sources.entries()) copy.set(at, source, this.#lengths[at]!);
    copy.#disposals = this.#disposals;
    return copy;
  }

  /**
   * Checks the sources from `first` on again, unless they cannot have changed.
   *
   * @param nameOf a source's name in messages, called only for an error
   * @throws MTAdamError LENGTH, DISPOSED
   */
  recheck(nameOf: (at: number) => string, first = 0, count = this.#sources.length): void {
    const all = count === this.#sources.length;
    if (this.#arrayCount > 0) {
      const at = this.#findDetached(first, first + count);
      if (at >= 0) recheckSource(() => nameOf(at), this.#sources[at]!, this.#lengths[at]!);
    }
    if (this.#disposals === disposals) return;
    for (let at = first; at < first + count; ++at) {
      const source = this.get(at);
      if (source !== null) recheckSource(() => nameOf(at), source, this.#lengths[at]!);
    }
    if (all) this.#disposals = disposals;
  }

  #findDetached(begin: number, end: number): number {
    const arrays = this.#arrays;
    const lengths = this.#lengths;
    for (let at = begin; at < end; ++at) {
      const array = arrays[at];
      if (array && typedArrayLength(array) !== lengths[at]) return at;
    }
    return -1;
  }
}
