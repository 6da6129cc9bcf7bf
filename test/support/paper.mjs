// Runs what bench/paper computes without PyTorch, for paper-test.ts.

const load = (name) => import(`../../build/bench/${name}.mjs`);

const { frechetDistance, moments } = await load("paper/frechet");
const { hyperband, searchByHyperband } = await load("common/hyperband");

/** The same numbers as in frechet.py. */
function samples(seed, count, features, factor, shift, constant = 0) {
  let state = seed;
  const rows = new Float64Array(count * features);
  for (let row = 0; row < count; ++row) {
    let before = 0;
    for (let k = 0; k < features; ++k) {
      state = (state * 48271) % (2 ** 31 - 1);
      before = factor * (state / (2 ** 31 - 1)) + 0.3 * before + shift;
      rows[row * features + k] = k < features - constant ? before : shift;
    }
  }
  return moments(rows, features);
}

function distances() {
  const one = samples(1, 300, 32, 1, 0);
  return {
    general: frechetDistance(one, samples(2, 250, 32, 3, 0.5)),
    singular: frechetDistance(samples(3, 200, 16, 2, 0, 4), samples(4, 200, 16, 5, 1, 4)),
    itself: frechetDistance(one, one),
    notFinite: String(frechetDistance(one, moments(new Float64Array(64).fill(NaN), 32))),
  };
}

/** A search whose best configuration is 0.7, after trainings of any length; shorter trainings cost more. */
async function search() {
  const log = [];
  let drawn = 0;
  const best = await searchByHyperband(
    hyperband(9, 3),
    () => {
      drawn += 1;
      return (drawn * 0.7) % 1;
    },
    async (x, resource) => {
      log.push(resource);
      return x < 0.2 ? NaN : Math.abs(x - 0.7) + 1 / resource;
    },
  );
  const counts = Object.fromEntries([1, 3, 9].map((r) => [r, log.filter((one) => one === r).length]));
  return { best, drawn, counts, resource: log.reduce((a, b) => a + b, 0) };
}

console.log(
  JSON.stringify({
    distances: distances(),
    brackets: [hyperband(81, 3), hyperband(9, 3), hyperband(1, 3)].map((brackets) =>
      brackets.map((rungs) => rungs.map(({ configurations, resource }) => [configurations, resource])),
    ),
    search: await search(),
  }),
);
