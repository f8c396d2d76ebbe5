// The raters' page: signing in, the guideline, questions, and what lies between them.

import { h, button, command, say, typing } from "./dom.js";
import { LANGUAGES, moment, number, t, useLanguage } from "./i18n.js";
import { api } from "./api.js";
import { forget, keep, memoryOf, prefer, preferences, recall } from "./memory.js";
import { Work } from "./work.js";
import { TaskView } from "./task.js";
import { Guide } from "./guide.js";
import { askFlags, askPassword, askSkip, showOthers, showSettings, showStatistics } from "./dialogs.js";
import { sentence } from "./sentences.js";

const BREAK_AFTER_MINUTES = 50;

class App {
  constructor() {
    this.ui = document.documentElement.dataset.assets?.split("/").at(-1) ?? "";
    this.guide = new Guide();
    this.screen = h("main", { id: "screen" });
    this.footer = h("div", { id: "footer" });
    this.toast = h("div", { class: "toast", hidden: true });
    this.began = recall("began") ?? Date.now();
    this.applyPreferences();
  }

  applyPreferences() {
    const { language, theme } = preferences();
    useLanguage(language);
    document.documentElement.dataset.theme = theme;
  }

  async start() {
    this.header();
    document.body.append(h("a", { class: "skip-link", href: "#screen" }, t("skip_link")), this.top, this.screen, this.guide.node, this.footer, this.toast,
      h("div", { id: "live", class: "hidden", "aria-live": "polite", role: "status" }));
    document.addEventListener("keydown", (event) => this.keydown(event));
    // A pointer leaves no focus behind that would swallow the next Enter or arrow.
    let pointed = 0;
    document.addEventListener("pointerdown", () => { pointed = performance.now(); });
    document.addEventListener("click", ({ target }) => {
      if (performance.now() - pointed < 1000) target.closest?.("button, summary, input[type=radio]")?.blur();
    });
    this.keepFiles();
    const invitation = location.pathname === "/join" ? location.hash.slice(1) : "";
    if (invitation) return this.joinScreen(invitation);
    return this.enter();
  }

  /// A service worker keeps the page's files, so that a reload without a network works.
  keepFiles() {
    if (!("serviceWorker" in navigator)) return;
    const policy = globalThis.trustedTypes?.createPolicy("hone", { createScriptURL: (url) => {
      if (url !== "/worker.js") throw new TypeError("only the page's own worker");
      return url;
    } });
    navigator.serviceWorker.register(policy ? policy.createScriptURL("/worker.js") : "/worker.js").then(() => navigator.serviceWorker.ready).then(({ active }) => {
      const files = performance.getEntriesByType("resource").map(({ name }) => new URL(name)).filter(({ origin, pathname }) => origin === location.origin && pathname.startsWith("/assets/"));
      active.postMessage({ keep: ["/", ...files.map(({ pathname }) => pathname)] });
    }).catch(() => {});
  }

  header() {
    this.title = h("bdi", { class: "project" });
    this.sync = h("span", { class: "sync", role: "status" });
    this.count = h("button", { type: "button", class: "plain count", on: { click: () => this.statistics() } });
    this.bar = h("div", { class: "progress", hidden: true }, h("div", { class: "done" }));
    this.top = h("header", { id: "top" },
      h("span", { class: "mark", "aria-hidden": "true" }, "Hone"), this.title,
      h("span", { class: "space" }), this.sync, this.manageLink = h("a", { href: "/manage", class: "plain", hidden: true }), this.count,
      this.guideButton = h("button", { type: "button", class: "plain icon", on: { click: () => this.guide.toggle() } }, "?"),
      this.settingsButton = h("button", { type: "button", class: "plain icon", on: { click: () => this.settings() } }, "⚙"),
      this.bar);
    this.labels();
  }

  labels() {
    this.guideButton.setAttribute("aria-label", t("guideline"));
    this.guideButton.title = t("guideline");
    this.settingsButton.setAttribute("aria-label", t("settings"));
    this.settingsButton.title = t("settings");
    this.top.setAttribute("aria-label", t("page_header"));
    this.manageLink.textContent = t("manage");
    this.manageLink.hidden = !["manager", "owner"].includes(this.me?.role);
    for (const node of [this.guideButton, this.count]) node.hidden = !this.work;
  }

  async enter(given) {
    this.message(t("loading"));
    let me = given;
    try {
      me ??= await api.me();
      keep("me", { ...me, csrf: undefined });
    } catch (error) {
      if (error.status === 401 || error.status === 403) return this.loginScreen();
      me = recall("me");
      if (!me) return this.message(t("no_connection"), button(t("try_again"), { kind: "primary", on: { click: () => this.enter() } }));
    }
    this.me = me;
    this.memory = memoryOf(me.pseudonym);
    this.work?.stop();
    this.work = new Work(me, this.memory, this.ui);
    this.work.addEventListener("change", () => this.show());
    this.work.addEventListener("sync", () => this.showSync());
    this.work.addEventListener("receipt", ({ detail }) => this.receipt(detail));
    this.work.addEventListener("refused", ({ detail }) => this.notify(t(detail.error.status === 409 ? "taken" : "not_taken")));
    this.work.addEventListener("signed-out", () => this.loginScreen());
    this.title.textContent = me.project?.title ?? "";
    document.title = me.project?.title ? `${me.project.title} · Hone` : "Hone";
    this.labels();
    this.showSync();
    await this.loadGuideline(me.guideline_hash ?? me.project?.guideline_hash);
    if (this.guideline.hash && this.memory.recall("guideline_read") !== this.guideline.hash && this.guideline.markdown.trim()) return this.welcomeScreen();
    return this.begin();
  }

  async loadGuideline(hash) {
    const kept = this.memory.recall("guideline");
    this.guideline = kept?.hash === hash ? kept : { hash, markdown: kept?.markdown ?? "" };
    if (kept?.hash !== hash) {
      try {
        this.guideline = await api.guideline(hash);
        this.memory.keep("guideline", this.guideline);
      } catch { /* the older one, or none, until there is a network */ }
    }
    this.guide.show(this.guideline);
  }

  async begin() {
    if (Date.now() - this.began > 12 * 3600e3 || recall("began") === null) keep("began", this.began = Date.now());
    this.message(t("loading"));
    await this.work.start();
    this.show();
  }

  // Screens

  place(node, footer = null) {
    this.view?.close();
    this.view = null;
    this.screen.replaceChildren(node);
    this.footer.replaceChildren(...(footer ? [footer] : []));
  }

  message(text, ...more) {
    this.place(h("div", { class: "message" }, h("h1", {}, text), more));
  }

  joinScreen(invitation) {
    const language = h("select", { id: "join-language", on: { change: () => { prefer({ language: language.value }); this.applyPreferences(); this.labels(); this.joinScreen(invitation); } } },
      Object.entries(LANGUAGES).map(([code, words]) => h("option", { value: code, selected: code === document.documentElement.lang }, words.name)));
    const problem = h("p", { class: "problem", role: "alert" });
    const join = button(t("join"), { kind: "primary", shown: "⏎", on: { click: async () => {
      join.disabled = true;
      try {
        const me = await api.join(invitation);
        history.replaceState(null, "", "/");
        await this.enter(me);
      } catch (error) {
        join.disabled = false;
        problem.textContent = error.offline ? t("no_connection") : error.status === 429 ? t("slow_down") : t("link_used");
      }
    } } });
    this.place(h("div", { class: "message card" }, h("h1", {}, t("welcome")), h("p", {}, t("join_explain")), h("p", { class: "quiet" }, t("privacy")),
      h("label", { for: "join-language" }, t("language")), language, problem, h("div", { class: "row end-row" }, join)));
    this.onEnter = () => join.click();
  }

  loginScreen() {
    this.onEnter = null;
    const name = h("input", { id: "name", class: "text", autocomplete: "username", required: true });
    const password = h("input", { id: "password", class: "text", type: "password", autocomplete: "current-password", required: true });
    const problem = h("p", { class: "problem", role: "alert" });
    const form = h("form", { class: "message card", on: { submit: async (event) => {
      event.preventDefault();
      try {
        await this.enter(await api.login(name.value, password.value));
      } catch (error) {
        problem.textContent = error.offline ? t("no_connection") : error.status === 429 ? t("slow_down") : t("wrong_login");
      }
    } } }, h("h1", {}, t("sign_in")), h("p", {}, t("sign_in_explain")),
    h("label", { for: "name" }, t("name_label")), name, h("label", { for: "password" }, t("password")), password, problem,
    h("div", { class: "row end-row" }, h("button", { class: "button primary" }, t("sign_in"))));
    this.place(form);
    this.showSync();
  }

  welcomeScreen() {
    const go = () => {
      this.onEnter = null;
      this.memory.keep("guideline_read", this.guideline.hash);
      this.begin();
    };
    const guide = new Guide();
    guide.show(this.guideline);
    this.place(h("div", { class: "message welcome" }, h("h1", {}, h("bdi", {}, this.me.project?.title || t("guideline"))), guide.text, h("p", { class: "quiet" }, t("guideline_later"))),
      h("footer", { class: "controls" }, h("div", { class: "measure row end-row" }, button(t("begin"), { kind: "primary", shown: "⏎", on: { click: go } }))));
    this.onEnter = go;
  }

  show() {
    if (!this.work) return;
    this.onEnter = null;
    const task = this.work.current;
    this.work.shown = task?.id ?? "";
    this.showSync();
    if (!task) return this.pauseScreen();
    clearTimeout(this.retry);
    this.viewPreferences = preferences();
    const view = new TaskView(task, {
      project: this.me.project ?? {}, preferences: this.viewPreferences, prefer,
      actions: {
        send: (body, client) => this.work.answer(body, { ...client, ui: this.ui }),
        save: (body, counts) => this.work.save(body, counts),
        undo: () => this.undo(), skip: () => this.skip(), flag: () => this.flag(), help: () => this.guide.toggle(),
      },
    });
    this.place(view.node, view.controls);
    this.view = view;
    this.screen.scrollTop = 0;
    view.opened();
    this.guide.show({}, view.kind.hints);
    this.suggestBreak();
  }

  pauseScreen() {
    const waiting = this.work.outbox.waiting.length;
    const why = this.work.why ?? (waiting ? "offline" : "done");
    const known = ["done", "all-leased", "session-cap", "daily-cap", "not-qualified", "language", "offline", "slow-down", "trouble"].includes(why) ? why : "done";
    const again = ["all-leased", "offline", "slow-down", "trouble"].includes(known);
    const capped = known.endsWith("-cap");
    const name = known.replaceAll("-", "_");
    clearTimeout(this.retry);
    this.message(t(`pause_${name}`), h("p", {}, t(`pause_${name}_more`)),
      capped ? h("p", {}, t("pause_until", { time: moment(this.work.retryAt, { timeStyle: "short" }) })) : null,
      waiting ? h("p", { class: "quiet" }, t("unsent", { count: number(waiting) })) : null,
      h("div", { class: "row centred" },
        button(t("undo"), { keys: "U", kind: "quiet-button", on: { click: () => this.undo() } }),
        button(t("your_session"), { kind: "quiet-button", on: { click: () => this.statistics() } }),
        again ? button(t("try_again"), { kind: "primary", shown: "⏎", on: { click: () => this.more() } }) : null));
    if (again) {
      this.retry = setTimeout(() => this.more(), Math.max(2000, Math.min(this.work.retryAt - Date.now(), 30000)));
      this.onEnter = () => this.more();
    } else if (capped) {
      this.retry = setTimeout(() => this.more(), Math.max(2000, Math.min(this.work.retryAt - Date.now(), 2 ** 31 - 1)));
    }
  }

  more() {
    this.work.outbox.flush();
    return this.work.fill();
  }

  // What a person does

  keydown(event) {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
      event.preventDefault();
      if (this.view) this.view.send(); else this.onEnter?.();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.key === "Tab") return;
    if (event.altKey && !event.key.startsWith("Arrow")) return;
    if (typing(event.target)) {
      if (event.key === "Escape") event.target.blur();
      else if (event.key === "Enter" && event.target.classList.contains("rationale-text") && !event.shiftKey) {
        event.preventDefault();
        this.view?.send();
      }
      return;
    }
    const pressed = command(event);
    if (event.target.type === "radio" && event.key.startsWith("Arrow")) return; // within a group of choices
    const onControl = event.target.closest?.("button, a, summary");
    if (onControl && (pressed === "Enter" || pressed === " ")) return;
    if (this.run(pressed, event)) event.preventDefault();
  }

  run(pressed, event) {
    if (pressed === "Enter") return this.view ? (this.view.send(), true) : this.onEnter ? (this.onEnter(), true) : false;
    if (event.repeat && pressed.length === 1 && pressed !== "j" && pressed !== "k" && pressed !== " ") return true; // a key held down is one press
    if (pressed === "Escape" && !this.guide.node.hidden) return this.guide.toggle(false), true;
    if (this.view?.command(pressed, event)) return true;
    if (!this.work) return false;
    const act = { u: () => this.undo(), "?": () => this.guide.toggle(), g: () => this.guide.toggle(), i: () => this.statistics(), ",": () => this.settings(),
      ...(this.view ? { s: () => this.skip(), f: () => this.flag() } : {}) }[pressed];
    if (!act) return false;
    act();
    return true;
  }

  async skip() {
    const view = this.view;
    const given = await askSkip();
    if (given && view === this.view) this.leave(view, { outcome: "skipped", reason: given.reason });
  }

  async flag() {
    const view = this.view;
    const given = await askFlags(this.me.project?.flags ?? ["unsafe", "personal-data", "wrong-language", "cannot-judge"], view.flags);
    if (!given || view !== this.view) return;
    if (given.alone) this.leave(view, { outcome: "flagged", flags: given.flags, ...(given.reason ? { reason: given.reason } : {}) });
    else view.setFlags(given.flags);
  }

  leave(view, body) {
    view.done = true;
    this.work.answer(body, { ...view.client(), ui: this.ui });
  }

  async undo() {
    const result = await this.work.undo();
    if (result === "back") say(t("undone"));
    else this.notify(t(`undo_${result}`));
  }

  statistics() {
    showStatistics(this.work.statistics, this.memory.recall("pace", []), (Date.now() - this.began) / 60000);
  }

  async settings() {
    const before = document.documentElement.lang;
    const result = await showSettings(this.me?.project?.languages, (change) => { Object.assign(this.viewPreferences ?? {}, prefer(change)); this.applyPreferences(); }, Boolean(this.work));
    if (result === "logout") return this.logout();
    if (result === "password") {
      const saved = await askPassword(this.me, async (change) => {
        await api.password(change);
        Object.assign(this.me, { name: change.name, has_password: true });
      });
      if (saved) this.notify(t("saved"));
    }
    this.labels();
    if (document.documentElement.lang !== before) location.reload();
    return undefined;
  }

  async logout() {
    if (this.work.outbox.waiting.length) await this.work.outbox.flush();
    if (this.work.outbox.waiting.length) return this.notify(t("unsent", { count: number(this.work.outbox.waiting.length) }));
    try { await api.logout(); } catch (error) { if (error.offline) return this.notify(t("no_connection")); }
    for (const name of ["held", "guideline", "pace", "statistics"]) this.memory.forget(name);
    forget("me");
    forget("began");
    location.assign("/");
    return undefined;
  }

  // What the page says

  receipt({ receipt, others, task }) {
    this.showSync();
    if (others?.length && task?.escalated) {
      showOthers(others.map((body) => sentence(typeof body === "string" ? JSON.parse(body) : body))).then((chosen) => { if (chosen === "revise") this.undo(); });
    }
    this.sync.classList.remove("arrived");
    void this.sync.offsetWidth;
    this.sync.classList.add("arrived");
    this.lastReceipt = receipt;
  }

  showSync() {
    if (!this.work) return;
    const { outbox, last, statistics } = this.work;
    const waiting = outbox.waiting.length;
    const held = ["offline", "trouble"].includes(outbox.state);
    const text = waiting ? (held ? t(`${outbox.state}_waiting`, { count: number(waiting) }) : t("sending")) : last ? t("stored", { number: number(last.sequence) }) : "";
    if (this.sync.textContent !== text) this.sync.textContent = text;
    this.sync.classList.toggle("offline", Boolean(waiting) && held);
    this.sync.title = last && !waiting ? t("stored_more", { hash: last.hash?.slice(0, 12) ?? "" }) : "";
    const cap = this.me.project?.session_answers ?? 0;
    const done = statistics?.session_answers ?? 0;
    this.count.textContent = cap ? t("count_of", { count: number(done), of: number(cap) }) : t("count", { count: number(done) });
    this.bar.hidden = !cap;
    this.bar.firstChild.style.inlineSize = `${Math.min(100, (100 * done) / (cap || 1))}%`;
  }

  notify(text) {
    this.toast.textContent = text;
    this.toast.hidden = false;
    say(text);
    clearTimeout(this.toastTimer);
    this.toastTimer = setTimeout(() => { this.toast.hidden = true; }, 6000);
  }

  suggestBreak() {
    const minutes = (Date.now() - this.began) / 60000;
    const limit = this.me.project?.session_minutes || BREAK_AFTER_MINUTES;
    if (minutes > limit && !this.rested) {
      this.rested = true;
      this.notify(t("break", { minutes: number(Math.round(minutes)) }));
    }
  }
}

new App().start();
