// The page: buttons, figures, transcript. The audio is in line.js and telephone.js, in threads of their own, so slow
// drawing is inaudible.

import { Heard } from "./heard.js";
import { Network } from "./network.js";
import { isClean } from "./path.js";
import { Transcript } from "./transcript.js";
import { Waves } from "./waves.js";

const $ = (id) => document.getElementById(id);
const ROUND_TRIP_EVERY_MS = 2000;
const START_MS = 4000;
// A silence that begins later than this after speech_started is not the interruption's.
const STOP_WITHIN_S = 5;

const waves = new Waves({ caller: $("wave-caller"), ai: $("wave-ai"), buffer: $("wave-buffer") });
const transcript = new Transcript($("transcript"), $("hint"));
const network = new Network($("network"), (behaviour) => {
  if (call && call.line) call.line.postMessage({ network: { behaviour } });
});

const GONE = "The gateway does not answer. Start twentyms on its machine (twentyms run), then call again.";
const SILENT = "The AI said nothing: its model did not answer. On the machine of the gateway, twentyms doctor says why.";
const LOST = "The connection to the gateway was lost.";
// A caller wonders after this long without a word.
const WAIT_MS = 4000;
const ABNORMAL = 1006; // the close code of a WebSocket that was cut off

// Where the pages of calls are; "" where this browser cannot reach them.
let records = "";

// The state of one call. `measures` holds the page's own measurements, for the browser's console.
let call = null;
const measures = (window.twentyms = { state: "idle", gaps: [], stops: [], answers: [], wire: { frames: 0, worst: 0 }, heard: new Heard() });

function state(name, text) {
  measures.state = name;
  $("status").dataset.state = name;
  $("status").textContent = text;
  const busy = name === "calling" || name === "live";
  $("call").classList.toggle("live", busy);
  $("call").querySelector(".label").textContent = busy ? "Hang up" : "Call";
  $("mute").disabled = $("keys").disabled = name !== "live";
  $("agents").querySelector("select").disabled = busy;
}

function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

function figure(id, value, note, bad = false) {
  const box = $(id);
  box.querySelector("dd").textContent = value;
  box.querySelector("small").textContent = note;
  box.classList.toggle("bad", bad);
}

// --- a call, from the button to its end ---

async function microphone() {
  if (!navigator.mediaDevices) {
    throw new Error("Browsers give a microphone to https:// pages and to localhost only: open this page under one of them.");
  }
  try {
    const audio = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    if (error.name === "NotAllowedError" || error.name === "SecurityError") {
      throw new Error(
        "The microphone was refused. Allow it for this page (the icon beside the address, or the browser's settings), then call again.",
      );
    }
    if (error.name === "NotFoundError") throw new Error("This device has no microphone. Plug one in, then call again.");
    throw new Error(`The microphone cannot be used (${error.name}). Close what else uses it, then call again.`);
  }
}

// Without a working sound output, some browsers never start the context.
function started(context) {
  const late = new Promise((_, refuse) =>
    setTimeout(() => refuse(new Error("The sound output does not start. Connect speakers or headphones, then call again.")), START_MS),
  );
  return Promise.race([context.resume(), late]);
}

async function dial() {
  problem("");
  $("record").hidden = true;
  state("calling", "Calling …");
  Object.assign(measures, { gaps: [], stops: [], answers: [], wire: { frames: 0, worst: 0 }, heard: new Heard() });
  transcript.clear();
  waves.clear();
  for (const [id, note] of [["f-stop", "when you interrupt"], ["f-answer", "when you pause"]]) figure(id, "–", note);
  figure("f-gaps", "0", "0 ms");
  figure("f-echo", "–", "longest –");
  const mine = (call = { aiOn: false });
  try {
    mine.context = new AudioContext({ latencyHint: "interactive" });
    mine.stream = await microphone();
    await mine.context.audioWorklet.addModule("/phone/telephone.js").catch(() => {
      throw new Error(GONE);
    });
    await started(mine.context);
    mine.telephone = new AudioWorkletNode(mine.context, "telephone", { outputChannelCount: [1] });
    mine.source = mine.context.createMediaStreamSource(mine.stream);
    mine.source.connect(mine.telephone).connect(mine.context.destination);
    mine.telephone.port.onmessage = ({ data }) => call === mine && measured(mine, data);
    const agent = $("agents").querySelector("select").value;
    const query = agent ? `?agent=${encodeURIComponent(agent)}` : "";
    const response = await fetch(`/phone/call${query}`, { method: "POST" }).catch(() => {
      throw new Error(GONE);
    });
    const offer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(offer.error || `The gateway refused the call (${response.status}).`);
    if (call !== mine) return;
    connect(mine, offer);
  } catch (error) {
    if (call === mine) end("failed", "No call", error.message);
  }
}

// Who can be called, and whether a model answers at all.
const SIMULATED = {
  talk: "A script answers, not a model: it does not understand you. It knows when you speak, stop or interrupt it, and it calls the agent's tools for real.",
  parrot: "No model answers: you hear your own words again.",
};

async function about() {
  const response = await fetch("/phone/about");
  if (!response.ok) return;
  const { agents, simulated, records: where } = await response.json();
  records = where;
  $("simulated").textContent = SIMULATED[simulated] || "";
  $("simulated").hidden = !simulated;
  $("agents").hidden = agents.length < 2;
  $("agents").querySelector("select").replaceChildren(...agents.map((name) => new Option(name)));
}

function connect(mine, offer) {
  mine.feed = new EventSource(`/phone/events/${offer.callSid}`);
  mine.feed.onmessage = ({ data }) => call === mine && told(mine, JSON.parse(data));
  mine.feed.addEventListener("over", () => mine.feed.close());
  mine.line = new Worker("/phone/line.js", { type: "module" });
  const { port1, port2 } = new MessageChannel();
  mine.telephone.port.postMessage({ line: port1 }, [port1]);
  mine.line.postMessage({ telephone: port2 }, [port2]);
  mine.line.onmessage = ({ data }) => call === mine && onLine(mine, data);
  const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${offer.media}`;
  mine.line.postMessage({ call: { ...offer, url }, network: { behaviour: network.behaviour, seed: network.seed } });
  mine.callSid = measures.callSid = offer.callSid;
}

function onLine(mine, message) {
  if (message.open) {
    state("live", "Connected");
    mine.timer = setInterval(roundTrip, ROUND_TRIP_EVERY_MS);
    roundTrip();
    mine.since = Date.now();
    mine.clock = setInterval(() => {
      const ms = Date.now() - mine.since;
      state("live", `Connected  ${clock(ms)}${mine.heardAi || ms < WAIT_MS ? "" : ", the model has said nothing yet"}`);
    }, 1000);
  } else if (message.wire !== undefined) {
    measures.wire.frames += 1;
    measures.wire.worst = Math.max(measures.wire.worst, message.wire);
  } else if (message.echo !== undefined) {
    const { heard } = measures;
    heard.echo(message.echo);
    const { echoes } = heard;
    measures.delayed = message.delayed;
    figure("f-echo", `${echoes.lastMs.toFixed(0)} ms`, `longest ${echoes.longestMs.toFixed(0)} ms`);
  } else if (message.closed !== undefined) {
    const refused = measures.state === "calling";
    if (refused) end("failed", "No call", "The gateway refused the media socket. Reload the page and call again.");
    else if (message.closed === ABNORMAL) end("failed", "Call lost", LOST);
    else end("over", "Call ended by the other side", mine.heardAi ? "" : SILENT);
  }
}

function hangUp() {
  if (call && call.line) call.line.postMessage({ hangUp: true });
  end("over", "Call ended", "");
}

function end(name, text, why) {
  const mine = call;
  call = null;
  if (mine) {
    clearInterval(mine.timer);
    clearInterval(mine.clock);
    if (mine.feed) setTimeout(() => mine.feed.close(), 500);
    if (mine.line) setTimeout(() => mine.line.terminate(), 1000);
    if (mine.stream) for (const track of mine.stream.getTracks()) track.stop();
    if (mine.context) mine.context.close();
  }
  transcript.stop();
  speaking("caller", false);
  speaking("ai", false);
  mute(false);
  keypad(false);
  record(mine);
  state(name, text);
  problem(why);
}

function record(mine) {
  const callSid = mine && mine.since && records ? mine.callSid : "";
  $("record").hidden = !callSid;
  if (callSid) $("record").querySelector("a").href = records + callSid;
}

const clock = (ms) => `${Math.floor(ms / 60000)}:${String(Math.floor(ms / 1000) % 60).padStart(2, "0")}`;

async function roundTrip() {
  const begun = performance.now();
  try {
    await fetch("/healthz", { cache: "no-store" });
  } catch {
    return figure("f-trip", "–", "the gateway does not answer", true);
  }
  measures.roundTripMs = performance.now() - begun;
  const simulatedMs = network.behaviour.roundTripMs;
  const note = isClean(network.behaviour) ? "to the gateway" : `${simulatedMs} ms of it simulated`;
  figure("f-trip", `${(measures.roundTripMs + simulatedMs).toFixed(0)} ms`, note);
}

// --- what the telephone measured ---

function measured(mine, event) {
  const { heard } = measures;
  if (event.columns) {
    heard.buffer(event.columns.filter((_, n) => n % 3 === 2).map((bytes) => bytes / 8), mine.aiOn ? event.lowest : null);
    waves.add(event, heard.leadMs);
    const lowest = heard.lowestMs === null ? "–" : `${heard.lowestMs.toFixed(0)} ms`;
    const lead = heard.leadMs === null ? "–" : `${heard.leadMs.toFixed(0)} ms`;
    figure("f-buffer", mine.aiOn ? `${event.held.toFixed(0)} ms` : "–", `lowest ${lowest}, lead ${lead}`);
  } else if (event.gap) {
    heard.gap(event.gap.ms);
    const { gaps } = heard;
    measures.gaps.push(event.gap);
    figure("f-gaps", String(gaps.number), `${gaps.ms.toFixed(0)} ms, longest ${gaps.longestMs.toFixed(0)} ms`, true);
    waves.mark("gap", event.gap.at - event.gap.ms / 1000, event.gap.ms / 1000);
  } else if (event.voice) {
    speaking("caller", event.voice.on);
    if (event.voice.on) mine.onset = event.voice.onset;
    else mine.paused = event.voice.at;
  } else if (event.ai) {
    mine.aiOn = event.ai.on;
    mine.heardAi = true;
    speaking("ai", event.ai.on);
    if (event.ai.on) answered(mine, event.ai.at);
    else {
      mine.lastHeard = event.ai.at;
      heard.silence();
      stopped(mine);
    }
  }
}

function answered(mine, at) {
  if (mine.stoppedSpeaking && at > mine.stoppedSpeaking) {
    const ms = (at - mine.stoppedSpeaking) * 1000;
    measures.answers.push(ms);
    figure("f-answer", `${ms.toFixed(0)} ms`, "since you were heard to pause");
    mine.stoppedSpeaking = null;
  }
}

// An interruption is complete when the bridge has reported it and the ear is silent; either may come first. The ear may
// be silent before the model has noticed the caller: it counts from the caller's first sound.
function stopped(mine) {
  const { noticed, interrupted, lastHeard } = mine;
  const onset = mine.onset && noticed > mine.onset && noticed - mine.onset < 1 ? mine.onset : null;
  const from = onset ?? noticed;
  if (!interrupted || !noticed || mine.aiOn || !(lastHeard > from)) return;
  mine.interrupted = null;
  if (interrupted.protected || lastHeard - noticed > STOP_WITHIN_S) return;
  const ms = (lastHeard - from) * 1000;
  const fromVoice = onset === null ? null : ms;
  measures.stops.push({ ms: (lastHeard - noticed) * 1000, fromVoice, bridge: interrupted.silentMs, early: interrupted.early });
  const since = onset === null ? "since the model noticed you" : "since your first sound";
  figure("f-stop", `${ms.toFixed(0)} ms`, interrupted.early ? `${since}; the model noticed after ${((noticed - from) * 1000).toFixed(0)} ms` : since);
  waves.mark("barge", from, ms / 1000);
}

function speaking(who, on) {
  $(`lane-${who}`).classList.toggle("speaking", on);
}

// --- what the bridge reports ---

function told(mine, note) {
  const now = mine.context.currentTime;
  if (note.turn) transcript.turn(note.turn);
  else if (note.speech === "started") mine.noticed = now;
  else if (note.speech === "stopped") mine.stoppedSpeaking = now;
  else if (note.interruption) {
    mine.interrupted = note.interruption;
    if (note.interruption.protected) waves.mark("barge", now - note.interruption.agoMs / 1000, 0.02);
    stopped(mine);
  }
}

// --- buttons and keys ---

function mute(on) {
  $("mute").setAttribute("aria-pressed", String(on));
  if (call && call.telephone) call.telephone.port.postMessage({ muted: on });
}

function keypad(on) {
  if (!on && $("keypad").contains(document.activeElement)) $("keys").focus();
  $("keypad").hidden = !on;
  $("keys").setAttribute("aria-expanded", String(on));
}

function press(digit) {
  if (call && call.line && measures.state === "live") call.line.postMessage({ digit });
}

for (const digit of "123456789*0#") {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = digit;
  button.setAttribute("aria-label", { "*": "star", "#": "hash" }[digit] || digit);
  button.addEventListener("click", () => press(digit));
  $("keypad").append(button);
}

$("call").addEventListener("click", () => (call ? hangUp() : dial()));
$("mute").addEventListener("click", () => mute($("mute").getAttribute("aria-pressed") !== "true"));
$("keys").addEventListener("click", () => keypad($("keypad").hidden));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const types = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
  if (types && event.key !== "Escape") return;
  if (event.key.toLowerCase() === "m" && !$("mute").disabled) $("mute").click();
  else if (event.key.toLowerCase() === "k" && !$("keys").disabled) $("keys").click();
  else if (/^[0-9*#]$/.test(event.key)) press(event.key);
  else if (event.key === "Escape" && !$("keypad").hidden) keypad(false);
  else if (event.key === "Escape" && call) hangUp();
});
addEventListener("pagehide", () => call && hangUp());
about();
