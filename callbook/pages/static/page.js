// What the pages of the private port have in common.

export const $ = (id) => document.getElementById(id);

export function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

export async function get(url) {
  const response = await fetch(url).catch(() => {
    throw new Error("callbook does not answer; is twentyms running?");
  });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error || `HTTP ${response.status}`);
  return body;
}

export const seconds = (from, to) => (Date.parse(to) - Date.parse(from)) / 1000;
export const clock = (s) => `${Math.floor(s / 60)}:${(s % 60).toFixed(1).padStart(4, "0")}`;
export const ms = (value) => (value === null ? "–" : `${value.toFixed(0)} ms`);
export const SPEAKERS = { ai: "AI", caller: "Caller", keys: "Keys", tones: "AI", tool: "Tool" };

// How long a caller waited for an answer, from their last sound on, and for what.
const PARTS = ["carrier", "detection", "model", "line", "network"];
export const parts = (wait) => PARTS.map((name) => [name, wait[`${name}_ms`]]).filter(([, value]) => value);
export const waited = (wait) => parts(wait).reduce((sum, [, value]) => sum + value, 0);
export const latency = (wait) => `answered after ${waited(wait)} ms: ${parts(wait).map((each) => each.join(" ")).join(", ")}`;

export function element(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

// A row of a table. On a narrow screen each cell stands under its column's name.
export function row(cells, names) {
  const made = document.createElement("tr");
  made.append(
    ...cells.map(([content, className = ""], n) => {
      const cell = element("td", "", className);
      cell.dataset.name = names[n];
      cell.append(content);
      return cell;
    }),
  );
  return made;
}

export function link(call, text) {
  const made = element("a", text);
  made.href = `/calls/${call.call_sid}`;
  return made;
}

// The table's head, and the names of its columns. A name that begins with "#" is that of numbers.
export function head(table, columns) {
  const names = columns.map((name) => name.replace("#", ""));
  const line = document.createElement("tr");
  for (const [n, name] of names.entries()) {
    const cell = element("th", name, columns[n].startsWith("#") ? "n" : "");
    cell.scope = "col";
    line.append(cell);
  }
  table.createTHead().replaceChildren(line);
  return names;
}
