import cliProgress from "cli-progress";

/** Lines of progress per round if there is no terminal for a bar. */
const LINES = 10;

/** Shows how far the training is: a bar on a terminal, plain lines elsewhere. */
export class Progress {
  readonly #rounds: number;
  readonly #steps: number;
  readonly #start = performance.now();
  readonly #bar: cliProgress.SingleBar | undefined;

  /** `rounds` rounds of `steps` steps. */
  constructor(rounds: number, steps: number) {
    this.#rounds = rounds;
    this.#steps = steps;
    if (!process.stdout.isTTY) return;
    // A line longer than the terminal is cut off at its end, so the least important comes last.
    this.#bar = new cliProgress.SingleBar({
      format: "{bar} {where}  {left} left  loss {loss}",
      barCompleteChar: "█",
      barIncompleteChar: "░",
      barsize: 16,
      hideCursor: true,
      stream: process.stdout,
    });
    this.#bar.start(rounds * steps, 0, { where: `step 0/${steps}`, left: "–:––", loss: "–" });
  }

  /** After `step` steps of `round` (both from 1). `losses`: the value to show for each arm. */
  update(round: number, step: number, losses: readonly { name: string; value: number }[]): void {
    const done = (round - 1) * this.#steps + step;
    const total = this.#rounds * this.#steps;
    const left = clock(((performance.now() - this.#start) / 1000 / done) * (total - done));
    const where = (this.#rounds > 1 ? `round ${round}/${this.#rounds} ` : "") + `step ${step}/${this.#steps}`;
    const loss = losses.map(({ name, value }) => `${name} ${value.toFixed(2)}`).join(", ");
    if (this.#bar) this.#bar.update(done, { where, left, loss });
    else if (step % Math.ceil(this.#steps / LINES) === 0 || step === this.#steps) {
      console.log(`${where}, ${left} left, loss: ${loss}`);
    }
  }

  /** Ends the line and shows the cursor again. */
  stop(): void {
    this.#bar?.stop();
  }
}

/** Seconds as minutes:seconds. */
export function clock(seconds: number): string {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
