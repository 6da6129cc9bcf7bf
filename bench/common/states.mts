import type { MTAdamOptions } from "mtadam";

const FORMS = [
  { form: "per term", options: {}, planes: (terms: number) => 2 * terms },
  { form: "summed", options: { firstMoment: "summed" }, planes: (terms: number) => terms + 1 },
  { form: "one pair", options: { firstMoment: "summed", secondMoment: "summed" }, planes: () => 2 },
] as const;

const BYTES = { float32: 4, bfloat16: 2, "8bit": 1 } as const;

/** Every type of the moments with every way of summing them; float32 per term comes first. */
export const STATES = (["float32", "bfloat16", "8bit"] as const).flatMap((stateDtype) =>
  FORMS.map(({ form, options, planes }) => ({
    stateDtype,
    form,
    options: { stateDtype, ...options } satisfies Partial<MTAdamOptions>,
    /** Of moments per parameter, without exponents. */
    bytes: (terms: number) => planes(terms) * BYTES[stateDtype],
  })),
);
