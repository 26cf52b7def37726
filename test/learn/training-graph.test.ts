import ort from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { type ModelShape, parameterCount } from '../../src/learn/model.js';
import { Random } from '../../src/learn/random.js';
import { trainingModel } from '../../src/learn/training-graph.js';
import { decodeModel, encodeModel, type ModelMessage, type NodeMessage } from '../../src/onnx/schema.js';

const shape: ModelShape = { inputs: 3, hidden: 4, horizons: [1, 4], levels: [0.5, 0.9] };
const steps = 6;
const rows = 3;

/** The largest difference between the graph's gradient and central differences of its loss, over all parameters. */
async function worstGradientError(model: Uint8Array): Promise<number> {
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: 1 });
  const random = new Random(11);
  const count = parameterCount(shape);
  const tensor = (dims: number[], value: () => number) =>
    new ort.Tensor('float64', Float64Array.from({ length: dims.reduce((a, b) => a * b, 1) }, value), dims);
  const feeds = {
    x: tensor([steps, rows, 3], () => random.normal()),
    // Far from what small random weights forecast, so that no difference straddles the kink of the loss.
    y: tensor([steps, rows, 2, 1], () => (random.uniform() < 0.5 ? 0 : 40 + random.uniform())),
    weight: tensor([steps, rows, 2, 1], () => random.uniform()),
    h0: tensor([rows, 4], () => 0.5 * random.normal()),
    c0: tensor([rows, 4], () => 0.5 * random.normal()),
    parameters: tensor([count], () => 0.4 * random.normal()),
    m: tensor([count], () => 0),
    v: tensor([count], () => 0),
    step: tensor([], () => 1),
    rate: tensor([], () => 0.001),
    decay: tensor([], () => 0),
  };
  const gradient = (await session.run(feeds, ['gradient'])).gradient!.data as Float64Array;
  const loss = async (values: Float64Array) =>
    (
      (await session.run({ ...feeds, parameters: new ort.Tensor('float64', values, [count]) }, ['loss'])).loss!
        .data as Float64Array
    )[0]!;
  const values = feeds.parameters.data as Float64Array;
  const width = 1e-5;
  let worst = 0;
  for (let i = 0; i < count; i++) {
    const moved = (by: number) => values.map((value, k) => (k === i ? value + by : value));
    const difference = ((await loss(moved(width))) - (await loss(moved(-width)))) / (2 * width);
    worst = Math.max(worst, Math.abs(difference - gradient[i]!));
  }
  await session.release();
  return worst;
}

/** Takes a model apart, changes one node of the way back through time, and puts it together again. */
function withChangedBackwardNode(result: string, change: (node: NodeMessage) => void): Uint8Array {
  const model: ModelMessage = decodeModel(trainingModel(shape, 'float64'));
  const scan = model.graph.node.find((node) => node.opType === 'Scan' && node.output.includes('dGates'))!;
  const body = scan.attribute.find((attribute) => attribute.name === 'body')!.g!;
  change(body.node.find((node) => node.output.includes(result))!);
  return encodeModel(model);
}

describe('the training step', () => {
  it('has the gradients that finite differences of its loss give', async () => {
    expect(await worstGradientError(trainingModel(shape, 'float64'))).toBeLessThan(1e-7);
  });

  it.each([
    ['dz_f', 'the forget gate multiplied with the slope of another'],
    ['dz_g', 'the cell input multiplied with the slope of another'],
  ])('is caught with a wrong derivative in %s: %s', async (result) => {
    const wrong = withChangedBackwardNode(result, (node) => {
      node.input = [node.input[0]!, 'bw_tanhC'];
    });
    expect(await worstGradientError(wrong)).toBeGreaterThan(1e-4);
  });
});
