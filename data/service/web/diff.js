// Word-level difference of two texts: longest common subsequence of words. White space never counts as a difference.

const MAX_CELLS = 16e6; // 4000 x 4000 words: 32 MB for the table, about 0.1 s

/// [{text, start, end}], words and punctuation without white space; offsets in UTF-16 units.
export function words(text, language) {
  const found = [];
  if (globalThis.Intl?.Segmenter) {
    for (const { segment, index } of new Intl.Segmenter(language || undefined, { granularity: "word" }).segment(text)) {
      if (segment.trim()) found.push({ text: segment, start: index, end: index + segment.length });
    }
    return found;
  }
  for (const match of text.matchAll(/[\p{L}\p{N}\p{M}_'’]+|[^\s]/gu)) {
    found.push({ text: match[0], start: match.index, end: match.index + match[0].length });
  }
  return found;
}

function table(a, b) {
  const width = b.length + 1;
  const length = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; --i) {
    for (let j = b.length - 1; j >= 0; --j) {
      length[i * width + j] = a[i] === b[j]
        ? length[(i + 1) * width + j + 1] + 1
        : Math.max(length[(i + 1) * width + j], length[i * width + j + 1]);
    }
  }
  return { length, width };
}

/// [[op, index of a, index of b]] with op "=" (in both), "-" (only a), "+" (only b); a and b are arrays of strings.
export function edits(a, b) {
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) ++head;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a.at(-1 - tail) === b.at(-1 - tail)) ++tail;
  const left = a.slice(head, a.length - tail), right = b.slice(head, b.length - tail);
  const result = [];
  for (let k = 0; k < head; ++k) result.push(["=", k, k]);
  let i = 0, j = 0;
  if (left.length * right.length <= MAX_CELLS) {
    const { length, width } = table(left, right);
    while (i < left.length && j < right.length) {
      if (left[i] === right[j]) result.push(["=", head + i++, head + j++]);
      else if (length[(i + 1) * width + j] >= length[i * width + j + 1]) result.push(["-", head + i++, -1]);
      else result.push(["+", -1, head + j++]);
    }
  }
  while (i < left.length) result.push(["-", head + i++, -1]);
  while (j < right.length) result.push(["+", -1, head + j++]);
  for (let k = tail; k > 0; --k) result.push(["=", a.length - k, b.length - k]);
  return result;
}

/// The beginning that both texts share, cut at the end of a paragraph, line or sentence, never inside a code block; 0 when it
/// is shorter than `least`: then nothing is worth folding.
export function sharedPrefix(a, b, least = 160) {
  let length = 0;
  const end = Math.min(a.length, b.length);
  while (length < end && a[length] === b[length]) ++length;
  if (length === a.length && length === b.length) return 0;
  const shared = a.slice(0, length);
  const after = (marks) => Math.max(0, ...marks.map((mark) => (shared.includes(mark) ? shared.lastIndexOf(mark) + mark.length : 0)));
  // A paragraph's end reads best, then a line's, then a sentence's.
  let cut = [["\n\n"], ["\n"], [". ", "! ", "? ", "。", "؟ "]].map(after).find((at) => at >= least) ?? 0;
  if ((shared.slice(0, cut).match(/^\s*```/gm) ?? []).length % 2) {
    cut = shared.slice(0, cut).lastIndexOf("```");
  }
  if (cut === a.length || cut === b.length) return 0; // one would have nothing left to show
  return cut >= least ? cut : 0;
}

function collect(root, language) {
  const found = [];
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    for (const word of words(node.data, language)) found.push({ ...word, node });
  }
  return found;
}

function mark(found, changed) {
  const runs = new Map(); // text node -> [[start, end]]
  found.forEach((word, index) => {
    if (!changed[index]) return;
    const list = runs.get(word.node) ?? [];
    const last = list.at(-1);
    if (last && last.index === index - 1) Object.assign(last, { end: word.end, index });
    else list.push({ start: word.start, end: word.end, index });
    runs.set(word.node, list);
  });
  for (const [node, list] of runs) {
    for (const { start, end } of list.reverse()) {
      const range = document.createRange();
      range.setStart(node, start);
      range.setEnd(node, end);
      const wrapper = document.createElement("mark");
      wrapper.className = "differs";
      range.surroundContents(wrapper);
    }
  }
}

/// Marks, in two rendered texts, the words that the other does not have in that order.
export function markDifferences(first, second, language) {
  const a = collect(first, language), b = collect(second, language);
  const changedA = new Array(a.length).fill(false), changedB = new Array(b.length).fill(false);
  for (const [op, i, j] of edits(a.map((word) => word.text), b.map((word) => word.text))) {
    if (op === "-") changedA[i] = true;
    if (op === "+") changedB[j] = true;
  }
  mark(a, changedA);
  mark(b, changedB);
}
