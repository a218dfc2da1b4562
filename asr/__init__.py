"""Speech to text: waveform in, log-probabilities out, one decoder for files and for the microphone.

import asr
transcript = asr.load_model("en-bilstm").transcribe("talk.mp3")
print(transcript.text)

recognizer = asr.StreamingRecognizer("en-gru")
for event in recognizer.accept(samples, 48_000) + recognizer.finish():
    print(event)
"""

from asr.decode.build import DecoderOptions
from asr.errors import AsrError, AudioError, BundleError, DeviceError, LanguageModelError, RecipeError
from asr.output.transcript import Segment, Transcript, Word
from asr.recognize.endpoint import Endpoint
from asr.recognize.offline import Recognizer, load_model
from asr.recognize.streaming import Final, Partial, StreamingRecognizer

__all__ = [
    "AsrError",
    "AudioError",
    "BundleError",
    "DecoderOptions",
    "DeviceError",
    "Endpoint",
    "Final",
    "LanguageModelError",
    "Partial",
    "RecipeError",
    "Recognizer",
    "Segment",
    "StreamingRecognizer",
    "Transcript",
    "Word",
    "load_model",
]


def __getattr__(name: str) -> str:
    """`__version__` of the installed distribution, looked up only when somebody asks for it."""
    if name != "__version__":
        raise AttributeError(f"module 'asr' has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("recurrent-asr")
    except PackageNotFoundError:  # run from a source tree
        return "0+unknown"
