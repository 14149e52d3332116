// Segmenting the films of the list, a few at a time.

import { ServiceError } from "./service.js";
import { thumbnailOf } from "./thumbnail.js";

/**
 * @typedef {import("./film.js").Film} Film
 * @typedef {import("./service.js").Service} Service
 * @typedef {import("./store.js").Store} Store
 */

const AT_ONCE = 2;
const MOST_TRIES = 20;
const LONGEST_WAIT_S = 30;

export class Queue {
  /** @param {Store} store @param {Service} service @param {(film: Film) => void} ready  called for each finished film */
  constructor(store, service, ready) {
    this.store = store;
    this.service = service;
    this.ready = ready;
    /** @type {Film[]} */ this.waiting = [];
    this.running = 0;
  }

  /** @param {Film[]} films */
  add(films) {
    for (const film of films) film.status = "waiting";
    this.waiting.push(...films.filter((film) => !this.waiting.includes(film)));
    this.store.touch();
    while (this.running < AT_ONCE && this.waiting.length > 0) void this.work();
  }

  async work() {
    this.running++;
    for (let film = this.waiting.shift(); film; film = this.waiting.shift()) {
      film.status = "running";
      this.store.touch();
      await this.segment(film);
      this.ready(film);
      this.store.touch();
    }
    this.running--;
  }

  /** @param {Film} film */
  async segment(film) {
    try {
      film.take(await this.request(film));
      await film.load();
      if (film.pictures.image) film.thumbnail = await thumbnailOf(film.pictures.image);
      if (film !== this.store.state.film && film !== this.store.state.other) film.unload();
    } catch (error) {
      film.status = "failed";
      film.reason = error instanceof Error ? error.message : String(error);
    }
  }

  /** Ask the service; where it is busy, wait as long as it says and ask again. @param {Film} film
   * @returns {Promise<Record<string, any>>} */
  async request(film) {
    for (let tries = 1; ; tries++) {
      try {
        return await this.service.segment(film, this.store.state.task);
      } catch (error) {
        const wait = error instanceof ServiceError ? error.retryAfter : null;
        if (wait === null || tries === MOST_TRIES) throw error;
        await new Promise((done) => setTimeout(done, 1000 * Math.min(LONGEST_WAIT_S, Math.max(wait, 0.5))));
      }
    }
  }
}
