/** The style sheet of the report. */
export const STYLE = `
:root { color-scheme: light dark; --paper: #fcfcfb; --card: #fff; --ink: #1d2126; --soft: #59616b; --line: #d8dce1;
  --mark: #c2410c; --c0: #1d4ed8; --c1: #b45309; --c2: #047857; --c3: #a21caf; --c4: #475569; --c5: #be123c; --at: 1; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --card: #1b1f24; --ink: #e8eaed; --soft: #a3abb5;
  --line: #3a4149; --mark: #fb923c; --c0: #8ab4f8; --c1: #fbbf24; --c2: #34d399; --c3: #e879f9; --c4: #cbd5e1;
  --c5: #fb7185; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 16px; }
h1 { font-size: 24px; line-height: 1.25; margin: 8px 0; }
h2 { font-size: 18px; margin: 28px 0 4px; }
h3 { font-size: 15px; margin: 16px 0 6px; overflow-wrap: anywhere; }
p { margin: 4px 0 12px; color: var(--soft); max-width: 75ch; }
.controls { position: sticky; top: 0; z-index: 2; background: var(--paper); border-bottom: 1px solid var(--line);
  padding: 8px 0; display: flex; flex-wrap: wrap; gap: 6px 16px; align-items: center; }
.controls label { display: flex; gap: 8px; align-items: center; flex: 1 1 200px; }
.controls input, .controls select { flex: 1; min-width: 0; font: inherit; accent-color: var(--mark); }
.controls output { flex: 1 1 100%; color: var(--soft); font-size: 13px; min-height: 20px; }
button { font: inherit; padding: 2px 12px; border: 1px solid var(--line); border-radius: 6px; background: var(--card);
  color: var(--ink); cursor: pointer; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); gap: 12px; }
figure { margin: 0; padding: 10px; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  min-width: 0; }
figcaption { font-weight: 600; overflow-wrap: anywhere; margin-bottom: 4px; }
.plot { display: grid; grid-template-columns: 92px minmax(0, 1fr); column-gap: 6px; font-size: 12px; }
.plot .names { display: flex; flex-direction: column; text-align: right; color: var(--soft); }
.plot .names span { overflow: hidden; white-space: nowrap; text-overflow: ellipsis; }
.plot .rows span { height: 18px; line-height: 18px; }
.plot .scale { justify-content: space-between; }
.area { position: relative; cursor: crosshair; touch-action: pan-y; }
canvas, .area svg { display: block; width: 100%; }
.area svg { height: 150px; border-left: 1px solid var(--line); border-bottom: 1px solid var(--line); }
.area path { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke; stroke-linecap: round; }
.cursor { position: absolute; top: 0; bottom: 0; left: calc(var(--at) * 100%); width: 0; pointer-events: none;
  border-left: 2px solid var(--mark); }
.axis { grid-column: 2; display: flex; justify-content: space-between; color: var(--soft); }
.key { display: flex; gap: 8px; align-items: center; font-size: 13px; color: var(--soft); }
.key div { width: 140px; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: 13px; margin: 6px 0 0; padding: 0;
  list-style: none; }
.legend li { display: flex; gap: 6px; align-items: center; overflow-wrap: anywhere; }
.legend svg { width: 30px; height: 8px; flex: none; }
.legend path { fill: none; stroke-width: 2; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; min-width: 720px; width: 100%; }
th, td { text-align: right; padding: 3px 8px; border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
th:nth-child(-n + 2), td:nth-child(-n + 2) { text-align: left; overflow-wrap: anywhere; font-weight: 400; }
thead th { font-weight: 600; color: var(--soft); }
td meter { width: 64px; vertical-align: middle; }
@media (max-width: 620px) { .plot { grid-template-columns: 64px minmax(0, 1fr); } main { padding: 10px; } }
`;
