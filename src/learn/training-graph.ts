import { Graph } from '../onnx/graph.js';
import { cumulative, type HeadValues, head, maxExponent, type Parameters, splitParameters } from './cell.js';
import { forward, type Kept } from './forward.js';
import { type ModelShape, outputCount, parameterBlocks, parameterCount } from './model.js';

/** Adam's usual constants (Kingma and Ba 2015), and the norm above which a gradient is scaled down to it. */
const beta1 = 0.9;
const beta2 = 0.999;
const epsilon = 1e-8;
const maxGradientNorm = 1;

/**
 * One training step as a graph: forward through time, pinball loss, backward through time, Adam.
 *
 * Inputs, with T steps of B rows: `x` [T, B, inputs]; `y` [T, B, horizons, 1], demand over the row's scale;
 * `weight` of the same shape, 0 where there is nothing to learn from; `h0`, `c0` [B, hidden]; `parameters` and
 * Adam's moments `m`, `v`, all [parameters]; `step` (from 1), `rate`, `decay` scalars. Results: `loss` (mean over the
 * weights of the pinball loss summed over levels), `hT`, `cT`, `nextParameters`, `nextM`, `nextV`, `gradient`.
 */
export function trainingModel(shape: ModelShape, element: 'float32' | 'float64' = 'float32'): Uint8Array {
  const graph = new Graph('train', element);
  const { inputs, hidden, horizons } = shape;
  const x = graph.input('x', ['T', 'B', inputs]);
  const y = graph.input('y', ['T', 'B', horizons.length, 1]);
  const weight = graph.input('weight', ['T', 'B', horizons.length, 1]);
  const h0 = graph.input('h0', ['B', hidden]);
  const c0 = graph.input('c0', ['B', hidden]);
  const parameters = graph.input('parameters', [parameterCount(shape)]);
  const p = splitParameters(graph, parameters, shape);

  const kept = forward(graph, x, h0, c0, p, ['i', 'o', 'f', 'g', 'previousC', 'tanhC', 'h', 'previousH']);
  graph.output('hT', ['B', hidden]);
  graph.output('cT', ['B', hidden]);
  const outputs = head(graph, kept.h, x, p, shape.levels.length, [0, 0, shape.horizons.length]);
  const dRaw = lossAndItsGradient(graph, outputs, y, weight, shape);
  const dHidden = graph.node('MatMul', [dRaw, graph.node('Transpose', [p.hiddenToOutput], { perm: [1, 0] })]);
  const dGates = backward(graph, dHidden, kept, p);

  const flatX = flatten(graph, x, inputs);
  const flatRaw = flatten(graph, dRaw, outputCount(shape));
  const flatGates = flatten(graph, dGates, 4 * hidden);
  const gradients: Record<string, string> = {
    inputToGates: outer(graph, flatX, flatGates),
    hiddenToGates: outer(graph, flatten(graph, kept.previousH, hidden), flatGates),
    gateBias: overRows(graph, flatGates),
    hiddenToOutput: outer(graph, flatten(graph, kept.h, hidden), flatRaw),
    inputToOutput: outer(graph, flatX, flatRaw),
    outputBias: overRows(graph, flatRaw),
  };
  const pieces = parameterBlocks(shape).map(({ name }) =>
    graph.node('Reshape', [gradients[name]!, graph.integers([-1])]),
  );
  const gradient = graph.node('Concat', pieces, { axis: 0 }, 'gradient');
  graph.output('gradient', [parameterCount(shape)]);
  adam(graph, parameters, gradient, parameterCount(shape));
  return graph.toModel();
}

/** Emits `loss` and returns its gradient by the head's raw outputs, [T, B, outputs]. */
function lossAndItsGradient(graph: Graph, out: HeadValues, y: string, weight: string, shape: ModelShape): string {
  const levels = graph.constant(shape.levels, [shape.levels.length]);
  const total = graph.node('Max', [graph.node('ReduceSum', [weight], { keepdims: 0 }), graph.constant(1e-12)]);
  const share = graph.node('Div', [weight, total]);
  const error = graph.node('Sub', [y, out.quantiles]);
  // The pinball loss is error · (level − [error < 0]); its slope by the quantile is [error < 0] − level.
  const slope = graph.node('Sub', [isBelow(graph, error, graph.constant(0)), levels]);
  const losses = graph.node('Mul', [graph.node('Neg', [graph.node('Mul', [error, slope])]), share]);
  graph.node('ReduceSum', [losses], { keepdims: 0 }, 'loss');
  graph.output('loss', []);

  const dQuantiles = graph.node('Mul', [slope, share]);
  const free = isBelow(graph, out.exponent, graph.constant(maxExponent));
  const dExponent = graph.node('Mul', [graph.node('Mul', [dQuantiles, out.growth]), free]);
  const dSoftplus = graph.node('MatMul', [dExponent, cumulative(graph, shape.levels.length, true)]);
  const dRaw = graph.node('Mul', [dSoftplus, graph.node('Sigmoid', [out.raw])]);
  return graph.node('Reshape', [dRaw, graph.integers([0, 0, outputCount(shape)])]);
}

/** Gradient by the gates before their nonlinearities, [T, B, 4·hidden]. */
function backward(graph: Graph, dHidden: string, kept: Record<Kept, string>, p: Parameters): string {
  const body = new Graph('backward', graph.element);
  const one = body.constant(1);
  const mul = (a: string, b: string, result?: string) => body.node('Mul', [a, b], {}, result);
  const slopeOfSigmoid = (value: string) => mul(value, body.node('Sub', [one, value]));
  const slopeOfTanh = (value: string) => body.node('Sub', [one, mul(value, value)]);
  const dims = ['B', 'H'];
  const dhLater = body.input('bw_dh', dims);
  const dcLater = body.input('bw_dc', dims);
  const dhNow = body.input('bw_dHidden', dims);
  const [i, o, f, g, previousC, tanhC] = ['i', 'o', 'f', 'g', 'previousC', 'tanhC'].map((name) =>
    body.input(`bw_${name}`, dims),
  ) as [string, string, string, string, string, string];

  const dh = body.node('Add', [dhNow, dhLater]);
  const dc = body.node('Add', [dcLater, mul(mul(dh, o), slopeOfTanh(tanhC))]);
  const dzi = mul(mul(dc, g), slopeOfSigmoid(i), 'dz_i');
  const dzo = mul(mul(dh, tanhC), slopeOfSigmoid(o), 'dz_o');
  const dzf = mul(mul(dc, previousC), slopeOfSigmoid(f), 'dz_f');
  const dzg = mul(mul(dc, i), slopeOfTanh(g), 'dz_g');
  const dGates = body.node('Concat', [dzi, dzo, dzf, dzg], { axis: 1 });
  body.output(body.node('MatMul', [dGates, 'hiddenToGatesTransposed']), dims);
  body.output(mul(dc, f), dims);
  body.output(body.node('Identity', [dGates]), ['B', 'G']);

  graph.node('Transpose', [p.hiddenToGates], { perm: [1, 0] }, 'hiddenToGatesTransposed');
  const zeros = graph.node('Mul', ['hT', graph.constant(0)]);
  const scanned = [dHidden, kept.i, kept.o, kept.f, kept.g, kept.previousC, kept.tanhC];
  graph.nodes('Scan', [zeros, zeros, ...scanned], ['dh_first', 'dc_first', 'dGates'], {
    body,
    num_scan_inputs: scanned.length,
    scan_input_directions: scanned.map(() => 1),
    scan_output_directions: [1],
  });
  return 'dGates';
}

/** Adam with bias correction and decoupled decay, on the gradient scaled down to `maxGradientNorm`. */
function adam(graph: Graph, parameters: string, gradient: string, size: number): void {
  const [m, v] = [graph.input('m', [size]), graph.input('v', [size])];
  const [step, rate, decay] = [graph.input('step', []), graph.input('rate', []), graph.input('decay', [])];
  const op = (name: string, a: string, b: string, result?: string) => graph.node(name, [a, b], {}, result);
  const number = (value: number) => graph.constant(value);
  const norm = graph.node('Sqrt', [graph.node('ReduceSumSquare', [gradient], { keepdims: 0 })]);
  const clipped = op('Mul', gradient, op('Div', number(maxGradientNorm), op('Max', norm, number(maxGradientNorm))));
  const nextM = op('Add', op('Mul', m, number(beta1)), op('Mul', clipped, number(1 - beta1)), 'nextM');
  const squared = op('Mul', clipped, clipped);
  const nextV = op('Add', op('Mul', v, number(beta2)), op('Mul', squared, number(1 - beta2)), 'nextV');
  const corrected = (moment: string, beta: number) =>
    op('Div', moment, op('Sub', number(1), op('Pow', number(beta), step)));
  const denominator = op('Add', graph.node('Sqrt', [corrected(nextV, beta2)]), number(epsilon));
  const update = op('Add', op('Div', corrected(nextM, beta1), denominator), op('Mul', parameters, decay));
  op('Sub', parameters, op('Mul', update, rate), 'nextParameters');
  for (const name of ['nextParameters', 'nextM', 'nextV']) graph.output(name, [size]);
}

/** 1 where `value` is below `limit`, else 0. */
const isBelow = (graph: Graph, value: string, limit: string): string =>
  graph.node('Cast', [graph.node('Less', [value, limit])], { to: graph.element === 'float32' ? 1 : 11 });

const flatten = (graph: Graph, value: string, width: number): string =>
  graph.node('Reshape', [value, graph.integers([-1, width])]);

const outer = (graph: Graph, a: string, b: string): string => graph.node('Gemm', [a, b], { transA: 1 });

const overRows = (graph: Graph, value: string): string =>
  graph.node('ReduceSum', [value, graph.integers([0])], { keepdims: 0 });
