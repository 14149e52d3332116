// The folder that the service was started with: its images, and which one to correct next.

import { byId, say } from "./dom.js";
import { Film } from "./film.js";

/**
 * @typedef {import("./service.js").Service} Service
 * @typedef {import("./service.js").FolderImage} FolderImage
 */

/**
 * @param {Service} service
 * @param {(films: Film[]) => void} add  to the list.
 * @param {(film: Film) => void} open  add a film where it is new, and show it.
 * @returns {Promise<{refresh: () => Promise<void>}>}
 */
export async function bindFolder(service, add, open) {
  /** @type {Map<string, Film>} */ const films = new Map();
  const filmOf = (/** @type {FolderImage} */ image) => {
    let film = films.get(image.id);
    if (!film) films.set(image.id, (film = new Film(image.name, { kind: "folder", id: image.id })));
    film.saved ||= image.corrected;
    return film;
  };
  const refresh = async () => {
    const images = await service.images();
    const corrected = images.filter((image) => image.corrected).length;
    byId("server-folder-text").textContent = `Service's folder: ${images.length} images, ${corrected} corrected`;
  };
  byId("server-folder").hidden = false;
  byId("next").addEventListener("click", () => {
    service.next().then(({ image }) => open(filmOf(image))).catch((error) => say(error.message, "problem"));
  });
  byId("open-all").addEventListener("click", () => {
    const known = new Set(films.values());
    service.images()
      .then((images) => add(images.map(filmOf).filter((film) => !known.has(film))))
      .catch((error) => say(error.message, "problem"));
  });
  await refresh();
  return { refresh };
}
