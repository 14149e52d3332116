// Files that a person drops or chooses.

import { byId } from "./dom.js";

/** @param {(files: File[]) => void} take */
export function takeFiles(take) {
  for (const [button, input] of [["add-files", "files"], ["empty-files", "files"], ["add-folder", "folder"]]) {
    byId(button).addEventListener("click", () => byId(input).click());
  }
  for (const id of ["files", "folder"]) {
    const input = byId(id, HTMLInputElement);
    input.addEventListener("change", () => {
      take([...(input.files ?? [])].filter(visible));
      input.value = ""; // so that the same file can be chosen again
    });
  }
  let inside = 0;
  const drop = byId("drop");
  addEventListener("dragenter", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    inside++;
    drop.hidden = false;
  });
  addEventListener("dragleave", () => {
    inside = Math.max(0, inside - 1);
    drop.hidden = inside === 0;
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    drop.hidden = true;
    if (event.dataTransfer) void filesOf(event.dataTransfer).then(take);
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) take(files);
  });
}

/** All files of a drop, also those in folders. @param {DataTransfer} transfer @returns {Promise<File[]>} */
async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.() ?? null);
  if (entries.every((entry) => entry === null)) return [...transfer.files];
  return (await Promise.all(entries.map((entry) => (entry ? walk(entry) : [])))).flat().filter(visible);
}

/** @param {FileSystemEntry} entry @returns {Promise<File[]>} */
async function walk(entry) {
  if (entry.isFile) {
    const file = /** @type {FileSystemFileEntry} */ (entry);
    return [await new Promise((done, failed) => file.file(done, failed))];
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  const found = [];
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (some.length === 0) break; // a reader gives at most 100 entries at a time
    found.push(...some);
  }
  return (await Promise.all(found.map(walk))).flat();
}

/** Hidden files, such as .DS_Store, are not images. @param {File} file */
const visible = (file) => !file.name.startsWith(".") && file.name !== "Thumbs.db";
