// The line: Twilio's end of a media socket. It has a thread of its own, so drawing the page delays no frame.
//
// It sends and reads Twilio's Media Streams messages only. Numbers are strings, as in Twilio's.

let socket = null;
let telephone = null; // a MessagePort to the audio thread
let streamSid = "";
let sequence = 0;
let chunk = 0;
let lastMedia = 0;

function send(message) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function say(event, fields) {
  send({ event, sequenceNumber: String(++sequence), streamSid, ...fields });
}

function open({ url, callSid, accountSid, parameters }) {
  streamSid = "MZ" + Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16).padStart(2, "0")).join("");
  socket = new WebSocket(url);
  socket.onopen = () => {
    send({ event: "connected", protocol: "Call", version: "1.0.0" });
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
  socket.onmessage = ({ data }) => receive(JSON.parse(data));
  socket.onclose = ({ code }) => {
    socket = null;
    postMessage({ closed: code });
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
    telephone.postMessage({ mark: message.mark.name });
    lastMedia = 0; // the next frame begins another utterance, so its gap does not count
  } else if (message.event === "clear") {
    telephone.postMessage({ clear: true });
    lastMedia = 0;
  }
}

function fromTelephone(message) {
  if (message.frame) {
    const payload = btoa(String.fromCharCode(...message.frame));
    const timestamp = String(20 * chunk);
    if (socket && socket.readyState === WebSocket.OPEN) {
      say("media", { media: { track: "inbound", chunk: String(++chunk), timestamp, payload } });
    }
  } else if (message.played !== undefined) {
    say("mark", { mark: { name: message.played } });
  }
}

onmessage = ({ data }) => {
  if (data.telephone) {
    telephone = data.telephone;
    telephone.onmessage = (event) => fromTelephone(event.data);
  } else if (data.call) {
    open(data.call);
  } else if (data.digit) {
    say("dtmf", { dtmf: { track: "inbound_track", digit: data.digit } });
  } else if (data.hangUp && socket) {
    say("stop", { stop: {} });
    socket.close(1000);
  }
};
