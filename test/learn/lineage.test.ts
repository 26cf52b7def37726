import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Lineage } from '../../src/learn/lineage.js';
import { type LstmWeights, modelShape, parameterCount } from '../../src/learn/model.js';

const shape = modelShape(4, 4);
const weights = (value: number): LstmWeights => ({
  shape,
  values: new Float32Array(parameterCount(shape)).fill(value),
  featureVersion: 3,
});
const shipped = weights(0);

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'foretoken-lineage-'));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return join(path, 'models');
}

describe('refined models on disk', () => {
  it('are there after a restart, the newest first to be used', async () => {
    const place = await folder();
    const lineage = await Lineage.open(place, shipped);
    expect(lineage.latest).toBeUndefined();
    await lineage.promote(weights(1));
    await lineage.promote(weights(2));
    expect(lineage.latest).toEqual(weights(2));
    expect((await Lineage.open(place, shipped)).latest).toEqual(weights(2));
  });

  it('go back one when the newest is withdrawn, in the end to none', async () => {
    const place = await folder();
    const lineage = await Lineage.open(place, shipped);
    await lineage.promote(weights(1));
    await lineage.promote(weights(2));
    await lineage.withdraw();
    expect(lineage.latest).toEqual(weights(1));
    expect((await Lineage.open(place, shipped)).latest).toEqual(weights(1));
    await lineage.withdraw();
    await lineage.withdraw();
    expect(lineage.latest).toBeUndefined();
    expect(await readdir(place)).toEqual([]);
  });

  it('are the last five', async () => {
    const place = await folder();
    const lineage = await Lineage.open(place, shipped);
    for (let value = 1; value <= 8; value++) await lineage.promote(weights(value));
    expect(await readdir(place)).toHaveLength(5);
    expect((await Lineage.open(place, shipped)).latest).toEqual(weights(8));
  });

  it('are passed over where damaged or half written, which is told', async () => {
    const place = await folder();
    const lineage = await Lineage.open(place, shipped);
    expect(lineage.damaged).toEqual([]);
    await lineage.promote(weights(1));
    await lineage.promote(weights(2));
    const [, second] = await readdir(place);
    await writeFile(join(place, second!), 'not weights');
    await writeFile(join(place, `${second}.new`), 'half');
    await writeFile(join(place, 'notes.txt'), 'mine');
    const again = await Lineage.open(place, shipped);
    expect(again.latest).toEqual(weights(1));
    expect(again.damaged).toEqual([expect.stringContaining(`${second}: these are not the weights`)]);
    await again.promote(weights(4));
    expect((await Lineage.open(place, shipped)).latest).toEqual(weights(4));
    const other = await Lineage.open(place, { ...shipped, featureVersion: 4 });
    expect([other.latest, other.damaged.length]).toEqual([undefined, 3]);
  });

  it('are of the model they come from alone, wait for it, and the oldest of all others go', async () => {
    const place = await folder();
    const first = await Lineage.open(place, shipped);
    for (let value = 1; value <= 4; value++) await first.promote(weights(value));
    const own = weights(7);
    const second = await Lineage.open(place, own);
    expect([second.latest, second.damaged]).toEqual([undefined, []]);
    // As versions were called that did not say what they came from.
    await writeFile(join(place, 'refined-000001.weights.bin'), 'any');
    await writeFile(join(place, 'refined-000002.weights.bin'), 'any');
    const third = await Lineage.open(place, own);
    await third.promote(weights(8));
    expect(await readdir(place)).toHaveLength(5 + 1);
    expect((await Lineage.open(place, own)).latest).toEqual(weights(8));
    expect((await Lineage.open(place, shipped)).latest).toEqual(weights(4));
  });

  it('live in memory alone without a folder', async () => {
    const lineage = await Lineage.open(undefined, shipped);
    await lineage.promote(weights(1));
    expect(lineage.latest).toEqual(weights(1));
    await lineage.withdraw();
    expect(lineage.latest).toBeUndefined();
  });

  it('hold for this run where the disk refuses them, and the promise says so', async () => {
    const place = await folder();
    await writeFile(join(place, '..', 'models'), 'a file in the way');
    const lineage = await Lineage.open(place, shipped);
    await expect(lineage.promote(weights(1))).rejects.toThrow();
    expect(lineage.latest).toEqual(weights(1));
  });
});
