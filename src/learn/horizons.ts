/** Where a horizon lies on the model's grid: between `low` and `high`, `share` of the way in log h. */
export interface GridPoint {
  low: number;
  high: number;
  share: number;
}

/**
 * Places horizons on the grid. Shorter than the first or longer than the last horizon of the grid, the rate
 * forecast for that one holds. Convex, so interpolated quantiles stay ordered.
 * @param horizonSteps horizons in steps, may be fractions
 * @param grid ascending, in steps
 */
export function placeHorizons(horizonSteps: readonly number[], grid: readonly number[]): GridPoint[] {
  return horizonSteps.map((steps) => {
    const high = grid.findIndex((point) => point >= steps);
    if (high === 0) return { low: 0, high: 0, share: 0 };
    if (high === -1) return { low: grid.length - 1, high: grid.length - 1, share: 0 };
    const low = high - 1;
    return { low, high, share: Math.log(steps / grid[low]!) / Math.log(grid[high]! / grid[low]!) };
  });
}
