import { Graph } from '../onnx/graph.js';
import { cell, head, splitParameters } from './cell.js';
import { type ModelShape, parameterCount } from './model.js';

/**
 * One step of the model for any number of rows, with the parameters as an input, so that other weights need
 * no other session. Inputs `features` [rows, inputs], `h` and `c` [rows, hidden], `parameters`, and `outputs`, which of
 * the outputs are wanted: a third of the cell's time would go into horizons that nobody asks for. They are whole
 * horizons, all levels of each. Results `quantiles` [rows · horizons wanted, levels] over each row's scale, `nextH`,
 * `nextC`.
 */
export function inferenceModel(shape: ModelShape): Uint8Array {
  const graph = new Graph('step', 'float32');
  const { inputs, hidden } = shape;
  const levels = shape.levels.length;
  const features = graph.input('features', ['rows', inputs]);
  const h = graph.input('h', ['rows', hidden]);
  const c = graph.input('c', ['rows', hidden]);
  const p = splitParameters(graph, graph.input('parameters', [parameterCount(shape)]), shape);
  const outputs = graph.input('outputs', ['outputs'], 'int64');
  const inputGates = graph.node('Add', [graph.node('MatMul', [features, p.inputToGates]), p.gateBias]);
  const { nextH, nextC } = cell(graph, inputGates, h, c, p);
  const wanted = {
    hiddenToOutput: graph.node('Gather', [p.hiddenToOutput, outputs], { axis: 1 }),
    inputToOutput: graph.node('Gather', [p.inputToOutput, outputs], { axis: 1 }),
    outputBias: graph.node('Gather', [p.outputBias, outputs], { axis: 0 }),
  };
  const { quantiles } = head(graph, nextH, features, wanted, levels, [-1]);
  graph.output(graph.node('Identity', [quantiles], {}, 'quantiles'), ['places', levels]);
  graph.output(graph.node('Identity', [nextH], {}, 'nextH'), ['rows', hidden]);
  graph.output(graph.node('Identity', [nextC], {}, 'nextC'), ['rows', hidden]);
  return graph.toModel();
}
