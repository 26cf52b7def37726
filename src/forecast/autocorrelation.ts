/**
 * Sums of products of a series with itself, `lag` steps apart, for every lag from `first` to `last`. Four lags at a
 * time: each value is read once for all of them, which is what the search for a period spends its time on.
 * @param out sums by lag
 */
export function autocorrelate(
  series: Float64Array,
  length: number,
  first: number,
  last: number,
  out: Float64Array,
): void {
  let lag = first;
  for (; lag + 3 <= last && lag + 3 < length; lag += 4) {
    // The first terms of the shorter lags, so that from here on all four have one each.
    let a = series[lag]! * series[0]! + series[lag + 1]! * series[1]! + series[lag + 2]! * series[2]!;
    let b = series[lag + 1]! * series[0]! + series[lag + 2]! * series[1]!;
    let c = series[lag + 2]! * series[0]!;
    let d = 0;
    let [three, two, one] = [series[2]!, series[1]!, series[0]!];
    for (let i = lag + 3, from = 3; i < length; i++, from++) {
      const value = series[i]!;
      const four = series[from]!;
      a += value * four;
      b += value * three;
      c += value * two;
      d += value * one;
      one = two;
      two = three;
      three = four;
    }
    out[lag] = a;
    out[lag + 1] = b;
    out[lag + 2] = c;
    out[lag + 3] = d;
  }
  for (; lag <= last; lag++) {
    let sum = 0;
    for (let i = lag; i < length; i++) sum += series[i]! * series[i - lag]!;
    out[lag] = sum;
  }
}
