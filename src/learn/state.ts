import { ForetokenError } from '../errors.js';
import { FeatureBank, featureVersion } from '../forecast/features.js';
import type { ModelShape } from './model.js';

/** The recurrent state of models that run over one feature bank. */
export interface StatefulModels {
  rows: number;
  shape: ModelShape;
  models: { h: SharedArrayBuffer; c: SharedArrayBuffer }[];
}

interface Header {
  magic: string;
  featureVersion: number;
  hidden: number;
  models: number;
  /** Active rows, in the order their floats follow. */
  rows: number[];
}

const magic = 'foretoken-lstm-state-1';

/** Length of the header, header as JSON, averages of the total, then per active row features, h and c of each model. */
export function encodeState(bank: FeatureBank, state: StatefulModels): Uint8Array {
  const { hidden } = state.shape;
  const rows: number[] = [];
  for (let row = 0; row < state.rows; row++) if (bank.isActive(row)) rows.push(row);
  const header: Header = { magic, featureVersion, hidden, models: state.models.length, rows };
  const text = new TextEncoder().encode(JSON.stringify(header));
  const floats = new Float32Array(bank.total.length + rows.length * floatsPerRow(state));
  floats.set(bank.total);
  let at = bank.total.length;
  const memory = state.models.flatMap((model) => [new Float32Array(model.h), new Float32Array(model.c)]);
  for (const row of rows) {
    bank.readRow(row, floats, at);
    at += FeatureBank.rowFloats;
    for (const values of memory) {
      floats.set(values.subarray(row * hidden, (row + 1) * hidden), at);
      at += hidden;
    }
  }
  const bytes = new Uint8Array(4 + text.length + floats.byteLength);
  new DataView(bytes.buffer).setUint32(0, text.length, true);
  bytes.set(text, 4);
  bytes.set(new Uint8Array(floats.buffer), 4 + text.length);
  return bytes;
}

/**
 * Puts back what `encodeState` took; models beyond those it holds start as its first.
 * @throws ForetokenError INVALID_ARGUMENT; nothing has changed then
 */
export function decodeState(bytes: Uint8Array, bank: FeatureBank, state: StatefulModels): void {
  const header = readHeader(bytes);
  const { hidden } = state.shape;
  if (header.featureVersion !== featureVersion || header.hidden !== hidden)
    throw refused(
      `it is of features ${header.featureVersion}, hidden ${header.hidden}; these are ${featureVersion}, ${hidden}`,
    );
  if (!header.rows.every((row) => Number.isInteger(row) && row >= 0 && row < state.rows))
    throw refused(`it has rows beyond the ${state.rows} there are`);
  const perRow = FeatureBank.rowFloats + 2 * hidden * header.models;
  const body = bytes.slice(4 + new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true));
  if (body.length !== 4 * (bank.total.length + header.rows.length * perRow)) throw refused('it is cut off or too long');
  const floats = new Float32Array(body.buffer);
  if (!floats.every(Number.isFinite)) throw refused('it holds numbers that are not finite');
  for (let row = 0; row < state.rows; row++) bank.reset(row);
  bank.total.set(floats.subarray(0, bank.total.length));
  header.rows.forEach((row, i) => {
    const at = bank.total.length + i * perRow;
    bank.writeRow(row, floats, at);
    state.models.forEach((model, index) => {
      const from = at + FeatureBank.rowFloats + (index < header.models ? index : 0) * 2 * hidden;
      new Float32Array(model.h, 4 * row * hidden, hidden).set(floats.subarray(from, from + hidden));
      new Float32Array(model.c, 4 * row * hidden, hidden).set(floats.subarray(from + hidden, from + 2 * hidden));
    });
  });
}

const floatsPerRow = (state: StatefulModels): number =>
  FeatureBank.rowFloats + 2 * state.shape.hidden * state.models.length;

const refused = (reason: string): ForetokenError =>
  new ForetokenError('INVALID_ARGUMENT', `this snapshot cannot be restored: ${reason}`);

function readHeader(bytes: Uint8Array): Header {
  try {
    const length = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length))) as Header;
    if (header.magic === magic && Array.isArray(header.rows) && header.models >= 1) return header;
  } catch {
    // Told below, with everything else that is not a snapshot.
  }
  throw refused('it is not a snapshot of an LSTM forecaster');
}
