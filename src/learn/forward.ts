import { Graph } from '../onnx/graph.js';
import { cell, type Parameters } from './cell.js';

/** What each step of the forward pass can leave behind, [T, B, hidden] each. */
export type Kept = 'i' | 'o' | 'f' | 'g' | 'previousC' | 'tanhC' | 'h' | 'previousH';

/**
 * The cell over T steps by Scan. Defines `hT` and `cT`, the state after the last step, and returns the names
 * of what was asked to be kept.
 */
export function forward<K extends Kept>(
  graph: Graph,
  x: string,
  h0: string,
  c0: string,
  p: Parameters,
  keep: readonly K[],
): Record<K, string> {
  const inputGates = graph.node('Add', [graph.node('MatMul', [x, p.inputToGates]), p.gateBias]);
  const body = new Graph('forward', graph.element);
  const h = body.input('fw_h', ['B', 'H']);
  const c = body.input('fw_c', ['B', 'H']);
  const values = cell(body, body.input('fw_gates', ['B', 'G']), h, c, p);
  const scanned: Record<Kept, string> = { ...values, h: values.nextH, previousC: c, previousH: h };
  // Results of a body must be values of their own, each named once; Identity gives them names.
  for (const result of [values.nextH, values.nextC, ...keep.map((key) => scanned[key])])
    body.output(body.node('Identity', [result]), ['B', 'H']);
  const names = keep.map((key) => `kept_${key}`);
  graph.nodes('Scan', [h0, c0, inputGates], ['hT', 'cT', ...names], { body, num_scan_inputs: 1 });
  return Object.fromEntries(keep.map((key, i) => [key, names[i]])) as Record<K, string>;
}
