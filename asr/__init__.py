"""Speech to text: waveform in, log-probabilities out, one decoder for files and for the microphone.

import asr
transcript = asr.load_model("en-bilstm").transcribe("talk.mp3")
print(transcript.text)
"""

from asr.errors import AsrError, AudioError, BundleError, DeviceError, RecipeError
from asr.recognizer import Recognizer, load_model
from asr.transcript import Segment, Transcript, Word

__all__ = [
    "AsrError",
    "AudioError",
    "BundleError",
    "DeviceError",
    "RecipeError",
    "Recognizer",
    "Segment",
    "Transcript",
    "Word",
    "load_model",
]
