"""Speech to text: waveform in, log-probabilities out, one decoder for files and for the microphone.

import asr
transcript = asr.load_model("en-bilstm").transcribe("talk.mp3")
print(transcript, transcript.to_srt(), transcript.text)  # as people write it, and the words as they are spoken

recognizer = asr.StreamingRecognizer("en-gru")
for event in recognizer.accept(samples, 48_000) + recognizer.finish():
    print(event)

Diagnostics go to the logger "asr" of the `logging` module, which is silent unless a handler is set up.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asr.audio.sources import Excerpt
    from asr.decode.build import DecoderOptions
    from asr.errors import (
        ArgumentError,
        AsrError,
        AudioError,
        BundleError,
        DeviceError,
        LanguageModelError,
        RecipeError,
    )
    from asr.model.bundle import Bundle, load_bundle
    from asr.output.events import Final, Partial, Revised
    from asr.output.transcript import Alternative, Segment, Transcript, Word
    from asr.recognize.align import align
    from asr.recognize.batcher import Batcher
    from asr.recognize.endpoint import Endpoint
    from asr.recognize.offline import Recognition, Recognizer, load_model
    from asr.recognize.punctuation import punctuate
    from asr.recognize.streaming import StreamingRecognizer

    __version__: str

__all__ = ["ArgumentError", "AsrError", "AudioError", "BundleError", "DeviceError", "LanguageModelError", "RecipeError"]
__all__ += ["Alternative", "Final", "Partial", "Revised", "Segment", "Transcript", "Word"]
__all__ += ["Batcher", "Bundle", "DecoderOptions", "Endpoint", "Excerpt", "Recognition", "Recognizer"]
__all__ += ["StreamingRecognizer", "align", "load_bundle", "load_model", "punctuate"]

_MODULES = (  # that define them; imported when a name is first used, so that Ctrl-C meanwhile is the program's own
    *("errors", "audio.sources", "output.events", "output.transcript", "model.bundle", "decode.build"),
    *("recognize.endpoint", "recognize.offline", "recognize.align", "recognize.streaming", "recognize.batcher"),
    "recognize.punctuation",
)

logging.getLogger("asr").addHandler(logging.NullHandler())


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """What `__all__` names, and `__version__` of the installed distribution."""
    for module in (f"asr.{module}" for module in _MODULES if name in __all__):
        value = getattr(import_module(module), name, None)
        if getattr(value, "__module__", None) == module:
            return globals().setdefault(name, value)
    if name != "__version__":
        raise AttributeError(f"module 'asr' has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("recurrent-asr")
    except PackageNotFoundError:  # run from a source tree
        return "0+unknown"
