import { existsSync } from "node:fs";
import { chromium, type Browser } from "playwright-core";

/** Debian's, or one that MTADAM_CHROMIUM names; undefined where there is none. */
const executablePath = [process.env["MTADAM_CHROMIUM"], "/usr/bin/chromium"].find(
  (file) => file !== undefined && existsSync(file),
);

/** Tests that need Chromium. Without it they are skipped, except where MTADAM_REQUIRE_CHROMIUM is set, as in CI. */
export function withChromium(what: string, body: (browser: () => Browser) => void): void {
  const advice = "needs Chromium (Debian: apt-get install chromium; or set MTADAM_CHROMIUM)";
  if (executablePath === undefined) {
    if (process.env["MTADAM_REQUIRE_CHROMIUM"]) throw new Error(`${what}: ${advice}`);
    process.stderr.write(`skipped: ${what} ${advice}\n`);
    describe.skip(what, () => body(() => undefined as never));
    return;
  }
  let browser: Browser | undefined;
  describe(what, () => {
    beforeAll(async () => {
      // root cannot use the sandbox; the pages are ours.
      browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
    });
    afterAll(() => browser?.close());
    body(() => browser!);
  });
}
