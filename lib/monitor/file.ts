import { Place } from "../checkpoint/path";

/**
 * The absolute path of a regular file, which need not exist.
 *
 * @throws MTAdamError OPTION
 */
export function regularFile(subject: string, file: unknown): string {
  const place = Place.of(file, subject);
  // Opening a FIFO would wait for its reader.
  place.checkRegular(subject);
  return place.string(subject);
}
