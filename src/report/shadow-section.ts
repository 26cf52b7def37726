import { brief, percent } from './html.js';
import { head, row, scrolling } from './replay-sections.js';
import type { ReportData } from './report.js';

/** What other engines and allocators would have denied of the same live requests. */
export function shadowSection({ shadows }: ReportData): string {
  if (!shadows || shadows.shadows.length === 0 || shadows.askedTokens === 0) return '';
  const line = (name: string, deniedTokens: number, isOurs = false): string =>
    row(name, [brief(deniedTokens), percent(deniedTokens / shadows.askedTokens)], isOurs);
  const lines = [
    line('live', shadows.deniedTokens, true),
    ...shadows.shadows.map(({ engine, allocator, deniedTokens }) => line(`${engine}, ${allocator}`, deniedTokens)),
  ];
  return `<section aria-labelledby="shadows">
<h2 id="shadows">Had another engine or allocator decided</h2>
${scrolling('Shadows', `${head(['Engine, allocator', 'Denied', 'Of what was asked for'])}<tbody>${lines.join('\n')}</tbody>`)}
<p class="quiet">Tokens, of ${brief(shadows.askedTokens)} asked for while shadows looked on. A shadow sees what came in each tick, not each
request: differences of a few percent say nothing. The one of the live engine and allocator shows how near it is.</p>
</section>`;
}
