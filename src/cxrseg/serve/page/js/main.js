// Puts the parts of the page together.

import { bindControls } from "./controls.js";
import { csvFile, download, jsonFile, overlayFile, stemOf } from "./downloads.js";
import { byId, make, say } from "./dom.js";
import { Film } from "./film.js";
import { showFindings } from "./findings_panel.js";
import { showImages, sortFilms } from "./images_panel.js";
import { takeFiles } from "./intake.js";
import { maskFile } from "./mask_file.js";
import { Painting } from "./painting.js";
import { Queue } from "./queue.js";
import { bindSecondFilm } from "./second_film.js";
import { bindFolder } from "./server_folder.js";
import { Service } from "./service.js";
import { bindShortcuts } from "./shortcuts.js";
import { Stage } from "./stage.js";
import { Store } from "./store.js";

const store = new Store();
const service = new Service(askToken);
const painting = new Painting(store);
const stage = new Stage(store, painting);
const queue = new Queue(store, service, (film) => {
  if (film === store.state.film) stage.fit();
});

/** Show a film. @param {Film} film */
async function select(film) {
  const before = store.state.film;
  store.set({ film });
  await film.load();
  if (before !== film && before !== store.state.other) before?.unload();
  store.touch();
}

/** Add films to the list and segment them. @param {Film[]} films */
function add(films) {
  if (films.length === 0) return;
  store.set({ films: [...store.state.films, ...films] });
  queue.add(films);
  if (!store.state.film) void select(films[0]);
}

/** Ask for the token of the service. @returns {Promise<string>} */
function askToken() {
  const dialog = byId("token-dialog", HTMLDialogElement);
  const input = byId("token", HTMLInputElement);
  input.value = "";
  if (!dialog.open) dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(input.value.trim()), { once: true }));
}

/** Do something for a button, and say what went wrong. @param {string} id @param {() => Promise<unknown>} act */
function onClick(id, act) {
  byId(id).addEventListener("click", () => {
    act().catch((/** @type {unknown} */ error) => say(error instanceof Error ? error.message : String(error), "problem"));
  });
}

/** The film that is shown, with its pixels. @returns {Film} */
function shown() {
  const { film } = store.state;
  if (!film?.ok || !film.pixels) throw new Error("Select an image that was segmented.");
  return film;
}

/** The folder of the service, where it has one. @type {{refresh: () => Promise<void>}|null} */
let folder = null;

async function savePair() {
  const film = shown();
  const { image } = await service.correct(film, store.state.threshold);
  film.saved = true;
  store.touch();
  say(`Saved as ${image}, with both masks.`);
  await folder?.refresh();
}

/** Offer what the service was started with. */
async function showHealth() {
  const { keep, folder: given } = await service.health();
  byId("save-pair", HTMLButtonElement).disabled = !keep;
  byId("save-hint").textContent = keep
    ? "Into the service's folder of corrections."
    : "To save training pairs, start the service with --keep FOLDER.";
  if (!given) return;
  const open = (/** @type {Film} */ film) => {
    if (!store.state.films.includes(film)) add([film]);
    void select(film);
  };
  folder = await bindFolder(service, add, open);
}

/** Show whose masks these are, offer the model's tasks, and begin at its own threshold. */
async function showModel() {
  const model = await service.model();
  byId("model").textContent = `Model ${model.name} ${model.version}`;
  const select = byId("task", HTMLSelectElement);
  select.replaceChildren(...model.tasks.map((task) => make("option", { value: task }, TASKS[task] ?? task)));
  const choose = (/** @type {string} */ task) => {
    const threshold = model.thresholds[task];
    store.set({ task, threshold, modelThreshold: threshold });
  };
  choose(model.task);
  select.value = model.task;
  select.addEventListener("change", () => {
    choose(select.value);
    const films = store.state.films.filter((film) => !film.corrected);
    const kept = store.state.films.length - films.length;
    if (kept) say(`${kept} corrected ${kept === 1 ? "image keeps its" : "images keep their"} masks; the others are segmented again.`);
    queue.add(films);
  });
}

/** @type {Record<string, string>} */
const TASKS = { opacity: "Opacities", infection: "Infection", covid19: "COVID-19" };

/** Numbers of the service's synthetic films, and what they show. */
const PHANTOMS = [[6, "COVID-19"], [9, "COVID-19"], [3, "COVID-19"], [1, "pneumonia"], [2, "healthy"], [5, "healthy"]];

bindControls(store, painting);
bindSecondFilm(store);
showModel().then(showHealth).catch((error) => say(error.message, "problem"));
bindShortcuts(store, stage, painting, { select, save: () => byId("save-pair").click() });
showImages(store, (film) => void select(film));
showFindings(store);
takeFiles((files) => add(files.map((file) => new Film(file.webkitRelativePath || file.name, { kind: "file", file }))));

addEventListener("beforeunload", (event) => {
  if (store.state.films.some((film) => film.corrected && !film.saved)) event.preventDefault(); // the browser then asks
});

onClick("save-pair", savePair);
onClick("get-infection", async () => {
  const film = shown();
  download(await maskFile(film, "infection", store.state.threshold), `${stemOf(film)}_infection.png`);
});
onClick("get-lungs", async () => {
  const film = shown();
  download(await maskFile(film, "lungs", store.state.threshold), `${stemOf(film)}_lungs.png`);
});
onClick("get-overlay", async () => {
  const film = shown();
  download(await overlayFile(film, store.state), `${stemOf(film)}_overlay.png`);
});
onClick("get-seg", async () => {
  const film = shown();
  download(await service.seg(film, store.state.threshold), `${stemOf(film)}_seg.dcm`);
});
onClick("get-json", async () => {
  const film = shown();
  download(jsonFile(film, store.state.threshold), `${stemOf(film)}.json`);
});
onClick("get-csv", async () => download(csvFile(sortFilms(store.state), store.state.threshold), "findings.csv"));
onClick("phantoms", async () =>
  add(PHANTOMS.map(([number, text]) => new Film(`Synthetic ${number}, ${text}.png`, { kind: "phantom", id: String(number) }))),
);
