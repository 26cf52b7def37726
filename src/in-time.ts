/**
 * What work comes to, if it comes in time. It goes on all the same, and what it comes to later is nobody's concern.
 * @param mostMs Infinity: however long it takes
 * @throws `late()` if it takes longer; what the work throws before
 */
export async function inTime<T>(mostMs: number, work: Promise<T>, late: () => Error): Promise<T> {
  if (mostMs === Number.POSITIVE_INFINITY) return work;
  let timer: NodeJS.Timeout | undefined;
  const timeUp = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), mostMs);
  });
  try {
    return await Promise.race([work, timeUp]);
  } finally {
    clearTimeout(timer);
    work.catch(() => {});
  }
}
