// The sliders of the simulated network: what they say, and whom to tell.

import { CLEAN, PRESETS, STALL_EVERY_MS, isClean } from "./path.js";

const SLIDERS = [
  { name: "roundTripMs", label: "Round trip", max: 600, step: 10, text: (value) => `${value} ms` },
  { name: "jitterMs", label: "Jitter, each way", max: 200, step: 5, text: (value) => `up to ${value} ms` },
  { name: "lossPercent", label: "Loss", max: 5, step: 0.1, text: (value) => `${value} %` },
  { name: "burst", label: "Lost at a time", min: 1, max: 10, step: 1, text: (value) => `${value}` },
  { name: "stallMs", label: `Stall, every ${STALL_EVERY_MS / 1000} s`, max: 1000, step: 50, text: (value) => `${value} ms` },
];

export class Network {
  // `changed(behaviour)` is called after each move of a slider.
  constructor(box, changed) {
    this.behaviour = { ...CLEAN };
    this.changed = changed;
    this.state = box.querySelector("summary span");
    this.seedInput = box.querySelector("input");
    this.rows = SLIDERS.map((slider) => ({ ...slider, ...this.row(slider) }));
    box.querySelector(".sliders").prepend(...this.rows.map(({ row }) => row));
    for (const button of box.querySelectorAll("[data-preset]")) {
      button.addEventListener("click", () => this.set(PRESETS[button.dataset.preset]));
    }
    this.presets = box.querySelectorAll("[data-preset]");
    this.show();
  }

  row({ name, label, min = 0, max, step }) {
    const row = document.createElement("label");
    const input = document.createElement("input");
    Object.assign(input, { type: "range", name, min, max, step, value: min });
    const output = document.createElement("output");
    row.append(label, output, input);
    input.addEventListener("input", () => this.set({ ...this.behaviour, [name]: Number(input.value) }));
    return { row, input, output };
  }

  set(behaviour) {
    this.behaviour = { ...behaviour };
    this.show();
    this.changed(this.behaviour);
  }

  // All that is random in a call follows from this number.
  get seed() {
    return Math.trunc(Number(this.seedInput.value)) || 0;
  }

  show() {
    const { behaviour } = this;
    for (const { name, input, output, text } of this.rows) {
      input.value = behaviour[name];
      output.textContent = text(behaviour[name]);
    }
    const parts = this.rows.filter(({ name }) => name !== "burst" && behaviour[name]);
    this.state.textContent = isClean(behaviour)
      ? "off"
      : parts.map(({ name, label, text }) => `${label.split(",")[0].toLowerCase()} ${text(behaviour[name])}`).join(", ");
    for (const button of this.presets) {
      const preset = PRESETS[button.dataset.preset];
      button.setAttribute("aria-pressed", String(Object.keys(preset).every((key) => preset[key] === behaviour[key])));
    }
  }
}
