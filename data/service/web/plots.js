// Plots as SVG nodes. Each carries a title for screen readers, and its numbers stand in a table beside it where they matter.

import { h, svg } from "./dom.js";
import { t, number, percent } from "./i18n.js";

/// On a phone a plot is drawn for the width that it has, so that its words stay readable.
const narrow = matchMedia("(max-width: 720px)").matches;
const WIDTH = narrow ? 340 : 640;

const nice = (top) => {
  if (!(top > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(top));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= top);
};

/// A line without axes, for a glance.
export function sparkline(values, title, { width = 320, height = 56 } = {}) {
  const top = Math.max(...values, 1e-9);
  const x = (index) => 2 + (index / Math.max(1, values.length - 1)) * (width - 4);
  const y = (value) => height - 3 - (value / top) * (height - 8);
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "plot spark", role: "img", "aria-label": title },
    svg("polyline", { class: "line", points: values.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join(" ") }),
    svg("circle", { class: "dot", cx: x(values.length - 1), cy: y(values.at(-1)), r: 2.5 }));
}

const frame = (width, height, title, ...content) => svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "plot", role: "img", "aria-label": title }, ...content);
const text = (x, y, words, anchor = "start", extra = "") => svg("text", { x, y, "text-anchor": anchor, class: `tick ${extra}` }, words);

/// A row's name and what is said of it: left and right of the plot, on a phone above it.
const short = (label, most) => (label.length > most ? `${label.slice(0, most - 1)}…` : label);
const name = (label, left, y) => (narrow ? text(0, y - 14, short(label, 20), "start", "name") : text(left - 10, y + 4, short(label, 15), "end", "name"));
const note = (words, width, right, y, extra = "") => (narrow ? text(width, y - 14, words, "end", extra) : text(width - right + 10, y + 4, words, "start", extra));

/// Bars over time: [{label, value}].
export function bars(items, title, { width = WIDTH, height = 170 } = {}) {
  const left = 44, bottom = 26, top = nice(Math.max(...items.map((item) => item.value), 1));
  const step = (width - left) / Math.max(1, items.length);
  const y = (value) => 8 + (1 - value / top) * (height - bottom - 8);
  const every = Math.ceil(items.length / (narrow ? 4 : 8));
  return frame(width, height, title,
    [0, 0.5, 1].map((share) => [svg("line", { class: "grid", x1: left, x2: width, y1: y(share * top), y2: y(share * top) }), text(left - 6, y(share * top) + 4, number(share * top, { maximumFractionDigits: 1 }), "end")]),
    items.map((item, index) => [
      svg("rect", { class: "column", x: left + index * step + step * 0.15, width: Math.max(1, step * 0.7), y: y(item.value), height: Math.max(0, y(0) - y(item.value)), rx: Math.min(2, step / 5) }, svg("title", {}, `${item.label}: ${number(item.value)}`)),
      index % every === 0 ? text(left + (index + 0.5) * step, height - 5, item.label, "middle") : null]));
}

/// Lines over time: series [{name, values: [number|null]}], labels; y from low to high.
export function lines(series, labels, title, { width = WIDTH, height = 190, low = 0, high = null, share = false } = {}) {
  const left = 44, bottom = 26;
  const all = series.flatMap(({ values }) => values).filter((value) => value !== null && value !== undefined);
  const top = high ?? nice(Math.max(...all, low + 1e-9));
  const x = (index) => left + 10 + (labels.length < 2 ? 0.5 : index / (labels.length - 1)) * (width - left - 20);
  const y = (value) => 8 + (1 - (value - low) / (top - low)) * (height - bottom - 8);
  const every = Math.ceil(labels.length / (narrow ? 4 : 7));
  const show = (value) => (share ? percent(value) : number(value, { maximumFractionDigits: 2 }));
  return h("div", {},
    frame(width, height, title,
      [0, 0.25, 0.5, 0.75, 1].map((part) => low + part * (top - low)).map((value) => [svg("line", { class: "grid", x1: left, x2: width, y1: y(value), y2: y(value) }), text(left - 6, y(value) + 4, show(value), "end")]),
      labels.map((label, index) => (index % every === 0 ? text(x(index), height - 5, label, "middle") : null)),
      series.map(({ values }, which) => {
        const points = values.flatMap((value, index) => (value === null || value === undefined ? [] : [[x(index), y(Math.max(low, Math.min(top, value)))]]));
        return svg("g", { class: `series series${which}` },
          svg("polyline", { class: "line", points: points.map(([px, py]) => `${px.toFixed(1)},${py.toFixed(1)}`).join(" ") }),
          points.map(([px, py]) => svg("circle", { class: "dot", cx: px, cy: py, r: 2.5 })));
      })),
    series.length > 1 ? h("div", { class: "plot-legend" }, series.map(({ name }, which) => h("span", { class: `series${which}` }, h("span", { class: "swatch", "aria-hidden": "true" }), name))) : null);
}

/// Points with intervals, one row each: [{label, value, low, high, note}] on low..high, with a line at `reference`. Words
/// stand beside the interval, on a phone above it.
export function intervals(rows, title, { width = WIDTH, low = 0, high = 1, reference = null, share = true, ticks = [0, 0.25, 0.5, 0.75, 1], right: beside = 96 } = {}) {
  const above = narrow ? 18 : 0, line = 26 + above, left = narrow ? 18 : 120, right = narrow ? 18 : beside, bottom = 22, height = rows.length * line + bottom + 6;
  const x = (value) => left + ((Math.max(low, Math.min(high, value)) - low) / (high - low)) * (width - left - right);
  const show = (value) => (share ? percent(value) : number(value, { maximumFractionDigits: 2, minimumFractionDigits: 2 }));
  return frame(width, height, title,
    ticks.map((value) => [
      svg("line", { class: "grid", x1: x(value), x2: x(value), y1: 4, y2: height - bottom }),
      text(x(value), height - 6, show(value), "middle")]),
    reference === null ? null : svg("line", { class: "reference", x1: x(reference), x2: x(reference), y1: 0, y2: height - bottom }),
    rows.map((row, index) => {
      const y = 6 + index * line + above + 13;
      const known = row.value !== null && Number.isFinite(row.value);
      return svg("g", { class: `row ${row.alarm ? "alarm" : ""}` },
        name(row.label, left, y),
        known ? [svg("line", { class: "interval", x1: x(row.low), x2: x(row.high), y1: y, y2: y }), svg("circle", { class: "dot", cx: x(row.value), cy: y, r: 4 })] : null,
        note(known ? `${show(row.value)}${row.note ? ` · ${row.note}` : ""}` : t("too_few"), width, right, y),
        svg("title", {}, known ? `${row.label}: ${show(row.value)} (${show(row.low)} – ${show(row.high)})` : `${row.label}: ${t("too_few")}`));
    }));
}

/// A rater a row: shares as lines over blocks, the seconds as a thinner one below: [{label, series, seconds, note, alarm}].
export function traces(rows, names, title, { width = WIDTH, right: beside = 210 } = {}) {
  const above = narrow ? 18 : 0, step = 50 + above, left = narrow ? 6 : 120, right = narrow ? 6 : beside, height = rows.length * step + 4, tall = 26;
  const slowest = Math.max(...rows.flatMap(({ seconds: all }) => all), 1e-9);
  const polyline = (values, top, size, which) => {
    const points = values.flatMap((value, index) => (value === null ? [] : [`${(left + 6 + (values.length < 2 ? 0.5 : index / (values.length - 1)) * (width - left - right - 12)).toFixed(1)},${(top + (1 - value) * size).toFixed(1)}`]));
    return svg("g", { class: `series series${which}` }, points.length > 1 ? svg("polyline", { class: "line", points: points.join(" ") }) : null,
      points.map((point) => svg("circle", { class: "dot", cx: point.split(",")[0], cy: point.split(",")[1], r: 2 })));
  };
  return h("div", {},
    frame(width, height, title, rows.map(({ label, series, seconds: all, note: words, alarm }, index) => {
      const top = 6 + index * step + above;
      return svg("g", { class: alarm ? "row alarm" : "row" },
        [0, 0.5, 1].map((part) => svg("line", { class: "grid", x1: left, x2: width - right, y1: top + part * tall, y2: top + part * tall })),
        name(label, left, narrow ? top + 11 : top + 14),
        polyline(series[0], top, tall, 0), polyline(series[1], top, tall, 1), polyline(all.map((value) => value / slowest), top + tall + 2, 12, 2),
        note(words, width, right, narrow ? top + 11 : top + 14, alarm ? "alarmed" : ""),
        svg("title", {}, `${label}: ${words}`));
    })),
    h("div", { class: "plot-legend" }, names.map((name, which) => h("span", { class: `series${which}` }, h("span", { class: "swatch", "aria-hidden": "true" }), name))));
}

/// One bar divided: [{name, value}].
export function shares(parts, title, { width = WIDTH, height = 26 } = {}) {
  const total = parts.reduce((sum, part) => sum + part.value, 0) || 1;
  let at = 0;
  return h("div", {},
    frame(width, height, title, parts.map(({ name, value }, which) => {
      const x = at;
      at += (value / total) * width;
      return svg("rect", { class: `part part${which}`, x, y: 2, width: Math.max(0, at - x - 1), height: height - 4 }, svg("title", {}, `${name}: ${number(value)}`));
    })),
    h("div", { class: "plot-legend" }, parts.map(({ name, value }, which) => h("span", { class: `part${which}` }, h("span", { class: "swatch", "aria-hidden": "true" }), `${name} ${percent(value / total)}`))));
}
