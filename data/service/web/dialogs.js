// Modal questions: why skip, what is wrong with it, settings, the session's numbers. <dialog> keeps focus and Esc.

import { h, button, command, say, typing } from "./dom.js";
import { t, flagName, LANGUAGES, number, percent, seconds } from "./i18n.js";
import { preferences } from "./memory.js";
import { sparkline } from "./plots.js";

/// Opens `content` under `title`; keys(command) may handle a key. Resolves with what close(value) was given; Esc: null.
function modal(title, build, keys = () => false) {
  return new Promise((resolve) => {
    let result = null;
    const close = (value) => { result = value; dialog.close(); };
    const before = document.activeElement;
    const dialog = h("dialog", { "aria-labelledby": "dialog-title", tabindex: "-1", on: {
      close: () => { dialog.remove(); before?.focus?.({ preventScroll: true }); resolve(result); },
      click: (event) => { if (event.target === dialog) close(null); },
      keydown: (event) => {
        event.stopPropagation();
        if (event.ctrlKey && event.key === "Enter") return;
        if (typing(event.target) || event.metaKey || event.altKey) return;
        if (keys(command(event), close)) event.preventDefault();
      },
    } });
    dialog.append(h("div", { class: "dialog-box" },
      h("header", {}, h("h2", { id: "dialog-title" }, title),
        h("button", { type: "button", class: "plain close", "aria-label": t("close"), on: { click: () => close(null) } }, "×")),
      build(close)));
    document.body.append(dialog);
    dialog.showModal();
    (dialog.querySelector("[autofocus]") ?? dialog).focus();
  });
}

const REASONS = ["too_hard", "not_my_field", "too_long", "broken"];

/// -> {reason} or null.
export function askSkip() {
  const other = h("input", { type: "text", class: "text", maxlength: 500, dir: "auto", "aria-label": t("other_reason"), placeholder: t("other_reason"), on: { keydown: (event) => {
    if (event.key === "Enter" && other.value.trim()) { event.preventDefault(); event.stopPropagation(); choose(other.value.trim()); }
  } } });
  let choose;
  return modal(t("skip_why"), (close) => {
    choose = (reason) => close({ reason });
    return h("div", { class: "choices" },
      REASONS.map((name, index) => button(t(`reason_${name}`), { keys: String(index + 1), kind: "choice-button", on: { click: () => choose(name.replaceAll("_", " ")) } })),
      other);
  }, (pressed, close) => {
    const index = Number(pressed) - 1;
    if (REASONS[index]) return close({ reason: REASONS[index].replaceAll("_", " ") }), true;
    if (pressed === "s" || pressed === "5") return other.focus(), true;
    return false;
  });
}

/// -> {flags, reason, alone}: alone means flagged instead of answered; or null.
export function askFlags(offered, already) {
  const chosen = new Set(already);
  const boxes = offered.map((flag, index) => h("label", { class: "check" },
    h("input", { type: "checkbox", value: flag, checked: chosen.has(flag), on: { change: (event) => toggle(flag, event.target.checked) } }),
    h("span", {}, flagName(flag)), index < 9 ? h("kbd", { "aria-hidden": "true" }, index + 1) : null));
  const reason = h("input", { type: "text", class: "text", maxlength: 1000, dir: "auto", "aria-label": t("flag_reason"), placeholder: t("flag_reason") });
  const result = (alone) => ({ flags: [...chosen], reason: reason.value.trim(), alone });
  let alone;
  function toggle(flag, on) {
    if (on) chosen.add(flag); else chosen.delete(flag);
    boxes[offered.indexOf(flag)].querySelector("input").checked = on;
    alone.disabled = !chosen.size;
    say(`${flagName(flag)} ${on ? "✓" : ""}`);
  }
  return modal(t("flag_title"), (close) => {
    alone = button(t("flag_alone"), { shown: "⏎", kind: "primary", on: { click: () => close(result(true)) } });
    alone.disabled = !chosen.size;
    return h("div", { class: "choices" },
      h("p", { class: "quiet" }, t("flag_explain")), boxes, reason,
      h("div", { class: "row end-row" }, button(t("flag_beside"), { kind: "quiet-button", shown: "B", on: { click: () => close(result(false)) } }), alone));
  }, (pressed, close) => {
    const flag = offered[Number(pressed) - 1];
    if (flag) return toggle(flag, !chosen.has(flag)), true;
    if (pressed === "Enter" && chosen.size && document.activeElement?.tagName !== "BUTTON") return close(result(true)), true;
    if (pressed === "b") return close(result(false)), true;
    return false;
  });
}

const figure = (label, value, note) => h("div", { class: "figure" }, h("dt", {}, label), h("dd", {}, value), note ? h("dd", { class: "quiet" }, note) : null);

/// The session's own numbers; `pace` are the seconds of its answers.
export function showStatistics(statistics, pace, minutes) {
  const { answers = 0, session_answers = 0, today_answers = 0, ties = 0, skips = 0, median_seconds = 0, repeats = 0, repeats_same = 0 } = statistics ?? {};
  const slower = pace.length >= 12 && median(pace.slice(-6)) < 0.6 * median(pace.slice(0, 6));
  return modal(t("your_session"), () => h("div", {},
    h("dl", { class: "figures" },
      figure(t("this_session"), number(session_answers), t("minutes", { minutes: number(Math.round(minutes)) })),
      figure(t("today"), number(today_answers)),
      figure(t("in_all"), number(answers)),
      figure(t("usual_time"), pace.length ? seconds(median(pace)) : median_seconds ? seconds(median_seconds) : "–"),
      figure(t("ties"), session_answers || answers ? percent(ties / Math.max(1, answers)) : "–"),
      figure(t("skips"), answers ? percent(skips / Math.max(1, answers)) : "–"),
      figure(t("consistency"), repeats ? percent(repeats_same / repeats) : "–", repeats ? t("of_repeats", { count: number(repeats) }) : t("consistency_explain"))),
    pace.length > 2 ? h("figure", { class: "pace" }, sparkline(pace, t("pace_plot")), h("figcaption", { class: "quiet" }, slower ? t("faster_lately") : t("pace_plot"))) : null), (pressed, close) => {
    if (pressed !== "i" && pressed !== "Enter") return false;
    if (pressed === "Enter" && document.activeElement?.tagName === "BUTTON") return false;
    return close(null), true;
  });
}

export const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.floor(sorted.length / 2)]) / 2 : 0;
};

/// A name and a password, to sign in elsewhere; save({name, password, old}) may throw what is to be said.
export function askPassword({ name = "", has_password = false }, save) {
  const field = (id, type, complete, value = "") => h("input", { id, type, class: "text", autocomplete: complete, value, required: true, maxlength: 200 });
  const who = field("set-name", "text", "username", name), old = field("set-old", "password", "current-password"), fresh = field("set-new", "password", "new-password");
  fresh.minLength = 10;
  const problem = h("p", { class: "problem", role: "alert" });
  return modal(t("set_password"), (close) => h("form", { class: "choices", on: { submit: async (event) => {
    event.preventDefault();
    try {
      await save({ name: who.value.trim(), password: fresh.value, ...(has_password ? { old: old.value } : {}) });
      close(true);
    } catch (error) {
      problem.textContent = t(error.offline ? "no_connection" : error.status === 403 ? "old_password_wrong" : error.status === 429 ? "slow_down"
        : /taken$/.test(error.message) ? "name_taken" : "password_too_short");
    }
  } } }, h("p", { class: "quiet" }, t("password_explain")), h("label", { for: "set-name" }, t("name_label")), who,
  has_password ? [h("label", { for: "set-old" }, t("old_password")), old] : null,
  h("label", { for: "set-new" }, t("password")), fresh, problem, h("div", { class: "row end-row" }, h("button", { class: "button primary" }, t("save")))));
}

/// Language, colours, sending at once, signing out; change(preference) at each change; -> "logout", "password" or null.
export function showSettings(offered, change, signedIn) {
  const { language, theme, direct } = preferences();
  const codes = Object.keys(LANGUAGES).filter((code) => !offered?.length || offered.includes(code) || code === "en" || code === language);
  const select = (name, value, options) => h("select", { id: `setting-${name}`, on: { change: (event) => change({ [name]: event.target.value }) } },
    options.map(([code, label]) => h("option", { value: code, selected: code === value }, label)));
  return modal(t("settings"), (close) => h("div", { class: "settings" },
    h("label", { for: "setting-language" }, t("language")),
    select("language", language, [["", t("of_browser")], ...codes.map((code) => [code, LANGUAGES[code].name])]),
    h("label", { for: "setting-theme" }, t("colours")),
    select("theme", theme, ["auto", "light", "dark"].map((name) => [name, t(`theme_${name}`)])),
    h("label", { class: "check wide" }, h("input", { type: "checkbox", checked: direct, on: { change: (event) => change({ direct: event.target.checked }) } }), h("span", {}, t("send_directly"))),
    signedIn ? button(t("set_password"), { kind: "quiet-button wide", on: { click: () => close("password") } }) : null,
    signedIn ? button(t("sign_out"), { kind: "quiet-button wide", on: { click: () => close("logout") } }) : null));
}

/// Asks for the pseudonym itself before a person is erased. -> true or null.
export function askErase(pseudonym) {
  const typed = h("input", { id: "erase-typed", class: "text", autocomplete: "off", autofocus: true, dir: "ltr", on: { input: () => { erase.disabled = typed.value.trim() !== pseudonym; } } });
  let erase;
  return modal(t("erase_title", { pseudonym }), (close) => {
    erase = h("button", { class: "button primary danger", disabled: true }, t("erase"));
    return h("form", { class: "choices", on: { submit: (event) => { event.preventDefault(); if (!erase.disabled) close(true); } } },
      h("label", { for: "erase-typed" }, t("erase_explain")), typed, h("div", { class: "row end-row" }, erase));
  });
}

/// What others had answered, after the expert's own answer. -> "revise" or null.
export function showOthers(sentences) {
  return modal(t("others_said"), (close) => h("div", {},
    h("ol", { class: "others" }, sentences.map((sentence) => h("li", { dir: "auto" }, sentence))),
    h("div", { class: "row end-row" },
      button(t("revise"), { kind: "quiet-button", keys: "U", on: { click: () => close("revise") } }),
      button(t("go_on"), { kind: "primary", shown: "⏎", on: { click: () => close(null) } }))), (pressed, close) => {
    if (pressed === "u") return close("revise"), true;
    if (pressed === "Enter" && document.activeElement?.tagName !== "BUTTON") return close(null), true;
    return false;
  });
}
