// The calls that are live, as their records tell it: a turn is known when it ended, lead and path within a minute.

import { heard, leave, listen } from "/calls/static/listen.js";
import { $, clock, element, get, head, link, problem, row, seconds, SPEAKERS } from "/calls/static/page.js";

const REFRESH_MS = 1000;
const WORDS = 90;
const buttons = new Map(); // by call

export function live() {
  $("live").hidden = false;
  document.title = "twentyms live calls";
  const names = head($("live-calls"), ["Since", "From", "Agent", "Last turn", "#Interruptions", "#Lead", "#Path delay", "Tools", "Listen in"]);
  const refresh = async () => {
    if (document.hidden) return;
    const { calls, more } = await get("/api/live");
    if (heard() && !calls.some((call) => call.call_sid === heard())) leave();
    const focused = document.activeElement;
    $("live-rows").replaceChildren(...calls.map((call) => row(cells(call), names)));
    for (const callSid of buttons.keys()) if (!calls.some((call) => call.call_sid === callSid)) buttons.delete(callSid);
    if (buttons.has(focused.dataset.call)) focused.focus();
    $("summary").textContent = `${calls.length}${more ? " newest" : ""} live`;
    $("live-table").hidden = !calls.length;
    $("quiet").hidden = calls.length > 0;
    problem("");
  };
  const show = () => refresh().catch((error) => problem(`No live calls: ${error.message}`));
  show();
  setInterval(show, REFRESH_MS);
}

function cells(call) {
  const since = clock(Math.max(0, seconds(call.began_at, new Date().toISOString()))).replace(/\.\d$/, "");
  return [
    [link(call, since)],
    [call.from_number || "–"],
    [call.agent || "–"],
    [turn(call.last_turn)],
    [String(call.interruptions), "n"],
    [call.path ? `${call.path.lead_ms} ms` : "–", "n"],
    [call.path ? `${call.path.delay_ms} ms` : "–", call.path && call.path.delay_ms > call.path.lead_ms ? "n bad" : "n"],
    [call.tools.map(({ tool, outcome }) => `${tool}: ${outcome || "works"}`).join(", ") || "–"],
    [button(call.call_sid)],
  ];
}

// The same button at each refresh, so that it keeps the focus and its text.
function button(callSid) {
  let made = buttons.get(callSid);
  if (!made) {
    made = element("button", "Listen");
    made.type = "button";
    made.dataset.call = callSid;
    made.onclick = () => (heard() === callSid ? leave() : hear(callSid, made));
    buttons.set(callSid, made);
  }
  return made;
}

function hear(callSid, pressed) {
  listen(callSid, (text) => {
    $("heard").textContent = text;
    pressed.textContent = heard() === callSid ? "Stop" : "Listen";
  });
}

function turn(last) {
  if (!last) return "–";
  const words = last.text || "(not written down)";
  const made = element("span", "", last.role);
  made.append(element("b", SPEAKERS[last.role]), ` ${words.length > WORDS ? `${words.slice(0, WORDS).trimEnd()}…` : words}`);
  return made;
}
