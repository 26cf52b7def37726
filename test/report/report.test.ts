import { describe, expect, it } from 'vitest';
import { renderReport } from '../../src/report/report.js';
import { sample } from './sample.js';

/** What the page's script will read. */
function chartData(html: string) {
  const json = /<script type="application\/json" id="chart-data">(.*?)<\/script>/s.exec(html)?.[1];
  return JSON.parse(json!) as {
    limit: number;
    targets: { name: string; q50: (number | null)[]; demand: number[] }[];
  };
}

describe('the report', () => {
  it('loads nothing: no address in it is fetched, and its policy forbids it', () => {
    const html = renderReport(sample());
    expect(html).toContain(`default-src 'none'`);
    expect(html).not.toMatch(/<(?:link|img|iframe|script)\b[^>]*\b(?:src|href)\s*=/i);
    expect(html).not.toMatch(/@import|url\(\s*['"]?http/i);
  });

  it('carries every target with its numbers, and null where there was no forecast', () => {
    const data = chartData(renderReport(sample(['a', 'b'])));
    expect(data.targets.map((target) => target.name)).toEqual(['a', 'b']);
    expect(data.targets[0]!.q50.slice(0, 6).map((value) => value === null)).toEqual([
      ...[true, true, true, true, true],
      false,
    ]);
    expect(data.targets[0]!.demand).toHaveLength(120);
    expect(data.limit).toBe(2000);
  });

  it('shows a hostile name as text', () => {
    const name = `</script><script>alert(1)</script><!--"'&\u2028`;
    const report = sample([name]);
    const html = renderReport({ ...report, history: name, notes: [name], title: name });
    expect(html).not.toContain('<script>alert(1)');
    expect(html).toContain('&lt;/script&gt;&lt;script&gt;alert(1)');
    expect(chartData(html).targets[0]!.name).toBe(name);
  });

  it('says whether the law was kept, in words and not by colour alone', () => {
    const report = sample();
    expect(renderReport(report)).toContain('✓ kept');
    const broken = renderReport({ ...report, law: { admissions: 10, violations: 2 } });
    expect(broken).toContain('✗ broken');
    expect(broken).toContain('2 of 10 admissions');
  });

  it('is whole without targets, arms, notes or a capture to show', () => {
    const { notes: _, ...report } = sample([]);
    const html = renderReport({ ...report, arms: [], capture: null });
    expect(html).toContain('id="chart-total"');
    expect(html).not.toContain('id="chart-forecast"');
    expect(html).toContain('there was nothing to gain');
  });

  it('refuses columns of different lengths, naming column and target', () => {
    const report = sample(['a']);
    const target = { ...report.targets[0]!, level: [1, 2, 3] };
    expect(() => renderReport({ ...report, targets: [target] })).toThrow(
      expect.objectContaining({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(/level of target "a" has 3 entries, timeS 120/),
      }),
    );
  });

  it('tells what shadows would have denied, beside what was denied, if there were any', () => {
    const report = sample();
    expect(renderReport(report)).not.toContain('id="shadows"');
    const shadows = {
      sinceMs: 0,
      timeMs: 1000,
      asked: 100,
      askedTokens: 200,
      denied: 10,
      deniedTokens: 20,
      shadows: [{ engine: 'last', allocator: 'credit', denied: 30, deniedTokens: 50 }] as const,
    };
    const html = renderReport({ ...report, shadows: { ...shadows, shadows: [...shadows.shadows] } });
    expect(html).toMatch(/<th scope="row">live<\/th><td>20<\/td><td>10\.0+ %<\/td>/);
    expect(html).toMatch(/<th scope="row">last, credit<\/th><td>50<\/td><td>25\.0+ %<\/td>/);
    expect(renderReport({ ...report, shadows: { ...shadows, shadows: [] } })).not.toContain('id="shadows"');
  });

  it('gives each arm its line, and ours a mark', () => {
    const html = renderReport(sample());
    for (const name of ['static', 'reactive', 'foretoken', 'oracle'])
      expect(html).toMatch(new RegExp(`<th scope="row">${name}`));
    expect(html.match(/class="ours"/g)).toHaveLength(1);
  });
});
