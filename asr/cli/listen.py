"""`asr listen`: text of what is spoken, while it is spoken."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Self

import click
import numpy as np
import typer
from typer import Option

from asr.audio import microphone
from asr.audio.files import STANDARD_INPUT, local_name
from asr.audio.level import Level
from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import read_blocks
from asr.audio.stream import SAMPLE_FORMATS, AudioStream, can_stream, is_address
from asr.cli import options
from asr.cli.display import Display
from asr.cli.messages import complain, printable, shown_warnings
from asr.cli.options import reject_if
from asr.cli.outputs import AudioOutput, Guard, TextOutput, check_layout
from asr.errors import ArgumentError, AsrError, AudioError, DeviceError
from asr.output.writers import LIVE_FORMATS
from asr.recognize.endpoint import Endpoint
from asr.recognize.offline import Recognizer
from asr.recognize.streaming import CHUNK_SECONDS, ENDPOINT, STREAMING_MODEL, Event, Final, StreamingRecognizer
from asr.signals import ended_by_signals

OVERRUN_SECONDS = 1.0  # between two lines about dropped audio

SecondPass = Annotated[
    str | None,
    Option(
        metavar="MODEL|none",
        help="Model that recognizes finished utterances again, as en-bilstm; none: nor does the model's own decoder.",
    ),
]


@dataclass(frozen=True)
class Endpoints(Endpoint):
    """Options that say when an utterance ends."""

    after_speech: Annotated[float, Option(help="Silence that ends an utterance, in seconds.")] = ENDPOINT.after_speech
    before_speech: Annotated[float, Option(help="Silence before the first word after which to start afresh.")] = (
        ENDPOINT.before_speech
    )
    max_utterance: Annotated[float, Option(help="Seconds after which an utterance is cut.")] = ENDPOINT.max_utterance

    def __post_init__(self) -> None:
        try:
            super().__post_init__()
        except ArgumentError as error:
            raise typer.BadParameter(str(error)) from None


def listen(
    *,
    list_devices: Annotated[bool, Option("--list-devices", help="Show the microphones and exit.")] = False,
    device: Annotated[str | None, Option(help="A microphone's number or a part of its name; else the default.")] = None,
    input: Annotated[
        str | None,
        Option(metavar="FILE|URL|-", help="A recording, an address (http, hls, rtsp), or - for a pipe, as it comes."),
    ] = None,
    rate: Annotated[
        int | None, Option(min=1000, max=1_000_000, help="--input is raw samples, mono, at so many hertz.")
    ] = None,
    sample_format: Annotated[
        str | None, Option(click_type=click.Choice(SAMPLE_FORMATS), help="Of raw samples; else s16le.")
    ] = None,
    realtime: Annotated[bool, Option("--realtime", help="Read --input at the speed of speech.")] = False,
    selection: options.Selection,
    output: options.Output = None,
    format: options.LiveFormat = None,
    style: options.Style = None,
    layout: options.TextLayout,
    save_audio: Annotated[Path | None, Option(help="Keep the audio: a .wav, .flac, .ogg or .mp3 file.")] = None,
    force: options.Force = False,
    model: options.Model = STREAMING_MODEL,
    language: options.Language = None,
    decoding: options.Decoding,
    second_pass: SecondPass = None,
    endpoint: Endpoints,
    threads: options.Threads = 0,
) -> None:
    """Write the words spoken into a microphone as they come.

    Finished utterances go to standard output, everything else to standard error. On a terminal the utterance in
    progress is shown there, the words that may still change dimmed. Ctrl-C finishes the last sentence; a second
    one ends at once. Dropped audio (overruns) is counted and reported.
    """
    if list_devices:
        print_devices()
        return
    decoder = decoding.options(second_pass=second_pass)
    format = options.chosen_format(format, output, "txt", LIVE_FORMATS)
    check_layout(layout, [format])
    input = None if input is None else local_name(input)
    guard = Guard([input, *decoding.files], force)
    guard.check(output)
    guard.check(save_audio, "--save-audio")
    source = open_source(device, input, realtime, rate, sample_format, selection)
    name = printable(source.device.name if isinstance(source, microphone.Microphone) else source.name)
    bundle = options.load_model(model, language)
    second = None
    if second_pass not in (None, options.NO_SECOND_PASS):
        second = Recognizer(options.load_model(second_pass, language), decoder, threads=threads, style="spoken")
    make = partial(StreamingRecognizer, style=options.chosen_style(style, bundle))
    recognizer = make(bundle, decoder, endpoint, second, threads)
    writer = LIVE_FORMATS[format](name, layout)
    with (
        shown_warnings("asr.audio", once=True),
        ended_by_signals(source.stop),
        source,  # begins after the model is loaded, or the first words would be late; older files stay until here
        closing(AudioOutput(save_audio, source.rate, source.channels)) as audio,
        closing(TextOutput(output, writer)) as text,
        Display() as display,
    ):
        complain(f"listening to {name} at {source.rate} Hz; Ctrl-C ends")
        others = range(source.channels - 1)
        recognizers = [recognizer, *(make(recognizer, decoder, endpoint, second) for _ in others)]
        recognize(source, recognizers, text, audio, display)
    if text.failed or audio.failed:
        raise typer.Exit(1)


def print_devices() -> None:
    devices = microphone.list_devices()
    if not devices:
        raise DeviceError("no microphone found; connect one, or start the sound server")
    for device in devices:
        print(f"{device.number:3}  {device.name}, {device.rate} Hz{' (default)' if device.default else ''}")


def open_source(
    device: str | None,
    input: str | None,
    realtime: bool,
    rate: int | None,
    sample_format: str | None,
    selection: options.Selection,
) -> "Source":
    """BadParameter for options that contradict each other, AudioError or DeviceError for what cannot be listened to."""
    if input == "":  # an unset shell variable; Path("") would be the current folder
        raise typer.BadParameter("the recording has no name", param_hint="--input")
    reject_if(input is not None and device is not None, "--device", "a microphone and --input exclude each other")
    reject_if(realtime and input is None, "--realtime", "a microphone is always in real time; this goes with --input")
    reject_if(rate is None and sample_format is not None, "--sample-format", "goes with --rate")
    reject_if(rate is not None and input is None, "--rate", "goes with --input")
    if input is not None:
        raw = None if rate is None else (rate, sample_format or "s16le")
        return Recording(input, realtime, raw, selection)
    reject_if(selection.track is not None, "--track", "goes with --input")
    return microphone.Microphone(microphone.find_device(device), selection.channel, selection.channels == "each")


class Recording:
    """A recording in the microphone's place: chunks of 160 ms, by the clock when `realtime`; a pipe or an address as it
    comes.

    raw: sample rate and format of samples without a header.

    `with` reads the first one and so raises AudioError for a file that cannot be read; for a damaged one the iteration
    does after the last good chunk.
    """

    overruns = 0  # a file waits

    def __init__(self, source: str, realtime: bool, raw: tuple[int, str] | None, selection: options.Selection):
        self.rate = SAMPLE_RATE
        self.channels = 1
        self._selection = selection
        self.name = "standard input" if source == STANDARD_INPUT else source
        self._source = source
        self._chunks: Iterator[np.ndarray] = iter(())
        self._raw = raw
        self._stream: AudioStream | None = None
        self._realtime = realtime
        self._entered = self._stopped = False

    def __enter__(self) -> Self:
        chunks: Iterator[np.ndarray]
        if self._raw or is_address(self._source) or (self._source == STANDARD_INPUT and can_stream()):
            self._stream = AudioStream(self._source, self._raw, self._selection.track).__enter__()
            self.rate = self._stream.rate
            chunks = (self._selection.of(frames, self.name) for frames in self._stream)
        else:
            apart = [read_blocks(excerpt, CHUNK_SECONDS) for excerpt in self._selection.excerpts(self._source)]
            chunks = apart[0] if len(apart) == 1 else (np.stack(blocks, axis=1) for blocks in zip(*apart, strict=True))
        first = list(islice(chunks, 1))
        self.channels = first[0].shape[1] if first and first[0].ndim == 2 else 1
        self._chunks = chain(first, chunks)
        self._entered = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.__exit__()

    def __iter__(self) -> Iterator[np.ndarray]:
        due = time.monotonic()
        for chunk in self._chunks:
            due += len(chunk) / self.rate  # a chunk is complete when it has been spoken
            if self._realtime:
                time.sleep(max(0.0, due - time.monotonic()))
            if self._stopped and self._stream is None:
                return
            yield chunk

    def stop(self) -> None:
        self._stopped = True
        if self._stream is not None:
            self._stream.stop()
        if not self._entered:  # standard input may stay open for hours, and no sentence is to be finished yet
            raise KeyboardInterrupt


Source = microphone.Microphone | Recording


def recognize(
    source: Source,
    recognizers: Sequence[StreamingRecognizer],
    text: TextOutput,
    audio: AudioOutput,
    display: Display,
) -> None:
    """Write the text of a source, to the end of its last sentence. AudioError or DeviceError if it ended early.

    recognizers: one for each channel that is recognized apart.
    """

    def write_finals(events: list[Event], channel: int) -> None:
        for event in events:
            if isinstance(event, Final):
                spoken.add(channel)
                with display.aside():
                    text.add(replace(event.segment, channel=channel if len(recognizers) > 1 else None), heard)

    heard, dropped, silent_until = 0.0, 0, 0.0  # seconds of audio; times that some was dropped; time
    levels, spoken = [Level() for _ in recognizers], set[int]()  # channels with words, from 1
    failure: AsrError | None = None
    try:
        for samples in source:
            audio.write(samples)
            heard += len(samples) / source.rate
            channels = [samples] if samples.ndim == 1 else samples.T
            for number, (recognizer, channel) in enumerate(zip(recognizers, channels, strict=True), 1):
                levels[number - 1].add(channel)
                events = recognizer.accept(channel, source.rate)
                write_finals(events, number)
                display.show(channel, events)
            if source.overruns > dropped and time.monotonic() >= silent_until:
                complain(
                    f"audio was dropped {source.overruns - dropped} times: the machine is too slow;"
                    " close other programs, or listen with --decoder greedy"
                )
                dropped, silent_until = source.overruns, time.monotonic() + OVERRUN_SECONDS
    except (AudioError, DeviceError) as error:
        failure = error
    for number, recognizer in enumerate(recognizers, 1):
        write_finals(recognizer.finish(), number)
    if source.overruns:
        complain(f"audio was dropped {source.overruns} times in all")
    if failure is not None:
        raise failure
    for number, level in enumerate(levels, 1):
        if level.samples and (problem := level.problem(recognized=number in spoken)):
            complain(f"{f'channel {number}' if len(levels) > 1 else 'what was listened to'}: {problem}")
