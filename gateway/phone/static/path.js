// One direction of a bad network between page and gateway, as a WebSocket over TCP shows it: messages keep their order,
// and a lost one holds up all that follow. Pure: time (ms) is an argument, and all that is random follows from a seed.
//
// simulator/network models the same for the simulated carrier, packet by packet. This is its short form: one message is
// one segment, and the repair of a loss takes a fixed time.

// The sender repairs a loss one round trip after later segments report it. Those are frames, 20 ms apart, and it waits
// for more than one; a burst is reported later by its own length. docs/network.md has what real TCP shows.
const NOTICE_MS = 40;
const FRAME_MS = 20;
// A repair that is lost, too, waits for a timer: Linux's shortest, doubled each time.
const TIMEOUT_MS = 200;
const TIMEOUT_MAX_MS = 3200;
// A proxy that stalls does so once in this time, first after half of it.
export const STALL_EVERY_MS = 8000;

export const CLEAN = Object.freeze({ roundTripMs: 0, jitterMs: 0, lossPercent: 0, burst: 1, stallMs: 0 });

export const PRESETS = Object.freeze({
  clean: CLEAN,
  far: Object.freeze({ ...CLEAN, roundTripMs: 200, jitterMs: 10, lossPercent: 0.5 }),
  mobile: Object.freeze({ ...CLEAN, roundTripMs: 80, jitterMs: 40, lossPercent: 1, burst: 4 }),
  proxy: Object.freeze({ ...CLEAN, roundTripMs: 60, stallMs: 400 }),
});

// A burst alone does nothing: it says how many messages each loss takes.
export function isClean({ roundTripMs, jitterMs, lossPercent, stallMs }) {
  return !(roundTripMs || jitterMs || lossPercent || stallMs);
}

// Numbers from 0 to below 1: Marsaglia's xorshift of 32 bits, after spreading the seed's bits.
export function randomFrom(seed) {
  let state = (Math.imul(seed ^ (seed >>> 16), 0x9e3779b1) ^ 0x5bd1e995) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

export class Path {
  // `beganMs`: when the first period of stalls begins.
  constructor(seed, beganMs) {
    // One sequence for each, so moving one slider leaves the other's sequence alone.
    this.losses = randomFrom(seed);
    this.jitters = randomFrom(~seed);
    this.beganMs = beganMs;
    this.behaviour = CLEAN;
    this.losing = 0; // messages that the present burst still takes
    this.lastMs = -Infinity; // when the last message arrives
    this.held = []; // {message, atMs}, in order
  }

  // Nothing is held and nothing shall be: messages need not come here.
  get isClear() {
    return !this.held.length && isClean(this.behaviour);
  }

  send(message, nowMs) {
    this.lastMs = Math.max(this.lastMs, this.afterStall(this.arrival(nowMs)));
    this.held.push({ message, atMs: this.lastMs });
  }

  // The messages that have arrived by now.
  due(nowMs) {
    let count = 0;
    while (count < this.held.length && this.held[count].atMs <= nowMs) count += 1;
    return this.held.splice(0, count).map(({ message }) => message);
  }

  // When the next message arrives; null: none is on the way.
  nextMs() {
    return this.held.length ? this.held[0].atMs : null;
  }

  arrival(nowMs) {
    const { roundTripMs, jitterMs, lossPercent, burst } = this.behaviour;
    const isLost = () => this.losses() < lossPercent / 100;
    let atMs = nowMs + roundTripMs / 2 + this.jitters() * jitterMs;
    if (this.losing) {
      this.losing -= 1; // the first of its burst holds it up
    } else if (isLost()) {
      this.losing = burst - 1;
      atMs += roundTripMs + NOTICE_MS + (burst - 1) * FRAME_MS;
      for (let wait = TIMEOUT_MS; wait <= TIMEOUT_MAX_MS && isLost(); wait *= 2) atMs += roundTripMs + wait;
    }
    return atMs;
  }

  // The instant itself, or the end of the stall that it falls into.
  afterStall(atMs) {
    const { stallMs } = this.behaviour;
    const since = atMs - this.beganMs + STALL_EVERY_MS / 2;
    const into = since % STALL_EVERY_MS;
    return since >= STALL_EVERY_MS && into < stallMs ? atMs - into + stallMs : atMs;
  }
}
