// Listening to a live call. The socket brings records (shared/overheard.py), which voices.js plays in the audio thread.

const HZ = 8000; // the browser resamples
const SPEAKS = ["Silence", "The caller speaks", "The AI speaks", "Both speak"];

const PATIENCE_MS = 5000; // a gateway looks for listeners once a second

let mine = null; // {callSid, context, socket, told, hears}

export const heard = () => (mine ? mine.callSid : "");

// Listen to this call. `told(text)`: what is heard, or why nothing is; "" when it is over.
export async function listen(callSid, told) {
  leave();
  const here = (mine = { callSid, context: new AudioContext({ sampleRate: HZ }), socket: null, told, hears: false });
  told("Connecting");
  try {
    await here.context.audioWorklet.addModule("/calls/static/voices.js");
  } catch {
    return over(here, "This browser cannot play a call.");
  }
  if (mine !== here) return;
  const voices = new AudioWorkletNode(here.context, "voices", { numberOfInputs: 0, outputChannelCount: [1] });
  voices.connect(here.context.destination);
  voices.port.onmessage = ({ data }) => mine === here && here.hears && told(SPEAKS[data]);
  const socket = (here.socket = new WebSocket(`${location.origin.replace("http", "ws")}/live/${callSid}/listen`));
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => {
    here.hears = true;
    voices.port.postMessage(data, [data]);
  };
  setTimeout(() => mine === here && !here.hears && told("Nothing comes. The call may be in another cell."), PATIENCE_MS);
  socket.onclose = ({ code }) => over(here, code === 1000 ? "" : "Nothing can be heard: the connection was refused, or lost.");
}

export function leave() {
  if (mine) over(mine, "");
}

function over(here, text) {
  if (mine !== here) return;
  mine = null;
  here.context.close();
  if (here.socket) here.socket.close();
  here.told(text);
}
