import { describe, expect, it } from 'vitest';
import { HistoryWatch } from '../../src/history/watch.js';

describe('the watch over a history', () => {
  const run = (looks: { up?: boolean; failed: number; written: number }[]) => {
    const events: string[] = [];
    let now = { up: true, pending: 0, failed: 0, written: 0, lastError: 'disk full' };
    const watch = new HistoryWatch({ health: () => now }, ({ kind, message }) => events.push(`${kind}: ${message}`));
    for (const look of looks) {
      now = { ...now, up: true, ...look };
      watch.look(1);
    }
    return events;
  };

  it('says nothing while everything is stored', () => {
    expect(run([1, 2, 3].map((written) => ({ failed: 0, written })))).toEqual([]);
  });

  it('says once that records are lost, however long it lasts, and once that they are stored again', () => {
    const lost = [1, 2, 3].map((failed) => ({ failed, written: 5 }));
    const events = run([{ failed: 0, written: 5 }, ...lost, { failed: 3, written: 6 }, { failed: 3, written: 7 }]);
    expect(events).toEqual([
      'history: what happens now is not stored: disk full; everything else goes on',
      'history: the history is written again; 3 records were lost',
    ]);
  });

  it('does not call it stored again as long as nothing has been written', () => {
    expect(
      run([
        { failed: 0, written: 5 },
        { up: false, failed: 0, written: 5 },
        { failed: 0, written: 5 },
      ]),
    ).toHaveLength(1);
  });
});
