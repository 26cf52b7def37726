import type { StepReport } from '../control/loop.js';
import type { ReportData, ReportTarget } from '../report/report.js';

type Columns = Record<Exclude<keyof ReportTarget, 'name' | 'timeS'>, number[]>;

/** What a report draws over time, gathered step by step; rates in tokens/s. */
export class Series {
  readonly #stepS: number;
  readonly #timeS: number[] = [];
  readonly #demand: number[] = [];
  readonly #admitted: number[] = [];
  readonly #targets: Map<string, Columns>;
  /** Forecasts of the last step, for the one that follows. */
  readonly #expected = new Map<string, { q50: number; q90: number }>();

  /** @param names whose series are kept; others count in the total alone */
  constructor(names: readonly string[], stepMs: number) {
    this.#stepS = stepMs / 1000;
    this.#targets = new Map(
      names.map((name) => [name, { demand: [], q50: [], q90: [], level: [], admitted: [], denied: [] }]),
    );
  }

  /** What was forecast for the step that begins, of a step that is not shown itself. */
  expect({ rows = [] }: StepReport): void {
    for (const { name, q50PerSec, q90PerSec } of rows)
      if (this.#targets.has(name)) this.#expected.set(name, { q50: q50PerSec, q90: q90PerSec });
  }

  /** @param atS end of the step */
  add(report: StepReport, atS: number): void {
    this.#timeS.push(atS - this.#stepS);
    this.#demand.push(report.demandTokens / this.#stepS);
    this.#admitted.push(report.admittedTokens / this.#stepS);
    for (const row of report.rows ?? []) {
      const series = this.#targets.get(row.name);
      if (!series) continue;
      const expected = this.#expected.get(row.name);
      series.demand.push(row.demandTokens / this.#stepS);
      series.admitted.push(row.admittedTokens / this.#stepS);
      series.denied.push(Math.max(0, row.demandTokens - row.admittedTokens) / this.#stepS);
      series.q50.push(expected?.q50 ?? Number.NaN);
      series.q90.push(expected?.q90 ?? Number.NaN);
      series.level.push(row.level);
    }
    this.expect(report);
  }

  get steps(): number {
    return this.#timeS.length;
  }

  /** Tokens that a target was denied. */
  denied(name: string): number {
    return (this.#targets.get(name)?.denied ?? []).reduce((a, b) => a + b, 0) * this.#stepS;
  }

  /**
   * @param names which targets, in this order; default all
   * @param merged so many steps become one row: rates are their means, tokens what there was at the end
   */
  result(
    names: readonly string[] = [...this.#targets.keys()],
    merged = 1,
  ): { total: NonNullable<ReportData['total']>; targets: ReportTarget[] } {
    const mean = (values: readonly number[]) =>
      chunks(values, merged).map((chunk) => chunk.reduce((a, b) => a + b, 0) / chunk.length);
    const timeS = chunks(this.#timeS, merged).map((chunk) => chunk[0]!);
    return {
      total: { timeS, demand: mean(this.#demand), admitted: mean(this.#admitted) },
      targets: names.map((name) => {
        const { demand, q50, q90, level, admitted, denied } = this.#targets.get(name)!;
        return {
          name,
          timeS,
          demand: mean(demand),
          q50: mean(q50),
          q90: mean(q90),
          level: chunks(level, merged).map((chunk) => chunk.at(-1)!),
          admitted: mean(admitted),
          denied: mean(denied),
        };
      }),
    };
  }
}

const chunks = (values: readonly number[], size: number): number[][] =>
  Array.from({ length: Math.ceil(values.length / size) }, (_, i) => values.slice(i * size, (i + 1) * size));
