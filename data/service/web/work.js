// A rater's work: the question in hand and a few ahead (so that it goes on without a network), answers on their way,
// undo. What is held, drafted and unsent survives a reload.

import { api, serverNow } from "./api.js";
import { Outbox } from "./outbox.js";

const MOST_AHEAD = 6;
const DRAFT_WAIT_MS = 700;
const RENEW_EVERY_MS = 45000;
const IDLE_MS = 15 * 60000; // after that, what is held goes back to the others

/// The same without the control characters that a paste may bring along; the server takes none but tab and line break.
const plain = (value) => {
  if (typeof value === "string") return value.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g, "");
  if (Array.isArray(value)) return value.map(plain);
  return value && typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each)])) : value;
};

export class Work extends EventTarget {
  #filling = null;
  #draftTimer = 0;
  #lastInput = Date.now();
  #drafted = new Map();

  constructor(me, memory, ui) {
    super();
    this.me = me;
    this.memory = memory;
    this.ui = ui;
    this.outbox = new Outbox(memory);
    this.why = null; // why there is no further question
    this.retryAt = 0;
    this.statistics = me.statistics ?? memory.recall("statistics", {});
    this.outbox.addEventListener("receipt", ({ detail }) => this.#received(detail));
    this.outbox.addEventListener("change", () => this.#emit("sync"));
    this.outbox.addEventListener("refused", ({ detail }) => this.#refused(detail));
    this.outbox.addEventListener("signed-out", () => this.#emit("signed-out"));
    this.timer = setInterval(() => this.#renew(), RENEW_EVERY_MS);
    addEventListener("online", () => this.fill());
    addEventListener("storage", ({ key }) => { // another tab of the same person went on
      if (key?.endsWith(".held") && this.shown && this.shown !== (this.current?.id ?? "")) this.#emit("change");
    });
  }

  get held() { return this.memory.recall("held", []); }
  #hold(tasks) { this.memory.keep("held", tasks); }
  get current() { return this.held[0] ?? null; }

  /// Questions to keep: one ahead at first, more for who goes on answering.
  get depth() { return Math.min(MOST_AHEAD, 2 + (this.statistics?.session_answers ?? 0)); }

  async start() {
    const unsent = new Set(this.outbox.waiting.map(({ answer }) => answer.assignment));
    this.#hold(this.held.filter((task) => !unsent.has(task.id)));
    await Promise.all([this.outbox.flush(), this.#renew(true)]);
    if (!this.current) await this.fill();
    else this.fill();
  }

  stop() { clearInterval(this.timer); }

  /// Leases questions until enough are held. One at a time; a failure ends it quietly, to be tried again later.
  fill() {
    this.#filling ??= this.#fill().finally(() => { this.#filling = null; });
    return this.#filling;
  }

  async #fill() {
    while (this.held.length < this.depth) {
      const known = [...this.held.map((task) => task.id), ...this.outbox.waiting.map(({ answer }) => answer.assignment)];
      let result;
      try {
        result = await api.next(known);
      } catch (error) {
        if (error.status === 401) this.#emit("signed-out");
        else if (!this.held.length) {
          this.why = error.offline ? "offline" : error.status === 429 ? "slow-down" : "trouble";
          this.retryAt = Date.now() + Math.max(3, error.retryAfter) * 1000;
          this.#emit("change");
        }
        return;
      }
      const task = result.assignment;
      if (!task || known.includes(task.id)) {
        this.why = task ? null : result.why;
        this.retryAt = Date.now() + (result.retry_after_s || 30) * 1000;
        if (!this.held.length) this.#emit("change");
        return;
      }
      this.why = null;
      task.lifetime_ms = Math.max(30000, task.expires_us / 1000 - serverNow());
      task.until = Date.now() + task.lifetime_ms;
      this.#hold([...this.held, task]);
      if (this.held.length === 1) this.#emit("change");
    }
  }

  /// A draft: in the browser at once, on the server after a pause.
  save(body, counts) {
    this.#lastInput = Date.now();
    const [task, ...others] = this.held;
    if (!task) return;
    Object.assign(task, { draft: body, counts });
    this.#hold([task, ...others]);
    clearTimeout(this.#draftTimer);
    if (body) this.#draftTimer = setTimeout(() => this.#draft(task, body), DRAFT_WAIT_MS);
  }

  async #draft(task, body) {
    const text = JSON.stringify(body);
    if (this.#drafted.get(task.id) === text) return;
    try {
      await api.draft(task, body);
      this.#drafted.set(task.id, text);
    } catch { /* it is kept here; the next change tries again */ }
  }

  /// Sends the answer to the question in hand and shows the next at once; experts' answers wait for what others said.
  async answer(body, client) {
    clearTimeout(this.#draftTimer);
    this.#lastInput = Date.now();
    const [task, ...rest] = this.held;
    const { draft: _, until: __, lifetime_ms: ___, counts: ____, ...bare } = task;
    this.#drafted.delete(task.id);
    this.memory.keep("pace", [...this.memory.recall("pace", []), Math.round(client.visible_ms / 100) / 10].slice(-200));
    const sent = this.outbox.add({ assignment: task.id, token: task.token, body: plain(body), client: { ...client, offline: !navigator.onLine } }, bare);
    this.#hold(rest);
    this.statistics = { ...this.statistics, session_answers: (this.statistics?.session_answers ?? 0) + 1, today_answers: (this.statistics?.today_answers ?? 0) + 1 };
    if (task.escalated) await sent;
    this.#emit("change");
    this.fill();
  }

  /// Takes back the last answer. -> "back" | "nothing" | "offline" | "impossible"
  async undo() {
    let task = null;
    const unsent = this.outbox.takeBack();
    if (unsent) {
      task = { ...unsent.task, draft: unsent.answer.body, lifetime_ms: 60000, until: Date.now() + 60000 };
    } else {
      if (this.outbox.waiting.length) await this.outbox.flush();
      if (this.outbox.waiting.length) return "offline";
      try {
        task = (await api.undo()).assignment;
      } catch (error) {
        return error.offline ? "offline" : /none$/.test(error.message) ? "nothing" : "impossible";
      }
      if (!task) return "nothing";
      task.lifetime_ms = Math.max(30000, task.expires_us / 1000 - serverNow());
      task.until = Date.now() + task.lifetime_ms;
    }
    this.#hold([task, ...this.held.filter((other) => other.id !== task.id)]);
    this.memory.keep("pace", this.memory.recall("pace", []).slice(0, -1));
    this.statistics = { ...this.statistics, session_answers: Math.max(0, (this.statistics?.session_answers ?? 1) - 1), today_answers: Math.max(0, (this.statistics?.today_answers ?? 1) - 1) };
    this.#emit("change");
    return "back";
  }

  #received({ receipt, statistics, others, task }) {
    const waiting = this.outbox.waiting.length;
    if (statistics) {
      // The server does not know yet what waits here.
      this.statistics = { ...statistics, session_answers: (statistics.session_answers ?? 0) + waiting, today_answers: (statistics.today_answers ?? 0) + waiting };
      this.memory.keep("statistics", this.statistics);
    }
    this.last = receipt;
    this.#emit("receipt", { receipt, others, task });
    if (!waiting && (this.why === "offline" || this.held.length < this.depth)) this.fill();
  }

  #refused({ error, answer, task }) {
    if (error.status !== 409) { // e.g. too early, too long: it comes back with what was said
      this.#hold([{ ...task, draft: answer.body, lifetime_ms: 60000, until: Date.now() + 60000 }, ...this.held]);
      this.#emit("change");
    }
    this.#emit("refused", { error });
  }

  /// Keeps leases alive while someone works, and lets go of those that are lost. `all`: right now (after a reload).
  async #renew(all = false) {
    if (!all && Date.now() - this.#lastInput > IDLE_MS) return;
    await Promise.all(this.held.map(async (task) => {
      if (!all && task.until - Date.now() > task.lifetime_ms / 2) return;
      let alive;
      try {
        ({ alive } = await api.renew(task));
      } catch (error) {
        if (error.offline || error.status >= 500 || error.status === 401 || error.status === 429) return; // unknown: keep it
        alive = false;
      }
      const inHand = this.current?.id === task.id;
      const tasks = this.held;
      const mine = tasks.find((each) => each.id === task.id);
      if (!mine) return;
      if (alive) {
        mine.until = Date.now() + mine.lifetime_ms;
        this.#hold(tasks);
      } else if (!(inHand && mine.draft)) {
        // What was begun stays: an expired question whose slot is still free is taken all the same.
        this.#hold(tasks.filter((each) => each.id !== task.id));
        if (inHand) this.#emit("change");
      }
    }));
  }

  #emit(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }
}
