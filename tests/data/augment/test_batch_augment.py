"""The augmentation of a batch gives, to rounding, the samples of a reference that changes single utterances."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from utterance_augment import UtteranceAugment, encode_decode, reverberate, through_libsndfile

from asr.audio.sources import read
from asr.data.augment import batch as batch_module
from asr.data.augment import filters
from asr.data.augment.batch import SLOPES, BatchAugment, change_rate, draw_gain, is_noise_alone
from asr.data.augment.filters import TELEPHONE_RATE, resample, stretch
from asr.data.augment.room import simulate
from asr.data.config import CODECS, AugmentConfig
from asr.data.manifest import Entry
from asr.errors import RecipeError
from asr.nn.frontend import SAMPLE_RATE

FULL_SCALE = 32768  # of int16
ROOMS = torch.randn(5, 4000, generator=torch.manual_seed(3)) * torch.exp(-torch.arange(4000) / 500)
ROOMS[:, 0] = 4.0  # the direct sound
EVERYTHING = {
    "rooms": ["simulated"],
    "noises": ["white", "pink", "brown", "babble", "noise.jsonl"],
    "codecs": list(CODECS),
    "room_share": 0.6,
    "noise_share": 0.6,
    "codec_share": 0.6,
}


def some_sound(samples: int, seed: int = 1) -> np.ndarray:
    """Noise that swells and fades, as speech does, int16."""
    swell = 0.1 + np.sin(np.arange(samples) / 2_000) ** 2
    return (3000 * swell * np.random.default_rng(seed).standard_normal(samples)).astype(np.int16)


def to_float(samples: np.ndarray) -> np.ndarray:
    return samples.astype(np.float32) / FULL_SCALE


def pad(sounds: Sequence[np.ndarray]) -> tuple[Tensor, list[int]]:
    """float32 (n,) each → (B, N) and the lengths."""
    return pad_sequence([torch.from_numpy(sound) for sound in sounds], batch_first=True), [len(s) for s in sounds]


def recordings_of(manifest: str, recordings: dict[Path, np.ndarray]) -> dict[str, list[np.ndarray]]:
    found = [to_float(samples) for samples in recordings.values()]
    return {"babble": found, manifest: found}


def names_of(count: int, epoch: int = 1) -> list[str]:
    return [f"utt{index}@1.{epoch}" for index in range(count)]


def ratio_db(expected: np.ndarray, found: np.ndarray) -> float:
    """Power of the expected samples over that of the difference."""
    difference = expected.astype(np.float64) - found
    return 10 * np.log10(np.sum(np.square(expected, dtype=np.float64)) / (np.sum(difference**2) + 1e-30))


def quiet(**changes: object) -> AugmentConfig:
    """The changes named, to all utterances, and none of the volume."""
    shares = {"room_share": 1.0, "noise_share": 1.0, "codec_share": 1.0}
    return AugmentConfig(**{"gain_db": [0.0, 0.0], **shares, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def sounds() -> list[np.ndarray]:
    """Utterances of different lengths."""
    return [to_float(some_sound(9_000 + 1_111 * index, index)) for index in range(12)]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, np.ndarray]:
    """Files of 16 bits, some longer and some shorter than the utterances."""
    folder = tmp_path_factory.mktemp("recordings")
    found = {folder / f"{index}.wav": some_sound(400 + 7_000 * index, 50 + index) for index in range(6)}
    for path, samples in found.items():
        soundfile.write(path, samples, SAMPLE_RATE)
    return found


@pytest.fixture(scope="module")
def manifest(recordings: dict[Path, np.ndarray]) -> str:
    path = next(iter(recordings)).parent / "noise.jsonl"
    path.write_text("".join(f'{{"audio": "{name}", "text": ""}}\n' for name in recordings))
    return str(path)


@pytest.fixture(scope="module")
def voices(recordings: dict[Path, np.ndarray]) -> list[Tensor]:
    return [torch.from_numpy(samples) for samples in recordings.values()]


@pytest.fixture(scope="module")
def everything(voices: list[Tensor]) -> BatchAugment:
    return BatchAugment(AugmentConfig(**EVERYTHING), voices, {"noise.jsonl": voices}, ROOMS)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def speech(recorded_entries: list[Entry]) -> list[np.ndarray]:
    return [read(entry.audio) for entry in recorded_entries[:6]]


def test_the_volume_is_that_of_a_single_utterance(sounds: list[np.ndarray]):
    waveforms, lengths = pad(sounds)
    config = AugmentConfig(gain_db=[-20.0, 6.0])
    one = UtteranceAugment(config, {})
    changed = BatchAugment(config, [], {}, None)(waveforms, lengths, names_of(12))
    for name, sound, row in zip(names_of(12), sounds, changed, strict=True):
        np.testing.assert_allclose(row[: len(sound)], one(sound, name), rtol=1e-6)


def test_one_number_of_decibels_is_both_ways():
    gains = [20 * np.log10(draw_gain([-40.0, 6.0], str(number))) for number in range(200)]
    assert -40 <= min(gains) < -35
    assert 3 < max(gains) <= 6


@pytest.mark.parametrize("source", ["babble", "recorded"])
def test_noise_of_recordings_is_that_of_a_single_utterance(
    source: str, sounds: list[np.ndarray], recordings: dict[Path, np.ndarray], voices: list[Tensor], manifest: str
):
    config = quiet(noises=["babble" if source == "babble" else manifest], snr_db=[0.0, 20.0])
    one = UtteranceAugment(config, recordings_of(manifest, recordings))
    waveforms, lengths = pad(sounds)
    changed = BatchAugment(config, voices, {manifest: voices}, None)(waveforms, lengths, names_of(12))
    for name, sound, row in zip(names_of(12), sounds, changed, strict=True):
        expected = one(sound, name)
        assert not np.array_equal(expected, sound)
        assert ratio_db(expected, row[: len(sound)].numpy()) > 110


def test_everything_but_rooms_and_colored_noise_is_that_of_a_single_utterance(
    sounds: list[np.ndarray], recordings: dict[Path, np.ndarray], voices: list[Tensor], manifest: str
):
    config = AugmentConfig(noises=["babble", manifest], codecs=["telephone"], noise_share=0.5, codec_share=0.5)
    one = UtteranceAugment(config, recordings_of(manifest, recordings))
    waveforms, lengths = pad(sounds)
    changed = BatchAugment(config, voices, {manifest: voices}, None)(waveforms, lengths, names_of(12))
    inside = slice(1_000, -1_000)  # see the test of the telephone
    for name, sound, row in zip(names_of(12), sounds, changed, strict=True):
        assert ratio_db(one(sound, name)[inside], row[: len(sound)].numpy()[inside]) > 100


@given(low=st.floats(-10, 40), width=st.floats(0, 20), seed=st.integers(0, 1000), loudness=st.floats(1e-3, 10))
@settings(max_examples=20)
@pytest.mark.parametrize("source", [*SLOPES, "babble"])
def test_noise_is_at_the_ratio_drawn(
    sounds: list[np.ndarray], voices: list[Tensor], source: str, low: float, width: float, seed: int, loudness: float
):
    waveforms, lengths = pad([sound * np.float32(loudness) for sound in sounds[:3]])
    augment = BatchAugment(quiet(noises=[source], snr_db=[low, low + width]), voices, {}, None)
    names = names_of(3, seed)
    noise = augment(waveforms, lengths, names).double() - waveforms
    for name, row, added, length in zip(names, waveforms.double(), noise, lengths, strict=True):
        draw = random.Random(f"noise {name}")
        draw.random(), draw.choice([source])
        found = 10 * torch.log10(row.square().sum() / added.square().sum())
        assert found.item() == pytest.approx(draw.uniform(low, low + width), abs=0.01)
        assert not added[length:].any()


def test_noise_alone_takes_the_place_of_the_speech(sounds: list[np.ndarray], voices: list[Tensor]):
    """As loud as the speech, without any of it; babble, which is speech, is only added."""
    waveforms, lengths = pad(sounds)
    config = quiet(noises=["white", "babble", "noise.jsonl"], snr_db=[20.0, 20.0], noise_alone=0.5)
    names = names_of(12, epoch=2)
    augment = BatchAugment(config, voices, {"noise.jsonl": voices}, None)
    changed, others = augment(waveforms, lengths, names), names_of(12, epoch=3)
    other = augment(waveforms, lengths, others)
    alone = [is_noise_alone(config, name) for name in names]
    assert 2 <= sum(alone) <= 8
    for one, before, after, length in zip(alone, waveforms, changed, lengths, strict=True):
        likeness = float(torch.nn.functional.cosine_similarity(before, after, dim=0))
        assert abs(likeness) < 0.1 if one else likeness > 0.98
        if one:
            assert float(after.norm()) == pytest.approx(float(before.norm()), rel=1e-3)
            assert not after[length:].any()
    assert [is_noise_alone(config, name) for name in others] != alone
    assert not torch.equal(other, changed)
    assert not any(is_noise_alone(replace(config, noise_alone=0.0), name) for name in names)
    assert not any(is_noise_alone(replace(config, noises=["babble"]), name) for name in names)


@pytest.mark.parametrize(("colour", "per_octave"), [("white", 0.0), ("pink", -3.0), ("brown", -6.0)])
def test_colored_noise_falls_by_so_many_db_an_octave(colour: str, per_octave: float):
    waveforms, lengths = pad([to_float(some_sound(samples)) for samples in (160_000, 150_000)])
    augment = BatchAugment(quiet(noises=[colour], snr_db=[-20.0, -20.0]), [], {}, None)
    noise = (augment(waveforms, lengths, names_of(2)) - waveforms)[0]
    spectrum = torch.fft.rfft(noise).abs().square()
    hertz = torch.fft.rfftfreq(len(noise), 1 / SAMPLE_RATE)
    octaves = [(hertz >= low) & (hertz < 2 * low) for low in (125, 250, 500, 1000, 2000, 4000)]
    levels = [10 * torch.log10(spectrum[octave].mean()).item() for octave in octaves]
    assert np.diff(levels) == pytest.approx(per_octave, abs=0.5)


def test_colored_noise_has_nothing_slower_than_the_utterance():
    samples = filters.fast_length(160_000)  # nothing is cut off, which would leak into other frequencies
    slow = filters.colored([samples // 8], [1.0], samples, torch.Generator().manual_seed(1))[0]
    spectrum = torch.fft.rfft(slow).abs()
    assert not (spectrum[:8] > 1e-3 * spectrum.max()).any()
    assert spectrum[8:12].min() > 1e-3 * spectrum.max()


def test_silent_and_empty_recordings_add_nothing(sounds: list[np.ndarray]):
    waveforms, lengths = pad(sounds)
    nothing = [torch.zeros(0, dtype=torch.int16), torch.zeros(5_000, dtype=torch.int16)]
    augment = BatchAugment(quiet(noises=["babble", "noise.jsonl"]), nothing, {"noise.jsonl": nothing}, None)
    assert torch.equal(augment(waveforms, lengths, names_of(12)), waveforms)


def test_a_room_is_the_convolution_of_a_single_utterance(sounds: list[np.ndarray]):
    waveforms, lengths = pad(sounds)
    changed = BatchAugment(quiet(rooms=["simulated"]), [], {}, ROOMS)(waveforms, lengths, names_of(12))
    for name, sound, row in zip(names_of(12), sounds, changed, strict=True):
        draw = random.Random(f"room {name}")
        draw.random()
        expected = reverberate(sound, ROOMS[draw.randrange(len(ROOMS))].numpy())
        np.testing.assert_allclose(row[: len(sound)], expected, atol=1e-4 * np.abs(expected).max())


def test_a_silent_response_changes_nothing(sounds: list[np.ndarray]):
    waveforms, lengths = pad(sounds)
    augment = BatchAugment(quiet(rooms=["simulated"]), [], {}, torch.zeros(1, 100))
    assert torch.equal(augment(waveforms, lengths, names_of(12)), waveforms)


@pytest.mark.parametrize(("codec", "least_db"), [("telephone", 110), ("telephone-mu-law", 35)])
def test_the_telephone_is_that_of_a_single_utterance(speech: list[np.ndarray], codec: str, least_db: float):
    """Where a rounding error changes a code of µ-law, the difference is its step: 38 dB or more below the speech.

    At both ends, `sosfiltfilt` cuts off the response of its first pass: there the two differ.
    """
    for loudness in (0.05, 1.0, 20.0):
        sounds = [sound * np.float32(loudness) for sound in speech]
        waveforms, lengths = pad(sounds)
        changed = BatchAugment(quiet(codecs=[codec]), [], {}, None)(waveforms, lengths, names_of(len(sounds)))
        for sound, row in zip(sounds, changed, strict=True):
            expected, found = encode_decode(sound, codec), row[: len(sound)].numpy()
            assert ratio_db(expected[800:-800], found[800:-800]) > least_db
            assert ratio_db(expected, found) > 35


def test_mu_law_is_that_of_libsndfile_bit_for_bit():
    line = np.linspace(-3, 3, 100_001).astype(np.float32)
    for scale in (0.001, 0.3, 1.0):
        expected = through_libsndfile(line * np.float32(scale), TELEPHONE_RATE, "WAV", "ULAW", None)
        found = filters._mu_law(torch.from_numpy(line * np.float32(scale)).unsqueeze(0))[0]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@given(st.lists(st.integers(0, 4_000), min_size=1, max_size=6), st.text(max_size=5))
@settings(max_examples=40)
def test_any_batch_keeps_its_shape_its_padding_and_its_silence(everything: BatchAugment, lengths: list[int], name: str):
    sounds = [to_float(some_sound(length, index)) for index, length in enumerate(lengths)]
    sounds[0] = np.zeros_like(sounds[0])
    waveforms, _ = pad(sounds)
    before = waveforms.clone()
    changed = everything(waveforms, lengths, [f"{name}{index}" for index in range(len(lengths))])
    assert torch.equal(waveforms, before)  # which may be used again
    assert changed.shape == waveforms.shape
    assert changed.dtype == torch.float32
    assert changed.isfinite().all()
    assert not changed[0].any()
    for row, length in zip(changed, lengths, strict=True):
        assert not row[length:].any()


def test_a_row_does_not_depend_on_the_others(sounds: list[np.ndarray], voices: list[Tensor]):
    config = AugmentConfig(**{**EVERYTHING, "noises": ["babble", "noise.jsonl"], "codecs": ["telephone"]})  # type: ignore[arg-type]
    augment = BatchAugment(config, voices, {"noise.jsonl": voices}, ROOMS)
    waveforms, lengths = pad(sounds)
    together = augment(waveforms, lengths, names_of(12))
    for index, (sound, name) in enumerate(zip(sounds, names_of(12), strict=True)):
        alone = augment(*pad([sound]), [name])
        torch.testing.assert_close(alone[0], together[index, : len(sound)], rtol=0, atol=2e-6)


def test_the_same_names_give_the_same_noise_and_others_another(sounds: list[np.ndarray]):
    """Whatever was drawn before, by the object itself or by torch's own generator."""
    waveforms, lengths = pad([sounds[0]] * 3)
    config = quiet(noises=["pink"], snr_db=[10.0, 10.0])
    augment = BatchAugment(config, [], {}, None)
    state = torch.get_rng_state()
    once = augment(waveforms, lengths, names_of(3))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(augment(waveforms, lengths, names_of(3)), once)
    assert torch.equal(BatchAugment(config, [], {}, None)(waveforms, lengths, names_of(3)), once)
    other = augment(waveforms, lengths, names_of(3, epoch=2))
    noises = [*(once - waveforms), *(other - waveforms)]
    assert len({noise.numpy().tobytes() for noise in noises}) == 6  # nor do two rows have the same


def test_each_change_happens_to_its_share(everything: BatchAugment):
    config = AugmentConfig(gain_db=[0.0, 0.0], codecs=["telephone"], codec_share=0.3)
    waveforms, lengths = pad([to_float(some_sound(500))] * 300)
    changed = (BatchAugment(config, [], {}, None)(waveforms, lengths, names_of(300)) != waveforms).any(1)
    expected = [random.Random(f"codec {name}").random() < 0.3 for name in names_of(300)]
    assert changed.tolist() == expected
    assert 0.2 < np.mean(expected) < 0.4


def on_meta(sounds: Sequence[Tensor]) -> list[Tensor]:
    return [sound.to("meta") for sound in sounds]


class MetaGenerator:
    """A generator of the device "meta", which torch does not have."""

    device = torch.device("meta")

    def manual_seed(self, seed: int) -> None:
        pass


def test_nothing_is_read_from_the_device(
    sounds: list[np.ndarray], voices: list[Tensor], monkeypatch: pytest.MonkeyPatch
):
    """Tensors of the device "meta" have no values: reading one to decide about shapes raises an error."""
    elsewhere, drawn, randn = on_meta(voices), [], torch.randn

    def without_generator(shape: Sequence[int], generator: MetaGenerator, **options: object) -> Tensor:
        drawn.append(generator)
        return randn(shape, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(torch, "randn", without_generator)
    config = AugmentConfig(**EVERYTHING | {"codecs": ["telephone", "telephone-mu-law"]})  # type: ignore[arg-type]
    augment = BatchAugment(config, elsewhere, {"noise.jsonl": elsewhere}, ROOMS.to("meta"))
    augment.generator = MetaGenerator()  # type: ignore[assignment]
    waveforms, lengths = pad(sounds)
    changed, lengths = change_rate(waveforms.to("meta"), lengths, [0.9, 1.0, 1.1] * 4, resample)
    for epoch in range(5):
        assert augment(changed, lengths, names_of(12, epoch)).shape == (12, max(lengths))
    assert drawn


def test_autocast_changes_nothing(sounds: list[np.ndarray], everything: BatchAugment):
    waveforms, lengths = pad(sounds)

    def run() -> Tensor:
        torch.manual_seed(1)
        return everything(*change_rate(waveforms, lengths, [0.9, 1.0, 1.1] * 4, resample), names_of(12))

    before = run()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(run(), before)


@pytest.mark.parametrize("speed", [0.8, 0.9, 0.95, 1.05, 1.1, 1.25])
def test_speech_at_another_speed_is_that_of_soxr(speech: list[np.ndarray], speed: float):
    """Signal to difference in dB; 16 bits have about 90."""
    waveforms, lengths = pad(speech)
    changed, changed_lengths = change_rate(waveforms, lengths, [speed] * len(speech), resample)
    for sound, row, length in zip(speech, changed, changed_lengths, strict=True):
        expected = soxr.resample(sound, SAMPLE_RATE * speed, SAMPLE_RATE)
        assert length == len(expected)
        assert not row[length:].any()
        assert ratio_db(expected, row[:length].numpy()) > 85


def test_each_utterance_has_its_own_speed(speech: list[np.ndarray]):
    speeds = [0.9, 1.0, 1.1] * 2
    changed, lengths = change_rate(*pad(speech), speeds, resample)
    for sound, speed, row, length in zip(speech, speeds, changed, lengths, strict=True):
        expected = soxr.resample(sound, SAMPLE_RATE * speed, SAMPLE_RATE) if speed != 1.0 else sound
        assert length == len(expected)
        assert ratio_db(expected, row[:length].numpy()) > 85


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.25])
def test_tempo_changes_the_length_and_not_the_pitch(speech: list[np.ndarray], factor: float):
    def pitch(samples: np.ndarray) -> float:
        loud = librosa.feature.rms(y=samples)[0] > 0.02
        return float(np.median(librosa.yin(samples, fmin=60, fmax=400, sr=SAMPLE_RATE)[loud]))

    sound = speech[0][: 4 * SAMPLE_RATE]
    changed, (length,) = change_rate(*pad([sound]), [factor], stretch)
    assert length == changed.shape[1] == round(len(sound) / factor)
    assert pitch(changed[0].numpy()) == pytest.approx(pitch(sound), rel=0.04)


def test_tempo_is_as_librosa_changes_it(speech: list[np.ndarray]):
    changed, lengths = change_rate(*pad(speech), [0.9] * len(speech), stretch)
    for sound, row, length in zip(speech, changed, lengths, strict=True):
        theirs = librosa.effects.time_stretch(sound, rate=0.9, n_fft=filters.TEMPO_WINDOW)
        bands = [
            np.log(librosa.feature.melspectrogram(y=y[: min(length, len(theirs))], sr=SAMPLE_RATE) + 1e-4)
            for y in (row[:length].numpy(), theirs)
        ]
        assert np.abs(bands[0] - bands[1]).mean() < 0.05


def test_tempo_of_a_row_does_not_depend_on_the_others(sounds: list[np.ndarray]):
    tempos = [0.9, 1.0, 1.1] * 4
    together, lengths = change_rate(*pad(sounds), tempos, stretch)
    for index, (sound, tempo) in enumerate(zip(sounds, tempos, strict=True)):
        alone, (length,) = change_rate(*pad([sound]), [tempo], stretch)
        assert length == lengths[index]
        torch.testing.assert_close(alone[0], together[index, :length], rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [1, 200, 600])
def test_tempo_of_very_little_audio(length: int):
    changed, lengths = change_rate(*pad([to_float(some_sound(length))]), [0.9], stretch)
    assert lengths == [round(length / 0.9)] == [changed.shape[1]]
    assert changed.isfinite().all()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("length", [SAMPLE_RATE, 12_345, 401])
def test_a_codec_keeps_the_length_and_the_place(codec: str, length: int):
    time = np.arange(length) / SAMPLE_RATE
    sweep = (0.3 * np.sin(2 * np.pi * (300 + 1_000 * time) * time)).astype(np.float32)
    waveforms, lengths = pad([sweep, to_float(some_sound(2 * SAMPLE_RATE))])
    coded = BatchAugment(quiet(codecs=[codec]), [], {}, None)(waveforms, lengths, names_of(2))[0].numpy()
    assert not np.array_equal(coded[:length], sweep)
    assert not coded[length:].any()
    if length > 1_000:
        spectra = [np.fft.rfft(samples, 2 * length) for samples in (coded[:length], sweep)]
        best = int(np.fft.irfft(spectra[0] * spectra[1].conj()).argmax())
        assert min(best, 2 * length - best) <= 2


@pytest.mark.parametrize("codec", ["opus", "mp3"])
def test_a_lossy_codec_is_that_of_a_single_utterance(sounds: list[np.ndarray], codec: str):
    waveforms, lengths = pad([20 * sound for sound in sounds])  # beyond full scale: nothing is clipped
    changed = BatchAugment(quiet(codecs=[codec]), [], {}, None)(waveforms, lengths, names_of(12)).numpy()
    for sound, row in zip(sounds, changed, strict=True):
        assert np.array_equal(row[: len(sound)], encode_decode(20 * sound, codec))
        assert np.abs(row).max() > 1.5


def test_a_telephone_leaves_the_band_from_300_to_3400_hz():
    noise = torch.randn(1, 4 * SAMPLE_RATE, generator=torch.manual_seed(1)) * 0.1
    for codec in [codec for codec in CODECS if codec.startswith("telephone")]:
        heard = filters.telephone(noise, codec)
        hertz = torch.fft.rfftfreq(noise.shape[1], 1 / SAMPLE_RATE)

        def level(samples: Tensor, low: float, high: float, hertz: Tensor = hertz) -> float:
            power = torch.fft.rfft(samples[0]).abs().square()[(hertz >= low) & (hertz < high)]
            return float(10 * torch.log10(power.mean() + 1e-20))

        inside = level(heard, 500, 3_000)
        assert inside == pytest.approx(level(noise, 500, 3_000), abs=3)
        assert level(heard, 4_200, 8_000) < inside - 40
        if codec == "telephone":  # the codecs' own noise fills the band up to 4 kHz
            assert level(heard, 3_700, 3_950) < inside - 10
            assert level(heard, 20, 150) < inside - 40


@given(st.integers(0, 400_000), st.sampled_from([0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25]))
def test_the_length_at_another_speed_is_that_of_soxr(samples: int, speed: float):
    expected = len(soxr.resample(np.zeros(samples, np.float32), SAMPLE_RATE * speed, SAMPLE_RATE)) if samples else 0
    assert filters.changed_length(samples, speed) == expected
    assert abs(expected - samples / speed) <= 0.5


def test_a_tone_above_what_the_lower_rate_has_is_removed():
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tone = np.sin(2 * np.pi * 7_800 * time).astype(np.float32)  # 8,580 Hz at 1.1 times the speed
    changed, _ = change_rate(*pad([tone]), [1.1], resample)
    assert changed[0, 500:-500].abs().max() < 1e-4


def test_speed_1_is_a_copy_and_an_empty_batch_stays_empty(sounds: list[np.ndarray], everything: BatchAugment):
    waveforms, lengths = pad(sounds)
    changed, changed_lengths = change_rate(waveforms, lengths, [1.0] * 12, resample)
    assert torch.equal(changed, waveforms)
    assert changed_lengths == lengths
    nothing, no_lengths = change_rate(torch.zeros(0, 0), [], [], resample)
    assert everything(nothing, no_lengths, []).shape == (0, 0)


@given(st.integers(1, 10**7), st.sampled_from([1, 4, 9, 11]))
def test_a_fast_length_is_the_next_of_four_an_octave(samples: int, multiple: int):
    length = filters.fast_length(samples, multiple)
    assert samples <= length
    factor = length // multiple
    assert factor * multiple == length
    power = factor.bit_length() - 3
    octave = [number << power for number in (4, 5, 6, 7)]
    assert factor in octave
    before = octave[octave.index(factor) - 1] if factor > octave[0] else 7 * 2**power // 2
    assert before * multiple < samples or factor == 4


def test_fast_lengths_have_small_factors():
    for rest in filters.FAST_LENGTHS:
        for factor in (2, 3, 5, 7):
            while rest % factor == 0:
                rest //= factor
        assert rest == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noises": ["babble"]}, "there are no recordings for 'babble'"),
        ({"noises": ["a.jsonl"]}, "there are no recordings for 'a.jsonl'"),
        ({"rooms": ["simulated"]}, "there are no impulse responses"),
    ],
)
def test_a_change_without_its_recordings_is_one_line(changes: dict[str, list], message: str):
    with pytest.raises(RecipeError, match=message):
        BatchAugment(AugmentConfig(**changes), [], {}, None)


@pytest.mark.parametrize("reverberation", [0.2, 0.35, 0.5])
def test_a_simulated_room_rings_about_as_long_as_asked_for(reverberation: float):
    acoustics = pytest.importorskip("pyroomacoustics", reason="pyroomacoustics is not installed")
    rooms = [simulate(reverberation, random.Random(seed)) for seed in range(8)]
    assert len({response.tobytes() for response in rooms}) == 8
    assert np.array_equal(rooms[3], simulate(reverberation, random.Random(3)))
    measured = [acoustics.experimental.measure_rt60(response, SAMPLE_RATE, decay_db=30) for response in rooms]
    # Sabine's formula is of rooms that scatter sound, which these boxes do not.
    assert np.mean(measured) == pytest.approx(reverberation, rel=0.3)


def test_voices_of_a_babble_are_equally_loud_however_many_a_row_has(voices: list[Tensor]):
    spans: list[list[Tensor]] = [[voices[3][:5_000], voices[4][:5_000]], [], [voices[5][:3_000]]]
    summed = batch_module._sum_spans(spans, 6_000, torch.device("cpu"))
    for row, parts in zip(summed.numpy(), spans, strict=True):
        expected = np.zeros(6_000)
        for part in parts:
            samples = part.numpy().astype(np.float64)
            expected[: len(samples)] += samples / np.linalg.norm(samples)
        np.testing.assert_allclose(row, expected, atol=1e-6)
