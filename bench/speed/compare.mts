import { percent, threeDigits } from "./format.mjs";
import {
  secondsPerStep,
  shareOfCopy,
  shareOfTraffic,
  timesAsLong,
  contenderOf,
  type Results,
  type SettingResult,
} from "./results.mjs";
import { areApart, spread, type Spread } from "./statistics.mjs";

/** A figure that two runs have in common. */
interface Figure {
  name: string;
  value: Spread;
  /** Whether more is better. */
  more: boolean;
  show: (value: number) => string;
}

/**
 * A line for each figure whose quartiles in the two runs have nothing in common. What is compared is ratios within a
 * round, which outlast a change of the machine's mood; host costs alone are times.
 */
export function compare(before: Results, after: Results): string[] {
  const old = new Map(figures(before).map((figure) => [figure.name, figure]));
  return figures(after).flatMap(({ name, value, more, show }) => {
    const was = old.get(name)?.value;
    if (was === undefined || !areApart(was, value)) return [];
    const range = ({ low, median, high }: Spread) => `${show(median)} (${show(low)} to ${show(high)})`;
    const better = value.median > was.median === more;
    return [`${better ? "better" : "worse"}: ${name}, ${range(was)} → ${range(value)}`];
  });
}

/** Why the figures of two runs may differ for another reason than the code. */
export function differences(before: Results, after: Results): string[] {
  const facts = ({ gpu, machine, instructionSet, threads, node }: Results) =>
    new Map<string, string>([
      ["GPU", gpu?.name ?? "none"],
      ["driver", gpu?.driver ?? ""],
      ["CPU", machine.cpu],
      ["cores", String(machine.cores)],
      ["instruction set", instructionSet],
      ["threads", String(threads)],
      ["Node", node],
    ]);
  const old = facts(before);
  return [...facts(after)].flatMap(([name, value]) =>
    old.get(name) === value ? [] : [`${name}: ${old.get(name) ?? ""} → ${value}`],
  );
}

function figures({ settings, host }: Results): Figure[] {
  return [
    ...settings.flatMap(ofSetting),
    ...host.map(({ title, unit, rounds }) => ({
      name: title,
      value: spread(rounds),
      more: false,
      show: (value: number) => `${threeDigits(value)} ${unit}`,
    })),
  ];
}

function ofSetting(setting: SettingResult): Figure[] {
  const { subject, terms, form, inputs } = setting;
  const name = `${subject}, I = ${terms}, ${form}, ${inputs}`;
  const step = contenderOf(setting, "step");
  return setting.contenders.flatMap((contender): Figure[] => {
    if (contender.rounds.length === 0) return [];
    const [ofTraffic, ofCopy] = [shareOfTraffic(contender), shareOfCopy(contender)];
    const share = ofTraffic ?? ofCopy;
    if (share) {
      return [
        {
          name: `${name}: ${contender.name}, share of ${ofTraffic ? "the same traffic" : "a copy"}`,
          value: share,
          more: true,
          show: percent,
        },
      ];
    }
    const ratio = step ? timesAsLong(contender, step) : secondsPerStep(contender);
    if (!ratio) return [];
    const show = (value: number) => `${threeDigits(value)}×`;
    return [{ name: `${name}: ${contender.name}, times as long as a step`, value: ratio, more: true, show }];
  });
}
