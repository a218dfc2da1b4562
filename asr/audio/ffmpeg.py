"""The `ffmpeg` program as a decoder of formats that libsndfile cannot read: m4a, webm, video files and many more."""

import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from asr.audio.resample import SAMPLE_RATE, check_format
from asr.errors import AudioError, one_line

# Formats that hold their sound themselves. Others (hls, dash, concat, imf, sdp, image2, …) name files to be opened,
# which may be any that the user can read; a white list, since each version of ffmpeg knows more.
FORMATS = (
    *("3gp", "aa", "aac", "aax", "ac3", "ac4", "act", "adts", "adx", "aiff", "alac", "amr", "amrnb", "amrwb", "ape"),
    *("asf", "au", "avi", "caf", "codec2", "dsf", "dts", "dtshd", "dv", "eac3", "flac", "flv", "g722", "g726", "g729"),
    *("gsm", "iff", "ilbc", "ircam", "live_flv", "loas", "m4v", "matroska", "mlp", "mmf", "mov", "mp3", "mp4", "mpc"),
    *("mpc8", "mpeg", "mpegts", "mxf", "nistsphere", "nsv", "nut", "ogg", "oma", "pvf", "qcp", "rm", "rso", "sbc"),
    *("sds", "shn", "sln", "smjpeg", "sox", "spdif", "swf", "tak", "truehd", "tta", "voc", "vqf", "w64", "wav", "webm"),
    *("wsd", "wtv", "wv", "xwma"),
)
MAX_ALLOCATION = 1 << 28  # bytes that ffmpeg may ask for at once; it would otherwise grant 2 GB to any header
DECODE_VALUES = 65536  # samples × channels decoded at a time, so that no header can ask for much memory
DAMAGE = re.compile(r"partial file|ended prematurely|truncated|Error while decoding|Error submitting packet", re.I)


@contextmanager
def ffmpeg_frames(path: Path, name: str, reason: str) -> Iterator[tuple[int, Iterator[np.ndarray]]]:
    """The sample rate and the frames (n, channels) that ffmpeg decodes; `reason` is why libsndfile could not."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise AudioError(f"{name}: not readable by libsndfile ({reason}); if it is audio, install ffmpeg to read it")
    # "file:" and the white lists keep an odd name or a playlist from reaching the network or other files.
    # An au stream is a 24-byte header with the rate and the channels, then big-endian float32.
    command = [program, "-nostdin", "-v", "error", "-max_alloc", str(MAX_ALLOCATION)]
    command += ["-protocol_whitelist", "file", "-format_whitelist", ",".join(FORMATS), "-i", f"file:{path}"]
    command += ["-vn", "-sn", "-dn", "-c:a", "pcm_f32be", "-f", "au", "-"]
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages)
        assert process.stdout is not None
        try:
            header = process.stdout.read(24)
            if len(header) < 24:
                if process.wait() != 0:
                    said = one_line(_complaint(messages).replace(f"file:{path}: ", ""))
                    if "not on whitelist" in said:
                        raise AudioError(f"{name}: not an audio file but a playlist, a picture or a text")
                    raise AudioError(
                        f"{name}: not an audio file that libsndfile or ffmpeg can read"
                        f" (libsndfile: {reason}; ffmpeg: {said}); check that it is audio"
                    )
                yield SAMPLE_RATE, iter(())
                return
            _, offset, _, _, rate, channels = struct.unpack(">4s5I", header)
            process.stdout.read(offset - len(header))
            check_format(rate, channels, name)
            yield rate, _frames(process, process.stdout, messages, rate, channels, name)
        finally:  # also when the consumer stops early
            process.kill()
            process.stdout.close()
            process.wait()


def _frames(
    process: subprocess.Popen[bytes], pipe: IO[bytes], messages: IO[bytes], rate: int, channels: int, name: str
) -> Iterator[np.ndarray]:
    """Frames (n, channels) from the pipe of a running ffmpeg; at the end AudioError when it complained of damage."""
    done = 0
    while data := pipe.read(max(1, min(DECODE_VALUES // channels, rate)) * channels * 4):
        values = np.frombuffer(data[: len(data) // (4 * channels) * 4 * channels], dtype=">f4")
        done += len(values) // channels
        yield values.reshape(-1, channels)
    status, said = process.wait(), _complaint(messages)
    if status != 0 or DAMAGE.search(said):
        raise AudioError(
            f"{name}: truncated or damaged: {done / rate:.2f} s could be read (ffmpeg: {one_line(said)});"
            " copy or record it again"
        )


def _complaint(messages: IO[bytes]) -> str:
    """ffmpeg's message on standard error: the line that names damage if there is one, else its last lines."""
    messages.seek(max(0, messages.seek(0, os.SEEK_END) - 4096))
    lines = [re.sub(r"^\[.*? @ \w+\] ", "", line) for line in messages.read().decode(errors="replace").splitlines()]
    damage = [line for line in lines if DAMAGE.search(line)]
    return damage[0] if damage else "; ".join(lines[-2:]) or "no message"
