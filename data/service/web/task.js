// One question on screen: its prompt, its texts, the controls of its kind, and the way to the answer.

import { h, button, say } from "./dom.js";
import { t, number, flagName } from "./i18n.js";
import { Attention } from "./attention.js";
import { promptView, letter } from "./panes.js";
import { pairwise } from "./kinds/pairwise.js";
import { ranking } from "./kinds/ranking.js";
import { rating } from "./kinds/rating.js";
import { demonstration, correction } from "./kinds/writing.js";
import { spans } from "./kinds/spans.js";
import { steps } from "./kinds/steps.js";
import { review } from "./kinds/review.js";

const KINDS = { pairwise, ranking, rating, demonstration, correction, spans, steps, review };
const QUESTIONS = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, `question_${kind}`]));

export class TaskView {
  /// actions: {send(body, client), save(body), undo(), skip(), flag(), help()}.
  constructor(task, { project, preferences, prefer, actions }) {
    this.task = task;
    this.actions = actions;
    this.flags = task.draft?.flags ?? [];
    this.armed = false;
    this.done = false;
    this.asked = !task.ask_rationale;
    const changed = (words, save = true) => this.#changed(words, save);
    this.kind = KINDS[task.kind](task, { project, preferences, prefer, changed, attention: () => this.attention });

    this.status = h("p", { class: "status", id: "status" });
    this.submit = button(t("send"), { keys: "Enter", shown: "⏎", kind: "primary", id: "submit", "aria-describedby": "status", on: { click: () => this.send() } });
    this.rationale = h("textarea", { class: "rationale-text", rows: 2, dir: "auto", "aria-label": t("why"), placeholder: t("why_placeholder"), on: { input: () => this.#changed("") } });
    this.rationaleBox = h("div", { class: "rationale", hidden: true }, h("label", {}, h("span", {}, t("why")), this.rationale));
    this.marks = h("p", { class: "flags-set quiet" });
    const prompt = promptView(task.prompt, task.language);
    this.node = h("article", { class: `task ${task.kind} ${this.kind.tall ? "tall" : ""}`, "aria-label": t(QUESTIONS[task.kind]) },
      h("h1", { class: "question" }, t(QUESTIONS[task.kind])),
      task.escalated ? h("p", { class: "note escalated" }, t("escalated")) : null,
      prompt ? this.#foldable(prompt) : null,
      h("div", { class: "work" }, this.kind.main));
    this.controls = h("footer", { class: "controls", "aria-label": t("controls") },
      h("div", { class: "measure" }, this.kind.controls, this.rationaleBox, this.marks, this.#row()));
  }

  #foldable(prompt) {
    const more = h("button", { type: "button", class: "plain more", hidden: true, "aria-expanded": "false", on: { click: () => {
      const open = box.classList.toggle("open");
      more.textContent = t(open ? "less" : "more");
      more.setAttribute("aria-expanded", String(open));
    } } }, t("more"));
    prompt.tabIndex = 0;
    const box = h("div", { class: "prompt-box" }, prompt, more);
    this.fit = () => {
      if (box.classList.contains("open")) return;
      more.hidden = prompt.scrollHeight <= prompt.clientHeight + 4;
      if (!more.hidden && prompt.classList.contains("conversation")) prompt.scrollTop = prompt.scrollHeight;
    };
    return box;
  }

  #row() {
    const small = (name, shortcut, act, pressed) => button(t(name), { keys: shortcut, kind: "quiet-button", "aria-pressed": pressed === undefined ? null : String(pressed), data: { action: name }, on: { click: act } });
    this.toggles = (this.kind.actions ?? []).map(([shortcut, name, state]) => {
      const node = small(name, shortcut.toUpperCase(), () => { this.command(shortcut, {}); }, state ? Boolean(state()) : undefined);
      return { node, state };
    });
    return h("div", { class: "row" },
      h("div", { class: "secondary" },
        this.toggles.map(({ node }) => node),
        small("skip", "S", () => this.actions.skip()),
        small("flag", "F", () => this.actions.flag()),
        small("undo", "U", () => this.actions.undo()),
        small("help", "?", () => this.actions.help())),
      h("div", { class: "send" }, this.status, this.submit));
  }

  /// After the node is in the document.
  opened() {
    this.attention = new Attention(this.kind.panes, this.task.dwell_ms ?? 0, () => this.#gate(), this.task.counts);
    if (this.task.draft) {
      this.restoring = true;
      this.kind.restore(this.task.draft);
      if (this.task.draft.rationale) this.rationale.value = this.task.draft.rationale;
      this.restoring = false;
    }
    this.fit?.();
    this.node.querySelector("h1").tabIndex = -1;
    (this.kind.focus ?? this.node.querySelector("h1")).focus({ preventScroll: true });
    this.#show();
  }

  close() { this.attention?.close(); }

  get body() {
    const body = this.kind.body();
    if (!body) return null;
    if (this.flags.length) body.flags = this.flags;
    const why = this.rationale.value.trim();
    if (why) body.rationale = why;
    return body;
  }

  setFlags(flags) {
    this.flags = flags;
    this.#changed(flags.map(flagName).join(", "));
  }

  client(extra = {}) { return this.attention.report(extra); }

  #changed(words, save = true) {
    if (this.restoring || !this.attention) return;
    this.attention.input();
    this.armed = false;
    if (words) say(words);
    if (save) this.actions.save(this.body, this.attention.counts);
    this.#show();
  }

  /// Why the answer cannot go yet; "" when it can.
  #reason() {
    const missing = this.kind.missing();
    if (missing) return missing;
    const [unseen] = this.attention.unseen;
    if (unseen !== undefined) return t("see_to_end", { letter: this.kind.panes.length > 1 ? letter(unseen) : t("answer_alone") });
    const left = Math.ceil(this.attention.left / 1000);
    if (left > 0) return t(this.armed ? "sends_in" : "wait_seconds", { seconds: number(left) });
    return "";
  }

  #show() {
    const reason = this.#reason();
    if (this.status.textContent !== reason) this.status.textContent = reason;
    this.submit.setAttribute("aria-disabled", String(Boolean(reason)));
    this.submit.classList.toggle("waiting", Boolean(reason));
    this.marks.textContent = [this.flags.map((flag) => `⚑ ${flagName(flag)}`).join("  "), this.kind.verdict?.() ?? ""].filter(Boolean).join(" · ");
    this.node.parentElement?.classList.toggle("armed", this.armed);
    for (const { node, state } of this.toggles) if (state) node.setAttribute("aria-pressed", String(Boolean(state())));
  }

  #gate() {
    this.#show();
    if (this.armed && this.attention.open) this.send();
  }

  send() {
    if (this.done) return;
    const reason = this.#reason();
    const waits = !this.kind.missing() && this.attention.unseen.length === 0;
    if (reason && waits) {
      this.armed = true; // the rater has decided; only the least time is left
      this.#show();
      say(this.status.textContent);
      return;
    }
    if (reason) {
      say(reason);
      this.status.classList.remove("told");
      void this.status.offsetWidth;
      this.status.classList.add("told");
      this.#lead();
      return;
    }
    if (!this.asked) {
      this.asked = true;
      this.rationaleBox.hidden = false;
      this.rationale.focus();
      say(t("why"));
      return;
    }
    this.done = true;
    this.actions.send(this.body, this.client());
  }

  /// Shows what was not seen yet.
  #lead() {
    const [unseen] = this.attention.unseen;
    const pane = this.kind.panes[unseen];
    if (!pane) return;
    pane.classList.remove("pulse");
    void pane.offsetWidth;
    pane.classList.add("pulse");
    const scroll = pane.querySelector(".scroll");
    if (!scroll) return;
    pane.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /// A key's command; true when it was for the question.
  command(command, event) {
    const result = this.kind.key(command, event);
    if (result === "send") this.send();
    if (result) this.#show();
    return Boolean(result);
  }
}
