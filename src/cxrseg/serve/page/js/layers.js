// The drawn layers of one film: grey values, colour of the infection, outlines. Each is drawn again only when it must be.

import { contourOf } from "./contour.js";

/** Colours of the masks (Okabe and Ito), as in every picture of cxrseg. */
export const INFECTION = [213, 94, 0];
export const LUNGS = [86, 180, 233];

/**
 * @typedef {import("./film.js").Film} Film
 * @typedef {import("./store.js").State} State
 */

export class Layers {
  /** @param {Film} film  with decoded pictures @param {boolean} corrected  draw the corrected masks, or the model's. */
  constructor(film, corrected) {
    this.film = film;
    this.pixels = /** @type {import("./film.js").Pixels} */ (film.pixels);
    this.corrected = corrected;
    this.grey = new OffscreenCanvas(film.width, film.height);
    this.colour = new OffscreenCanvas(film.width, film.height);
    this.infection = new Path2D();
    this.lungs = new Path2D();
    this.drawn = { grey: "", infection: "", lungs: "" };
  }

  /** Bring all layers up to date. @param {State} state */
  update(state) {
    if (!this.film.pixels) return;
    const grey = [state.window, state.level, state.inverted].join();
    if (this.drawn.grey !== grey) this.drawGrey(state);
    const version = this.corrected ? this.film.version : 0;
    const infection = [state.threshold, version].join();
    if (this.film.ok && this.drawn.infection !== infection) this.drawInfection(state.threshold);
    if (this.film.ok && this.drawn.lungs !== String(version)) this.drawLungs(state.threshold);
    this.drawn = { grey, infection, lungs: String(version) };
  }

  /** @param {State} state */
  drawGrey({ window, level, inverted }) {
    const { image } = this.pixels;
    const shades = greyTable(window, level, inverted);
    this.paint(this.grey, (rgba) => {
      for (let n = 0; n < image.length; n++) rgba[n] = shades[image[n]];
    });
  }

  /** @param {number} threshold */
  drawInfection(threshold) {
    const mask = this.film.mask("infection", threshold, this.corrected);
    const ink = inkOf(INFECTION);
    this.paint(this.colour, (rgba) => {
      for (let n = 0; n < mask.length; n++) rgba[n] = mask[n] ? ink : 0;
    });
    this.infection = contourOf(mask, this.film.width, this.film.height);
  }

  /** @param {number} threshold */
  drawLungs(threshold) {
    this.lungs = contourOf(this.film.mask("lungs", threshold, this.corrected), this.film.width, this.film.height);
  }

  /** @param {OffscreenCanvas} canvas @param {(rgba: Uint32Array) => void} fill */
  paint(canvas, fill) {
    const context = canvas.getContext("2d");
    if (!context) return;
    const data = context.createImageData(canvas.width, canvas.height);
    fill(new Uint32Array(data.data.buffer));
    context.putImageData(data, 0, 0);
  }
}

/** For each grey value 0 to 255 the four bytes to show. @param {number} window @param {number} level
 * @param {boolean} inverted @returns {Uint32Array} */
export function greyTable(window, level, inverted) {
  return Uint32Array.from({ length: 256 }, (_, value) => {
    const shade = Math.round(255 * Math.min(1, Math.max(0, (value - level) / window + 0.5)));
    const shown = inverted ? 255 - shade : shade;
    return inkOf([shown, shown, shown]);
  });
}

/** An opaque colour as the number that an image's bytes hold (little-endian, as on all processors with a browser).
 * @param {number[]} colour */
const inkOf = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;

/**
 * Draw the layers into a context whose unit is a pixel of the film.
 * @param {CanvasRenderingContext2D|OffscreenCanvasRenderingContext2D} context
 * @param {Layers} layers
 * @param {State} state
 * @param {number} scale  pixels of the context's canvas for one of the film, so that lines have one width at any zoom.
 * @param {number} line  width of the outlines in pixels of the context's canvas.
 */
export function drawLayers(context, layers, state, scale, line) {
  context.imageSmoothingEnabled = scale < 6; // from here on, single pixels are what one wants to see
  context.imageSmoothingQuality = "high";
  context.drawImage(layers.grey, 0, 0);
  if (!layers.film.ok || !state.masks) return;
  if (state.colour) {
    context.globalAlpha = state.opacity;
    context.drawImage(layers.colour, 0, 0);
    context.globalAlpha = 1;
  }
  if (state.lungs) stroke(context, layers.lungs, LUNGS, line / scale);
  if (state.outline) stroke(context, layers.infection, INFECTION, line / scale);
}

/** A coloured line on a thin dark rim, which is seen on bright and on dark ground. @param {CanvasRenderingContext2D|
 * OffscreenCanvasRenderingContext2D} context @param {Path2D} path @param {number[]} colour @param {number} width */
function stroke(context, path, colour, width) {
  context.lineJoin = "round";
  context.lineWidth = 2 * width;
  context.strokeStyle = "rgb(0 0 0 / 45%)";
  context.stroke(path);
  context.lineWidth = width;
  context.strokeStyle = `rgb(${colour.join(" ")})`;
  context.stroke(path);
}
