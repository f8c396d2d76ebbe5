#include "engine/report/sections.h"

namespace hone::engine::report {

const char* const kPageStyle = R"css(
:root { color-scheme: light dark;
  --paper: #f7f6f3; --card: #ffffff; --ink: #1c1e21; --muted: #5c636b; --line: #e2e0db;
  --after: #0b66c3; --before: #8b9097; --people: #b3670a; --good: #17774a; --warn: #8f5600;
  --bad: #b3211a; --bad-fill: #fdecea; --warn-fill: #fff5e3; --good-fill: #e9f6ef;
  --quiet-fill: #eef0f2; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #131518; --card: #1b1e22; --ink: #e9e7e3; --muted: #a1a8b0; --line: #30353b;
  --after: #62adf6; --before: #8f97a1; --people: #e3a34c; --good: #66d39a; --warn: #f2b95c;
  --bad: #ff8f85; --bad-fill: #3b1917; --warn-fill: #332714; --good-fill: #13301f;
  --quiet-fill: #23272c; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 3.5rem; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums; }
header, main, footer { max-width: 1120px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 28px; }
header h1 { font-size: 1.05rem; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
header p { margin: 2px 0 0; color: var(--muted); font-size: .9rem; }
nav { position: sticky; top: 0; z-index: 1; background: var(--paper);
  border-bottom: 1px solid var(--line); margin: 14px 0 0; }
nav div { max-width: 1120px; margin: 0 auto; padding: 8px 20px; display: flex; gap: 4px 20px;
  overflow-x: auto; white-space: nowrap; font-size: .9rem; }
nav a { color: var(--muted); text-decoration: none; padding: 2px 0; }
nav a:hover, nav a:focus { color: var(--after); text-decoration: underline; }
section { margin: 34px 0 0; }
h2 { font-size: 1.35rem; line-height: 1.25; font-weight: 650; letter-spacing: -.01em;
  margin: 0 0 10px; }
h3 { font-size: 1rem; font-weight: 650; margin: 26px 0 6px; }
.lead { color: var(--muted); margin: 0 0 14px; max-width: 75ch; }
.note, small { color: var(--muted); font-size: .84rem; }
.note { margin: 4px 0 0; }
.verdict { margin-top: 22px; border-radius: 12px; padding: 22px 24px; border: 1px solid;
  border-left-width: 8px; }
.verdict h2 { font-size: clamp(1.2rem, 2.2vw, 1.5rem); margin: 10px 0 0; max-width: 62ch;
  text-wrap: pretty; }
.verdict.good { background: var(--good-fill); border-color: var(--good); }
.verdict.warn { background: var(--warn-fill); border-color: var(--warn); }
.verdict.bad { background: var(--bad-fill); border-color: var(--bad); }
.verdict.quiet { background: var(--quiet-fill); border-color: var(--before); }
.badge { display: inline-block; margin: 0; padding: 2px 12px; border-radius: 99px;
  font-weight: 700; font-size: .85rem; letter-spacing: .04em; text-transform: uppercase;
  color: var(--card); background: var(--before); }
.good > .badge { background: var(--good); } .warn > .badge { background: var(--warn); }
.bad > .badge { background: var(--bad); font-size: 1.15rem; padding: 4px 16px; }
.findings { list-style: none; margin: 16px 0 0; padding: 0; display: grid; gap: 10px; }
.findings li { padding-left: 28px; position: relative; max-width: 80ch; }
.findings li::before { content: "!"; position: absolute; left: 0; top: 2px; width: 19px;
  height: 19px; border-radius: 50%; text-align: center; font: 700 13px/19px system-ui;
  color: var(--card); background: var(--warn); }
.findings li.bad::before { background: var(--bad); }
.findings li.bad b { color: var(--bad); } .findings li.warn b { color: var(--warn); }
.cards { display: grid; gap: 14px; grid-template-columns: repeat(3, minmax(0, 1fr)); }
.card, figure, article { background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
.card { padding: 14px 18px 16px; }
.card.bad { border-color: var(--bad); background: var(--bad-fill); }
.card.bad .big b, tr.bad b { color: var(--bad); }
.card.warn .big b, tr.warn b { color: var(--warn); }
.card h3 { margin: 0; font-size: .88rem; font-weight: 600; color: var(--muted); }
.big { margin: 2px 0 0; font-size: 1.75rem; letter-spacing: -.02em; line-height: 1.25;
  white-space: nowrap; }
.big span, .big small { color: var(--muted); } .big small { font-size: 1rem; letter-spacing: 0; }
.charts { display: grid; gap: 14px; grid-template-columns: repeat(3, minmax(0, 1fr)); }
.charts.two { grid-template-columns: repeat(2, minmax(0, 1fr)); }
.cards + .charts { margin-top: 14px; }
.guide dl { margin: 8px 0 0; font-size: .92rem; } .guide dt { font-weight: 600; }
.guide dd { margin: 0 0 8px; color: var(--muted); }
.charts.two svg { max-width: 470px; margin: 0 auto; }
figure { margin: 0; padding: 12px 14px 12px; min-width: 0; break-inside: avoid; }
figcaption { font-size: .92rem; margin-bottom: 6px; }
figcaption b { font-weight: 600; margin-right: 4px; }
figcaption span { display: block; color: var(--muted); font-size: .84rem; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font: 11px system-ui, -apple-system, "Segoe UI", sans-serif; fill: var(--muted); }
svg .value, svg .group { fill: var(--ink); font-weight: 600; }
.grid { stroke: var(--line); } .axis { stroke: var(--before); }
.level { stroke: var(--people); stroke-dasharray: 4 4; stroke-width: 1.2; }
path.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
line.line, .whisker { stroke-width: 2; } .whisker { stroke-linecap: round; }
path.thin { stroke-width: 1.2; }
.line.after, .whisker.after { stroke: var(--after); }
.line.before, .whisker.before, .whisker.muted { stroke: var(--before); }
.whisker.people { stroke: var(--people); }
.whisker.thin { stroke-width: 1; opacity: .5; } .dot.thin { stroke-width: 0; }
.band { stroke: none; opacity: .18; } .band.after { fill: var(--after); }
.dot { stroke: var(--card); stroke-width: 1.5; }
.dot.after, .fill.after { fill: var(--after); }
.dot.before, .fill.before { fill: var(--before); }
.dot.people, .fill.people { fill: var(--people); }
.dot.muted { fill: var(--card); stroke: var(--before); stroke-width: 2; }
.bubble { stroke-width: 1.5; fill-opacity: .3; }
.bubble.after { fill: var(--after); stroke: var(--after); }
.bubble.before { fill: none; stroke: var(--before); stroke-dasharray: 3 2; }
.hover { fill: transparent; } .hover:hover { fill: var(--after); fill-opacity: .35; }
.legend { margin: 6px 0 0; font-size: .84rem; color: var(--muted); display: flex;
  flex-wrap: wrap; gap: 2px 16px; }
.key i { display: inline-block; width: 11px; height: 11px; border-radius: 50%;
  margin-right: 6px; background: var(--before); }
.key i.after { background: var(--after); }
.key i.level { border-radius: 0; height: 0; width: 16px; vertical-align: 4px; background: none;
  border-top: 2px dashed var(--people); }
.samples { display: grid; gap: 12px; }
article { display: grid; grid-template-columns: 1fr 1fr; break-inside: avoid; min-width: 0; }
article > div { padding: 12px 18px 12px; min-width: 0; display: flex; flex-direction: column; }
article > div + div { border-left: 1px solid var(--line); }
h4 { margin: 0; font-size: .78rem; font-weight: 650; letter-spacing: .04em;
  text-transform: uppercase; color: var(--muted); }
h4.after { color: var(--after); }
.text { margin: 4px 0 8px; white-space: pre-wrap; overflow-wrap: anywhere;
  unicode-bidi: isolate; flex: 1; }
.text em { font-style: normal; color: var(--people); }
.scores { margin: 0; font-size: .84rem; color: var(--muted); }
.scores span { margin-right: 16px; } .scores b { color: var(--ink); font-weight: 600; }
details { margin-top: 14px; }
summary { cursor: pointer; color: var(--after); font-size: .94rem; padding: 4px 0; }
details[open] > summary { margin-bottom: 8px; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { padding: 8px 14px; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td { white-space: nowrap; }
tbody tr:last-child > * { border-bottom: 0; }
th:first-child { text-align: left; }
thead th { font-weight: 600; color: var(--muted); font-size: .84rem; vertical-align: bottom; }
tbody th { font-weight: 500; } tbody th small { display: block; font-weight: 400; }
td small { font-weight: 400; }
.facts td, .facts th { text-align: left; white-space: pre-line; overflow-wrap: anywhere; }
.facts th { min-width: 9rem; width: 22%; }
table.narrow { max-width: 460px; margin-top: 8px; }
pre { margin: 0; padding: 14px 18px; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; overflow-x: auto; font-size: .84rem; line-height: 1.45; }
.bar { display: flex; height: 30px; border-radius: 8px; overflow: hidden; gap: 1px;
  background: var(--line); }
.bar i { min-width: 2px; }
.swatch { display: inline-block; width: 12px; height: 12px; border-radius: 3px;
  margin-right: 10px; }
.hue0 { background: #4477aa; } .hue1 { background: #66a3c9; } .hue2 { background: #3d9970; }
.hue3 { background: #c9a227; } .hue4 { background: #d1663f; } .hue5 { background: #a0527f; }
.hue6 { background: #7a6bb0; } .hue7 { background: #8a8f98; }
footer { margin-top: 44px; padding-bottom: 40px; color: var(--muted); font-size: .84rem; }
@media (max-width: 860px) {
  .cards, .charts, .charts.two { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media (max-width: 640px) {
  header, main, footer { padding-left: 14px; padding-right: 14px; }
  nav div { padding-left: 14px; padding-right: 14px; }
  .charts, .charts.two { grid-template-columns: minmax(0, 1fr); }
  .cards { gap: 8px; } .card { padding: 10px 12px; } .big { font-size: 1.2rem; }
  .verdict { padding: 16px 16px; border-left-width: 6px; }
  article { grid-template-columns: 1fr; }
  article > div { padding: 10px 14px; }
  article > div + div { border-left: 0; border-top: 1px solid var(--line); }
  th, td { padding: 7px 10px; } tbody th small { display: none; } .facts th { min-width: 0; width: 42%; } }
@media print {
  :root { --paper: #fff; --card: #fff; --ink: #000; --muted: #444; --line: #ccc; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  nav { display: none; } body { font-size: 11pt; }
  .charts { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .verdict, .card, tr { break-inside: avoid; } h2, h3 { break-after: avoid; } }
)css";

}  // namespace hone::engine::report
