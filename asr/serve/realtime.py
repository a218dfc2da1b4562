"""OpenAI's realtime transcription (API reference, "Realtime"), sessions of the type "transcription".

    → session.update, input_audio_buffer.append (base64 of int16, 24 kHz), .commit, .clear
    ← input_audio_buffer.speech_started, .speech_stopped, .committed
    ← conversation.item.input_audio_transcription.delta, .completed, .failed

An utterance is an item. It ends where the model's endpoint is, or by `commit`; with `turn_detection` null only by that.
Deltas are the growth of the words that will not change, as they are spoken; `completed` has the written text.
"""

import asyncio
import base64
import secrets
from typing import Any

from asr.errors import AsrError
from asr.output.events import Final, Partial
from asr.serve.live import Update
from asr.serve.service import RATES, ClientStream, RefusedError
from asr.serve.sockets import Conversation, Send, parse_json

TRANSCRIPTION = "conversation.item.input_audio_transcription"


class Realtime(Conversation):
    def __init__(self, stream: ClientStream, send: Send):
        super().__init__(stream, send)
        self._rate, self._manual = 24_000, False
        self._item, self._told = "", ""  # the item of the utterance in progress, and what was sent of its text
        self._previous: str | None = None  # item
        # Spoken and written, of utterances that are not committed, where only the client commits.
        self._texts: list[tuple[str, str]] = []
        self._committed = self._offset = self._billed = 0.0  # seconds: of the last commit, of the stream's begin
        self._answered = asyncio.Event()  # whether the last commit was; nothing is read before that
        self._answered.set()
        self._transcription: dict[str, str] = {}
        self._turn = asyncio.Lock()  # of who changes the item

    async def _send_transcription(self, kind: str, **fields: Any) -> None:
        await self._send(f"{TRANSCRIPTION}.{kind}", item_id=self._item, content_index=0, **fields)

    async def _send(self, kind: str, **fields: Any) -> None:
        await self.send({"type": kind, "event_id": f"event_{secrets.token_hex(8)}", **fields})

    def _session(self) -> dict[str, Any]:
        turn_detection = None if self._manual else {"type": "server_vad"}
        audio = {"format": {"type": "audio/pcm", "rate": self._rate}, "transcription": self._transcription}
        return {"type": "transcription", "audio": {"input": {**audio, "turn_detection": turn_detection}}}

    async def begin(self) -> None:
        await self._send("session.created", session=self._session())

    async def receive(self, message: str | bytes) -> None:
        event: dict[str, Any] = {}
        try:
            event = parse_json(message if isinstance(message, str) else "")
            match event.get("type"):
                case "session.update" | "transcription_session.update" as kind:
                    self._configure(event.get("session"))
                    await self._send(f"{kind}d", session=self._session())
                case "input_audio_buffer.append":
                    await self.feed(_decode(event.get("audio")), self._rate)
                case "input_audio_buffer.commit":
                    if self.stream.seconds == self._committed:
                        raise RefusedError(400, "input_audio_buffer_commit_empty", "there is no audio to commit")
                    self._mark()
                    self._answered.clear()
                    self.stream.flush()
                    await self._answered.wait()
                case "input_audio_buffer.clear":
                    async with self._turn:
                        self.stream.clear()
                        self._mark()
                        self._offset, self._item, self._told, self._texts = self._committed, "", "", []
                    await self._send("input_audio_buffer.cleared")
                case kind:
                    raise RefusedError(400, "unknown_event", f"there is no event {str(kind)[:40]!r} here")
        except RefusedError as error:
            if error.status != 400:
                raise
            given = event.get("event_id")  # anything but a text may be nested too deeply to be sent
            event_id = given if isinstance(given, str) else None
            await self._send("error", error=error.body()["error"] | {"event_id": event_id})

    def _mark(self) -> None:
        self._committed, self.odd = self.stream.seconds, b""

    def _configure(self, session: Any) -> None:
        """Take what is known of a session, in the form of now or of the beta; RefusedError for what cannot be."""
        given = session if isinstance(session, dict) else {}
        audio = given.get("audio")
        given = audio["input"] if isinstance(audio, dict) and isinstance(audio.get("input"), dict) else given
        format = given.get("format", given.get("input_audio_format"))
        rate = format.get("rate", self._rate) if isinstance(format, dict) else self._rate
        kind = format.get("type") if isinstance(format, dict) else format
        if kind not in (None, "audio/pcm", "pcm16") or not isinstance(rate, int) or not RATES[0] <= rate <= RATES[1]:
            raise RefusedError(400, "invalid_value", "send 16-bit PCM of 8000 Hz or more", "session.audio.input.format")
        if rate != self._rate and self.stream.seconds:
            raise RefusedError(400, "invalid_value", "the rate must be set before the audio")
        self._rate = rate
        self._manual = given.get("turn_detection", None if self._manual else 1) is None
        transcription = given.get("transcription", given.get("input_audio_transcription"))
        if isinstance(transcription, dict):
            texts = ((name, transcription.get(name)) for name in ("model", "language", "prompt"))
            known = {name: text for name, text in texts if isinstance(text, str)}
            self.stream.service.check_language(known.get("language", ""))
            self._transcription = known

    async def update(self, update: Update) -> None:
        async with self._turn:
            for event in update.events:
                if isinstance(event, Final) and self._manual:
                    self._texts.append((event.text, event.written))
                elif isinstance(event, Final):
                    await self._begin_item(event.segment.start)
                    end = round(1000 * (event.segment.end + self._offset))
                    await self._send("input_audio_buffer.speech_stopped", audio_end_ms=end, item_id=self._item)
                    await self._complete(event.text, event.written)
                elif isinstance(event, Partial) and event.words and not self._manual:
                    await self._begin_item(event.words[0].start)
                    await self._grow(event.stable_prefix)
            if not update.done:
                return
            completed = any(isinstance(event, Final) for event in update.events)
            if self._texts or not (completed or self._answered.is_set()):
                await self._complete(*(" ".join(texts) for texts in zip(*self._texts, strict=True)))
            self._texts = []
            if not self._answered.is_set():
                self._offset = self._committed
            self._answered.set()

    async def _begin_item(self, start: float) -> None:
        if not self._item:
            self._item = f"item_{secrets.token_hex(8)}"
            begin = round(1000 * (start + self._offset))
            await self._send("input_audio_buffer.speech_started", audio_start_ms=begin, item_id=self._item)

    async def _grow(self, text: str) -> None:
        """The words of the item up to here, to which there is more than before."""
        if len(text) > len(self._told):
            delta, self._told = text[len(self._told) :], text
            await self._send_transcription("delta", delta=delta)

    async def _complete(self, text: str = "", written: str = "") -> None:
        self._item = self._item or f"item_{secrets.token_hex(8)}"
        await self._send("input_audio_buffer.committed", item_id=self._item, previous_item_id=self._previous)
        await self._grow(text)
        heard = self.stream.seconds if self._answered.is_set() else self._committed
        usage, self._billed = {"type": "duration", "seconds": round(heard - self._billed, 3)}, heard
        await self._send_transcription("completed", transcript=written, usage=usage)
        self._previous, self._item, self._told = self._item, "", ""

    async def fail(self, error: AsrError) -> None:
        refused = error if isinstance(error, RefusedError) else RefusedError(500, "failed", str(error))
        if self._item:
            await self._send_transcription("failed", **refused.body())
        await self._send("error", **refused.body())


def _decode(audio: Any) -> bytes:
    try:
        return base64.b64decode(audio, validate=True)
    except (ValueError, TypeError):
        raise RefusedError(400, "invalid_value", "audio must be base64 of 16-bit PCM", "audio") from None
