// What the page keeps in the browser: preferences, questions ahead, unsent answers, drafts. Written at once, so that a
// closed lid or a killed tab loses nothing; when storage is refused (private windows, quota) it lives in memory.

const PREFIX = "hone.";
const fallback = new Map();

function read(name) {
  try {
    const stored = localStorage.getItem(PREFIX + name);
    if (stored !== null) return stored;
  } catch { /* storage is refused: memory below */ }
  return fallback.get(name) ?? null;
}

export function recall(name, otherwise = null) {
  const text = read(name);
  if (text === null) return otherwise;
  try {
    return JSON.parse(text);
  } catch {
    return otherwise;
  }
}

/// False when it could only be kept until the page is closed.
export function keep(name, value) {
  const text = JSON.stringify(value);
  try {
    localStorage.setItem(PREFIX + name, text);
    fallback.delete(name);
    return true;
  } catch {
    fallback.set(name, text);
    return false;
  }
}

export function forget(name) {
  fallback.delete(name);
  try {
    localStorage.removeItem(PREFIX + name);
  } catch { /* nothing was kept there */ }
}

/// One person's part of it: two people who share a browser never see or send each other's.
export function memoryOf(pseudonym) {
  const scope = (name) => `${pseudonym}.${name}`;
  return {
    recall: (name, otherwise) => recall(scope(name), otherwise),
    keep: (name, value) => keep(scope(name), value),
    forget: (name) => forget(scope(name)),
  };
}

const DEFAULTS = { language: "", theme: "auto", direct: false, diff: false };

export function preferences() {
  return { ...DEFAULTS, ...recall("preferences", {}) };
}

export function prefer(change) {
  const all = { ...preferences(), ...change };
  keep("preferences", all);
  return all;
}
