"""Speech to text: waveform in, log-probabilities out, one decoder for files and for the microphone.

import asr
transcript = asr.load_model("en-bilstm").transcribe("talk.mp3")
print(transcript.text)

recognizer = asr.StreamingRecognizer("en-gru")
for event in recognizer.accept(samples, 48_000) + recognizer.finish():
    print(event)
"""

from asr.decode.build import DecoderOptions
from asr.errors import ArgumentError, AsrError, AudioError, BundleError, DeviceError, LanguageModelError, RecipeError
from asr.output.transcript import Segment, Transcript, Word
from asr.recognize.endpoint import Endpoint
from asr.recognize.offline import Recognizer, load_model
from asr.recognize.streaming import Final, Partial, StreamingRecognizer

__all__ = [
    "ArgumentError",
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
