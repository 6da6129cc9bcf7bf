/**
 * The problem with two objectives of "Conflict-Averse Gradient Descent for Multi-task Learning" (Liu, Liu, Jin, Stone
 * and Liu, NeurIPS 2021, appendix), which Nash-MTL, FAMO and others also use. Above the axis x₂ = 0 the objectives are
 * logarithms with deep narrow valleys, below it paraboloids.
 */
export type Point = readonly [x1: number, x2: number];

/** Both objectives and their gradients in one point. */
export interface Objectives {
  losses: [number, number];
  gradients: [Point, Point];
}

/** The logarithm's argument is at least this. */
const LOWER = 5e-6;

/** 1 − tanh². */
function slope(tanh: number): number {
  return 1 - tanh * tanh;
}

/**
 * LOSSᵢ = c₁·(ln max(|aᵢ|, 0.000005) + 6) + c₂·((x₁ ∓ 7)²/10 + (x₂ + 8)²/100 − 20) with c₁ = max(tanh(x₂/2), 0),
 * c₂ = max(tanh(−x₂/2), 0), a₁ = (−x₁ − 7)/2 − tanh(−x₂), a₂ = (−x₁ + 3)/2 + tanh(−x₂) + 2. On x₂ = 0 the
 * slopes of both sides count.
 */
export function objectives([x1, x2]: Point): Objectives {
  const half = Math.tanh(x2 / 2);
  const [c1, c2] = [Math.max(half, 0), Math.max(-half, 0)];
  const [dc1, dc2] = [x2 >= 0 ? slope(half) / 2 : 0, x2 <= 0 ? -slope(half) / 2 : 0];
  const tanh = Math.tanh(x2);
  const valleys = [
    { a: (-x1 - 7) / 2 + tanh, d2: slope(tanh) },
    { a: (-x1 + 3) / 2 - tanh + 2, d2: -slope(tanh) },
  ];
  const [first, second] = valleys.map(({ a, d2 }, i) => {
    const centre = i === 0 ? 7 : -7;
    const valley = Math.log(Math.max(Math.abs(a), LOWER)) + 6;
    const inverse = Math.abs(a) < LOWER ? 0 : 1 / a;
    const bowl = (x1 - centre) ** 2 / 10 + (x2 + 8) ** 2 / 100 - 20;
    return {
      loss: c1 * valley + c2 * bowl,
      gradient: [
        (c1 * -inverse) / 2 + (c2 * (x1 - centre)) / 5,
        c1 * inverse * d2 + dc1 * valley + (c2 * (x2 + 8)) / 50 + dc2 * bowl,
      ] as const,
    };
  });
  return { losses: [first!.loss, second!.loss], gradients: [first!.gradient, second!.gradient] };
}

/** An end point counts as on the Pareto front within this distance of the Pareto set. */
export const TOLERANCE = 0.1;

/**
 * The Pareto set: no other point is better in one objective without being worse in the other. It lies below the axis,
 * where it consists of the minima of weighted means of the objectives. For x₁ between −7 and 7, the first objective has
 * the weight (1 + x₁/7)/2, and x₂ is found by bisection of the mean's slope.
 */
export function paretoSet(points: number): Point[] {
  return Array.from({ length: points }, (_, i) => {
    const x1 = -7 + (14 * i) / (points - 1);
    const weight = (1 + x1 / 7) / 2;
    const meanSlope = (x2: number) => {
      const [[, d1], [, d2]] = objectives([x1, x2]).gradients;
      return weight * d1 + (1 - weight) * d2;
    };
    let [low, high] = [-10, -7];
    while (high - low > 1e-12) {
      const middle = (low + high) / 2;
      if (meanSlope(middle) < 0) low = middle;
      else high = middle;
    }
    return [x1, (low + high) / 2] as const;
  });
}

const FRONT = paretoSet(2801);

/** Distance of a point to the Pareto set, in the plane of the parameters. */
export function distanceToParetoSet([x1, x2]: Point): number {
  return FRONT.reduce((least, [p1, p2]) => Math.min(least, Math.hypot(x1 - p1, x2 - p2)), Infinity);
}
