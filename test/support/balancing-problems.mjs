// The problems of bench/balancing that are made of layers: gradients by central differences, and the data.

const load = (name) => import(`../../build/bench/balancing/${name}.mjs`);

/**
 * For each term, the largest difference between its gradient and the central differences of its loss with respect to
 * `parameters`, relative to the largest value of the gradient.
 *
 * @param gradients by term, then by parameter; null where the term does not reach it
 * @param losses gives the loss of each term
 */
export function gradientErrors(parameters, gradients, losses, h = 1e-5) {
  const worst = gradients.map(() => 0);
  const largest = gradients.map((gradient) =>
    Math.max(...gradient.flatMap((values) => [...(values ?? [])].map(Math.abs))),
  );
  for (const [i, values] of parameters.entries()) {
    for (let k = 0; k < values.length; ++k) {
      const held = values[k];
      values[k] = held + h;
      const above = losses();
      values[k] = held - h;
      const below = losses();
      values[k] = held;
      for (const [term, gradient] of gradients.entries()) {
        const difference = (above[term] - below[term]) / (2 * h) - (gradient[i]?.[k] ?? 0);
        worst[term] = Math.max(worst[term], Math.abs(difference));
      }
    }
  }
  return worst.map((error, term) => error / largest[term]);
}

/** Central differences need more digits than the parameters have. */
export function widen(layers) {
  for (const layer of layers) {
    layer.weight = Float64Array.from(layer.weight);
    layer.bias = Float64Array.from(layer.bias);
  }
}

/** The same for a problem whose parameters are `layers`. */
function problemErrors(problem) {
  widen(problem.layers);
  problem.draw();
  problem.backward();
  const gradients = problem.gradients.map((ofTerm) => ofTerm.map((values) => values && values.slice()));
  return gradientErrors(problem.parameters, gradients, () => problem.backward());
}

/** The errors of each problem's gradients, by term. */
export async function layeredProblems() {
  const { smallMnist } = await load("small-digits");
  const { DigitsProblem } = await load("digits");
  const { AutoencoderProblem } = await load("autoencoder");
  const { VaeProblem } = await load("vae");
  const data = await smallMnist();
  const tiny = { rows: 3, hidden: 5, code: 2 };
  return {
    digits: problemErrors(new DigitsProblem(data, 1, { rows: 3, hidden: [5, 4] })),
    autoencoder: problemErrors(new AutoencoderProblem(data, 1, tiny)),
    vae: problemErrors(new VaeProblem(data, 1, tiny)),
  };
}

/** By problem, the pictures and the labels that a batch is made of, by their numbers. */
export async function batches() {
  const { DigitsProblem } = await load("digits");
  const { VaeProblem } = await load("vae");
  return Object.fromEntries(
    [DigitsProblem, VaeProblem].map((Problem) => {
      const [pictures, labels] = [[], []];
      const train = {
        count: 1000,
        picture: (index) => void pictures.push(index),
        label: (index) => labels.push(index) && 0,
        thumbnail: () => undefined,
      };
      new Problem({ train, test: train }, 1).draw();
      return [Problem.name, { pictures, labels }];
    }),
  );
}

/** Pictures before and after they are made small and turned. */
export async function pictures() {
  const { BACKGROUND, SIDE, SMALL, SmallDigits, turn } = await load("small-digits");
  const pixels = new Uint8Array(2 * 784);
  // The second picture: a white square of 4 × 4 pixels in the upper left corner.
  for (let k = 0; k < 16; ++k) pixels[784 + 28 * Math.floor(k / 4) + (k % 4)] = 255;
  const set = new SmallDigits({ count: 2, pixels, labels: Uint8Array.of(3, 4) });
  const [black, white, turned, thumbnail] = [SMALL, SMALL, SMALL, 16].map((size) => new Float64Array(size));
  set.picture(0, black, 0);
  set.picture(1, white, 0);
  set.thumbnail(1, thumbnail, 0);
  const lit = (picture) => [...picture.keys()].filter((k) => picture[k] > BACKGROUND + 1e-3);
  const turns = [0, Math.PI / 2, Math.PI].map((angle) => {
    turn(white, angle, turned, 0);
    return lit(turned).map((k) => [k % SIDE, Math.floor(k / SIDE)]);
  });
  return {
    isBlack: black.every((value) => value === BACKGROUND),
    turns,
    thumbnail: [...thumbnail],
    label: set.label(1),
  };
}

/** Losses of one row that are known, and wrong answers. */
export async function losses() {
  const { crossEntropy, squaredError, wrong } = await load("losses");
  const logits = Float64Array.of(0, 0, Math.log(3), 0);
  return {
    crossEntropy: crossEntropy(logits, [1, 0], undefined, 2),
    squaredError: squaredError([1, 2], [0, 4], undefined, 3),
    wrong: wrong(Float64Array.of(1, 2, 3, 1, 0, 5), [1, 0, 0]),
  };
}
