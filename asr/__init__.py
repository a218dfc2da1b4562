"""Speech to text: waveform in, log-probabilities out, one decoder for files and for the microphone.

import asr
transcript = asr.load_model("en-bilstm").transcribe("talk.mp3")
print(transcript, transcript.to_srt())

recognizer = asr.StreamingRecognizer("en-gru")
for event in recognizer.accept(samples, 48_000) + recognizer.finish():
    print(event)

Diagnostics go to the logger "asr" of the `logging` module, which is silent unless a handler is set up.
"""

import logging
from typing import TYPE_CHECKING

from asr.decode.build import DecoderOptions
from asr.errors import ArgumentError, AsrError, AudioError, BundleError, DeviceError, LanguageModelError, RecipeError
from asr.model.bundle import Bundle, load_bundle
from asr.output.transcript import Alternative, Segment, Transcript, Word
from asr.recognize.align import align
from asr.recognize.batcher import Batcher
from asr.recognize.endpoint import Endpoint
from asr.recognize.offline import Recognition, Recognizer, load_model
from asr.recognize.streaming import Final, Partial, Revised, StreamingRecognizer

if TYPE_CHECKING:
    __version__: str

__all__ = [
    "Alternative",
    "ArgumentError",
    "AsrError",
    "AudioError",
    "Batcher",
    "Bundle",
    "BundleError",
    "DecoderOptions",
    "DeviceError",
    "Endpoint",
    "Final",
    "LanguageModelError",
    "Partial",
    "RecipeError",
    "Recognition",
    "Recognizer",
    "Revised",
    "Segment",
    "StreamingRecognizer",
    "Transcript",
    "Word",
    "align",
    "load_bundle",
    "load_model",
]

logging.getLogger("asr").addHandler(logging.NullHandler())


def __getattr__(name: str) -> str:
    """`__version__` of the installed distribution, looked up only when somebody asks for it."""
    if name != "__version__":
        raise AttributeError(f"module 'asr' has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("recurrent-asr")
    except PackageNotFoundError:  # run from a source tree
        return "0+unknown"
