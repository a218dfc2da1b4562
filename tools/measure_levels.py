"""Measure whether the level of a recording changes its words: error rates at levels, through several containers.

    python tools/measure_levels.py en-bilstm ../shared/data/dev.jsonl --levels 0 -20 -40 --forms PCM_24 int16 live

A form is a subtype of wav as libsndfile names it (PCM_U8, PCM_16, PCM_24, PCM_32, FLOAT, ULAW), `int16` for samples in
memory, or `live` for a stream in chunks, as from a microphone with another gain (of a streaming model). Samples are
rounded to the nearest value, as sox and ffmpeg do (libsndfile would round floats down, which adds half a step to all of
them), and not dithered; 8 bits and -40 dB leave nothing of most speech.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import soundfile

from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import read
from asr.data.manifest import Entry, read_manifest
from asr.evaluate.wer import Utterance, evaluate
from asr.output.events import Final
from asr.recognize.offline import Recognizer
from asr.recognize.streaming import StreamingRecognizer

CHUNK = 2560  # samples of a live stream at a time
FORMS = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "ULAW", "int16", "live")
BITS = {"PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "ULAW": 16}


def rounded(samples: np.ndarray, bits: int) -> np.ndarray:
    """int32 (n,) that holds samples of so many bits in its upper ones, as libsndfile takes them."""
    full = 2.0 ** (bits - 1)
    values = np.rint(samples.astype(np.float64) * full).clip(-full, full - 1)
    return values.astype(np.int32) << (32 - bits)


def wav(samples: np.ndarray, subtype: str) -> bytes:
    """A file of samples (n,)."""
    file = io.BytesIO()
    content = rounded(samples, BITS[subtype]) if subtype in BITS else samples
    soundfile.write(file, content, SAMPLE_RATE, subtype, format="WAV")
    return file.getvalue()


def transcribe(recognizer: Recognizer, samples: np.ndarray, form: str) -> str:
    """The text of samples (n,) in a form."""
    if form == "live":
        live = StreamingRecognizer(recognizer, recognizer.options)
        chunks = range(0, len(samples), CHUNK)
        events = [event for start in chunks for event in live.accept(samples[start : start + CHUNK], SAMPLE_RATE)]
        return " ".join(event.text for event in [*events, *live.finish()] if isinstance(event, Final))
    if form == "int16":
        return recognizer.transcribe((rounded(samples, 16) >> 16).astype(np.int16), SAMPLE_RATE).text
    return recognizer.transcribe(wav(samples, form)).text


def error_rate(recognizer: Recognizer, entries: list[Entry], level: float, form: str) -> float:
    """The word error rate of recordings that are so many dB louder."""
    gain = np.float32(10 ** (level / 20))
    utterances = []
    for entry in entries:
        samples = read(entry.audio)
        text = transcribe(recognizer, gain * samples, form)
        utterances.append(Utterance(entry.id, entry.text, text, len(samples) / SAMPLE_RATE))
    return evaluate(utterances).wer


def main() -> None:
    parser = argparse.ArgumentParser(description="Error rates at levels, through containers.")
    parser.add_argument("model")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--levels", type=float, nargs="+", default=[0, -10, -20, -30, -40])
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=["PCM_16", "PCM_24", "FLOAT"])
    parser.add_argument("--every", type=int, default=1, help="use every so many recordings")
    options = parser.parse_args()
    recognizer = Recognizer(options.model)
    entries = read_manifest(options.manifest)[:: options.every]
    print("| form | " + " | ".join(f"{level:g} dB" for level in options.levels) + " |")
    print("| --- |" + " --- |" * len(options.levels))
    for form in options.forms:
        rates = [100 * error_rate(recognizer, entries, level, form) for level in options.levels]
        print(
            f"| {form} | " + " | ".join(f"{rate:.2f} ({rate / rates[0] - 1:+.1%})" for rate in rates) + " |", flush=True
        )


if __name__ == "__main__":
    main()
