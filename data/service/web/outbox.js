// Answers on their way. An answer is kept here before anything else happens, is sent in order, and leaves only with the
// server's receipt: a lost network, a closed tab or a killed server delays it and cannot lose or double it, since its
// idempotency key goes with it. One tab sends at a time (Web Locks).

import { api } from "./api.js";

const FIRST_WAIT_MS = 1000, LONGEST_WAIT_MS = 30000;

export class Outbox extends EventTarget {
  #memory;
  #sending = null;  // the flush under way
  #wait = 0;
  #timer = 0;
  #believed = 0; // how often the browser's word that there is no network was taken

  constructor(memory) {
    super();
    this.#memory = memory;
    this.state = "idle"; // idle | sending | offline | trouble (the server cannot store) | stopped
    addEventListener("online", () => { this.#believed = 0; this.#wait = 0; this.flush(); });
  }

  get waiting() { return this.#memory.recall("outbox", []); }

  /// Keeps an answer and starts to send. `task` stays with it, so that it can be taken back while it is here.
  add(answer, task) {
    this.#memory.keep("outbox", [...this.waiting, { answer: { key: crypto.randomUUID(), ...answer }, task }]);
    this.#changed();
    return this.flush();
  }

  /// Takes back the last answer if it was never sent; else null (then the server has to undo it).
  takeBack() {
    const all = this.waiting;
    if (!all.length || all.at(-1).tried) return null;
    const last = all.pop();
    this.#memory.keep("outbox", all);
    this.#changed();
    return last;
  }

  /// Who calls while answers are on their way waits for those: until then nobody can say whether they arrive.
  flush() {
    this.#sending ??= this.#flush().finally(() => { this.#sending = null; });
    return this.#sending;
  }

  async #flush() {
    clearTimeout(this.#timer);
    if (navigator.locks) await navigator.locks.request("hone-outbox", () => this.#sendAll());
    else await this.#sendAll();
    if (this.waiting.length && this.state !== "stopped") this.#later();
  }

  async #sendAll() {
    for (let first = this.waiting[0]; first; first = this.waiting[0]) {
      if (!navigator.onLine && this.#believed++ % 5 < 4) {
        this.#set("offline"); // not even tried, so it may still be taken back; the browser may err, so one in five is
        return;
      }
      this.#set("sending");
      this.#mark(first.answer.key);
      try {
        const { statistics, receipt, others } = await api.answer(first.answer);
        this.#drop(first.answer.key);
        this.#wait = 0;
        this.dispatchEvent(new CustomEvent("receipt", { detail: { ...first, receipt, statistics, others } }));
      } catch (error) {
        if (error.offline || error.status >= 500 || error.status === 429) {
          this.#wait = error.retryAfter ? error.retryAfter * 1000 : Math.min(LONGEST_WAIT_MS, (this.#wait || FIRST_WAIT_MS / 2) * 2);
          this.#set(error.status >= 500 ? "trouble" : "offline");
          return;
        }
        if (error.status === 401 || error.status === 403) {
          this.#set("stopped");
          this.dispatchEvent(new CustomEvent("signed-out"));
          return;
        }
        // 409: another has the question now; 4xx: the server will never take it. Both are said, neither is silent.
        this.#drop(first.answer.key);
        this.dispatchEvent(new CustomEvent("refused", { detail: { ...first, error } }));
      }
    }
    this.#set("idle");
  }

  #mark(key) {
    const all = this.waiting;
    for (const item of all) if (item.answer.key === key) item.tried = true;
    this.#memory.keep("outbox", all);
  }

  #drop(key) {
    this.#memory.keep("outbox", this.waiting.filter((item) => item.answer.key !== key));
    this.#changed();
  }

  #later() {
    this.#timer = setTimeout(() => this.flush(), this.#wait || FIRST_WAIT_MS);
  }

  #set(state) {
    if (this.state === state) return;
    this.state = state;
    this.#changed();
  }

  #changed() { this.dispatchEvent(new Event("change")); }
}
