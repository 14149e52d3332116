// What the page shows. Parts of the page change it with `set`, and are told of changes with `on`.

/**
 * @typedef {import("./film.js").Film} Film
 * @typedef {import("./corrections.js").Target} Target
 * @typedef {"single"|"compare"|"pair"} Layout  One film, the model's masks beside the corrected ones, or two films.
 * @typedef {"pan"|"brush"|"eraser"|"fill"} Tool
 *
 * @typedef {Object} State
 * @property {Film[]} films  in the order they were added.
 * @property {Film|null} film  the one that is shown.
 * @property {Film|null} other  the second one of the layout "pair".
 * @property {Layout} layout
 * @property {number} threshold  probability from which a pixel is infection, in (0, 1).
 * @property {number} modelThreshold  the model's own.
 * @property {number} opacity  of the infection's colour, 0 to 1.
 * @property {boolean} colour  fill the infection with colour.
 * @property {boolean} outline  draw the infection's outline.
 * @property {boolean} lungs  draw the lungs' outline.
 * @property {boolean} masks  draw masks at all.
 * @property {number} window  width of the shown grey values, 1 to 255.
 * @property {number} level  middle of the shown grey values, 0 to 255.
 * @property {boolean} inverted  show black and white exchanged.
 * @property {Tool} tool
 * @property {Target} target  the mask that is corrected.
 * @property {number} brush  diameter in pixels of the film.
 * @property {"extent"|"name"|"added"} sort  of the list.
 * @property {string} task  what the model is asked to mark.
 * @property {number} changes  grows when a film changes.
 */

/** How a film is shown at first. */
export const DISPLAY = {
  opacity: 0.35, colour: true, outline: true, lungs: true, masks: true, window: 255, level: 127.5, inverted: false,
};

export class Store {
  constructor() {
    /** @type {State} */
    this.state = {
      films: [], film: null, other: null, layout: "single", threshold: 0.5, modelThreshold: 0.5, ...DISPLAY,
      tool: "pan", target: "infection", brush: 24, sort: "extent", task: "opacity", changes: 0,
    };
    /** @type {{keys: string[], act: (state: State) => void}[]} */ this.listeners = [];
  }

  /** @param {Partial<State>} changes */
  set(changes) {
    const state = /** @type {Record<string, unknown>} */ (/** @type {unknown} */ (this.state));
    const changed = Object.entries(changes).filter(([key, value]) => state[key] !== value).map(([key]) => key);
    if (changed.length === 0) return;
    Object.assign(this.state, changes);
    for (const { keys, act } of this.listeners) {
      if (keys.some((key) => changed.includes(key))) act(this.state);
    }
  }

  /** Say that a film or the list of films changed. */
  touch() {
    this.set({ changes: this.state.changes + 1 });
  }

  /** Call now, and whenever one of the keys changes. @param {string[]} keys @param {(state: State) => void} act */
  on(keys, act) {
    this.listeners.push({ keys, act });
    act(this.state);
  }
}
