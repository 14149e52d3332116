// Separating the two lungs of a mask into zones: the same rules, limits and results as cxrseg/metrics/lungs.py, whose
// docstrings explain them. Left and right are the patient's: the patient's right lung is on the image's left.

/**
 * @typedef {{y: number, x0: number, x1: number}} Run  Pixels [x0, x1) of a row.
 * @typedef {{runs: Run[], size: number, x0: number, x1: number, y0: number, y1: number}} Piece  A connected piece and
 *   its box, [x0, x1) and [y0, y1).
 */

const ISLAND = 0.05;
const VALLEY = 0.8;
const WIDE = 0.6;

/** Names of the zones; zone number n of `labelZones` is ZONES[n - 1]. */
export const ZONES = ["left_upper", "left_middle", "left_lower", "right_upper", "right_middle", "right_lower"];

/**
 * The zone of every pixel.
 * @param {Uint8Array} lungs  height * width, 0 outside of the lungs.
 * @param {number} width
 * @param {number} height
 * @returns {Uint8Array}  height * width: 0 outside, else 1 + the index in ZONES.
 */
export function labelZones(lungs, width, height) {
  const zones = new Uint8Array(width * height);
  const pieces = findPieces(lungs, width, height);
  if (pieces.length === 0) return zones;
  const largest = Math.max(...pieces.map((piece) => piece.size));
  const large = pieces.filter((piece) => piece.size >= ISLAND * largest);
  const islands = pieces.filter((piece) => piece.size < ISLAND * largest);
  const groups = groupColumns(large).map(merge);
  let left = null;
  let right = null;
  if (groups.length === 1) {
    const column = findCut(groups[0], width);
    if (column === null) {
      const isLeft = centre(groups[0]) > (width - 1) / 2;
      const all = [...groups[0].runs, ...islands.flatMap((island) => island.runs)];
      paintZones(zones, width, all, groups[0], isLeft ? 1 : 4);
      return zones;
    }
    left = merge([{ runs: clip(groups[0].runs, column, width) }]);
    right = merge([{ runs: clip(groups[0].runs, 0, column) }]);
  } else {
    [left, right] = twoSides(groups);
  }
  const [leftIslands, rightIslands] = giveIslands(islands, left, right);
  paintZones(zones, width, [...left.runs, ...leftIslands], left, 1);
  paintZones(zones, width, [...right.runs, ...rightIslands], right, 4);
  return zones;
}

/**
 * Connected pieces of a mask; diagonals connect.
 * @param {Uint8Array} mask
 * @param {number} width
 * @param {number} height
 * @returns {Piece[]}
 */
export function findPieces(mask, width, height) {
  /** @type {Run[]} */ const runs = [];
  /** @type {number[]} */ const parent = [];
  const root = (/** @type {number} */ n) => {
    while (parent[n] !== n) n = parent[n] = parent[parent[n]];
    return n;
  };
  let above = 0;
  for (let y = 0; y < height; y++) {
    const start = runs.length;
    let next = above;
    for (let x = 0, at = y * width; x < width; ) {
      if (!mask[at + x]) {
        x++;
        continue;
      }
      const x0 = x;
      while (x < width && mask[at + x]) x++;
      const number = runs.push({ y, x0, x1: x }) - 1;
      parent.push(number);
      while (next < start && runs[next].x1 < x0) next++;
      for (let n = next; n < start && runs[n].x0 <= x; n++) parent[root(n)] = root(number);
    }
    above = start;
  }
  /** @type {Map<number, Run[]>} */ const found = new Map();
  runs.forEach((run, number) => {
    const key = root(number);
    const list = found.get(key);
    if (list) list.push(run);
    else found.set(key, [run]);
  });
  return [...found.values()].map((list) => merge([{ runs: list }]));
}

/** One piece of the runs of several. @param {{runs: Run[]}[]} pieces @returns {Piece} */
function merge(pieces) {
  const piece = { runs: pieces.flatMap((one) => one.runs), size: 0, x0: Infinity, x1: 0, y0: Infinity, y1: 0 };
  for (const { y, x0, x1 } of piece.runs) {
    piece.size += x1 - x0;
    piece.x0 = Math.min(piece.x0, x0);
    piece.x1 = Math.max(piece.x1, x1);
    piece.y0 = Math.min(piece.y0, y);
    piece.y1 = Math.max(piece.y1, y + 1);
  }
  return piece;
}

/** Groups of pieces that are one above the other. @param {Piece[]} pieces @returns {Piece[][]} */
function groupColumns(pieces) {
  /** @type {Piece[][]} */ let groups = [];
  for (const piece of pieces) {
    const over = groups.filter((group) => group.some((other) => shareColumns(piece, other)));
    groups = groups.filter((group) => !over.includes(group));
    groups.push([piece, ...over.flat()]);
  }
  return groups;
}

/** @param {Piece} a @param {Piece} b */
function shareColumns(a, b) {
  return Math.min(a.x1, b.x1) - Math.max(a.x0, b.x0) > 0.5 * Math.min(a.x1 - a.x0, b.x1 - b.x0);
}

/** Number of pixels in each column from piece.x0 on. @param {Piece} piece */
function columnWidths(piece) {
  const steps = new Int32Array(piece.x1 - piece.x0 + 1);
  for (const { x0, x1 } of piece.runs) {
    steps[x0 - piece.x0]++;
    steps[x1 - piece.x0]--;
  }
  for (let n = 1; n < steps.length; n++) steps[n] += steps[n - 1];
  return steps.subarray(0, -1);
}

/** The column that separates two touching lungs; null where it is one lung. @param {Piece} piece @param {number} width */
function findCut(piece, width) {
  const widths = columnWidths(piece);
  const span = widths.length;
  const third = Math.floor(span / 3);
  const middle = widths.subarray(third, span - third);
  const least = Math.min(...middle);
  const narrowest = [...middle.keys()].filter((n) => middle[n] === least);
  const column = third + narrowest[Math.floor(narrowest.length / 2)];
  const lowerPeak = Math.min(Math.max(0, ...widths.subarray(0, column)), Math.max(...widths.subarray(column)));
  if (widths[column] < VALLEY * lowerPeak) return piece.x0 + column;
  return span > Math.max(1, WIDE * width) ? piece.x0 + Math.floor(span / 2) : null;
}

/** The column of the centroid. @param {Piece} piece */
function centre(piece) {
  let sum = 0;
  for (const { x0, x1 } of piece.runs) sum += ((x0 + x1 - 1) / 2) * (x1 - x0);
  return sum / piece.size;
}

/** The parts of runs within the columns [from, to). @param {Run[]} runs @param {number} from @param {number} to */
function clip(runs, from, to) {
  return runs
    .map(({ y, x0, x1 }) => ({ y, x0: Math.max(x0, from), x1: Math.min(x1, to) }))
    .filter(({ x0, x1 }) => x0 < x1);
}

/** The left and right lung: separated at the widest gap of the centroids. @param {Piece[]} groups @returns {Piece[]} */
function twoSides(groups) {
  const sorted = [...groups].sort((a, b) => centre(a) - centre(b));
  let part = 1;
  for (let n = 2; n < sorted.length; n++) {
    if (gap(sorted, n) > gap(sorted, part)) part = n;
  }
  return [merge(sorted.slice(part)), merge(sorted.slice(0, part))];
}

/** @param {Piece[]} sorted @param {number} n */
const gap = (sorted, n) => centre(sorted[n]) - centre(sorted[n - 1]);

/** Runs of the islands that belong to the left and to the right lung. @param {Piece[]} islands @param {Piece} left
 * @param {Piece} right @returns {[Run[], Run[]]} */
function giveIslands(islands, left, right) {
  /** @type {[Run[], Run[]]} */ const given = [[], []];
  for (const island of islands) {
    const x = (island.x0 + island.x1 - 1) / 2;
    const y = (island.y0 + island.y1 - 1) / 2;
    given[distance(x, y, left) < distance(x, y, right) ? 0 : 1].push(...island.runs);
  }
  return given;
}

/** Squared distance of a point to the nearest pixel of a piece. @param {number} x @param {number} y @param {Piece} piece */
function distance(x, y, piece) {
  let best = Infinity;
  for (const run of piece.runs) {
    // A point may lie half a pixel between two columns, so the nearest whole pixel within the run is taken.
    const nearest = x < run.x0 ? run.x0 : x > run.x1 - 1 ? run.x1 - 1 : Math.floor(x);
    best = Math.min(best, (nearest - x) ** 2 + (run.y - y) ** 2);
  }
  return best;
}

/** Paint upper, middle and lower thirds of a lung's height. @param {Uint8Array} zones @param {number} width
 * @param {Run[]} runs @param {Piece} body  gives the height, without islands @param {number} first  zone's number */
function paintZones(zones, width, runs, body, first) {
  const third = (body.y1 - body.y0) / 3;
  const middle = body.y0 + Math.round(third);
  const lower = body.y0 + Math.round(2 * third);
  for (const { y, x0, x1 } of runs) {
    zones.fill(first + (y < middle ? 0 : y < lower ? 1 : 2), y * width + x0, y * width + x1);
  }
}
