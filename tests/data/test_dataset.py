"""From manifests to batches: every file becomes 16 kHz mono, nothing vanishes uncounted, an epoch can be repeated."""

import multiprocessing
import re
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_corpus import TEXTS, load_epoch, read_entries, write_audio, write_manifest
from tiny_runs import make_trainer

import asr.data.workers
from asr.audio.sources import read
from asr.data.batch import Batch
from asr.data.config import AugmentConfig, TokenizerConfig
from asr.data.dataset import load_samples, make_cut, perturb, usable_cuts
from asr.data.manifest import Entry
from asr.data.tokenizer import CharacterTokenizer, TextRule
from asr.data.workers import WorkerLoader, translate_worker_errors
from asr.errors import RecipeError
from asr.nn.frontend import SAMPLE_RATE
from asr.train.config import AcousticRecipe
from asr.train.file_loader import draw_eval, draw_train, make_loader

CONFIG = TokenizerConfig(kind="characters", alphabet="ab")
TOKENIZER = CharacterTokenizer(CONFIG)

pytestmark = pytest.mark.filterwarnings("ignore:You are using Dynamic", "ignore:We have exceeded the max_duration")


def cuts_of(*manifests: Path) -> list:
    return [make_cut(entry) for entry in read_entries(map(str, manifests), TextRule(CONFIG))]


def eval_batches(recipe: AcousticRecipe, *manifests: Path) -> list[Batch]:
    cuts = cuts_of(*manifests)
    return list(make_loader(cuts, TOKENIZER, recipe).load(draw_eval(cuts, recipe)))


def train_batches(recipe: AcousticRecipe, epoch: int) -> list[Batch]:
    return list(load_epoch(cuts_of(Path(recipe.data.dev)), TOKENIZER, recipe, epoch))


def names(batch: Batch) -> list[str]:
    """The utterances without what an epoch adds to their ids."""
    return [identifier.split("@")[0] for identifier in batch.ids]


@pytest.mark.parametrize(
    ("rate", "channels"), [(44_100, 2), (44_100, 1), (48_000, 2), (8_000, 1), (16_000, 2), (16_000, 1)]
)
def test_audio_of_any_rate_and_channels_is_16_khz_mono_in_the_batch(
    recipe: AcousticRecipe, tmp_path: Path, rate: int, channels: int
):
    time = np.arange(2 * rate) / rate
    sides = [0.5 * np.sin(2 * np.pi * 440 * time), 0.1 * np.sin(2 * np.pi * 440 * time)][:channels]
    soundfile.write(tmp_path / "tone.wav", np.stack(sides, axis=1), rate)
    (batch,) = eval_batches(recipe, write_manifest(tmp_path / "one.jsonl", [(tmp_path / "tone.wav", "ab")]))
    samples = batch.waveforms[0].numpy()
    assert batch.lengths.tolist() == [2 * SAMPLE_RATE] == [len(samples)]
    assert batch.waveforms.dtype == torch.float32
    loudness = (0.5 if channels == 1 else 0.3) / np.sqrt(2)  # the mean of both sides
    inside = samples[1_600:-1_600]
    assert np.sqrt((inside**2).mean()) == pytest.approx(loudness, rel=0.01)
    assert np.abs(np.fft.rfft(inside)).argmax() * SAMPLE_RATE / len(inside) == pytest.approx(440, abs=1)


def test_a_batch_is_padded_with_zeros_and_knows_its_lengths(recipe: AcousticRecipe, corpus: Path):
    recipe.data.batch_seconds = 100
    (batch,) = eval_batches(recipe, corpus)
    assert batch.waveforms.shape == (len(TEXTS), batch.lengths.max())
    assert batch.lengths.tolist() == sorted(batch.lengths.tolist())
    for waveform, length in zip(batch.waveforms, batch.lengths, strict=True):
        assert waveform[length:].eq(0).all()
        assert waveform[length - 100 : length].ne(0).any()
    for target, length, text in zip(batch.targets, batch.target_lengths, batch.texts, strict=True):
        assert target[:length].tolist() == TOKENIZER.encode(text)
        assert target[length:].eq(0).all()
    assert batch.amount == pytest.approx(sum(0.5 + 0.1 * index for index in range(len(TEXTS))), abs=0.01)


def test_validation_takes_every_utterance_once_and_unchanged(recipe: AcousticRecipe, corpus: Path):
    batches = eval_batches(recipe, corpus)
    assert len(batches) > 1
    assert sorted(name for batch in batches for name in batch.ids) == [f"u{index}" for index in range(len(TEXTS))]
    for batch in batches:
        for name, waveform, length in zip(batch.ids, batch.waveforms, batch.lengths, strict=True):
            expected = soundfile.read(corpus.parent / f"{name}.wav", dtype="float32")[0]
            np.testing.assert_allclose(waveform[:length].numpy(), expected, atol=1e-6)


def test_utterances_left_out_are_counted_by_reason(tmp_path: Path):
    manifest = write_manifest(
        tmp_path / "some.jsonl",
        [
            (write_audio(tmp_path / "good.wav", 1.0), "ab"),
            (write_audio(tmp_path / "long.wav", 5.1), "ab"),
            (write_audio(tmp_path / "longer.wav", 6.0), ""),
            (write_audio(tmp_path / "tight.wav", 0.2), "babab"),  # five frames for five tokens
            (write_audio(tmp_path / "short.wav", 0.2), "bbaab"),  # and two blanks more than there are frames
            (write_audio(tmp_path / "click.wav", 0.05), "a"),
            (write_audio(tmp_path / "breath.wav", 1.0), ""),
        ],
    )
    usable, left_out = usable_cuts(cuts_of(manifest), TOKENIZER, max_seconds=5.0)
    assert [cut.id for cut in usable] == ["good", "tight"]
    assert (left_out.too_long, left_out.too_short, left_out.no_text) == (2, 2, 1)
    assert str(left_out) == "2 too long, 2 too short for its text, 1 without text"


def test_nothing_left_out_says_so(corpus: Path):
    usable, left_out = usable_cuts(cuts_of(corpus), TOKENIZER, max_seconds=5.0)
    assert len(usable) == len(TEXTS)
    assert str(left_out) == "none"


def test_the_first_epoch_goes_from_the_shortest_to_the_longest(recipe: AcousticRecipe):
    recipe.augment.speeds = [1.0]
    assert [name for batch in train_batches(recipe, 1) for name in names(batch)] == [f"u{i}" for i in range(len(TEXTS))]


def test_a_later_epoch_is_shuffled(recipe: AcousticRecipe):
    orders = {tuple(name for batch in train_batches(recipe, epoch) for name in names(batch)) for epoch in range(2, 7)}
    assert len(orders) > 1


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_every_epoch_holds_every_utterance_once_within_the_limits_of_a_batch(recipe: AcousticRecipe, epoch: int):
    recipe.data.max_batch = 3
    batches = train_batches(recipe, epoch)
    assert sorted(name for batch in batches for name in names(batch)) == [f"u{index}" for index in range(len(TEXTS))]
    assert all(len(batch.ids) <= 3 for batch in batches)
    assert all(batch.amount <= recipe.data.batch_seconds for batch in batches)


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("workers", [0, 1])
def test_the_same_epoch_gives_the_same_batches_whoever_loads_them(recipe: AcousticRecipe, epoch: int, workers: int):
    first = train_batches(recipe, epoch)
    recipe.data.workers = workers
    again = train_batches(recipe, epoch)
    assert [batch.ids for batch in first] == [batch.ids for batch in again]
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.waveforms, other.waveforms)
        assert torch.equal(one.targets, other.targets)


def test_the_same_workers_load_all_also_after_what_was_not_loaded_to_its_end(recipe: AcousticRecipe, corpus: Path):
    def workers() -> set[int | None]:
        return {worker.pid for worker in multiprocessing.active_children()}

    expected = [batch.ids for batch in train_batches(recipe, 2)]
    cuts = cuts_of(corpus)
    recipe.data.workers = 2
    loader = make_loader(cuts, TOKENIZER, recipe)
    abandoned = loader.load(draw_train(cuts, recipe, epoch=1))
    next(abandoned)
    forked = workers()
    second = loader.load(draw_train(cuts, recipe, epoch=2))
    assert [batch.ids for batch in second] == expected
    measured = loader.load(draw_eval(cuts, recipe))
    ids = next(measured).ids
    assert workers() <= forked  # no new ones
    ids += [name for batch in measured for name in batch.ids]
    assert sorted(ids) == sorted(cut.id for cut in cuts)


@pytest.mark.parametrize("epoch", [1, 2])
def test_the_rest_of_an_epoch_is_its_batches_without_the_first_ones(recipe: AcousticRecipe, epoch: int):
    whole = train_batches(recipe, epoch)
    for done in range(len(whole) + 1):
        rest = list(load_epoch(cuts_of(Path(recipe.data.dev)), TOKENIZER, recipe, epoch, done))
        assert [batch.ids for batch in rest] == [batch.ids for batch in whole[done:]]
        assert all(torch.equal(one.waveforms, other.waveforms) for one, other in zip(rest, whole[done:], strict=True))


@pytest.mark.parametrize("epoch", [1, 2])
def test_the_batches_of_an_update_share_what_would_be_one_large_batch(recipe: AcousticRecipe, epoch: int):
    recipe.data.batch_seconds, recipe.data.max_batch = 1.2, 2
    recipe.accumulate = 3
    batches = train_batches(recipe, epoch)
    assert max(len(batch.ids) for batch in batches) <= 2
    updates = [
        {name for batch in batches[start : start + 3] for name in batch.ids} for start in range(0, len(batches), 3)
    ]
    recipe.data.batch_seconds, recipe.data.max_batch = 3.6, 6
    recipe.accumulate = 1
    assert updates == [set(batch.ids) for batch in train_batches(recipe, epoch)]
    assert len(updates) > 1


@pytest.mark.parametrize("change", ["epoch", "seed"])
def test_another_epoch_and_another_seed_give_other_batches(recipe: AcousticRecipe, change: str):
    first = train_batches(recipe, 2)
    recipe.seed += change == "seed"
    second = train_batches(recipe, 3 if change == "epoch" else 2)
    loudest = [
        {
            name: waveform.abs().max().item()
            for batch in batches
            for name, waveform in zip(names(batch), batch.waveforms, strict=True)
        }
        for batches in (first, second)
    ]
    assert all(loudest[0][name] != loudest[1][name] for name in loudest[0])


def test_speed_and_gain_change_the_length_and_the_volume(recipe: AcousticRecipe, corpus: Path):
    recipe.augment.speeds, recipe.augment.gain_db = [1.1], [0.0, 0.0]
    for batch in train_batches(recipe, 2):
        for name, length in zip(names(batch), batch.lengths.tolist(), strict=True):
            original = len(soundfile.read(corpus.parent / f"{name}.wav")[0])
            assert length == pytest.approx(original / 1.1, abs=2)
    recipe.augment.speeds, recipe.augment.gain_db = [1.0], [-6.0, 6.0]
    gains = {}
    for batch in train_batches(recipe, 2):
        for name, waveform in zip(names(batch), batch.waveforms, strict=True):
            original = soundfile.read(corpus.parent / f"{name}.wav", dtype="float32")[0]
            gains[name] = 20 * np.log10(waveform.abs().max().item() / np.abs(original).max())
    assert all(-6 <= gain <= 6 for gain in gains.values())
    assert len(set(gains.values())) == len(TEXTS)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_handful_of_utterances_can_be_batched(recipe: AcousticRecipe, corpus: Path, count: int, epoch: int):
    recipe.data.buckets = 20
    batches = list(load_epoch(cuts_of(corpus)[:count], TOKENIZER, recipe, epoch))
    assert sorted(name for batch in batches for name in names(batch)) == [f"u{index}" for index in range(count)]


def test_utterances_of_one_length_can_be_batched(recipe: AcousticRecipe, tmp_path: Path):
    entries = [(write_audio(tmp_path / f"same{index}.wav", 0.5, seed=index), "ab") for index in range(6)]
    cuts = cuts_of(write_manifest(tmp_path / "same.jsonl", entries))
    assert sum(len(batch.ids) for batch in load_epoch(cuts, TOKENIZER, recipe, 2)) == 6


def test_an_utterance_longer_than_a_batch_is_a_batch_of_its_own(recipe: AcousticRecipe):
    recipe.data.batch_seconds = 0.9
    for epoch in (1, 2):
        batches = train_batches(recipe, epoch)
        assert sorted(name for batch in batches for name in names(batch)) == [
            f"u{index}" for index in range(len(TEXTS))
        ]
        longer = [batch for batch in batches if batch.lengths.max() > 0.9 * SAMPLE_RATE]
        assert [len(batch.ids) for batch in longer] == [1] * len(longer)
        assert longer


@pytest.mark.parametrize(
    "content", [b"", b"not audio at all", b"RIFF\x00\x00\x00\x00WAVE"], ids=["empty", "text", "cut"]
)
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes):
    (tmp_path / "bad.wav").write_bytes(content)
    with pytest.raises(RecipeError, match=re.escape(f"{tmp_path / 'bad.wav'}: ")) as caught:
        cuts_of(write_manifest(tmp_path / "bad.jsonl", [(tmp_path / "bad.wav", "ab")]))
    assert "\n" not in str(caught.value)


def truncated(path: Path) -> Path:
    """A FLAC file whose header is whole and whose audio is not."""
    write_audio(path, 1.0)
    path.write_bytes(path.read_bytes()[:3_000])
    return path


def test_a_file_that_breaks_off_is_left_out_of_its_batch_and_named(recipe: AcousticRecipe, tmp_path: Path):
    entries = [(truncated(tmp_path / "cut.flac"), "ab"), (write_audio(tmp_path / "whole.flac", 1.1), "ba")]
    (batch,) = eval_batches(recipe, write_manifest(tmp_path / "two.jsonl", entries))
    assert (batch.ids, batch.texts, len(batch.waveforms), len(batch.targets)) == (["whole"], ["ba"], 1, 1)
    ((file, line),) = batch.unreadable.items()
    assert file == str(tmp_path / "cut.flac")
    assert line.startswith(f"left out: {tmp_path / 'cut.flac'}: truncated or damaged")
    assert "\n" not in line


def test_a_batch_of_files_that_break_off_is_empty(recipe: AcousticRecipe, tmp_path: Path):
    (batch,) = eval_batches(recipe, write_manifest(tmp_path / "one.jsonl", [(truncated(tmp_path / "cut.flac"), "ab")]))
    assert (batch.ids, batch.amount, len(batch.unreadable)) == ([], 0.0, 1)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(RecipeError, match=r"no audio file .*gone\.wav"):
        cuts_of(write_manifest(tmp_path / "gone.jsonl", [(tmp_path / "gone.wav", "ab")]))


def test_an_id_in_two_manifests_is_made_two_ids(tmp_path: Path, corpus: Path):
    other = write_manifest(tmp_path / "other.jsonl", [(corpus.parent / "u3.wav", "ab")])
    ids = [cut.id for cut in cuts_of(corpus, other)]
    assert len(set(ids)) == len(ids) == len(TEXTS) + 1
    assert f"{other}: u3" in ids


def test_training_reads_a_recording_as_recognition_does(tmp_path: Path):
    samples = np.stack([np.sin(np.arange(44_100) / 10), np.zeros(44_100)], axis=1).astype(np.float32)
    samples[100, 0] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT")
    cut = make_cut(Entry("a", tmp_path / "a.wav", "ab", None, None))
    assert np.array_equal(load_samples(cut).numpy(), read(tmp_path / "a.wav"))


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not on PATH")
def test_what_only_ffmpeg_reads_can_be_trained_on(tmp_path: Path):
    source = write_audio(tmp_path / "a.wav", 1.0)
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", source, tmp_path / "a.m4a"], check=True)
    cut = make_cut(Entry("a", tmp_path / "a.m4a", "ab", None, None))
    assert cut.duration == pytest.approx(1.0, abs=0.1)
    assert len(load_samples(cut)) == cut.num_samples


def test_a_faster_cut_has_fewer_samples_and_a_higher_pitch(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000), 16_000)
    cut = make_cut(Entry("a", tmp_path / "a.wav", "ab", None, None))
    faster = perturb(cut, AugmentConfig(speeds=[1.25]), seed=1, epoch=2)
    samples = load_samples(faster).numpy()
    assert len(samples) == faster.num_samples == 12_800
    assert np.abs(np.fft.rfft(samples)).argmax() * 16_000 / len(samples) == pytest.approx(1250, abs=5)


def test_a_text_outside_the_alphabet_names_manifest_and_utterance(tmp_path: Path, corpus: Path):
    manifest = write_manifest(tmp_path / "c.jsonl", [(corpus.parent / "u1.wav", "abc")])
    with pytest.raises(RecipeError, match=r"c\.jsonl: 'u1': 'c' in “abc”"):
        cuts_of(manifest)


class Stuck(torch.utils.data.Dataset):
    """Whose worker has a batch and cannot hand it over."""

    def __getitem__(self, _index: int) -> None:
        time.sleep(60)


def test_a_worker_that_is_stuck_ends_the_run_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(asr.data.workers, "PATIENCE", 1)
    batches = WorkerLoader(Stuck(), workers=1).load([0])
    with (
        pytest.raises(RecipeError, match="run: no batch has come for 1 s: the storage hangs"),
        translate_worker_errors(tmp_path / "run"),
    ):
        next(batches)


def test_a_model_larger_than_the_memory_is_one_line(recipe: AcousticRecipe):
    recipe.model.hidden_size = 10**12  # petabytes, which no system promises
    with pytest.raises(RecipeError, match="there is not enough memory"):
        make_trainer(recipe)
