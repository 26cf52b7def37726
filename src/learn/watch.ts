import { quantileCount, quantileLevels } from '../forecast/forecaster.js';
import { type Comparison, compare } from './gate.js';
import { pinball } from './pinball.js';

/** Rows watched at most, evenly spread: enough to tell two models apart, and a step stays cheap. */
const mostRows = 512;
/** Forecasts of a horizon that may be open at once; longer horizons are scored every so many steps. */
const mostOpen = 10;
/** Steps a block; losses of neighbouring blocks hardly hang together. */
const blockSteps = 30;
/** Blocks that count: the last half hour of 1 s steps. */
const mostBlocks = 60;
/** Fewer blocks prove nothing. */
const leastBlocks = 6;
const q50 = quantileLevels.indexOf(0.5);
const q90 = quantileLevels.indexOf(0.9);

/** What two models said at a step, of the rows watched. */
interface Open {
  step: number;
  every: number;
  totals: Float64Array;
  /** Per model, q50 and q90 of each watched row in turn. */
  said: [Float32Array, Float32Array];
}

interface Horizon {
  steps: number;
  every: number;
  open: Open[];
  /** Loss of each model in the block under way. */
  now: [number, number];
  past: [number[], number[]];
}

/**
 * Scores two models that run side by side on what really comes: the one that ships and the one that was refined.
 * What was promoted for its past may be worse now.
 */
export class LiveWatch {
  readonly #stepS: number;
  readonly #horizons: Horizon[];
  #totals = new Float64Array(0);
  #steps = 0;

  constructor(options: { stepMs: number; horizonsMs: readonly number[] }) {
    this.#stepS = options.stepMs / 1000;
    this.#horizons = options.horizonsMs.map((horizonMs) => {
      const steps = Math.max(1, Math.round(horizonMs / options.stepMs));
      return { steps, every: Math.ceil(steps / mostOpen), open: [], now: [0, 0], past: [[], []] };
    });
  }

  /** Forgets what was watched: another model runs from now on. Forecasts that are open were the old one's. */
  restart(): void {
    for (const horizon of this.#horizons) {
      horizon.open = [];
      horizon.now = [0, 0];
      horizon.past = [[], []];
    }
    this.#steps = 0;
  }

  /**
   * Takes in a step.
   * @param demand tokens of the step that ended, per row
   * @param shipped,refined quantiles at its end, laid out as in a frame
   */
  step(demand: ArrayLike<number>, rows: number, shipped: Float32Array, refined: Float32Array): void {
    this.#steps++;
    if (this.#totals.length < rows) {
      const grown = new Float64Array(rows * 2);
      grown.set(this.#totals);
      this.#totals = grown;
    }
    for (let row = 0; row < rows; row++) this.#totals[row]! += demand[row]!;
    this.#horizons.forEach((horizon, h) => {
      while (horizon.open.length > 0 && this.#steps - horizon.open[0]!.step >= horizon.steps)
        this.#score(horizon, horizon.open.shift()!);
      if (this.#steps % horizon.every === 0) this.#hold(horizon, h, rows, shipped, refined);
      if (this.#steps % blockSteps === 0) closeBlock(horizon);
    });
  }

  /** Whether the refined model is the better one at a horizon, so far; as long as nothing is known, it is. */
  refinedLeads(horizon: number): boolean {
    const { now, past } = this.#horizons[horizon]!;
    const [shipped, refined] = [0, 1].map((model) => past[model]!.reduce((sum, loss) => sum + loss, now[model]!));
    return refined! <= shipped!;
  }

  /** How the shipped model fares against the refined one; where it wins, the refined one is to be withdrawn. */
  verdict(): Comparison {
    const known = this.#horizons.filter((horizon) => horizon.past[0].length >= leastBlocks);
    const blocks = Math.min(...known.map((horizon) => horizon.past[0].length));
    const last = (model: 0 | 1) => known.map((horizon) => Float64Array.from(horizon.past[model].slice(-blocks)));
    return compare(last(1), last(0));
  }

  #hold(horizon: Horizon, h: number, rows: number, shipped: Float32Array, refined: Float32Array): void {
    const every = Math.ceil(rows / mostRows);
    const count = Math.ceil(rows / every);
    const totals = new Float64Array(count);
    const said: Open['said'] = [new Float32Array(2 * count), new Float32Array(2 * count)];
    for (let i = 0; i < count; i++) {
      const at = (i * every * this.#horizons.length + h) * quantileCount;
      totals[i] = this.#totals[i * every]!;
      [shipped, refined].forEach((quantiles, model) => {
        said[model]![2 * i] = quantiles[at + q50]!;
        said[model]![2 * i + 1] = quantiles[at + q90]!;
      });
    }
    horizon.open.push({ step: this.#steps, every, totals, said });
  }

  #score(horizon: Horizon, open: Open): void {
    const seconds = horizon.steps * this.#stepS;
    open.totals.forEach((before, i) => {
      const actual = (this.#totals[i * open.every]! - before) / seconds;
      open.said.forEach((said, model) => {
        horizon.now[model]! += pinball(0.5, actual, said[2 * i]!) + pinball(0.9, actual, said[2 * i + 1]!);
      });
    });
  }
}

function closeBlock(horizon: Horizon): void {
  horizon.past.forEach((losses, model) => {
    losses.push(horizon.now[model]!);
    if (losses.length > mostBlocks) losses.shift();
  });
  horizon.now = [0, 0];
}
