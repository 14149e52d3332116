// The HTTP service behind the page. Addresses are relative, so that the page also works below a path of a proxy.

import { maskFile } from "./mask_file.js";

/**
 * @typedef {import("./film.js").Film} Film
 * @typedef {{token: boolean, folder: boolean, keep: boolean}} Health
 * @typedef {{id: string, name: string, corrected: boolean}} FolderImage
 * @typedef {{name: string, version: string, tasks: string[], task: string, thresholds: Record<string, number>}} Model
 */

/** An answer that is an error, as RFC 9457 describes it. */
export class ServiceError extends Error {
  /** @param {string} message @param {number} status  0 where there was no answer @param {number|null} retryAfter  seconds,
   * where it helps to ask again */
  constructor(message, status, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

export class Service {
  /** @param {() => Promise<string>} askToken  asks the user for the token, where the service wants one. */
  constructor(askToken) {
    this.askToken = askToken;
    // 'cxrseg serve' opens the page with its token behind the #, which browsers send to nobody; it leaves the address bar.
    this.token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
    if (this.token) history.replaceState(null, "", location.pathname);
  }

  /** What the service found on a film. @param {Film} film @param {string} task @returns {Promise<Record<string, any>>} */
  async segment(film, task) {
    const form = new FormData();
    form.set("file", await this.file(film), film.name);
    const query = new URLSearchParams({ task, format: "json" });
    return (await this.send(`v1/segment?${query}`, { method: "POST", body: form })).json();
  }

  /** The weights in use. @returns {Promise<Model>} */
  async model() {
    return (await this.send("v1/model")).json();
  }

  /** What the service was started with. @returns {Promise<Health>} */
  async health() {
    return (await this.send("v1/health")).json();
  }

  /** The images of the folder that the service was started with. @returns {Promise<FolderImage[]>} */
  async images() {
    return (await (await this.send("v1/images")).json()).images;
  }

  /** The image of the folder whose correction would teach most. @returns {Promise<{image: FolderImage}>} */
  async next() {
    return (await this.send("v1/next")).json();
  }

  /**
   * Save a film with its masks as they stand as a training pair.
   * @param {Film} film @param {number} threshold
   * @returns {Promise<Record<string, any>>}  where it was saved, and the figures of the masks.
   */
  async correct(film, threshold) {
    return (await this.send("v1/corrections", { method: "POST", body: await this.pair(film, threshold) })).json();
  }

  /** The masks as they stand as a DICOM SEG; nothing is saved. @param {Film} film @param {number} threshold
   * @returns {Promise<Blob>} */
  async seg(film, threshold) {
    const body = await this.pair(film, threshold);
    return (await this.send("v1/corrections?as=seg&save=false", { method: "POST", body })).blob();
  }

  /** A film and its masks. @param {Film} film @param {number} threshold */
  async pair(film, threshold) {
    const form = new FormData();
    if (film.source.kind === "folder") form.set("id", film.source.id);
    else form.set("image", await this.file(film), film.name);
    for (const target of /** @type {const} */ (["infection", "lungs"])) {
      form.set(target, await maskFile(film, target, threshold), `${target}.png`);
    }
    return form;
  }

  /** The film's file, wherever it comes from. @param {Film} film @returns {Promise<Blob>} */
  async file({ source }) {
    if (source.kind === "file") return source.file;
    const folder = source.kind === "phantom" ? "v1/phantoms" : "v1/images";
    return (await this.send(`${folder}/${encodeURIComponent(source.id)}`)).blob();
  }

  /**
   * Send a request, with the token where the service wants one.
   * @param {string} address
   * @param {RequestInit} [options]
   * @returns {Promise<Response>}  a good one.
   * @throws {ServiceError}  its message is for the user.
   */
  async send(address, options = {}) {
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : undefined;
    let answer;
    try {
      answer = await fetch(address, { ...options, headers });
    } catch {
      throw new ServiceError("The service does not answer. Is 'cxrseg serve' still running?", 0);
    }
    if (answer.ok) return answer;
    if (answer.status === 401) {
      this.token = await this.askToken();
      return this.send(address, options);
    }
    throw await errorOf(answer);
  }
}

/** @param {Response} answer @returns {Promise<ServiceError>} */
async function errorOf(answer) {
  const problem = await answer.json().catch(() => ({}));
  const text = problem.detail || problem.title || `The service answered ${answer.status} ${answer.statusText}.`;
  const busy = answer.status === 429 || answer.status === 503;
  const wait = Number(answer.headers.get("Retry-After") ?? NaN);
  return new ServiceError(String(text), answer.status, busy ? (Number.isFinite(wait) ? wait : 2) : null);
}
