// An answer's body in words, for people.

import { t, number, flagName } from "./i18n.js";
import { letter } from "./panes.js";

const REASONS = ["too hard", "not my field", "too long", "broken"];
const reasonName = (reason) => (REASONS.includes(reason) ? t(`reason_${reason.replaceAll(" ", "_")}`) : reason);
const STRENGTHS = ["", "slightly", "somewhat", "clearly", "much"];

export function sentence(body) {
  const more = [body.flags?.length && body.outcome !== "flagged" ? body.flags.map(flagName).join(", ") : "", body.rationale ? `“${body.rationale}”` : ""].filter(Boolean);
  return [core(body), ...more].join(" · ");
}

function core({ outcome, ranks, strength, reason, flags, ratings, text, spans, steps, approved }) {
  if (outcome === "both_bad") return t("both_bad");
  if (outcome === "skipped") return `${t("skipped")}${reason ? `: ${reasonName(reason)}` : ""}`;
  if (outcome === "flagged") return `⚑ ${(flags ?? []).map(flagName).join(", ")}${reason ? `: ${reason}` : ""}`;
  if (outcome === "reviewed") return t(approved ? "approve" : "reject");
  if (outcome === "written") return text;
  if (outcome === "rated") return (ratings ?? []).map((each) => Object.entries(each).map(([name, value]) => `${name} ${number(value)}`).join(", ")).join(" / ");
  if (outcome === "marked") return spans ? spans.map((mark) => mark.label).join(", ") || t("nothing_to_mark") : (steps ?? []).map(({ value }) => "✗–✓"[value + 1]).join(" ");
  if (outcome === "ordered" && ranks.length === 2) {
    if (ranks[0] === ranks[1]) return t("as_good");
    return t(`better_${STRENGTHS[strength] || "somewhat"}`, { letter: letter(ranks[0] < ranks[1] ? 0 : 1) });
  }
  if (outcome === "ordered") {
    const rungs = [];
    ranks.forEach((rank, position) => { if (rank !== null) (rungs[rank] ??= []).push(letter(position)); });
    return rungs.filter(Boolean).map((rung) => rung.join(" = ")).join(" > ");
  }
  return String(outcome);
}
