import { evolution, termsOf, type Evolution } from "./evolution.mjs";
import type { Pinn } from "./pinn.mjs";
import type { Local, Residual, Term } from "./pinn-terms.mjs";

/** u_t + u·u_x = ν·u_xx for x from −1 to 1. */
const VISCOSITY = 0.03;

/** A front that travels to the right at half the speed of its crest. */
export function solution(x: number, t: number): number {
  return 1 / (1 + Math.exp((x - t / 2) / (2 * VISCOSITY)));
}

export function residual({ u, ux, uy, second }: Local): Residual {
  return { value: uy + u * ux - VISCOSITY * second, byU: ux, byUx: u, byUy: 1, bySecond: -VISCOSITY };
}

const BURGERS: Evolution = {
  key: "burgers",
  residual,
  solution,
  // Both ends are one term.
  ends: { ends: (random) => (random() < 0.5 ? -1 : 1) },
};

export const terms = (network: Pinn): Term[] => termsOf(BURGERS, network);

export const burgers = evolution(BURGERS);
