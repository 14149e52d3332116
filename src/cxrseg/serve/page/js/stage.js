// The dark area in the middle: one or two panes with films, what is said about them, and what one does on them.

import { asSentence, byId, make, percent } from "./dom.js";
import { FilmView } from "./film_view.js";
import { listen } from "./gestures.js";

/**
 * @typedef {import("./film.js").Film} Film
 * @typedef {import("./store.js").Store} Store
 * @typedef {import("./store.js").State} State
 * @typedef {import("./painting.js").Painting} Painting
 */

const STEP = 40; // CSS pixels that an arrow key moves the film
const ZOOM = 1.25;

export class Stage {
  /** @param {Store} store @param {Painting} painting */
  constructor(store, painting) {
    this.store = store;
    this.painting = painting;
    this.viewport = { zoom: 1, x: 0.5, y: 0.5 };
    this.views = [1, 2].map((n) => new FilmView(byId(`canvas-${n}`, HTMLCanvasElement), this.viewport));
    this.asked = false;
    for (const view of this.views) this.listen(view);
    new ResizeObserver(() => this.redraw()).observe(byId("films"));
    byId("zoom-in").addEventListener("click", () => this.zoom(ZOOM));
    byId("zoom-out").addEventListener("click", () => this.zoom(1 / ZOOM));
    byId("zoom-fit").addEventListener("click", () => this.fit());
    store.on(["film", "other", "layout", "changes", "threshold"], (state) => this.arrange(state));
    const drawn = /** @type {const} */ (["opacity", "colour", "outline", "lungs", "masks", "window", "level", "inverted"]);
    store.on([...drawn], () => this.redraw());
    store.on(["tool", "brush"], (state) => {
      for (const view of this.views) view.canvas.dataset.tool = state.tool;
      this.redraw();
    });
  }

  /** Put films into panes. @param {State} state */
  arrange(state) {
    const { film, other, layout } = state;
    const second = layout === "compare" ? film : layout === "pair" ? other : null;
    this.views[0].show(film, layout !== "compare");
    this.views[1].show(second, true);
    byId("pane-2").hidden = layout === "single";
    byId("films").dataset.panes = layout === "single" ? "1" : "2";
    byId("films").dataset.empty = String(state.films.length === 0);
    byId("empty").hidden = state.films.length > 0;
    this.describe(1, film, layout !== "compare", layout === "compare" ? "Model" : "");
    this.describe(2, second, true, layout === "compare" ? "Corrected" : "");
    byId("other-label").hidden = layout !== "pair";
    byId("caption-2").hidden = layout === "pair";
    showState(film);
    this.redraw();
  }

  /** @param {1|2} number @param {Film|null} film @param {boolean} corrected @param {string} title */
  describe(number, film, corrected, title) {
    const { threshold, layout } = this.store.state;
    const found = film?.ok ? film.severity(threshold, corrected) : null;
    const figures = found && found.infected_fraction !== null ? `${percent(found.infected_fraction)} infected` : "";
    byId(`caption-${number}`).textContent = title || film?.name || "";
    const change = number === 2 && layout === "pair" ? changeBetween(this.store.state, found) : "";
    byId(`figures-${number}`).textContent = figures + change;
    const name = film ? `${title ? `${title}: ` : ""}${film.name}. ${figures || film.reason || film.status}` : "No film";
    this.views[number - 1].canvas.setAttribute("aria-label", name);
    for (const side of byId(`pane-${number}`).querySelectorAll(".side")) side.toggleAttribute("hidden", !film?.ok);
  }

  /** Draw before the next frame. */
  redraw() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      for (const view of this.views) view.draw(this.store.state);
      byId("zoom-value").textContent = `${Math.round(100 * this.viewport.zoom)}%`;
      document.body.dataset.frames = String(Number(document.body.dataset.frames ?? 0) + 1);
    });
  }

  /** Whether a pane can be painted on: not the model's masks, nor the second film. @param {FilmView} view */
  paints(view) {
    return this.painting.possible && view === this.views[this.store.state.layout === "compare" ? 1 : 0];
  }

  /** @param {FilmView} view */
  listen(view) {
    const { store, painting } = this;
    listen(view.canvas, {
      paints: () => this.paints(view),
      pan: (dx, dy) => this.act(() => view.panBy(dx, dy)),
      zoom: (factor, x, y) => this.act(() => view.zoomAt(factor, x, y)),
      window: (dx, dy) =>
        store.set({
          window: Math.min(255, Math.max(1, store.state.window + dx)),
          level: Math.min(255, Math.max(0, store.state.level + dy / 2)),
        }),
      start: (x, y) => painting.start(view.toFilm(x, y)),
      move: (x, y) => painting.move(view.toFilm(x, y)),
      end: () => painting.end(),
      cancel: () => painting.cancel(),
      hover: (x, y) => this.hover(view, x === null || y === null ? null : view.toFilm(x, y)),
      key: (event) => this.key(view, event),
    });
    view.canvas.addEventListener("blur", () => this.hover(view, null));
  }

  /** Show the brush where the pointer is. @param {FilmView} view @param {{x: number, y: number}|null} point */
  hover(view, point) {
    const { tool, brush } = this.store.state;
    const shown = point && this.paints(view);
    view.brush = shown ? { ...point, radius: tool === "fill" ? 0 : brush / 2 } : null;
    this.redraw();
  }

  /** Arrow keys move the film, or the brush; Space paints. @param {FilmView} view @param {KeyboardEvent} event */
  key(view, event) {
    const arrow = ARROWS[event.key];
    if (!this.paints(view)) {
      if (arrow) this.act(() => view.panBy(-STEP * arrow[0], -STEP * arrow[1]));
      return Boolean(arrow);
    }
    const { film, brush } = this.store.state;
    if (!film) return false;
    const at = view.brush ?? { x: film.width / 2, y: film.height / 2 };
    if (event.key === " " || event.key === "Enter") {
      this.painting.start(at);
      this.painting.end();
      this.hover(view, at);
      return true;
    }
    if (!arrow) return false;
    const step = event.shiftKey ? 1 : Math.max(1, brush / 3);
    const x = Math.min(film.width, Math.max(0, at.x + step * arrow[0]));
    this.hover(view, { x, y: Math.min(film.height, Math.max(0, at.y + step * arrow[1])) });
    return true;
  }

  /** @param {() => void} change */
  act(change) {
    change();
    this.redraw();
  }

  /** @param {number} factor */
  zoom(factor) {
    const { clientWidth, clientHeight } = this.views[0].canvas;
    this.act(() => this.views[0].zoomAt(factor, clientWidth / 2, clientHeight / 2));
  }

  /** Show the whole film. */
  fit() {
    this.act(() => Object.assign(this.viewport, { zoom: 1, x: 0.5, y: 0.5 }));
  }
}

/** @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** How much less or more is infected on the second film. @param {State} state
 * @param {import("./severity.js").Severity|null} second */
function changeBetween({ film, threshold }, second) {
  const first = film?.ok ? film.severity(threshold)?.infected_fraction ?? null : null;
  if (first === null || !second || second.infected_fraction === null) return "";
  const points = 100 * (second.infected_fraction - first);
  return `, ${Math.abs(points).toFixed(1)} points ${points < 0 ? "less" : "more"} than the first`;
}

/** Say below the film why there are no masks. @param {Film|null} film */
function showState(film) {
  const box = byId("state");
  const said = film ? sentence(film) : null;
  box.hidden = said === null;
  box.dataset.kind = film?.status ?? "";
  box.replaceChildren(...(said ? said.map((text, n) => make(n ? "p" : "b", {}, text)) : []));
}

/** @param {Film} film @returns {string[]|null} */
function sentence(film) {
  switch (film.status) {
    case "waiting": return ["Waiting for other images"];
    case "running": return ["Segmenting"];
    case "refused": return ["Refused: no mask was made", asSentence(film.reason)];
    case "failed": return ["This image could not be segmented", asSentence(film.reason)];
    default: return null;
  }
}
