// Elements by calls, never from strings: text stays text whatever it contains.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") {
      for (const [type, listener] of Object.entries(value)) node.addEventListener(type, listener);
    } else if (name === "data") {
      for (const [key, item] of Object.entries(value)) node.dataset[key] = item;
    } else if (name === "value" || name === "checked" || name === "disabled" || name === "open") {
      node[name] = value;
    } else {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/// h("p", {class: "quiet", on: {click}}, "text", child, [more]) -> HTMLElement
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/// The same for SVG.
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/// A key cap with its label, as keyboard hints show it.
export function key(name) {
  return h("kbd", {}, name);
}

/// A button whose shortcut stands beside its words; `keys` is also told to assistive technology.
export function button(label, { keys = "", kind = "", shown = keys, ...attributes } = {}, ...more) {
  return h("button", { type: "button", class: `button ${kind}`, "aria-keyshortcuts": keys || null, ...attributes },
    h("span", { class: "label" }, label), ...more, shown ? h("kbd", { "aria-hidden": "true" }, shown) : null);
}

const live = () => document.getElementById("live");
let sayTimer = 0;

/// Tells screen readers; politely, and the same words twice are told twice.
export function say(text) {
  const region = live();
  if (!region) return;
  region.textContent = "";
  clearTimeout(sayTimer);
  sayTimer = setTimeout(() => { region.textContent = text; }, 60);
}

/// True where keys are letters to be typed, not commands.
export function typing(target) {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target.tagName === "TEXTAREA" || target.tagName === "SELECT") return true;
  return target.tagName === "INPUT" && !["radio", "checkbox", "button", "submit"].includes(target.type);
}

/// The command of a key press, whatever the keyboard's layout: a digit, a lower-case Latin letter, "=", "?", "Enter"...
export function command(event) {
  const { key: pressed, code } = event;
  if (pressed === "=" || pressed === "?" || pressed === "+" || pressed === "-" || pressed === "؟") return pressed === "؟" ? "?" : pressed;
  if (/^[0-9]$/.test(pressed)) return pressed;
  if (/^(Digit|Numpad)[0-9]$/.test(code) && !event.shiftKey) return code.at(-1);
  if (/^[a-zA-Z]$/.test(pressed)) return pressed.toLowerCase();
  if (/^Key[A-Z]$/.test(code) && pressed.length === 1) return code.at(-1).toLowerCase();
  return pressed;
}
