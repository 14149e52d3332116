// The figures of the film that is shown.

import { expectedDiceOf } from "./downloads.js";
import { asSentence, byId, make, percent } from "./dom.js";

/**
 * @typedef {import("./film.js").Film} Film
 * @typedef {import("./store.js").Store} Store
 * @typedef {import("./severity.js").Severity} Severity
 */

/** @param {Store} store */
export function showFindings(store) {
  const panel = byId("findings");
  let announced = 0;
  let unfolded = false;
  store.on(["film", "changes", "threshold"], ({ film, threshold }) => {
    panel.replaceChildren(...contentOf(film, threshold, unfolded));
    panel.querySelector("details")?.addEventListener("toggle", (event) => {
      unfolded = /** @type {HTMLDetailsElement} */ (event.target).open;
    });
    byId("corrected-tag").hidden = !film?.corrected;
    byId("saved-tag").hidden = !film?.saved;
    clearTimeout(announced);
    announced = setTimeout(() => { // a slider that moves must not make a screen reader speak at every step
      byId("announce").textContent = spoken(film, threshold);
    }, 700);
  });
}

/** @param {Film|null} film @param {number} threshold */
function spoken(film, threshold) {
  const found = film?.ok ? film.severity(threshold) : null;
  if (!film || !found) return film?.reason ?? "";
  return `${film.name}: ${percent(found.infected_fraction)} of the lungs infected at threshold ${threshold.toFixed(2)}`;
}

/** @param {Film|null} film @param {number} threshold @param {boolean} unfolded @returns {HTMLElement[]} */
function contentOf(film, threshold, unfolded) {
  if (!film) return [make("p", { class: "placeholder" }, "Add an image to see how much of the lungs is infected.")];
  if (film.status === "waiting" || film.status === "running") {
    return [make("p", { class: "placeholder" }, "The image is being segmented.")];
  }
  if (!film.ok) {
    const title = film.status === "refused" ? "Refused: no mask was made" : "Not segmented";
    return [
      make("div", { class: "note bad" }, make("b", {}, title), make("p", {}, asSentence(film.reason))),
      ...(film.warnings.length ? [warningsOf(film)] : []),
      make("p", { class: "placeholder" }, adviceOf(film)),
    ];
  }
  const found = film.severity(threshold);
  if (!found) return [make("p", { class: "placeholder" }, "The infection is being measured.")];
  const model = film.corrected ? film.severity(threshold, false) : null;
  return [
    headline(found, model),
    zonesTable(found),
    ...(film.warnings.length ? [warningsOf(film)] : []),
    details(film, found, threshold, unfolded),
  ];
}

/** @param {Film} film */
const adviceOf = (film) =>
  film.status === "refused"
    ? "An image without a mask says nothing about the lungs. Only frontal chest X-rays are segmented."
    : "Remove the cause, then add the file again.";

/** @param {Severity} found @param {Severity|null} model */
function headline(found, model) {
  const score = found.extent_score === null ? "unknown" : String(found.extent_score);
  return make(
    "div", { class: "headline" },
    make("div", {},
      make("div", { class: "value", id: "infected-fraction" }, percent(found.infected_fraction)),
      make("div", { class: "label" }, model ? `of the lungs infected (model: ${percent(model.infected_fraction)})` : "of the lungs infected"),
    ),
    make("div", { class: "score" },
      make("div", { class: "value", id: "extent-score" }, score, found.extent_score === null ? null : make("small", {}, " of 8")),
      make("div", { class: "label" }, found.grade ? `extent, ${found.grade}` : "extent"),
    ),
  );
}

/** Right and left stand as on the film. @param {Severity} found */
function zonesTable(found) {
  const row = (/** @type {string} */ name, /** @type {number|null} */ right, /** @type {number|null} */ left, kind = "") =>
    make("tr", { class: kind }, make("th", { scope: "row" }, name), zone(right), zone(left));
  const zones = found.zones;
  return make(
    "table", { class: "zones" },
    make("caption", { class: "hidden" }, "Infected fraction of each lung and zone"),
    make("thead", {}, make("tr", {}, make("td", { class: "corner" }), make("th", { scope: "col" }, "Right lung"), make("th", { scope: "col" }, "Left lung"))),
    make("tbody", {},
      row("Upper", zones.right_upper, zones.left_upper),
      row("Middle", zones.right_middle, zones.left_middle),
      row("Lower", zones.right_lower, zones.left_lower),
      row("Whole", found.infected_fraction_right, found.infected_fraction_left, "whole"),
    ),
  );
}

/** @param {number|null} fraction */
function zone(fraction) {
  const bar = make("i");
  bar.style.width = percent(fraction ?? 0);
  return make("td", {}, percent(fraction), bar);
}

/** @param {Film} film */
function warningsOf(film) {
  return make("ul", { class: "note", "aria-label": "Warnings" }, ...film.warnings.map((text) => make("li", {}, asSentence(text))));
}

/** @param {Film} film @param {Severity} found @param {number} threshold @param {boolean} unfolded */
function details(film, found, threshold, unfolded) {
  const { row } = film;
  const area = found.infected_area_mm2;
  const facts = [
    ["Infected area", area === null ? "unknown: the file has no pixel size" : `${(area / 100).toFixed(1)} cm²`],
    ["Expected Dice", estimate(expectedDiceOf(film, threshold))],
    ["COVID-19", number(row.probability_covid19)],
    ["Other pneumonia", number(row.probability_non_covid)],
    ["Normal", number(row.probability_normal)],
    ["Size", `${row.width} × ${row.height} pixels`],
    ["Task", row.task],
    ["Threshold", threshold.toFixed(2)],
    ["Model", row.model && [row.model, row.model_version].filter(Boolean).join(" ")],
    ["Steps", Array.isArray(row.steps) ? row.steps.join("; ") : row.steps],
  ].filter(([, value]) => value !== undefined && value !== null && value !== "");
  return make(
    "details", { open: unfolded }, make("summary", {}, "Details"),
    make("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))])),
  );
}

/** @param {unknown} value */
const estimate = (value) => (value === null ? null : `${number(value)}, the model's own estimate`);

/** @param {unknown} value */
const number = (value) => (typeof value === "number" ? value.toFixed(2) : null);
