/**
 * Keeps the inference runtime from gathering telemetry and sending it to its vendor, as it does from version 1.29 on unless
 * it is told otherwise by its environment. Who has set the variable has decided.
 *
 * Before its first session, in the process's main thread: another thread's `process.env` is a copy that it does not see.
 */
export function declineTelemetry(): void {
  process.env.ORT_DISABLE_TELEMETRY ??= '1';
}
