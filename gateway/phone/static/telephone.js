// The telephone set, in the audio thread: microphone to mu-law frames, mu-law to the ear (ear.js), and measurements.
//
// Times are seconds of the audio context's clock, which counts samples, so a busy page does not distort a measurement.

import { Ear } from "./ear.js";

const LINE_HZ = 8000;
const FRAME = 160; // samples of the line: 20 ms
const ZEROS = 8; // zero crossings of the resampling kernel on either side
const PHASES = 128; // of the kernel between two samples
const COLUMN = 80; // samples of the line in one column of the picture: 10 ms

// The caller's voice: twice the noise around, and louder than -46 dBFS, for two frames; over after 300 ms of less.
const VOICE_FLOOR = 0.005;
const VOICE_OVER_NOISE = 3;
const VOICE_FRAMES = 2;
const HANGOVER_FRAMES = 15;

const DECODED = new Float32Array(256);
for (let code = 0; code < 256; code++) {
  const inverted = ~code & 0xff;
  const magnitude = ((((inverted & 0x0f) << 3) + 0x84) << ((inverted & 0x70) >> 4)) - 0x84;
  DECODED[code] = (inverted & 0x80 ? -magnitude : magnitude) / 32768;
}

function encode(sample) {
  const value = Math.max(-32635, Math.min(32635, Math.round(sample * 32768)));
  const magnitude = Math.abs(value) + 0x84;
  const exponent = 31 - Math.clz32(magnitude) - 7;
  return ~((value < 0 ? 0x80 : 0) | (exponent << 4) | ((magnitude >> (exponent + 3)) & 0x0f)) & 0xff;
}

// Windowed sinc: kernel[phase] holds the weights of the samples around a point phase/PHASES after a sample.
// `scale` >= 1 widens it for sampling down, so that nothing above the line's 4 kHz folds back.
function kernels(scale) {
  const half = Math.ceil(ZEROS * scale);
  return Array.from({ length: PHASES }, (_, phase) => {
    const weights = new Float32Array(2 * half);
    let sum = 0;
    for (let n = 0; n < 2 * half; n++) {
      const x = (n - half + 1 - phase / PHASES) / scale;
      const window = Math.abs(x) < ZEROS ? 0.5 + 0.5 * Math.cos((Math.PI * x) / ZEROS) : 0;
      weights[n] = (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x)) * window;
      sum += weights[n];
    }
    return weights.map((weight) => weight / sum);
  });
}

// Converts samples of one rate to another; `step` is the number of input samples per output sample.
class Resampler {
  constructor(step) {
    this.step = step;
    this.kernels = kernels(Math.max(1, step));
    this.size = this.kernels[0].length;
    this.window = new Float32Array(2 * this.size); // written twice, so the last `size` are always contiguous
    this.at = 0;
    this.ahead = 0; // the next output's distance after the middle of the window, in input samples
  }

  push(sample) {
    this.window[this.at] = this.window[this.at + this.size] = sample;
    this.at = (this.at + 1) % this.size;
  }

  value() {
    const weights = this.kernels[Math.floor(this.ahead * PHASES)];
    let sum = 0;
    for (let n = 0; n < this.size; n++) sum += weights[n] * this.window[this.at + n];
    return sum;
  }

  // Upwards (step < 1): the next output; `pull` gives samples of the input as they are needed.
  next(pull) {
    this.ahead += this.step;
    while (this.ahead >= 1) {
      this.ahead -= 1;
      this.push(pull());
    }
    return this.value();
  }

  // Downwards (step >= 1): take one sample of the input; `emit` gets each output that it completes.
  feed(sample, emit) {
    this.push(sample);
    if (this.ahead < 1) {
      emit(this.value());
      this.ahead += this.step;
    }
    this.ahead -= 1;
  }
}

class Telephone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.line = null; // a MessagePort to the worker that holds the socket
    this.muted = false;
    this.ear = new Ear({
      played: (name) => this.line.postMessage({ played: name }),
      sound: (on) => this.tell({ ai: { on, at: currentTime } }),
      gap: (ms) => this.tell({ gap: { at: currentTime, ms } }),
    });
    this.lowest = Infinity; // the lowest level of the buffer since the last report, bytes
    this.speaker = new Resampler(LINE_HZ / sampleRate);
    this.pull = () => this.playOne();
    // The microphone.
    this.frame = new Uint8Array(FRAME);
    this.filled = 0;
    this.energy = 0;
    this.noise = VOICE_FLOOR;
    this.loud = 0;
    this.quiet = 0;
    this.speaking = false;
    this.microphone = new Resampler(sampleRate / LINE_HZ);
    this.emit = (sample) => this.say(sample);
    // The picture: the loudest of each column, both voices.
    this.columns = [];
    this.peaks = [0, 0];
    this.columnFill = 0;
    this.port.onmessage = ({ data }) => this.onPage(data);
  }

  onPage(message) {
    if (message.line) {
      this.line = message.line;
      this.line.onmessage = ({ data }) => this.onLine(data);
    }
    if (message.muted !== undefined) this.muted = message.muted;
  }

  onLine(message) {
    if (message.audio) this.ear.hear(message.audio);
    else if (message.mark !== undefined) this.ear.mark(message.mark);
    else if (message.clear) this.ear.clear();
  }

  playOne() {
    const value = DECODED[this.ear.next()];
    this.peaks[1] = Math.max(this.peaks[1], Math.abs(value));
    if (++this.columnFill === COLUMN) {
      this.columns.push(this.peaks[0], this.peaks[1], this.ear.heldBytes);
      this.peaks = [0, 0];
      this.columnFill = 0;
    }
    return value;
  }

  // --- the microphone ---

  say(sample) {
    const value = this.muted ? 0 : sample;
    this.frame[this.filled++] = encode(value);
    this.energy += value * value;
    this.peaks[0] = Math.max(this.peaks[0], Math.abs(value));
    if (this.filled < FRAME) return;
    this.judge(Math.sqrt(this.energy / FRAME));
    if (this.line) {
      const frame = this.frame;
      this.line.postMessage({ frame }, [frame.buffer]);
    }
    this.frame = new Uint8Array(FRAME);
    this.filled = 0;
    this.energy = 0;
  }

  judge(level) {
    if (level > Math.max(VOICE_FLOOR, this.noise * VOICE_OVER_NOISE)) {
      this.loud += 1;
      this.quiet = 0;
      if (!this.speaking && this.loud === VOICE_FRAMES) {
        this.speaking = true;
        const now = currentTime;
        this.tell({ voice: { on: true, at: now, onset: now - (VOICE_FRAMES * FRAME) / LINE_HZ } });
      }
    } else {
      this.noise += (level - this.noise) * (level < this.noise ? 0.1 : 0.005);
      this.loud = 0;
      this.quiet += 1;
      if (this.speaking && this.quiet === HANGOVER_FRAMES) {
        this.speaking = false;
        this.tell({ voice: { on: false, at: currentTime } });
      }
    }
  }

  tell(event) {
    this.port.postMessage(event);
  }

  process(inputs, outputs) {
    const microphone = inputs[0] && inputs[0][0];
    const speaker = outputs[0][0];
    if (this.ear.isAudible) this.lowest = Math.min(this.lowest, this.ear.heldBytes);
    for (let n = 0; n < speaker.length; n++) {
      speaker[n] = this.speaker.next(this.pull);
      // Without a microphone (still opening, or unplugged) the line sends silence.
      this.microphone.feed(microphone ? microphone[n] : 0, this.emit);
    }
    for (let n = 1; n < outputs[0].length; n++) outputs[0][n].set(speaker);
    this.report();
    return true;
  }

  report() {
    if (this.columns.length < 12) return;
    this.tell({
      columns: this.columns,
      at: currentTime,
      held: this.ear.heldBytes / 8,
      lowest: this.lowest === Infinity ? null : this.lowest / 8,
    });
    this.columns = [];
    this.lowest = Infinity;
  }
}

registerProcessor("telephone", Telephone);
