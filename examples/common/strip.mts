import { encode } from "fast-png";

/** The side of a picture in pixels. */
const SIDE = 32;

/**
 * A PNG of rows of grey pictures of 32 × 32 pixels, all rows equally long.
 *
 * @param rows each [pictures × 32 × 32], from -1, black, to 1, white
 */
export function strip(rows: readonly Float32Array[]): Uint8Array {
  const columns = rows[0]!.length / SIDE ** 2;
  const width = columns * SIDE;
  const data = new Uint8Array(width * SIDE * rows.length);
  for (const [row, values] of rows.entries()) {
    for (const [k, value] of values.entries()) {
      const [picture, inPicture] = [Math.floor(k / SIDE ** 2), k % SIDE ** 2];
      const y = row * SIDE + Math.floor(inPicture / SIDE);
      data[y * width + picture * SIDE + (inPicture % SIDE)] = Math.min(Math.max(127.5 * (value + 1), 0), 255);
    }
  }
  return encode({ width, height: SIDE * rows.length, data, channels: 1, depth: 8 });
}
