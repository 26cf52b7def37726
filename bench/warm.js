import { stepsToWarm } from '../dist/control/assembly.js';
import { ForecastEngine } from '../dist/forecast/engine.js';

/**
 * How long forecasters take after a restart to take in as much of the history as the controller gives them. Reading it
 * is not part of it. Every target asked in every step: idle ones would cost less.
 * @param count targets
 */
export async function warmBench(count = 10_000) {
  const steps = stepsToWarm({ slots: { size: count } });
  const targets = Array.from({ length: count }, (_, i) => `t${i}`);
  const rows = new Map(targets.map((name, row) => [name, row]));
  const data = Float32Array.from({ length: steps * count }, (_, i) => 1 + ((i * 7919) % 9));
  const stepMs = 1000;
  const horizonsMs = [5_000, 30_000, 300_000];
  const opened = performance.now();
  const engine = await ForecastEngine.open({ rows: count, stepMs, horizonsMs, refine: false });
  const started = performance.now();
  const taken = await engine.warm({ timeMs: 0, stepMs, steps, targets, data }, (name) => rows.get(name));
  const warmed = performance.now();
  await engine.close();
  return { targets: count, steps: taken, openMs: started - opened, warmMs: warmed - started };
}

export function printWarm({ targets, steps, openMs, warmMs }) {
  console.log(
    `${targets.toLocaleString('en-US')} targets warmed with ${steps} steps of history in ${(warmMs / 1000).toFixed(2)} s, ` +
      `after ${(openMs / 1000).toFixed(2)} s to open the model`,
  );
}
