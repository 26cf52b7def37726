import { featureVersion } from '../forecast/features.js';
import { Feeder, type LossWeighting, type TrainingSource } from './feeder.js';
import { type LstmWeights, type ModelShape, parameterBlocks, parameterCount } from './model.js';
import { Random } from './random.js';
import { createSession, floats, runSession, type Session, scalar, tensor } from './session.js';
import { trainingModel } from './training-graph.js';

export interface TrainerOptions {
  sources: readonly TrainingSource[];
  /** Where to start from; it is not changed. */
  initial: LstmWeights;
  seed: number;
  /** Steps a window; gradients reach so far back. Default 64. */
  window?: number;
  /** Lanes a training step. Default 64. */
  batch?: number;
  /** Decoupled weight decay. Default 1e-4. */
  decay?: number;
  /** What counts how much. Default: all horizons alike, and busy moments a little less than their tokens. */
  weighting?: LossWeighting;
  /** Lanes start late in a series rather than early, in proportion to this power of the time since its start. Default 0: alike. */
  recency?: number;
}

/** Part of the steps so far over which parameters are averaged. */
const averagedPart = 0.15;
const results = ['loss', 'hT', 'cT', 'nextParameters', 'nextM', 'nextV'];

/** Runs training steps one after another. Deterministic for its options and the rates it is given. */
export class Trainer implements AsyncDisposable {
  readonly #session: Session;
  readonly #feeder: Feeder;
  readonly #shape: ModelShape;
  readonly #decay: number;
  #parameters: Float32Array;
  readonly #average: Float32Array;
  #m: Float32Array;
  #v: Float32Array;
  #h: Float32Array;
  #c: Float32Array;
  #steps = 0;

  static async open(options: TrainerOptions): Promise<Trainer> {
    return new Trainer(options, await createSession(trainingModel(options.initial.shape), 'training graph'));
  }

  private constructor(options: TrainerOptions, session: Session) {
    const { initial, sources, seed, window = 64, batch = 64, decay = 1e-4, weighting, recency } = options;
    this.#session = session;
    this.#shape = initial.shape;
    this.#decay = decay;
    this.#feeder = new Feeder(sources, initial.shape.horizons, window, batch, new Random(seed), weighting, recency);
    this.#parameters = initial.values.slice();
    this.#average = initial.values.slice();
    this.#m = new Float32Array(initial.values.length);
    this.#v = new Float32Array(initial.values.length);
    this.#h = new Float32Array(batch * initial.shape.hidden);
    this.#c = new Float32Array(batch * initial.shape.hidden);
  }

  /** Steps done so far. */
  get steps(): number {
    return this.#steps;
  }

  /** A copy of the parameters, averaged over about the last seventh of the steps: that forgets what single windows taught. */
  weights(): LstmWeights {
    return { shape: this.#shape, values: this.#average.slice(), featureVersion };
  }

  /**
   * One step of Adam on the next window.
   * @param rate learning rate
   * @returns mean pinball loss over the weights, in units of a row's scale
   */
  async step(rate: number): Promise<number> {
    const { window, batch, x, y, weight } = this.#feeder;
    const { inputs, hidden, horizons } = this.#shape;
    this.#feeder.fill(this.#h, this.#c);
    const size = [this.#parameters.length];
    const out = await runSession(
      this.#session,
      {
        x: tensor(x, [window, batch, inputs]),
        y: tensor(y, [window, batch, horizons.length, 1]),
        weight: tensor(weight, [window, batch, horizons.length, 1]),
        h0: tensor(this.#h, [batch, hidden]),
        c0: tensor(this.#c, [batch, hidden]),
        parameters: tensor(this.#parameters, size),
        m: tensor(this.#m, size),
        v: tensor(this.#v, size),
        step: scalar(this.#steps + 1),
        rate: scalar(rate),
        decay: scalar(this.#decay),
      },
      results,
    );
    this.#steps++;
    this.#h = floats(out.hT);
    this.#c = floats(out.cT);
    this.#parameters = floats(out.nextParameters);
    const share = 1 / (1 + averagedPart * this.#steps);
    for (let i = 0; i < this.#average.length; i++)
      this.#average[i]! += share * (this.#parameters[i]! - this.#average[i]!);
    this.#m = floats(out.nextM);
    this.#v = floats(out.nextV);
    return floats(out.loss)[0]!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#session.release();
  }
}

/** A short rise, then a cosine from `peak` down to a twentieth of it. */
export function rateAt(step: number, steps: number, peak: number): number {
  const warmUp = Math.min(100, steps / 10);
  if (step < warmUp) return (peak * (step + 1)) / warmUp;
  return peak * (0.05 + 0.95 * 0.5 * (1 + Math.cos((Math.PI * (step - warmUp)) / Math.max(1, steps - warmUp))));
}

/** Random weights; the forget gates start open, and every lowest quantile starts as an EWMA. */
export function initialWeights(shape: ModelShape, seed: number, passFeature: number): LstmWeights {
  const random = new Random(seed);
  const { hidden, levels, horizons } = shape;
  const values = new Float32Array(parameterCount(shape));
  let offset = 0;
  for (const { name, dims, size } of parameterBlocks(shape)) {
    const block = values.subarray(offset, offset + size);
    offset += size;
    if (name === 'gateBias') block.fill(1, 2 * hidden, 3 * hidden);
    else if (name === 'outputBias') block.fill(-1);
    else if (name === 'inputToOutput')
      for (let k = 0; k < horizons.length; k++) block[passFeature * dims[1]! + k * levels.length] = 1;
    else {
      const bound = 1 / Math.sqrt(dims[0]!);
      for (let i = 0; i < size; i++) block[i] = random.between(-bound, bound);
    }
  }
  return { shape, values, featureVersion };
}
