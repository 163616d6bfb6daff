// Both voices of a call, in the audio thread, which runs at the call's 8 kHz.
//
// The AI's speech is played as the caller's carrier plays it: in the order of arrival, without a pause of its own, until
// a flush. Both voices wait the same time first, so the conversation keeps its rhythm.

const CALLER = 0;
const AI = 1;
const FLUSHED = 2;
const WAIT = 1200; // samples: copies come every 60 ms, and a network may delay one
const KEPT = [4000, 16000]; // samples: the AI may be ahead by its lead. What is more is late, and is left out.
const TELL = 1000; // samples between two messages about who speaks
const LOUD = 0.01; // -40 dBFS

const DECODED = new Float32Array(256);
for (let code = 0; code < 256; code++) {
  const inverted = ~code & 0xff;
  const magnitude = ((((inverted & 0x0f) << 3) + 0x84) << ((inverted & 0x70) >> 4)) - 0x84;
  DECODED[code] = (inverted & 0x80 ? -magnitude : magnitude) / 32768;
}

class Voice {
  constructor(kept) {
    this.kept = kept;
    this.clear();
  }

  clear() {
    this.parts = [];
    this.at = 0; // in the first part
    this.held = 0;
    this.wait = WAIT;
  }

  hear(audio) {
    this.parts.push(audio);
    this.held += audio.length;
    while (this.held > this.kept) this.skip();
  }

  skip() {
    this.held -= this.parts.shift().length - this.at;
    this.at = 0;
  }

  next() {
    if (!this.held) {
      this.wait = WAIT;
      return 0;
    }
    if (this.wait) {
      this.wait -= 1;
      return 0;
    }
    const code = this.parts[0][this.at++];
    this.held -= 1;
    if (this.at === this.parts[0].length) {
      this.parts.shift();
      this.at = 0;
    }
    return DECODED[code];
  }
}

class Voices extends AudioWorkletProcessor {
  constructor() {
    super();
    this.voices = KEPT.map((kept) => new Voice(kept));
    this.loud = 0; // bit 0: the caller, bit 1: the AI
    this.due = TELL;
    this.port.onmessage = ({ data }) => this.read(new Uint8Array(data));
  }

  read(records) {
    for (let at = 0; at < records.length; ) {
      const side = records[at];
      const end = at + 3 + records[at + 1] * 256 + records[at + 2];
      if (side === FLUSHED) this.voices[AI].clear();
      else if (end > at + 3) this.voices[side === AI ? AI : CALLER].hear(records.subarray(at + 3, end));
      at = end;
    }
  }

  process(_, [[out]]) {
    for (let n = 0; n < out.length; n++) {
      const samples = this.voices.map((voice) => voice.next());
      samples.forEach((sample, side) => {
        if (Math.abs(sample) > LOUD) this.loud |= 1 << side;
      });
      out[n] = samples[CALLER] + samples[AI];
    }
    this.due -= out.length;
    if (this.due <= 0) {
      this.port.postMessage(this.loud);
      this.due = TELL;
      this.loud = 0;
    }
    return true;
  }
}

registerProcessor("voices", Voices);
