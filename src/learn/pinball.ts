/** The loss whose mean is least where a forecast is the quantile of that level. */
export const pinball = (level: number, actual: number, forecast: number): number =>
  actual >= forecast ? level * (actual - forecast) : (1 - level) * (forecast - actual);
