import type { Graph } from '../onnx/graph.js';
import { type ModelShape, parameterBlocks } from './model.js';

/** Names of the parameter tensors in a graph. */
export interface Parameters {
  inputToGates: string;
  hiddenToGates: string;
  gateBias: string;
  hiddenToOutput: string;
  inputToOutput: string;
  outputBias: string;
}

/** Cuts the parameter vector into its tensors. */
export function splitParameters(graph: Graph, vector: string, shape: ModelShape): Parameters {
  const blocks = parameterBlocks(shape);
  const flat = blocks.map((block) => `${block.name}_flat`);
  graph.nodes('Split', [vector, graph.integers(blocks.map((block) => block.size))], flat, { axis: 0 });
  for (const [i, block] of blocks.entries())
    graph.node('Reshape', [flat[i]!, graph.integers(block.dims)], {}, block.name);
  return Object.fromEntries(blocks.map((block) => [block.name, block.name])) as unknown as Parameters;
}

/** What one step of the cell computes; all [rows, hidden]. */
export interface CellValues {
  i: string;
  o: string;
  f: string;
  g: string;
  nextC: string;
  tanhC: string;
  nextH: string;
}

/** One step: `inputGates` is x·W + b, [rows, 4·hidden]. Hochreiter and Schmidhuber's cell with forget gate. */
export function cell(graph: Graph, inputGates: string, h: string, c: string, p: Parameters): CellValues {
  const gates = graph.node('Add', [inputGates, graph.node('MatMul', [h, p.hiddenToGates])]);
  const [zi, zo, zf, zg] = graph.nodes('Split', [gates], ['z_i', 'z_o', 'z_f', 'z_g'], { axis: 1 }) as [
    string,
    string,
    string,
    string,
  ];
  const i = graph.node('Sigmoid', [zi]);
  const o = graph.node('Sigmoid', [zo]);
  const f = graph.node('Sigmoid', [zf]);
  const g = graph.node('Tanh', [zg]);
  const nextC = graph.node('Add', [graph.node('Mul', [f, c]), graph.node('Mul', [i, g])]);
  const tanhC = graph.node('Tanh', [nextC]);
  const nextH = graph.node('Mul', [o, tanhC]);
  return { i, o, f, g, nextC, tanhC, nextH };
}

/** Beyond it quantiles are 160,000 times a row's scale; it keeps a wild step of training finite. */
export const maxExponent = 12;

/** Values of the head that the way back needs too. */
export interface HeadValues {
  raw: string;
  exponent: string;
  growth: string;
  quantiles: string;
}

/**
 * Quantiles over a row's scale, [..., horizons, levels], from the hidden state and, past it, from the
 * features: q_l = Π_{k ≤ l} (1 + e^{r_k}) − 1. So they are positive and ordered by construction, small ones
 * are e^r, and a logarithmic feature can pass through as it is.
 * @param leading dims before that of the levels, as the Reshape operator takes them
 */
export function head(
  graph: Graph,
  hidden: string,
  features: string,
  p: Pick<Parameters, 'hiddenToOutput' | 'inputToOutput' | 'outputBias'>,
  levels: number,
  leading: readonly number[],
): HeadValues {
  const sum = graph.node('Add', [
    graph.node('MatMul', [hidden, p.hiddenToOutput]),
    graph.node('MatMul', [features, p.inputToOutput]),
  ]);
  const flat = graph.node('Add', [sum, p.outputBias]);
  const raw = graph.node('Reshape', [flat, graph.integers([...leading, levels])]);
  const exponent = graph.node('MatMul', [softplus(graph, raw), cumulative(graph, levels)]);
  const growth = graph.node('Exp', [graph.node('Min', [exponent, graph.constant(maxExponent)])]);
  const quantiles = graph.node('Sub', [growth, graph.constant(1)]);
  return { raw, exponent, growth, quantiles };
}

/** log(1 + e^r) as −log σ(−r): the runtime has Softplus for float32 only, and gradients are checked in float64. */
const softplus = (graph: Graph, raw: string): string =>
  graph.node('Neg', [graph.node('Log', [graph.node('Sigmoid', [graph.node('Neg', [raw])])])]);

/** The matrix whose product is the running sum along the last axis. */
export const cumulative = (graph: Graph, size: number, transposed = false): string => {
  const ones: number[] = [];
  for (let row = 0; row < size; row++)
    for (let column = 0; column < size; column++) ones.push((transposed ? row >= column : row <= column) ? 1 : 0);
  return graph.constant(ones, [size, size]);
};
