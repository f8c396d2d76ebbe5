// Marks on pieces of a text. Offsets are Unicode code points of the text as it was sent, so it is shown as plain text.
// Keyboard: arrows move by words, Shift extends, a digit marks with that label; pointer and touch: select, then a label.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import { words } from "../diff.js";
import { letter, sheet } from "../panes.js";

/// UTF-16 offset -> code point offset.
export const codePoints = (text, offset) => [...text.slice(0, offset)].length;
/// Code point offset -> UTF-16 offset.
export const codeUnits = (text, offset) => [...text].slice(0, offset).join("").length;

export function spans({ texts, language }, { project, changed }) {
  const labels = project.span_labels ?? [];
  const tokens = texts.map((text) => words(text, language));
  let marks = []; // {position, start, end, label}, UTF-16
  let position = 0, anchor = 0, cursor = 0, active = false, none = false;

  const bodies = texts.map((_, index) => h("div", {
    class: "plain-text markable", tabindex: "0", role: "group", dir: "auto", lang: language || null,
    "aria-label": t("mark_text", { letter: letter(index) }),
    on: { focus: () => { position = index; active = true; drawCursor(); }, blur: () => { active = false; drawCursor(); },
      pointerup: () => fromSelection(index), keyup: () => {} },
  }));
  const sheets = bodies.map((body, index) => sheet(index, texts.length, language, body));
  const list = h("ul", { class: "mark-list", "aria-label": t("marks") });
  const bar = h("div", { class: "labels", role: "group", "aria-label": t("labels") }, labels.map((label, index) => h("button", {
    type: "button", class: `button label${index % 6}`, "aria-keyshortcuts": String(index + 1), on: { pointerdown: (event) => event.preventDefault(), click: () => give(index) },
  }, h("span", { class: "swatch", "aria-hidden": "true" }), label, h("kbd", { "aria-hidden": "true" }, index + 1))));

  const range = () => {
    const [from, to] = [Math.min(anchor, cursor), Math.max(anchor, cursor)];
    return tokens[position].length ? { start: tokens[position][from].start, end: tokens[position][to].end } : null;
  };

  function draw() {
    texts.forEach((text, index) => {
      const cuts = new Set([0, text.length]);
      for (const mark of marks) if (mark.position === index) cuts.add(mark.start).add(mark.end);
      for (const token of tokens[index]) cuts.add(token.start).add(token.end);
      const sorted = [...cuts].sort((a, b) => a - b);
      bodies[index].replaceChildren(...sorted.slice(0, -1).map((start, i) => {
        const end = sorted[i + 1];
        const over = marks.filter((mark) => mark.position === index && mark.start <= start && mark.end >= end);
        const piece = h("span", { data: { start }, class: over.map((mark) => `marked label${labels.indexOf(mark.label) % 6}`).join(" ") || null }, text.slice(start, end));
        return piece;
      }));
    });
    list.replaceChildren(...marks.map((mark) => h("li", {},
      h("span", { class: `swatch label${labels.indexOf(mark.label) % 6}`, "aria-hidden": "true" }),
      h("span", { class: "mark-label" }, mark.label),
      h("q", { dir: "auto" }, texts[mark.position].slice(mark.start, mark.end)),
      h("button", { type: "button", class: "plain", "aria-label": t("remove_mark", { label: mark.label }), on: { click: () => remove(mark) } }, "×"))));
    drawCursor();
  }

  function drawCursor() {
    const here = range();
    bodies.forEach((body, index) => {
      for (const piece of body.children) {
        const start = Number(piece.dataset.start);
        piece.classList.toggle("cursor", Boolean(active && here) && index === position && start >= here.start && start < here.end);
      }
    });
  }

  function fromSelection(index) {
    const selection = getSelection();
    if (!selection.rangeCount || selection.isCollapsed) {
      const piece = selection.anchorNode?.parentElement?.closest?.("[data-start]");
      if (piece && bodies[index].contains(piece)) {
        anchor = cursor = Math.max(0, tokens[index].findLastIndex((token) => token.start <= Number(piece.dataset.start)));
        position = index;
        drawCursor();
      }
      return;
    }
    const offset = (node, at) => {
      const piece = (node.nodeType === Node.TEXT_NODE ? node.parentElement : node.children[at] ?? node.lastElementChild)?.closest("[data-start]");
      return piece && bodies[index].contains(piece) ? Number(piece.dataset.start) + (node.nodeType === Node.TEXT_NODE ? at : 0) : null;
    };
    const picked = selection.getRangeAt(0);
    const start = offset(picked.startContainer, picked.startOffset), end = offset(picked.endContainer, picked.endOffset);
    if (start === null || end === null || start >= end) return;
    const inside = tokens[index].map((token, i) => (token.end > start && token.start < end ? i : -1)).filter((i) => i >= 0);
    if (!inside.length) return;
    position = index;
    [anchor, cursor] = [inside[0], inside.at(-1)];
    active = true;
    drawCursor();
  }

  function give(index) {
    const here = range();
    if (!here || !labels[index]) return;
    none = false;
    marks = marks.filter((mark) => mark.position !== position || mark.end <= here.start || mark.start >= here.end);
    marks.push({ position, ...here, label: labels[index] });
    marks.sort((a, b) => a.position - b.position || a.start - b.start);
    anchor = cursor = Math.min(tokens[position].length - 1, Math.max(anchor, cursor) + 1);
    getSelection().removeAllRanges();
    draw();
    changed(t("marked_as", { label: labels[index] }));
  }

  function remove(mark) {
    marks = marks.filter((each) => each !== mark);
    draw();
    changed(t("mark_removed"));
  }

  function step(by, extend) {
    cursor = Math.max(0, Math.min(tokens[position].length - 1, cursor + by));
    if (!extend) anchor = cursor;
    active = true;
    drawCursor();
    bodies[position].querySelector(".cursor")?.scrollIntoView({ block: "nearest" });
    const here = range();
    if (here) changed(texts[position].slice(here.start, here.end), false);
  }

  draw();
  return {
    main: h("div", { class: "sheets" }, sheets),
    panes: sheets,
    controls: h("div", { class: "marking" }, bar, list),
    focus: bodies[0],
    missing: () => (marks.length || none ? "" : t("mark_first")),
    body: () => (marks.length || none ? {
      outcome: "marked",
      spans: marks.map(({ position: at, start, end, label }) => ({ position: at, start: codePoints(texts[at], start), end: codePoints(texts[at], end), label })),
    } : null),
    restore: ({ spans: saved }) => {
      if (!Array.isArray(saved)) return;
      marks = saved.filter((mark) => mark.position < texts.length).map(({ position: at, start, end, label }) => ({ position: at, start: codeUnits(texts[at], start), end: codeUnits(texts[at], end), label }));
      none = !marks.length;
      draw();
    },
    key: (command, event) => {
      const leftward = getComputedStyle(bodies[position]).direction === "rtl" ? 1 : -1;
      if (command === "ArrowRight") return step(-leftward, event.shiftKey), true;
      if (command === "ArrowLeft") return step(leftward, event.shiftKey), true;
      if (command === "ArrowDown") return step(10, event.shiftKey), true;
      if (command === "ArrowUp") return step(-10, event.shiftKey), true;
      if (/^[1-9]$/.test(command) && labels[Number(command) - 1]) return give(Number(command) - 1), true;
      if (command === "0") {
        marks = [];
        none = true;
        draw();
        changed(t("nothing_to_mark"));
        return true;
      }
      if (command === "Backspace" || command === "Delete") {
        const here = range();
        const over = marks.findLast((mark) => mark.position === position && here && mark.start < here.end && mark.end > here.start) ?? marks.at(-1);
        if (over) remove(over);
        return true;
      }
      return false;
    },
    verdict: () => (none ? t("nothing_to_mark") : ""),
    actions: [["0", "nothing_to_mark", () => none]],
    hints: [["← →", t("hint_words")], ["⇧ ← →", t("hint_extend")], [`1 – ${Math.min(9, labels.length)}`, t("hint_label")], ["⌫", t("hint_unmark")], ["0", t("nothing_to_mark")]],
  };
}
