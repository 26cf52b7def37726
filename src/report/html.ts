const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** Text for an element or a quoted attribute. */
export const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (character) => entities[character]!);

/** JSON for a script element: no text in it can end the element or begin another. */
export const embedJson = (value: unknown): string =>
  JSON.stringify(value).replace(/[<>&\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** A script for a script element. */
export const embedScript = (script: string): string =>
  script.replace(/<\/(script)/gi, '<\\/$1').replace(/<!--/g, '<\\!--');

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en-US', { notation: 'compact', maximumSignificantDigits: 3 });

/** A count, all digits. */
export const count = (value: number): string => whole.format(value);

/** A count in three digits: 1.23M. */
export const brief = (value: number): string => short.format(value);

/** A fraction of 1 in three digits: 12.3 %. Small ones keep a digit that is not 0. */
export function percent(fraction: number): string {
  if (!Number.isFinite(fraction)) return '–';
  const value = fraction * 100;
  if (value !== 0 && Math.abs(value) < 0.01) return value < 0 ? '> −0.01 %' : '< 0.01 %';
  return `${value.toFixed(Math.abs(value) >= 10 ? 1 : 2)} %`;
}

/** A time in the largest two units: 1 h 5 min, 45 s. */
export function duration(seconds: number): string {
  if (seconds < 120) return `${Number(seconds.toPrecision(3))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return `${hours} h ${minutes % 60} min`;
}
