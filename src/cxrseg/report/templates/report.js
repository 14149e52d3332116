"use strict";

const PREDICTION = [213, 94, 0], TRUTH = [240, 228, 66], LUNGS = [86, 180, 233];
const element = (id) => document.getElementById(id);
const rounded = (value) => value.toFixed(Math.abs(value * 100 - Math.round(value * 100)) < 1e-6 ? 2 : 4);

/* The gallery: each picture is one PNG of three panels, the radiograph, the probability and the true masks. */
class Picture {
  constructor(canvas) {
    this.canvas = canvas;
    this.width = canvas.width;
    this.height = canvas.height;
    this.context = canvas.getContext("2d");
    this.now = canvas.closest("figure").querySelector(".now");
  }

  async load() {
    const image = new Image();
    image.src = this.canvas.dataset.src;
    await image.decode();
    const all = document.createElement("canvas");
    all.width = this.width;
    all.height = 3 * this.height;
    const context = all.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, all.width, all.height).data;
    const count = this.width * this.height;
    const panel = (number) => Uint8Array.from({ length: count }, (_, place) => pixels[4 * (number * count + place)]);
    this.gray = panel(0);
    this.probability = panel(1);
    const marks = panel(2);
    this.truth = marks.map((value) => Number(value === 255));
    this.positives = this.truth.reduce((sum, value) => sum + value, 0);
    this.truthEdge = this.edge(this.truth);
    this.lungsEdge = this.edge(marks.map((value) => Number(value >= 128)));
  }

  /* Pixels of a mask that have a neighbour outside of it. */
  edge(mask) {
    const { width, height } = this;
    const inside = (row, column) =>
      row >= 0 && column >= 0 && row < height && column < width && mask[row * width + column];
    return mask.map((value, place) => {
      const row = Math.floor(place / width), column = place % width;
      const whole = inside(row - 1, column) && inside(row + 1, column) && inside(row, column - 1) && inside(row, column + 1);
      return Number(value && !whole);
    });
  }

  draw({ threshold, opacity, truth, lungs }) {
    const image = this.context.createImageData(this.width, this.height);
    const limit = 255 * threshold;
    let marked = 0, both = 0;
    for (let place = 0; place < this.gray.length; place++) {
      const gray = this.gray[place];
      let colour = null, fraction = 0;
      if (this.probability[place] >= limit) {
        marked += 1;
        both += this.truth[place];
        colour = PREDICTION;
        fraction = opacity;
      }
      if (lungs && this.lungsEdge[place]) [colour, fraction] = [LUNGS, 0.9];
      if (truth && this.truthEdge[place]) [colour, fraction] = [TRUTH, 0.95];
      for (let channel = 0; channel < 3; channel++) {
        image.data[4 * place + channel] = colour ? gray + fraction * (colour[channel] - gray) : gray;
      }
      image.data[4 * place + 3] = 255;
    }
    this.context.putImageData(image, 0, 0);
    this.dice = this.positives ? (2 * both) / (marked + this.positives) : null;
    this.now.textContent = this.positives
      ? `Dice ${this.dice.toFixed(3)} at ${rounded(threshold)}`
      : `${((100 * marked) / this.gray.length).toFixed(1)}% of the image marked at ${rounded(threshold)}`;
  }
}

async function startGallery() {
  const pictures = Array.from(document.querySelectorAll("canvas[data-src]"), (canvas) => new Picture(canvas));
  if (!pictures.length) return;
  await Promise.all(pictures.map((picture) => picture.load()));
  const [threshold, opacity, size, truth, lungs] = ["threshold", "opacity", "size", "truth", "lungs"].map(element);
  /* The model's own threshold may lie between two steps of the slider. */
  let chosen = Number(threshold.form.dataset.threshold);
  const show = () => {
    const settings = {
      threshold: chosen, opacity: opacity.value / 100, truth: truth.checked, lungs: lungs.checked,
    };
    for (const picture of pictures) picture.draw(settings);
    element("threshold-value").textContent = rounded(chosen);
    element("opacity-value").textContent = `${opacity.value}%`;
    opacity.setAttribute("aria-valuetext", `${opacity.value}%`);
    element("size-value").textContent = `${size.value} px`;
    element("gallery").style.setProperty("--side", `${size.value}px`);
    const dices = pictures.map((picture) => picture.dice).filter((dice) => dice !== null);
    const mean = dices.reduce((sum, dice) => sum + dice, 0) / dices.length;
    element("live").textContent = dices.length ? `Mean Dice of the ${dices.length} infected images shown: ${mean.toFixed(3)}` : "";
    document.body.dataset.drawn = Number(document.body.dataset.drawn || 0) + 1;
  };
  let waiting = false;
  const soon = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; show(); });
  };
  threshold.addEventListener("input", () => { chosen = Number(threshold.value); });
  for (const control of [threshold, opacity, size, truth, lungs]) control.addEventListener("input", soon);
  element("reset").addEventListener("click", () => {
    threshold.value = chosen = Number(threshold.form.dataset.threshold);
    soon();
  });
  show();
}

/* The table: sorted by any heading; what is empty stands last either way. */
function startTable() {
  const table = element("all"), body = table.tBodies[0], heads = Array.from(table.tHead.rows[0].cells);
  const names = new Intl.Collator("en", { numeric: true });
  const said = element("rows");

  function sort(head, column) {
    const numeric = head.classList.contains("number");
    const upwards = head.getAttribute("aria-sort") !== "ascending";
    const keyed = Array.from(body.rows, (row) => [row.cells[column].textContent, row]);
    keyed.sort(([one], [other]) => {
      if (!one || !other) return Number(!one) - Number(!other);
      const order = numeric ? Number(one) - Number(other) : names.compare(one, other);
      return upwards ? order : -order;
    });
    body.append(...keyed.map(([, row]) => row));
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", upwards ? "ascending" : "descending");
    said.textContent = `Sorted by ${head.textContent.trim()}, ${upwards ? "rising" : "falling"}.`;
  }

  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sort(head, column)));
  element("filter").addEventListener("input", ({ target }) => {
    const words = target.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      const text = Array.from(row.cells).slice(0, 3).map((cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += Number(!row.hidden);
    }
    said.textContent = `${shown} of ${body.rows.length} images.`;
  });
}

/* What is folded on the screen is unfolded on paper. */
function startPrint() {
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = Array.from(document.querySelectorAll("details:not([open])"));
    for (const one of folded) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of folded) one.open = false; });
}

for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
startTable();
startPrint();
startGallery();
