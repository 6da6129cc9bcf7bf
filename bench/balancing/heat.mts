import { evolution, termsOf, type Evolution } from "./evolution.mjs";
import type { Pinn } from "./pinn.mjs";
import type { Local, Residual, Term } from "./pinn-terms.mjs";

const { PI, exp, sin } = Math;

/** u_t = c·u_xx for x from −1 to 1: a slow wave and a fast one, which dies out. */
const CONDUCTIVITY = 0.1;

function wave(waves: number, x: number, t: number): number {
  return exp(-CONDUCTIVITY * (waves * PI) ** 2 * t) * sin(waves * PI * x);
}

export function solution(x: number, t: number): number {
  return wave(1, x, t) + wave(3, x, t) / 2;
}

export function residual({ uy, second }: Local): Residual {
  return { value: uy - CONDUCTIVITY * second, byU: 0, byUx: 0, byUy: 1, bySecond: -CONDUCTIVITY };
}

const HEAT: Evolution = {
  key: "heat",
  residual,
  solution,
  ends: { "left end": () => -1, "right end": () => 1 },
};

export const terms = (network: Pinn): Term[] => termsOf(HEAT, network);

export const heat = evolution(HEAT);
