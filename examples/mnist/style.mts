/** Style sheet of the report. The charts take their colours from the custom properties, too. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1c2024; --soft: #5c646d; --line: #d9dee3; --panel: #f6f7f9;
  --arm-default: #0072b2; --arm-recommended: #00836b; --arm-wrong: #c9510c; --arm-equal: #6b7480;
  --heat-0: #f3f6fa; --heat-1: #a9cbe4; --heat-2: #3e88bf; --heat-3: #08306b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --ink: #e4e8ec; --soft: #9aa4ae; --line: #333a42; --panel: #1b1f25;
    --arm-default: #56b4e9; --arm-recommended: #35c9a5; --arm-wrong: #ff9153; --arm-equal: #b3bcc6;
    --heat-0: #1a2029; --heat-1: #1f4f7c; --heat-2: #4b9bd6; --heat-3: #e3f3ff;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 3rem 1.25rem 4rem; max-width: 68rem; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.6 Charter, "Bitstream Charter", "Sitka Text", Cambria, Georgia, serif;
}
h1 { margin: 0 0 .25rem; font-size: 2rem; line-height: 1.2; font-weight: 600; text-wrap: balance; }
h2 { margin: 3rem 0 .5rem; font-size: 1.3rem; line-height: 1.3; font-weight: 600; }
p { max-width: 44rem; margin: .5rem 0 1rem; }
.facts, table, .charts, .switch, footer { font-family: system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
.facts { margin: 0 0 1.5rem; max-width: none; color: var(--soft); font-size: .9rem; }
.stopped { max-width: none; padding: .6rem 1rem; border-left: 4px solid var(--arm-wrong); background: var(--panel); }
.wide { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: .92rem; line-height: 1.45; }
th, td { padding: .5rem .75rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 500; text-align: left; white-space: nowrap; }
thead th { border-bottom-color: var(--soft); }
td, .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tbody th { color: var(--ink); white-space: normal; }
tbody th small { display: block; color: var(--soft); font-size: .85rem; font-weight: 400; }
tbody th:has(small) { min-width: 15rem; }
.swatch { display: inline-block; width: .75rem; height: .75rem; margin-right: .5rem; border-radius: 2px; }
.chart { width: 100%; height: 26rem; }
.heat { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: .5rem 1.5rem; }
.heat .chart { height: 20rem; }
.switch { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: 1rem 0; border: 0; padding: 0; font-size: .92rem; }
.switch label { cursor: pointer; }
.scale { display: flex; align-items: center; gap: .6rem; margin-left: auto; color: var(--soft); font-size: .85rem; }
.scale i {
  width: 12rem; height: .8rem; border: 1px solid var(--line);
  background: linear-gradient(to right, var(--heat-0), var(--heat-1), var(--heat-2), var(--heat-3));
}
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft); font-size: .85rem; }
code { font-size: .9em; }
`;
