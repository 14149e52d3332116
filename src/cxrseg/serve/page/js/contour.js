// The outline of a mask as a path that stays sharp at any zoom: marching squares, chained into loops and smoothed.

/**
 * @param {Uint8Array} mask  height * width, 0 outside.
 * @param {number} width
 * @param {number} height
 * @returns {Path2D}  in pixels; pixel (0, 0) covers the square from (0, 0) to (1, 1).
 */
export function contourOf(mask, width, height) {
  const path = new Path2D();
  for (const loop of traceLoops(mask, width, height)) addSmooth(path, loop);
  return path;
}

/**
 * Closed loops along the mask's edge. Each is a list of x, y in turn: the middles between a pixel inside and one outside.
 * @param {Uint8Array} mask
 * @param {number} width
 * @param {number} height
 * @returns {number[][]}
 */
export function traceLoops(mask, width, height) {
  // The mask with a border of pixels outside. A point is the middle between two neighbours; its key is twice the index of
  // the left or upper one there, plus 1 where the other one is below.
  const stride = width + 2;
  const padded = new Uint8Array(stride * (height + 2));
  for (let y = 0; y < height; y++) padded.set(mask.subarray(y * width, (y + 1) * width), (y + 1) * stride + 1);
  /** @type {Map<number, number>} */ const next = new Map();
  const last = padded.length - stride - 1;
  for (let n = 0; n < last; n++) {
    const kind = padded[n] | (padded[n + 1] << 1) | (padded[n + stride + 1] << 2) | (padded[n + stride] << 3);
    if (kind === 0 || kind === 15) continue; // four equal pixels, which is nearly everywhere
    const sides = [2 * n, 2 * n + 3, 2 * (n + stride), 2 * n + 1];
    // Segments run with the inside on their right, so that each point has one successor.
    for (const [from, to] of SEGMENTS[kind]) next.set(sides[from], sides[to]);
  }
  const loops = [];
  while (next.size) {
    const loop = [];
    let key = /** @type {number} */ (next.keys().next().value);
    for (let to = next.get(key); to !== undefined; to = next.get(key)) {
      next.delete(key);
      const pixel = key >> 1;
      const x = (pixel % stride) - 1;
      const y = Math.floor(pixel / stride) - 1;
      loop.push(key & 1 ? x + 0.5 : x + 1, key & 1 ? y + 1 : y + 0.5);
      key = to;
    }
    loops.push(loop);
  }
  return loops;
}

// For each of the 16 kinds of squares (upper left 1, upper right 2, lower right 4, lower left 8), its segments from side
// to side: 0 top, 1 right, 2 bottom, 3 left. Diagonal neighbours (kinds 5 and 10) are connected, as in the lungs' pieces.
const SEGMENTS = [
  [], [[0, 3]], [[1, 0]], [[1, 3]], [[2, 1]], [[0, 1], [2, 3]], [[2, 0]], [[2, 3]],
  [[3, 2]], [[0, 2]], [[1, 2], [3, 0]], [[1, 2]], [[3, 1]], [[0, 1]], [[3, 0]], [],
];

/** A loop without the steps of its pixels: each point moves to the mean of itself (twice) and its neighbours, which is less
 * than half a pixel away. @param {number[]} loop @returns {number[]} */
function smoothed(loop) {
  const length = loop.length;
  return loop.map((value, n) => (loop[(n + length - 2) % length] + 2 * value + loop[(n + 2) % length]) / 4);
}

/** Add a loop, rounded: curves from middle to middle, with the points as controls. @param {Path2D} path
 * @param {number[]} traced */
function addSmooth(path, traced) {
  const loop = smoothed(smoothed(traced));
  const count = loop.length / 2;
  const middle = (/** @type {number} */ n) => {
    const m = (n + 1) % count;
    return [(loop[2 * n] + loop[2 * m]) / 2, (loop[2 * n + 1] + loop[2 * m + 1]) / 2];
  };
  const [startX, startY] = middle(count - 1);
  path.moveTo(startX, startY);
  for (let n = 0; n < count; n++) {
    const [x, y] = middle(n);
    path.quadraticCurveTo(loop[2 * n], loop[2 * n + 1], x, y);
  }
  path.closePath();
}
