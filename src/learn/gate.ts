/** A challenger must save so much of the champion's loss. */
const margin = 0.01;

/** Loss per horizon and block of time. */
export type Losses = readonly Float64Array[];

/** How far a challenger's losses are below a champion's. */
export interface Comparison {
  /** Part of the champion's loss that is saved; negative if there is more loss instead. */
  gain: number;
  /** Standard error of that part over the blocks. */
  error: number;
  /** By more than the margin, and more than chance gives in one case of twenty. */
  wins: boolean;
}

/** Compares block by block: losses of neighbouring steps hang together, those of blocks hardly. */
export function compare(champion: Losses, challenger: Losses): Comparison {
  const blocks = champion[0]?.length ?? 0;
  const saved = new Float64Array(blocks);
  let horizons = 0;
  champion.forEach((losses, k) => {
    const unit = losses.reduce((sum, loss) => sum + loss, 0) / blocks;
    if (!(unit > 0)) return;
    horizons++;
    for (let i = 0; i < blocks; i++) saved[i]! += (losses[i]! - challenger[k]![i]!) / unit;
  });
  if (horizons === 0 || blocks < 2) return { gain: 0, error: Number.POSITIVE_INFINITY, wins: false };
  const gain = saved.reduce((sum, value) => sum + value, 0) / blocks / horizons;
  const squares = saved.reduce((sum, value) => sum + (value / horizons - gain) ** 2, 0);
  const error = Math.sqrt(squares / (blocks - 1) / blocks);
  return { gain, error, wins: gain > margin && gain > oneInTwenty(blocks - 1) * error };
}

/** About the 95th percentile of Student's t: 2.3 at 3 degrees of freedom, 1.8 at 11, 1.65 at many. */
const oneInTwenty = (degrees: number): number => 1.645 + 2 / degrees;
