"""Audio as it comes has the times of the file that it comes from, all of its sound, and the same messages."""

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_recordings import film, sounding
from test_sources import assert_one_line, collect, mixture, run_ffmpeg, save

from asr.audio.complaints import complaints, read_messages
from asr.audio.resample import SAMPLE_RATE, Resampler, to_mono
from asr.audio.sources import Excerpt, read
from asr.audio.stream import AudioStream
from asr.errors import AudioError
from asr.files import temporary_file


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; of files whose name begins with "cut" the first half, and then closes the connection."""

    def log_message(self, *_: object) -> None:
        pass

    def copyfile(self, source, outputfile) -> None:
        content = source.read()
        outputfile.write(content[: len(content) // 2] if self.path.startswith("/cut") else content)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def piped(
    path: Path, monkeypatch: pytest.MonkeyPatch, track: int | None = None
) -> tuple[np.ndarray, AudioError | None]:
    """What is heard of a file on standard input, at 16 kHz, and the error at its end."""
    heard = [np.zeros(0, dtype=np.float32)]
    with path.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        try:
            with AudioStream("-", track=track) as stream:
                resampler = Resampler(stream.rate)
                for block in stream:
                    heard.append(resampler.push(to_mono(block)))
        except AudioError as error:
            return np.concatenate(heard), error
    return np.concatenate([*heard, resampler.flush()]), None


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32"])
def test_a_wav_is_heard_as_soon_as_it_comes(tmp_path, subtype, monkeypatch):
    samples = mixture(2.0)
    path = tmp_path / "talk.wav"
    soundfile.write(path, np.stack([samples, samples / 2], axis=1), SAMPLE_RATE, subtype=subtype)
    read_end, write_end = os.pipe()
    with os.fdopen(read_end) as stdin, os.fdopen(write_end, "wb", buffering=0) as writer:
        monkeypatch.setattr("sys.stdin", stdin)
        content = path.read_bytes()
        writer.write(content[:8000])
        with AudioStream("-") as stream:
            blocks = iter(stream)
            first = next(blocks)  # would wait for ever for what is written after it
            assert 500 < len(first) <= 4000
            threading.Thread(target=lambda: (writer.write(content[8000:]), writer.close())).start()
            heard = np.concatenate([first, *blocks])
    expected, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_allclose(heard, expected, atol=1e-6)


def test_a_wav_whose_header_is_cut_is_one_line(tmp_path, monkeypatch):
    path = tmp_path / "cut.wav"
    path.write_bytes(b"RIFF\xff\0\0\0WAVEdata\0\0\0\0fmt \x10\0\0\0\1\0\1\0")
    _, error = piped(path, monkeypatch)
    assert_one_line(error, "standard input")


@pytest.mark.parametrize("suffix", ["mkv", "webm", "ts", "mp4"])
def test_a_track_that_starts_late_keeps_the_clock(tmp_path, address, suffix, monkeypatch):
    path = film(tmp_path / f"late.{suffix}", save(tmp_path / "talk.wav", mixture(2.0)), delay=4.0)
    samples, error = collect(f"{address}/late.{suffix}")
    assert error is None
    assert sounding(samples) == pytest.approx(sounding(read(path)), abs=0.02)
    if suffix != "mp4":  # which cannot be read from a pipe
        samples, error = piped(path, monkeypatch)
        assert error is None
        assert sounding(samples) == pytest.approx(sounding(read(path)), abs=0.02)


def test_a_late_track_of_a_list_of_segments_keeps_the_clock(tmp_path, address):
    path = film(tmp_path / "late.ts", save(tmp_path / "talk.wav", mixture(2.0)), delay=4.0)
    run_ffmpeg("-i", path, "-c", "copy", "-f", "hls", "-hls_time", "20", tmp_path / "late.m3u8")
    assert sounding(read(f"{address}/late.m3u8")) == pytest.approx(sounding(read(path)), abs=0.1)


def test_timestamps_that_do_not_begin_at_0_add_no_silence(tmp_path, monkeypatch):
    path = tmp_path / "live.mkv"
    run_ffmpeg("-i", save(tmp_path / "talk.wav", mixture(2.0)), "-output_ts_offset", "3600", "-c:a", "flac", path)
    assert len(piped(path, monkeypatch)[0]) == pytest.approx(2 * SAMPLE_RATE, abs=800)


@pytest.mark.parametrize("suffix", ["mp3", "mp2", "wv", "flac", "aac", "ogg", "aiff", "au", "tta", "avi", "ac3", "wma"])
def test_a_whole_recording_with_tags_is_no_damage(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"talk.{suffix}"
    tags = ("-metadata", "title=Talk", *(("-write_id3v1", "1", "-write_apetag", "1") * (suffix == "mp3")))
    run_ffmpeg("-i", save(tmp_path / "source.wav", mixture(5.0)), *tags, path)
    samples, error = piped(path, monkeypatch)
    assert error is None
    assert len(samples) == pytest.approx(5 * SAMPLE_RATE, abs=0.15 * SAMPLE_RATE)


@pytest.mark.parametrize("suffix", ["mp3", "opus", "mkv"])
def test_damage_is_said_after_all_that_can_be_heard(tmp_path, address, suffix, monkeypatch):
    path = tmp_path / f"talk.{suffix}"
    run_ffmpeg("-i", save(tmp_path / "talk.wav", mixture(20.0)), path)
    for source in (piped(path, monkeypatch), collect(f"{address}/{path.name}")):
        assert source[1] is None
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(content)
    for samples, error in (piped(path, monkeypatch), collect(f"{address}/{path.name}")):
        assert_one_line(error, "broke off or is damaged")
        assert len(samples) > 17 * SAMPLE_RATE


def test_a_connection_that_ends_early_is_said(tmp_path, address):
    save(tmp_path / "cut.wav", mixture(20.0))
    samples, error = collect(f"{address}/cut.wav")
    assert len(samples) == pytest.approx(10 * SAMPLE_RATE, abs=800)
    assert_one_line(error, f"{address}/cut.wav: broke off or is damaged")


@pytest.mark.parametrize("suffix", ["mp3", "opus", "ts", "wav"])
def test_joined_recordings_are_no_damage(tmp_path, suffix, monkeypatch):
    path, first, second = (tmp_path / f"{name}.{suffix}" for name in ("talk", "a", "b"))
    run_ffmpeg("-i", save(tmp_path / "source.wav", mixture(5.0)), first)
    run_ffmpeg("-ss", "1", "-i", tmp_path / "source.wav", second)
    path.write_bytes(first.read_bytes() + second.read_bytes())
    samples, error = piped(path, monkeypatch)
    assert error is None
    assert len(samples) == pytest.approx(9 * SAMPLE_RATE, abs=0.25 * SAMPLE_RATE)


@pytest.mark.parametrize("declared", [None, 0, 32_000, 2_000_000_000])
@pytest.mark.parametrize("behind", [b"", b"LIST\x04\0\0\0INFOid3 \x03\0\0\0abc\0", b"\0"])
def test_a_wav_is_read_to_its_end_whatever_length_its_header_says(tmp_path, declared, behind, monkeypatch):
    path = save(tmp_path / "talk.wav", mixture(5.0))
    content = bytearray(path.read_bytes())
    if declared is not None:
        content[40:44] = declared.to_bytes(4, "little")
    path.write_bytes(content + (behind if declared is None else b""))
    samples, error = piped(path, monkeypatch)
    assert error is None
    np.testing.assert_allclose(samples, mixture(5.0), atol=1e-4)


def test_audio_tracks_are_listed_and_one_that_is_missing_is_named(tmp_path, address, monkeypatch, caplog):
    talk, other = save(tmp_path / "talk.wav", mixture(2.0)), save(tmp_path / "other.wav", mixture(3.0, channels=2))
    film(tmp_path / "film.mkv", talk, other)
    run_ffmpeg("-i", tmp_path / "film.mkv", "-an", "-c", "copy", tmp_path / "silent.mkv")
    listed = "its audio tracks: 1 opus mono, 2 opus stereo"
    assert len(collect(f"{address}/film.mkv")[0]) == pytest.approx(2 * SAMPLE_RATE, abs=800)
    assert len(piped(tmp_path / "film.mkv", monkeypatch)[0]) == pytest.approx(2 * SAMPLE_RATE, abs=800)
    assert [record.getMessage() for record in caplog.records] == [
        f"{address}/film.mkv: track 1 is read; {listed}",
        f"standard input: track 1 is read; {listed}",
    ]
    missing = f"has no audio track 3; {listed}"
    assert_one_line(collect(Excerpt(f"{address}/film.mkv", track=3))[1], missing)
    assert str(piped(tmp_path / "film.mkv", monkeypatch, track=3)[1]) == f"standard input: {missing}"
    assert str(collect(f"{address}/silent.mkv")[1]) == f"{address}/silent.mkv: has no audio track"


def test_nothing_on_standard_input(tmp_path, monkeypatch):
    (tmp_path / "nothing").touch()
    assert str(piped(tmp_path / "nothing", monkeypatch)[1]) == "standard input: empty (0 bytes); give it audio"


def test_reading_the_messages_leaves_the_file_offset_to_the_program():
    with temporary_file() as messages:
        os.write(messages.fileno(), b"[ogg @ 0x1] [error] CRC mismatch!\n")
        os.lseek(messages.fileno(), 4, os.SEEK_SET)
        assert complaints(read_messages(messages)) == ["CRC mismatch!"]
        assert os.lseek(messages.fileno(), 0, os.SEEK_CUR) == 4


@pytest.mark.parametrize("scheme", ["ftp", "mms", "mmsh", "mmst"])
def test_an_address_of_a_server_is_no_file(scheme):
    error = collect(f"{scheme}://127.0.0.1:9/talk.wma")[1]
    assert_one_line(error, f"{scheme}://127.0.0.1:9/talk.wma: no audio that ffmpeg can read", "Connection refused")


def test_packets_that_a_transport_stream_lost_are_said(tmp_path, monkeypatch):
    path = tmp_path / "talk.ts"
    run_ffmpeg("-i", save(tmp_path / "talk.wav", mixture(10.0)), "-c:a", "aac", path)
    content = path.read_bytes()
    middle = len(content) // 2 // 188 * 188
    path.write_bytes(content[:middle] + content[middle + 188 * 4 :])
    assert_one_line(piped(path, monkeypatch)[1], "broke off or is damaged")
