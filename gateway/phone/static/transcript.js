// The running transcript: words that the AI is going to say are faint, words that were never heard are struck out.

const FOLLOW_MS = 100;
// Words of a caller that have not come by then do not come: there is no transcription model, or it failed.
const WRITTEN_MS = 8000;

export class Transcript {
  constructor(list, hint) {
    this.list = list;
    this.hint = hint;
    this.turns = new Map();
    this.timer = null;
  }

  clear() {
    this.list.replaceChildren();
    this.turns.clear();
    this.isOver = false;
    this.hint.hidden = false;
    clearInterval(this.timer);
    this.timer = setInterval(() => this.follow(), FOLLOW_MS);
  }

  stop() {
    clearInterval(this.timer);
    this.isOver = true;
    for (const entry of this.turns.values()) this.show(entry);
  }

  turn(turn) {
    this.hint.hidden = true;
    let entry = this.turns.get(turn.number);
    if (!entry) {
      entry = { item: document.createElement("li"), shown: "", since: performance.now() };
      entry.item.className = turn.role;
      this.turns.set(turn.number, entry);
      this.place(turn.number, entry.item);
    }
    entry.turn = turn;
    entry.beganAt = turn.beganMs === null ? null : performance.now() + turn.beganMs;
    this.show(entry);
  }

  place(number, item) {
    const later = [...this.turns.keys()].filter((other) => other > number).sort((a, b) => a - b)[0];
    this.list.insertBefore(item, later === undefined ? null : this.turns.get(later).item);
    this.list.scrollTop = this.list.scrollHeight;
  }

  follow() {
    for (const entry of this.turns.values()) {
      if ((entry.turn.role === "ai" && entry.turn.heardMs === null) || !entry.turn.text) this.show(entry);
    }
  }

  // How many letters the caller has heard: known at the end of the turn, estimated while it is being heard.
  heardLetters({ turn, beganAt }) {
    if (turn.role !== "ai") return turn.text.length;
    if (turn.heardMs !== null) return turn.heard.length;
    if (beganAt === null || !turn.spokenMs) return 0;
    const share = (performance.now() - beganAt) / turn.spokenMs;
    return Math.max(0, Math.min(turn.text.length, Math.round(turn.text.length * share)));
  }

  // What stands in place of words that have not come.
  missing({ turn, since }) {
    const late = turn.role !== "tool" && performance.now() - since > WRITTEN_MS;
    return this.isOver || late ? "(not written down)" : "…";
  }

  show(entry) {
    const { turn, item } = entry;
    const heard = this.heardLetters(entry);
    const missing = turn.text ? "" : this.missing(entry);
    const state = `${missing}/${heard}/${turn.text}/${turn.heardMs}/${turn.interrupted}`;
    if (state === entry.shown) return;
    entry.shown = state;
    const who = document.createElement("b");
    who.textContent = { ai: "AI", tones: "AI", tool: "Tool", keys: "Keys" }[turn.role] ?? "You";
    const parts = [who, document.createTextNode(turn.text.slice(0, heard) || missing)];
    const rest = turn.text.slice(heard);
    if (rest && turn.role === "ai") {
      const unheard = document.createElement(turn.heardMs === null ? "span" : "del");
      if (turn.heardMs === null) unheard.className = "coming";
      unheard.textContent = rest;
      parts.push(unheard);
    }
    if (turn.interrupted && turn.heardMs !== null) {
      const note = document.createElement("em");
      note.textContent = ` interrupted after ${(turn.heardMs / 1000).toFixed(1)} s of ${(turn.spokenMs / 1000).toFixed(1)} s`;
      parts.push(note);
    }
    // Stay at the end, unless somebody has scrolled away from it.
    const { list } = this;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
    item.replaceChildren(...parts);
    if (atEnd) list.scrollTop = list.scrollHeight;
  }
}
