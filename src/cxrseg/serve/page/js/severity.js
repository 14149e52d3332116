// Counts of probabilities by zone -> infected fractions, area and extent score at any threshold. The rules are those of
// cxrseg/metrics/severity.py.

import { ZONES } from "./lungs.js";

/** Value of a pixel that a correction marks, whatever the threshold; probabilities are 0 to 255. */
export const MARKED = 256;
/** Value of a pixel that a correction clears, whatever the threshold. */
export const CLEARED = -1;
const BINS = MARKED - CLEARED + 1;

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
 * How many pixels of each zone have at least each value: everything that fractions at any threshold need.
 * @param {Int16Array|Uint8Array} values  probability 0 to 255, MARKED or CLEARED, of each pixel.
 * @param {Uint8Array} zones  of each pixel, from labelZones.
 * @returns {Uint32Array[]}  for each of ZONES, [n] is the number of pixels with value >= n + CLEARED.
 */
export function countValues(values, zones) {
  const counts = ZONES.map(() => new Uint32Array(BINS));
  for (let n = 0; n < values.length; n++) {
    if (zones[n]) counts[zones[n] - 1][values[n] - CLEARED]++;
  }
  for (const count of counts) {
    for (let n = BINS - 2; n >= 0; n--) count[n] += count[n + 1];
  }
  return counts;
}

/** The smallest probability of 0 to 255 that a threshold in (0, 1) marks; the service rounds its bytes so that this is
 * exact for the model's own threshold. @param {number} threshold */
export const levelOf = (threshold) => Math.ceil(255 * threshold);

/**
 * @param {Uint32Array[]} counts  from countValues.
 * @param {number} threshold  in (0, 1).
 * @param {number|null} pixelArea  in mm2; null where unknown.
 * @returns {Severity}
 */
export function measure(counts, threshold, pixelArea) {
  const from = levelOf(threshold) - CLEARED;
  const marked = counts.map((count) => count[from]);
  const all = counts.map((count) => count[0]);
  const left = ratio(sum(marked.slice(0, 3)), sum(all.slice(0, 3)));
  const right = ratio(sum(marked.slice(3)), sum(all.slice(3)));
  const score = left === null || right === null ? null : extent(left) + extent(right);
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
