"""The WebSocket protocol of vosk-server (github.com/alphacep/vosk-server, websocket/asr_server.py).

    → {"config": {"sample_rate": 16000, "words": true, "max_alternatives": 0, "phrase_list": ["ivanhoe"]}}
    → binary: int16, little-endian, mono      ← {"partial": "…"}, or {"result": [{word}, …], "text": "…"}
    → {"eof": 1}                              ← the last result, and the end of the connection

Exactly one reply for each binary message, which covers its audio. More than vosk's: `stable`, the words at the start of
`partial` that will not change; `utterance`, the number of a result's first utterance; and `revised`, results of the
second pass, beside whatever comes next.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from asr.errors import AsrError
from asr.output.events import Final, Partial, Revised
from asr.output.transcript import Word
from asr.serve.service import RATES, LiveStream, RefusedError, Update
from asr.serve.sockets import Send, parse_json

DEFAULT_RATE = 8000  # hertz, vosk-server's
MAX_PHRASES = 1000
UNKNOWN = "[unk]"  # in a phrase list for vosk: that other words may be spoken, which is always so here
NOTHING = {"partial": "", "stable": ""}


class Vosk:
    def __init__(self, stream: LiveStream, send: Send):
        self._stream, self._send = stream, send
        self._rate, self._words, self._alternatives = DEFAULT_RATE, True, 0
        self._odd = b""  # half a sample, whose other half comes with the next message
        self._fed = False
        self._answered = 0  # binary messages
        self._partial = NOTHING
        self._finals: list[Final] = []
        self._revised: list[dict[str, Any]] = []

    async def begin(self) -> None:
        pass

    async def receive(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            data = self._odd + message
            whole = len(data) - len(data) % 2
            self._odd, self._fed = data[whole:], True
            await self._stream.feed(np.frombuffer(data[:whole], "<i2"), self._rate)
            return
        values = parse_json(message)
        if "eof" in values:
            self._stream.finish()
        elif isinstance(config := values.get("config"), dict):
            self._configure(config)
        else:
            raise RefusedError(400, "invalid_message", 'a text message must be {"config": {…}} or {"eof": 1}')

    def _configure(self, config: dict[str, Any]) -> None:
        """Take what is known of a configuration, as vosk-server does; RefusedError for values that cannot be."""
        rate = config.get("sample_rate", self._rate)
        if not isinstance(rate, int | float) or not RATES[0] <= rate <= RATES[1] or rate % 1:
            raise RefusedError(400, "invalid_config", f"sample_rate: give whole hertz from {RATES[0]} to {RATES[1]}")
        phrases = config.get("phrase_list", [])
        if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases[:MAX_PHRASES]):
            raise RefusedError(400, "invalid_config", "phrase_list: give a list of phrases")
        if len(phrases) > MAX_PHRASES:
            raise RefusedError(400, "invalid_config", f"phrase_list: give at most {MAX_PHRASES} phrases")
        if self._fed and (rate != self._rate or phrases):
            raise RefusedError(400, "invalid_config", "sample_rate and phrase_list must be sent before the audio")
        alternatives = config.get("max_alternatives", self._alternatives)
        if not isinstance(alternatives, int):
            raise RefusedError(400, "invalid_config", "max_alternatives: give a whole number")
        self._rate, self._words, self._alternatives = int(rate), bool(config.get("words", self._words)), alternatives
        if phrases:
            self._stream.hotwords = [phrase for phrase in phrases if phrase != UNKNOWN]

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
            has_news = left == 0 and not update.done
            await self._send(self._reply() if has_news else before)
        if update.done:
            await self._send(self._reply(last=True))

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
        text = " ".join(word.text for word in words)
        times = [{"start": round(word.start, 3), "end": round(word.end, 3), "word": word.text} for word in words]
        if self._alternatives > 0:  # of which there is one
            confidence = sum(word.confidence for word in words) / len(words) if words else 0.0
            return {"alternatives": [{"confidence": round(confidence, 3), "result": times, "text": text}]}
        if not words or not self._words:
            return {"text": text}
        conf = [round(word.confidence, 3) for word in words]
        return {"result": [{"conf": c, **item} for c, item in zip(conf, times, strict=True)], "text": text}

    async def fail(self, error: AsrError) -> None:
        await self._send({"error": str(error)})
