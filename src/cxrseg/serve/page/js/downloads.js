// Files that the page makes: masks, overlay, findings.

import { drawLayers, Layers } from "./layers.js";
import { percent } from "./dom.js";
import { ZONES } from "./lungs.js";

/**
 * @typedef {import("./film.js").Film} Film
 * @typedef {import("./store.js").State} State
 */

export const NOTICE = "Research use only. Not for diagnosis.";

/** @param {Blob} blob @param {string} name */
export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** A film's name without its ending. @param {Film} film */
export const stemOf = (film) => film.name.replace(/^.*[\\/]/, "").replace(/\.[^.]+$/, "") || "film";

const LEAST_SIDE = 640;

/** The film with its masks as they are shown, and the figures below it. @param {Film} film @param {State} state
 * @returns {Promise<Blob>} */
export async function overlayFile(film, state) {
  const scale = Math.max(1, Math.ceil(LEAST_SIDE / Math.max(film.width, film.height)));
  const [width, height] = [film.width * scale, film.height * scale];
  const size = Math.max(14, Math.round(width / 48));
  const lines = captionOf(film, state);
  const canvas = new OffscreenCanvas(width, height + Math.round(size * (1.5 * lines.length + 1)));
  const context = canvas.getContext("2d");
  if (!context) throw new Error("This browser has no canvas to draw with.");
  context.fillStyle = "#101010";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const layers = new Layers(film, true);
  layers.update(state);
  context.save();
  context.beginPath();
  context.rect(0, 0, width, height);
  context.clip();
  context.scale(scale, scale);
  drawLayers(context, layers, state, scale, Math.max(1.5, width / 450));
  context.restore();
  context.fillStyle = "#f0f0f0";
  context.font = `${size}px system-ui, sans-serif`;
  lines.forEach((line, n) => context.fillText(line, size, height + size * 1.5 * (n + 1), width - 2 * size));
  return canvas.convertToBlob({ type: "image/png" });
}

/** @param {Film} film @param {State} state @returns {string[]} */
function captionOf(film, { threshold }) {
  const found = film.severity(threshold);
  if (!found) return [film.name, NOTICE];
  const score = found.extent_score === null ? "unknown" : `${found.extent_score} of 8 (${found.grade})`;
  return [
    `${film.name}${film.corrected ? " (corrected by hand)" : ""}`,
    `Infected: ${percent(found.infected_fraction)} of the lungs (right ${percent(found.infected_fraction_right)}, left ${percent(found.infected_fraction_left)})`,
    `Extent score: ${score}. Threshold ${threshold.toFixed(2)}, model ${film.row.model ?? "unknown"}`,
    NOTICE,
  ];
}

/** The figures of a film under the names of the service's JSON. @param {Film} film @param {number} threshold
 * @returns {Record<string, unknown>} */
export function findingsOf(film, threshold) {
  const found = film.severity(threshold);
  const { zones, ...rest } = found ?? { zones: null };
  const named = Object.fromEntries(ZONES.map((zone) => [`infected_fraction_${zone}`, zones?.[zone] ?? null]));
  const figures = Object.entries({ ...named, ...rest }).map(([name, value]) => [name, rounded(value)]);
  return {
    ...film.row,
    name: film.name,
    status: film.status,
    reason: film.reason,
    warnings: film.warnings,
    ...Object.fromEntries(figures),
    expected_dice: expectedDiceOf(film, threshold),
    threshold: film.ok ? threshold : null,
    corrected: film.corrected,
    disclaimer: NOTICE,
  };
}

/** The Dice that the model expects, which holds for its own mask only. @param {Film} film @param {number} threshold
 * @returns {number|null} */
export const expectedDiceOf = (film, threshold) =>
  film.corrected || threshold !== film.row.threshold ? null : film.row.expected_dice ?? null;

/** Six digits, as the service gives. @param {unknown} value */
const rounded = (value) => (typeof value === "number" ? Math.round(1e6 * value) / 1e6 : value);

/** @param {Film} film @param {number} threshold @returns {Blob} */
export function jsonFile(film, threshold) {
  return new Blob([JSON.stringify(findingsOf(film, threshold), null, 2), "\n"], { type: "application/json" });
}

/** One row for each film. @param {Film[]} films @param {number} threshold @returns {Blob} */
export function csvFile(films, threshold) {
  const rows = films.map((film) => findingsOf(film, threshold));
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row).filter((key) => isPlain(row[key]))))];
  const lines = [columns, ...rows.map((row) => columns.map((column) => row[column]))];
  return new Blob([lines.map((line) => `${line.map(cell).join(",")}\r\n`).join("")], { type: "text/csv" });
}

/** @param {unknown} value */
const isPlain = (value) => value === null || Array.isArray(value) || typeof value !== "object";

/** A cell of a CSV file; what a spreadsheet would take for a formula begins with an apostrophe. @param {unknown} value */
function cell(value) {
  const text = value === null || value === undefined ? "" : Array.isArray(value) ? value.join("; ") : String(value);
  const safe = typeof value !== "number" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
