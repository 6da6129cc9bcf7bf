import { normals, randomFor, type Random } from "../common/random.mjs";

/** Coordinates of a point. */
export const PLANE = 2;

const MODES = 8;
const RADIUS = 2;
const DEVIATION = 0.1;

const CENTRES = Array.from({ length: MODES }, (_, k) => {
  const angle = (2 * Math.PI * k) / MODES;
  return [RADIUS * Math.cos(angle), RADIUS * Math.sin(angle)] as const;
});

/** [count × 2] points of eight narrow normal distributions whose centres lie on a circle. */
export function ringPoints(count: number, random: Random): Float32Array {
  const points = normals(count * PLANE, random);
  for (let row = 0; row < count; ++row) {
    const [x, y] = CENTRES[Math.floor(MODES * random())]!;
    points[2 * row] = x + DEVIATION * points[2 * row]!;
    points[2 * row + 1] = y + DEVIATION * points[2 * row + 1]!;
  }
  return points;
}

/** How well points represent the ring. */
export interface Quality {
  /** Modes that have at least a quarter of their due share of points within three standard deviations. */
  modes: number;
  /** The share of points that lie within three standard deviations of a centre. */
  near: number;
  /** Mean distance of a point to the nearest centre. */
  distance: number;
}

/** @param points [count × 2] */
export function qualityOf(points: Float32Array): Quality {
  const count = points.length / PLANE;
  const found = CENTRES.map(() => 0);
  let sum = 0;
  for (let row = 0; row < count; ++row) {
    const distances = CENTRES.map(([x, y]) => Math.hypot(points[2 * row]! - x, points[2 * row + 1]! - y));
    const distance = Math.min(...distances);
    sum += distance;
    if (distance <= 3 * DEVIATION) found[distances.indexOf(distance)]! += 1;
  }
  return {
    modes: found.filter((points) => points >= count / MODES / 4).length,
    near: found.reduce((total, points) => total + points, 0) / count,
    distance: sum / count,
  };
}

/** The quality of points drawn from the ring itself. */
export function qualityOfRing(seed: number): Quality {
  return qualityOf(ringPoints(4000, randomFor(seed, 0, "test points")));
}
