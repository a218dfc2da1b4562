// Live captions over vosk's WebSocket, transcripts of recordings over OpenAI's API. Nothing leaves this server.

const KEEP_SECONDS = 60; // of audio that is sent again after the connection was lost
const RETRY_SECONDS = 1;
const LOW_CONFIDENCE = 0.5;
const CUE_CHARACTERS = 84; // two lines of subtitles
const CUE_END = /.{20}(?<!\b(Dr|Mr|Mrs|Prof|St|[A-Za-z]))[.?!]$/; // a sentence that is not very short, not "Dr." or "U.S."

const $ = (id) => document.getElementById(id);
const token = new URLSearchParams(location.hash.slice(1)).get("token"); // http://…/#token=…, which is not sent
const headers = token ? { Authorization: `Bearer ${token}` } : {};
let segments = []; // {start, end, text, words: [{word, start, end, confidence}], item}

const say = (text) => ($("status").textContent = text);
const textOf = (words) => words.map((word) => word.word).join(" ");
const clock = (seconds) => new Date(Math.max(0, seconds) * 1000).toISOString().slice(seconds < 3600 ? 14 : 11, 19);
const make = (tag, values, ...children) => {
  const element = Object.assign(document.createElement(tag), values);
  element.append(...children);
  return element;
};

// The transcript

function clear() {
  if (segments.length && !confirm("Replace the transcript?")) return false;
  segments = [];
  $("segments").replaceChildren();
  showPartial("", "");
  $("player").hidden = true;
  URL.revokeObjectURL($("player").src);
  $("player").removeAttribute("src");
  return true;
}

function fill(segment, words) {
  const before = segment.words?.map((word) => word.word);
  const text = words.flatMap((word, index) => {
    const title = `${clock(word.start)}, ${Math.round(100 * word.confidence)} % sure`;
    const element = make("span", { className: "word", textContent: word.word, tabIndex: -1, title, word });
    element.classList.toggle("low", word.confidence < LOW_CONFIDENCE);
    element.classList.toggle("corrected", before?.includes(word.word) === false);
    return index ? [" ", element] : [element];
  });
  const [start, end] = [words[0].start, words.at(-1).end];
  segment.item.replaceChildren(make("time", { textContent: clock(start) }), make("span", {}, ...text));
  Object.assign(segment, { words, start, end, text: textOf(words) });
}

function add(words) {
  const segment = { item: make("li", {}) };
  fill(segment, words);
  segments.push(segment);
  const end = $("segments").getBoundingClientRect().bottom < innerHeight + 100;
  $("segments").append(segment.item);
  if (end) segment.item.scrollIntoView({ block: "nearest" });
  return segment;
}

function showPartial(stable, unstable) {
  $("stable").textContent = stable;
  $("unstable").textContent = unstable;
  $("partial").hidden = !stable && !unstable;
}

const wordElements = () => [...$("segments").querySelectorAll(".word")];

function play(element) {
  if ($("player").hidden || !element) return;
  $("player").currentTime = element.word.start;
  $("player").play();
}
$("segments").onclick = (event) => play(event.target.closest(".word"));
$("transcript").onkeydown = (event) => {
  const words = wordElements(), at = words.indexOf(document.activeElement);
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) words[Math.max(0, Math.min(words.length - 1, at + step))]?.focus();
  else if (event.key === "Enter") play(words[at]);
  if (step) event.preventDefault();
};

let hit = 0; // the one that Enter has reached
$("search").oninput = $("search").onkeydown = ({ key }) => {
  const wanted = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const isFound = ({ word: { word } }) => wanted.some((part) => word.toLowerCase().includes(part));
  wordElements().forEach((element) => element.classList.toggle("found", isFound(element)));
  const found = wordElements().filter(isFound);
  $("hits").textContent = wanted.length ? `${found.length} found` : "";
  hit = key === "Enter" && hit + 1 < found.length ? hit + 1 : 0;
  found[hit]?.scrollIntoView({ block: "center" });
};

// Saving

function subtitles(mark) {
  const cues = [];
  for (const word of segments.flatMap((segment) => [null, ...segment.words])) {
    const cue = cues.at(-1);
    if (!word) cues.push(null); // a segment begins a cue
    else if (cue && !CUE_END.test(cue.text) && cue.text.length + word.word.length < CUE_CHARACTERS) {
      cue.text += " " + word.word;
      cue.end = word.end;
    } else cues.push({ text: word.word, start: word.start, end: word.end });
  }
  const stamp = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 23).replace(".", mark);
  const escape = (text) => (mark === "." ? text.replace(/&/g, "&amp;").replace(/</g, "&lt;") : text);
  return cues.filter(Boolean).map(({ text, start, end }, index) => (
    `${index + 1}\n${stamp(start)} --> ${stamp(end)}\n${escape(text)}\n`)).join("\n");
}

const FORMATS = {
  txt: () => segments.map((segment) => segment.text + "\n").join(""),
  srt: () => subtitles(","),
  vtt: () => "WEBVTT\n\n" + subtitles("."),
  json: () => JSON.stringify({ segments: segments.map(({ item, ...segment }) => segment) }, null, 1),
};

$("save").onclick = ({ target: { value } }) => {
  if (!(value in FORMATS)) return;
  const href = URL.createObjectURL(new Blob([FORMATS[value]()], { type: "text/plain" }));
  make("a", { href, download: `transcript.${value}` }).click();
  URL.revokeObjectURL(href);
};

// A recording

let request = null; // an AbortController

function progress(doing, share) {
  $("working").hidden = !doing;
  $("doing").textContent = doing;
  if (share === undefined) $("progress").removeAttribute("value"); // not known
  else $("progress").value = share;
}

async function transcribe(file) {
  if (!file || request || live || !clear()) return;
  Object.assign($("player"), { src: URL.createObjectURL(file), hidden: false });
  const body = new FormData();
  for (const [name, value] of [["stream", "true"], ["response_format", "verbose_json"], ["file", file]]) body.append(name, value);
  request = new AbortController();
  progress("Uploading");
  say("");
  try {
    const response = await fetch("v1/audio/transcriptions", { method: "POST", body, headers, signal: request.signal });
    if (!response.ok) throw new Error((await response.json()).error.message);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (let part; !(part = await reader.read()).done;) {
      const events = (rest + part.value).split("\n\n");
      rest = events.pop();
      for (const event of events.map((event) => JSON.parse(event.slice("data: ".length)))) {
        if (event.error) throw new Error(event.error.message);
        progress("Recognizing", event.seconds / $("player").duration || 0);
        if (event.delta) add(event.words);
        else say(`${file.name}: ${event.words.length || "no"} words`);
      }
    }
  } catch (error) {
    say(`${file.name}: ${error.message}`);
  }
  request = null;
  progress("");
}

$("cancel").onclick = () => request?.abort(new Error("cancelled"));
$("file").onchange = () => { transcribe($("file").files[0]); $("file").value = ""; };
for (const kind of ["dragover", "dragleave", "drop"]) addEventListener(kind, (event) => {
  event.preventDefault();
  document.body.classList.toggle("over", kind === "dragover");
  if (kind === "drop") transcribe(event.dataTransfer.files[0]);
});

// The microphone

let live = null;

class Live {
  chunks = []; // {start, samples} that no final covers yet; start in samples
  sent = 0; // chunks of them
  samples = 0; // in all
  failures = 0;

  async start(device) {
    if (!navigator.mediaDevices) throw new Error("browsers give pages the microphone over https or at localhost only");
    const audio = { deviceId: device ? { exact: device } : undefined, channelCount: 1 };
    this.stream = await navigator.mediaDevices.getUserMedia({ audio });
    // Some browsers do not resample the microphone.
    await this.record(new AudioContext({ sampleRate: 16000 })).catch(() => this.record(new AudioContext()));
    this.connect();
  }

  async record(context) {
    this.context = context;
    await context.audioWorklet.addModule("worklet.js");
    const node = new AudioWorkletNode(context, "chunks", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    node.port.onmessage = ({ data }) => this.take(data);
    context.createMediaStreamSource(this.stream).connect(node);
    await context.resume();
  }

  take({ samples, peak }) {
    $("level").value = peak;
    this.chunks.push({ start: this.samples, samples });
    this.samples += samples.length;
    if (this.samples - this.chunks[0].start > KEEP_SECONDS * this.context.sampleRate) this.drop(1);
    this.send();
  }

  drop(count) {
    this.chunks.splice(0, count);
    this.sent = Math.max(0, this.sent - count);
  }

  send() {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    while (this.sent < this.chunks.length) this.socket.send(this.chunks[this.sent++].samples);
    if (this.ended && !this.finished) this.socket.send('{"eof": 1}');
    this.finished = this.ended;
  }

  connect() {
    const url = new URL("vosk", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.hash = "";
    if (token) url.searchParams.set("token", token);
    const socket = (this.socket = new WebSocket(url));
    this.utterances = new Map(); // of this connection
    socket.onopen = () => {
      this.failures = this.sent = 0;
      this.finished = false;
      this.offset = (this.chunks[0]?.start ?? this.samples) / this.context.sampleRate;
      socket.send(JSON.stringify({ config: { sample_rate: this.context.sampleRate } }));
      say(this.ended ? "Finishing" : "Listening");
      this.send();
    };
    socket.onmessage = ({ data }) => this.receive(JSON.parse(data));
    socket.onclose = () => {
      if (this.last || this.refused) return stop(this.refused);
      if (this.ended && ++this.failures > 3) return stop("the server cannot be reached; the last words are lost");
      say(`No connection. What you say is kept for ${KEEP_SECONDS} s; trying again.`);
      this.retry = setTimeout(() => this.connect(), 1000 * RETRY_SECONDS);
    };
  }

  receive(reply) {
    const words = (result) => {
      const words = [];
      for (const { word, written, conf, start, end } of result) {
        if (written === "") Object.assign(words.at(-1), { end: end + this.offset, confidence: Math.min(conf, words.at(-1).confidence) });
        else words.push({ word: written ?? word, confidence: conf, start: start + this.offset, end: end + this.offset });
      }
      return words;
    };
    for (const { utterance, result } of reply.revised ?? []) {
      const segment = this.utterances.get(utterance);
      if (segment && result) fill(segment, words(result));
    }
    if (reply.error) this.refused = reply.error;
    else if ("partial" in reply) showPartial(reply.stable, reply.partial.slice(reply.stable.length).trim());
    else {
      showPartial("", "");
      if (reply.result) {
        const segment = add(words(reply.result));
        this.utterances.set(reply.utterance, segment);
        const end = segment.end * this.context.sampleRate;
        this.drop(this.chunks.filter((chunk) => chunk.start + chunk.samples.length <= end).length);
      }
      this.last = this.finished;
    }
  }

  end() {
    this.ended = true;
    this.stream?.getTracks().forEach((track) => track.stop());
    this.context?.suspend();
    $("level").value = 0;
    say("Finishing");
    this.send();
  }
}

function stop(failure) {
  live?.end();
  clearTimeout(live?.retry);
  live?.context?.close();
  if (live?.socket) {
    live.socket.onmessage = live.socket.onclose = null; // another recording may have begun when they come
    live.socket.close();
  }
  live = null;
  $("listen").setAttribute("aria-pressed", false);
  say(failure ? `Stopped: ${failure}` : "");
}

async function start() {
  if (request || !clear()) return;
  live = new Live();
  $("listen").setAttribute("aria-pressed", true);
  await live.start($("device").value).then(listDevices).catch((error) => stop(error.message));
}

async function listDevices() {
  const devices = await navigator.mediaDevices?.enumerateDevices() ?? [];
  const chosen = $("device").value;
  const microphones = devices.filter(({ kind, deviceId }) => kind === "audioinput" && deviceId && deviceId !== "default");
  $("device").replaceChildren(new Option("Default microphone", ""), ...microphones.map(
    ({ label, deviceId }, index) => new Option(label || `Microphone ${index + 1}`, deviceId, false, deviceId === chosen)));
}

$("listen").onclick = () => (live ? (live.ended ? stop() : live.end()) : start());
navigator.mediaDevices?.addEventListener("devicechange", listDevices);
listDevices();

const models = await fetch("v1/models", { headers });
if (models.status === 401) {
  say("This server wants a token: open its address with #token=… at the end.");
  $("listen").disabled = true;
  addEventListener("hashchange", () => location.reload()); // a browser does not load a page again for another #
} else if (models.ok) {
  const { data, language } = await models.json();
  $("language").textContent = `${language}, ${data.map((model) => model.id).join(", ")}`;
}
