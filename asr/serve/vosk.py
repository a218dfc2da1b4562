"""The WebSocket protocol of vosk-server (github.com/alphacep/vosk-server, websocket/asr_server.py).

    → {"config": {"sample_rate": 16000, "words": true, "max_alternatives": 0, "phrase_list": ["ivanhoe"]}}
    → binary: int16, little-endian, mono      ← {"partial": "…"}, or {"result": [{word}, …], "text": "…"}
    → {"eof": 1}                              ← the last result, and the end of the connection

Exactly one reply for each binary message, which covers its audio. More than vosk's: `stable`, the words at the start of
`partial` that will not change; `utterance`, the number of a result's first utterance; `revised`, results of the second
pass, beside whatever comes next; and `written`, of a result and its words (`Word.written`), where `text` is as spoken.
"""

from collections.abc import Sequence
from typing import Any

from asr.errors import AsrError
from asr.output.events import Final, Partial, Revised
from asr.output.transcript import Word, written_words
from asr.serve.live import Update
from asr.serve.service import RATES, ClientStream, RefusedError
from asr.serve.sockets import Conversation, Send, parse_json, parse_number

DEFAULT_RATE = 8000  # hertz, vosk-server's
MAX_PHRASES = 1000
UNKNOWN = "[unk]"  # in a phrase list for vosk: that other words may be spoken, which is always so here
TIMED = ("start", "end", "word", "written")  # what a word has beside its confidence, which vosk calls conf
NOTHING = {"partial": "", "stable": ""}


class Vosk(Conversation):
    def __init__(self, stream: ClientStream, send: Send):
        super().__init__(stream, send)
        self._rate, self._words, self._alternatives = DEFAULT_RATE, True, 0
        self._fed = False
        self._answered = 0  # binary messages
        self._partial = NOTHING
        self._finals: list[Final] = []
        self._revised: list[dict[str, Any]] = []

    async def receive(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._fed = True
            await self.feed(message, self._rate)
            return
        values = parse_json(message)
        if "eof" in values:
            self.stream.finish()
        elif isinstance(config := values.get("config"), dict):
            self._configure(config)
        else:
            raise RefusedError(400, "invalid_message", 'a text message must be {"config": {…}} or {"eof": 1}')

    def _configure(self, config: dict[str, Any]) -> None:
        """Take what is known of a configuration, as vosk-server does; RefusedError for values that cannot be."""
        rate, phrases = parse_number(config.get("sample_rate", self._rate)), config.get("phrase_list", [])
        alternatives, problem = parse_number(config.get("max_alternatives", self._alternatives)), ""
        if not RATES[0] <= rate <= RATES[1] or rate % 1:
            problem = f"sample_rate: give whole hertz from {RATES[0]} to {RATES[1]}"
        elif not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases[:MAX_PHRASES]):
            problem = "phrase_list: give a list of phrases"
        elif len(phrases) > MAX_PHRASES:
            problem = f"phrase_list: give at most {MAX_PHRASES} phrases"
        elif self._fed and (rate != self._rate or phrases):
            problem = "sample_rate and phrase_list must be sent before the audio"
        elif alternatives % 1:
            problem = "max_alternatives: give a whole number"
        if problem:
            raise RefusedError(400, "invalid_config", problem)
        self._rate, self._alternatives = int(rate), int(alternatives)
        self._words = bool(config.get("words", self._words))
        self.stream.hotwords = [phrase for phrase in phrases if phrase != UNKNOWN] or self.stream.hotwords

    async def update(self, update: Update) -> None:
        due, before = update.feeds - self._answered, self._partial
        self._answered = update.feeds
        for event in update.events:
            match event:
                case Partial():
                    self._partial = {"partial": event.text, "stable": event.stable_prefix}
                case Final():
                    self._finals.append(event)
                    self._partial = NOTHING
                case Revised():
                    self._revised.append({"utterance": event.utterance, **self._result(event.segment.words)})
        for left in reversed(range(due)):
            await self.send(self._reply() if left == 0 and not update.done else before)
        if update.done:
            await self.send(self._reply(last=True))

    def _reply(self, last: bool = False) -> dict[str, Any]:
        """The finals since the last reply, joined, or else the utterance in progress."""
        reply: dict[str, Any] = dict(self._partial)
        if self._finals or last:
            reply = self._result([word for final in self._finals for word in final.segment.words])
        if self._finals:
            reply["utterance"] = self._finals[0].utterance
        if self._revised:
            reply["revised"] = self._revised
        self._finals, self._revised = [], []
        return reply

    def _result(self, words: Sequence[Word]) -> dict[str, Any]:
        texts = {"text": " ".join(word.text for word in words)}
        if any(word.written is not None for word in words):
            texts["written"] = " ".join(word.text for word in written_words(words))
        times = [{name: value for name, value in word.to_dict().items() if name in TIMED} for word in words]
        confs = [round(word.confidence, 3) for word in words]
        if self._alternatives > 0:  # of which there is one
            confidence = round(sum(confs) / max(1, len(confs)), 3)
            return {"alternatives": [{"confidence": confidence, "result": times, **texts}]}
        result = [{"conf": conf, **item} for conf, item in zip(confs, times, strict=True)]
        return {"result": result, **texts} if words and self._words else texts

    async def fail(self, error: AsrError) -> None:
        await self.send({"error": str(error)})
