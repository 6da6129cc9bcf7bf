import { threeDigits, percent } from "./format.mjs";
import {
  contenderOf,
  secondsPerStep,
  shareOfCopy,
  timesAsLong,
  type ContenderResult,
  type Results,
  type SettingResult,
} from "./results.mjs";
import { spread } from "./statistics.mjs";
import { nameCells, type Table } from "./tables.mjs";

// What a GPU's steps were meant to reach, beside what they reach. For readers: no figure decides anything.

/** Parameters from which on launches are no longer seen. */
const LARGE = 25_000_000;
/** Parameter, gradient and two moments, of which all but the gradient are also written. */
const FUSED_BYTES = 28;

interface Figure {
  value: number;
  where: string;
}

interface Goal {
  title: string;
  bound: number;
  /** Whether the bound is the least or the most. */
  is: "least" | "most";
  show: (value: number) => string;
  figures: Figure[];
}

/** The worst of each goal's figures, medians over the rounds. */
export function goalTable(results: Results): Table {
  const rows = goals(results).map(({ title, bound, is, show, figures }) => {
    const sorted = [...figures].sort((a, b) => (is === "least" ? a.value - b.value : b.value - a.value));
    const worst = sorted[0];
    const wanted = `at ${is} ${show(bound)}`;
    if (!worst) return [title, wanted, "not measured", "", ""];
    const reached = figures.filter(({ value }) => (is === "least" ? value >= bound : value <= bound));
    return [title, wanted, show(worst.value), worst.where, `${reached.length} of ${figures.length}`];
  });
  return [["what", "goal", "worst", "where", "reached"], ...rows];
}

function goals({ settings, host }: Results): Goal[] {
  const times = (value: number) => `${threeDigits(value)}×`;
  const micro = (value: number) => `${threeDigits(value)} µs`;
  const nano = (value: number) => `${threeDigits(value)} ns`;
  const cost = (...keys: string[]) =>
    host
      .filter(({ key, rounds }) => keys.includes(key) && rounds.length > 0)
      .map(({ title, rounds }) => ({ value: spread(rounds).median, where: title }));
  const slowness = (name: string) =>
    settings.flatMap((setting) => {
      const [peer, step] = [contenderOf(setting, name), contenderOf(setting, "step")];
      const ratio = peer && step ? timesAsLong(peer, step) : undefined;
      return ratio ? [{ value: ratio.median, where: placeOf(setting) }] : [];
    });
  const least = { is: "least" as const };
  const most = { is: "most" as const };
  return [
    {
      ...least,
      title: `of a copy's bandwidth, ${LARGE.toLocaleString("en")} parameters or more`,
      bound: 0.92,
      show: percent,
      figures: settings.flatMap((setting) =>
        setting.contenders.flatMap((contender) => {
          const share = contender.parameters >= LARGE ? shareOfCopy(contender) : undefined;
          return share ? [{ value: share.median, where: `${placeOf(setting)}, ${contender.name}` }] : [];
        }),
      ),
    },
    { ...least, title: "faster than PyTorch op by op", bound: 10, show: times, figures: slowness("eager") },
    { ...least, title: "faster than `torch._foreach`", bound: 3, show: times, figures: slowness("foreach") },
    {
      ...least,
      title: "a byte's time in fused Adam ÷ in `step`",
      bound: 1,
      show: times,
      figures: settings.flatMap((setting) => {
        const [fused, step] = [contenderOf(setting, "fused"), contenderOf(setting, "step")];
        const ratio = fused && step ? byteRatio(fused, step) : undefined;
        return ratio === undefined ? [] : [{ value: ratio, where: placeOf(setting) }];
      }),
    },
    {
      ...most,
      title: "enqueueing a prepared step",
      bound: 20,
      show: micro,
      figures: cost("prepared", "several", "wide"),
    },
    { ...most, title: "an unchanged gradient of a step", bound: 10, show: nano, figures: cost("unchanged") },
    { ...most, title: "a changed gradient of a step", bound: 250, show: nano, figures: cost("changed") },
  ];
}

/** How many times as long the fused Adam takes for a byte of its own. */
function byteRatio(fused: ContenderResult, step: ContenderResult): number | undefined {
  if (fused.rounds.length === 0 || step.rounds.length === 0 || step.bytesPerParameter === undefined)
    return undefined;
  const ofFused = secondsPerStep(fused).median / FUSED_BYTES;
  return ofFused / (secondsPerStep(step).median / step.bytesPerParameter);
}

function placeOf(setting: SettingResult): string {
  const [shape, terms, moments] = nameCells(setting);
  return `${shape}, I = ${terms}, ${moments}, ${setting.inputs}`;
}
