/** A command line that cannot be followed; the message says what is wrong with which option. */
export class UsageError extends Error {}

/** The number that an option names, checked; undefined where it is not given. */
export function wholeNumber(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d+$/.test(text) && Number(text) > 0) return Number(text);
  throw new UsageError(`--${name} must be a whole number of at least 1; got "${text}".`);
}
