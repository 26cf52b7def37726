import { readFileSync, writeFileSync } from 'node:fs';

/** Puts a section into a model's card, in place of the one of that heading or at its end. */
export function writeSection(card, heading, text) {
  const mark = `\n## ${heading}\n`;
  const whole = readFileSync(card, 'utf8');
  const [before, old = ''] = whole.split(mark);
  const next = old.indexOf('\n## ');
  const after = next < 0 ? '' : old.slice(next);
  writeFileSync(card, `${before.trimEnd()}\n${mark}${text.trim()}\n${after}`);
}
