// The order of several answers, best first; equal ranks and unranked ones are allowed. By keyboard (move to an answer, give
// it a digit), by taps on ranks, or by dragging letters between the rungs of the ladder.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import { letter, prose, sheet } from "../panes.js";

/// 0-based ranks without gaps; null stays null.
export function dense(ranks) {
  const used = [...new Set(ranks.filter((rank) => rank !== null))].sort((a, b) => a - b);
  return ranks.map((rank) => (rank === null ? null : used.indexOf(rank)));
}

export function ranking({ texts, language }, { changed }) {
  const ranks = texts.map(() => null);
  let bad = false, current = 0, last = null;

  const choosers = texts.map((_, position) => h("fieldset", { class: "ranks" },
    h("legend", { class: "hidden" }, t("rank_of", { letter: letter(position) })),
    texts.map((__, rank) => h("label", { class: "rank" },
      h("input", { type: "radio", name: `rank${position}`, value: rank, "aria-label": t("rank_number", { rank: rank + 1 }),
        on: { change: () => give(position, rank) } }),
      h("span", { "aria-hidden": "true" }, rank + 1))),
    h("button", { type: "button", class: "plain clear", "aria-label": t("no_rank_for", { letter: letter(position) }), on: { click: () => give(position, null) } }, "–")));
  const cards = texts.map((text, position) => {
    const card = sheet(position, texts.length, language, choosers[position], prose(text, language));
    card.tabIndex = -1;
    card.addEventListener("pointerdown", () => move(position, false));
    card.addEventListener("focusin", () => move(position, false));
    return card;
  });
  const ladder = h("div", { class: "ladder", role: "group", "aria-label": t("order_so_far") });

  function rung(rank, label, letters) {
    return h("div", { class: `rung ${rank === null ? "tray" : ""}`, data: { rank: rank === null ? "" : rank } },
      h("span", { class: "rung-name" }, label),
      letters.map((position) => h("button", {
        type: "button", class: `chip position${position}`, data: { position },
        "aria-label": t("chip", { letter: letter(position), place: label }),
        on: { pointerdown: (event) => drag(event, position), click: () => { move(position); cards[position].focus({ preventScroll: true }); } },
      }, letter(position))));
  }

  function draw() {
    const tidy = dense(ranks);
    const count = Math.max(-1, ...tidy.map((rank) => rank ?? -1)) + 1;
    const rows = [];
    for (let rank = 0; rank < count; ++rank) {
      rows.push(h("div", { class: "gap", data: { before: rank } }));
      rows.push(rung(rank, String(rank + 1), tidy.flatMap((value, position) => (value === rank ? [position] : []))));
    }
    rows.push(h("div", { class: "gap", data: { before: count } }));
    rows.push(rung(null, t("unranked"), tidy.flatMap((value, position) => (value === null ? [position] : []))));
    ladder.replaceChildren(...rows);
    ladder.classList.toggle("bad", bad);
    choosers.forEach((chooser, position) => {
      for (const input of chooser.querySelectorAll("input")) input.checked = ranks[position] === Number(input.value);
    });
    cards.forEach((card, position) => {
      card.classList.toggle("current", position === current);
      card.classList.toggle("ranked", ranks[position] !== null);
    });
  }

  function give(position, rank, next = false) {
    bad = false;
    ranks[position] = rank;
    if (rank !== null) last = rank;
    if (next) {
      const unranked = ranks.findIndex((value, index) => value === null && index > position);
      const any = unranked >= 0 ? unranked : ranks.indexOf(null);
      if (any >= 0) move(any);
    }
    draw();
    changed(rank === null ? t("no_rank_for", { letter: letter(position) }) : t("ranked", { letter: letter(position), rank: rank + 1 }));
  }

  function move(position, scroll = true) {
    current = position;
    cards.forEach((card, index) => card.classList.toggle("current", index === current));
    if (scroll) cards[current].scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /// Puts an answer on a rung, or on a new one before rung `before`.
  function place(position, { rank, before }) {
    const tidy = dense(ranks);
    if (before !== undefined) {
      for (let i = 0; i < tidy.length; ++i) if (tidy[i] !== null && tidy[i] >= before) ++tidy[i];
      tidy[position] = before;
    } else tidy[position] = rank;
    dense(tidy).forEach((value, index) => { ranks[index] = value; });
    give(position, ranks[position]);
  }

  function drag(event, position) {
    const chip = event.currentTarget;
    const x = event.clientX, y = event.clientY;
    let moved = false;
    const targetAt = (at) => document.elementsFromPoint(at.clientX, at.clientY).find((each) => each !== chip && (each.matches(".gap, .rung")) && ladder.contains(each));
    const onMove = (at) => {
      moved ||= Math.hypot(at.clientX - x, at.clientY - y) > 6;
      if (!moved) return;
      chip.classList.add("dragged");
      chip.style.transform = `translate(${at.clientX - x}px, ${at.clientY - y}px)`;
      for (const each of ladder.children) each.classList.toggle("target", each === targetAt(at));
    };
    const onUp = (at) => {
      chip.removeEventListener("pointermove", onMove);
      chip.style.transform = "";
      chip.classList.remove("dragged");
      if (!moved) return;
      const target = at.type === "pointercancel" ? null : targetAt(at);
      if (!target) return draw();
      place(position, target.matches(".gap") ? { before: Number(target.dataset.before) } : { rank: target.dataset.rank === "" ? null : Number(target.dataset.rank) });
    };
    chip.setPointerCapture(event.pointerId);
    chip.addEventListener("pointermove", onMove);
    chip.addEventListener("pointerup", onUp, { once: true });
    chip.addEventListener("pointercancel", onUp, { once: true });
  }

  draw();
  return {
    main: h("div", { class: "sheets columns" }, cards),
    panes: cards,
    controls: ladder,
    missing: () => (bad || ranks.filter((rank) => rank !== null).length >= 2 ? "" : t("rank_two")),
    body: () => (bad ? { outcome: "both_bad" } : ranks.some((rank) => rank !== null) ? { outcome: "ordered", ranks: dense(ranks) } : null),
    restore: (body) => {
      if (body.outcome === "both_bad") bad = true;
      else if (Array.isArray(body.ranks)) body.ranks.slice(0, texts.length).forEach((rank, position) => { ranks[position] = rank; });
      draw();
    },
    key: (command, event) => {
      if (event.altKey && (command === "ArrowUp" || command === "ArrowDown")) {
        const tidy = dense(ranks);
        const rank = tidy[current];
        if (rank === null) return place(current, { before: Math.max(-1, ...tidy.map((value) => value ?? -1)) + 1 }), true;
        const step = command === "ArrowUp" ? -1 : 1;
        const tied = tidy.filter((value) => value === rank).length > 1;
        tidy[current] = rank + step * (tied ? 0.5 : 1.5); // out of a tie first, past the next rung else
        dense(tidy).forEach((value, index) => { ranks[index] = value; });
        return give(current, ranks[current]), true;
      }
      if (/^[1-9]$/.test(command) && Number(command) <= texts.length) return give(current, Number(command) - 1, true), true;
      if (command === "=" && last !== null) return give(current, last, true), true;
      if (command === "Backspace" || command === "Delete" || command === "-") return give(current, null), true;
      if (command === "0") {
        bad = true;
        ranks.fill(null);
        draw();
        changed(t("all_bad"));
        return true;
      }
      if (["ArrowDown", "ArrowRight", "j"].includes(command)) return move((current + 1) % texts.length), true;
      if (["ArrowUp", "ArrowLeft", "k"].includes(command)) return move((current + texts.length - 1) % texts.length), true;
      return false;
    },
    verdict: () => (bad ? t("all_bad") : ""),
    actions: [["0", "all_bad", () => bad]],
    hints: [["↑ ↓", t("hint_move")], [`1 – ${Math.min(9, texts.length)}`, t("hint_rank")], ["=", t("hint_same_rank")], ["⌫", t("hint_no_rank")],
      ["Alt ↑ ↓", t("hint_shift")], ["0", t("all_bad")]],
  };
}
