import type { Arm } from "./arms.mjs";

/** The result of one arm in one round. */
export interface ArmResult {
  arm: Arm;
  /** Steps and the test accuracy (0 to 1) after them; the last is the final one. */
  curve: [step: number, accuracy: number][];
  gradientSeconds: number;
  optimizerSeconds: number;
  /** The file of its monitor: only of arms with more than one term, and only in the first round. */
  monitored: string | undefined;
}

/** One round: all arms trained from the same initial values on the same batches. */
export interface RoundResult {
  /** From 1. */
  round: number;
  /** [10] the weights drawn. */
  weights: readonly number[];
  steps: number;
  plannedSteps: number;
  arms: ArmResult[];
}

/** A line of the table: one arm over all rounds that count. */
export interface Summary {
  arm: Arm;
  /** Mean test accuracy, 0 to 1. */
  mean: number;
  /** Standard deviation over the rounds (n − 1); undefined for a single one. */
  deviation: number | undefined;
  /** Milliseconds a step. */
  gradientTime: number;
  optimizerTime: number;
}

/** The rounds that count: those that came to their end, or else the one that was stopped. */
export function countedRounds(rounds: readonly RoundResult[]): RoundResult[] {
  const complete = rounds.filter(({ steps, plannedSteps }) => steps === plannedSteps);
  return complete.length > 0 ? complete : [...rounds];
}

/** A line per arm over `rounds`, of which there must be at least one. */
export function summarise(rounds: readonly RoundResult[]): Summary[] {
  const steps = rounds.reduce((sum, round) => sum + round.steps, 0);
  return rounds[0]!.arms.map(({ arm }, index) => {
    const results = rounds.map((round) => round.arms[index]!);
    const final = results.map(({ curve }) => curve.at(-1)![1]);
    const mean = final.reduce((sum, value) => sum + value, 0) / final.length;
    const squares = final.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    const perStep = (seconds: (result: ArmResult) => number) =>
      (1000 * results.reduce((sum, result) => sum + seconds(result), 0)) / steps;
    return {
      arm,
      mean,
      deviation: final.length > 1 ? Math.sqrt(squares / (final.length - 1)) : undefined,
      gradientTime: perStep((result) => result.gradientSeconds),
      optimizerTime: perStep((result) => result.optimizerSeconds),
    };
  });
}
