// What one hears of a call, in figures: gaps, the playout buffer, and how long marks take to come back. Pure.

const LEAD_COLUMNS = 200; // of 10 ms

export class Heard {
  constructor() {
    this.gaps = { number: 0, ms: 0, longestMs: 0 };
    this.echoes = { number: 0, lastMs: null, longestMs: 0 };
    this.lowestMs = null; // of the buffer, since the AI began to speak
    this.levels = []; // of the buffer, the last two seconds in which the AI was heard, ms
  }

  gap(ms) {
    const { gaps } = this;
    gaps.number += 1;
    gaps.ms += ms;
    gaps.longestMs = Math.max(gaps.longestMs, ms);
  }

  // How long after a mark came from the gateway its echo left for the gateway, simulated network included.
  echo(ms) {
    const { echoes } = this;
    echoes.number += 1;
    echoes.lastMs = ms;
    echoes.longestMs = Math.max(echoes.longestMs, ms);
  }

  // The buffer at the ends of the last columns, and its lowest level since the columns before (null: silence), ms.
  buffer(levelsMs, lowestMs) {
    this.levels.push(...levelsMs.filter((ms) => ms > 0));
    this.levels.splice(0, this.levels.length - LEAD_COLUMNS);
    if (lowestMs !== null) this.lowestMs = Math.min(this.lowestMs ?? Infinity, lowestMs);
  }

  silence() {
    this.lowestMs = null;
  }

  // How far ahead of the ear the server paces: what the buffer holds when the path delays nothing.
  get leadMs() {
    return this.levels.length ? Math.max(...this.levels) : null;
  }
}
