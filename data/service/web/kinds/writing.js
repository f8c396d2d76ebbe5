// Writing an answer (demonstration), or editing a given one with the difference in view (correction).

import { h } from "../dom.js";
import { t, number } from "../i18n.js";
import { edits, words } from "../diff.js";
import { letter, prose, sheet } from "../panes.js";

function field({ label, value, language, changed, attention }) {
  const count = h("span", { class: "count quiet" });
  const area = h("textarea", { class: "writing", lang: language || null, dir: "auto", "aria-label": label, rows: 10, spellcheck: "true",
    on: {
      input: (event) => {
        if (event.inputType === "insertText" || event.inputType === "insertLineBreak") attention().typed += event.data?.length ?? 1;
        show();
        changed("");
      },
      paste: (event) => { attention().pasted += event.clipboardData?.getData("text/plain").length ?? 0; },
    } });
  area.value = value;
  const show = () => { count.textContent = t("word_count", { count: number(words(area.value, language).filter((word) => /[\p{L}\p{N}]/u.test(word.text)).length) }); };
  show();
  return { area, count, show };
}

export function demonstration({ language }, { changed, attention }) {
  const { area, count, show } = field({ label: t("your_answer"), value: "", language, changed, attention });
  return {
    main: h("div", { class: "write" }, area, h("div", { class: "under" }, count)),
    panes: [],
    controls: null,
    focus: area,
    missing: () => (area.value.trim() ? "" : t("write_first")),
    body: () => (area.value ? { outcome: "written", text: area.value } : null),
    restore: ({ text }) => { area.value = text ?? ""; show(); },
    key: (command) => (command === "w" ? (area.focus(), true) : false),
    actions: [],
    hints: [["W", t("hint_write")], ["Esc", t("hint_leave_field")], ["Ctrl ⏎", t("send")]],
  };
}

/// The original with what was taken away struck and what was added marked.
function difference(original, edited, language) {
  const split = (text) => {
    const pieces = [];
    let done = 0;
    for (const { start, end } of words(text, language)) {
      if (start > done) pieces.push(text.slice(done, start));
      pieces.push(text.slice(start, end));
      done = end;
    }
    if (done < text.length) pieces.push(text.slice(done));
    return pieces;
  };
  const a = split(original), b = split(edited);
  const runs = [];
  for (const [op, i, j] of edits(a, b)) {
    const piece = op === "+" ? b[j] : a[i];
    if (runs.at(-1)?.op === op) runs.at(-1).text += piece;
    else runs.push({ op, text: piece });
  }
  return runs.map(({ op, text }) => (op === "=" ? text : h(op === "-" ? "del" : "ins", {}, text)));
}

export function correction({ texts, language }, { changed, attention }) {
  let position = 0;
  const drafts = [...texts];
  const shown = h("div", { class: "difference", dir: "auto", lang: language || null, "aria-label": t("your_changes"), role: "region", tabindex: "0" });
  const { area, count, show } = field({ label: t("edit_answer"), value: texts[0], language, attention, changed: (what) => { drafts[position] = area.value; draw(); changed(what); } });
  const tabs = texts.map((_, index) => h("button", { type: "button", class: `tab position${index}`, on: { click: () => choose(index) } }, letter(index)));
  const originals = texts.map((text, index) => sheet(index, texts.length, language, prose(text, language)));

  let pending = 0;
  function draw() {
    show();
    clearTimeout(pending);
    pending = setTimeout(() => {
      const same = drafts[position] === texts[position];
      shown.replaceChildren(...(same ? [h("span", { class: "quiet" }, t("nothing_changed"))] : difference(texts[position], drafts[position], language)));
    }, 150);
  }

  function choose(index) {
    position = index;
    area.value = drafts[position];
    tabs.forEach((tab, i) => tab.setAttribute("aria-pressed", String(i === position)));
    draw();
  }
  choose(0);

  return {
    main: h("div", { class: "correct" },
      texts.length > 1 ? h("div", { class: "originals" }, originals) : null,
      texts.length > 1 ? h("div", { class: "tabs shown", role: "group", "aria-label": t("which_answer") }, tabs) : null,
      h("div", { class: "both" },
        h("div", { class: "half" }, h("h2", { class: "small" }, t("edit_answer")), area, h("div", { class: "under" }, count)),
        h("div", { class: "half" }, h("h2", { class: "small" }, t("your_changes")), shown))),
    panes: texts.length > 1 ? originals : [],
    texts: texts.length,
    controls: null,
    focus: area,
    missing: () => (drafts[position] === texts[position] ? t("change_first") : drafts[position].trim() ? "" : t("write_first")),
    body: () => (drafts[position] === texts[position] ? null : { outcome: "written", position, text: drafts[position] }),
    restore: (body) => {
      const index = Number(body.position) || 0;
      if (index < texts.length && typeof body.text === "string") {
        drafts[index] = body.text;
        choose(index);
      }
    },
    key: (command) => {
      if (command === "w") return area.focus(), true;
      if (/^[1-9]$/.test(command) && Number(command) <= texts.length) return choose(Number(command) - 1), true;
      return false;
    },
    actions: [],
    hints: [["W", t("hint_write")], ["Esc", t("hint_leave_field")], ["Ctrl ⏎", t("send")]],
  };
}
