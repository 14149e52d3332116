// Brush, eraser and fill on the film that is shown, by pointer and by keys.

import { CLEAR, MARK, regionAt } from "./corrections.js";
import { say } from "./dom.js";

/** @typedef {import("./film_view.js").FilmView} FilmView @typedef {import("./store.js").Store} Store */

export class Painting {
  /** @param {Store} store */
  constructor(store) {
    this.store = store;
    /** The last point of the stroke, in pixels of the film. @type {{x: number, y: number}|null} */ this.last = null;
  }

  get possible() {
    const { film, tool } = this.store.state;
    return Boolean(film?.ok && film.pixels) && tool !== "pan";
  }

  /** Begin a stroke, or fill. @param {{x: number, y: number}} point  in pixels of the film */
  start(point) {
    const { film, tool, target } = this.store.state;
    if (!film || !this.possible) return;
    if (tool === "fill") {
      this.fill(point);
      return;
    }
    film.edit().begin(target);
    this.last = point;
    this.move(point);
  }

  /** @param {{x: number, y: number}} point */
  move(point) {
    const { film, tool, brush } = this.store.state;
    if (!film || !this.last) return;
    film.edit().line(this.last.x, this.last.y, point.x, point.y, brush / 2, tool === "eraser" ? CLEAR : MARK);
    this.last = point;
    film.version++;
    this.store.touch();
  }

  end() {
    const { film, target } = this.store.state;
    if (!film || !this.last) return;
    this.last = null;
    film.edit().end();
    this.changed(target);
  }

  cancel() {
    const { film, target } = this.store.state;
    if (!film || !this.last) return;
    this.last = null;
    film.edit().cancel();
    this.changed(target);
  }

  /** Mark a hole, or remove a marked piece. @param {{x: number, y: number}} point */
  fill(point) {
    const { film, target, threshold } = this.store.state;
    const [x, y] = [Math.floor(point.x), Math.floor(point.y)];
    if (!film || x < 0 || y < 0 || x >= film.width || y >= film.height) return;
    const mask = film.mask(target, threshold);
    const region = regionAt(mask, film.width, film.height, x, y);
    if (!region) {
      say("This place is not enclosed. Click inside a closed outline to fill it, or on a marked piece to remove it.");
      return;
    }
    film.edit().begin(target);
    film.edit().region(region, mask[y * film.width + x] ? CLEAR : MARK);
    film.edit().end();
    this.changed(target);
  }

  undo() {
    this.step(this.store.state.film?.corrections?.undo());
  }

  redo() {
    this.step(this.store.state.film?.corrections?.redo());
  }

  reset() {
    const { film } = this.store.state;
    if (!film?.corrected) return;
    film.edit().reset();
    this.changed("lungs");
    say("Corrections removed. Undo brings them back.");
  }

  /** @param {import("./corrections.js").Target|null|undefined} target */
  step(target) {
    if (target) this.changed(target);
  }

  /** Count and draw again. @param {import("./corrections.js").Target} target */
  changed(target) {
    const { film } = this.store.state;
    if (!film) return;
    film.count(target === "lungs");
    film.saved = false;
    this.store.touch();
  }
}
