/** Colours pass 4.5:1 for text on both grounds; blue, teal and orange stay apart for colour-blind eyes. */
export const palette = `
:root {
  --ground: #fbfbfd; --panel: #fff; --line: #dfe2ea; --ink: #1b1f2a; --quiet: #5b6376;
  --demand: #2f5fd0; --mean: #12265c; --forecast: #8a4fd3; --band: rgba(138, 79, 211, .18);
  --admitted: #0d8276; --denied: #c8500f; --level: #0d8276; --limit: #6b7280;
  --good: #0b6b3a; --good-ground: #e0f4e8; --bad: #a31b1b; --bad-ground: #fde6e4; --ours: #eef3ff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #12141a; --panel: #1a1d26; --line: #313645; --ink: #e8eaf1; --quiet: #a0a8bb;
    --demand: #7ea4ff; --mean: #dbe5ff; --forecast: #c49bff; --band: rgba(196, 155, 255, .2);
    --admitted: #3ec7b5; --denied: #ff9457; --level: #3ec7b5; --limit: #9aa2b4;
    --good: #7fe0a8; --good-ground: #16352a; --bad: #ffa39b; --bad-ground: #451d1c; --ours: #1f2a45;
  }
}
`;

/** How the page looks, in the colours of the palette. */
export const style = `
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
header, main { max-width: 1080px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 40px; }
main { padding-bottom: 64px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 4px; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 0 0 12px; }
h3 { font-size: 1rem; margin: 0 0 4px; }
section { margin-top: 28px; padding: 20px 24px; background: var(--panel); border: 1px solid var(--line); border-radius: 12px; }
p { margin: 8px 0; }
.quiet { color: var(--quiet); font-size: .875rem; }
code { font: .9em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 24px 0 0; }
.card { padding: 14px 16px; background: var(--panel); border: 1px solid var(--line); border-radius: 12px; }
.card dt { color: var(--quiet); font-size: .8125rem; }
.card dd { margin: 0; }
.card strong { display: block; font-size: 1.6rem; line-height: 1.3; font-weight: 650; font-variant-numeric: tabular-nums; }
.card span { color: var(--quiet); font-size: .8125rem; line-height: 1.35; display: block; }
.scroll { overflow-x: auto; max-height: 520px; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
section > .scroll th, section > .scroll td, details th, details td { padding: 9px 12px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
section > .scroll th:first-child, details th:first-child { text-align: left; }
thead th { color: var(--quiet); font-size: .8125rem; font-weight: 600; }
tbody th { font-weight: 600; }
tbody tr:last-child > * { border-bottom: 0; }
tr.ours > * { background: var(--ours); }
tr.ours > *:first-child { box-shadow: inset 3px 0 var(--demand); }
td.bar { position: relative; min-width: 130px; }
td.bar i { position: absolute; left: 8px; top: 20%; bottom: 20%; max-width: calc(100% - 16px); background: var(--denied); opacity: .24; border-radius: 3px; }
td.bar span { position: relative; }
td.bad { color: var(--bad); font-weight: 700; }
figure { margin: 18px 0 0; }
figure + figure { margin-top: 28px; }
figcaption { margin-top: 4px; }
.chart { min-height: 240px; }
.choose { display: flex; gap: 10px; align-items: center; flex-wrap: wrap; }
.choose label { font-weight: 600; }
select {
  font: inherit; color: inherit; background: var(--ground); border: 1px solid var(--limit); border-radius: 8px;
  padding: 7px 10px; max-width: 100%;
}
:focus-visible { outline: 3px solid var(--demand); outline-offset: 2px; }
details { margin-top: 20px; }
summary { cursor: pointer; font-weight: 600; }
details thead th { position: sticky; top: 0; background: var(--panel); }
.badge { display: inline-block; padding: 1px 10px; border-radius: 999px; font-weight: 650; margin-right: 6px; }
.badge.good { color: var(--good); background: var(--good-ground); }
.badge.bad { color: var(--bad); background: var(--bad-ground); }
.uplot, .uplot * { font-family: inherit; }
.u-legend { text-align: left; font-size: .8125rem; margin: 4px 0 0; font-variant-numeric: tabular-nums; }
.u-legend th { font-weight: 500; }
.u-legend td { min-width: 3.5em; display: inline-block; }
.u-hz .u-cursor-x, .u-vt .u-cursor-y { border-color: var(--limit); }
.u-select { background: color-mix(in srgb, var(--demand) 14%, transparent); }
@media (max-width: 600px) { header, main { padding-left: 12px; padding-right: 12px; } section { padding: 16px 14px; } }
@media print { section { break-inside: avoid; } }
`;
