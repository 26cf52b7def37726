import { readFile } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { ForetokenError } from '../errors.js';
import { quantileLevels } from '../forecast/forecaster.js';

/** Horizons the model forecasts, in steps. Others are interpolated between them; beyond the last that one holds. */
export const horizonGrid = [1, 2, 5, 10, 30, 60, 150, 300] as const;

/** Steps that warm a state from nothing to as good as any. */
export const warmSteps = 128;

/** Sizes of a model. Two models fit the same state and features if their shapes are equal. */
export interface ModelShape {
  /** Features per row. */
  inputs: number;
  hidden: number;
  /** Horizons in steps, ascending. */
  horizons: readonly number[];
  /** Quantile levels, ascending. */
  levels: readonly number[];
}

/** All parameters of a model in one vector, laid out by `parameterBlocks`. */
export interface LstmWeights {
  shape: ModelShape;
  values: Float32Array;
  /** What the features mean; a model fits only the feature code it was trained with. */
  featureVersion: number;
}

export const modelShape = (inputs: number, hidden: number): ModelShape => ({
  inputs,
  hidden,
  horizons: horizonGrid,
  levels: quantileLevels,
});

export const outputCount = (shape: ModelShape): number => shape.horizons.length * shape.levels.length;

/** Blocks of the parameter vector in order. Gates stand in the order of ONNX: input, output, forget, cell. */
export function parameterBlocks(shape: ModelShape): { name: string; dims: number[]; size: number }[] {
  const { inputs, hidden } = shape;
  const outputs = outputCount(shape);
  const blocks: [string, number[]][] = [
    ['inputToGates', [inputs, 4 * hidden]],
    ['hiddenToGates', [hidden, 4 * hidden]],
    ['gateBias', [4 * hidden]],
    ['hiddenToOutput', [hidden, outputs]],
    ['inputToOutput', [inputs, outputs]],
    ['outputBias', [outputs]],
  ];
  return blocks.map(([name, dims]) => ({ name, dims, size: dims.reduce((product, size) => product * size, 1) }));
}

export const parameterCount = (shape: ModelShape): number =>
  parameterBlocks(shape).reduce((sum, block) => sum + block.size, 0);

export const sameShape = (a: ModelShape, b: ModelShape): boolean =>
  a.inputs === b.inputs &&
  a.hidden === b.hidden &&
  `${a.horizons}` === `${b.horizons}` &&
  `${a.levels}` === `${b.levels}`;

/** Tells weights apart. */
export const fingerprint = (values: Float32Array): number => crc32(values);

const magic = 'FTLSTM1\n';

/** Magic, length of the header, header as JSON, then the parameters as little-endian float32. */
export function encodeWeights(weights: LstmWeights): Uint8Array {
  const { shape, values, featureVersion } = weights;
  const header = new TextEncoder().encode(JSON.stringify({ ...shape, featureVersion, parameters: values.length }));
  const bytes = new Uint8Array(magic.length + 4 + header.length + values.length * 4);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(magic));
  view.setUint32(magic.length, header.length, true);
  bytes.set(header, magic.length + 4);
  const start = magic.length + 4 + header.length;
  for (let i = 0; i < values.length; i++) view.setFloat32(start + i * 4, values[i]!, true);
  return bytes;
}

/** @throws ForetokenError MODEL_UNAVAILABLE with `source` and what is wrong */
export function decodeWeights(bytes: Uint8Array, source: string): LstmWeights {
  const fail = (reason: string): never => {
    throw new ForetokenError('MODEL_UNAVAILABLE', `${source}: ${reason}`);
  };
  const start = magic.length + 4;
  if (bytes.length < start || new TextDecoder('latin1').decode(bytes.subarray(0, magic.length)) !== magic)
    fail('these are not the weights of a Foretoken model');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerEnd = start + view.getUint32(magic.length, true);
  if (headerEnd > bytes.length) fail('the file is cut off in its header');
  const header = parseHeader(new TextDecoder().decode(bytes.subarray(start, headerEnd)));
  if (!header) return fail('the header is corrupt');
  const { featureVersion, ...shape } = header;
  const count = parameterCount(shape);
  if (bytes.length !== headerEnd + count * 4)
    fail(`${count} parameters take ${headerEnd + count * 4} bytes, the file has ${bytes.length}`);
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) values[i] = view.getFloat32(headerEnd + i * 4, true);
  if (!values.every(Number.isFinite)) fail('a parameter is not a finite number');
  return { shape, values, featureVersion };
}

/** @throws ForetokenError MODEL_UNAVAILABLE */
export async function readWeights(path: string): Promise<LstmWeights> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ForetokenError('MODEL_UNAVAILABLE', `${path}: cannot be read: ${reason}`, { cause });
  }
  return decodeWeights(bytes, path);
}

function parseHeader(json: string): (ModelShape & { featureVersion: number }) | undefined {
  const count = (value: unknown): value is number =>
    Number.isInteger(value) && (value as number) > 0 && (value as number) <= 4096;
  const ascending = (value: unknown): value is number[] =>
    Array.isArray(value) &&
    value.length > 0 &&
    value.every((item, i) => typeof item === 'number' && item > (i > 0 ? (value[i - 1] as number) : 0));
  try {
    const { inputs, hidden, horizons, levels, featureVersion } = JSON.parse(json) as Record<string, unknown>;
    if (!count(inputs) || !count(hidden) || !ascending(horizons) || !ascending(levels) || !count(featureVersion))
      return;
    return { inputs, hidden, horizons, levels, featureVersion };
  } catch {
    return;
  }
}
