// The page's ear and its figures (gateway/phone/static/ear.js, heard.js), sample by sample.

import assert from "node:assert/strict";
import test from "node:test";
import { Ear } from "../../gateway/phone/static/ear.js";
import { Heard } from "../../gateway/phone/static/heard.js";

const FRAME = 160;

function listen() {
  const told = [];
  const ear = new Ear({
    played: (name) => told.push(name),
    sound: (on) => told.push(on),
    gap: (ms) => told.push({ gap: ms }),
  });
  const play = (ms) => Array.from({ length: 8 * ms }, () => ear.next());
  const hear = (code, frames = 1) => ear.hear(new Uint8Array(FRAME * frames).fill(code));
  return { ear, told, play, hear };
}

test("audio is played once, in order, and silence follows it", () => {
  const { ear, play, hear } = listen();
  hear(1);
  hear(2);
  const heard = play(50);
  assert.deepEqual(heard.slice(0, 2 * FRAME), [...Array(FRAME).fill(1), ...Array(FRAME).fill(2)]);
  assert.deepEqual(new Set(heard.slice(2 * FRAME)), new Set([0xff]));
  assert.equal(ear.heldBytes, 0);
});

test("ten seconds at once are kept whole", () => {
  const { ear, play, hear } = listen();
  hear(1, 100);
  play(500);
  hear(2, 400);
  const heard = play(9500);
  assert.equal(heard.filter((code) => code === 1).length, 75 * FRAME);
  assert.equal(heard.filter((code) => code === 2).length, 400 * FRAME);
  assert.equal(ear.heldBytes, 0);
});

test("a mark returns when the audio before it is played, and at once when nothing is left", () => {
  const { ear, told, play, hear } = listen();
  hear(1);
  ear.mark("0.1.1");
  play(19);
  assert.deepEqual(told, [true]);
  play(1);
  assert.deepEqual(told, [true, "0.1.1", false]);
  ear.mark("0.2.1");
  assert.equal(told.at(-1), "0.2.1");
});

test("silence inside an utterance is a gap of its length", () => {
  const { told, play, hear } = listen();
  hear(1);
  play(70);
  hear(1);
  assert.deepEqual(told, [true, false, { gap: 50 }, true]);
});

test("audio that comes in the instant in which the ear runs dry leaves no gap", () => {
  const { told, play, hear } = listen();
  hear(1);
  play(20);
  hear(1);
  assert.ok(!told.some((event) => event.gap), JSON.stringify(told));
});

test("silence after the mark of an utterance is no gap, even when the mark comes late", () => {
  const { ear, told, play, hear } = listen();
  hear(1);
  play(40);
  ear.mark("0.1.1");
  play(100);
  hear(2);
  assert.ok(!told.some((event) => event.gap), JSON.stringify(told));
});

test("silence after a mark that stands inside an utterance is a gap", () => {
  const { ear, told, play, hear } = listen();
  hear(1);
  ear.mark("0.0.1");
  play(70);
  hear(1);
  assert.deepEqual(told.filter((event) => event.gap), [{ gap: 50 }]);
});

test("a clear empties the ear, echoes its marks and leaves no gap", () => {
  const { ear, told, play, hear } = listen();
  hear(1, 10);
  ear.mark("0.1.10");
  play(20);
  ear.clear();
  assert.deepEqual(told, [true, "0.1.10", false]);
  assert.deepEqual(new Set(play(100)), new Set([0xff]));
  hear(2);
  assert.ok(!told.some((event) => event.gap));
});

test("gaps are counted, summed, and the longest is kept", () => {
  const heard = new Heard();
  for (const ms of [20, 280, 100]) heard.gap(ms);
  assert.deepEqual(heard.gaps, { number: 3, ms: 400, longestMs: 280 });
});

test("the longest echo is kept", () => {
  const heard = new Heard();
  for (const ms of [130, 540, 131]) heard.echo(ms);
  assert.deepEqual(heard.echoes, { number: 3, lastMs: 131, longestMs: 540 });
});

test("the lead is the highest level of the last two seconds of speech", () => {
  const heard = new Heard();
  assert.equal(heard.leadMs, null);
  heard.buffer([180, 170], 170);
  heard.buffer(Array(198).fill(110), 110);
  assert.equal(heard.leadMs, 180);
  heard.buffer(Array(2).fill(120), 110);
  assert.equal(heard.leadMs, 120);
  heard.buffer(Array(300).fill(0), null);
  assert.equal(heard.leadMs, 120, "silence says nothing about the lead");
  assert.equal(heard.lowestMs, 110);
});
