"""Each augmentation does to the audio what its name says, at the same time of the utterance, and can be repeated."""

import random
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from threading import Event

import librosa
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_corpus import TEXTS, load_epoch, read_entries, write_audio, write_augment, write_manifest
from tiny_runs import assert_equal_checkpoints, make_trainer

from asr.audio.sources import read
from asr.data.augment.draws import SLOPES
from asr.data.augment.room import Rooms, reverberate, simulate
from asr.data.augment.waveform import WaveformAugment, add_noise, change_tempo, colored, encode_decode
from asr.data.batch import Batch
from asr.data.config import CODECS, NOISES, AugmentConfig, TokenizerConfig
from asr.data.dataset import join, load_samples, make_cut, perturb
from asr.data.manifest import Entry
from asr.data.tokenizer import CharacterTokenizer, TextRule
from asr.errors import RecipeError
from asr.nn.frontend import SAMPLE_RATE
from asr.train.config import AcousticRecipe

CONFIG = TokenizerConfig(kind="characters", alphabet="ab")
TOKENIZER = CharacterTokenizer(CONFIG)

pytestmark = pytest.mark.filterwarnings("ignore:You are using Dynamic", "ignore:We have exceeded the max_duration")


@pytest.fixture(scope="module")
def speech(recorded_entries: list[Entry]) -> np.ndarray:
    return read(recorded_entries[0].audio)[: 4 * SAMPLE_RATE]


def some_sound(seconds: float = 1.0, seed: int = 1) -> np.ndarray:
    """Noise that swells and fades, as speech does."""
    length = round(seconds * SAMPLE_RATE)
    swell = 0.1 + np.sin(np.arange(length) / 2_000) ** 2
    return (0.1 * swell * np.random.default_rng(seed).standard_normal(length)).astype(np.float32)


def noises_of(source: str, lowest: float, highest: float) -> AugmentConfig:
    return AugmentConfig(noises=[source], snr_db=[lowest, highest])


def power(samples: np.ndarray) -> float:
    return float(np.mean(samples.astype(np.float64) ** 2))


def snr_db(samples: np.ndarray, noisy: np.ndarray) -> float:
    return 10 * np.log10(power(samples) / power(noisy - samples))


def level_db(samples: np.ndarray, lowest: float, highest: float) -> float:
    """Mean power between two frequencies."""
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    return 10 * np.log10(spectrum[(hertz >= lowest) & (hertz < highest)].mean() + 1e-20)


def delay(samples: np.ndarray, changed: np.ndarray) -> int:
    """By how many samples `changed` comes later."""
    lags = np.fft.irfft(np.fft.rfft(changed, 2 * len(samples)) * np.fft.rfft(samples, 2 * len(samples)).conj())
    best = int(lags.argmax())
    return best if best < len(samples) else best - 2 * len(samples)


@given(
    ratio=st.floats(-20, 60),
    loudness=st.floats(1e-3, 10),
    slope=st.sampled_from(list(SLOPES.values())),
    seed=st.integers(),
)
@settings(max_examples=30, deadline=None)
def test_noise_is_at_the_ratio_asked_for(ratio: float, loudness: float, slope: float, seed: int):
    samples = some_sound()
    noise = np.float32(loudness) * colored(len(samples), slope, random.Random(seed))
    noisy = add_noise(samples, noise, ratio)
    assert noisy.dtype == np.float32
    assert snr_db(samples, noisy) == pytest.approx(ratio, abs=0.1)


@pytest.mark.parametrize(("colour", "per_octave"), [("white", 0.0), ("pink", -3.0), ("brown", -6.0)])
def test_colored_noise_falls_by_so_many_db_an_octave(colour: str, per_octave: float):
    noise = colored(10 * SAMPLE_RATE, SLOPES[colour], random.Random(1))
    levels = [level_db(noise, low, 2 * low) for low in (125, 250, 500, 1000, 2000, 4000)]
    assert np.diff(levels) == pytest.approx(per_octave, abs=0.5)


@pytest.mark.parametrize("source", [*NOISES, "manifest"])
def test_every_source_of_noise_keeps_to_the_range_and_varies(source: str, tmp_path: Path):
    voices = [write_audio(tmp_path / f"v{index}.wav", 0.5 + index, seed=index) for index in range(3)]
    manifest = write_manifest(tmp_path / "noise.jsonl", [(path, "") for path in voices])
    config = noises_of(str(manifest) if source == "manifest" else source, 5.0, 15.0)
    augment = WaveformAugment(config, voices)
    samples = some_sound(1.5)
    ratios = [snr_db(samples, augment.add_noise(samples, random.Random(seed))) for seed in range(20)]
    assert all(4.9 < ratio < 15.1 for ratio in ratios)
    assert max(ratios) - min(ratios) > 5


def test_babble_is_of_the_voices(tmp_path: Path):
    voices = [write_audio(tmp_path / f"v{index}.wav", 2.0, seed=index) for index in (1, 3)]  # tones of 220 and 440 Hz
    samples = some_sound(1.5)
    augment = WaveformAugment(noises_of("babble", 10.0, 10.0), voices)
    babble = augment.add_noise(samples, random.Random(5)) - samples
    tones = level_db(babble, 210, 230), level_db(babble, 430, 450)
    assert min(tones) > level_db(babble, 800, 8000) + 20
    assert abs(tones[0] - tones[1]) < 15


def test_recorded_silence_and_an_empty_recording_add_nothing(tmp_path: Path):
    samples = some_sound()
    for index, seconds in enumerate((0.0, 0.5)):
        path = tmp_path / f"{index}.wav"
        soundfile.write(path, np.zeros(round(seconds * SAMPLE_RATE)), SAMPLE_RATE)
        manifest = write_manifest(tmp_path / f"{index}.jsonl", [(path, "")])
        augment = WaveformAugment(noises_of(str(manifest), 0.0, 0.0), [])
        assert np.array_equal(augment.add_noise(samples, random.Random(1)), samples)


def test_a_room_keeps_length_place_and_loudness_and_rings():
    samples = some_sound()
    samples[SAMPLE_RATE // 2 :] = 0
    response = np.zeros(6_000, np.float32)
    response[[800, 2_000, 5_000]] = 0.5, 0.3, 0.1  # the direct sound comes 50 ms late
    wet = reverberate(samples, response)
    assert len(wet) == len(samples)
    assert wet.dtype == np.float32
    assert power(wet) == pytest.approx(power(samples), rel=1e-4)
    assert delay(samples, wet) == 0
    assert np.abs(wet[SAMPLE_RATE // 2 + 100 : SAMPLE_RATE // 2 + 4_000]).max() > 0.01
    expected = np.convolve(samples, response[800:])[: len(samples)]
    scale = np.sqrt(power(samples) / power(expected))
    np.testing.assert_allclose(wet, expected * scale, atol=1e-5)


@pytest.mark.parametrize("reverberation", [0.2, 0.35, 0.5])
def test_a_simulated_room_rings_about_as_long_as_asked_for(reverberation: float):
    acoustics = pytest.importorskip("pyroomacoustics", reason="pyroomacoustics is not installed")
    rooms = [simulate(reverberation, random.Random(seed)) for seed in range(8)]
    assert len({response.tobytes() for response in rooms}) == 8
    assert np.array_equal(rooms[3], simulate(reverberation, random.Random(3)))
    measured = [acoustics.experimental.measure_rt60(response, SAMPLE_RATE, decay_db=30) for response in rooms]
    # Sabine's formula is of rooms that scatter sound, which these boxes do not.
    assert np.mean(measured) == pytest.approx(reverberation, rel=0.3)


def test_speech_in_a_simulated_room_stays_where_it_was(speech: np.ndarray):
    pytest.importorskip("pyroomacoustics", reason="pyroomacoustics is not installed")
    rooms = Rooms(["simulated"], (0.2, 0.5))
    for seed in range(4):
        wet = rooms(speech, random.Random(seed))
        assert len(wet) == len(speech)
        assert power(wet) == pytest.approx(power(speech), rel=1e-4)
        assert -1 <= delay(speech, wet) < 0.02 * SAMPLE_RATE  # a strong reflection may be what matches best


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("length", [SAMPLE_RATE, 12_345, 401])
def test_a_codec_keeps_the_length_and_the_place(name: str, length: int):
    time = np.arange(length) / SAMPLE_RATE
    samples = (0.3 * np.sin(2 * np.pi * (300 + 1_000 * time) * time)).astype(np.float32)
    coded = encode_decode(samples, name)
    assert coded.shape == (length,)
    assert coded.dtype == np.float32
    assert not np.array_equal(coded, samples)
    if length > 1_000:
        assert abs(delay(samples, coded)) <= 2


@pytest.mark.parametrize("name", [name for name in CODECS if name.startswith("telephone")])
def test_a_telephone_leaves_the_band_from_300_to_3400_hz(name: str):
    noise = 0.1 * colored(4 * SAMPLE_RATE, 0.0, random.Random(1))
    heard = encode_decode(noise, name)
    inside = level_db(heard, 500, 3_000)
    assert inside == pytest.approx(level_db(noise, 500, 3_000), abs=3)
    below, above, beyond = (level_db(heard, *band) for band in ((20, 150), (3_700, 3_950), (4_200, 8_000)))
    assert beyond < inside - 40
    if name == "telephone":  # the codecs' own noise fills the band up to 4 kHz
        assert above < inside - 10
        assert below < inside - 40


def test_what_is_beyond_full_scale_is_not_clipped_by_a_codec():
    samples = 20 * some_sound()
    assert np.abs(encode_decode(samples, "telephone-mu-law")).max() > 1.5


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.25])
def test_tempo_changes_the_length_and_not_the_pitch(speech: np.ndarray, factor: float):
    def pitch(samples: np.ndarray) -> np.ndarray:
        return librosa.yin(samples, fmin=60, fmax=400, sr=SAMPLE_RATE)

    changed = change_tempo(torch.from_numpy(speech), factor).numpy()
    assert len(changed) == round(len(speech) / factor)
    assert changed.dtype == np.float32
    loud = librosa.feature.rms(y=speech)[0] > 0.02
    loud_changed = librosa.feature.rms(y=changed)[0] > 0.02
    assert np.median(pitch(changed)[loud_changed]) == pytest.approx(np.median(pitch(speech)[loud]), rel=0.04)


def test_tempo_is_as_librosa_changes_it(speech: np.ndarray):
    ours = change_tempo(torch.from_numpy(speech), 0.9).numpy()
    theirs = librosa.effects.time_stretch(speech, rate=0.9, n_fft=512)
    bands = [np.log(librosa.feature.melspectrogram(y=y, sr=SAMPLE_RATE) + 1e-4) for y in (ours, theirs)]
    assert np.abs(bands[0] - bands[1]).mean() < 0.05


@pytest.mark.parametrize("length", [1, 200, 600])
def test_tempo_of_very_little_audio(length: int):
    assert len(change_tempo(torch.randn(length), 0.9)) == round(length / 0.9)


def cuts_of(manifest: str | Path) -> list:
    return [make_cut(entry) for entry in read_entries([str(manifest)], TextRule(CONFIG))]


def test_a_cut_at_another_tempo_is_as_long_as_it_says(corpus: Path):
    cut = perturb(cuts_of(corpus)[3], AugmentConfig(speeds=[1.1], tempos=[0.9]), seed=1, epoch=2)
    assert abs(len(load_samples(cut)) - cut.num_samples) <= 1
    assert cut.duration == pytest.approx(0.8 / 1.1 / 0.9, abs=0.001)


@given(seed=st.integers(0, 1000), share=st.floats(0, 1), seconds=st.floats(0.1, 5))
@settings(max_examples=30, deadline=None)
def test_joining_loses_nothing_and_keeps_to_the_limit(short_cuts: list, seed: int, share: float, seconds: float):
    augment = AugmentConfig(join_share=share, join_seconds=seconds)
    joined = join(short_cuts, augment, seed, 2)
    texts = sorted(sup.text for cut in joined for sup in cut.supervisions)
    assert texts == sorted(TEXTS)
    assert sum(cut.duration for cut in joined) == pytest.approx(sum(cut.duration for cut in short_cuts))
    assert all(cut.duration <= seconds + 1e-6 for cut in joined if len(cut.supervisions) > 1)
    assert [cut.duration for cut in joined] == [cut.duration for cut in join(short_cuts, augment, seed, 2)]


@pytest.fixture(scope="module")
def short_cuts(tmp_path_factory: pytest.TempPathFactory) -> list:
    folder = tmp_path_factory.mktemp("short")
    entries = [(write_audio(folder / f"u{i}.wav", 0.5 + 0.1 * i, seed=i), text) for i, text in enumerate(TEXTS)]
    return cuts_of(write_manifest(folder / "short.jsonl", entries))


def names(batch: Batch) -> list[str]:
    return [part.split("@")[0] for name in batch.ids for part in name.split("+")]


def batches(recipe: AcousticRecipe, epoch: int = 2) -> list[Batch]:
    return list(load_epoch(cuts_of(recipe.data.dev), TOKENIZER, recipe, epoch))


def waveforms(recipe: AcousticRecipe, epoch: int = 2) -> Iterator[tuple[str, str, torch.Tensor]]:
    for batch in batches(recipe, epoch):
        for name, text, waveform, length in zip(batch.ids, batch.texts, batch.waveforms, batch.lengths, strict=True):
            yield name, text, waveform[:length]


def test_joined_utterances_are_text_after_text_and_sound_after_sound(recipe: AcousticRecipe, corpus: Path):
    recipe.augment = AugmentConfig(speeds=[1.0], gain_db=[0.0, 0.0], join_share=1.0, join_seconds=2.0)
    sounds = {f"u{index}": (text, read(corpus.parent / f"u{index}.wav")) for index, text in enumerate(TEXTS)}
    together = 0
    for name, text, waveform in waveforms(recipe):
        members = [sounds.pop(part.split("@")[0]) for part in name.split("+")]
        together += len(members) > 1
        assert text == " ".join(text for text, _ in members)
        assert np.array_equal(waveform.numpy(), np.concatenate([samples for _, samples in members]))
    assert not sounds
    assert together
    assert all("+" not in name for name, _, _ in waveforms(recipe, epoch=1))  # which begins with the shortest


def test_a_part_that_cannot_be_read_is_left_out_of_what_was_joined(recipe: AcousticRecipe, corpus: Path):
    recipe.augment = AugmentConfig(join_share=1.0, join_seconds=20.0)
    loader = load_epoch(cuts_of(corpus), TOKENIZER, recipe, 2)
    (corpus.parent / "u3.wav").write_bytes(b"")
    (batch,) = loader
    assert sorted(names(batch)) == [f"u{index}" for index in range(len(TEXTS)) if index != 3]
    assert batch.texts[0].split() == [word for name in names(batch) for word in TEXTS[int(name[1:])].split()]
    assert list(batch.unreadable) == [str(corpus.parent / "u3.wav")]


@pytest.mark.parametrize("source", ["noises", "rooms"])
def test_what_cannot_be_read_is_named_and_the_utterance_goes_without(
    recipe: AcousticRecipe, tmp_path: Path, source: str
):
    recipe.augment = AugmentConfig(speeds=[1.0], gain_db=[0.0, 0.0])
    clean = [batch.waveforms for batch in batches(recipe)]
    (tmp_path / "bad.wav").write_bytes(b"not audio")
    manifest = write_manifest(tmp_path / "bad.jsonl", [(tmp_path / "bad.wav", "")])
    setattr(recipe.augment, source, [str(manifest)])
    recipe.augment.noise_share = recipe.augment.room_share = 1.0
    found = batches(recipe)
    assert all(torch.equal(batch.waveforms, before) for batch, before in zip(found, clean, strict=True))
    for batch in found:
        (line,) = batch.unreadable.values()
        assert line.startswith(f"cannot augment with it: {tmp_path / 'bad.wav'}: ")
        assert "\n" not in line


def test_a_manifest_of_noise_that_is_not_there_is_named(recipe: AcousticRecipe):
    recipe.augment.noises = ["gone.jsonl"]
    with pytest.raises(RecipeError, match=r"^gone\.jsonl: cannot read the manifest"):
        batches(recipe)


def test_silence_stays_silence(tmp_path: Path):
    augment = WaveformAugment(write_augment(tmp_path), [tmp_path / "hum.wav"])
    for length in (0, 1, 5_000):
        assert np.array_equal(augment(np.zeros(length, np.float32), "silent"), np.zeros(length, np.float32))


@given(st.text(max_size=5), st.integers(1, 3_000))
@settings(max_examples=20, deadline=None)
def test_any_sound_stays_finite_and_as_long_as_it_is(everything: WaveformAugment, name: str, length: int):
    samples = some_sound()[:length]
    changed = everything(samples, name)
    assert changed.shape == samples.shape
    assert changed.dtype == np.float32
    assert np.isfinite(changed).all()
    assert np.array_equal(changed, everything(samples, name))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> WaveformAugment:
    folder = tmp_path_factory.mktemp("augment")
    return WaveformAugment(write_augment(folder), [folder / "hum.wav"])


def test_each_change_happens_to_its_share_whatever_the_others_do():
    samples = some_sound(0.2)
    only = WaveformAugment(AugmentConfig(gain_db=[0.0, 0.0], codecs=["telephone"], codec_share=0.3), [])
    both = WaveformAugment(
        AugmentConfig(gain_db=[0.0, 0.0], codecs=["telephone"], codec_share=0.3, noises=["white"], noise_share=0.5), []
    )
    names = [f"u{index}@1.2" for index in range(200)]
    changed = [not np.array_equal(only(samples, name), samples) for name in names]
    assert 0.2 < np.mean(changed) < 0.4
    unchanged = [np.array_equal(both(samples, name), samples) for name in names]
    assert 0.25 < np.mean(unchanged) < 0.45
    assert not any(one and other for one, other in zip(changed, unchanged, strict=True))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_samples_whoever_loads_them_and_on_however_many_threads(
    recipe: AcousticRecipe, tmp_path: Path, workers: int
):
    recipe.augment = write_augment(tmp_path)
    if find_spec("pyroomacoustics"):
        recipe.augment.rooms.append("simulated")
    torch.set_num_threads(2)  # a worker has one
    alone = list(waveforms(recipe))
    recipe.data.workers = workers
    assert any("+" in name for name, _, _ in alone)
    for one, other in zip(alone, waveforms(recipe), strict=True):
        assert one[:2] == other[:2]
        assert torch.equal(one[2], other[2])


def test_another_epoch_sounds_different(recipe: AcousticRecipe, tmp_path: Path):
    recipe.augment = write_augment(tmp_path)
    recipe.augment.join_share, recipe.augment.gain_db = 0.0, [0.0, 0.0]
    recipe.augment.speeds = recipe.augment.tempos = [1.0]
    recipe.augment.noise_share = 1.0
    epochs = [{name.split("@")[0]: waveform for name, _, waveform in waveforms(recipe, epoch)} for epoch in (2, 3)]
    assert epochs[0].keys() == epochs[1].keys()
    assert not any(torch.equal(epochs[0][name], epochs[1][name]) for name in epochs[0])


def test_a_run_with_everything_on_goes_on_where_it_stopped_bit_for_bit(recipe: AcousticRecipe, tmp_path: Path):
    recipe.augment, recipe.epochs, recipe.data.workers = write_augment(tmp_path), 2, 1
    make_trainer(recipe).run()
    recipe.name = "stopped"
    trainer = make_trainer(recipe)
    stop, learn = Event(), trainer.update

    def stop_in_the_second_epoch(*arguments: object) -> object:
        if len(trainer.curve) == 1:
            stop.set()
        return learn(*arguments)

    trainer.update = stop_in_the_second_epoch
    with pytest.raises(KeyboardInterrupt):
        trainer.run(stop)
    resumed = make_trainer(recipe, resume=True)
    assert (len(resumed.curve), resumed.stats.updates) == (1, 1)
    resumed.run()
    assert_equal_checkpoints(*(tmp_path / "runs" / name / "last.safetensors" for name in ("tiny", "stopped")))
