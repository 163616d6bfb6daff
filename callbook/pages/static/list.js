// The list of calls, newest first, with its search and filters.

import { $, clock, get, head, link, ms, problem, row, seconds } from "/calls/static/page.js";

const REFRESH_MS = 5000;
const TYPED_MS = 300;
const PAGE = 50;
// Cells that have names get one column more.
const COLUMNS = ["Began", "From", "To", "Agent", "#Length", "#Turns", "#Gaps at the ear", "#Longest wire gap", "Ended", "Recording"];

const length = (call) => (call.ended_at ? clock(seconds(call.began_at, call.ended_at)) : "live");

export function list() {
  $("list").hidden = false;
  let names = [];
  let hasCells = false;
  const form = $("filter");
  for (const [name, value] of new URLSearchParams(location.search)) {
    const field = form.elements[name];
    if (field && field.type === "checkbox") field.checked = true;
    else if (field) field.value = value;
  }
  // Only what is filled in.
  const wanted = () => new URLSearchParams([...new FormData(form)].filter(([, value]) => value.trim()));
  let asked = 0;

  async function more(before) {
    const mine = (asked += 1);
    const query = wanted();
    history.replaceState(null, "", `/calls${query.size ? `?${query}` : ""}`);
    query.set("limit", PAGE);
    if (before) query.set("before", before);
    const page = await get(`/api/calls?${query}`);
    if (mine !== asked) return; // somebody has typed meanwhile
    if (!before) {
      $("rows").replaceChildren();
      hasCells = page.calls.some((call) => call.cell);
      names = head($("calls"), hasCells ? [...COLUMNS, "Cell"] : COLUMNS);
    }
    $("rows").append(...page.calls.map((call) => row(hasCells ? [...cells(call), [call.cell || "–"]] : cells(call), names)));
    const shown = $("rows").children.length;
    const filtered = wanted().size > 0;
    $("summary").textContent = `${shown}${page.next ? " newest" : ""} ${filtered ? "that match" : "in all"}`;
    $("table").hidden = !shown;
    $("empty").hidden = shown > 0 || filtered;
    $("nothing").hidden = shown > 0 || !filtered;
    $("older").hidden = !page.next;
    $("older").onclick = () => show(page.next);
    problem("");
  }
  const show = (before) => more(before).catch((error) => problem(`No records: ${error.message}`));
  let typed = null;
  form.addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(() => show(""), TYPED_MS);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    show("");
  });
  form.addEventListener("reset", () => setTimeout(() => show("")));
  show("");
  // A user who has paged back is reading: leave the list as it is.
  setInterval(() => !document.hidden && $("rows").children.length <= PAGE && show(""), REFRESH_MS);
}

function cells(call) {
  const { transmission } = call;
  const gaps = transmission.ear_gaps ? `${transmission.ear_gaps} (${ms(transmission.ear_gap_ms)})` : String(transmission.ear_gaps ?? "–");
  return [
    [link(call, new Date(call.began_at).toLocaleString())],
    [call.from_number || "–"],
    [call.to_number || "–"],
    [call.agent || "–"],
    [length(call), "n"],
    [String(call.turns), "n"],
    [gaps, transmission.ear_gaps ? "n bad" : "n"],
    [ms(transmission.wire_gap_max_ms), transmission.stalls ? "n bad" : "n"],
    [call.end_reason || "–", call.end_reason === "lost" ? "bad" : ""],
    [call.recording ? call.recording.state : "–"],
  ];
}
