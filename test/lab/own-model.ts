import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { shippedModelPath, weightsPathOf } from '../../src/forecast/lstm.js';
import { decodeWeights, encodeWeights } from '../../src/learn/model.js';

/** A model that forecasts otherwise than the one that ships, as `own.onnx` with its weights. @returns its path */
export function ownModel(folder: string): string {
  const path = join(folder, 'own.onnx');
  copyFileSync(shippedModelPath, path);
  const shipped = weightsPathOf(shippedModelPath);
  const { values, ...others } = decodeWeights(readFileSync(shipped), shipped);
  writeFileSync(weightsPathOf(path), encodeWeights({ ...others, values: values.map((value) => value / 2) }));
  return path;
}
