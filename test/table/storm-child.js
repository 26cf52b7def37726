// A process of the kill storm: `node storm-child.js NAME FILE SEED`. Acquires and adjusts on a table shared by name until
// it is killed. Each admission is written down after it, so that one is missing at most. Runs the built package.
import { openSync, writeSync } from 'node:fs';
import { setPriority } from 'node:os';
import { BucketTable } from '../../dist/table/table.js';
import { Waiters } from '../../dist/table/waiters.js';

// Eight of them beside other tests on two cores: those have deadlines.
setPriority(10);
const [name, file, seedText] = process.argv.slice(2);
let seed = Number(seedText) >>> 0;
const random = (below) => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  return Math.floor((seed / 2 ** 32) * below);
};

const table = BucketTable.create({ name, capacity: 4096, ratePerSec: 2000, burst: 500, clock: 'monotonic' });
const waiters = new Waiters(table, 100);
const settings = { reservation: 0, weight: 1, limit: Number.POSITIVE_INFINITY, limitBurst: 1 };
const put = (i) => table.putTarget(`t${i}`, { mayBorrow: true, settings }).handle;

const counts = openSync(file, 'w');
const cell = new Float64Array(1);
const admitted = () => {
  cell[0]++;
  writeSync(counts, cell, 0, 8, 0);
};
writeSync(counts, cell, 0, 8, 0);

/** Refusals are part of the game. */
function attempt(act) {
  try {
    act();
  } catch (error) {
    if (error.name !== 'ForetokenError') throw error;
  }
}

/** What a controller does, for as long as it has the role. */
function control() {
  for (let i = 0; i < 30; i++)
    attempt(() => {
      table.renewRole(50);
      table.extendValidity(100);
      table.tick();
      const slots = table.slots;
      const pairs = new Float64Array(slots * 2);
      for (let at = 2; at < pairs.length; at += 2) {
        pairs[at] = (2000 * random(100)) / 100 / slots;
        pairs[at + 1] = (200 * random(100)) / 100 / slots;
      }
      table.allocate(pairs, slots, true);
      table.deposit(put(random(8)), random(50), 20);
      table.setBorrowShares(new Float64Array(slots).fill(random(40)), slots);
      if (random(2)) table.withdraw(put(random(8)));
      table.reclaimExpired();
    });
  if (random(2)) table.leaveRole();
}

for (;;) {
  const handle = put(random(8));
  for (let i = 0; i < 20; i++) if (table.tryAcquire(handle, 1) > 0) admitted();
  await Promise.all(
    [handle, put(random(8))].map((each, i) => waiters.join(each, 1 + i, 20, undefined).then(admitted, () => {})),
  );
  attempt(() => table.setFallback(put(random(8)), random(300), random(60)));
  attempt(() => table.removeTarget(put(8 + random(8))));
  attempt(() => table.setLimit(put(random(8)), 200 + random(500), random(2) * (50 + random(50))));
  table.refund(put(random(8)), 1 + random(2));
  if (table.takeRole(50) > 0) control();
}
