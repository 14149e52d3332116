// Keys, and the dialog that lists them.

import { byId, make } from "./dom.js";
import { sortFilms } from "./images_panel.js";

/**
 * @typedef {import("./film.js").Film} Film
 * @typedef {import("./store.js").Store} Store
 * @typedef {{keys: string[], shown: string, text: string, act: () => void}} Shortcut  keys as KeyboardEvent.key has them.
 */

const REMEMBERED = "cxrseg.single-keys";

/**
 * @param {Store} store @param {import("./stage.js").Stage} stage @param {import("./painting.js").Painting} painting
 * @param {{select: (film: Film) => void, save: () => void}} acts
 */
export function bindShortcuts(store, stage, painting, { select, save }) {
  const dialog = byId("help-dialog", HTMLDialogElement);
  const single = byId("single-keys", HTMLInputElement);
  single.checked = localStorage.getItem(REMEMBERED) !== "off";
  single.addEventListener("change", () => localStorage.setItem(REMEMBERED, single.checked ? "on" : "off"));

  const step = (/** @type {number} */ by) => {
    const films = sortFilms(store.state);
    const at = store.state.film ? films.indexOf(store.state.film) : -1;
    const next = films[Math.min(films.length - 1, Math.max(0, at + by))];
    if (next) select(next);
  };
  const flip = (/** @type {"masks"|"lungs"|"inverted"|"colour"|"outline"} */ key) => store.set({ [key]: !store.state[key] });
  const threshold = (/** @type {number} */ by) =>
    store.set({ threshold: Math.min(0.99, Math.max(0.01, Math.round(100 * (store.state.threshold + by)) / 100)) });
  const brush = (/** @type {number} */ factor) =>
    store.set({ brush: Math.min(120, Math.max(1, Math.round(store.state.brush * factor + Math.sign(factor - 1)))) });

  /** @type {Shortcut[]} */
  const shortcuts = [
    { keys: ["n"], shown: "N", text: "Next image", act: () => step(1) },
    { keys: ["p"], shown: "P", text: "Previous image", act: () => step(-1) },
    { keys: ["h"], shown: "H", text: "Move", act: () => store.set({ tool: "pan" }) },
    { keys: ["b"], shown: "B", text: "Brush", act: () => store.set({ tool: "brush" }) },
    { keys: ["e"], shown: "E", text: "Eraser", act: () => store.set({ tool: "eraser" }) },
    { keys: ["f"], shown: "F", text: "Fill", act: () => store.set({ tool: "fill" }) },
    { keys: ["i"], shown: "I", text: "Correct the infection", act: () => store.set({ target: "infection" }) },
    { keys: ["l"], shown: "L", text: "Correct the lungs", act: () => store.set({ target: "lungs" }) },
    { keys: ["["], shown: "[", text: "Smaller brush", act: () => brush(0.8) },
    { keys: ["]"], shown: "]", text: "Larger brush", act: () => brush(1.25) },
    { keys: ["m"], shown: "M", text: "Masks on and off", act: () => flip("masks") },
    { keys: ["c"], shown: "C", text: "Colour on and off", act: () => flip("colour") },
    { keys: ["x"], shown: "X", text: "Invert", act: () => flip("inverted") },
    { keys: [","], shown: ",", text: "Lower the threshold", act: () => threshold(-0.01) },
    { keys: ["."], shown: ".", text: "Raise the threshold", act: () => threshold(0.01) },
    { keys: ["1"], shown: "1", text: "One film", act: () => store.set({ layout: "single" }) },
    { keys: ["2"], shown: "2", text: "Model and corrected", act: () => store.set({ layout: "compare" }) },
    { keys: ["3"], shown: "3", text: "Two films", act: () => store.set({ layout: "pair" }) },
    { keys: ["+", "="], shown: "+", text: "Zoom in", act: () => stage.zoom(1.25) },
    { keys: ["-"], shown: "-", text: "Zoom out", act: () => stage.zoom(0.8) },
    { keys: ["0"], shown: "0", text: "Fit", act: () => stage.fit() },
    { keys: ["s"], shown: "S", text: "Save as training pair", act: save },
    { keys: ["?"], shown: "?", text: "This help", act: () => dialog.showModal() },
  ];
  const fixed = [["Ctrl Z", "Undo"], ["Ctrl Shift Z", "Redo"], ["Arrows", "On the film: move it, or the brush"], ["Space", "On the film: paint"]];
  const rows = [...shortcuts.map(({ shown, text }) => [shown, text]), ...fixed];
  byId("keys").replaceChildren(...rows.map(([keys, text]) => make("p", {}, text, make("kbd", {}, keys))));
  byId("help").addEventListener("click", () => dialog.showModal());

  addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || event.altKey) return;
    if (event.ctrlKey || event.metaKey) {
      const key = event.key.toLowerCase();
      if (key !== "z" && key !== "y") return;
      event.preventDefault();
      if (key === "y" || event.shiftKey) painting.redo();
      else painting.undo();
      return;
    }
    const typed = event.target instanceof HTMLElement && event.target.closest("select, input:not([type=range], [type=checkbox])");
    const found = shortcuts.find(({ keys }) => keys.includes(event.key.toLowerCase()));
    if (!found || typed || !single.checked) return;
    event.preventDefault();
    found.act();
  });
}
