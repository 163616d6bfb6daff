// One call, from /api/calls/CALL. list.js has the list, live.js the live calls.

import { list } from "/calls/static/list.js";
import { live } from "/calls/static/live.js";
import { $, SPEAKERS, clock, element, get, ms, problem, seconds } from "/calls/static/page.js";
import { Timeline } from "/calls/static/timeline.js";

const length = (call) => (call.ended_at ? clock(seconds(call.began_at, call.ended_at)) : "live");

async function one(callSid) {
  $("call").hidden = false;
  const call = await get(`/api/calls/${callSid}`);
  document.title = `Call of ${new Date(call.began_at).toLocaleString()}`;
  $("summary").textContent = `${new Date(call.began_at).toLocaleString()}  ·  ${call.from_number || "unknown"} → ${call.to_number || "unknown"}  ·  ${callSid}`;
  figures(call);
  const timeline = new Timeline($("timeline"), call, $("position"));
  turns(call, timeline);
  $("in").onclick = () => timeline.zoom(0.5);
  $("out").onclick = () => timeline.zoom(2);
  $("all").onclick = () => timeline.whole();
  if (call.recording && call.recording.state === "completed") recording(callSid, timeline);
}

function figures(call) {
  const { transmission: line } = call;
  const stops = call.interruptions.filter((each) => !each.protected).map((each) => each.stopped_ms ?? each.silent_ms);
  const early = call.interruptions.filter((each) => each.paused_at).length;
  const [resumed, echoes] = ["unconfirmed", "echo"].map((kind) => call.hesitations.filter((each) => each.kind === kind).length);
  const answers = [];
  for (const [n, turn] of call.turns.entries()) {
    const next = call.turns[n + 1];
    if (turn.role === "caller" && next && next.role === "ai" && turn.ended_at && next.began_at) {
      answers.push(seconds(turn.ended_at, next.began_at) * 1000);
    }
  }
  const first = call.streams[0];
  const pick = first && first.first_frame_at ? seconds(first.started_at, first.first_frame_at) * 1000 : null;
  const all = [
    ["Length", length(call)],
    ["Gaps at the ear", line.ear_gaps === null ? "–" : String(line.ear_gaps), line.ear_gaps > 0],
    ["Longest path delay", call.path.length ? ms(Math.max(...call.path.map((sample) => sample.delay_ms))) : "–"],
    ["Longest wire gap", ms(line.wire_gap_max_ms), line.stalls > 0],
    ["First frame after", ms(pick)],
    ["Interruptions", String(call.interruptions.length)],
    ["Early pauses, resumed", `${early + resumed}, ${resumed}`],
    ["Echoes ignored", String(echoes)],
    ["Silent after, at most", stops.length ? ms(Math.max(...stops)) : "–"],
    ["Answered after, median", answers.length ? ms(answers.sort((a, b) => a - b)[answers.length >> 1]) : "–"],
    ["Ended", call.end_reason || "live", call.end_reason === "lost"],
  ];
  $("figures").replaceChildren(
    ...all.map(([name, value, bad]) => {
      const box = document.createElement("div");
      box.append(element("dt", name), element("dd", value, bad ? "bad" : ""));
      return box;
    }),
  );
}

function turns(call, timeline) {
  $("turns").replaceChildren(
    ...call.turns.map((turn) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.className = turn.role;
      const words = document.createElement("span");
      const isTool = turn.role === "tool";
      words.append(isTool ? `${turn.tool} ${turn.arguments} → ${turn.text || "…"}` : turn.heard_text || (turn.text ? "" : "(not written down)"));
      const rest = turn.text.slice(turn.heard_text.length);
      if (turn.role === "ai" && rest.trim()) words.append(element("del", rest));
      const took = isTool && turn.ended_at ? `${turn.outcome}, ${ms(seconds(turn.began_at, turn.ended_at) * 1000)}` : "";
      const heard = `${(turn.heard_ms / 1000).toFixed(1)} of ${(turn.spoken_ms / 1000).toFixed(1)} s heard`;
      const cut = took || (turn.interrupted ? heard : "");
      const at = turn.began_at ? clock(seconds(call.began_at, turn.began_at)) : "not heard";
      button.append(element("time", at), element("b", SPEAKERS[turn.role]), words, element("small", cut));
      button.onclick = () => turn.began_at && timeline.show(turn);
      item.append(button);
      return item;
    }),
  );
}

async function recording(callSid, timeline) {
  const audio = $("audio");
  const response = await fetch(`/calls/${callSid}/recording.wav`);
  if (!response.ok) return problem(`The recording is not available: ${(await response.json()).error}`);
  const data = await response.arrayBuffer();
  audio.src = URL.createObjectURL(new Blob([data], { type: "audio/wav" }));
  const decoder = new OfflineAudioContext(2, 1, 8000);
  timeline.recorded(await decoder.decodeAudioData(data), audio);
  $("play").hidden = false;
  $("play").onclick = () => (audio.paused ? audio.play() : audio.pause());
  audio.onplay = () => ($("play").textContent = "Pause");
  audio.onpause = () => ($("play").textContent = "Play");
}

for (const each of document.querySelectorAll("nav a")) {
  if (each.pathname === location.pathname) each.setAttribute("aria-current", "page");
}
const callSid = location.pathname.startsWith("/calls/") ? location.pathname.split("/")[2] : "";
if (callSid) one(callSid).catch((error) => problem(`No record: ${error.message}`));
else if (location.pathname === "/live") live();
else list();
