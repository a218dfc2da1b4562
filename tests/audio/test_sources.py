import errno
import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asr.audio import files, sources
from asr.audio.files import AUDIO_SUFFIXES, find_audio
from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import as_samples, count_channels, duration, read, read_blocks
from asr.errors import AudioError

LOSSLESS = [
    ("wav", "WAV", "PCM_U8", 25), ("wav", "WAV", "PCM_16", 70), ("wav", "WAV", "PCM_24", 110),
    ("wav", "WAV", "PCM_32", 110), ("wav", "WAV", "FLOAT", 110), ("wav", "WAV", "DOUBLE", 110),
    ("wav", "WAVEX", "PCM_16", 70), ("wav", "RF64", "PCM_16", 70), ("wav", "WAV", "ULAW", 30),
    ("flac", "FLAC", "PCM_S8", 25), ("flac", "FLAC", "PCM_16", 70), ("flac", "FLAC", "PCM_24", 110),
    ("aiff", "AIFF", "PCM_16", 70), ("au", "AU", "PCM_16", 70), ("caf", "CAF", "PCM_16", 70),
    ("w64", "W64", "PCM_16", 70), ("sph", "NIST", "PCM_16", 70),
]  # fmt: skip
LOSSY = [("ogg", "OGG", "VORBIS", 15), ("opus", "OGG", "OPUS", 15), ("mp3", "MP3", "MPEG_LAYER_III", 15)]
FFMPEG_CODECS = [("m4a", "aac"), ("webm", "libopus"), ("mkv", "aac"), ("wma", "wmav2"), ("aac", "aac"), ("mov", "alac")]
STREAM_SIZE = b"\xff\xff\xff\xff"


def mixture(seconds: float, rate: int = SAMPLE_RATE, channels: int = 1) -> np.ndarray:
    """Slowly swelling tones, float32 (samples,) or (samples, channels), each channel at its own level."""
    time = np.arange(round(seconds * rate)) / rate
    tones = sum(np.sin(2 * np.pi * frequency * time) for frequency in (220, 440, 1000, 2300))
    mono = (0.12 * tones * (1.2 + np.sin(2 * np.pi * 3.1 * time)) / 2).astype(np.float32)
    return mono if channels == 1 else np.stack([mono / (1 + channel) for channel in range(channels)], axis=1)


def snr(got: np.ndarray, wanted: np.ndarray) -> float:
    """Signal to noise ratio in dB, after the shift of up to 0.15 s that gives the best (codecs delay)."""
    length = 8000
    start = len(wanted) // 2 - length // 2
    piece = wanted[start : start + length].astype(np.float64)
    area = got[max(0, start - 2400) : start + length + 2400].astype(np.float64)
    energies = np.convolve(area**2, np.ones(length), "valid")
    shift = int(np.argmax(2 * np.correlate(area, piece, "valid") - energies))  # the least squared difference
    noise = area[shift : shift + length] - piece
    return float(10 * np.log10((piece**2).sum() / max((noise**2).sum(), 1e-30)))


def save(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE, **options: str) -> Path:
    soundfile.write(str(path), samples, rate, **options)
    return path


def collect(source: str | Path, block_seconds: float = 1.0) -> tuple[np.ndarray, AudioError | None]:
    """All that is yielded, and the error that came after it."""
    blocks = [np.zeros(0, dtype=np.float32)]
    try:
        for block in read_blocks(source, block_seconds):
            blocks.append(block)
    except AudioError as error:
        return np.concatenate(blocks), error
    return np.concatenate(blocks), None


def assert_one_line(error: AudioError | None, *words: str) -> None:
    assert error is not None
    message = str(error)
    assert len(message.splitlines()) == 1
    for word in words:
        assert word in message


def run_ffmpeg(*arguments: str | Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("the ffmpeg program is not on PATH")
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, arguments)], check=True)


# Formats, rates, channels


@pytest.mark.parametrize(("suffix", "form", "subtype", "decibels"), LOSSLESS + LOSSY)
@pytest.mark.parametrize("rate", [16000, 48000])
def test_every_format_gives_back_its_samples(tmp_path, suffix, form, subtype, decibels, rate):
    path = save(tmp_path / f"talk.{suffix}", mixture(2.0, rate), rate, format=form, subtype=subtype)
    samples = read(path)
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert len(samples) == pytest.approx(2 * SAMPLE_RATE, abs=2)
    assert snr(samples, mixture(2.0)) > min(decibels, 60 if rate != SAMPLE_RATE else decibels)


@pytest.mark.parametrize(("suffix", "codec"), FFMPEG_CODECS)
def test_what_libsndfile_cannot_open_is_read_by_ffmpeg(tmp_path, suffix, codec):
    source = save(tmp_path / "source.wav", mixture(2.0, 44100, 2), 44100)
    path = tmp_path / f"talk.{suffix}"
    run_ffmpeg("-i", source, "-c:a", codec, "-b:a", "192k", path)
    samples = read(path)
    assert len(samples) == pytest.approx(2 * SAMPLE_RATE, abs=0.15 * SAMPLE_RATE)
    assert snr(samples, read(source)) > 12, "the same level and the same mean of the channels as by libsndfile"
    assert duration(path) == pytest.approx(2, abs=0.3 if suffix == "aac" else 0.15), "as ffprobe says"


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_channels_equal_the_mean_resampled_whole(tmp_path, rate, channels):
    samples = mixture(1.5, rate, channels)
    path = save(tmp_path / "talk.wav", samples, rate, subtype="FLOAT")
    mono = samples if channels == 1 else samples.mean(axis=1)
    wanted = mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    np.testing.assert_allclose(read(path), wanted, atol=1e-6)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("recordings")
    return [save(folder / f"talk.{suffix}", mixture(3.3, 44100, 2), 44100) for suffix in ("wav", "flac", "ogg", "mp3")]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(block_seconds=st.floats(0.01, 5.0))
def test_samples_do_not_depend_on_the_block_size(recordings, block_seconds):
    for path in recordings:
        blocks = list(read_blocks(path, block_seconds))
        assert {len(block) for block in blocks[:-1]} <= {round(block_seconds * SAMPLE_RATE)}
        np.testing.assert_array_equal(np.concatenate(blocks), read(path))


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3", "opus"])
def test_piecewise_decoding_equals_decoding_at_once(tmp_path, suffix):
    path = tmp_path / f"talk.{suffix}"
    save(path, mixture(20.0), **({"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}))
    whole, rate = soundfile.read(str(path), dtype="float32")
    assert rate == SAMPLE_RATE
    np.testing.assert_allclose(read(path), whole, atol=1e-5)


def test_samples_beyond_one_are_kept(tmp_path):
    path = save(tmp_path / "loud.wav", 8 * mixture(1.0), subtype="FLOAT")
    np.testing.assert_array_equal(read(path), 8 * mixture(1.0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_become_silence(tmp_path, bad):
    samples = mixture(1.0, 48000)
    silenced = samples.copy()
    samples[20000:20100], silenced[20000:20100] = bad, 0
    broken = save(tmp_path / "broken.wav", samples, 48000, subtype="FLOAT")
    np.testing.assert_array_equal(read(broken), read(save(tmp_path / "0.wav", silenced, 48000, subtype="FLOAT")))


def test_a_file_of_nothing_but_nan_is_silence(tmp_path):
    path = save(tmp_path / "nan.wav", np.full(8000, np.nan, dtype=np.float32), subtype="FLOAT")
    np.testing.assert_array_equal(read(path), np.zeros(8000, dtype=np.float32))


# Long and short


def test_memory_does_not_grow_with_the_length(tmp_path):
    path = tmp_path / "long.flac"
    with soundfile.SoundFile(str(path), "w", 16000, 1) as file:
        for _ in range(60):
            file.write(mixture(10.0))
    tracemalloc.start()
    total = longest = 0
    for block in read_blocks(path, 1.0):
        total, longest = total + len(block), max(longest, len(block))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 600 * SAMPLE_RATE
    assert longest == SAMPLE_RATE
    assert peak < 4_000_000, "ten minutes are 38 MB of float32"


def test_memory_does_not_grow_with_rate_times_channels(tmp_path):
    path = save(tmp_path / "wide.wav", np.zeros((20_000, 200), dtype=np.float32), 192_000)
    tracemalloc.start()
    assert sum(map(len, read_blocks(path))) == pytest.approx(20_000 / 12, abs=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000, "the file is 16 MB of float32"


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "caf", "ogg"])
def test_audio_without_samples_is_an_error(tmp_path, suffix):
    blocks, error = collect(save(tmp_path / f"none.{suffix}", mixture(0.0)))
    assert len(blocks) == 0
    assert_one_line(error, f"none.{suffix}: there is no sound in it (0 samples)")
    assert read(np.zeros(0), SAMPLE_RATE).shape == (0,)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_hundredth_of_a_second_is_read(tmp_path, suffix):
    (block,) = read_blocks(save(tmp_path / f"tiny.{suffix}", mixture(0.01)))
    assert len(block) == 160


def test_stopping_early_ends_ffmpeg(tmp_path, monkeypatch):
    path = tmp_path / "talk.m4a"
    run_ffmpeg("-f", "lavfi", "-i", "sine=440:d=120", path)
    started: list[subprocess.Popen] = []
    popen = subprocess.Popen

    def record(*arguments, **options):
        process = popen(*arguments, **options)
        if "ffprobe" not in arguments[0][0]:
            started.append(process)
        return process

    monkeypatch.setattr("asr.audio.ffmpeg.subprocess.Popen", record)
    blocks = read_blocks(path, 1.0)
    next(blocks)
    blocks.close()
    assert [process.poll() is not None for process in started] == [True]


# Pipes


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_standard_input_may_be_a_pipe(tmp_path, monkeypatch, suffix):
    path = save(tmp_path / f"talk.{suffix}", mixture(4.0))
    outlet, inlet = os.pipe()

    def write() -> None:
        with open(inlet, "wb") as pipe:
            pipe.write(path.read_bytes())

    writer = threading.Thread(target=write)
    writer.start()
    with open(outlet, "rb") as stream:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=stream))
        samples = read("-")
    writer.join()
    np.testing.assert_array_equal(samples, read(path))
    assert duration("-") is None


@pytest.mark.parametrize("content", [b"", b"hello, this is text\n" * 20])
def test_standard_input_that_is_no_audio_is_one_line(monkeypatch, content):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    samples, error = collect("-")
    assert len(samples) == 0
    assert_one_line(error, "standard input: ")


def test_named_pipe_is_read(tmp_path):
    path, fifo = save(tmp_path / "talk.wav", mixture(1.0)), tmp_path / "fifo"
    os.mkfifo(fifo)
    assert duration(fifo) is None, "and does not wait for a writer"
    writer = threading.Thread(target=lambda: fifo.write_bytes(path.read_bytes()))
    writer.start()
    np.testing.assert_array_equal(read(fifo), read(path))
    writer.join()


def open_files(process: subprocess.Popen) -> list[os.stat_result]:
    """Of the regular files that a process has open."""
    found = []
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(OSError):  # closed in the meantime
            found.append(link.stat())
    return [status for status in found if stat.S_ISREG(status.st_mode)]


@pytest.mark.parametrize("source", ["fifo", "standard input"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_stream_leaves_no_copy_behind_whatever_kills_its_reader(tmp_path, number, source):
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("files without a name are made on Linux only")
    temporary, fifo = tmp_path / "temporary", tmp_path / "fifo"
    temporary.mkdir()
    os.mkfifo(fifo)
    program = f"from asr.audio.sources import read; read({str(fifo) if source == 'fifo' else '-'!r})"
    if number == signal.SIGHUP:  # under `nohup` it is ignored, also by children
        program = f"import signal; signal.signal({int(number)}, signal.SIG_DFL); {program}"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, env={**os.environ, "TMPDIR": str(temporary)}
    )
    size = 5_000_000
    with fifo.open("wb") if source == "fifo" else process.stdin as pipe:
        pipe.write(save(tmp_path / "a.wav", mixture(1.0)).read_bytes() + bytes(size))
        pipe.flush()
        for _ in range(600):  # until most of it is copied
            if any(status.st_size > size / 2 for status in open_files(process)):
                break
            time.sleep(0.05)
        else:
            pytest.fail("the stream was not copied")
        assert list(temporary.iterdir()) == [], "not even while it is read"
        process.send_signal(number)
        process.wait()
    assert list(temporary.iterdir()) == []


def test_a_stream_that_needs_ffmpeg_to_go_back_and_forth_is_read(tmp_path):
    path = tmp_path / "talk.m4a"
    run_ffmpeg("-f", "lavfi", "-i", "sine=440:d=3", path)  # the index comes last
    for source in (path.read_bytes(), io.BytesIO(path.read_bytes()), path.open("rb")):
        np.testing.assert_array_equal(read(source), read(path))


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_bytes_and_file_objects_are_read_as_the_file(tmp_path, suffix):
    path = save(tmp_path / f"talk.{suffix}", mixture(2.0, 44100, 2), 44100)
    for source in (path.read_bytes(), bytearray(path.read_bytes()), path.open("rb"), path.open("rb", buffering=0)):
        np.testing.assert_array_equal(read(source), read(path))


def test_where_files_cannot_be_opened_without_a_name_a_folder_holds_the_copy_and_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "OPEN_FILES", str(tmp_path / "missing"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = save(tmp_path / "talk.wav", mixture(1.0))
    blocks = read_blocks(path.read_bytes(), 0.5)
    first = next(blocks)
    assert len(list(tmp_path.iterdir())) == 2
    np.testing.assert_array_equal(np.concatenate([first, *blocks]), read(path))
    assert list(tmp_path.iterdir()) == [path]


def test_bad_bytes_and_file_objects_are_named(tmp_path):
    assert_one_line(collect(b"")[1], "bytes: empty (0 bytes)")
    assert_one_line(collect(io.BytesIO(b"no audio" * 9))[1], "file object: not an audio file")
    (tmp_path / "notes").write_text("no audio")
    assert_one_line(collect((tmp_path / "notes").open("rb"))[1], "notes: not an audio file")


def test_a_closed_file_object_is_one_line(tmp_path):
    file = (tmp_path / "talk.wav").open("wb+")
    file.close()
    with pytest.raises(AudioError, match=r"talk\.wav: cannot be read: .*closed file"):
        read(file)


def test_a_file_object_that_cannot_be_read_in_pieces_is_one_line():
    class Whole:
        def read(self):
            return b""

    with pytest.raises(AudioError, match=r"file object: cannot be read: .*argument"):
        read(Whole())


def test_a_stream_that_cannot_be_read_says_so(monkeypatch):
    class Broken(io.RawIOBase):
        def read(self, _size=-1):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Broken()))
    assert_one_line(collect("-")[1], "standard input: cannot be read: Input/output error")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_stream_that_cannot_be_copied_says_why(monkeypatch, number):
    def fail(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    assert_one_line(collect(b"RIFF")[1], "bytes: cannot be copied to a temporary file: ", os.strerror(number))


# Samples in memory


def test_samples_are_float32_of_full_scale_one_and_keep_their_shape():
    for samples in ([[0.5, -1.0]], np.array([[16384, -32768]], np.int16), np.array([[2**30, -(2**31)]], np.int32)):
        converted = as_samples(samples, 48_000)
        assert converted.dtype == np.float32
        np.testing.assert_array_equal(converted, [[0.5, -1.0]])
    assert as_samples([], 16_000).shape == (0,)
    assert as_samples(np.zeros((0, 2), np.int16), 16_000).shape == (0, 2)


def test_float32_samples_are_not_copied():
    samples = mixture(1.0)
    assert np.shares_memory(as_samples(samples, 16_000), samples)


@given(st.integers(-(2**15), 2**15 - 1), st.sampled_from([8_000, 48_000, 48_000.0, np.int32(44_100)]))
def test_a_list_of_integers_holds_int16_values(value, rate):
    np.testing.assert_array_equal(as_samples([value], rate), np.array([value / 2**15], dtype=np.float32))


def test_damage_in_samples_passes_for_the_resampler_to_silence():
    samples = np.array([np.nan, np.inf, -np.inf, 1e300, 0.25])
    np.testing.assert_array_equal(read(samples, sample_rate=16_000), [0, 0, 0, 0, 0.25])


def test_samples_equal_a_file_of_them(tmp_path):
    samples = mixture(3.0, 44100, 2)
    path = save(tmp_path / "talk.wav", samples, 44100, subtype="FLOAT")
    np.testing.assert_array_equal(read(samples, sample_rate=44100), read(path))
    blocks = list(read_blocks(samples, 1.0, 44100))
    assert [len(block) for block in blocks[:-1]] == [SAMPLE_RATE] * (len(blocks) - 1)


# Bad files


def test_missing_file(tmp_path):
    assert_one_line(collect(tmp_path / "talk.wav")[1], "talk.wav: no such file")


@pytest.mark.parametrize("begin", ["file://", "FILE://localhost"])
def test_a_file_may_be_given_as_an_address(tmp_path, begin):
    path = save(tmp_path / "a talk #1 50%.wav", mixture(1.0, channels=2))
    address = begin + quote(str(path))
    np.testing.assert_array_equal(read(address), read(path))
    assert (duration(address), count_channels(address)) == (1.0, 2)
    assert_one_line(collect(f"{begin}/no/such.wav")[1], f"{begin}/no/such.wav: no such file")


def test_folder_instead_of_a_file(tmp_path):
    assert_one_line(collect(tmp_path)[1], "a folder, not a file")


def test_device_instead_of_a_file():
    assert_one_line(collect("/dev/null")[1], "a device")


def test_name_with_nul_or_newline_is_one_line():
    assert_one_line(collect("a\0b.wav")[1], "no such file")
    assert_one_line(collect("a\nb.wav")[1], "a b.wav: no such file")


def test_empty_file(tmp_path):
    (tmp_path / "talk.wav").touch()
    assert_one_line(collect(tmp_path / "talk.wav")[1], "talk.wav: empty file (0 bytes)")


def test_permission_denied(tmp_path, monkeypatch):
    path = save(tmp_path / "talk.wav", mixture(0.1))

    def refuse(*_arguments, **_options):  # root may read every file, so that chmod proves nothing
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "open_input", refuse)
    assert_one_line(collect(path)[1], "talk.wav: cannot be opened: Permission denied")


@pytest.mark.parametrize("suffix", ["wav", "mp3", "ogg", "raw", "txt", "m4a"])
def test_text_is_not_an_audio_file(tmp_path, suffix, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a message names the file and is cut at 300 characters
    Path(f"notes.{suffix}").write_text("These are notes.\n" * 20)
    if shutil.which("ffmpeg") is None:
        pytest.skip("the ffmpeg program is not on PATH")
    error = collect(Path(f"notes.{suffix}"))[1]
    # ffmpeg takes text in a .raw file for a format that is not on the list.
    causes = ["a playlist, a picture or a text"] if suffix == "raw" else ["libsndfile: ", "ffmpeg: "]
    assert_one_line(error, f"notes.{suffix}: not an audio file", *causes)


def test_a_short_text_is_not_called_a_pipe(tmp_path):
    (tmp_path / "notes.mp3").write_text("hello\n")
    error = collect(tmp_path / "notes.mp3")[1]
    assert_one_line(error, "notes.mp3: ", "format not recognized")
    assert "pipe" not in str(error)


def test_without_ffmpeg_the_message_says_to_install_it(tmp_path, monkeypatch):
    (tmp_path / "notes.m4a").write_text("These are notes.\n" * 20)
    monkeypatch.setattr(sources.shutil, "which", lambda _program: None)
    assert_one_line(collect(tmp_path / "notes.m4a")[1], "notes.m4a: ", "install ffmpeg")


def test_video_without_sound(tmp_path):
    run_ffmpeg("-f", "lavfi", "-i", "testsrc=d=0.2:s=32x32", tmp_path / "film.mp4")
    assert_one_line(collect(tmp_path / "film.mp4")[1], "film.mp4: ", "has no audio track")


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "w64", "flac", "mp3", "ogg"])
def test_truncated_file_gives_its_samples_and_then_the_error(tmp_path, suffix):
    path = save(tmp_path / f"talk.{suffix}", mixture(30.0))
    content, whole = path.read_bytes(), read(path)
    path.write_bytes(content[: len(content) * 6 // 10])
    samples, error = collect(path)
    assert 10 * SAMPLE_RATE < len(samples) < 25 * SAMPLE_RATE
    inside = samples[:-1600]  # the last block of a transform codec may differ
    np.testing.assert_allclose(inside, whole[: len(inside)], atol=1e-4)
    assert_one_line(error, f"talk.{suffix}: truncated", f"{len(samples) / SAMPLE_RATE:.2f} s")


@pytest.mark.parametrize("suffix", ["webm", "mkv"])
def test_truncated_file_read_by_ffmpeg(tmp_path, suffix):
    path = tmp_path / f"talk.{suffix}"
    run_ffmpeg("-f", "lavfi", "-i", "sine=440:d=20", path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    samples, error = collect(path)
    assert 8 * SAMPLE_RATE < len(samples) < 16 * SAMPLE_RATE
    assert_one_line(error, "truncated", f"{len(samples) / SAMPLE_RATE:.2f} s")


def test_what_follows_damage_in_a_flac_is_read_at_its_time(tmp_path):
    run_ffmpeg("-version")
    path = save(tmp_path / "talk.flac", mixture(10.0))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 500] = bytes(500)
    path.write_bytes(content)
    samples, error = collect(path)
    assert len(samples) == 10 * SAMPLE_RATE
    wrong = np.abs(samples - mixture(10.0)) > 1e-4
    assert 0 < np.count_nonzero(wrong) < 0.6 * SAMPLE_RATE
    assert not wrong[: 3 * SAMPLE_RATE].any()
    assert not wrong[7 * SAMPLE_RATE :].any()
    assert_one_line(error, "talk.flac: truncated or damaged after")


@pytest.mark.parametrize("size", [STREAM_SIZE, b"\xff\xff\xff\x7f", b"\xd8\xff\xff\x7f"])
def test_wav_of_a_stream_without_a_length_is_whole(tmp_path, size):
    path = save(tmp_path / "talk.wav", mixture(3.0))
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = size
    path.write_bytes(content)
    samples, error = collect(path)
    assert error is None
    assert len(samples) == 3 * SAMPLE_RATE


def test_wav_whose_recorder_was_killed_is_read_by_ffmpeg(tmp_path):
    run_ffmpeg("-version")
    path = save(tmp_path / "talk.wav", mixture(3.0))
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = bytes(4)  # the lengths that are written at the end
    path.write_bytes(content)
    samples, error = collect(path)
    assert error is None
    np.testing.assert_allclose(samples, mixture(3.0), atol=1e-4)


@pytest.mark.parametrize("truncated", [False, True])
def test_flac_of_a_stream_without_a_length(tmp_path, truncated):
    if shutil.which("ffmpeg") is None:
        pytest.skip("the ffmpeg program is not on PATH")
    source, path = save(tmp_path / "talk.wav", mixture(6.0)), tmp_path / "talk.flac"
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(source), "-f", "flac", "-"]
    content = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    path.write_bytes(content[: len(content) // 2] if truncated else content)
    samples, error = collect(path)
    np.testing.assert_allclose(samples, mixture(6.0)[: len(samples)], atol=1e-4)
    if truncated:
        assert_one_line(error, "truncated or damaged")
    else:
        assert error is None
        assert len(samples) == 6 * SAMPLE_RATE
    assert duration(path) is None


@pytest.mark.parametrize("options", [("-write_xing", "0"), ()], ids=["no length in the header", "two files in one"])
def test_mp3_longer_than_its_header_says_is_read_to_the_end(tmp_path, options):
    path = tmp_path / "talk.mp3"
    tones = "aevalsrc=if(lt(t\\,5)\\,0.3*sin(2000*t)\\,random(0)-0.5):s=44100:d=20"
    run_ffmpeg("-f", "lavfi", "-i", tones, "-c:a", "libmp3lame", "-q:a", "4", *options, path)
    copies = 1 if options else 2
    path.write_bytes(path.read_bytes() * copies)
    samples, _ = collect(path)
    assert len(samples) == pytest.approx(20 * copies * SAMPLE_RATE, abs=0.3 * SAMPLE_RATE)
    assert duration(path) is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from(AUDIO_SUFFIXES),
    magic=st.sampled_from(
        [b"", b"RIFF\xff\xff\xff\xffWAVEfmt ", b"fLaC", b"OggS", b"ID3\x04", b"\xff\xfb\x90", b".snd"]
    ),
    content=st.binary(max_size=2000),
)
@example(suffix=".wav", magic=b"", content=b"\0")
@example(suffix=".wav", magic=b"", content=b"FLV")
def test_arbitrary_bytes_raise_nothing_but_audio_error(tmp_path, suffix, magic, content):
    path = tmp_path / f"bytes{suffix}"
    path.write_bytes(magic + content)
    samples, error = collect(path)
    assert np.isfinite(samples).all()
    if error is not None:
        assert_one_line(error, f"bytes{suffix}: ")
    assert duration(path) is None or duration(path) > 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.integers(0, 3), position=st.integers(0, 10**6), content=st.binary(min_size=1, max_size=40))
def test_damage_anywhere_raises_nothing_but_audio_error(tmp_path, recordings, which, position, content):
    damaged = bytearray(recordings[which].read_bytes())
    position %= min(len(damaged), 5000)  # mostly the headers
    damaged[position : position + len(content)] = content
    path = tmp_path / recordings[which].name
    path.write_bytes(damaged)
    for number, block in enumerate(_until_error(path)):
        assert np.isfinite(block).all()
        if number > 60:  # a damaged rate may mean hours
            break


def _until_error(path: Path):
    try:
        yield from read_blocks(path, 1.0)
    except AudioError as error:
        assert_one_line(error, path.name)


# Duration, folders


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_duration_comes_from_the_header(tmp_path, suffix):
    assert duration(save(tmp_path / f"talk.{suffix}", mixture(2.5, 44100), 44100)) == pytest.approx(2.5, abs=0.01)


def test_duration_of_what_is_no_audio_is_none(tmp_path):
    (tmp_path / "notes.raw").write_text("notes")
    for source in (tmp_path / "notes.raw", tmp_path, tmp_path / "missing.wav", "a\0b", "/dev/null"):
        assert duration(source) is None


def test_find_audio_goes_through_folders_in_order_and_leaves_out_the_rest(tmp_path):
    for name in ("b.WAV", "a.mp3", "notes.txt", "deep/er/film.mkv", ".hidden.wav", ".trash/old.wav", "deep/._c.flac"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    names = [path.relative_to(tmp_path).as_posix() for path in find_audio(tmp_path)]
    assert names == ["a.mp3", "b.WAV", "deep/er/film.mkv"]


def test_find_audio_in_a_missing_folder(tmp_path):
    with pytest.raises(AudioError, match="no such folder"):
        find_audio(tmp_path / "nowhere")
