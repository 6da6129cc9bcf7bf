import type { MTAdamOptions } from "mtadam";

const FORMS = [
  { form: "per term", options: {} },
  { form: "summed", options: { firstMoment: "summed" } },
  { form: "one pair", options: { firstMoment: "summed", secondMoment: "summed" } },
] as const;

/** Every type of the moments with every way of summing them; float32 per term comes first. */
export const STATES = (["float32", "bfloat16", "8bit"] as const).flatMap((stateDtype) =>
  FORMS.map(({ form, options }) => ({
    stateDtype,
    form,
    options: { stateDtype, ...options } satisfies Partial<MTAdamOptions>,
  })),
);
