import { ForetokenError } from '../errors.js';
import { LstmForecaster, weightsPathOf } from '../forecast/lstm.js';
import type { EngineName } from '../forecast/names.js';

/** The files of the model that `--model` names, by what they are. */
export const modelFiles = (model: string | undefined): Record<string, string> =>
  model === undefined ? {} : { 'the model': model, 'the weights of the model': weightsPathOf(model) };

/**
 * Finds out whether a model of one's own can forecast: the engine goes on without one, and nobody asks for that.
 * @param engine what is to forecast with it
 * @throws ForetokenError INVALID_OPTION when it is missing, corrupt or of no use; WORKER_FAILED without a runtime for it
 */
export async function checkModel(file: string, engine: EngineName = 'auto'): Promise<void> {
  if (engine !== 'auto' && engine !== 'lstm')
    throw new ForetokenError('INVALID_OPTION', `--model: expected together with --engine auto or lstm, got ${engine}`);
  try {
    await using _ = await LstmForecaster.open({ rows: 1, stepMs: 1000, horizonsMs: [1000], modelPath: file });
  } catch (error) {
    if (!(error instanceof ForetokenError) || error.code !== 'MODEL_UNAVAILABLE') throw error;
    const got = `${JSON.stringify(file)}: ${error.message}`;
    throw new ForetokenError('INVALID_OPTION', `--model: expected a model that foretoken train wrote, got ${got}`, {
      cause: error,
    });
  }
}
