import { Graph } from '../onnx/graph.js';
import { head, splitParameters } from './cell.js';
import { forward } from './forward.js';
import { type ModelShape, outputCount, parameterCount } from './model.js';

/**
 * The model over many steps at once, for scoring: inputs `x` [T, B, inputs], `h0`, `c0`, `parameters`; results
 * `quantiles` [T, B, horizons · levels] over each row's scale, `hT`, `cT`.
 */
export function sequenceModel(shape: ModelShape): Uint8Array {
  const graph = new Graph('sequence', 'float32');
  const { inputs, hidden } = shape;
  const x = graph.input('x', ['T', 'B', inputs]);
  const h0 = graph.input('h0', ['B', hidden]);
  const c0 = graph.input('c0', ['B', hidden]);
  const p = splitParameters(graph, graph.input('parameters', [parameterCount(shape)]), shape);
  const { h } = forward(graph, x, h0, c0, p, ['h']);
  const { quantiles } = head(graph, h, x, p, shape.levels.length, [0, 0, shape.horizons.length]);
  graph.node('Reshape', [quantiles, graph.integers([0, 0, outputCount(shape)])], {}, 'quantiles');
  graph.output('quantiles', ['T', 'B', outputCount(shape)]);
  for (const state of ['hT', 'cT']) graph.output(state, ['B', hidden]);
  return graph.toModel();
}
