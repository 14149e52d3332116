// The file of a mask: as a download, and for the service.

import { encodeGrey } from "./png.js";

/**
 * A mask as it stands, 0 and 255, on the pixels of the film as it is shown.
 * @param {import("./film.js").Film} film
 * @param {import("./corrections.js").Target} target
 * @param {number} threshold
 * @returns {Promise<Blob>}  an 8-bit grey PNG.
 */
export function maskFile(film, target, threshold) {
  const mask = film.mask(target, threshold);
  return encodeGrey(mask.map((value) => 255 * value), film.width, film.height);
}
