// The page's words. English is complete; a key another language lacks is shown in English.

import en from "./languages/en.js";
import de from "./languages/de.js";
import fr from "./languages/fr.js";
import es from "./languages/es.js";
import ar from "./languages/ar.js";

export const LANGUAGES = { en, de, fr, es, ar };

let current = "en";

export const language = () => current;

/// The wished language, else the browser's, else English; sets it and the direction on the document.
export function useLanguage(wished) {
  const offered = [wished, ...(navigator.languages ?? [])].map((tag) => String(tag ?? "").toLowerCase().split("-")[0]);
  current = offered.find((tag) => tag in LANGUAGES) ?? "en";
  document.documentElement.lang = current;
  document.documentElement.dir = current === "ar" ? "rtl" : "ltr";
  return current;
}

/// t("wait_seconds", {seconds: 3}); values are inserted as text.
export function t(name, values = {}) {
  const text = LANGUAGES[current][name] ?? en[name] ?? name;
  return text.replace(/\{(\w+)\}/g, (whole, field) => (field in values ? String(values[field]) : whole));
}

export const number = (value, options) => new Intl.NumberFormat(current, options).format(value);
export const percent = (value) => number(value, { style: "percent", maximumFractionDigits: 0 });
export const seconds = (value) => t("seconds", { seconds: number(value, { maximumFractionDigits: value < 10 ? 1 : 0 }) });
export const moment = (ms, options = { dateStyle: "medium", timeStyle: "short" }) => new Intl.DateTimeFormat(current, options).format(new Date(ms));

const FLAGS = { unsafe: "flag_unsafe", "personal-data": "flag_personal", "wrong-language": "flag_language", "cannot-judge": "flag_cannot" };
export const flagName = (flag) => (flag in FLAGS ? t(FLAGS[flag]) : flag);
