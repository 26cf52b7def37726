export type { AllocatorName } from './allocate/allocator.js';
export type { ExplainedForecast, Explanation } from './control/explain.js';
export type { StepReport, StepRow } from './control/loop.js';
export { type ErrorCode, ForetokenError } from './errors.js';
export { AttachedForetoken, type AttachOptions, Foretoken, type ForetokenShare } from './foretoken.js';
export type {
  AcquireOptions,
  Cost,
  EngineName,
  ExplainOptions,
  ForetokenEvent,
  ForetokenOptions,
  HistoryOptions,
  RefineOptions,
  RequestInfo,
  ShadowOptions,
  TargetOptions,
} from './options.js';
export type { ShadowOutcome, ShadowReport, TargetOutcome } from './shadow/report.js';
export type { TargetMode } from './table/native.js';
export { listRegions, type RegionInfo, removeRegion } from './table/regions.js';
export type { PeekResult, RoleState } from './table/table.js';
export type { Completion, Target, TargetTotals } from './target.js';
export type { TargetSpec } from './targets.js';
