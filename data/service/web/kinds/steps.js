// Each step of an answer: 1 wrong, 2 neither, 3 right. A step is a paragraph; a text without blank lines is cut at its lines.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import { letter, prose, sheet } from "../panes.js";

export function stepsOf(text) {
  const cut = (atBlankLines) => {
    const pieces = [];
    let piece = [];
    const finish = () => { if (piece.length) pieces.push(piece.join("\n")); piece = []; };
    for (const line of text.split("\n")) { // as the server cuts (data/journal/body.cpp)
      const blank = /^[ \t\r]*$/.test(line);
      if (blank || !atBlankLines) finish();
      if (!blank) piece.push(line);
    }
    finish();
    return pieces;
  };
  const paragraphs = cut(true);
  return paragraphs.length > 1 ? paragraphs : cut(false);
}

const VALUES = [[-1, "1", "step_bad", "✗"], [0, "2", "step_neutral", "–"], [1, "3", "step_good", "✓"]];

export function steps({ texts, language }, { changed }) {
  const all = texts.flatMap((text, position) => stepsOf(text).map((piece, step) => ({ position, step, piece, value: null })));
  let current = 0;

  all.forEach((each, index) => {
    each.node = h("li", { class: "step", on: { pointerdown: () => move(index, false), focusin: () => move(index, false) } },
      prose(each.piece, language),
      h("fieldset", { class: "step-values" },
        h("legend", { class: "hidden" }, t("step_number", { step: each.step + 1, letter: letter(each.position) })),
        VALUES.map(([value, , name, sign]) => h("label", { class: `step-value ${name}`, title: t(name) },
          h("input", { type: "radio", name: `step-${index}`, value, "aria-label": t(name), on: { change: () => give(index, value) } }),
          h("span", { "aria-hidden": "true" }, sign)))));
  });
  const sheets = texts.map((_, position) => sheet(position, texts.length, language,
    h("ol", { class: "steps" }, all.filter((each) => each.position === position).map((each) => each.node))));

  function give(index, value, next = false) {
    const each = all[index];
    each.value = value;
    for (const input of each.node.querySelectorAll("input")) input.checked = Number(input.value) === value;
    each.node.dataset.value = value;
    changed(t(VALUES[value + 1][2]));
    if (next && index + 1 < all.length) move(index + 1);
  }

  function move(index, scroll = true) {
    current = Math.max(0, Math.min(all.length - 1, index));
    all.forEach((each, i) => each.node.classList.toggle("current", i === current));
    if (scroll) all[current].node.scrollIntoView({ block: "nearest" });
  }

  move(0, false);
  const left = () => all.filter((each) => each.value === null).length;
  return {
    main: h("div", { class: "sheets" }, sheets),
    panes: sheets,
    controls: h("div", { class: "legend" }, VALUES.map(([, digit, name, sign]) => h("span", { class: "hint" }, h("kbd", {}, digit), `${sign} ${t(name)}`))),
    missing: () => (left() ? t("steps_left", { count: left() }) : ""),
    body: () => (all.some((each) => each.value !== null)
      ? { outcome: "marked", steps: all.filter((each) => each.value !== null).map(({ position, step, value }) => ({ position, step, value })) } : null),
    restore: ({ steps: saved }) => {
      if (!Array.isArray(saved)) return;
      for (const { position, step, value } of saved) {
        const index = all.findIndex((each) => each.position === position && each.step === step);
        if (index >= 0) give(index, value);
      }
    },
    key: (command) => {
      const found = VALUES.find(([, digit]) => digit === command);
      if (found) return give(current, found[0], true), true;
      if (command === "ArrowDown" || command === "j") return move(current + 1), true;
      if (command === "ArrowUp" || command === "k") return move(current - 1), true;
      return false;
    },
    actions: [],
    hints: [["↑ ↓", t("hint_move")], ...VALUES.map(([, digit, name]) => [digit, t(name)])],
  };
}
