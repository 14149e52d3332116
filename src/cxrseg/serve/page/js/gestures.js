// Mouse, touch, pen, wheel and keys on a film -> what they mean: pan, zoom, window, paint.

/**
 * Points are in CSS pixels of the canvas.
 * @typedef {Object} Acts
 * @property {() => boolean} paints  whether the main button or one finger paints; else it pans.
 * @property {(dx: number, dy: number) => void} pan
 * @property {(factor: number, x: number, y: number) => void} zoom
 * @property {(dx: number, dy: number) => void} window  change width and middle of the shown grey values.
 * @property {(x: number, y: number) => void} start  begin to paint.
 * @property {(x: number, y: number) => void} move  paint on.
 * @property {() => void} end  end painting.
 * @property {() => void} cancel  forget what was painted since `start`.
 * @property {(x: number|null, y: number|null) => void} hover  the pointer is here, or left.
 * @property {(event: KeyboardEvent) => boolean} key  a key was pressed on the canvas; true where it was used.
 */

const WHEEL = 0.0015;

/** @param {HTMLCanvasElement} canvas @param {Acts} acts */
export function listen(canvas, acts) {
  /** @type {Map<number, {x: number, y: number}>} */ const down = new Map();
  /** @type {"pan"|"paint"|"window"|"pinch"|null} */ let mode = null;

  canvas.addEventListener("pointerdown", (event) => {
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, pointOf(event));
    if (down.size > 1) {
      if (mode === "paint") acts.cancel();
      mode = "pinch";
    } else {
      mode = modeOf(event, acts.paints());
      const { x, y } = pointOf(event);
      if (mode === "paint") acts.start(x, y);
    }
    event.preventDefault();
  });

  canvas.addEventListener("pointermove", (event) => {
    const before = down.get(event.pointerId);
    const now = pointOf(event);
    acts.hover(now.x, now.y);
    if (!before) return;
    if (mode === "pinch") pinch([...down.values()], before, now, acts);
    if (mode === "pan") acts.pan(now.x - before.x, now.y - before.y);
    if (mode === "window") acts.window(now.x - before.x, now.y - before.y);
    if (mode === "paint") {
      const all = event.getCoalescedEvents?.() ?? [];
      for (const one of all.length ? all : [event]) acts.move(pointOf(one).x, pointOf(one).y);
    }
    down.set(event.pointerId, now);
  });

  const up = (/** @type {PointerEvent} */ event) => {
    if (!down.delete(event.pointerId) || down.size > 0) return;
    if (mode === "paint") {
      if (event.type === "pointercancel") acts.cancel();
      else acts.end();
    }
    mode = null;
    if (event.pointerType !== "mouse") acts.hover(null, null);
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => acts.hover(null, null));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 20 : 1;
    acts.zoom(Math.exp(-WHEEL * lines * event.deltaY), event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (acts.key(event)) {
      event.preventDefault();
      event.stopPropagation();
    }
  });
}

/** What a press means: the middle button pans, the right one changes the window. @param {PointerEvent} event
 * @param {boolean} paints @returns {"pan"|"paint"|"window"} */
function modeOf(event, paints) {
  if (event.button === 1) return "pan";
  if (event.button === 2) return "window";
  return paints ? "paint" : "pan";
}

/** @param {PointerEvent} event */
const pointOf = (event) => {
  const box = /** @type {HTMLElement} */ (event.target).getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
};

/** Two fingers: their middle pans, their distance zooms. @param {{x: number, y: number}[]} fingers
 * @param {{x: number, y: number}} before  of the finger that moved @param {{x: number, y: number}} now
 * @param {Acts} acts */
function pinch(fingers, before, now, acts) {
  const other = fingers.find((finger) => finger !== before);
  if (!other) return;
  const apart = Math.hypot(before.x - other.x, before.y - other.y);
  const middle = { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 };
  acts.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
  if (apart > 0) acts.zoom(Math.hypot(now.x - other.x, now.y - other.y) / apart, middle.x, middle.y);
}
