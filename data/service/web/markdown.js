// A small Markdown subset as DOM nodes: paragraphs, headings, lists, quotes, fenced code, tables, bold, italic, struck,
// code. Everything else stays the text that it is. No HTML, no images, nothing fetched; links are text in what models
// wrote, and open in a new tab in the guideline only. Every pattern is linear in the length of its line.

import { h } from "./dom.js";

const INLINE = /`([^`\n]+)`|\*\*([^*\n]+)\*\*|(?<![\p{L}\p{N}*])\*([^*\s][^*\n]*)\*|(?<![\p{L}\p{N}_])_([^_\s][^_\n]*)_(?![\p{L}\p{N}])|~~([^~\n]+)~~|\[([^[\]\n]+)\]\(([^()\s]+)\)/gu;

function inline(text, options) {
  const nodes = [];
  let done = 0;
  for (const match of text.matchAll(INLINE)) {
    const [whole, code, bold, star, under, struck, label, address] = match;
    if (match.index > done) nodes.push(text.slice(done, match.index));
    done = match.index + whole.length;
    if (code !== undefined) nodes.push(h("code", {}, code));
    else if (bold !== undefined) nodes.push(h("strong", {}, inline(bold, options)));
    else if (star !== undefined || under !== undefined) nodes.push(h("em", {}, inline(star ?? under, options)));
    else if (struck !== undefined) nodes.push(h("del", {}, inline(struck, options)));
    else if (options.links && /^https?:\/\//.test(address)) {
      nodes.push(h("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, label));
    } else nodes.push(whole);
  }
  if (done < text.length) nodes.push(text.slice(done));
  return nodes;
}

function lines(text, options) {
  return text.split("\n").flatMap((line, index) => [index ? h("br") : null, ...inline(line, options)]);
}

const ITEM = /^(\s*)([-*+•]|\d{1,4}[.)])\s+(.*)$/;
const FENCE = /^\s*(```|~~~)/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const RULE = /^\s*([-*_])(\s*\1){2,}\s*$/;
const TABLE_RULE = /^[|:\- ]{1,400}$/;
const MAX_DEPTH = 8;

const starts = (line) => FENCE.test(line) || HEADING.test(line) || RULE.test(line) || ITEM.test(line) || /^\s*>/.test(line);

function list(source, at, options, depth = 0) {
  const [, indent, marker] = source[at].match(ITEM);
  const ordered = /\d/.test(marker);
  const node = h(ordered ? "ol" : "ul", ordered ? { start: parseInt(marker, 10), dir: "auto" } : { dir: "auto" });
  while (at < source.length) {
    const found = source[at].match(ITEM);
    if (!found || found[1].length < indent.length) break;
    if (found[1].length > indent.length + 1 && node.lastChild && depth < MAX_DEPTH) {
      const inner = list(source, at, options, depth + 1);
      node.lastChild.append(inner.node);
      at = inner.at;
      continue;
    }
    if (/\d/.test(found[2]) !== ordered) break;
    const content = [found[3]];
    ++at;
    while (at < source.length && source[at].trim() && !starts(source[at])) content.push(source[at++].trim());
    node.append(h("li", { dir: "auto" }, lines(content.join("\n"), options)));
    if (at + 1 < source.length && !source[at].trim() && ITEM.test(source[at + 1])) ++at;
  }
  return { node, at };
}

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

function table(source, at, options) {
  const head = cells(source[at]);
  const body = [];
  at += 2;
  while (at < source.length && source[at].includes("|") && source[at].trim()) body.push(cells(source[at++]));
  const row = (tag, items) => h("tr", {}, head.map((_, index) => h(tag, { dir: "auto" }, inline(items[index] ?? "", options))));
  return { node: h("table", {}, h("thead", {}, row("th", head)), h("tbody", {}, body.map((items) => row("td", items)))), at };
}

function blocks(source, options, depth) {
  const nodes = [];
  let at = 0;
  while (at < source.length) {
    const line = source[at];
    if (!line.trim()) {
      ++at;
    } else if (FENCE.test(line)) {
      const close = line.match(FENCE)[1];
      const code = [];
      while (++at < source.length && !source[at].trim().startsWith(close)) code.push(source[at]);
      ++at;
      nodes.push(h("pre", { dir: "ltr" }, h("code", {}, code.join("\n"))));
    } else if (HEADING.test(line)) {
      const [, marks, title] = line.match(HEADING);
      const tag = options.headings ? `h${Math.min(6, Math.max(2, marks.length + 1))}` : "p";
      nodes.push(h(tag, { class: `heading level${marks.length}`, dir: "auto" }, inline(title.trimEnd().replace(/(^|[^#])#+$/, "$1"), options)));
      ++at;
    } else if (RULE.test(line)) {
      nodes.push(h("hr"));
      ++at;
    } else if (/^\s*>/.test(line) && depth < MAX_DEPTH) {
      const quoted = [];
      while (at < source.length && /^\s*>/.test(source[at])) quoted.push(source[at++].replace(/^\s*>\s?/, ""));
      nodes.push(h("blockquote", { dir: "auto" }, blocks(quoted, options, depth + 1)));
    } else if (ITEM.test(line)) {
      const made = list(source, at, options);
      nodes.push(made.node);
      at = made.at;
    } else if (line.includes("|") && at + 1 < source.length && source[at + 1].includes("-") && TABLE_RULE.test(source[at + 1])) {
      const made = table(source, at, options);
      nodes.push(made.node);
      at = made.at;
    } else {
      const paragraph = [line];
      while (++at < source.length && source[at].trim() && !starts(source[at])) paragraph.push(source[at]);
      nodes.push(h("p", { dir: "auto" }, lines(paragraph.join("\n"), options)));
    }
  }
  return nodes;
}

/// Nodes for `text`. links: clickable (guideline only); headings: real headings (guideline), else bold paragraphs, so
/// that what a model wrote does not enter the page's outline.
export function markdown(text, { links = false, headings = false } = {}) {
  return blocks(String(text).replace(/\r\n?/g, "\n").split("\n"), { links, headings }, 0);
}
