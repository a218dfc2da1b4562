"""Speech to text: waveform in, log-probabilities out, one decoder for files and for the microphone.

import asr
transcript = asr.load_model("en-bilstm").transcribe("talk.mp3")
print(transcript.text)

recognizer = asr.StreamingRecognizer("en-gru")
for event in recognizer.accept(samples, 48_000) + recognizer.finish():
    print(event)
"""

from asr.decoders import DecoderOptions
from asr.endpoint import Endpoint
from asr.errors import AsrError, AudioError, BundleError, DeviceError, LanguageModelError, RecipeError
from asr.recognizer import Recognizer, load_model
from asr.streaming import Final, Partial, StreamingRecognizer
from asr.transcript import Segment, Transcript, Word

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
