import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

/** A contestant's line in the table. Tokens, of the scored part. */
export interface ReportArm {
  name: string;
  variant?: string | undefined;
  offered: number;
  admitted: number;
  throttledFraction: number;
  worstTargetThrottledFraction: number;
  utilization: number;
  lawViolations: number;
}

/** A series of steps. All arrays have the length of `timeS`; rates in tokens/s. */
export interface ReportSeries {
  name: string;
  demandPerSec: number[];
  admittedPerSec: number[];
  /** Forecast made one step earlier for this step; null where there was none. */
  q50PerSec: (number | null)[];
  q90PerSec: (number | null)[];
  /** Tokens in the bucket at the end of the step. */
  level: number[];
  /** Rate allocated for the next step. */
  ratePerSec: number[];
}

export interface ReportData {
  title: string;
  /** What was run and how, one paragraph. */
  description: string;
  madeAt: Date;
  resource: { ratePerSec: number; burst: number; stepMs: number };
  /** Where the history lies. */
  history: string;
  law: { requests: number; violations: number };
  arms: ReportArm[];
  /** Time of each step's end since the start, s. */
  timeS: number[];
  total: ReportSeries;
  targets: ReportSeries[];
}

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (c) => escapes[c]!);
/** JSON inside a script element: nothing in it may end the element or start a comment. */
const scriptJson = (value: unknown): string =>
  JSON.stringify(value).replace(/[<>&\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);

const percent = (fraction: number): string => `${(fraction * 100).toFixed(2)} %`;
const amount = (tokens: number): string => Math.round(tokens).toLocaleString('en-US');

/** A self-contained HTML page: table, charts (uPlot, inlined), law check. Needs no network. */
export function renderReport(data: ReportData): string {
  const uplot = createRequire(import.meta.url)
    .resolve('uplot/package.json')
    .replace(/package\.json$/, 'dist');
  const script = readFileSync(join(uplot, 'uPlot.iife.min.js'), 'utf8').replaceAll('</script', '<\\/script');
  const style = readFileSync(join(uplot, 'uPlot.min.css'), 'utf8');
  const { law, resource } = data;
  const rows = data.arms
    .map(
      (
        arm,
      ) => `<tr><th scope="row">${escapeHtml(arm.name)}${arm.variant ? ` <small>${escapeHtml(arm.variant)}</small>` : ''}</th>
<td>${amount(arm.offered)}</td><td>${amount(arm.admitted)}</td><td>${percent(arm.throttledFraction)}</td>
<td>${percent(arm.worstTargetThrottledFraction)}</td><td>${percent(arm.utilization)}</td><td>${arm.lawViolations}</td></tr>`,
    )
    .join('\n');
  const charts = { timeS: data.timeS, limitPerSec: resource.ratePerSec, total: data.total, targets: data.targets };
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(data.title)}</title>
<style>${style}</style>
<style>${css}</style>
</head>
<body>
<main>
<h1>${escapeHtml(data.title)}</h1>
<p>${escapeHtml(data.description)}</p>
<dl class="figures">
<div><dt>Resource</dt><dd>${amount(resource.ratePerSec)} tokens/s</dd></div>
<div><dt>Burst</dt><dd>${amount(resource.burst)} tokens</dd></div>
<div><dt>Step</dt><dd>${resource.stepMs} ms</dd></div>
<div class="${law.violations === 0 ? 'good' : 'bad'}"><dt>Resource law</dt><dd>${law.violations === 0 ? 'held' : `${law.violations} violations`}</dd><dd class="note">${amount(law.requests)} decisions checked</dd></div>
</dl>
<h2>On the same workload</h2>
<div class="scroll"><table>
<thead><tr><th scope="col">Arm</th><th scope="col">Offered</th><th scope="col">Admitted</th><th scope="col">Throttled</th><th scope="col">Worst target</th><th scope="col">Utilization</th><th scope="col">Law violations</th></tr></thead>
<tbody>
${rows}
</tbody>
</table></div>
<h2>All targets together</h2>
<div class="chart" id="total"></div>
<h2><label for="target">One target</label> <select id="target"></select></h2>
<h3>Forecast and what came</h3>
<div class="chart" id="forecast"></div>
<h3>Tokens</h3>
<div class="chart" id="tokens"></div>
<h3>Admitted and denied</h3>
<div class="chart" id="decisions"></div>
<p class="note">History: <code>${escapeHtml(data.history)}</code>. Made ${data.madeAt.toISOString()}.</p>
</main>
<script>${script}</script>
<script>const data = ${scriptJson(charts)};
${client}</script>
</body>
</html>
`;
}

const css = `
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d9dee5; --paper: #fff; --card: #f5f7fa; --a: #2563eb; --b: #d97706; --c: #dc2626; --d: #059669; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa5b4; --line: #333c48; --paper: #12161c; --card: #1b212a; --a: #6ea8fe; --b: #fbbf24; --c: #f87171; --d: #34d399; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; margin: 0 0 .5rem; } h2 { font-size: 1.2rem; margin: 2.25rem 0 .75rem; } h3 { font-size: 1rem; color: var(--soft); margin: 1.25rem 0 .25rem; font-weight: 600; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; margin: 1.25rem 0; }
.figures div { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem 1rem; }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; } dd.note { font-size: .85rem; }
.good dd:not(.note) { color: var(--d); } .bad dd:not(.note) { color: var(--c); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .45rem .7rem; border-bottom: 1px solid var(--line); white-space: nowrap; } th[scope=row], thead th:first-child { text-align: left; } thead th { color: var(--soft); font-weight: 600; font-size: .85rem; }
small { color: var(--soft); font-weight: 400; } .note { color: var(--soft); font-size: .9rem; }
select { font: inherit; font-weight: 400; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: .35rem; padding: .2rem .5rem; }
.chart { width: 100%; min-height: 240px; } .u-legend { color: var(--ink); font-size: .85rem; } .u-legend th { text-align: left; }
`;

const client = `
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const plots = new Map();
const per = (name, unit) => ({ value: (_, v) => v == null ? '–' : (Math.round(v * 10) / 10).toLocaleString('en-US') + unit, label: name });
function draw(id, series, columns, bands) {
  plots.get(id)?.destroy();
  const host = document.getElementById(id);
  const axis = { stroke: css('--soft'), grid: { stroke: css('--line'), width: 1 }, ticks: { stroke: css('--line') } };
  plots.set(id, new uPlot({
    width: host.clientWidth, height: 240, scales: { x: { time: false } }, bands,
    axes: [{ ...axis, values: (_, ticks) => ticks.map((t) => t + ' s') }, { ...axis, size: 70 }],
    series: [{ label: 'time', value: (_, v) => v == null ? '–' : v.toFixed(1) + ' s' }, ...series],
  }, [data.timeS, ...columns], host));
}
const line = (name, unit, color, more) => ({ ...per(name, unit), stroke: css(color), width: 2, points: { show: false }, ...more });
const steps = uPlot.paths.stepped({ align: -1 });
function total() {
  const t = data.total;
  draw('total', [line('demand', '/s', '--a'), line('admitted', '/s', '--d'), line('resource limit', '/s', '--c', { dash: [6, 4] }), line('forecast q50', '/s', '--b', { width: 1 }), line('forecast q90', '/s', '--b', { width: 1, dash: [3, 3] })],
    [t.demandPerSec, t.admittedPerSec, data.timeS.map(() => data.limitPerSec), t.q50PerSec, t.q90PerSec]);
}
function one() {
  const t = data.targets[select.selectedIndex];
  if (!t) return;
  draw('forecast', [line('q90', '/s', '--b', { width: 1 }), line('q50', '/s', '--b', { width: 1, dash: [3, 3] }), line('actual', '/s', '--a')],
    [t.q90PerSec, t.q50PerSec, t.demandPerSec], [{ series: [1, 2], fill: css('--b') + '33' }]);
  draw('tokens', [line('in the bucket', '', '--d', { paths: steps }), line('allocated rate', '/s', '--a', { paths: steps, width: 1 })], [t.level, t.ratePerSec]);
  draw('decisions', [line('admitted', '/s', '--d', { paths: steps, fill: css('--d') + '33' }), line('denied', '/s', '--c', { paths: steps, fill: css('--c') + '55' })],
    [t.admittedPerSec, t.demandPerSec.map((d, i) => Math.max(0, d - t.admittedPerSec[i]))]);
}
const select = document.getElementById('target');
for (const t of data.targets) select.add(new Option(t.name));
select.addEventListener('change', one);
const all = () => { total(); one(); };
all();
addEventListener('resize', all);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', all);
`;
