/** Numbers of a slab: large enough that few are made, small enough that one old row holds little. */
const slabLength = 16_384;

/**
 * Gives out arrays as pieces of larger ones. An array of a few hundred numbers costs more to allocate
 * and to collect than to fill; a slab is freed when the last of its pieces is.
 */
export class Slabs {
  #slab = new Float64Array(0);
  #used = 0;

  /** @returns an array of zeros */
  take(length: number): Float64Array {
    if (length > slabLength / 4) return new Float64Array(length);
    if (this.#used + length > this.#slab.length) {
      this.#slab = new Float64Array(slabLength);
      this.#used = 0;
    }
    const piece = this.#slab.subarray(this.#used, this.#used + length);
    this.#used += length;
    return piece;
  }
}
