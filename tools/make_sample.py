"""Make tests/data/sample.flac: a few seconds of generated speech that may be given away with the code.

    python tools/make_sample.py

Needs the program flite (Debian package flite), a small speech synthesiser; its voice `slt` is free to use.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import soundfile

TARGET = Path(__file__).parents[1] / "tests/data/sample.flac"
TEXT = "The birds were singing in the garden, and the old man sat down by the river to read his letter."
VOICE = "slt"


def main() -> None:
    if shutil.which("flite") is None:
        sys.exit("flite is not on PATH; install it with: apt-get install flite")
    with tempfile.TemporaryDirectory() as folder:
        spoken = Path(folder) / "spoken.wav"
        subprocess.run(["flite", "-voice", VOICE, "-t", TEXT, "-o", str(spoken)], check=True)
        samples, rate = soundfile.read(spoken, dtype="int16")
    soundfile.write(TARGET, samples, rate, subtype="PCM_16")
    print(f"{TARGET}: {len(samples) / rate:.2f} s at {rate} Hz: {TEXT}")


if __name__ == "__main__":
    main()
