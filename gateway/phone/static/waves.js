// The last seconds of both voices and of the playout buffer, drawn from columns of 10 ms.

const SECONDS = 12;
const PER_SECOND = 100;
const KEPT = SECONDS * PER_SECOND;
const BUFFER_TOP_MS = 240; // at least
// Columns come every 40 ms; drawing more often would waste power.
const DRAW_MS = 40;

export class Waves {
  constructor(canvases) {
    this.canvases = canvases;
    this.clear();
    setInterval(() => {
      if (this.changed && !document.hidden) requestAnimationFrame(() => this.draw());
    }, DRAW_MS);
    addEventListener("resize", () => (this.changed = true));
  }

  clear() {
    this.caller = [];
    this.ai = [];
    this.buffer = [];
    this.leadMs = null;
    this.until = 0;
    this.marks = [];
    this.changed = true;
  }

  // `columns` are triples: the caller's peak, the AI's, and the bytes in the buffer; `at` is when the last one ended.
  // `leadMs`: the lead, as seen from the buffer.
  add({ columns, at }, leadMs) {
    this.leadMs = leadMs;
    for (let n = 0; n < columns.length; n += 3) {
      this.caller.push(columns[n]);
      this.ai.push(columns[n + 1]);
      this.buffer.push(columns[n + 2] / 8);
    }
    for (const lane of [this.caller, this.ai, this.buffer]) lane.splice(0, lane.length - KEPT);
    this.until = at;
    this.marks = this.marks.filter((mark) => mark.at + mark.seconds > at - SECONDS);
    this.changed = true;
  }

  mark(kind, at, seconds) {
    this.marks.push({ kind, at, seconds });
    this.changed = true;
  }

  draw() {
    this.changed = false;
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    this.lane(this.canvases.caller, this.caller, colour("caller"), colour);
    this.lane(this.canvases.ai, this.ai, colour("ai"), colour);
    this.depth(this.canvases.buffer, this.buffer, colour);
  }

  prepare(canvas) {
    const scale = devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    return { pen, width, height };
  }

  shade(pen, width, height, colour) {
    for (const { kind, at, seconds } of this.marks) {
      const x = width - ((this.until - at) / SECONDS) * width;
      pen.fillStyle = colour(kind === "gap" ? "bad" : "warn");
      pen.globalAlpha = kind === "gap" ? 0.85 : 0.35;
      pen.fillRect(x, 0, Math.max(2, (seconds / SECONDS) * width), height);
      pen.globalAlpha = 1;
      if (kind === "barge") pen.fillRect(x, 0, 1.5, height);
    }
  }

  lane(canvas, peaks, fill, colour) {
    const { pen, width, height } = this.prepare(canvas);
    const middle = height / 2;
    pen.fillStyle = colour("line");
    pen.fillRect(0, middle - 0.5, width, 1);
    this.shade(pen, width, height, colour);
    pen.fillStyle = fill;
    const step = width / KEPT;
    const first = width - peaks.length * step;
    for (let n = 0; n < peaks.length; n++) {
      // Speech on a phone is quiet for most of its length; the root shows it without clipping the rest.
      const half = Math.sqrt(peaks[n]) * (middle - 2);
      if (half > 0.6) pen.fillRect(first + n * step, middle - half, Math.max(step, 0.8), 2 * half);
    }
  }

  depth(canvas, held, colour) {
    const { pen, width, height } = this.prepare(canvas);
    const step = width / KEPT;
    const first = width - held.length * step;
    const top = Math.max(BUFFER_TOP_MS, ...held);
    const level = (ms) => (ms / top) * (height - 2);
    this.shade(pen, width, height, colour);
    pen.fillStyle = colour("soft");
    pen.globalAlpha = 0.45;
    for (let n = 0; n < held.length; n++) {
      const y = level(held[n]);
      if (y > 0) pen.fillRect(first + n * step, height - y, Math.max(step, 0.8), y);
    }
    pen.globalAlpha = 1;
    if (this.leadMs !== null) {
      pen.fillStyle = colour("ai");
      pen.fillRect(0, height - level(this.leadMs), width, 1);
    }
    pen.fillStyle = colour("line");
    pen.fillRect(0, height - 1, width, 1);
  }
}
