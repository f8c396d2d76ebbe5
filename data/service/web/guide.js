// The guideline and the keys, beside the work: open while rating, or folded away.

import { h } from "./dom.js";
import { t } from "./i18n.js";
import { markdown } from "./markdown.js";

export class Guide {
  constructor() {
    this.text = h("div", { class: "guideline prose" });
    this.keys = h("dl", { class: "keys" });
    this.close = h("button", { type: "button", class: "plain close", on: { click: () => this.toggle(false) } }, "×");
    this.title = h("h2", {});
    this.keysTitle = h("h2", {});
    this.version = h("p", { class: "quiet version" });
    this.node = h("aside", { id: "guide", hidden: true, tabindex: "-1" },
      h("header", {}, this.title, this.close),
      h("div", { class: "guide-scroll", tabindex: "0", role: "group" }, this.text, this.version, this.keysTitle, this.keys));
    this.label();
  }

  label() {
    this.title.textContent = t("guideline");
    this.keysTitle.textContent = t("keys");
    this.close.setAttribute("aria-label", t("close"));
    this.node.setAttribute("aria-label", t("guideline"));
    this.node.querySelector(".guide-scroll").setAttribute("aria-label", t("guideline"));
  }

  show({ markdown: text, hash }, hints) {
    this.label();
    if (text !== undefined) {
      this.text.replaceChildren(...(text.trim() ? markdown(text, { links: true, headings: true }) : [h("p", { class: "quiet" }, t("no_guideline"))]));
      this.version.textContent = hash ? t("version", { hash: hash.slice(0, 8) }) : "";
    }
    const general = [["⏎", t("send")], ["S", t("skip")], ["F", t("flag")], ["U", t("undo")], ["?", t("guideline")]];
    this.keys.replaceChildren(...[...(hints ?? []), ...general].map(([name, words]) => h("div", {}, h("dt", {}, h("kbd", {}, name)), h("dd", {}, words))));
  }

  toggle(open = this.node.hidden) {
    if (open === !this.node.hidden) return;
    this.node.hidden = !open;
    document.body.classList.toggle("guided", open);
    if (open) this.node.focus({ preventScroll: true });
    else document.querySelector(".task h1")?.focus({ preventScroll: true });
  }
}
