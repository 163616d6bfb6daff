// The ear: Twilio's playout buffer. It plays audio in the order of arrival, without a jitter buffer, and a mark returns
// when the audio before it has been played. Pure: it is told what arrives, and asked for one sample after the other.

const KEPT_BYTES = 600 * 8000; // ten minutes; Twilio refuses more (its error 31931)
const PER_MS = 8;
const SILENCE = 0xff; // mu-law

// The gateway's marks are generation.utterance.frame. Those of utterance 0 stand inside one, so silence after them is a
// gap.
export function isInside(name) {
  return /^\d+\.0\.\d+$/.test(name);
}

export class Ear {
  // Told of: `played(name)`, a mark's turn; `sound(on)`; `gap(ms)`, at the end of a silence inside an utterance.
  constructor({ played, sound, gap }) {
    this.told = { played, sound, gap };
    this.buffer = new Uint8Array(1 << 16);
    this.receivedBytes = 0; // ever
    this.playedBytes = 0;
    this.marks = []; // {name, at}: due when `at` bytes are played
    this.closedAt = 0; // no utterance is open at this byte: a mark follows it
    this.samples = 0; // ever, silence included
    this.dryAt = null; // when the ear ran dry inside an utterance, in samples
    this.isAudible = false;
  }

  get heldBytes() {
    return this.receivedBytes - this.playedBytes;
  }

  hear(audio) {
    if (this.heldBytes + audio.length > KEPT_BYTES) return;
    while (this.heldBytes + audio.length > this.buffer.length) this.grow();
    if (this.dryAt !== null) {
      const silent = this.samples - this.dryAt;
      if (silent) this.told.gap(silent / PER_MS);
      this.dryAt = null;
    }
    for (let n = 0; n < audio.length; n++) this.buffer[(this.receivedBytes + n) % this.buffer.length] = audio[n];
    this.receivedBytes += audio.length;
    this.makeAudible(true);
  }

  grow() {
    const grown = new Uint8Array(2 * this.buffer.length);
    for (let n = this.playedBytes; n < this.receivedBytes; n++) {
      grown[n % grown.length] = this.buffer[n % this.buffer.length];
    }
    this.buffer = grown;
  }

  mark(name) {
    if (!isInside(name)) {
      this.closedAt = this.receivedBytes;
      this.dryAt = null;
    }
    this.marks.push({ name, at: this.receivedBytes });
    this.echo();
  }

  clear() {
    this.playedBytes = this.closedAt = this.receivedBytes;
    this.dryAt = null;
    this.echo();
    this.makeAudible(false);
  }

  echo() {
    while (this.marks.length && this.marks[0].at <= this.playedBytes) this.told.played(this.marks.shift().name);
  }

  // The next sample, as mu-law.
  next() {
    this.samples += 1;
    if (!this.heldBytes) return SILENCE;
    const code = this.buffer[this.playedBytes % this.buffer.length];
    this.playedBytes += 1;
    if (this.marks.length) this.echo();
    if (!this.heldBytes) {
      if (this.closedAt !== this.receivedBytes) this.dryAt = this.samples;
      this.makeAudible(false);
    }
    return code;
  }

  makeAudible(on) {
    if (this.isAudible === on) return;
    this.isAudible = on;
    this.told.sound(on);
  }
}
