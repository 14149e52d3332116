// One image of the list: its file, what the service found on it, and what a person corrected.

import { CLEAR, Corrections, MARK } from "./corrections.js";
import { labelZones } from "./lungs.js";
import { blobOf, decodeGrey } from "./png.js";
import { CLEARED, countValues, levelOf, MARKED, measure } from "./severity.js";

/**
 * @typedef {{kind: "file", file: File} | {kind: "folder", id: string} | {kind: "phantom", id: string}} Source
 * @typedef {"waiting"|"running"|"ok"|"refused"|"failed"} Status
 * @typedef {{image: Uint8Array, probability: Uint8Array, lungs: Uint8Array}} Pixels  height * width each: grey values,
 *   255 times the probability of infection, and the model's lung mask (0 or 1).
 * @typedef {import("./corrections.js").Target} Target
 */

let films = 0;

export class Film {
  /** @param {string} name @param {Source} source */
  constructor(name, source) {
    this.id = `film-${++films}`;
    this.name = name;
    this.source = source;
    /** @type {Status} */ this.status = "waiting";
    this.reason = "";
    /** @type {string[]} */ this.warnings = [];
    /** What the service said, without pictures. @type {Record<string, any>} */ this.row = {};
    this.width = 0;
    this.height = 0;
    /** Area of a pixel of the pictures, in mm2. @type {number|null} */ this.pixelArea = null;
    /** @type {Record<string, Blob>} */ this.pictures = {};
    /** @type {string} */ this.thumbnail = "";
    /** Decoded pictures, while the film is shown. @type {Pixels|null} */ this.pixels = null;
    /** @type {Corrections|null} */ this.corrections = null;
    /** @type {Uint8Array|null} */ this.zones = null;
    /** @type {Uint32Array[]|null} */ this.counts = null;
    /** @type {Uint32Array[]|null} */ this.modelCounts = null;
    /** Whether the corrections were saved as a training pair. */ this.saved = false;
    /** Grows with every change of a mask, so that drawings know whether they are current. */ this.version = 0;
  }

  get ok() {
    return this.status === "ok";
  }

  get corrected() {
    return this.corrections !== null && this.corrections.any();
  }

  /** Take the service's answer. @param {Record<string, any>} answer */
  take({ image, probability, lungs, regions, grid, ...row }) {
    this.row = row;
    this.status = row.status;
    this.reason = row.reason ?? "";
    this.warnings = row.warnings ?? [];
    [this.width, this.height] = [grid.width, grid.height];
    this.pixelArea = grid.spacing_mm ? grid.spacing_mm[0] * grid.spacing_mm[1] : null;
    const given = Object.entries({ image, probability, lungs }).filter(([, picture]) => picture);
    this.pictures = Object.fromEntries(given.map(([name, picture]) => [name, blobOf(picture.png)]));
    this.pixels = this.corrections = this.zones = this.counts = this.modelCounts = null;
  }

  /** Decode the pictures; does nothing where they are decoded. */
  async load() {
    if (this.pixels || !this.pictures.image) return;
    const [image, probability, lungs] = await Promise.all(
      ["image", "probability", "lungs"].map(async (name) =>
        this.pictures[name] ? decodeGrey(this.pictures[name]) : new Uint8Array(this.width * this.height),
      ),
    );
    for (let n = 0; n < lungs.length; n++) lungs[n] = lungs[n] > 127 ? 1 : 0;
    this.pixels = { image, probability, lungs };
    if (this.ok && !this.counts) {
      this.count();
      this.modelCounts = this.counts;
    }
  }

  /** Forget the decoded pictures; the corrections are kept. */
  unload() {
    this.pixels = null;
    if (!this.corrected) this.corrections = null;
  }

  /** The corrections, made on first use. Needs decoded pictures. */
  edit() {
    this.corrections ??= new Corrections(this.width, this.height);
    return this.corrections;
  }

  /**
   * A mask as it stands. Needs decoded pictures.
   * @param {Target} target
   * @param {number} threshold
   * @param {boolean} corrected  with the corrections, or as the model found it.
   * @returns {Uint8Array}  height * width, 0 or 1.
   */
  mask(target, threshold, corrected = true) {
    const { probability, lungs } = /** @type {Pixels} */ (this.pixels);
    const mask = target === "lungs" ? lungs.slice() : new Uint8Array(probability.length);
    if (target === "infection") {
      const level = levelOf(threshold);
      for (let n = 0; n < mask.length; n++) mask[n] = probability[n] >= level ? 1 : 0;
    }
    const edits = corrected ? this.corrections?.edits[target] : undefined;
    if (edits) for (let n = 0; n < mask.length; n++) if (edits[n]) mask[n] = edits[n] === MARK ? 1 : 0;
    return mask;
  }

  /** Count again after a correction. Needs decoded pictures. @param {boolean} [lungsChanged] */
  count(lungsChanged = true) {
    const { probability } = /** @type {Pixels} */ (this.pixels);
    if (lungsChanged || !this.zones) this.zones = labelZones(this.mask("lungs", 0.5), this.width, this.height);
    const edits = this.corrections?.edits.infection;
    /** @type {Uint8Array|Int16Array} */ let values = probability;
    if (edits) {
      values = Int16Array.from(probability);
      for (let n = 0; n < values.length; n++) {
        if (edits[n] === MARK) values[n] = MARKED;
        else if (edits[n] === CLEAR) values[n] = CLEARED;
      }
    }
    this.counts = countValues(values, this.zones, this.width);
    this.version++;
  }

  /** @param {number} threshold @param {boolean} [corrected] @returns {import("./severity.js").Severity|null} */
  severity(threshold, corrected = true) {
    const counts = corrected ? this.counts : this.modelCounts;
    return counts && measure(counts, threshold, this.pixelArea);
  }
}
