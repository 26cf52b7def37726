import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { ForetokenError } from '../errors.js';
import type { ShadowReport } from '../shadow/report.js';
import { clientScript } from './client.js';
import { type ArmCurve, curveStyle } from './curves.js';
import { embedJson, embedScript, escapeHtml } from './html.js';
import { curvesSection, settingsSection, targetsSection } from './replay-sections.js';
import { armsSection, chartsSection, headerSection, historySection, lawSection, notesSection } from './sections.js';
import { shadowSection } from './shadow-section.js';
import { palette, style } from './style.js';

/** What one arm did with the offered tokens, as the replay contract defines the figures. */
export interface ReportArm {
  /** `static`, `reactive`, `foretoken`, … */
  name: string;
  /** Which of several settings this is, if the best was chosen. */
  variant?: string | undefined;
  /** Tokens asked for and tokens admitted, real targets only. */
  offered: number;
  admitted: number;
  /** 0 to 1. */
  throttledFraction: number;
  /** Largest throttled fraction of a target with at least 1 % of the offered tokens, 0 to 1. */
  worstTargetThrottledFraction: number;
  /** Everything admitted ÷ (rate × time), 0 to 1. */
  utilization: number;
  /** What targets were given and nobody used ÷ (rate × time), 0 to 1. */
  withheldFraction?: number;
  /** What the worst served of several greedy targets got ÷ what the best served got, 0 to 1. */
  minMaxRatio?: number;
  /** Admissions beyond rate and burst of the resource. */
  lawViolations: number;
}

/** Numbers over time; all of one length. Not a number (NaN) where there is none. */
export type ReportColumn = ArrayLike<number>;

/** One target step by step. */
export interface ReportTarget {
  /** Any text; it is escaped. */
  name: string;
  /** Beginning of each step, s from the start, ascending. */
  timeS: ReportColumn;
  /** Demand of the step, tokens/s. */
  demand: ReportColumn;
  /**
   * Forecast of the mean demand over the horizon that ends with the step, made a horizon before:
   * median and 90 % quantile, tokens/s.
   */
  q50: ReportColumn;
  q90: ReportColumn;
  /** Tokens in the bucket at the end of the step. */
  level: ReportColumn;
  /** What was admitted and denied in the step, tokens/s. */
  admitted: ReportColumn;
  denied: ReportColumn;
}

export interface ReportData {
  /** Heading. */
  title: string;
  /** When it was made, Unix ms. */
  madeAtMs: number;
  /** The command that made it. */
  command?: string;
  resource: {
    /** Tokens/s and tokens. */
    ratePerSec: number;
    burst: number;
  };
  /** Time covered and length of a step, s. */
  durationS: number;
  stepS: number;
  /** Horizon of the forecasts in `targets`, s. */
  horizonS: number;
  /** How many targets and requests there were; `targets` below may be some of them. */
  targetCount: number;
  requestCount: number;
  /** In the order in which they are shown. `foretoken` is told apart by its name. */
  arms: readonly ReportArm[];
  /** The part of the reachable gain that was reached: (reactive − foretoken) ÷ (reactive − oracle); null if there was none to reach. */
  capture?: number | null;
  /** What a reference bucket said to every admission, and how many that were if it is known. */
  law: { admissions?: number; violations: number };
  /** What each arm throttles against what it withholds, over a sweep of its head-room. */
  curves?: { title: string; arms: readonly ArmCurve[]; meanRatePerSec: number; lawViolations: number };
  /** What each arm denied each target. */
  perTarget?: TargetTable;
  /** What shadows would have denied of the live requests. */
  shadows?: ShadowReport;
  /** Options as used, by name. */
  settings?: readonly (readonly [string, string])[];
  /** All targets together, tokens/s. */
  total?: { timeS: ReportColumn; demand: ReportColumn; admitted: ReportColumn };
  /** Targets with charts of their own, the first one shown at first. Some tens; each row costs about 30 bytes. */
  targets: readonly ReportTarget[];
  /** So many steps stand in one row of the charts; default 1. */
  scale?: number;
  /** Where the history lies: a path, `memory`, a URL. */
  history?: string;
  /** Things to know, one sentence each: what failed, what was left out. */
  notes?: readonly string[];
}

/** A table of targets, most denied first. */
export interface TargetTable {
  arms: readonly string[];
  /** Tokens offered, and the part of them that each arm denied, 0 to 1. */
  rows: readonly { name: string; offered: number; throttledFraction: readonly number[] }[];
  /** How many targets were left out. */
  left: number;
}

/**
 * A self-contained HTML page: script and style are in it and it loads nothing. Text of any kind may
 * stand in names and notes.
 * @throws ForetokenError INVALID_ARGUMENT if columns that belong together differ in length
 */
export function renderReport(data: ReportData): string {
  if (data.total) checkColumns('total', data.total, data.total.timeS.length);
  for (const target of data.targets) {
    const { name, ...columns } = target;
    checkColumns(`target ${JSON.stringify(name)}`, columns, target.timeS.length);
  }
  const { script, css } = chartLibrary();
  const chart = {
    limit: data.resource.ratePerSec,
    stepS: data.stepS,
    horizonS: data.horizonS,
    total: data.total ? columnsOf(data.total) : null,
    targets: data.targets.map(({ name, ...columns }) => ({ name, ...columnsOf(columns) })),
  };
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<title>${escapeHtml(data.title)}</title>
<style>${css}</style>
<style>${palette}${style}${data.curves ? curveStyle : ''}</style>
</head>
<body>
${headerSection(data)}
<main>
${armsSection(data)}
${shadowSection(data)}
${curvesSection(data)}
${chartsSection(data)}
${targetsSection(data)}
${lawSection(data)}
${historySection(data)}
${settingsSection(data)}
${notesSection(data)}
</main>
<script type="application/json" id="chart-data">${embedJson(chart)}</script>
<script>${embedScript(script)}</script>
<script>${embedScript(clientScript)}</script>
</body>
</html>
`;
}

function chartLibrary(): { script: string; css: string } {
  const require = createRequire(import.meta.url);
  const read = (file: string): string => readFileSync(require.resolve(`uplot/dist/${file}`), 'utf8');
  return { script: read('uPlot.iife.min.js'), css: read('uPlot.min.css') };
}

function checkColumns(what: string, columns: Record<string, ReportColumn>, length: number): void {
  for (const [name, column] of Object.entries(columns)) {
    if (column.length !== length) {
      const sizes = `${column.length} entries, timeS ${length}`;
      throw new ForetokenError('INVALID_ARGUMENT', `report: ${name} of ${what} has ${sizes}`);
    }
  }
}

/** Five digits are more than a chart shows, and a third of the size. */
const rounded = (value: number): number | null => (Number.isFinite(value) ? Number(value.toPrecision(5)) : null);

const columnsOf = (columns: Record<string, ReportColumn>): Record<string, (number | null)[]> =>
  Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, Array.from(column, rounded)]));
