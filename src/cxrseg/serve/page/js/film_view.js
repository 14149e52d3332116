// A canvas that shows a film. Panes share a viewport, so that they pan and zoom together.

import { drawLayers, Layers } from "./layers.js";

/**
 * @typedef {import("./film.js").Film} Film
 * @typedef {import("./store.js").State} State
 * @typedef {{zoom: number, x: number, y: number}} Viewport  zoom 1 fits the film into its pane; (x, y) is the point of
 *   the film in the pane's middle, as fractions of its width and height.
 */

export const LEAST_ZOOM = 0.5;
export const MOST_ZOOM = 40;

export class FilmView {
  /** @param {HTMLCanvasElement} canvas @param {Viewport} viewport */
  constructor(canvas, viewport) {
    this.canvas = canvas;
    this.viewport = viewport;
    /** @type {Layers|null} */ this.layers = null;
    /** Where the brush is, in pixels of the film. @type {{x: number, y: number, radius: number}|null} */
    this.brush = null;
  }

  /** The film that is shown. */
  get film() {
    return this.layers?.film ?? null;
  }

  /** @param {Film|null} film @param {boolean} corrected */
  show(film, corrected) {
    if (!film?.pixels) this.layers = null;
    else if (this.layers?.pixels !== film.pixels || this.layers.corrected !== corrected) {
      this.layers = new Layers(film, corrected);
    }
  }

  /** Where the film lies on the canvas, in CSS pixels. */
  get frame() {
    const { width, height } = this.film ?? { width: 1, height: 1 };
    const { clientWidth, clientHeight } = this.canvas;
    const scale = Math.min(clientWidth / width, clientHeight / height) * this.viewport.zoom;
    return {
      scale,
      left: clientWidth / 2 - this.viewport.x * width * scale,
      top: clientHeight / 2 - this.viewport.y * height * scale,
    };
  }

  /** A point of the canvas (CSS pixels) in pixels of the film. @param {number} x @param {number} y */
  toFilm(x, y) {
    const { scale, left, top } = this.frame;
    return { x: (x - left) / scale, y: (y - top) / scale };
  }

  /** Move by CSS pixels. @param {number} dx @param {number} dy */
  panBy(dx, dy) {
    const { film, viewport } = this;
    if (!film) return;
    const { scale } = this.frame;
    viewport.x = clamp(viewport.x - dx / scale / film.width, 0, 1);
    viewport.y = clamp(viewport.y - dy / scale / film.height, 0, 1);
  }

  /** Zoom so that the point (x, y) of the canvas stays where it is. @param {number} factor @param {number} x
   * @param {number} y */
  zoomAt(factor, x, y) {
    const before = this.toFilm(x, y);
    this.viewport.zoom = clamp(this.viewport.zoom * factor, LEAST_ZOOM, MOST_ZOOM);
    const after = this.toFilm(x, y);
    const { scale } = this.frame;
    this.panBy((after.x - before.x) * scale, (after.y - before.y) * scale);
  }

  /** @param {State} state */
  draw(state) {
    const { canvas } = this;
    const ratio = globalThis.devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const context = canvas.getContext("2d");
    if (!context) return;
    context.resetTransform();
    context.clearRect(0, 0, width, height);
    if (!this.layers) return;
    this.layers.update(state);
    const { scale, left, top } = this.frame;
    context.setTransform(scale * ratio, 0, 0, scale * ratio, left * ratio, top * ratio);
    drawLayers(context, this.layers, state, scale * ratio, 1.75 * ratio);
    if (this.brush) drawBrush(context, this.brush, scale);
  }
}

/** @param {CanvasRenderingContext2D} context @param {{x: number, y: number, radius: number}} brush
 * @param {number} scale  CSS pixels for one of the film */
function drawBrush(context, { x, y, radius }, scale) {
  for (const [width, colour] of /** @type {[number, string][]} */ ([[3, "#000"], [1.25, "#fff"]])) {
    context.beginPath();
    context.arc(x, y, Math.max(radius, 2 / scale), 0, 2 * Math.PI);
    context.lineWidth = width / scale;
    context.strokeStyle = colour;
    context.stroke();
  }
}

/** @param {number} value @param {number} least @param {number} most */
const clamp = (value, least, most) => Math.min(most, Math.max(least, value));
