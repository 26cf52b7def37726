import type { AllocatorName } from '../allocate/allocator.js';
import type { EngineName } from '../forecast/names.js';
import type { Handle } from '../table/table.js';
import type { ShadowFigures, ShadowSpec } from './protocol.js';

/** What was denied of the same requests, live and by each shadow, since the shadows began. */
export interface ShadowReport {
  /** When the shadows began, and up to when their figures go: the last step they played. Unix ms. */
  sinceMs: number;
  timeMs: number;
  /** What was asked for, requests and tokens, without what mode `off` let pass. */
  asked: number;
  askedTokens: number;
  /** Of that, what the live table did not admit at once: also what waited, and what mode `shadow` let pass. */
  denied: number;
  deniedTokens: number;
  /** One per shadow that goes on, in the order of the option. */
  shadows: ShadowOutcome[];
}

/** What one shadow would have denied of it. */
export interface ShadowOutcome {
  engine: EngineName;
  allocator: AllocatorName;
  denied: number;
  deniedTokens: number;
}

/** What one shadow would have done for one target. */
export interface TargetOutcome {
  engine: EngineName;
  allocator: AllocatorName;
  /** What it would have denied the target since the target came or the shadows began, tokens. */
  deniedTokens: number;
  /** What it would be given now, tokens/s. */
  ratePerSec: number;
}

/** Where somebody who explains decisions learns of shadows. */
export interface ShadowView {
  /** All that were asked for. */
  readonly specs: readonly Pick<ShadowSpec, 'engine' | 'allocator'>[];
  /** Those that go on, of whoever has the slot. */
  outcomes(slot: number, handle: Handle): TargetOutcome[];
}

/** @param figures undefined before the first step was played */
export function reportOf(
  figures: ShadowFigures | undefined,
  specs: readonly ShadowSpec[],
  nowMs: number,
): ShadowReport {
  if (!figures) {
    const shadows = specs.map(({ engine, allocator }) => ({ engine, allocator, denied: 0, deniedTokens: 0 }));
    return { sinceMs: nowMs, timeMs: nowMs, asked: 0, askedTokens: 0, denied: 0, deniedTokens: 0, shadows };
  }
  const { sinceMs, timeMs, asked, askedTokens, denied, deniedTokens } = figures;
  const shadows = figures.shadows.map(({ engine, allocator, denied, deniedTokens }) => ({
    engine,
    allocator,
    denied,
    deniedTokens,
  }));
  return { sinceMs, timeMs, asked, askedTokens, denied, deniedTokens, shadows };
}

/** Empty where the figures are of whoever had the slot before. */
export function outcomesOf(figures: ShadowFigures, slot: number, handle: Handle): TargetOutcome[] {
  if (figures.handles[slot] !== handle) return [];
  return figures.shadows.map(({ engine, allocator, deniedTokensBySlot, ratePerSecBySlot }) => ({
    engine,
    allocator,
    deniedTokens: deniedTokensBySlot[slot]!,
    ratePerSec: ratePerSecBySlot[slot]!,
  }));
}
