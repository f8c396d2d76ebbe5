// Yes or no to one output: it is released only on a yes.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import { prose, sheet } from "../panes.js";

export function review({ texts, language }, { changed, preferences }) {
  let approved = null;
  const sheets = texts.map((text, position) => sheet(position, texts.length, language, prose(text, language)));
  const options = [[true, "y", "approve"], [false, "n", "reject"]].map(([value, letter, name]) => h("label", { class: `verdict-option ${name}` },
    h("input", { type: "radio", name: "approved", value, "aria-label": t(name), on: { change: () => choose(value) } }),
    h("span", { class: "label", "aria-hidden": "true" }, t(name)), h("kbd", { "aria-hidden": "true" }, letter.toUpperCase())));

  function choose(value) {
    approved = value;
    options.forEach((option, index) => {
      option.querySelector("input").checked = (index === 0) === value;
      option.classList.toggle("chosen", (index === 0) === value);
    });
    changed(t(value ? "approve" : "reject"));
  }

  return {
    main: h("div", { class: "sheets" }, sheets),
    panes: sheets,
    controls: h("fieldset", { class: "verdict-options" }, h("legend", {}, t("release_it")), options),
    missing: () => (approved === null ? t("choose_first") : ""),
    body: () => (approved === null ? null : { outcome: "reviewed", approved }),
    restore: (body) => { if (body.outcome === "reviewed") choose(Boolean(body.approved)); },
    key: (command) => {
      const value = { y: true, 1: true, n: false, 2: false }[command];
      if (value === undefined) return false;
      const again = approved === value;
      choose(value);
      return again || preferences.direct ? "send" : true;
    },
    actions: [],
    hints: [["Y", t("approve")], ["N", t("reject")]],
  };
}
