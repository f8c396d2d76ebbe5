// The manager's page: who takes part, what is open, and how good the answers are; every figure with its interval.

import { h, button } from "./dom.js";
import { moment, number, percent, seconds, t, useLanguage } from "./i18n.js";
import { api } from "./api.js";
import { preferences } from "./memory.js";
import { askErase } from "./dialogs.js";
import { bars, intervals, lines, shares, traces } from "./plots.js";

const REFRESH_MS = 30000;
const ROLES = ["rater", "expert", "manager"];

const known = (role) => (["rater", "expert", "manager", "owner"].includes(role) ? t(`role_${role}`) : role);
const hour = (us) => moment(us / 1000, { hour: "2-digit", minute: "2-digit" });
const day = (us) => moment(us / 1000, { day: "numeric", month: "short" });
const share = ({ right, same, left, of } = {}) => (of ? (right ?? same ?? left) / of : null);

function panel(id, title, explanation, ...content) {
  return h("section", { class: "panel", id, "aria-labelledby": `${id}-title` }, h("h2", { id: `${id}-title` }, title),
    explanation ? h("p", { class: "quiet" }, explanation) : null, content.some(Boolean) ? content : h("p", { class: "quiet" }, t("nothing_yet")));
}

function queue({ queue: counts, median_seconds }) {
  const figure = (name, value, words = number(value ?? 0)) => h("div", { class: "figure" }, h("dt", {}, t(name)), h("dd", {}, words));
  const { questions, open_slots, leased, complete, escalated, leases_expired, answers, unsealed } = counts ?? {};
  return panel("queue", t("queue"), null,
    h("dl", { class: "figures" }, figure("questions", questions), figure("complete", complete), figure("open_slots", open_slots), figure("leased", leased),
      figure("at_experts", escalated), figure("answers", answers), figure("unsealed", unsealed), figure("leases_expired", leases_expired),
      figure("median_time", 0, median_seconds ? seconds(median_seconds) : "–")),
    questions ? shares([{ name: t("complete"), value: complete }, { name: t("unfinished"), value: questions - complete }], t("queue")) : null);
}

function rates({ hours = [] }) {
  return panel("rate", t("rate"), t("rate_more"), hours.some(({ answers }) => answers)
    ? bars(hours.map(({ start_us, answers }) => ({ label: hour(start_us), value: answers })), t("rate")) : null);
}

function agreement({ agreement: all = [] }) {
  const rows = all.filter(({ alpha }) => Number.isFinite(alpha)).map(({ kind, dimension, distance, alpha, low, high, questions, f1 }) => ({
    label: dimension || t(`kind_${kind}`), value: alpha, low, high,
    note: [number(questions), t(`distance_${distance}`), Number.isFinite(f1) ? `F1 ${number(f1, { maximumFractionDigits: 2, minimumFractionDigits: 2 })}` : ""].filter(Boolean).join(" · ") }));
  const more = all.some(({ f1 }) => Number.isFinite(f1)) ? `${t("agreement_more")} ${t("agreement_f1")}` : t("agreement_more");
  return panel("agreement", t("agreement"), more, rows.length ? intervals(rows, t("agreement"), { low: -0.25, high: 1, reference: 0, share: false, ticks: [-0.25, 0, 0.25, 0.5, 0.75, 1], right: 190 }) : null);
}

function perRater(id, field, raters, options) {
  const rows = raters.filter((rater) => rater[field]?.of > 0).sort((a, b) => b[field].of - a[field].of).slice(0, 30).map((rater) => {
    const { low, high, of } = rater[field];
    const value = share(rater[field]);
    return { label: rater.pseudonym, value, low: low ?? value, high: high ?? value, note: number(of), alarm: options.reference !== undefined && (low > options.reference || high < options.reference) && id === "position" };
  });
  return panel(id, t(id), t(`${id}_more`), rows.length ? intervals(rows, t(id), options) : null);
}

function drift({ days = [] }) {
  const series = [
    { name: t("gold"), values: days.map(({ gold }) => share(gold)) },
    { name: t("repeats"), values: days.map(({ repeats }) => share(repeats)) },
    { name: t("agreement"), values: days.map(({ alpha }) => (Number.isFinite(alpha) ? alpha : null)) },
  ].filter(({ values }) => values.some((value) => value !== null));
  const times = days.map(({ median_seconds }) => median_seconds || null);
  return panel("drift", t("drift"), t("drift_more"),
    series.length ? lines(series, days.map(({ start_us }) => day(start_us)), t("drift"), { high: 1, share: true }) : null,
    times.some((value) => value !== null) ? [h("h3", {}, t("median_time")), lines([{ name: t("median_time"), values: times }], days.map(({ start_us }) => day(start_us)), t("median_time"), { height: 130 })] : null);
}

function ratersDrift({ drift: all = [] }) {
  const names = { others: t("others"), gold: t("gold"), seconds: t("median_time") };
  const rows = all.slice(0, 12).map(({ pseudonym, blocks, changed }) => ({
    label: pseudonym, alarm: changed.length > 0,
    note: changed.length ? t("changed", { what: changed.map((what) => names[what]).join(", ") }) : t("steady"),
    series: [blocks.map((block) => share(block.others)), blocks.map((block) => share(block.gold))],
    seconds: blocks.map((block) => block.median_seconds) }));
  return panel("raters-drift", t("raters_drift"), t("raters_drift_more"), rows.length ? traces(rows, [names.others, names.gold, names.seconds], t("raters_drift"))
    : h("p", { class: "quiet" }, t("too_few_answers")));
}

function outcomes({ days = [] }) {
  const sum = (name) => days.reduce((total, each) => total + (each[name] ?? 0), 0);
  const answers = sum("answers"), parts = ["ties", "both_bad", "skips", "flagged"];
  const names = { ties: t("ties"), both_bad: t("both_bad_short"), skips: t("skips"), flagged: t("flagged") };
  if (!answers) return panel("outcomes", t("outcome_shares"), t("outcome_shares_more"));
  return panel("outcomes", t("outcome_shares"), t("outcome_shares_more"),
    shares([{ name: t("decided"), value: answers - parts.reduce((total, name) => total + sum(name), 0) }, ...parts.map((name) => ({ name: names[name], value: sum(name) }))], t("outcome_shares")),
    lines(parts.map((name) => ({ name: names[name], values: days.map((each) => (each.answers ? each[name] / each.answers : null)) })), days.map(({ start_us }) => day(start_us)), t("outcome_shares"), { share: true }));
}

class Manager {
  constructor() {
    const { language, theme } = preferences();
    useLanguage(language);
    document.documentElement.dataset.theme = theme;
    document.title = `${t("manage")} · Hone`;
    this.plots = h("div", { class: "plots" });
    this.people = h("div", { class: "people" });
    this.when = h("span", { class: "quiet" });
    this.pick = h("select", { hidden: true, "aria-label": t("projects"), on: { change: () => this.load() } });
    this.problem = h("p", { class: "problem", role: "alert" });
    document.body.classList.add("managing");
    document.body.append(
      h("header", { id: "top" }, h("span", { class: "mark", "aria-hidden": "true" }, "Hone"), h("h1", { class: "project" }, this.title = h("bdi", {}, t("manage"))), this.pick,
        h("span", { class: "space" }), this.when, button(t("refresh"), { kind: "quiet-button", on: { click: () => this.load() } }), h("a", { class: "button quiet-button", href: "/" }, t("rater_page"))),
      h("main", { id: "screen" }, this.problem, matchMedia("(max-width: 720px)").matches ? [this.plots, this.people] : [this.people, this.plots]),
      h("div", { id: "live", class: "hidden", "aria-live": "polite", role: "status" }));
  }

  async start() {
    try {
      this.me = await api.me();
    } catch (error) {
      return this.refuse(error);
    }
    this.people.append(this.invitations(), this.list = h("section", { class: "panel", "aria-labelledby": "raters-title" }));
    await this.load();
    setInterval(() => { if (!document.hidden && !this.asking) this.load(); }, REFRESH_MS);
    return undefined;
  }

  refuse(error) {
    this.problem.textContent = error.offline ? t("no_connection") : error.status === 401 || error.status === 403 ? t("managers_only") : error.message;
  }

  async load() {
    try {
      const [overview, people] = await Promise.all([api.overview(this.pick.value), api.raters()]);
      this.problem.textContent = "";
      this.projects(overview);
      const raters = overview.raters ?? [];
      this.plots.replaceChildren(queue(overview), rates(overview), agreement(overview),
        perRater("gold", "gold", raters, { low: 0, high: 1 }), perRater("position", "position", raters, { low: 0, high: 1, reference: 0.5 }),
        perRater("repeats", "repeats", raters, { low: 0, high: 1 }), perRater("others", "others", raters, { low: 0, high: 1 }),
        drift(overview), ratersDrift(overview), outcomes(overview));
      this.showPeople(people, raters);
      this.when.textContent = t("updated", { time: moment(overview.at_us / 1000, { timeStyle: "short" }) });
    } catch (error) {
      this.refuse(error);
    }
  }

  projects({ project, projects = [] }) {
    this.title.textContent = projects.find(({ id }) => id === project)?.title || t("manage");
    this.pick.hidden = projects.length < 2;
    if (this.pick.options.length !== projects.length) this.pick.replaceChildren(...projects.map(({ id, title }) => h("option", { value: id, selected: id === project }, title || id)));
  }

  invitations() {
    const role = h("select", { id: "invite-role" }, ROLES.map((name) => h("option", { value: name }, known(name))));
    const languages = h("input", { id: "invite-languages", class: "text", placeholder: "de, en", autocomplete: "off" });
    const note = h("input", { id: "invite-note", class: "text", maxlength: 200, autocomplete: "off" });
    const result = h("div", { class: "made", "aria-live": "polite" });
    const form = h("form", { class: "invite", on: { submit: async (event) => {
      event.preventDefault();
      try {
        const codes = languages.value.split(/[\s,;]+/).filter(Boolean);
        const { link, expires_us } = await api.invite({ role: role.value, ...(codes.length ? { languages: codes } : {}), ...(note.value.trim() ? { note: note.value.trim() } : {}) });
        const field = h("input", { class: "text link", readonly: true, dir: "ltr", "aria-label": t("invite"), value: link, on: { focus: () => field.select() } });
        const copy = button(t("copy"), { on: { click: async () => {
          try { await navigator.clipboard.writeText(link); } catch { field.select(); document.execCommand("copy"); }
          copy.querySelector(".label").textContent = t("copied");
        } } });
        result.replaceChildren(field, copy, h("span", { class: "quiet" }, expires_us ? t("expires", { date: moment(expires_us / 1000) }) : ""));
        note.value = "";
        await this.load();
      } catch (error) {
        this.refuse(error);
      }
    } } },
    h("label", { for: "invite-role" }, t("role")), role, h("label", { for: "invite-languages" }, t("languages_codes")), languages,
    h("label", { for: "invite-note" }, t("note")), note, h("button", { class: "button primary" }, t("make_link")));
    return panel("invite", t("invite"), t("invite_explain"), form, result);
  }

  showPeople({ raters = [], invitations = [] }, figures) {
    const of = new Map(figures.map((rater) => [rater.pseudonym, rater]));
    const cell = (value) => h("td", {}, value);
    const rows = raters.map(({ pseudonym, role, languages, last_seen_us, answers, revoked }) => {
      const more = of.get(pseudonym) ?? {};
      return h("tr", { class: revoked ? "gone" : null }, h("th", { scope: "row" }, pseudonym), cell(known(role)), cell((languages ?? []).join(", ")), cell(number(answers ?? more.answers ?? 0)),
        cell(more.median_seconds ? seconds(more.median_seconds) : "–"), cell(more.gold?.of ? percent(share(more.gold)) : "–"),
        cell(more.others?.of ? percent(share(more.others)) : "–"), cell(last_seen_us ? moment(last_seen_us / 1000) : "–"),
        cell(pseudonym === this.me.pseudonym ? null : [revoked ? t("revoked") : this.revoker(pseudonym), this.me.role === "owner" ? this.eraser(pseudonym) : null]));
    });
    const open = invitations.filter(({ used, expires_us }) => !used && !(expires_us && expires_us / 1000 < Date.now()));
    const head = ["pseudonym", "role", "language", "answers", "median_time", "gold", "others", "last_seen"].map((name) => h("th", { scope: "col" }, t(name)));
    this.list.replaceChildren(...[h("h2", { id: "raters-title" }, t("raters")),
      rows.length ? h("div", { class: "table", tabindex: "0", role: "group", "aria-labelledby": "raters-title" }, h("table", {}, h("thead", {}, h("tr", {}, head, h("td", {}))), h("tbody", {}, rows))) : h("p", { class: "quiet" }, t("nothing_yet")),
      open.length ? h("div", { class: "open" }, h("h3", {}, t("open_invitations")), h("ul", {}, open.map(({ role, note, expires_us }) => h("li", {}, [known(role), note, expires_us ? t("expires", { date: moment(expires_us / 1000, { dateStyle: "medium" }) }) : ""].filter(Boolean).join(" · "))))) : null].filter(Boolean));
  }

  /// An owner's: the pseudonym has to be typed.
  eraser(pseudonym) {
    return h("button", { type: "button", class: "plain erase", "aria-label": `${t("erase")} ${pseudonym}`, on: { click: async () => {
      this.asking = true;
      const sure = await askErase(pseudonym);
      this.asking = false;
      if (!sure) return;
      try {
        const { answers } = await api.erase(pseudonym);
        await this.load();
        this.when.textContent = t("erased", { count: number(answers) });
      } catch (error) {
        this.refuse(error);
      }
    } } }, t("erase"));
  }

  /// Two presses: the second within a few seconds of the first.
  revoker(pseudonym) {
    let sure = 0;
    const node = h("button", { type: "button", class: "plain revoke", "aria-label": `${t("revoke")} ${pseudonym}`, on: { click: async () => {
      if (!sure) {
        node.textContent = t("revoke_sure");
        this.asking = true;
        sure = setTimeout(() => { sure = 0; this.asking = false; node.textContent = t("revoke"); }, 5000);
        return;
      }
      clearTimeout(sure);
      this.asking = false;
      try {
        await api.revoke(pseudonym);
        await this.load();
      } catch (error) {
        this.refuse(error);
      }
    } } }, t("revoke"));
    return node;
  }
}

new Manager().start();
