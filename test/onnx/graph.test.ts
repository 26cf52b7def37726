import ort from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { Graph } from '../../src/onnx/graph.js';
import { decodeModel } from '../../src/onnx/schema.js';

const run = async (model: Uint8Array, feeds: Record<string, ort.Tensor>) => {
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: 1 });
  try {
    return await session.run(feeds);
  } finally {
    await session.release();
  }
};

describe('an ONNX graph built here', () => {
  it('is run by the runtime: operators, constants, integer and float attributes, symbolic dimensions', async () => {
    const graph = new Graph('g', 'float32');
    const x = graph.input('x', ['rows', 2]);
    const scaled = graph.node('LeakyRelu', [graph.node('Mul', [x, graph.constant([2, -3], [2])])], {
      alpha: { float: 0.5 },
    });
    graph.node('ReduceSum', [scaled, graph.integers([1])], { keepdims: 0 }, 'y');
    graph.output('y', ['rows']);
    for (const rows of [1, 3]) {
      const { y } = await run(graph.toModel(), {
        x: new ort.Tensor('float32', new Float32Array(2 * rows).fill(1), [rows, 2]),
      });
      expect([...(y!.data as Float32Array)]).toEqual(new Array(rows).fill(0.5));
    }
  });

  it('scans backwards with a body that reads values around it, in float64', async () => {
    const body = new Graph('body', 'float64');
    const sum = body.input('sum', ['n']);
    const item = body.input('item', ['n']);
    const next = body.node('Add', [sum, body.node('Mul', [item, 'factor'])]);
    body.output(next, ['n']);
    body.output(body.node('Identity', [next]), ['n']);
    const graph = new Graph('g', 'float64');
    graph.input('factor', []);
    const start = graph.input('start', ['n']);
    const items = graph.input('items', ['t', 'n']);
    graph.nodes('Scan', [start, items], ['last', 'all'], {
      body,
      num_scan_inputs: 1,
      scan_input_directions: [1],
      scan_output_directions: [1],
    });
    graph.output('last', ['n']);
    graph.output('all', ['t', 'n']);
    const tensor = (values: number[], dims: number[]) => new ort.Tensor('float64', Float64Array.from(values), dims);
    const { last, all } = await run(graph.toModel(), {
      factor: tensor([10], []),
      start: tensor([1], [1]),
      items: tensor([1, 2, 3], [3, 1]),
    });
    expect([...(last!.data as Float64Array)]).toEqual([61]);
    expect([...(all!.data as Float64Array)]).toEqual([61, 51, 31]);
  });

  it('stores equal constants once and keeps its metadata', () => {
    const graph = new Graph('g', 'float32');
    const one = graph.constant(1);
    expect(graph.constant(1)).toBe(one);
    expect(graph.constant([1], [1])).not.toBe(one);
    const model = decodeModel(graph.toModel({ seed: '7' }));
    expect(model.graph.initializer).toHaveLength(2);
    expect(model.metadataProps).toEqual([{ key: 'seed', value: '7' }]);
    expect(model.opsetImport).toEqual([{ domain: '', version: 17 }]);
  });

  it('refuses what is no model', () => {
    const graph = new Graph('g', 'float32');
    graph.node('Identity', [1 as unknown as string]);
    expect(() => graph.toModel()).toThrow(/not an ONNX model/);
  });
});
