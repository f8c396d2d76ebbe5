// Which of two is better, and how much: 1-4 left (much to slightly), 5-8 right (slightly to much), = as good, 0 both bad.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import { PanePair, letter } from "../panes.js";

const STRENGTH = { 1: "much", 2: "clearly", 3: "somewhat", 4: "slightly", 5: "slightly", 6: "somewhat", 7: "clearly", 8: "much" };

const describe = (choice) => {
  if (choice === "=") return t("as_good");
  if (choice === "0") return t("both_bad");
  return t(`better_${STRENGTH[choice]}`, { letter: letter(Number(choice) > 4 ? 1 : 0) });
};

export function pairwise({ texts, language }, { preferences, changed, prefer }) {
  const pair = new PanePair(texts, language, preferences.diff);
  let choice = null;

  const caption = { "=": "tie", 0: "both_bad" };
  const level = (value) => h("label", { class: `level level-${value === "=" ? "tie" : value === "0" ? "bad" : value}`, title: describe(value) },
    h("input", { type: "radio", name: "choice", value, "aria-label": describe(value), on: { change: () => choose(value) } }),
    caption[value] ? h("span", { class: "caption", "aria-hidden": "true" }, t(caption[value])) : null,
    h("span", { class: "bar", "aria-hidden": "true" }),
    h("kbd", { "aria-hidden": "true" }, value));
  const levels = [..."1234=56780"].map(level);
  const words = h("output", { class: "verdict", for: "scale" }, t("choose"));
  const scale = h("fieldset", { class: "scale", id: "scale" },
    h("legend", { class: "hidden" }, t("which_better")),
    h("span", { class: "side side-a", "aria-hidden": "true" }, letter(0)),
    levels.slice(0, 9),
    h("span", { class: "side side-b", "aria-hidden": "true" }, letter(1)),
    levels[9]);

  function choose(value) {
    choice = value;
    for (const each of levels) {
      const input = each.querySelector("input");
      input.checked = input.value === value;
      each.classList.toggle("chosen", input.checked);
    }
    words.textContent = value === null ? t("choose") : describe(value);
    pair.panes.forEach((pane, position) => {
      const better = value !== null && value >= "1" && value <= "8" ? (Number(value) > 4 ? 1 : 0) : null;
      pane.classList.toggle("preferred", better === position);
    });
    changed(describe(value));
  }

  return {
    main: pair.node,
    panes: pair.panes,
    controls: h("div", { class: "choice" }, words, scale),
    tall: true,
    missing: () => (choice === null ? t("choose_first") : ""),
    body: () => {
      if (choice === null) return null;
      if (choice === "0") return { outcome: "both_bad" };
      if (choice === "=") return { outcome: "ordered", ranks: [0, 0] };
      const n = Number(choice);
      return n <= 4 ? { outcome: "ordered", ranks: [0, 1], strength: 5 - n } : { outcome: "ordered", ranks: [1, 0], strength: n - 4 };
    },
    restore: ({ outcome, ranks, strength }) => {
      if (outcome === "both_bad") return choose("0");
      if (outcome !== "ordered" || !Array.isArray(ranks)) return undefined;
      if (ranks[0] === ranks[1]) return choose("=");
      return choose(String(ranks[0] < ranks[1] ? 5 - strength : 4 + strength));
    },
    key: (command) => {
      if (/^[0-8]$/.test(command) || command === "=") {
        const again = choice === command;
        choose(command);
        return again || preferences.direct ? "send" : true;
      }
      if (command === "d") {
        prefer({ diff: pair.toggleDiff() });
        changed(pair.diff ? t("diff_on") : t("diff_off"));
        return true;
      }
      if (command === "e") return pair.toggleFold(), true;
      if (command === "a" || command === "b") return pair.show(command === "a" ? 0 : 1), true;
      if (command === "ArrowLeft" || command === "ArrowRight") return pair.show(command === "ArrowLeft" ? 0 : 1), true;
      if (command === "ArrowDown" || command === "j") return pair.scrollBy(0.2), true;
      if (command === "ArrowUp" || command === "k") return pair.scrollBy(-0.2), true;
      if (command === " " || command === "PageDown") return pair.scrollBy(0.85), true;
      if (command === "PageUp") return pair.scrollBy(-0.85), true;
      return false;
    },
    actions: [["d", "diff", () => pair.diff], ...(pair.cut ? [["e", "unfold"]] : [])],
    hints: [["1 – 4", t("hint_left")], ["5 – 8", t("hint_right")], ["=", t("as_good")], ["0", t("both_bad")],
      ["↑ ↓", t("hint_scroll")], ["← →", t("hint_switch")], ["D", t("diff")], ["E", t("unfold")]],
  };
}
