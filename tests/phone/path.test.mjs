// The page's simulated network (gateway/phone/static/path.js), in virtual time.

import assert from "node:assert/strict";
import test from "node:test";
import { CLEAN, PRESETS, Path, STALL_EVERY_MS, isClean, randomFrom } from "../../gateway/phone/static/path.js";

// Sends `count` messages 20 ms apart; returns how long each took, ms.
function delays(behaviour, { seed = 1, count = 5000 } = {}) {
  const path = new Path(seed, 0);
  path.behaviour = { ...CLEAN, ...behaviour };
  const took = [];
  const take = (now) => {
    for (const { number, sentMs } of path.due(now)) {
      assert.equal(number, took.length, "a message overtook another");
      took.push(now - sentMs);
    }
  };
  for (let number = 0; number < count; number++) {
    const now = 20 * number;
    for (let next = path.nextMs(); next !== null && next <= now; next = path.nextMs()) take(next);
    path.send({ number, sentMs: now }, now);
  }
  for (let next = path.nextMs(); next !== null; next = path.nextMs()) take(next);
  assert.equal(took.length, count);
  return took;
}

test("a path whose sliders are at zero wants no message, and delays none that it gets", () => {
  const path = new Path(1, 0);
  assert.equal(path.isClear, true);
  path.behaviour = { ...CLEAN, burst: 10 };
  assert.equal(path.isClear, true);
  assert.deepEqual(new Set(delays({})), new Set([0]));
});

test("a path that is made clean stays in the way until it has handed over what it held", () => {
  const path = new Path(1, 0);
  path.behaviour = { ...CLEAN, roundTripMs: 200 };
  path.send("first", 0);
  path.behaviour = CLEAN;
  assert.equal(path.isClear, false);
  path.send("second", 10);
  assert.deepEqual(path.due(99), []);
  assert.deepEqual(path.due(100), ["first", "second"]);
  assert.equal(path.isClear, true);
});

test("one direction delays by half of the round trip, and jitter adds up to its figure", () => {
  assert.deepEqual(new Set(delays({ roundTripMs: 200 })), new Set([100]));
  const jittered = delays({ roundTripMs: 200, jitterMs: 15 });
  assert.ok(Math.min(...jittered) >= 100 && Math.max(...jittered) <= 115);
  assert.ok(new Set(jittered).size > 1000);
});

test("a lost message holds up all that follow for a round trip and 40 ms", () => {
  const took = delays({ roundTripMs: 120, lossPercent: 1 });
  const began = took.findIndex((ms) => ms > 60);
  assert.deepEqual(took.slice(began, began + 8), [220, 200, 180, 160, 140, 120, 100, 80]);
  const losses = took.filter((ms, n) => ms > 60 && took[n - 1] === 60).length;
  assert.ok(losses > 25 && losses < 65, `${losses} losses in 5000 messages at 1 %`);
});

test("a burst holds up for longer, by a frame for each message of it", () => {
  const longest = (burst) => delays({ roundTripMs: 120, lossPercent: 0.1, burst, seed: 2 }).reduce((a, b) => Math.max(a, b));
  assert.equal(longest(1), 60 + 160);
  assert.equal(longest(5), 60 + 160 + 4 * 20);
});

test("a repair that is lost waits for the retransmission timer", () => {
  const took = delays({ roundTripMs: 120, lossPercent: 5 });
  assert.ok(Math.max(...took) >= 60 + 160 + 120 + 200);
});

test("a proxy that stalls hands over nothing for its time, once in eight seconds, and all at once afterwards", () => {
  const took = delays({ stallMs: 400 }, { count: 1000 });
  const stalls = took.map((ms, n) => [20 * n, ms]).filter(([, ms]) => ms > 0);
  const first = STALL_EVERY_MS / 2;
  assert.deepEqual(stalls[0], [first, 400]);
  assert.deepEqual(stalls.slice(0, 20).map(([at, ms]) => at + ms), Array(20).fill(first + 400));
  assert.deepEqual(stalls[20], [first + STALL_EVERY_MS, 400]);
});

test("the same seed gives the same path, another seed another one", () => {
  assert.deepEqual(delays(PRESETS.mobile, { seed: 7 }), delays(PRESETS.mobile, { seed: 7 }));
  assert.notDeepEqual(delays(PRESETS.mobile, { seed: 7 }), delays(PRESETS.mobile, { seed: 8 }));
});

test("losses fall on the same messages whatever the jitter", () => {
  const lost = (behaviour) => delays({ lossPercent: 1, ...behaviour }).flatMap((ms, n) => (ms >= 39 ? [n] : []));
  assert.deepEqual(lost({}), lost({ jitterMs: 0.9 }));
});

test("every preset but the first does something", () => {
  assert.deepEqual(Object.values(PRESETS).map(isClean), [true, false, false, false]);
});

test("neighbouring seeds begin with numbers that have nothing in common", () => {
  const firsts = Array.from({ length: 1000 }, (_, seed) => randomFrom(seed)());
  const mean = firsts.reduce((sum, value) => sum + value) / firsts.length;
  assert.ok(mean > 0.45 && mean < 0.55, `mean ${mean}`);
  assert.ok(firsts.every((value) => value >= 0 && value < 1));
});
