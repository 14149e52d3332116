// Small helpers for elements. Text is always set as text: a file's name can never become markup.

/**
 * The element with an id.
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} [kind]
 * @returns {T}
 */
export function byId(id, kind) {
  const found = document.getElementById(id);
  if (!found || (kind && !(found instanceof kind))) throw new Error(`The page has no ${kind?.name ?? "element"} #${id}.`);
  return /** @type {T} */ (found);
}

/**
 * Make an element.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string|number|boolean|null>} [attributes]  true sets an empty one, false and null none.
 * @param {...(Node|string|null)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null) made.setAttribute(name, String(value));
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** An icon of icons.svg. @param {string} name @returns {SVGElement} */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.classList.add("icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `static/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

let timer = 0;

/** Say something briefly, on the screen and to screen readers. @param {string} text @param {"done"|"problem"} [kind] */
export function say(text, kind = "done") {
  const toast = byId("toast");
  toast.textContent = text;
  toast.dataset.kind = kind;
  toast.classList.add("shown");
  clearTimeout(timer);
  timer = setTimeout(() => toast.classList.remove("shown"), kind === "problem" ? 9000 : 4000);
}

/** @param {number|null|undefined} fraction  0 to 1 @returns {string} */
export const percent = (fraction) =>
  fraction === null || fraction === undefined ? "unknown" : `${(100 * fraction).toFixed(1)}%`;

/** A message of the service as a sentence; a name that it begins with stays as it is. @param {string} text */
export const asSentence = (text) => {
  const begun = /^[a-z]+[ ,]/.test(text) ? `${text[0].toUpperCase()}${text.slice(1)}` : text;
  return begun === "" || /[.!?]$/.test(begun) ? begun : `${begun}.`;
};
