const GOLDEN = (Math.sqrt(5) - 1) / 2;
const SWEEPS = 30;
const CUTS = 40;

/**
 * The minimum of a convex function of `count` shares (at least 0, with the sum 1). Starts at equal shares and optimises
 * the split within each pair of shares in turn, by golden-section search.
 */
export function leastOnSimplex(count: number, f: (shares: readonly number[]) => number): number[] {
  const shares = new Array<number>(count).fill(1 / count);
  let value = f(shares);
  for (let sweep = 0; sweep < SWEEPS; ++sweep) {
    const before = value;
    for (let i = 0; i < count; ++i) {
      for (let j = i + 1; j < count; ++j) {
        const both = shares[i]! + shares[j]!;
        const held = [shares[i]!, shares[j]!] as const;
        const at = (part: number) => {
          shares[i] = part * both;
          shares[j] = both - shares[i]!;
          return f(shares);
        };
        const part = leastBetween(at);
        const found = at(part);
        if (found < value) value = found;
        else [shares[i], shares[j]] = held;
      }
    }
    if (before - value <= 1e-12 * Math.abs(before)) break;
  }
  return shares;
}

/** The minimum of a convex function in [0, 1]. */
function leastBetween(f: (x: number) => number): number {
  let [low, high] = [0, 1];
  let [left, right] = [high - GOLDEN * (high - low), low + GOLDEN * (high - low)];
  let [ofLeft, ofRight] = [f(left), f(right)];
  for (let cut = 0; cut < CUTS; ++cut) {
    if (ofLeft <= ofRight) {
      [high, right, ofRight] = [right, left, ofLeft];
      left = high - GOLDEN * (high - low);
      ofLeft = f(left);
    } else {
      [low, left, ofLeft] = [left, right, ofRight];
      right = low + GOLDEN * (high - low);
      ofRight = f(right);
    }
  }
  // The minimum is often at an end, which the search never reaches.
  return [0, 1, (low + high) / 2].reduce((best, x) => (f(x) < f(best) ? x : best));
}
