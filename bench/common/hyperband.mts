/** One round of successive halving: so many configurations, each trained with this much of the resource. */
export interface Rung {
  configurations: number;
  resource: number;
}

/** The rounds of one run of successive halving, shortest trainings first. */
export type Bracket = readonly Rung[];

/**
 * Hyperband's brackets (Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar, JMLR 2018, Algorithm 1): with s_max =
 * ⌊log_η R⌋ and B = (s_max + 1)·R, bracket s = s_max, …, 0 begins with n = ⌈B/R·η^s/(s + 1)⌉ configurations and r =
 * R·η^−s of the resource; round i keeps nᵢ = ⌊n·η^−i⌋ of them with rᵢ = r·η^i.
 *
 * @param most R, the resource of a full training: at least 1
 * @param eta η, the factor between rounds: a whole number of at least 2
 */
export function hyperband(most: number, eta: number): Bracket[] {
  let halvings = 0;
  while (eta ** (halvings + 1) <= most) ++halvings;
  return Array.from({ length: halvings + 1 }, (_, index) => {
    const s = halvings - index;
    const first = Math.ceil(((halvings + 1) * eta ** s) / (s + 1));
    return Array.from({ length: s + 1 }, (_, i) => ({
      configurations: Math.floor(first / eta ** i),
      resource: most / eta ** (s - i),
    }));
  });
}

/** A configuration with its cost at some point of the search. */
interface Judged<T> {
  configuration: T;
  cost: number;
  resource: number;
}

/**
 * The configuration with the lowest cost among the longest trainings of Hyperband; of equals the first. The paper also
 * counts shorter trainings; where a cost does not fall steadily, theirs do not compare.
 *
 * @param draw draws a configuration at random
 * @param costOf trains a configuration from the start with this much of the resource; a cost that is not finite is the
 *   worst
 */
export async function searchByHyperband<T>(
  brackets: readonly Bracket[],
  draw: () => T,
  costOf: (configuration: T, resource: number) => Promise<number>,
): Promise<T> {
  let best: Judged<T> | undefined;
  for (const bracket of brackets) {
    let left = Array.from({ length: bracket[0]!.configurations }, draw);
    for (const { configurations, resource } of bracket) {
      const judged: Judged<T>[] = [];
      for (const configuration of left.slice(0, configurations)) {
        const cost = await costOf(configuration, resource);
        judged.push({ configuration, resource, cost: Number.isFinite(cost) ? cost : Infinity });
      }
      judged.sort((a, b) => a.cost - b.cost);
      if (!best || isBetter(judged[0]!, best)) best = judged[0];
      left = judged.map(({ configuration }) => configuration);
    }
  }
  return best!.configuration;
}

function isBetter(one: Judged<unknown>, other: Judged<unknown>): boolean {
  return one.resource === other.resource ? one.cost < other.cost : one.resource > other.resource;
}
