// Texts to be read: one alone, several below one another, or two side by side of equal height that scroll together, with
// the beginning they share folded and their differences marked on demand. On a phone two become pages to swipe.

import { h, key } from "./dom.js";
import { t, number } from "./i18n.js";
import { markdown } from "./markdown.js";
import { markDifferences, sharedPrefix, words } from "./diff.js";

/// "A", "B", ... of a screen position.
export const letter = (position) => (t("letters").split(" ")[position] ?? String(position + 1));

export function prose(text, language, options) {
  return h("div", { class: "prose", lang: language || null, dir: "auto" }, markdown(text, options));
}

/// A text as a scrolling region of its own; `.end` is what Attention waits for.
export function pane(position, language, ...content) {
  const label = t("answer_label", { letter: letter(position) });
  return h("section", { class: `pane position${position}`, data: { position }, "aria-label": label },
    h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label },
      h("div", { class: "pane-name", "aria-hidden": "true" }, letter(position)),
      ...content,
      h("div", { class: "end", "aria-hidden": "true" })));
}

/// Several texts below one another, each as tall as it is.
export function sheet(position, count, language, ...content) {
  const label = count > 1 ? t("answer_label", { letter: letter(position) }) : t("answer_alone");
  return h("section", { class: `sheet position${position}`, data: { position }, "aria-label": label },
    count > 1 ? h("div", { class: "pane-name", "aria-hidden": "true" }, letter(position)) : null,
    ...content,
    h("div", { class: "end", "aria-hidden": "true" }));
}

function folded(prefix, language, toggled) {
  const count = words(prefix, language).length;
  return h("details", { class: "folded", on: { toggle: toggled } },
    h("summary", {}, t("same_beginning", { count: number(count) })),
    prose(prefix, language));
}

/// Both panes: {node, panes, toggleDiff(), show(position)}.
export class PanePair {
  constructor(texts, language, diff) {
    this.texts = texts;
    this.language = language;
    this.cut = sharedPrefix(texts[0], texts[1]);
    this.bodies = [h("div", { class: "body" }), h("div", { class: "body" })];
    this.panes = this.bodies.map((body, position) => pane(position, language, body));
    this.scrolls = this.panes.map((each) => each.querySelector(".scroll"));
    this.tabs = this.panes.map((_, position) => h("button", {
      type: "button", class: `tab position${position}`, "aria-pressed": position === 0 ? "true" : "false",
      on: { click: () => this.show(position) },
    }, letter(position)));
    this.track = h("div", { class: "track" }, this.panes);
    this.identical = texts[0].trim() === texts[1].trim();
    this.node = h("div", { class: "pair" },
      h("div", { class: "tabs", role: "group", "aria-label": t("which_answer") }, this.tabs),
      this.identical ? h("p", { class: "note" }, t("identical")) : null,
      this.track);
    this.#render(diff);
    this.#together();
    this.track.addEventListener("scroll", () => this.#page(), { passive: true });
  }

  #render(diff) {
    this.diff = diff;
    this.bodies.forEach((body, position) => {
      const rest = prose(this.texts[position].slice(this.cut), this.language);
      const fold = this.cut ? folded(this.texts[position].slice(0, this.cut), this.language, (event) => this.#unfold(event)) : null;
      body.replaceChildren(...(fold ? [fold, rest] : [rest]));
    });
    if (diff) markDifferences(...this.bodies.map((body) => body.lastChild), this.language);
  }

  #unfold({ target }) {
    for (const body of this.bodies) {
      const fold = body.querySelector(".folded");
      if (fold && fold.open !== target.open) fold.open = target.open;
    }
  }

  toggleFold() {
    const fold = this.bodies[0].querySelector(".folded");
    if (fold) fold.open = !fold.open;
  }

  toggleDiff() {
    const open = this.bodies[0].querySelector(".folded")?.open;
    this.#render(!this.diff);
    const fold = this.bodies[0].querySelector(".folded");
    if (fold && open) fold.open = true;
    return this.diff;
  }

  /// The longer text scrolls further: both move by the same share of their way.
  #together() {
    let leader = null, release = 0;
    this.scrolls.forEach((scroll, index) => scroll.addEventListener("scroll", () => {
      if (leader !== null && leader !== index) return;
      leader = index;
      clearTimeout(release);
      release = setTimeout(() => { leader = null; }, 120);
      const other = this.scrolls[1 - index];
      const way = scroll.scrollHeight - scroll.clientHeight, otherWay = other.scrollHeight - other.clientHeight;
      if (way > 0 && otherWay > 0 && !this.paged) other.scrollTop = (scroll.scrollTop / way) * otherWay;
    }, { passive: true }));
  }

  /// Whether the panes are pages to swipe (a phone) rather than side by side.
  get paged() { return this.track.scrollWidth > this.track.clientWidth + 4; }

  #page() {
    if (!this.paged) return;
    const middle = this.track.scrollLeft + this.track.clientWidth / 2;
    const current = middle > this.track.scrollWidth / 2 ? 1 : 0;
    this.tabs.forEach((tab, position) => tab.setAttribute("aria-pressed", String(position === current)));
  }

  show(position) {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.track.scrollTo({ left: position ? this.track.scrollWidth : 0, behavior: still ? "auto" : "smooth" });
    this.scrolls[position].focus({ preventScroll: true });
  }

  scrollBy(share) {
    const current = this.paged ? this.scrolls[this.tabs[1].getAttribute("aria-pressed") === "true" ? 1 : 0]
      : this.scrolls.reduce((a, b) => (b.scrollHeight - b.clientHeight > a.scrollHeight - a.clientHeight ? b : a));
    current.scrollBy({ top: current.clientHeight * share });
  }
}

const ROLES = { user: "role_user", assistant: "role_assistant", system: "role_system" };

/// The prompt: a text, or a conversation. Long ones show their end (the last turn is what was answered).
export function promptView(prompt, language) {
  if (typeof prompt === "string") {
    return prompt.trim() ? h("section", { class: "prompt", "aria-label": t("prompt") }, prose(prompt, language)) : null;
  }
  return h("section", { class: "prompt conversation", "aria-label": t("prompt") },
    prompt.map(({ role, content }) => h("div", { class: `turn ${role in ROLES ? role : "other"}` },
      h("div", { class: "role" }, role in ROLES ? t(ROLES[role]) : role),
      prose(typeof content === "string" ? content : JSON.stringify(content), language))));
}

export function hint(name, text) {
  return h("span", { class: "hint" }, key(name), text);
}
