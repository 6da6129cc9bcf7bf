import { MTAdam } from "../../lib";

const GROUPS = 20_000;

test(`an optimizer of ${GROUPS} groups is made in time that grows with their number, not its square`, () => {
  const groups = Array.from({ length: GROUPS }, (_, k) => ({
    parameters: [{ name: `w${k}`, data: new Float32Array(1) }],
    lr: k,
  }));
  const before = process.cpuUsage();
  const { paramGroups } = new MTAdam(groups, { terms: 1 });
  const { user, system } = process.cpuUsage(before);
  expect(paramGroups).toHaveLength(GROUPS);
  expect(paramGroups[12_345]).toMatchObject({ lr: 12_345, parameters: ["w12345"] });
  // It takes half a second; with quadratic time it took half a minute.
  expect((user + system) / 1e6).toBeLessThan(10);
});
