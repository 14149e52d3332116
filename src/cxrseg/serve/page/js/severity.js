// Counts of probabilities by zone -> infected fractions, area and extent score at any threshold. The rules are those of
// cxrseg/metrics/severity.py.

import { ZONES } from "./lungs.js";

/** Value of a pixel that a correction marks, whatever the threshold; probabilities are 0 to 255. */
export const MARKED = 256;
/** Value of a pixel that a correction clears, whatever the threshold. */
export const CLEARED = -1;
const BINS = MARKED - CLEARED + 1;
/** Smallest part of a lung that a connected region must be to count in the extent score. */
const SPECK = 1 / 600;
/** First and last zone of the left and of the right lung. */
const LUNGS = [[1, 3], [4, 6]];

/**
 * @typedef {Object} Severity  Fractions are 0 to 1; null where unknown. The names are those of the service's JSON.
 * @property {number|null} infected_fraction
 * @property {number|null} infected_fraction_left
 * @property {number|null} infected_fraction_right
 * @property {Record<string, number|null>} zones  by the names in ZONES
 * @property {number|null} infected_area_mm2
 * @property {number|null} extent_score  0 to 8
 * @property {string|null} grade
 */

/**
 * @typedef {Object} Counts  Everything that figures at any threshold need.
 * @property {Uint32Array[]} zones  for each of ZONES, [n] is the number of pixels with value >= n + CLEARED.
 * @property {Uint32Array[]} large  for each lung, the same without specks.
 */

/**
 * @param {Int16Array|Uint8Array} values  probability 0 to 255, MARKED or CLEARED, of each pixel.
 * @param {Uint8Array} zones  of each pixel, from labelZones.
 * @param {number} width  of the image.
 * @returns {Counts}
 */
export function countValues(values, zones, width) {
  const counts = ZONES.map(() => new Uint32Array(BINS));
  for (let n = 0; n < values.length; n++) {
    if (zones[n]) counts[zones[n] - 1][values[n] - CLEARED]++;
  }
  for (const count of counts) {
    for (let n = BINS - 2; n >= 0; n--) count[n] += count[n + 1];
  }
  return { zones: counts, large: LUNGS.map(([first, last]) => countLarge(values, zones, width, first, last)) };
}

/**
 * Pixels of a lung in connected regions (8 neighbours) that are not specks, at each level. Pixels join from the highest
 * value down, in a union-find forest: 0 is a pixel that has not joined, -n the root of n pixels, n + 1 a child of n.
 */
function countLarge(values, zones, width, first, last) {
  const places = highestFirst(values, (n) => zones[n] >= first && zones[n] <= last);
  const limit = SPECK * places.length;
  const forest = new Int32Array(values.length);
  const rootOf = (place) => {
    while (forest[place] > 0) {
      const above = forest[place] - 1;
      if (forest[above] > 0) forest[place] = forest[above];
      place = above;
    }
    return place;
  };
  const counts = new Uint32Array(BINS);
  let large = 0;
  const join = (a, b) => {
    let [root, other] = [rootOf(a), rootOf(b)];
    if (root === other) return;
    if (forest[root] > forest[other]) [root, other] = [other, root];
    const [size, more] = [-forest[root], -forest[other]];
    large -= (size >= limit ? size : 0) + (more >= limit ? more : 0);
    forest[root] = -(size + more);
    forest[other] = root + 1;
    if (size + more >= limit) large += size + more;
  };
  let level = MARKED;
  for (const place of places) {
    for (; level > values[place]; level--) counts[level - CLEARED] = large;
    forest[place] = -1;
    if (1 >= limit) large++;
    const column = place % width;
    for (let x = Math.max(0, column - 1); x <= Math.min(width - 1, column + 1); x++) {
      for (let row = place - column - width; row <= place - column + width; row += width) {
        if (row >= 0 && row < forest.length && forest[row + x] && row + x !== place) join(place, row + x);
      }
    }
  }
  for (; level >= CLEARED; level--) counts[level - CLEARED] = large;
  return counts;
}

/** The pixels that are used, by falling value. @param {(n: number) => boolean} used @returns {Int32Array} */
function highestFirst(values, used) {
  const starts = new Uint32Array(BINS + 1);
  for (let n = 0; n < values.length; n++) if (used(n)) starts[MARKED - values[n] + 1]++;
  for (let n = 1; n <= BINS; n++) starts[n] += starts[n - 1];
  const places = new Int32Array(starts[BINS]);
  for (let n = 0; n < values.length; n++) if (used(n)) places[starts[MARKED - values[n]]++] = n;
  return places;
}

/** The smallest probability of 0 to 255 that a threshold in (0, 1) marks; the service rounds its bytes so that this is
 * exact for the model's own threshold. @param {number} threshold */
export const levelOf = (threshold) => Math.ceil(255 * threshold);

/**
 * @param {Counts} counts  from countValues.
 * @param {number} threshold  in (0, 1).
 * @param {number|null} pixelArea  in mm2; null where unknown.
 * @returns {Severity}
 */
export function measure(counts, threshold, pixelArea) {
  const from = levelOf(threshold) - CLEARED;
  const marked = counts.zones.map((count) => count[from]);
  const all = counts.zones.map((count) => count[0]);
  const left = ratio(sum(marked.slice(0, 3)), sum(all.slice(0, 3)));
  const right = ratio(sum(marked.slice(3)), sum(all.slice(3)));
  const [leftPixels, rightPixels] = [sum(all.slice(0, 3)), sum(all.slice(3))];
  const [leftLarge, rightLarge] = counts.large.map((count) => count[from]);
  const score = left === null || right === null ? null : extent(leftLarge / leftPixels) + extent(rightLarge / rightPixels);
  return {
    infected_fraction: ratio(sum(marked), sum(all)),
    infected_fraction_left: left,
    infected_fraction_right: right,
    zones: Object.fromEntries(ZONES.map((zone, n) => [zone, ratio(marked[n], all[n])])),
    infected_area_mm2: pixelArea === null || sum(all) === 0 ? null : sum(marked) * pixelArea,
    extent_score: score,
    grade: score === null ? null : gradeOf(score),
  };
}

/** Extent of one lung, 0 to 4 (Wong et al. 2020). @param {number} fraction */
function extent(fraction) {
  if (fraction <= 0) return 0;
  if (fraction < 0.25) return 1;
  return fraction <= 0.5 ? 2 : fraction <= 0.75 ? 3 : 4;
}

/** @param {number} score */
const gradeOf = (score) => (score === 0 ? "none" : score <= 2 ? "mild" : score <= 5 ? "moderate" : "severe");

/** @param {number[]} values */
const sum = (values) => values.reduce((a, b) => a + b, 0);

/** @param {number} part @param {number} whole */
const ratio = (part, whole) => (whole ? part / whole : null);
