// The list of images, and adding to it: by drop, by file or folder, synthetic films, and a folder on the service's side.

import { byId, icon, make, percent } from "./dom.js";

/**
 * @typedef {import("./film.js").Film} Film
 * @typedef {import("./store.js").Store} Store
 * @typedef {import("./store.js").State} State
 */

/** @param {Store} store @param {(film: Film) => void} select */
export function showImages(store, select) {
  const list = byId("list", HTMLUListElement);
  /** @type {Map<Film, ReturnType<typeof makeEntry>>} */ const entries = new Map();
  store.on(["films", "film", "sort", "threshold", "changes"], (state) => {
    const sorted = sortFilms(state);
    for (const film of sorted) {
      if (!entries.has(film)) entries.set(film, makeEntry(film, select));
      entries.get(film)?.update(state);
    }
    for (const film of entries.keys()) if (!sorted.includes(film)) entries.delete(film);
    const items = sorted.map((film) => /** @type {ReturnType<typeof makeEntry>} */ (entries.get(film)).item);
    if (items.some((item, n) => list.children[n] !== item) || list.children.length !== items.length) {
      keepFocus(() => list.replaceChildren(...items));
    }
    const left = state.films.filter(({ status }) => status === "waiting" || status === "running").length;
    byId("image-count").textContent = left ? `${state.films.length - left} of ${state.films.length}` : sorted.length ? String(sorted.length) : "";
  });
  const sort = byId("sort", HTMLSelectElement);
  sort.addEventListener("change", () => store.set({ sort: /** @type {State["sort"]} */ (sort.value) }));
}

/** The films in the order of the list. @param {State} state @returns {Film[]} */
export function sortFilms({ films, sort, threshold }) {
  if (sort === "added") return films;
  const names = new Intl.Collator(undefined, { numeric: true });
  if (sort === "name") return [...films].sort((a, b) => names.compare(a.name, b.name));
  const extent = (/** @type {Film} */ film) => film.severity(threshold)?.infected_fraction ?? -1;
  return [...films].sort((a, b) => rank(a) - rank(b) || extent(b) - extent(a));
}

/** Images that need a person first: not segmented, then with warnings. @param {Film} film */
function rank(film) {
  if (film.status === "refused" || film.status === "failed") return 0;
  return film.ok ? (film.warnings.length ? 1 : 2) : 3;
}

/** @param {Film} film @param {(film: Film) => void} select */
function makeEntry(film, select) {
  const thumb = make("span", { class: "thumb" }, icon("film"));
  const figures = make("span");
  const marks = make("span", { class: "marks" });
  const button = make(
    "button", { type: "button", title: film.name }, thumb, make("span", { class: "entry" }, make("b", {}, film.name), figures), marks,
  );
  button.addEventListener("click", () => select(film));
  const item = make("li", {}, button);
  return {
    item,
    /** @param {State} state */
    update({ film: shown, threshold }) {
      if (film.thumbnail && !thumb.querySelector("img")) {
        thumb.replaceChildren(make("img", { src: film.thumbnail, alt: "" }));
      }
      if (film === shown) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
      figures.textContent = lineOf(film, threshold);
      figures.classList.toggle("bad", film.status === "refused" || film.status === "failed");
      marks.replaceChildren(
        ...(film.ok && film.warnings.length ? [mark("warning", "has warnings")] : []),
        ...(film.corrected ? [mark("brush", "corrected")] : []),
        ...(film.saved ? [mark("check", "saved")] : []),
      );
    },
  };
}

/** @param {string} name  of the icon @param {string} text */
const mark = (name, text) => make("span", { "data-mark": name, title: text }, icon(name), make("span", { class: "hidden" }, text));

/** @param {Film} film @param {number} threshold */
function lineOf(film, threshold) {
  if (film.status === "waiting") return "waiting";
  if (film.status === "running") return "segmenting";
  if (!film.ok) return film.status;
  const found = film.severity(threshold);
  if (!found || found.infected_fraction === null) return "no lungs found";
  const score = found.extent_score === null ? "" : `, extent ${found.extent_score}`;
  return `${percent(found.infected_fraction)}${score}`;
}

/** Moving an element in the document takes the focus away. @param {() => void} act */
function keepFocus(act) {
  const focused = document.activeElement;
  act();
  if (focused instanceof HTMLElement && focused !== document.activeElement && focused.isConnected) {
    focused.focus({ preventScroll: true });
  }
}
