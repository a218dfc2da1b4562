"""Recordings that nobody prepared: late tracks, odd channels, joined and cut files, wrong headers."""

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from test_sources import assert_one_line, collect, mixture, run_ffmpeg, save

from asr.audio import probe as probe_module
from asr.audio.complaints import complaints, tracks
from asr.audio.files import find_audio
from asr.audio.probe import probe
from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import Excerpt, count_channels, duration, read, read_blocks
from asr.errors import ArgumentError, AudioError

CODECS = {"mkv": "libopus", "webm": "libopus", "mp4": "aac", "ts": "aac", "mov": "aac"}


def sounding(samples: np.ndarray) -> float:
    """The second at which something is heard first."""
    return float(np.argmax(np.abs(samples) > 0.02) / SAMPLE_RATE)


def film(path: Path, *audio: Path, delay: float = 0.0) -> Path:
    """A video of 8 s with audio tracks that start after `delay`."""
    inputs = [argument for file in audio for argument in ("-itsoffset", str(delay), "-i", str(file))]
    maps = [argument for number in range(len(audio)) for argument in ("-map", f"{number + 1}:a")]
    video = "libvpx" if path.suffix == ".webm" else "mpeg4"
    picture = ("-f", "lavfi", "-i", "testsrc=d=8:s=32x32:r=5")
    run_ffmpeg(*picture, *inputs, "-map", "0:v", *maps, "-c:v", video, "-c:a", CODECS[path.suffix[1:]], path)
    return path


@pytest.mark.parametrize("suffix", CODECS)
def test_audio_that_starts_later_than_its_video_keeps_the_clock(tmp_path, suffix):
    talk = save(tmp_path / "talk.wav", mixture(2.0))
    late = read(film(tmp_path / f"late.{suffix}", talk, delay=4.0))
    assert sounding(late) == pytest.approx(4.0, abs=0.08)
    assert len(late) == pytest.approx(6.0 * SAMPLE_RATE, abs=0.2 * SAMPLE_RATE)
    assert sounding(read(film(tmp_path / f"at once.{suffix}", talk))) < 0.08


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "libopus"), ("mp4", "aac")])
def test_a_gap_in_the_timestamps_is_silence(tmp_path, suffix, codec):
    talk, gap = save(tmp_path / "talk.wav", mixture(6.0)), tmp_path / f"gap.{suffix}"
    run_ffmpeg("-i", talk, "-af", "aselect='not(between(t,2,4))'", "-c:a", codec, gap)
    samples = read(gap)
    assert len(samples) == pytest.approx(6 * SAMPLE_RATE, abs=0.1 * SAMPLE_RATE)
    assert np.abs(samples[round(2.3 * SAMPLE_RATE) : round(3.7 * SAMPLE_RATE)]).max() == 0


@pytest.mark.parametrize(("suffix", "codecs"), [("wmv", ("wmv2", "wmav2")), ("avi", ("mpeg4", "libmp3lame"))])
@pytest.mark.parametrize("delay", [0.0, 4.0])
def test_a_video_that_is_longer_than_its_audio_is_whole_and_half_of_it_is_not(tmp_path, suffix, codecs, delay):
    talk, path = save(tmp_path / "talk.wav", mixture(5.0)), tmp_path / f"film.{suffix}"
    picture = ("-f", "lavfi", "-i", "testsrc=d=10:s=64x64:r=5")
    run_ffmpeg(*picture, "-itsoffset", str(delay), "-i", talk, "-c:v", codecs[0], "-c:a", codecs[1], path)
    samples, error = collect(path)
    assert error is None
    late = delay if suffix == "wmv" else 0.0  # ffprobe takes the audio of every avi to begin at once
    assert len(samples) == pytest.approx((5.0 + late) * SAMPLE_RATE, abs=0.25 * SAMPLE_RATE)
    whole = path.read_bytes()
    for share in (0.5, 0.7):
        path.write_bytes(whole[: round(share * len(whole))])
        assert_one_line(collect(path)[1], f"film.{suffix}: truncated")


def test_a_wma_that_ends_between_two_packets_is_truncated(tmp_path):
    path = tmp_path / "talk.wma"
    run_ffmpeg("-i", save(tmp_path / "talk.wav", mixture(20.0)), path)
    content = path.read_bytes()
    packets = [match.start() for match in re.finditer(rb"\x82\0\0", content)]
    path.write_bytes(content[: packets[len(packets) // 2]])
    assert_one_line(collect(path)[1], "talk.wma: truncated")


def test_an_impossible_start_time_is_passed_over(tmp_path, monkeypatch):
    stream = {"codec_type": "audio", "start_time": "1e12", "channels": 1}
    printed = json.dumps({"streams": [stream], "format": {"start_time": "0"}}).encode()
    done = subprocess.CompletedProcess([], 0, printed, b"")
    monkeypatch.setattr(probe_module.subprocess, "run", lambda *_, **__: done)
    monkeypatch.setattr(probe_module.shutil, "which", lambda name: name)
    found = probe(save(tmp_path / "talk.wav", mixture(0.1)))
    assert found is not None
    assert found.tracks[0].start == 0


# Channels and tracks


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "m4a", "webm"])
@pytest.mark.parametrize("gain", [-1.0, -0.9])
def test_inverted_stereo_is_not_silence(tmp_path, suffix, gain):
    mono = mixture(3.0)
    stereo = save(tmp_path / "stereo.wav", np.stack([mono, gain * mono], axis=1))
    run_ffmpeg("-i", stereo, "-b:a", "128k", tmp_path / f"inverted.{suffix}")
    samples = read(tmp_path / f"inverted.{suffix}")
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(np.sqrt(np.mean(mono**2)), rel=0.15)


def test_channels_of_their_own_are_still_mixed():
    noise = np.random.default_rng(0).normal(0, 0.1, (3 * SAMPLE_RATE, 2)).astype(np.float32)
    np.testing.assert_allclose(read(noise, SAMPLE_RATE), noise.mean(axis=1), atol=1e-6)
    np.testing.assert_array_equal(read(np.zeros((100, 2)), SAMPLE_RATE), np.zeros(100))


def test_one_channel_of_several_can_be_chosen(tmp_path):
    both = np.stack([mixture(2.0), np.zeros(2 * SAMPLE_RATE, dtype=np.float32)], axis=1)
    path = save(tmp_path / "call.wav", both, subtype="FLOAT")
    np.testing.assert_array_equal(read(Excerpt(path, channel=1)), both[:, 0])
    np.testing.assert_array_equal(read(Excerpt(path, channel=2)), both[:, 1])
    assert count_channels(path) == 2
    with pytest.raises(AudioError, match="has no channel 3"):
        read(Excerpt(path, channel=3))


def test_audio_tracks_of_a_video_are_counted_and_chosen(tmp_path):
    talk, other = save(tmp_path / "talk.wav", mixture(2.0)), save(tmp_path / "other.wav", mixture(3.0, channels=2))
    path = film(tmp_path / "film.mkv", talk, other)
    found = probe(path)
    assert found is not None
    assert [track.channels for track in found.tracks] == [1, 2]
    for track, seconds in ((None, 2), (1, 2), (2, 3)):
        assert len(read(Excerpt(path, track=track))) == pytest.approx(seconds * SAMPLE_RATE, abs=800)
    assert (count_channels(path), count_channels(path, track=2)) == (1, 2)
    with pytest.raises(AudioError, match=r"has no audio track 3; its audio tracks: 1 opus mono, 2 opus stereo"):
        read(Excerpt(path, track=3))


# Parts


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "m4a"])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_part_is_what_the_whole_has_there(tmp_path, suffix, rate):
    source, path = save(tmp_path / "source.wav", mixture(5.0, rate), rate), tmp_path / f"talk.{suffix}"
    run_ffmpeg("-i", source, path)
    whole = read(path)
    for start, end in ((0.0, 1.5), (1.23, 3.0), (2.5, None), (0.05, 0.06)):
        part = read(Excerpt(path, start=start, end=end))
        wanted = whole[round(start * SAMPLE_RATE) : end and round(end * SAMPLE_RATE)]
        assert len(part) == pytest.approx(len(wanted), abs=1)
        np.testing.assert_allclose(part[: len(wanted)], wanted[: len(part)], atol=2e-3)
    with pytest.raises(AudioError, match="no sound after 20 s"):
        read(Excerpt(path, start=20.0))


@pytest.mark.parametrize(
    "arguments",
    [
        *({"start": 3.0, "end": 2.0}, {"start": -1.0}, {"start": 1e308}, {"end": 1e308}, {"start": "1"}, {"end": "1"}),
        *({"start": float("nan")}, {"channel": 0}, {"track": 0}, {"channel": "1"}),
    ],
)
def test_a_part_that_cannot_be_is_refused(arguments):
    with pytest.raises(ArgumentError):
        Excerpt("talk.wav", **arguments)


# Joined files and wrong lengths


JOINED = ["opus", "ogg", "flac", "wav", "mp3", "aac", "webm", "ts", "wv"]
JOINED += ["m4a", "mov", "aiff", "caf", "au", "tta", "flv", "wma"]  # of which ffmpeg alone reads the first only


@pytest.mark.parametrize("suffix", JOINED)
def test_joined_recordings_are_read_to_their_end(tmp_path, suffix):
    first, second, joined = (tmp_path / f"{name}.{suffix}" for name in ("a", "b", "joined"))
    rate = ("-ar", "44100") if suffix == "flv" else ()
    run_ffmpeg("-i", save(tmp_path / "a.wav.wav", mixture(2.0)), *rate, first)
    run_ffmpeg("-i", save(tmp_path / "b.wav.wav", mixture(3.0)), *rate, second)
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    samples, error = collect(joined)
    assert error is None
    assert len(samples) == pytest.approx(len(read(first)) + len(read(second)), abs=0.25 * SAMPLE_RATE)
    assert np.abs(samples[-SAMPLE_RATE:]).max() > 0.05
    same = first.read_bytes() * 2
    joined.write_bytes(same)
    assert len(collect(joined)[0]) == pytest.approx(2 * len(read(first)), abs=0.25 * SAMPLE_RATE)


def test_joined_wavpack_is_read_to_its_end_with_tags_or_without_and_in_another_rate(tmp_path):
    tagged, plain, other = (tmp_path / f"{name}.wv" for name in ("tagged", "plain", "other"))
    run_ffmpeg("-i", save(tmp_path / "a.wav", mixture(3.3)), tagged)
    run_ffmpeg("-i", tmp_path / "a.wav", "-map_metadata", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact", plain)
    run_ffmpeg("-i", tmp_path / "a.wav", "-ar", "44100", "-ac", "2", other)
    for parts in ([plain, plain], [tagged, plain, other], [other, plain, plain, tagged]):
        joined = tmp_path / "joined.wv"
        joined.write_bytes(b"".join(part.read_bytes() for part in parts))
        samples, error = collect(joined)
        assert error is None
        assert len(samples) == pytest.approx(3.3 * len(parts) * SAMPLE_RATE, abs=800)
        end, wanted = samples[-SAMPLE_RATE:-800], mixture(3.3)[-SAMPLE_RATE:-800]
        np.testing.assert_allclose(end / end.max(), wanted / wanted.max(), atol=0.01)


@pytest.mark.parametrize("suffix", ["flac", "mp3", "ogg", "opus", "aac", "webm", "mkv", "m4a"])
def test_joined_recordings_of_another_rate_are_read_to_their_end(tmp_path, suffix):
    parts = [tmp_path / f"{name}.{suffix}" for name in ("a", "b")]
    codec = ("-c:a", "flac") if suffix == "mkv" else ()
    run_ffmpeg("-i", save(tmp_path / "a.wav", mixture(6.0)), *codec, parts[0])
    run_ffmpeg("-i", save(tmp_path / "b.wav", mixture(3.0, 48000, channels=2), 48000), *codec, parts[1])
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(b"".join(part.read_bytes() for part in [*parts, parts[0]]))
    samples, error = collect(joined)
    assert error is None
    assert len(samples) == pytest.approx(15 * SAMPLE_RATE, abs=0.5 * SAMPLE_RATE)


@pytest.mark.parametrize("codecs", [("libopus", "libvorbis"), ("libvorbis", "libopus"), ("libspeex", "flac")])
def test_joined_ogg_files_of_several_codecs_are_read_to_their_end(tmp_path, codecs):
    for codec in codecs:
        run_ffmpeg("-i", save(tmp_path / "a.wav", mixture(3.0)), "-c:a", codec, tmp_path / f"{codec}.ogg")
    joined = tmp_path / "joined.ogg"
    joined.write_bytes(b"".join((tmp_path / f"{codec}.ogg").read_bytes() for codec in codecs))
    samples, error = collect(joined)
    assert error is None
    assert len(samples) == pytest.approx(6 * SAMPLE_RATE, abs=0.25 * SAMPLE_RATE)


def test_joined_vorbis_of_several_rates_is_not_truncated(tmp_path):
    for rate in (16_000, 44_100):
        run_ffmpeg("-i", save(tmp_path / "a.wav", mixture(5.0, rate), rate), tmp_path / f"{rate}.ogg")
    joined = tmp_path / "joined.ogg"
    joined.write_bytes((tmp_path / "16000.ogg").read_bytes() + (tmp_path / "44100.ogg").read_bytes())
    samples, error = collect(joined)
    assert error is None
    assert len(samples) == pytest.approx(10 * SAMPLE_RATE, abs=0.25 * SAMPLE_RATE)


@pytest.mark.parametrize(("first", "second"), [("flac", "wav"), ("flac", "mp3"), ("opus", "mp3"), ("ogg", "flac")])
def test_a_recording_of_another_format_behind_the_first_is_said(tmp_path, first, second):
    for suffix in (first, second):
        run_ffmpeg("-i", save(tmp_path / "a.aiff", mixture(5.0)), tmp_path / f"a.{suffix}")
    joined = tmp_path / f"joined.{first}"
    joined.write_bytes((tmp_path / f"a.{first}").read_bytes() + (tmp_path / f"a.{second}").read_bytes())
    samples, error = collect(joined)
    assert len(samples) == pytest.approx(5 * SAMPLE_RATE, abs=0.1 * SAMPLE_RATE)
    assert_one_line(error, f"joined.{first}: has more audio")
    joined.write_bytes((tmp_path / f"a.{first}").read_bytes() + b"TAG".ljust(128, b"?"))
    assert collect(joined)[1] is None


def test_samples_that_are_no_numbers_are_said(tmp_path, caplog):
    samples = mixture(2.0)
    samples[::1000] = np.nan
    assert collect(save(tmp_path / "few.wav", samples, subtype="FLOAT"))[1] is None
    assert not caplog.records
    samples[::4] = np.inf
    assert np.isfinite(read(save(tmp_path / "many.wav", samples, subtype="FLOAT"))).all()
    said = f"{tmp_path}/many.wav: 25% of its samples are no numbers or too large; check their format"
    assert [record.getMessage() for record in caplog.records] == [said]


def test_an_mp3_of_a_variable_bit_rate_without_a_length_is_whole(tmp_path):
    samples = mixture(20.0) * np.repeat([1, 0], 10 * SAMPLE_RATE).astype(np.float32)
    run_ffmpeg("-i", save(tmp_path / "a.wav", samples), "-q:a", "4", "-write_xing", "0", tmp_path / "a.mp3")
    assert len(read(tmp_path / "a.mp3")) == pytest.approx(20 * SAMPLE_RATE, abs=0.2 * SAMPLE_RATE)


def test_joined_wav_files_of_other_rates_channels_and_bits_are_read_each_as_it_is(tmp_path):
    parts = [save(tmp_path / "a.wav", mixture(2.0), subtype="PCM_24"), save(tmp_path / "b.wav", mixture(2.0))]
    parts.append(save(tmp_path / "c.wav", mixture(2.0, 44100, channels=2), 44100, subtype="DOUBLE"))
    run_ffmpeg("-i", parts[1], "-c:a", "adpcm_ms", tmp_path / "d.wav")
    joined = tmp_path / "joined.wav"
    joined.write_bytes(b"".join(part.read_bytes() for part in [*parts, tmp_path / "d.wav", parts[0]]))
    samples, error = collect(joined)
    assert error is None
    assert len(samples) == pytest.approx(10 * SAMPLE_RATE, abs=0.1 * SAMPLE_RATE)
    np.testing.assert_allclose(samples[-SAMPLE_RATE:-800], mixture(2.0)[-SAMPLE_RATE:-800], atol=1e-3)


@pytest.mark.parametrize(
    ("seconds", "declared"),
    [(1.0, 0), (5.0, 0), (5.0, 2_000_000_000), (5.0, 32_000), (1.5, 32_000)],
    ids=["none, short", "none", "two billion", "1 s of 5", "1 s of 1.5"],
)
def test_a_wav_is_read_to_its_end_whatever_length_its_header_says(tmp_path, seconds, declared):
    run_ffmpeg("-version")
    path = save(tmp_path / "talk.wav", mixture(seconds))
    content = bytearray(path.read_bytes())
    content[40:44] = declared.to_bytes(4, "little")
    content[4:8] = (declared + 36).to_bytes(4, "little")
    path.write_bytes(content)
    samples, error = collect(path)
    assert error is None
    np.testing.assert_allclose(samples, mixture(seconds), atol=1e-4)


def test_a_caf_without_a_length_is_whole(tmp_path):
    path = tmp_path / "talk.caf"
    run_ffmpeg("-i", save(tmp_path / "talk.wav", mixture(5.0)), path)
    content = bytearray(path.read_bytes())
    place = content.find(b"data") + 4
    for size in (0, 4):
        content[place : place + 8] = size.to_bytes(8, "big")
        path.write_bytes(content)
        samples, error = collect(path)
        assert error is None
        assert len(samples) == 5 * SAMPLE_RATE


def test_what_follows_the_data_of_a_wav_is_no_audio_if_it_is_a_chunk(tmp_path):
    path = save(tmp_path / "talk.wav", mixture(1.0))
    path.write_bytes(path.read_bytes() + b"LIST\x04\0\0\0INFO" + b"id3 \x03\0\0\0abc\0")
    assert len(read(path)) == SAMPLE_RATE


@pytest.mark.parametrize("suffix", ["m4a", "caf", "rf64"])
def test_a_chunk_of_an_impossible_length_is_no_crash(tmp_path, suffix):
    path = tmp_path / f"talk.{suffix}"
    options = ("-rf64", "always", "-f", "wav") if suffix == "rf64" else ()
    run_ffmpeg("-i", save(tmp_path / "talk.wav", mixture(2.0)), *options, path)
    content = bytearray(path.read_bytes())
    if suffix == "m4a":  # another box, of 2⁶³ bytes
        content += (1).to_bytes(4, "big") + b"free" + (2**63).to_bytes(8, "big")
    else:
        place = 28 if suffix == "rf64" else content.find(b"data") + 4
        content[place : place + 8] = (2**63 - 1).to_bytes(8, "little" if suffix == "rf64" else "big")
    path.write_bytes(content)
    samples, error = collect(path)
    assert error is not None or len(samples) > SAMPLE_RATE


@pytest.mark.parametrize("declared", [0, 32_000])
def test_a_header_with_nothing_behind_it_is_one_line(tmp_path, declared):
    path = save(tmp_path / "talk.wav", mixture(1.0))
    path.write_bytes(path.read_bytes()[:40] + declared.to_bytes(4, "little"))
    assert_one_line(collect(path)[1], "talk.wav: ")


def declare(path: Path, suffix: str) -> None:
    """Write into the header of a recording that it lasts a second (32,000 bytes)."""
    content = bytearray(path.read_bytes())
    little, big = (32_000).to_bytes(4, "little"), (32_000).to_bytes(4, "big")
    if suffix == "flac":  # 36 bits of samples in STREAMINFO
        content[22:26] = (16_000).to_bytes(4, "big")
    elif suffix == "mp3":  # 36 ms a frame
        start = content.find(b"Info") + 8
        content[start : start + 4] = (28).to_bytes(4, "big")
    else:
        place = {"au": 8, "rf64": 28, "aiff": content.find(b"SSND") + 4, "caf": content.find(b"data") + 8}[suffix]
        content[place : place + 4] = little if suffix == "rf64" else big
    path.write_bytes(content)


@pytest.mark.parametrize("suffix", ["flac", "mp3", "au", "rf64", "aiff", "caf"])
def test_a_header_that_says_one_second_of_five_does_not_hide_the_rest(tmp_path, suffix):
    path = tmp_path / f"talk.{suffix}"
    options = ("-rf64", "always", "-f", "wav") if suffix == "rf64" else ()
    run_ffmpeg("-i", save(tmp_path / "talk.wav", mixture(5.0)), *options, path)
    whole = read(path)
    declare(path, suffix)
    samples, error = collect(path)
    assert error is None
    assert len(samples) == pytest.approx(len(whole), abs=800)
    np.testing.assert_allclose(samples[: SAMPLE_RATE // 2], whole[: SAMPLE_RATE // 2], atol=1e-3)
    assert np.abs(samples[-SAMPLE_RATE:]).max() > 0.05


@pytest.mark.parametrize("suffix", ["mp3", "wv", "mkv", "flac"])
def test_what_follows_damage_is_read_and_the_damage_is_said(tmp_path, suffix):
    path = tmp_path / f"talk.{suffix}"
    run_ffmpeg("-i", save(tmp_path / "talk.wav", mixture(20.0)), *(["-c:a", "flac"] * (suffix == "mkv")), path)
    whole, content = read(path), bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(content)
    samples, error = collect(path)
    assert_one_line(error, f"talk.{suffix}: truncated or damaged")
    assert len(samples) > 19 * SAMPLE_RATE
    np.testing.assert_allclose(samples[: 8 * SAMPLE_RATE], whole[: 8 * SAMPLE_RATE], atol=1e-3)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mkv", "libopus"), ("webm", "libopus"), ("mkv", "aac"), ("wma", "wmav2")]
)
@pytest.mark.parametrize("damage", [bytes(400), b""], ids=["overwritten", "gone"])
def test_damage_that_a_demuxer_passes_over_is_said(tmp_path, suffix, codec, damage):
    path = tmp_path / f"talk.{suffix}"
    run_ffmpeg("-i", save(tmp_path / "talk.wav", mixture(20.0)), "-c:a", codec, path)
    assert collect(path)[1] is None
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + damage + content[middle + 400 :])
    assert_one_line(collect(path)[1], f"talk.{suffix}: truncated or damaged")


@pytest.mark.parametrize("codec", ["aac", "mp2", "ac3"])
@pytest.mark.parametrize("damage", [b"", b"?" * 376], ids=["lost", "overwritten"])
def test_packets_that_a_transport_stream_lost_are_said(tmp_path, codec, damage):
    path = tmp_path / "talk.ts"
    run_ffmpeg("-i", save(tmp_path / "talk.wav", mixture(10.0, 48000), 48000), "-c:a", codec, path)
    assert collect(path)[1] is None
    content = path.read_bytes()
    packets = [place for place in range(0, len(content), 188) if content[place + 1] & 0x5F == 1]  # of audio, not first
    lost = packets[len(packets) // 2]
    lost += 188 * (content[lost + 188 + 1] & 0x40 > 0)
    path.write_bytes(content[:lost] + damage + content[lost + 376 :])
    assert_one_line(collect(path)[1], "talk.ts: truncated or damaged")


def test_a_transport_stream_that_begins_and_ends_anywhere_is_no_damage(tmp_path):
    path = tmp_path / "talk.ts"
    talk = save(tmp_path / "talk.wav", mixture(10.0, 48000), 48000)
    run_ffmpeg("-i", talk, "-i", talk, "-map", "0:a", "-map", "1:a", "-c:a", "mp2", path)
    content = path.read_bytes()
    for packets in range(700, 712):
        path.write_bytes(content[: packets * 188])
        samples, error = collect(path)
        assert error is None
        assert len(samples) > SAMPLE_RATE


def test_packets_of_other_tracks_that_a_transport_stream_lost_are_no_damage():
    said = """[mpegts @ 0x1] [warning] Packet corrupt (stream = 0, dts = 302888).
[mpegts @ 0x1] [warning] Packet corrupt (stream = 1, dts = 276480).
[mpegts @ 0x1] [warning] Packet corrupt (stream = 2, dts = 276480).
[mpegts @ 0x1] [warning] Packet corrupt (stream = 1, dts = 286480).
[info]   Stream #0:0[0x100]: Video: mpeg2video (Main), yuv420p
[info]   Stream #0:1[0x101](eng): Audio: mp2, 44100 Hz, mono, fltp, 384 kb/s
[info]   Stream #0:2[0x102](deu): Audio: mp2, 44100 Hz, mono, fltp, 384 kb/s
[info] Stream mapping:
[info]   Stream #0:1 -> #0:0 (mp2 (mp2float) -> pcm_f32be (native))
[info]   Stream #0:0: Audio: pcm_f32be, 44100 Hz, mono, flt
"""
    lost = ["Packet corrupt (stream = 1, dts = 276480).", "Packet corrupt (stream = 1, dts = 286480)."]
    assert complaints(said) == lost
    assert complaints("[info]   Duration: N/A, start: 1.0\n" + said, 2.65) == lost[:1]  # the other one is the last
    assert complaints(said.replace("#0:1 ->", "#0:2 ->")) == ["Packet corrupt (stream = 2, dts = 276480)."]


@pytest.mark.parametrize("place", [0.2, 0.5, 0.65, 0.8])
@pytest.mark.parametrize(("suffix", "codec"), [("mka", "flac"), ("mkv", "ac3")])
def test_a_wrong_checksum_in_a_container_is_said(tmp_path, suffix, codec, place):
    path = tmp_path / f"talk.{suffix}"
    run_ffmpeg("-i", save(tmp_path / "talk.wav", mixture(10.0, 48000), 48000), "-c:a", codec, path)
    assert collect(path)[1] is None
    content = bytearray(path.read_bytes())
    middle = round(place * len(content))
    content[middle : middle + 30] = np.random.default_rng(1).bytes(30)
    path.write_bytes(content)
    assert_one_line(collect(path)[1], f"talk.{suffix}: truncated or damaged")


HEALTHY = {
    "ts": ("mpeg2video", "mp2"), "m2ts": ("mpeg2video", "ac3"), "mpg": ("mpeg2video", "mp2"),
    "vob": ("mpeg2video", "ac3"),
    "mkv": ("mpeg4", "flac"), "mp4": ("mpeg4", "aac"), "mov": ("mpeg4", "alac"), "webm": ("libvpx", "libopus"),
    "avi": ("mpeg4", "libmp3lame"), "wmv": ("wmv2", "wmav2"), "flv": ("flv", "libmp3lame"), "3gp": ("mpeg4", "aac"),
    "nut": ("mpeg4", "libvorbis"), "wtv": ("mpeg2video", "ac3"), "ogv": ("libtheora", "libvorbis"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", HEALTHY)
def test_whole_videos_are_no_damage_alone_or_joined(tmp_path, suffix):
    video, audio = HEALTHY[suffix]
    talk, path = save(tmp_path / "talk.wav", mixture(5.0, 44100), 44100), tmp_path / f"film.{suffix}"
    picture = ("-f", "lavfi", "-i", "testsrc=d=8:s=176x144:r=25")
    run_ffmpeg(*picture, "-i", talk, "-c:v", video, "-c:a", audio, "-ar", "48000", path)
    assert collect(path)[1] is None
    if suffix in ("ts", "m2ts", "mpg"):
        path.write_bytes(2 * path.read_bytes())
        assert collect(path)[1] is None


def test_complaints_about_pictures_and_tags_are_no_damage():
    said = """[info]   Stream #0:0: Video: h264 (High), yuv420p, 128x96
[info]   Stream #0:1(eng): Audio: aac (LC), 16000 Hz, mono, fltp (default)
[info]     Metadata:
[info]       title           : Talk
[h264 @ 0x1] [error] non-existing PPS 0 referenced
[mp3 @ 0x2] [error] Incorrect BOM value
[aac @ 0x3] [error] Reserved bit set.
[fatal] Stream map '0:a:3' matches no streams.
"""
    assert complaints(said) == ["Reserved bit set.", "Stream map '0:a:3' matches no streams."]
    assert tracks(said) == (["eng Talk aac mono"], None)


@pytest.mark.parametrize("suffix", ["opus", "ogg", "oga", "spx"])
@pytest.mark.parametrize("damage", [b"?" * 400, b""], ids=["overwritten", "gone"])
def test_what_follows_damage_in_an_ogg_file_is_read_at_its_time(tmp_path, suffix, damage):
    path = tmp_path / f"talk.{suffix}"
    run_ffmpeg("-i", save(tmp_path / "talk.wav", mixture(20.0)), path)
    whole, content = read(path), path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + damage + content[middle + 400 :])
    samples, error = collect(path)
    assert_one_line(error, f"talk.{suffix}: truncated or damaged")
    assert len(samples) == pytest.approx(len(whole), abs=800)
    np.testing.assert_allclose(
        samples[-5 * SAMPLE_RATE : -800], whole[-5 * SAMPLE_RATE : -800][: len(samples)], atol=0.02
    )


def test_a_timestamp_beyond_the_end_is_damage_and_no_silence(tmp_path):
    path = tmp_path / "talk.mkv"
    run_ffmpeg("-i", save(tmp_path / "talk.wav", mixture(20.0)), "-c:a", "flac", path)
    content = bytearray(path.read_bytes())
    clusters = [match.end() for match in re.finditer(rb"\x1f\x43\xb6\x75.{1,16}?\xe7\x82", content, re.S)]
    content[clusters[0] : clusters[0] + 2] = b"\xff\xff"  # 65.5 s
    path.write_bytes(content)
    samples, _ = collect(path)
    assert len(samples) == pytest.approx(20 * SAMPLE_RATE, abs=0.2 * SAMPLE_RATE)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\n<!DOCTYPE html><html><head><title>404</title>", "holds a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n", "holds a pointer of Git LFS"),
        (bytes(50_000), "holds only zero bytes"),
        (b"", "empty file"),
    ],
)
@pytest.mark.parametrize("suffix", ["mp3", "flac", "wav", "m4a.part", "crdownload"])
def test_what_a_download_left_is_named(tmp_path, content, problem, suffix):
    path = tmp_path / f"talk.{suffix}"
    path.write_bytes(content)
    assert_one_line(collect(path)[1], f"talk.{suffix}: {problem}")


CUT = [*((suffix, "truncated") for suffix in ("caf", "wv", "rf64", "sph", "voc", "avi", "flv", "ogg", "opus", "spx"))]


@pytest.mark.parametrize(("suffix", "word"), [*CUT, ("m4a", "unfinished")])
def test_files_cut_short_are_named_for_what_they_are(tmp_path, suffix, word):
    path, source = tmp_path / f"talk.{suffix}", save(tmp_path / "talk.wav", mixture(20.0))
    if suffix == "sph":
        samples = (mixture(20.0) * 32767).astype("<i2")
        fields = f"sample_count -i {len(samples)}\nsample_n_bytes -i 2\nchannel_count -i 1\nsample_byte_format -s2 01\n"
        head = f"NIST_1A\n   1024\n{fields}sample_rate -i {SAMPLE_RATE}\nsample_coding -s3 pcm\nend_head\n"
        path.write_bytes(head.encode().ljust(1024) + samples.tobytes())
    else:
        options = {"rf64": ("-rf64", "always", "-f", "wav"), "flv": ("-ar", "22050", "-c:a", "libmp3lame")}
        run_ffmpeg("-i", source, *options.get(suffix, ()), path)
    whole = path.read_bytes()
    for share in (0.6, 0.02):
        path.write_bytes(whole[: round(share * len(whole))])
        samples, error = collect(path)
        assert_one_line(error, f"talk.{suffix}: {word}")
        assert len(samples) < 20 * SAMPLE_RATE
    path.write_bytes(whole)
    assert collect(path)[1] is None
    assert duration(path) == pytest.approx(20, abs=0.1)


FRAMES = {"mp2": (), "ac3": (), "eac3": (), "dts": ("-strict", "-2", "-c:a", "dca"), "mp3": ("-write_xing", "0")}
PROGRAMS = {"vob": ("-ar", "48000"), "mpg": ("-ar", "44100"), "m2ts": ()}


@pytest.mark.parametrize(("suffix", "options"), [*FRAMES.items(), *PROGRAMS.items()])
def test_recordings_without_a_length_are_cut_short_where_a_frame_is(tmp_path, suffix, options):
    path = tmp_path / f"talk.{suffix}"
    run_ffmpeg("-i", save(tmp_path / "talk.wav", mixture(20.0)), *options, path)
    whole = path.read_bytes()
    for share in (0.613, 0.387, 0.0513):
        path.write_bytes(whole[: round(share * len(whole))])
        samples, error = collect(path)
        assert_one_line(error, f"talk.{suffix}: truncated")
        assert len(samples) == pytest.approx(share * 20 * SAMPLE_RATE, abs=0.5 * SAMPLE_RATE)
    for tag in (b"", b"TAG".ljust(128, b"?") * (suffix in ("mp2", "mp3"))):
        path.write_bytes(whole + tag)
        assert collect(path)[1] is None


# Folders


def test_videos_are_found_and_typescript_is_not(tmp_path):
    run_ffmpeg("-i", save(tmp_path / "talk.wav", mixture(1.0)), tmp_path / "film.ts")
    (tmp_path / "program.ts").write_text("Good: const a = 1;\n" * 20)
    for name in ("a.mts", "b.M2TS", "c.vob", "d.3g2"):
        (tmp_path / name).write_bytes(b"?")
    assert [path.name for path in find_audio(tmp_path)] == ["a.mts", "b.M2TS", "c.vob", "d.3g2", "film.ts", "talk.wav"]


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("qt", ("-f", "mov")), ("mpe", ("-f", "mpeg", "-ar", "44100")), ("mp1", ("-f", "mp2")), ("f4a", ("-f", "mp4")),
        ("bwf", ("-f", "wav")), ("nut", ()), ("wtv", ("-c:a", "ac3")), ("tod", ("-f", "mpegts")),
    ],
)  # fmt: skip
def test_further_names_of_recordings_are_found_and_read(tmp_path, suffix, options):
    path = tmp_path / f"talk.{suffix}"
    (tmp_path / "source").mkdir()
    run_ffmpeg("-i", save(tmp_path / "source/talk.wav", mixture(2.0)), *options, path)
    assert path in find_audio(tmp_path)
    assert len(read(path)) == pytest.approx(2 * SAMPLE_RATE, abs=0.1 * SAMPLE_RATE)


def test_folders_that_cannot_be_read_are_told(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    talk = save(tmp_path / "talk.wav", mixture(0.1))
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr("os.scandir", refuse)
    problems: list[AudioError] = []
    assert find_audio(tmp_path, problems.append) == [talk]
    assert [str(problem).split(":")[0] for problem in problems] == [str(tmp_path / "closed")]


def test_blocks_of_a_late_track_do_not_depend_on_their_size(tmp_path):
    path = film(tmp_path / "late.mkv", save(tmp_path / "talk.wav", mixture(2.0)), delay=1.0)
    np.testing.assert_array_equal(np.concatenate([*read_blocks(path, 0.37)]), read(path))


def test_int16_of_a_part_of_samples():
    samples = (mixture(2.0) * 32767).astype(np.int16)
    part = read(Excerpt(samples, start=0.5, end=1.0), SAMPLE_RATE)
    np.testing.assert_array_equal(part, read(samples, SAMPLE_RATE)[SAMPLE_RATE // 2 : SAMPLE_RATE])
