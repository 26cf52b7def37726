import type { DecisionSink } from './score.js';

interface Tokens {
  offered: number;
  admitted: number;
}

/** Adds up what each arm did to each target, tokens. */
export class Tally implements DecisionSink {
  readonly #arms = new Map<string, Map<string, Tokens>>();

  decide(arm: string, _timeMs: number, target: string, cost: number, isAdmitted: boolean): void {
    const targets = this.#arms.get(arm) ?? new Map<string, Tokens>();
    this.#arms.set(arm, targets);
    const tokens = targets.get(target) ?? { offered: 0, admitted: 0 };
    targets.set(target, tokens);
    tokens.offered += cost;
    if (isAdmitted) tokens.admitted += cost;
  }

  async drain(): Promise<void> {}

  get arms(): string[] {
    return [...this.#arms.keys()];
  }

  /** Of an arm and a target; nothing offered if nobody asked. */
  of(arm: string, target: string): Readonly<Tokens> {
    return this.#arms.get(arm)?.get(target) ?? { offered: 0, admitted: 0 };
  }
}

/** Hands every decision to several. */
export const everySink = (sinks: readonly DecisionSink[]): DecisionSink => ({
  decide(...decision) {
    for (const sink of sinks) sink.decide(...decision);
  },
  async drain() {
    for (const sink of sinks) await sink.drain();
  },
});
