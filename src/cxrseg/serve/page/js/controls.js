// The controls of the page <-> the state.

import { byId } from "./dom.js";
import { DISPLAY } from "./store.js";

/** @typedef {import("./store.js").Store} Store @typedef {import("./store.js").State} State */

/** @param {Store} store @param {import("./painting.js").Painting} painting */
export function bindControls(store, painting) {
  slider(store, "threshold", (value) => value.toFixed(2));
  slider(store, "opacity", (value) => `${Math.round(100 * value)}%`);
  slider(store, "window", (value) => String(Math.round(value)));
  slider(store, "level", (value) => String(Math.round(value)));
  slider(store, "brush", (value) => `${value} pixels`);
  for (const key of /** @type {const} */ (["colour", "outline", "lungs", "masks", "inverted"])) checkbox(store, key);
  for (const key of /** @type {const} */ (["tool", "target", "layout"])) choice(store, key);

  byId("reset-display").addEventListener("click", () =>
    store.set({ ...DISPLAY, threshold: store.state.modelThreshold }),
  );
  store.on(["threshold", "modelThreshold"], ({ threshold, modelThreshold }) => {
    const own = threshold.toFixed(2) === modelThreshold.toFixed(2);
    byId("threshold-hint").textContent = own ? "The model's own" : `The model's own: ${modelThreshold.toFixed(2)}`;
  });

  byId("undo").addEventListener("click", () => painting.undo());
  byId("redo").addEventListener("click", () => painting.redo());
  byId("reset-corrections").addEventListener("click", () => painting.reset());
  store.on(["film", "changes"], ({ film }) => {
    byId("undo", HTMLButtonElement).disabled = !film?.corrections?.done.length;
    byId("redo", HTMLButtonElement).disabled = !film?.corrections?.undone.length;
    byId("reset-corrections", HTMLButtonElement).disabled = !film?.corrected;
    for (const button of document.querySelectorAll("#tool button:not([data-value=pan]), #target button")) {
      /** @type {HTMLButtonElement} */ (button).disabled = !film?.ok;
    }
  });
}

/** @param {Store} store @param {"threshold"|"opacity"|"window"|"level"|"brush"} key @param {(value: number) => string} text */
function slider(store, key, text) {
  const input = byId(key, HTMLInputElement);
  const output = document.getElementById(`${key}-value`);
  input.addEventListener("input", () => store.set({ [key]: Number(input.value) }));
  store.on([key], (state) => {
    input.value = String(state[key]);
    input.setAttribute("aria-valuetext", text(state[key]));
    if (output) output.textContent = text(state[key]);
  });
}

/** @param {Store} store @param {"colour"|"outline"|"lungs"|"masks"|"inverted"} key */
function checkbox(store, key) {
  const input = byId(key, HTMLInputElement);
  input.addEventListener("change", () => store.set({ [key]: input.checked }));
  store.on([key], (state) => {
    input.checked = state[key];
  });
}

/** A group of buttons of which one is pressed. @param {Store} store @param {"tool"|"target"|"layout"} key */
function choice(store, key) {
  const buttons = [...byId(key).querySelectorAll("button")];
  for (const button of buttons) button.addEventListener("click", () => store.set({ [key]: button.dataset.value }));
  store.on([key], (state) => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.value === state[key]));
  });
}
