// What a person changed in the masks of one film, with undo and redo. An edit holds whatever the threshold is, so the
// threshold can still be moved afterwards.

/** @typedef {"infection"|"lungs"} Target */
/** @typedef {{x0: number, y0: number, x1: number, y1: number}} Box  Pixels [x0, x1) and [y0, y1). */

export const KEPT = 0;
export const MARK = 1;
export const CLEAR = 2;

const MOST_STEPS = 100;

/** @typedef {{target: Target, box: Box, before: Uint8Array, after: Uint8Array}} Step */

export class Corrections {
  /** @param {number} width @param {number} height */
  constructor(width, height) {
    this.width = width;
    this.height = height;
    /** KEPT, MARK or CLEAR of each pixel. @type {Record<Target, Uint8Array>} */
    this.edits = { infection: new Uint8Array(width * height), lungs: new Uint8Array(width * height) };
    /** @type {Step[]} */ this.done = [];
    /** @type {Step[]} */ this.undone = [];
    /** @type {{target: Target, before: Uint8Array, box: Box|null}|null} */ this.open = null;
  }

  /** Whether a mask has edits. @param {Target[]} [targets] */
  any(targets = ["infection", "lungs"]) {
    return targets.some((target) => this.edits[target].includes(MARK) || this.edits[target].includes(CLEAR));
  }

  /** Begin a step, such as a stroke of the brush. @param {Target} target */
  begin(target) {
    this.open = { target, before: this.edits[target].slice(), box: null };
  }

  /**
   * Draw a line with round ends into the open step.
   * @param {number} fromX @param {number} fromY @param {number} toX @param {number} toY  in pixels.
   * @param {number} radius  in pixels; at least the pixel below each point is drawn.
   * @param {number} value  MARK or CLEAR.
   */
  line(fromX, fromY, toX, toY, radius, value) {
    if (!this.open) return;
    const reach = Math.max(radius, 0.5);
    const edits = this.edits[this.open.target];
    const box = {
      x0: Math.max(0, Math.floor(Math.min(fromX, toX) - reach)),
      y0: Math.max(0, Math.floor(Math.min(fromY, toY) - reach)),
      x1: Math.min(this.width, Math.ceil(Math.max(fromX, toX) + reach) + 1),
      y1: Math.min(this.height, Math.ceil(Math.max(fromY, toY) + reach) + 1),
    };
    const [dx, dy] = [toX - fromX, toY - fromY];
    const length = dx * dx + dy * dy;
    for (let y = box.y0; y < box.y1; y++) {
      for (let x = box.x0; x < box.x1; x++) {
        const [px, py] = [x + 0.5 - fromX, y + 0.5 - fromY];
        const along = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
        const within = (px - along * dx) ** 2 + (py - along * dy) ** 2 <= reach * reach;
        const below = x === Math.floor(toX) && y === Math.floor(toY);
        if (within || below) edits[y * this.width + x] = value;
      }
    }
    this.open.box = union(this.open.box, box);
  }

  /** Set all pixels of a region in the open step. @param {Uint8Array} region @param {number} value  MARK or CLEAR */
  region(region, value) {
    if (!this.open) return;
    const edits = this.edits[this.open.target];
    const box = { x0: this.width, y0: this.height, x1: 0, y1: 0 };
    for (let n = region.indexOf(1); n >= 0; n = region.indexOf(1, n + 1)) {
      edits[n] = value;
      const x = n % this.width;
      box.x0 = Math.min(box.x0, x);
      box.x1 = Math.max(box.x1, x + 1);
      box.y0 = Math.min(box.y0, (n - x) / this.width);
      box.y1 = (n - x) / this.width + 1;
    }
    this.open.box = union(this.open.box, box);
  }

  /** Take back all edits of both masks; each mask is one step that can be undone. */
  reset() {
    for (const target of /** @type {Target[]} */ (["infection", "lungs"])) {
      this.begin(target);
      this.region(this.edits[target].map((edit) => Number(edit !== KEPT)), KEPT);
      this.end();
    }
  }

  /** End the open step; it can then be undone. */
  end() {
    if (this.open?.box && this.open.box.x0 < this.open.box.x1) {
      const { target, before, box } = this.open;
      const step = { target, box, before: this.crop(before, box), after: this.crop(this.edits[target], box) };
      if (step.before.some((value, n) => value !== step.after[n])) {
        this.done.push(step);
        this.undone = [];
        if (this.done.length > MOST_STEPS) this.done.splice(0, 1);
      }
    }
    this.open = null;
  }

  /** Drop the open step, as where a second finger shows that the first did not mean to paint. */
  cancel() {
    if (this.open) this.edits[this.open.target].set(this.open.before);
    this.open = null;
  }

  /** @returns {Target|null}  the mask that changed, null where there is nothing to undo. */
  undo() {
    const step = this.done.pop();
    if (!step) return null;
    this.paste(step, step.before);
    this.undone.push(step);
    return step.target;
  }

  /** @returns {Target|null}  the mask that changed, null where there is nothing to redo. */
  redo() {
    const step = this.undone.pop();
    if (!step) return null;
    this.paste(step, step.after);
    this.done.push(step);
    return step.target;
  }

  /** @param {Uint8Array} values @param {Box} box */
  crop(values, { x0, y0, x1, y1 }) {
    const part = new Uint8Array((x1 - x0) * (y1 - y0));
    for (let y = y0; y < y1; y++) {
      part.set(values.subarray(y * this.width + x0, y * this.width + x1), (y - y0) * (x1 - x0));
    }
    return part;
  }

  /** @param {Step} step @param {Uint8Array} part */
  paste({ target, box: { x0, y0, x1, y1 } }, part) {
    for (let y = y0; y < y1; y++) {
      const row = (y - y0) * (x1 - x0);
      this.edits[target].set(part.subarray(row, row + x1 - x0), y * this.width + x0);
    }
  }
}

/**
 * The connected pixels (left, right, above, below) that are equal in a mask.
 * @param {Uint8Array} mask  height * width.
 * @param {number} width @param {number} height
 * @param {number} x @param {number} y  a pixel of the region.
 * @returns {Uint8Array|null}  1 within the region; null where unmarked pixels reach the image's border, so that the
 *   region is not a hole.
 */
export function regionAt(mask, width, height, x, y) {
  const marked = mask[y * width + x];
  const region = new Uint8Array(width * height);
  const stack = [y * width + x];
  region[stack[0]] = 1;
  while (stack.length) {
    const at = /** @type {number} */ (stack.pop());
    const column = at % width;
    const row = (at - column) / width;
    const edge = column === 0 || row === 0 || column === width - 1 || row === height - 1;
    if (edge && !marked) return null;
    for (const [inside, next] of [
      [column > 0, at - 1],
      [column < width - 1, at + 1],
      [row > 0, at - width],
      [row < height - 1, at + width],
    ]) {
      const n = Number(next);
      if (inside && !region[n] && mask[n] === marked) {
        region[n] = 1;
        stack.push(n);
      }
    }
  }
  return region;
}

/** @param {Box|null} a @param {Box} b @returns {Box} */
function union(a, b) {
  if (!a) return b;
  return {
    x0: Math.min(a.x0, b.x0), y0: Math.min(a.y0, b.y0), x1: Math.max(a.x1, b.x1), y1: Math.max(a.y1, b.y1),
  };
}
