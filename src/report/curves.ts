import { escapeHtml, percent } from './html.js';
import { palette } from './style.js';

/** One setting of an arm's head-room. */
export interface CurvePoint {
  /** Which setting, `q0.9`. */
  variant: string;
  /** Multiples of the mean demand. */
  withheld: number;
  throttledFraction: number;
}

/** What an arm throttles against what it withholds. */
export interface ArmCurve {
  arm: string;
  /** By growing `withheld`. */
  points: readonly CurvePoint[];
  /** Throttled fraction at some multiples of the mean demand withheld; null where the arm cannot withhold so little. */
  throttledAtWithheld: Readonly<Record<string, number | null>>;
}

const size = { width: 760, height: 430, left: 64, right: 20, top: 52, bottom: 56 } as const;
const inner = { width: size.width - size.left - size.right, height: size.height - size.top - size.bottom } as const;

/** Arms are told apart by colour, dashes and marks alike. */
const marks: Readonly<Record<string, (x: string, y: string) => string>> = {
  foretoken: (x, y) => `<circle cx="${x}" cy="${y}" r="4.5"/>`,
  reactive: (x, y) => `<rect x="${Number(x) - 4}" y="${Number(y) - 4}" width="8" height="8"/>`,
  oracle: (x, y) => `<path d="M${x} ${Number(y) - 5}l5 9h-10z"/>`,
  static: (x, y) => `<path d="M${x} ${Number(y) - 5}l5 5l-5 5l-5-5z"/>`,
  shared: (x, y) => `<path d="M${Number(x) - 4} ${Number(y) - 4}l8 8m0-8l-8 8"/>`,
};

/** Style of the figure; its colours are those of the page. */
export const curveStyle = `
.curves { display: block; width: 100%; height: auto; min-width: 580px; max-width: 860px; font: 13px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; }
.curves text { fill: var(--quiet); }
.curves .grid { stroke: var(--line); stroke-width: 1; }
.curves .axis { stroke: var(--limit); stroke-width: 1; }
.curves .name { fill: var(--ink); font-weight: 600; }
.curves .line { fill: none; stroke: var(--arm); stroke-width: 2; }
.curves .mark { fill: var(--arm); stroke: var(--arm); stroke-width: 1; }
.curves .foretoken { --arm: var(--demand); } .curves .foretoken .line { stroke-width: 3; }
.curves .reactive { --arm: var(--denied); } .curves .reactive .line { stroke-dasharray: 8 4; }
.curves .oracle { --arm: var(--admitted); } .curves .oracle .line { stroke-dasharray: 2 4; stroke-linecap: round; }
.curves .static { --arm: var(--limit); } .curves .static .line { stroke-dasharray: 12 4 2 4; }
.curves .shared { --arm: var(--forecast); }
`;

/** Steps of 1, 2 or 5 times a power of ten, some five of them. */
function ticks(low: number, high: number): number[] {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((candidate) => candidate >= rough)!;
  const found: number[] = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}

/** Where the picture ends: what competes with reacting to the past matters, what is far above it does not. */
function view(curves: readonly ArmCurve[]): { right: number; low: number; high: number } {
  const all = curves.flatMap(({ points }) => points);
  const most = (points: readonly CurvePoint[], of: (point: CurvePoint) => number) =>
    points.reduce((so, point) => Math.max(so, of(point)), 0);
  const reference = curves.find(({ arm }) => arm === 'reactive')?.points ?? all;
  const high = Math.min(1, 1.3 * most(reference, (point) => point.throttledFraction)) || 1;
  const least = all.reduce((so, point) => Math.min(so, point.throttledFraction), 1);
  return {
    right: most(all, ({ withheld }) => withheld) * 1.03 || 1,
    low: least > 0.5 * high ? Math.max(0, least - 0.15 * (high - least)) : 0,
    high,
  };
}

/** The curves as an element of a page. Legend, axes and marks are text and shapes: no script draws them. */
export function curvesFigure(curves: readonly ArmCurve[], title: string): string {
  const { right, low, high } = view(curves);
  const x = (withheld: number) => (size.left + (inner.width * withheld) / right).toFixed(1);
  const y = (fraction: number) => (size.top + inner.height * (1 - (fraction - low) / (high - low))).toFixed(1);
  const bottom = size.top + inner.height;
  const across = ticks(low, high).map(
    (tick) =>
      `<line class="grid" x1="${size.left}" x2="${size.width - size.right}" y1="${y(tick)}" y2="${y(tick)}"/>` +
      `<text x="${size.left - 8}" y="${Number(y(tick)) + 4}" text-anchor="end">${Number((tick * 100).toPrecision(4))} %</text>`,
  );
  const down = ticks(0, right).map(
    (tick) =>
      `<line class="grid" x1="${x(tick)}" x2="${x(tick)}" y1="${size.top}" y2="${bottom}"/>` +
      `<text x="${x(tick)}" y="${bottom + 18}" text-anchor="middle">${Number(tick.toPrecision(4))}</text>`,
  );
  const drawn = curves.map(({ arm, points }) => {
    const path = points.map((point, i) => `${i === 0 ? 'M' : 'L'}${x(point.withheld)} ${y(point.throttledFraction)}`);
    const shown = points.map((point) => {
      const what = `${arm} ${point.variant}: withheld ${point.withheld.toFixed(2)}, throttled ${percent(point.throttledFraction)}`;
      return `<g class="mark">${markOf(arm)(x(point.withheld), y(point.throttledFraction))}<title>${escapeHtml(what)}</title></g>`;
    });
    return `<g class="${escapeHtml(arm)}"><path class="line" d="${path.join('')}"/>${shown.join('')}</g>`;
  });
  const legend = curves.map(({ arm }, i) => {
    const from = size.left + i * 130;
    return `<g class="${escapeHtml(arm)}"><path class="line" d="M${from} 36h34"/><g class="mark">${markOf(arm)(String(from + 17), '36')}</g><text class="name" x="${from + 42}" y="40">${escapeHtml(arm)}</text></g>`;
  });
  const summary = curves.map(({ arm, throttledAtWithheld }) => {
    const at = Object.entries(throttledAtWithheld).filter((entry) => entry[1] !== null);
    return `${arm} ${at.map(([withheld, fraction]) => `${percent(fraction!)} at ${withheld}`).join(', ') || 'none'}`;
  });
  return `<svg class="curves" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size.width} ${size.height}" role="img" aria-labelledby="curves-title curves-desc">
<title id="curves-title">${escapeHtml(title)}</title>
<desc id="curves-desc">Throttled at so many times the mean demand withheld: ${escapeHtml(summary.join('; '))}.</desc>
<defs><clipPath id="curves-view"><rect x="${size.left - 6}" y="${size.top}" width="${inner.width + 12}" height="${inner.height + 6}"/></clipPath></defs>
<text class="name" x="${size.left}" y="16">${escapeHtml(title)}</text>
${legend.join('\n')}
${across.join('\n')}
${down.join('\n')}
<path class="axis" fill="none" d="M${size.left} ${size.top}V${bottom}H${size.width - size.right}"/>
<text x="${size.left + inner.width / 2}" y="${size.height - 12}" text-anchor="middle">capacity withheld, in multiples of the mean demand</text>
<text transform="translate(14 ${size.top + inner.height / 2}) rotate(-90)" text-anchor="middle">throttled</text>
<g clip-path="url(#curves-view)">
${drawn.join('\n')}
</g>
</svg>`;
}

const markOf = (arm: string) => marks[arm] ?? marks.foretoken!;

/** The same as a file of its own, light or dark as its reader is. */
export function curvesPicture(curves: readonly ArmCurve[], title: string): string {
  const { width, height } = size;
  return curvesFigure(curves, title)
    .replace('<svg ', `<svg width="${width}" height="${height}" `)
    .replace(
      '<defs>',
      `<style>${palette}${curveStyle}</style>\n<rect width="${width}" height="${height}" fill="var(--panel)"/>\n<defs>`,
    )
    .concat('\n');
}
