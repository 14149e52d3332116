// The choice of the second film in the layout with two films.

import { byId, make } from "./dom.js";

/** @typedef {import("./film.js").Film} Film @typedef {import("./store.js").Store} Store */

/** @param {Store} store */
export function bindSecondFilm(store) {
  const other = byId("other", HTMLSelectElement);
  const choose = async (/** @type {Film|null} */ film) => {
    const before = store.state.other;
    await film?.load();
    store.set({ other: film });
    if (before !== film && before !== store.state.film) before?.unload();
    store.touch();
  };
  store.on(["films", "film", "layout", "other", "changes"], ({ films, film, layout, other: chosen }) => {
    if (layout !== "pair") return;
    const choices = films.filter((one) => one !== film);
    if (!chosen || !choices.includes(chosen)) {
      if (choices.length && choices[0] !== chosen) void choose(choices[0]);
      return;
    }
    const options = choices.map((one) => make("option", { value: one.id, selected: one === chosen }, one.name));
    if (options.length !== other.length || options.some((option, n) => option.value !== other.options[n].value)) {
      other.replaceChildren(...options);
    }
    other.value = chosen.id;
  });
  other.addEventListener("change", () => void choose(store.state.films.find(({ id }) => id === other.value) ?? null));
}
