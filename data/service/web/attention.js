// What was on screen, and for how long: each text counts as seen once its end was in view; answers wait for that and for
// the least time the server asks. All times are of the visible page only, and are sent with the answer as they are.

const TICK_MS = 100;

export class Attention {
  #started = performance.now();
  #last = performance.now();
  #visible = 0;
  #inView = [];
  #ends = [];
  #observers = [];
  #timer;

  /// panes: elements, one a text, with an element `.end` after its last word. changed(): called when the state changes.
  /// soFar: what an earlier showing of the same question counted (`counts`), e.g. before a reload.
  constructor(panes, dwellMs, changed, soFar) {
    this.panes = panes;
    this.dwellMs = dwellMs;
    this.changed = changed;
    this.seen = panes.map((_, index) => soFar?.seen?.[index] ?? 0);
    this.firstInput = soFar?.firstInput ?? null;
    this.focusLosses = soFar?.focusLosses ?? 0;
    this.pasted = soFar?.pasted ?? 0;
    this.typed = soFar?.typed ?? 0;
    this.#visible = soFar?.visible ?? 0;
    this.#started -= soFar?.elapsed ?? 0;
    this.#ends = panes.map(() => false);
    this.#inView = panes.map(() => false);
    panes.forEach((pane, index) => this.#watch(pane, index));
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.leave = () => { if (document.hidden) { this.#tick(); ++this.focusLosses; } };
    this.blur = () => { if (!document.hidden) ++this.focusLosses; };
    document.addEventListener("visibilitychange", this.leave);
    window.addEventListener("blur", this.blur);
  }

  #watch(pane, index) {
    const visible = new IntersectionObserver((entries) => {
      const entry = entries.at(-1);
      this.#inView[index] = entry.isIntersecting && entry.intersectionRect.height > 40 && entry.intersectionRect.width > entry.boundingClientRect.width / 2;
    }, { threshold: [0, 0.1, 0.3, 0.5, 0.7, 1] });
    visible.observe(pane);
    const end = pane.querySelector(".end");
    const reached = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      this.#ends[index] = true;
      reached.disconnect();
      this.changed();
    });
    if (end) reached.observe(end);
    else this.#ends[index] = true;
    this.#observers.push(visible, reached);
  }

  #tick() {
    const now = performance.now();
    const passed = now - this.#last;
    this.#last = now;
    if (document.hidden) return;
    const before = this.left;
    this.#visible += passed;
    this.#inView.forEach((inView, index) => { if (inView) this.seen[index] += passed; });
    if (Math.ceil(before / 1000) !== Math.ceil(this.left / 1000)) this.changed();
  }

  input() { this.firstInput ??= performance.now() - this.#started; }

  get counts() {
    const { seen, firstInput, focusLosses, pasted, typed } = this;
    return { seen, firstInput, focusLosses, pasted, typed, visible: this.#visible, elapsed: performance.now() - this.#started };
  }

  /// Positions whose end was not in view yet.
  get unseen() { return this.#ends.flatMap((seen, index) => (seen ? [] : [index])); }
  /// Milliseconds of the least time that are left.
  get left() { return Math.max(0, this.dwellMs - this.#visible); }
  get open() { return this.left <= 0 && this.unseen.length === 0; }

  report(extra) {
    this.#tick();
    return {
      visible_ms: Math.round(this.#visible),
      first_input_ms: Math.round(this.firstInput ?? performance.now() - this.#started),
      submit_ms: Math.round(performance.now() - this.#started),
      seen: this.seen.map(Math.round),
      focus_losses: this.focusLosses,
      pasted_chars: this.pasted,
      typed_chars: this.typed,
      device: matchMedia("(max-width: 720px)").matches ? "phone" : "desktop",
      ...extra,
    };
  }

  close() {
    clearInterval(this.#timer);
    this.#observers.forEach((observer) => observer.disconnect());
    document.removeEventListener("visibilitychange", this.leave);
    window.removeEventListener("blur", this.blur);
  }
}
