// One call on a canvas: caller, AI, the events of model and line, and lead and path. Times are seconds since the call
// began.

import { latency, parts, waited } from "/calls/static/page.js";

const LANES = { caller: 60, ai: 150, events: 258, tools: 292, path: 400 };
const HALF = 38;
const PATH_HEIGHT = 80;
const LEFT = 96;
const STEPS = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 600];
// The parts of the wait for an answer.
const COLOURS = { carrier: "soft", detection: "caller", model: "ai", line: "bad", network: "soft" };
const FONT = "12px system-ui, 'DejaVu Sans', sans-serif";

export class Timeline {
  constructor(canvas, call, position) {
    this.canvas = canvas;
    this.call = call;
    this.position = position;
    this.origin = Date.parse(call.began_at);
    const ends = [call.ended_at, ...[...call.turns, ...call.dials].map((each) => each.ended_at)].filter(Boolean).map((text) => this.at(text));
    this.length = Math.max(1, ...ends) + 0.5;
    canvas.classList.toggle("with-path", call.path.length > 0);
    this.from = 0;
    this.to = this.length;
    this.audio = null;
    this.peaks = null;
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.grab(event));
    canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.draw();
  }

  at(text) {
    return (Date.parse(text) - this.origin) / 1000;
  }

  // --- moving about ---

  whole() {
    this.look(0, this.length);
  }

  zoom(factor, around = (this.from + this.to) / 2) {
    const span = Math.max(0.2, (this.to - this.from) * factor);
    const share = (around - this.from) / (this.to - this.from);
    this.look(around - span * share, around + span * (1 - share));
  }

  show(turn) {
    const began = this.at(turn.began_at);
    const ended = turn.ended_at ? this.at(turn.ended_at) : began + turn.heard_ms / 1000;
    const margin = Math.max(0.5, (ended - began) * 0.25);
    this.look(began - margin, ended + margin);
    this.seek(began);
  }

  look(from, to) {
    const span = Math.min(this.length, to - from);
    this.from = Math.max(0, Math.min(from, this.length - span));
    this.to = this.from + span;
    this.draw();
  }

  wheel(event) {
    event.preventDefault();
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      const shift = ((event.deltaX || event.deltaY) / this.canvas.clientWidth) * (this.to - this.from);
      this.look(this.from + shift, this.to + shift);
    } else this.zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2, this.time(event.offsetX));
  }

  grab(event) {
    const { from, to } = this;
    const begun = event.offsetX;
    let moved = false;
    this.canvas.setPointerCapture(event.pointerId);
    const move = ({ offsetX }) => {
      moved = moved || Math.abs(offsetX - begun) > 4;
      const shift = ((begun - offsetX) / (this.canvas.clientWidth - LEFT)) * (to - from);
      if (moved) this.look(from + shift, to + shift);
    };
    this.canvas.addEventListener("pointermove", move);
    const drop = ({ offsetX }) => {
      this.canvas.removeEventListener("pointermove", move);
      if (!moved) this.seek(this.time(offsetX));
    };
    this.canvas.addEventListener("pointerup", drop, { once: true });
  }

  key(event) {
    const shift = { ArrowLeft: -0.15, ArrowRight: 0.15 }[event.key];
    if (shift) this.look(this.from + shift * (this.to - this.from), this.to + shift * (this.to - this.from));
    else if (event.key === "+" || event.key === "=") this.zoom(0.5);
    else if (event.key === "-") this.zoom(2);
    else if (event.key === "0") this.whole();
    else return;
    event.preventDefault();
  }

  // --- the recording ---

  recorded(buffer, audio) {
    this.audio = audio;
    // Nothing says when Twilio began to record, but it records to the end of the call.
    this.shift = Math.max(0, (this.call.ended_at ? this.at(this.call.ended_at) : buffer.duration) - buffer.duration);
    const column = Math.round(buffer.sampleRate / 100);
    this.peaks = [0, buffer.numberOfChannels - 1].map((channel) => {
      const samples = buffer.getChannelData(channel);
      const peaks = new Float32Array(Math.ceil(samples.length / column));
      for (let n = 0; n < samples.length; n++) {
        const value = Math.abs(samples[n]);
        const at = Math.floor(n / column);
        if (value > peaks[at]) peaks[at] = value;
      }
      return peaks;
    });
    const follow = () => {
      this.draw();
      if (!audio.paused) requestAnimationFrame(follow);
    };
    audio.addEventListener("play", follow);
    audio.addEventListener("seeked", () => this.draw());
    this.draw();
  }

  seek(time) {
    if (this.audio) this.audio.currentTime = Math.max(0, time - this.shift);
    this.position.textContent = `${time.toFixed(2)} s`;
    this.cursor = time;
    this.draw();
  }

  // --- the picture ---

  x(time) {
    return LEFT + ((time - this.from) / (this.to - this.from)) * (this.canvas.clientWidth - LEFT);
  }

  time(x) {
    return this.from + ((x - LEFT) / (this.canvas.clientWidth - LEFT)) * (this.to - this.from);
  }

  draw() {
    const { canvas, call } = this;
    const scale = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    pen.font = FONT;
    const style = getComputedStyle(document.documentElement);
    this.colour = (name) => style.getPropertyValue(`--${name}`).trim();
    pen.save();
    pen.beginPath();
    pen.rect(LEFT, 0, width - LEFT, height);
    pen.clip();
    this.grid(pen, height);
    for (const each of call.interruptions) this.interruption(pen, each);
    for (const each of call.hesitations) this.hesitation(pen, each);
    call.turns.forEach((turn, n) => turn.began_at && this.turn(pen, turn, this.nextOf(n)));
    if (this.peaks) this.voices(pen);
    this.events(pen);
    if (call.path.length) this.path(pen);
    this.hand(pen, height);
    pen.restore();
    pen.font = `600 ${FONT}`;
    const names = [["Caller", LANES.caller], ["AI, heard", LANES.ai], ["Model, line", LANES.events]];
    if (call.path.length) names.push(["Path, lead", LANES.path - PATH_HEIGHT / 2]);
    for (const [name, y] of names) {
      pen.fillStyle = this.colour("ink");
      pen.fillText(name, 12, y + 4);
    }
  }

  grid(pen, height) {
    const step = STEPS.find((each) => (each / (this.to - this.from)) * (this.canvas.clientWidth - LEFT) > 70) || 600;
    for (let time = Math.ceil(this.from / step) * step; time < this.to; time += step) {
      const x = this.x(time);
      pen.fillStyle = this.colour("line");
      pen.fillRect(x, 0, 1, height - 24);
      pen.fillStyle = this.colour("soft");
      pen.fillText(step < 1 ? `${time.toFixed(2)} s` : `${Math.floor(time / 60)}:${String(Math.round(time) % 60).padStart(2, "0")}`, x + 4, height - 9);
    }
    for (const y of [LANES.caller, LANES.ai]) {
      pen.fillStyle = this.colour("line");
      pen.fillRect(LEFT, y, this.canvas.clientWidth, 1);
    }
  }

  // When the AI next speaks: the unheard rest of the turn before is drawn up to here.
  nextOf(n) {
    const next = this.call.turns.slice(n + 1).find((turn) => turn.role === "ai" && turn.began_at);
    return next ? this.at(next.began_at) : this.length;
  }

  // From `x` to the next turn in the lane of `turn`.
  roomUntilNext(turn, x) {
    const lane = ({ role }) => ({ ai: "ai", tones: "ai", tool: "tool" })[role] || "caller";
    const { turns } = this.call;
    const next = turns.slice(turns.indexOf(turn) + 1).find((each) => lane(each) === lane(turn) && each.began_at);
    return next ? this.x(this.at(next.began_at)) - x : Infinity;
  }

  // A bar below the events: from the model's call to the answer.
  tool(pen, turn) {
    const began = this.at(turn.began_at);
    const x = this.x(began);
    const width = Math.max(3, this.x(turn.ended_at ? this.at(turn.ended_at) : this.length) - x);
    pen.fillStyle = this.colour(turn.outcome === "done" ? "soft" : "bad");
    pen.fillRect(x, LANES.tools, width, 4);
    this.words(pen, `${turn.tool}: ${turn.outcome || "not answered"}`, x, LANES.tools + 17, Math.min(240, this.roomUntilNext(turn, x) - 8));
  }

  turn(pen, turn, next) {
    if (turn.role === "tool") return this.tool(pen, turn);
    const lane = turn.role === "ai" || turn.role === "tones" ? "ai" : "caller";
    const y = LANES[lane];
    const colour = this.colour(lane);
    const began = this.at(turn.began_at);
    const ended = turn.ended_at ? this.at(turn.ended_at) : began + turn.heard_ms / 1000;
    const [x, to] = [this.x(began), this.x(ended)];
    pen.fillStyle = colour;
    pen.globalAlpha = this.peaks ? 0.12 : 0.35;
    pen.beginPath();
    pen.roundRect(x, y - HALF, Math.max(2, to - x), 2 * HALF, 5);
    pen.fill();
    pen.globalAlpha = 1;
    const unheard = (turn.spoken_ms - turn.heard_ms) / 1000;
    if (turn.role === "ai" && unheard > 0.02) {
      pen.strokeStyle = colour;
      pen.globalAlpha = 0.5;
      pen.setLineDash([4, 4]);
      pen.beginPath();
      pen.roundRect(to, y - HALF + 8, Math.max(0, this.x(Math.min(ended + unheard, next - 0.1)) - to), 2 * HALF - 16, 5);
      pen.stroke();
      pen.setLineDash([]);
      pen.globalAlpha = 1;
    }
    if (turn.latency) this.answer(pen, turn.latency, began);
    const text = ["keys", "tones"].includes(turn.role) ? `${turn.role}: ${turn.text}` : turn.heard_text || turn.text;
    this.words(pen, text, x + 6, y - HALF - 6, Math.max(to - x, Math.min(60, this.roomUntilNext(turn, x) - 6)) - 6);
    if (unheard > 0.02 && turn.role === "ai") {
      const heard = `${(turn.heard_ms / 1000).toFixed(1)} of ${(turn.spoken_ms / 1000).toFixed(1)} s heard`;
      this.words(pen, heard, x + 6, y + HALF - 5, to - x - 10);
    }
  }

  words(pen, text, x, y, room) {
    if (room < 20) return;
    let shown = text;
    while (shown && pen.measureText(shown).width > room) shown = shown.slice(0, Math.floor(shown.length * 0.9) - 1);
    pen.fillStyle = this.colour("ink");
    if (shown) pen.fillText(shown.length < text.length ? `${shown.trimEnd()}…` : shown, x, y);
  }

  // From the caller's last sound to the answer's first sample: a piece for each part, and in words what fits.
  answer(pen, wait, to) {
    const y = LANES.ai + HALF + 3;
    const whole = waited(wait);
    let at = to - whole / 1000;
    const [left, room] = [this.x(at), this.x(to) - this.x(at)];
    for (const [name, value] of parts(wait)) {
      pen.fillStyle = this.colour(COLOURS[name]);
      pen.fillRect(this.x(at), y, this.x(at + value / 1000) - this.x(at), 3);
      at += value / 1000;
    }
    const label = [latency(wait), `${whole} ms`].find((text) => pen.measureText(text).width < room);
    pen.fillStyle = this.colour("soft");
    if (label) pen.fillText(label, left, y + 17);
  }

  interruption(pen, each) {
    const at = this.at(each.at);
    const x = this.x(at);
    pen.fillStyle = this.colour("warn");
    pen.globalAlpha = 0.3;
    pen.fillRect(x, LANES.caller - HALF, Math.max(2, this.x(at + each.silent_ms / 1000) - x), LANES.ai - LANES.caller + 2 * HALF);
    pen.globalAlpha = 1;
    pen.fillRect(x, LANES.caller - HALF, 1.5, LANES.ai - LANES.caller + 2 * HALF);
    if (!each.onset_at) return;
    // The caller's first sound, and from the pause on until the model noticed.
    const onset = this.at(each.onset_at);
    pen.fillRect(this.x(onset), LANES.caller - HALF, 1.5, 2 * HALF);
    if (each.paused_at) {
      const paused = this.x(this.at(each.paused_at));
      pen.globalAlpha = 0.15;
      pen.fillRect(paused, LANES.ai - HALF, x - paused, 2 * HALF);
      pen.globalAlpha = 1;
      pen.fillRect(paused, LANES.ai - HALF, 1.5, 2 * HALF);
    }
  }

  hesitation(pen, each) {
    const at = this.at(each.at);
    pen.fillStyle = this.colour("soft");
    pen.globalAlpha = 0.3;
    pen.fillRect(this.x(at), LANES.ai - HALF, Math.max(2, this.x(at + each.lasted_ms / 1000) - this.x(at)), 2 * HALF);
    pen.globalAlpha = 1;
  }

  voices(pen) {
    for (const [channel, lane] of [[0, "caller"], [1, "ai"]]) {
      const peaks = this.peaks[channel];
      pen.fillStyle = this.colour(lane);
      const width = Math.max(1, (this.x(0.01) - this.x(0)) * 0.9);
      const first = Math.max(0, Math.floor((this.from - this.shift) * 100));
      const last = Math.min(peaks.length, Math.ceil((this.to - this.shift) * 100));
      for (let n = first; n < last; n++) {
        const half = Math.sqrt(peaks[n]) * HALF;
        if (half > 0.7) pen.fillRect(this.x(this.shift + n / 100), LANES[lane] - half, width, 2 * half);
      }
    }
  }

  // Flags in rows of their own, so that neighbours do not cover each other.
  events(pen) {
    const { call } = this;
    const notes = [];
    call.streams.forEach((stream, n) => {
      if (stream.started_at) notes.push([this.at(stream.started_at), n ? "media socket again" : "answered", "soft"]);
      if (stream.first_frame_at) notes.push([this.at(stream.first_frame_at), "first frame", "soft"]);
      const gaps = stream.ear_gaps ? `, ${stream.ear_gaps} gaps at the ear (${(stream.ear_gap_us / 1000).toFixed(0)} ms)` : "";
      const bad = gaps || stream.end_reason === "lost" ? "bad" : "soft";
      if (stream.ended_at) notes.push([this.at(stream.ended_at), `${stream.end_reason || "ended"}${gaps}`, bad]);
    });
    for (const each of call.interruptions) {
      const how = each.protected ? "after the protected greeting" : each.cancelled ? "response cancelled" : "speech withdrawn";
      const when = each.onset_at ? `silent ${each.stopped_ms} ms after the first sound` : `silent after ${each.silent_ms} ms`;
      notes.push([this.at(each.at), `interrupted: ${when}, ${how}`, "warn"]);
    }
    for (const each of call.hesitations) {
      notes.push([this.at(each.at), each.kind === "echo" ? "echo ignored" : `hesitated for ${each.lasted_ms} ms`, "soft"]);
    }
    for (const each of call.dials) {
      notes.push([this.at(each.began_at), `dialled ${each.to}`, "soft"]);
      const left = each.caller_left ? ", the caller hung up" : "";
      if (each.ended_at) notes.push([this.at(each.ended_at), `${each.to}: ${each.outcome}${left}`, "soft"]);
    }
    for (const each of call.usage) {
      const agent = each.agent ? `${each.agent}: ` : "";
      notes.push([this.at(each.at), `${agent}${each.responses} responses of ${each.model}`, "ai"]);
    }
    const ends = [-Infinity, -Infinity, -Infinity];
    for (const [at, text, colour] of notes.sort((a, b) => a[0] - b[0])) {
      const wide = pen.measureText(text).width + 14;
      const x = this.x(at);
      // A flag near the right edge extends to the left.
      const left = x + wide > this.canvas.clientWidth ? x - wide : x;
      let row = ends.findIndex((end) => end <= left);
      // Without room, the flag stands alone: zooming in makes room for its words.
      const fits = row >= 0;
      if (fits) ends[row] = left + wide;
      else row = ends.indexOf(Math.min(...ends));
      const y = LANES.events - 30 + 22 * row;
      pen.fillStyle = this.colour(colour);
      pen.fillRect(x, y - 9, 2, 13);
      pen.fillStyle = this.colour(colour === "warn" ? "warn-ink" : colour);
      if (fits) pen.fillText(text, left + (left < x ? 0 : 7), y + 2);
    }
  }

  // The lead as a line, the delay of the path as an area, and the gaps that the caller heard. A sample holds until the
  // next one.
  path(pen) {
    const { path } = this.call;
    const top = Math.max(100, ...path.map((sample) => Math.max(sample.lead_ms, sample.delay_ms)));
    const y = (ms) => LANES.path - (ms / top) * PATH_HEIGHT;
    const starts = path.map((sample) => this.at(sample.at));
    path.forEach((sample, n) => {
      const [x, to] = [this.x(starts[n]), this.x(starts[n + 1] ?? this.length)];
      pen.fillStyle = this.colour("warn");
      pen.globalAlpha = 0.45;
      pen.fillRect(x, y(sample.delay_ms), to - x, LANES.path - y(sample.delay_ms));
      pen.globalAlpha = 1;
      pen.fillStyle = this.colour("ink");
      const delay = `${sample.delay_ms} ms`;
      if (sample.delay_ms >= 10 && pen.measureText(delay).width + 6 < to - x) pen.fillText(delay, x + 3, LANES.path - 4);
      pen.fillStyle = this.colour("ai");
      pen.fillRect(x, y(sample.lead_ms), to - x, 2);
      if (n === 0 || sample.lead_ms !== path[n - 1].lead_ms) {
        const change = path.findIndex((later, m) => m > n && later.lead_ms !== sample.lead_ms);
        const room = this.x(change < 0 ? this.length : starts[change]) - x;
        const text = `lead ${sample.lead_ms} ms`;
        if (pen.measureText(text).width < room) pen.fillText(text, x + 5, y(sample.lead_ms) + 14);
      }
      if (sample.gap_ms) {
        pen.fillStyle = this.colour("bad");
        pen.fillRect(x, LANES.path - PATH_HEIGHT - 14, 2, PATH_HEIGHT + 14);
        pen.fillText(`${sample.gap_ms} ms gap`, x + 5, LANES.path - PATH_HEIGHT - 5);
      }
    });
    pen.fillStyle = this.colour("line");
    pen.fillRect(LEFT, LANES.path, this.canvas.clientWidth, 1);
  }

  hand(pen, height) {
    const playing = this.audio && !this.audio.paused;
    const time = playing ? this.shift + this.audio.currentTime : this.cursor;
    if (time === undefined) return;
    if (playing && (time > this.to || time < this.from)) this.look(time, time + this.to - this.from);
    pen.fillStyle = this.colour("bad");
    pen.fillRect(this.x(time), 0, 1.5, height - 24);
    if (playing) this.position.textContent = `${time.toFixed(2)} s`;
  }
}
