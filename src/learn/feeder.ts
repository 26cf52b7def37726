import { featureCount } from '../forecast/features.js';
import type { PreparedSeries } from './dataset.js';
import type { Random } from './random.js';

/** A series to learn from, up to a step; what lies after it is never looked at. */
export interface TrainingSource {
  prepared: PreparedSeries;
  /** Learnt from are steps before this one, with targets before it too. */
  endStep: number;
  /** How often it is drawn, against the other sources. */
  weight: number;
}

/** Steps at the start of a lane that only warm the state, unless it starts where its row does. */
const burnInSteps = 24;
/** A lane follows its row for so many windows, then takes another. */
const windowsPerLane = 6;
/** Rows are drawn by mean demand to this power; loss weighs the rest, as scores are in tokens, not in rows. */
const drawPower = 0.5;

/** How much a moment's loss counts. */
export interface LossWeighting {
  /** Of each horizon of the model; default 1. */
  horizons?: readonly number[];
  /** Power of a row's scale at that moment: with 1 tokens count alike. */
  power: number;
  /** At most so much. */
  most: number;
}

const usualWeighting: LossWeighting = { power: 0.7, most: 8 };

interface Lane {
  source: TrainingSource;
  row: number;
  /** Next step to be read. */
  step: number;
  burnIn: number;
  windowsLeft: number;
}

/** Fills windows of T steps by B lanes. A lane walks along one row, so that its state can be carried. */
export class Feeder {
  readonly x: Float32Array;
  readonly y: Float32Array;
  readonly weight: Float32Array;
  readonly #lanes: (Lane | undefined)[];
  readonly #rowChoices: { total: number; cumulative: Float64Array }[];

  constructor(
    readonly sources: readonly TrainingSource[],
    readonly horizons: readonly number[],
    readonly window: number,
    readonly batch: number,
    readonly random: Random,
    readonly weighting: LossWeighting = usualWeighting,
    /** See `TrainerOptions`. */
    readonly recency = 0,
  ) {
    this.x = new Float32Array(window * batch * featureCount);
    this.y = new Float32Array(window * batch * horizons.length);
    this.weight = new Float32Array(window * batch * horizons.length);
    this.#lanes = new Array<Lane | undefined>(batch).fill(undefined);
    this.#rowChoices = sources.map(({ prepared }) => {
      let total = 0;
      const cumulative = prepared.rowMean.map((mean) => (total += mean ** drawPower));
      return { total, cumulative };
    });
  }

  /** The next window. Lanes that start anew get a zero state in `h` and `c` [batch, hidden]. */
  fill(h: Float32Array, c: Float32Array): void {
    const hidden = h.length / this.batch;
    this.x.fill(0);
    this.y.fill(0);
    this.weight.fill(0);
    for (let b = 0; b < this.batch; b++) {
      let lane = this.#lanes[b];
      if (!lane || lane.windowsLeft === 0 || lane.step + 1 >= lane.source.endStep) {
        lane = this.#draw();
        this.#lanes[b] = lane;
        h.fill(0, b * hidden, (b + 1) * hidden);
        c.fill(0, b * hidden, (b + 1) * hidden);
      }
      this.#fillLane(lane, b);
      lane.windowsLeft--;
    }
  }

  #draw(): Lane {
    const { random, sources } = this;
    let at = random.uniform() * sources.reduce((sum, source) => sum + source.weight, 0);
    let index = 0;
    while (index < sources.length - 1 && at >= sources[index]!.weight) at -= sources[index++]!.weight;
    const source = sources[index]!;
    const { total, cumulative } = this.#rowChoices[index]!;
    const drawn = random.uniform() * total;
    const row = Math.max(
      0,
      cumulative.findIndex((sum) => sum > drawn),
    );
    const { steps } = source.prepared.series;
    let first = 0;
    while (first < steps - 1 && source.prepared.scale[row * steps + first] === 0) first++;
    const latest = Math.max(first, source.endStep - this.window);
    // One in eight lanes starts with its row: the first minutes of a target matter too.
    const step =
      random.uniform() < 0.125
        ? first
        : first + Math.floor((latest - first + 1) * random.uniform() ** (1 / (1 + this.recency)));
    return { source, row, step, burnIn: step === first ? 0 : burnInSteps, windowsLeft: windowsPerLane };
  }

  #fillLane(lane: Lane, b: number): void {
    const { batch, horizons, weighting } = this;
    const { prepared, endStep } = lane.source;
    const { steps } = prepared.series;
    const rowMean = prepared.rowMean[lane.row]!;
    for (let t = 0; t < this.window && lane.step < endStep; t++, lane.step++) {
      const from = (lane.row * steps + lane.step) * featureCount;
      this.x.set(prepared.features.subarray(from, from + featureCount), (t * batch + b) * featureCount);
      const scale = prepared.scale[lane.row * steps + lane.step]!;
      if (lane.burnIn > 0) {
        lane.burnIn--;
        continue;
      }
      if (scale === 0) continue;
      const share = scale / (prepared.mean * (rowMean / prepared.mean) ** drawPower);
      const weight = Math.min(weighting.most, share ** weighting.power);
      for (let k = 0; k < horizons.length; k++) {
        const horizon = horizons[k]!;
        if (lane.step + horizon >= endStep) break;
        const at = (t * batch + b) * horizons.length + k;
        this.y[at] = prepared.ahead(lane.row, lane.step, horizon) / scale;
        this.weight[at] = weight * (weighting.horizons?.[k] ?? 1);
      }
    }
  }
}
