import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stepsToWarm } from '../dist/control/assembly.js';
import { ForecasterState } from '../dist/control/forecaster-state.js';
import { ForecastEngine } from '../dist/forecast/engine.js';

const stepMs = 1000;
const horizonsMs = [5_000, 30_000, 300_000];
/** Steps after a restart in which forecasts are compared with those of an engine that went on. */
const comparedSteps = 5;

/**
 * How long forecasters take after a restart to go on from what was kept of them, and where nothing was to take in as much
 * of the history as the controller gives them, reading it not included. Every target asked in every step: idle ones would
 * cost less.
 * @param count targets
 */
export async function warmBench(count = 10_000) {
  const steps = stepsToWarm(count);
  const targets = Array.from({ length: count }, (_, i) => `t${i}`);
  const rows = new Map(targets.map((name, row) => [name, row]));
  const data = Float32Array.from({ length: steps * count }, (_, i) => 1 + ((i * 7919) % 9));
  const open = () => ForecastEngine.open({ rows: count, stepMs, horizonsMs, refine: false, deterministic: true });
  const opened = performance.now();
  const engine = await open();
  const started = performance.now();
  const taken = await engine.warm({ timeMs: 0, stepMs, steps, targets, data }, (name) => rows.get(name));
  const warmed = performance.now();

  const folder = await mkdtemp(join(tmpdir(), 'foretoken-bench-'));
  const state = new ForecasterState(join(folder, 'forecaster-state.bin'));
  const restarted = await open();
  try {
    const copying = performance.now();
    const { bytes, kept } = await state.write(engine, rows, 0, { bytes: 2 ** 40, ms: 60_000 });
    const copied = performance.now();
    await kept;
    const restoring = performance.now();
    await state.read(restarted, (name) => rows.get(name));
    const restored = performance.now();
    return {
      targets: count,
      steps: taken,
      openMs: started - opened,
      warmMs: warmed - started,
      stateBytes: bytes,
      copyMs: copied - copying,
      restoreMs: restored - restoring,
      difference: await differenceOf(engine, restarted, count),
    };
  } finally {
    await engine.close();
    await restarted.close();
    await rm(folder, { recursive: true });
  }
}

/** By how much forecasts differ at most, as a part of them. */
async function differenceOf(engine, restarted, count) {
  let most = 0;
  for (let step = 0; step < comparedSteps; step++) {
    const demand = Float64Array.from({ length: count }, (_, row) => ((step + row) * 104729) % 13);
    const { quantiles } = await engine.step(demand, count);
    const { quantiles: others } = await restarted.step(demand, count);
    for (let i = 0; i < 5 * count * horizonsMs.length; i++)
      most = Math.max(most, Math.abs(others[i] - quantiles[i]) / Math.max(1e-9, quantiles[i]));
  }
  return most;
}

export function printWarm(figures) {
  const { targets, steps, openMs, warmMs, stateBytes, copyMs, restoreMs, difference } = figures;
  const seconds = (ms) => (ms / 1000).toFixed(2);
  console.log(
    `${targets.toLocaleString('en-US')} targets: state of ${(stateBytes / 2 ** 20).toFixed(0)} MiB copied to disk in ` +
      `${seconds(copyMs)} s, put back in ${seconds(restoreMs)} s; forecasts after that differ by at most ${difference} of themselves\n` +
      `without it warmed with ${steps} steps of history in ${seconds(warmMs)} s; ${seconds(openMs)} s to open the model come first`,
  );
}
