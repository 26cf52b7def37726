import { Graph } from '../onnx/graph.js';
import { cell, head, splitParameters } from './cell.js';
import { type ModelShape, outputCount, parameterCount } from './model.js';

/**
 * One step of the model for any number of rows, with the parameters as an input, so that other weights need
 * no other session. Inputs `features` [rows, inputs], `h` and `c` [rows, hidden], `parameters`; results
 * `quantiles` [rows, horizons · levels] over each row's scale, `nextH`, `nextC`.
 */
export function inferenceModel(shape: ModelShape): Uint8Array {
  const graph = new Graph('step', 'float32');
  const { inputs, hidden } = shape;
  const features = graph.input('features', ['rows', inputs]);
  const h = graph.input('h', ['rows', hidden]);
  const c = graph.input('c', ['rows', hidden]);
  const p = splitParameters(graph, graph.input('parameters', [parameterCount(shape)]), shape);
  const inputGates = graph.node('Add', [graph.node('MatMul', [features, p.inputToGates]), p.gateBias]);
  const { nextH, nextC } = cell(graph, inputGates, h, c, p);
  const { quantiles } = head(graph, nextH, features, p, shape, [-1]);
  graph.node('Reshape', [quantiles, graph.integers([-1, outputCount(shape)])], {}, 'quantiles');
  graph.output('quantiles', ['rows', outputCount(shape)]);
  graph.output(graph.node('Identity', [nextH], {}, 'nextH'), ['rows', hidden]);
  graph.output(graph.node('Identity', [nextC], {}, 'nextC'), ['rows', hidden]);
  return graph.toModel();
}
