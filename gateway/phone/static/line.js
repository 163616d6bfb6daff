// The line: Twilio's end of a media socket. It has a thread of its own, so drawing the page delays no frame.
//
// It sends and reads Twilio's Media Streams messages only. Numbers are strings, as in Twilio's. Between socket and
// telephone lies the network that the page simulates (path.js). While that network does nothing, messages pass at once.

import { isInside } from "./ear.js";
import { CLEAN, Path } from "./path.js";

// A browser answers WebSocket pings by itself, so the simulated network cannot delay those. The gateway therefore sends
// this page marks of this name in place of pings. They are answered on arrival, whatever the ear still has to play.
const PROBE = "probe.";

let socket = null;
let telephone = null; // a MessagePort to the audio thread
let streamSid = "";
let sequence = 0;
let chunk = 0;
let lastMedia = 0;
const came = new Map(); // when each mark came from the gateway, by its name

// One direction of the network: hands over each message when its path lets it arrive.
class Way {
  constructor(deliver) {
    this.deliver = deliver;
    this.timer = null;
    this.begin(0, CLEAN);
  }

  begin(seed, behaviour) {
    this.path = new Path(seed, performance.now());
    this.path.behaviour = behaviour;
    this.delayed = 0; // messages, ever
  }

  pass(message) {
    if (this.path.isClear) return this.deliver(message);
    this.path.send(message, performance.now());
    this.delayed += 1;
    this.handOver();
  }

  handOver() {
    clearTimeout(this.timer);
    const now = performance.now();
    for (const message of this.path.due(now)) this.deliver(message);
    const next = this.path.nextMs();
    if (next !== null) this.timer = setTimeout(() => this.handOver(), Math.ceil(next - now));
  }

  // The network does nothing any more, and hands over at once what it held.
  open() {
    this.path.behaviour = CLEAN;
    clearTimeout(this.timer);
    for (const message of this.path.due(Infinity)) this.deliver(message);
  }
}

const down = new Way(receive);
const up = new Way(write);

function write(message) {
  if (!isOpen()) return;
  socket.send(JSON.stringify(message));
  const at = message.event === "mark" && came.get(message.mark.name);
  if (!at) return;
  came.delete(message.mark.name);
  postMessage({ echo: performance.now() - at, delayed: down.delayed + up.delayed });
}

function isOpen() {
  return socket !== null && socket.readyState === WebSocket.OPEN;
}

function say(event, fields) {
  if (isOpen()) up.pass({ event, sequenceNumber: String(++sequence), streamSid, ...fields });
}

function open({ url, callSid, accountSid, parameters }, { seed, behaviour }) {
  down.begin(2 * seed, behaviour);
  up.begin(2 * seed + 1, behaviour);
  streamSid = "MZ" + Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16).padStart(2, "0")).join("");
  socket = new WebSocket(url);
  socket.onopen = () => {
    up.pass({ event: "connected", protocol: "Call", version: "1.0.0" });
    say("start", {
      start: {
        accountSid,
        streamSid,
        callSid,
        tracks: ["inbound"],
        mediaFormat: { encoding: "audio/x-mulaw", sampleRate: 8000, channels: 1 },
        customParameters: parameters,
      },
    });
    postMessage({ open: true });
  };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.event === "mark" && !message.mark.name.startsWith(PROBE)) came.set(message.mark.name, performance.now());
    down.pass(message);
  };
  socket.onclose = ({ code }) => {
    socket = null;
    down.pass({ closed: code });
  };
}

function receive(message) {
  if (message.event === "media") {
    const text = atob(message.media.payload);
    const audio = new Uint8Array(text.length);
    for (let n = 0; n < text.length; n++) audio[n] = text.charCodeAt(n);
    telephone.postMessage({ audio }, [audio.buffer]);
    const now = performance.now();
    if (lastMedia) postMessage({ wire: now - lastMedia });
    lastMedia = now;
  } else if (message.event === "mark") {
    const { name } = message.mark;
    if (name.startsWith(PROBE)) return say("mark", { mark: { name } });
    telephone.postMessage({ mark: name });
    if (!isInside(name)) lastMedia = 0; // the next frame begins another utterance, so its gap does not count
  } else if (message.event === "clear") {
    telephone.postMessage({ clear: true });
    lastMedia = 0;
  } else if (message.closed !== undefined) {
    postMessage({ closed: message.closed });
  }
}

function fromTelephone(message) {
  if (message.frame) {
    if (!isOpen()) return;
    const payload = btoa(String.fromCharCode(...message.frame));
    const timestamp = String(20 * chunk);
    say("media", { media: { track: "inbound", chunk: String(++chunk), timestamp, payload } });
  } else if (message.played !== undefined) {
    say("mark", { mark: { name: message.played } });
  }
}

onmessage = ({ data }) => {
  if (data.telephone) {
    telephone = data.telephone;
    telephone.onmessage = (event) => fromTelephone(event.data);
  } else if (data.call) {
    open(data.call, data.network);
  } else if (data.network) {
    down.path.behaviour = up.path.behaviour = data.network.behaviour;
  } else if (data.digit) {
    say("dtmf", { dtmf: { track: "inbound_track", digit: data.digit } });
  } else if (data.hangUp && socket) {
    up.open(); // the page does not wait for the network to carry a hang-up
    say("stop", { stop: {} });
    socket.close(1000);
  }
};
