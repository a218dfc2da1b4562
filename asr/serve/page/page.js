// Live captions over vosk's WebSocket, transcripts of recordings over OpenAI's API. Nothing leaves this server.

const KEEP_SECONDS = 60; // of audio that is sent again after the connection was lost
const RETRY_SECONDS = [0.5, 1, 2, 4];
const LOW_CONFIDENCE = 0.5;
const CUE_CHARACTERS = 84; // two lines of subtitles

const $ = (id) => document.getElementById(id);
const token = new URLSearchParams(location.hash.slice(1)).get("token"); // http://…/#token=…, which is not sent
let segments = []; // {start, end, text, words: [{word, start, end, confidence}], item}
let saved = true; // whether the transcript may be replaced

const say = (text) => ($("status").textContent = text);
const clock = (seconds) => new Date(Math.max(0, seconds) * 1000).toISOString().slice(seconds < 3600 ? 14 : 11, 19);

// The transcript

function clear() {
  if (!saved && segments.length && !confirm("Replace the transcript? It was not saved.")) return false;
  segments = [];
  $("segments").replaceChildren();
  showPartial("", "");
  $("player").hidden = true;
  URL.revokeObjectURL($("player").src);
  $("player").removeAttribute("src");
  return true;
}

function wordElement(word, corrected) {
  const element = document.createElement("span");
  element.className = "word";
  element.textContent = word.word;
  element.classList.toggle("low", word.confidence < LOW_CONFIDENCE);
  element.classList.toggle("corrected", corrected);
  element.title = `${clock(word.start)}, ${Math.round(100 * word.confidence)} % sure`;
  element.word = word;
  return element;
}

function fill(segment, words) {
  const before = segment.words?.map((word) => word.word);
  const text = document.createElement("span");
  words.forEach((word, index) => text.append(index ? " " : "", wordElement(word, before?.includes(word.word) === false)));
  const time = document.createElement("time");
  time.textContent = clock(words[0].start);
  segment.item.replaceChildren(time, text);
  const ends = { start: words[0].start, end: words.at(-1).end, text: words.map((word) => word.word).join(" ") };
  Object.assign(segment, { words, ...ends });
}

function add(words) {
  const segment = { item: document.createElement("li") };
  fill(segment, words);
  segments.push(segment);
  const end = $("segments").getBoundingClientRect().bottom < innerHeight + 100;
  $("segments").append(segment.item);
  if (end) segment.item.scrollIntoView({ block: "nearest" });
  saved = false;
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
$("player").ontimeupdate = () => {
  const now = $("player").currentTime;
  for (const element of wordElements()) {
    element.classList.toggle("playing", element.word.start <= now && now < element.word.end + 0.05);
  }
};

let current = null; // the word that the arrow keys have reached
function go(element) {
  current?.removeAttribute("tabindex");
  current = element;
  current.tabIndex = -1;
  current.focus();
}
$("transcript").onkeydown = (event) => {
  const words = wordElements();
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step && words.length) go(words[Math.max(0, Math.min(words.length - 1, words.indexOf(current) + step))]);
  else if (event.key === "Enter") play(current);
  else return;
  event.preventDefault();
};

// Search

function search(jump) {
  const wanted = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const words = wordElements();
  const starts = words.map((_, index) => wanted.length > 0 && wanted.every(
    (part, offset) => words[index + offset]?.word.word.toLowerCase().includes(part)));
  words.forEach((element, index) => element.classList.toggle(
    "found", wanted.some((_, offset) => starts[index - offset])));
  const hits = words.filter((_, index) => starts[index]);
  $("hits").textContent = wanted.length ? `${hits.length} found` : "";
  if (jump && hits.length) {
    search.last = ((search.last ?? -1) + 1) % hits.length;
    hits[search.last].scrollIntoView({ block: "center" });
    current = hits[search.last];
  }
}
$("search").oninput = () => { search.last = -1; search(false); };
$("search").onkeydown = (event) => event.key === "Enter" && search(true);

// Saving

function cues() {
  const found = [];
  for (const word of segments.flatMap((segment) => [null, ...segment.words])) {
    const cue = found.at(-1);
    if (word && cue && cue.text.length + word.word.length < CUE_CHARACTERS) {
      cue.text += (cue.text && " ") + word.word;
      cue.start ??= word.start;
      cue.end = word.end;
    } else found.push(word ? { text: word.word, start: word.start, end: word.end } : { text: "" });
  }
  return found.filter((cue) => cue.text);
}

function subtitles(mark) {
  const stamp = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 23).replace(".", mark);
  const escape = (text) => (mark === "." ? text.replace(/&/g, "&amp;").replace(/</g, "&lt;") : text);
  return cues().map((cue, index) => `${index + 1}\n${stamp(cue.start)} --> ${stamp(cue.end)}\n${escape(cue.text)}\n`).join("\n");
}

const FORMATS = {
  txt: () => segments.map((segment) => segment.text + "\n").join(""),
  srt: () => subtitles(","),
  vtt: () => "WEBVTT\n\n" + subtitles("."),
  json: () => JSON.stringify({ segments: segments.map(({ item, ...segment }) => segment) }, null, 1),
};

$("save").onclick = ({ target: { value } }) => {
  if (!(value in FORMATS)) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([FORMATS[value]()], { type: "text/plain" }));
  link.download = `transcript.${value}`;
  link.click();
  URL.revokeObjectURL(link.href);
  saved = true;
};
addEventListener("beforeunload", (event) => !saved && segments.length && event.preventDefault());

// A recording

let request = null;

function transcribe(file) {
  if (request || live || !clear()) return;
  $("player").src = URL.createObjectURL(file);
  $("player").hidden = false;
  const form = new FormData();
  for (const [name, value] of [["stream", "true"], ["response_format", "verbose_json"], ["file", file]]) form.append(name, value);
  request = new XMLHttpRequest();
  let parsed = 0, text = "", failure = "the connection was lost";
  const progress = (doing, share) => { $("doing").textContent = doing; $("progress").value = share; };
  const handle = (event) => {
    if (event.error) failure = event.error.message;
    else if (event.type === "transcript.text.delta") {
      text += event.delta;
      progress("Recognizing", event.seconds / $("player").duration || 0);
      showPartial(text, "");
    } else {
      failure = "";
      showPartial("", "");
      let next = 0;
      for (const segment of event.segments) {
        const first = next;
        while (next < event.words.length && event.words[next].start < segment.end) next++;
        add(event.words.slice(first, next));
      }
      saved = true; // it can be made again
      say(event.words.length ? `${file.name}: ${event.words.length} words` : `${file.name}: no words`);
    }
  };
  request.upload.onprogress = (event) => progress("Uploading", event.loaded / event.total);
  request.onprogress = () => {
    const events = request.status === 200 ? request.responseText.slice(parsed).split("\n\n").slice(0, -1) : [];
    for (const event of events) {
      parsed += event.length + 2;
      handle(JSON.parse(event.slice("data: ".length)));
    }
  };
  request.onload = () => request.status !== 200 && handle(JSON.parse(request.responseText));
  request.onabort = () => (failure = "cancelled");
  request.onloadend = () => {
    request = null;
    $("working").hidden = true;
    if (failure) say(`${file.name}: ${failure}`);
  };
  $("working").hidden = false;
  say("");
  request.open("POST", "v1/audio/transcriptions");
  if (token) request.setRequestHeader("Authorization", `Bearer ${token}`);
  request.send(form);
}

$("cancel").onclick = () => request?.abort();
$("file").onchange = () => { if ($("file").files[0]) transcribe($("file").files[0]); $("file").value = ""; };
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
addEventListener("dragleave", () => document.body.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (event.dataTransfer.files[0]) transcribe(event.dataTransfer.files[0]);
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
    try {
      await this.record(new AudioContext({ sampleRate: 16000 }));
    } catch { // a browser that does not resample the microphone
      await this.record(new AudioContext());
    }
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
    if (this.ended && !this.finished) {
      this.finished = true;
      this.socket.send('{"eof": 1}');
    }
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
      if (this.last) return stop();
      if (this.refused) return stop(this.refused);
      const wait = RETRY_SECONDS[Math.min(this.failures++, RETRY_SECONDS.length - 1)];
      if (this.ended && this.failures > 3) return stop("the server cannot be reached; the last words are lost");
      say(`No connection. What you say is kept for ${KEEP_SECONDS} s; trying again.`);
      this.retry = setTimeout(() => this.connect(), 1000 * wait);
    };
  }

  receive(reply) {
    const words = (result) => result.map(({ word, conf, start, end }) => (
      { word, confidence: conf, start: start + this.offset, end: end + this.offset }));
    for (const revised of reply.revised ?? []) {
      const segment = this.utterances.get(revised.utterance);
      if (segment && revised.result) fill(segment, words(revised.result));
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
  live = null;
  $("listen").textContent = "Listen";
  $("listen").setAttribute("aria-pressed", "false");
  say(failure ? `Stopped: ${failure}` : "");
}

async function start() {
  if (request || !clear()) return;
  live = new Live();
  $("listen").textContent = "Stop";
  $("listen").setAttribute("aria-pressed", "true");
  try {
    await live.start($("device").value);
    await listDevices();
  } catch (error) {
    stop(error.message);
  }
}

async function listDevices() {
  const devices = await navigator.mediaDevices?.enumerateDevices() ?? [];
  const chosen = $("device").value;
  const microphones = devices.filter((device) => device.kind === "audioinput" && device.deviceId && device.deviceId !== "default");
  $("device").replaceChildren(new Option("Default microphone", ""), ...microphones.map(
    (device, index) => new Option(device.label || `Microphone ${index + 1}`, device.deviceId)));
  $("device").value = microphones.some((device) => device.deviceId === chosen) ? chosen : "";
}

$("listen").onclick = () => (live ? (live.ended ? stop() : live.end()) : start());
navigator.mediaDevices?.addEventListener("devicechange", listDevices);
listDevices();

const models = await fetch("v1/models", { headers: token ? { Authorization: `Bearer ${token}` } : {} });
if (models.status === 401) say("This server wants a token: open its address with #token=… at the end.");
else if (models.ok) {
  const { data, language } = await models.json();
  $("language").textContent = `${language}, ${data.map((model) => model.id).join(", ")}`;
}
