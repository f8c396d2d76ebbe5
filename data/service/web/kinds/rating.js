// Numbers on every dimension of the project, for each answer.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import { letter, prose, sheet } from "../panes.js";

export function rating({ texts, language }, { project, changed }) {
  const dimensions = project.dimensions ?? [];
  const values = texts.map(() => Object.fromEntries(dimensions.map(({ name }) => [name, null])));
  const rows = [];
  let current = 0;

  const sheets = texts.map((text, position) => sheet(position, texts.length, language, prose(text, language)));
  const forms = texts.map((_, position) => h("section", { class: `ratings position${position}`, "aria-label": t("rating_of", { letter: letter(position) }) },
    texts.length > 1 ? h("div", { class: "pane-name", "aria-hidden": "true" }, letter(position)) : null,
    dimensions.map((dimension) => {
      const index = rows.length;
      const { name, low, high } = dimension;
      const numbers = Array.from({ length: high - low + 1 }, (__, i) => low + i);
      const row = h("fieldset", { class: "likert", on: { focusin: () => move(index, false), pointerdown: () => move(index, false) } },
        h("legend", { dir: "auto" }, dimension.label || name),
        h("div", { class: "points" }, numbers.map((value) => h("label", { class: "point" },
          h("input", { type: "radio", name: `rating-${position}-${name}`, value, "aria-label": String(value), on: { change: () => give(index, value) } }),
          h("span", { "aria-hidden": "true" }, value)))),
        h("div", { class: "ends", dir: "auto" }, h("span", {}, dimension.low_label ?? ""), h("span", {}, dimension.high_label ?? "")));
      rows.push({ row, position, dimension });
      return row;
    })));

  function give(index, value, next = false) {
    const { position, dimension, row } = rows[index];
    values[position][dimension.name] = value;
    for (const input of row.querySelectorAll("input")) input.checked = Number(input.value) === value;
    row.classList.add("given");
    changed(`${dimension.label || dimension.name}: ${value}`);
    if (next && index + 1 < rows.length) move(index + 1);
  }

  function move(index, scroll = true) {
    current = Math.max(0, Math.min(rows.length - 1, index));
    rows.forEach(({ row }, i) => row.classList.toggle("current", i === current));
    if (scroll && rows[current]) rows[current].row.scrollIntoView({ block: "nearest" });
  }

  move(0, false);
  const missing = () => rows.filter(({ position, dimension }) => values[position][dimension.name] === null).length;
  return {
    main: h("div", { class: texts.length > 1 ? "rated several" : "rated" }, texts.map((_, position) => h("div", { class: "rated-one" }, sheets[position], forms[position]))),
    panes: sheets,
    controls: null,
    missing: () => (missing() ? t("ratings_left", { count: missing() }) : ""),
    body: () => (rows.every(({ position, dimension }) => values[position][dimension.name] === null) ? null : { outcome: "rated", ratings: values }),
    restore: ({ ratings }) => {
      if (!Array.isArray(ratings)) return;
      rows.forEach(({ position, dimension }, index) => {
        const value = ratings[position]?.[dimension.name];
        if (Number.isFinite(value)) give(index, value);
      });
    },
    key: (command) => {
      if (/^[0-9]$/.test(command) && rows.length) {
        const { low, high } = rows[current].dimension;
        const value = command === "0" && high >= 10 && low > 0 ? 10 : Number(command);
        if (value >= low && value <= high) give(current, value, true);
        return true;
      }
      if (command === "ArrowDown" || command === "j") return move(current + 1), true;
      if (command === "ArrowUp" || command === "k") return move(current - 1), true;
      return false;
    },
    actions: [],
    hints: [["↑ ↓", t("hint_move")], ["0 – 9", t("hint_rate")]],
  };
}
