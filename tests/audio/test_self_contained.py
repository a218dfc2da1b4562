"""Files that name other files: none of those is opened."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import carrier
import numpy as np
import pytest
import soundfile

import asr.files
from asr.audio.files import find_audio
from asr.audio.sources import read
from asr.errors import AudioError

PLAYLISTS: dict[str, Callable[[Path], str]] = {
    "hls": lambda other: f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5.0,\nfile://{other}\n#EXT-X-ENDLIST\n",
    "ffconcat": lambda other: f"ffconcat version 1.0\nfile '{other}'\n",
    "sdp": lambda other: "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    "dash": lambda other: (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" profiles="urn:mpeg:dash:profile:'
        'isoff-on-demand:2011" mediaPresentationDuration="PT5S"><Period><AdaptationSet mimeType="audio/mp4">'
        f'<Representation id="1" bandwidth="1"><BaseURL>file://{other}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    ),
    "imf": lambda other: (
        '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016">'
        "<Id>urn:uuid:00000000-0000-0000-0000-000000000000</Id></CompositionPlaylist>"
    ),
    "pictures": lambda other: "P6 1 1 255 abc",
    "webvtt": lambda other: "WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n",
}


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace, which sees what is opened, is not on PATH")
@pytest.mark.parametrize("suffix", ["wav", "mp3", "m3u8"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_is_refused_and_nothing_that_it_names_is_opened(tmp_path: Path, kind: str, suffix: str) -> None:
    other = tmp_path / "other.mp3"
    soundfile.write(other, np.zeros(16000), 16000)
    path = tmp_path / f"talk.{suffix}"
    path.write_text(PLAYLISTS[kind](other))
    opened = tmp_path / "opened"
    program = f"from asr.audio.sources import read; read({str(path)!r})"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=openat,connect", "-o", opened, sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"talk.{suffix}: not an audio file" in done.stderr.splitlines()[-1]
    assert len(done.stderr.splitlines()[-1]) <= 300 + len("asr.errors.AudioError: ")
    assert str(path) in opened.read_text()
    assert "other.mp3" not in opened.read_text()
    assert "AF_INET" not in opened.read_text()


def test_a_pipe_that_nobody_writes_to_is_an_error_in_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asr.files, "PIPE_SECONDS", 0.2)
    os.mkfifo(tmp_path / "talk.wav")
    with pytest.raises(AudioError, match="no program writes to this pipe"):
        read(tmp_path / "talk.wav")


def test_a_pipe_is_read_when_its_writer_comes_later(tmp_path: Path) -> None:
    speech = carrier.save(tmp_path / "a.wav", "good").read_bytes()
    os.mkfifo(tmp_path / "talk.wav")
    writer = threading.Thread(target=lambda: (time.sleep(0.3), (tmp_path / "talk.wav").write_bytes(speech)))
    writer.start()
    assert len(read(tmp_path / "talk.wav")) == len(carrier.speech("good"))
    writer.join()


@pytest.mark.parametrize("rate", [1, 7, 999, 1_000_001, 2**31 - 1])
def test_a_rate_that_cannot_be_is_an_error_that_names_it(tmp_path: Path, rate: int) -> None:
    path = carrier.save(tmp_path / "talk.wav", "good")
    whole = bytearray(path.read_bytes())
    whole[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(whole)
    with pytest.raises(AudioError, match=rf"talk.wav: a sample rate of {rate} Hz is impossible; .* 1000 to 1000000"):
        read(path)


def test_a_folder_that_cannot_be_read_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carrier.save(tmp_path / "in/a.wav", "good")
    (tmp_path / "in/closed").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:  # root may read every folder, so that chmod proves nothing
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    problems: list[AudioError] = []
    assert find_audio(tmp_path / "in", problems.append) == [tmp_path / "in/a.wav"]
    assert [str(problem) for problem in problems] == [
        f"{tmp_path}/in/closed: cannot be read: Permission denied; check who may read the folder"
    ]
    with pytest.raises(AudioError, match="closed: cannot be read"):
        find_audio(tmp_path / "in")
