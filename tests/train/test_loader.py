"""Batches: each utterance once, at its speed, tempo and volume, the same every time."""

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_corpus import TEXTS, load_data, write_audio, write_manifest
from tiny_runs import (
    make_trainer,
    said,
)
from torch import Tensor

from asr.audio.sources import read
from asr.data.augment.batch import is_noise_alone
from asr.data.augment.room import simulate
from asr.data.batch import Batch, cut, read_sources
from asr.data.config import AugmentConfig
from asr.data.manifest import read_manifest
from asr.data.shards import write_shards
from asr.data.tokenizer import CharacterTokenizer, TextRule
from asr.errors import RecipeError
from asr.nn.frontend import SAMPLE_RATE
from asr.nn.graphs import padded_frames
from asr.train import loader as loader_module
from asr.train.config import AcousticRecipe
from asr.train.corpus import AudioCorpus
from asr.train.loader import CorpusUtterance, Part, join, plan, usable_utterances

CPU = torch.device("cpu")
FRAME = 640  # samples


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # `threads` of conftest.py puts it back


def one_line(error: pytest.ExceptionInfo[RecipeError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def write_sounds(folder: Path, count: int) -> Path:
    """Utterances of 0.25 to 0.8 s: tones below 4 kHz that swell and fade, which every resampler keeps."""
    entries = []
    for index in range(count):
        length = 4_000 + 811 * index
        draw, time = np.random.default_rng(index), np.arange(length) / SAMPLE_RATE
        tones = sum(np.sin(2 * np.pi * draw.uniform(100, 4_000) * time + draw.uniform(0, 6)) for _ in range(5))
        samples = 0.15 * np.hanning(length) * tones
        soundfile.write(folder / f"s{index}.wav", samples, SAMPLE_RATE)
        entries.append((folder / f"s{index}.wav", TEXTS[index % len(TEXTS)]))
    return write_manifest(folder / "sounds.jsonl", entries)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sounds(tmp_path_factory.mktemp("sounds"), 12)


@pytest.fixture
def sound_recipe(recipe: AcousticRecipe, sounds: Path) -> AcousticRecipe:
    recipe.data.train, recipe.data.batch_seconds = [str(sounds)], 4.0
    recipe.augment.gain_db = [-20.0, 6.0]
    recipe.output = str(sounds.parent / "runs")  # decoded once for all
    return recipe


def by_id(batches: Sequence[Batch]) -> dict[str, tuple[str, list[int], Tensor]]:
    """Text, targets and samples of each utterance."""
    found = {}
    for batch in batches:
        rows = zip(batch.waveforms, batch.lengths.tolist(), *batch.targets, strict=True)
        for name, text, (samples, length, targets, count) in zip(batch.ids, batch.texts, rows, strict=True):
            assert name not in found
            assert not samples[length:].any()
            found[name] = text, targets[:count].tolist(), samples[:length]
    return found


def assert_same_batches(found: Sequence[Batch], expected: Sequence[Batch]) -> None:
    assert [batch.ids for batch in found] == [batch.ids for batch in expected]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.waveforms, other.waveforms)
        assert torch.equal(one.lengths, other.lengths)
        assert torch.equal(one.targets.ids, other.targets.ids)


def ratio_db(expected: Tensor, found: Tensor) -> float:
    """Power of the expected samples over that of the difference."""
    difference = (expected.double() - found.double()).square().sum() + 1e-30
    return float(10 * torch.log10(expected.double().square().sum() / difference))


@pytest.mark.parametrize("epoch", [1, 2, 5])
def test_utterances_come_at_the_speeds_tempos_and_volumes_that_are_drawn(
    sound_recipe: AcousticRecipe, sounds: Path, epoch: int
):
    sound_recipe.augment.tempos = [0.9, 1.0]
    tokenizer, seen = CharacterTokenizer(sound_recipe.tokenizer), set()
    for name, (text, targets, samples) in by_id(list(load_data(sound_recipe).train(epoch))).items():
        number = name.split("@")[0]
        assert text == TEXTS[int(number[1:]) % len(TEXTS)]
        assert targets == tokenizer.encode(text)
        draw = random.Random(f"{sound_recipe.seed} {epoch} {number}")
        speed, tempo = draw.choice([0.9, 1.0, 1.1]), draw.choice([0.9, 1.0])
        seen.add((speed, tempo))
        expected = read(sounds.parent / f"{number}.wav") * np.float32(10 ** (random.Random(name).uniform(-20, 6) / 20))
        assert len(samples) == pytest.approx(len(expected) / speed / tempo, abs=1)
        if speed != 1.0:
            expected = soxr.resample(expected, SAMPLE_RATE * speed, SAMPLE_RATE)
        if tempo == 1.0:
            assert ratio_db(torch.from_numpy(expected), samples) >= 80
    assert len(seen) >= 5


def joined_recipe(recipe: AcousticRecipe) -> AcousticRecipe:
    recipe.augment = replace(recipe.augment, speeds=[1.0], gain_db=[0.0, 0.0], join_share=1.0, join_seconds=1.5)
    return recipe


def test_joined_utterances_are_text_after_text_and_sound_after_sound(sound_recipe: AcousticRecipe, sounds: Path):
    data = load_data(joined_recipe(sound_recipe))
    left = {f"s{index}": TEXTS[index % len(TEXTS)] for index in range(12)}
    tokenizer, together = CharacterTokenizer(sound_recipe.tokenizer), 0
    for name, (text, targets, samples) in by_id(list(data.train(2))).items():
        numbers = [part.split("@")[0] for part in name.split("+")]
        together += len(numbers) > 1
        assert text == " ".join(left.pop(number) for number in numbers)
        assert targets == tokenizer.encode(text)
        expected = np.concatenate([read(sounds.parent / f"{number}.wav") for number in numbers])
        assert np.array_equal(samples.numpy(), expected)
        assert len(numbers) == 1 or len(samples) <= 1.5 * SAMPLE_RATE
    assert not left
    assert together
    assert all("+" not in name for name in by_id(list(data.train(1))))  # which begins with the shortest
    sound_recipe.init_from = "en-bilstm"
    assert any("+" in name for name in by_id(list(load_data(sound_recipe).train(1))))


def test_the_first_pass_begins_with_the_shortest_unless_the_model_is_trained_already(sound_recipe: AcousticRecipe):
    sound_recipe.data.max_batch = 1
    for trained, passes in (("", [True, False]), ("en-bilstm", [False, False])):
        sound_recipe.init_from = trained
        data = load_data(sound_recipe)
        for number, shortest_first in enumerate(passes, 1):
            frames = [-(-int(batch.lengths) // FRAME) for batch in data.train(number)]
            lengths = [FRAME * count // loader_module.BUCKET for count in frames]
            assert (lengths == sorted(lengths)) == shortest_first


@given(seed=st.integers(0, 1000), share=st.floats(0, 1), seconds=st.floats(0.1, 5), speed=st.sampled_from([0.9, 1.0]))
@settings(max_examples=30)
def test_joining_loses_nothing_and_keeps_to_the_limit(seed: int, share: float, seconds: float, speed: float):
    rows = [[Part(CorpusUtterance(n, f"u{n}", "ab", "ab", "", 8_000 + 1_600 * n), speed, 1.0)] for n in range(8)]
    augment = AugmentConfig(join_share=share, join_seconds=seconds)
    joined = join(rows, augment, f"{seed} 2")
    assert sorted(part.utterance.index for row in joined for part in row) == list(range(8))
    assert all(sum(part.samples for part in row) <= seconds * SAMPLE_RATE for row in joined if len(row) > 1)
    assert joined == join(rows, augment, f"{seed} 2")
    assert all(len(row) == 1 for row in rows)


def padded_to_frames(samples: int, on_gpu: bool = False) -> int:
    frames = -(-samples // FRAME)
    return FRAME * (padded_frames(frames) if on_gpu else frames)


@pytest.mark.parametrize("epoch", [1, 2])
def test_every_utterance_comes_once_in_batches_within_the_limits(sound_recipe: AcousticRecipe, epoch: int):
    sound_recipe.data.batch_seconds, sound_recipe.data.max_batch = 2.1, 4
    batches = list(load_data(sound_recipe).train(epoch))
    assert Counter(name.split("@")[0] for batch in batches for name in batch.ids) == {f"s{n}": 1 for n in range(12)}
    assert any(len(batch.ids) > 1 for batch in batches)
    for batch in batches:
        assert batch.waveforms.shape[1] == batch.lengths.max()
        assert len(batch.ids) <= 4
        assert len(batch.ids) * padded_to_frames(int(batch.lengths.max())) <= 2.1 * SAMPLE_RATE


@pytest.mark.parametrize("number", [1, 2])
def test_on_a_gpu_batches_are_within_the_limits_padded_to_the_shape_of_a_graph(
    sound_recipe: AcousticRecipe, number: int
):
    sound_recipe.data.batch_seconds, sound_recipe.data.max_batch = 8.0, 80
    loader = load_data(sound_recipe)
    loader.device = torch.device("cuda")
    batches = list(loader._draw(number))
    assert sorted(row[0].utterance.id for batch in batches for row in batch) == sorted(f"s{n}" for n in range(12))
    assert any(len(batch) > 1 for batch in batches)
    for batch in batches:
        longest = max(sum(part.samples for part in row) for row in batch)
        assert len(batch) * padded_to_frames(longest, on_gpu=True) <= 8.0 * SAMPLE_RATE


def test_an_utterance_longer_than_a_batch_is_one_of_its_own(sound_recipe: AcousticRecipe):
    sound_recipe.data.batch_seconds = 0.1
    batches = list(load_data(sound_recipe).train(2))
    assert [len(batch.ids) for batch in batches] == [1] * 12


def test_the_first_epoch_goes_from_short_to_long_and_later_ones_do_not(sound_recipe: AcousticRecipe):
    """Utterances of nearly the same length are in any order."""
    sound_recipe.data.batch_seconds = 1.5
    loader = load_data(sound_recipe)
    orders = []
    for epoch in (1, 2, 3):
        batches = [
            [length // loader_module.BUCKET for length in batch.lengths.tolist()] for batch in loader.train(epoch)
        ]
        follows = [max(one) <= min(other) + 1 for one, other in pairwise(batches)]  # frames are rounded up
        orders.append(all(follows))
    assert orders == [True, False, False]


def test_an_epoch_of_several_passes_draws_like_as_many_epochs(sound_recipe: AcousticRecipe):
    single = load_data(sound_recipe)
    several = load_data(replace(sound_recipe, data=replace(sound_recipe.data, passes=3)))
    for epoch in (1, 2):
        passes = [batch for number in range(3 * epoch - 2, 3 * epoch + 1) for batch in single.train(number)]
        assert_same_batches(list(several.train(epoch)), passes)


@pytest.fixture
def noisy_recipe(sound_recipe: AcousticRecipe) -> AcousticRecipe:
    sound_recipe.augment.noises, sound_recipe.augment.noise_share = ["white", "pink", "babble"], 0.7
    sound_recipe.augment.codecs, sound_recipe.augment.codec_share = ["telephone", "telephone-mu-law"], 0.5
    sound_recipe.data.batch_seconds, sound_recipe.data.passes = 1.5, 2
    return sound_recipe


def test_an_epoch_goes_on_after_any_number_of_batches(noisy_recipe: AcousticRecipe):
    whole, other = list(load_data(noisy_recipe).train(2)), load_data(noisy_recipe)
    assert len(whole) > 6
    for done in (0, 1, 2, len(whole) // 2, len(whole) // 2 + 1, len(whole) - 1, len(whole)):
        assert_same_batches(list(other.train(2, done)), whole[done:])


def test_the_seed_decides_and_nothing_else(noisy_recipe: AcousticRecipe):
    one, other = load_data(noisy_recipe), load_data(noisy_recipe)
    list(other.train(3))  # what came before does not matter
    torch.manual_seed(99)
    assert_same_batches(list(one.train(2)), list(other.train(2)))
    other = load_data(replace(noisy_recipe, seed=2))
    orders = [[name.split("@")[0] for batch in loader.train(2) for name in batch.ids] for loader in (one, other)]
    assert orders[0] != orders[1]


@pytest.mark.parametrize("accumulate", [2, 3])
def test_the_batches_of_an_update_are_one_length_and_dealt_out(sound_recipe: AcousticRecipe, accumulate: int):
    """A batch may be empty."""
    sound_recipe.data.batch_seconds, sound_recipe.accumulate = 0.5, accumulate
    batches = list(load_data(sound_recipe).train(2))
    assert len(batches) % accumulate == 0
    assert any(not batch.ids for batch in batches)
    assert Counter(name.split("@")[0] for batch in batches for name in batch.ids) == {f"s{n}": 1 for n in range(12)}
    for begin in range(0, len(batches), accumulate):
        update = batches[begin : begin + accumulate]
        rows = sum(len(batch.ids) for batch in update)
        longest = max(int(batch.lengths.max()) for batch in update if batch.ids)
        assert rows == 1 or rows * padded_to_frames(longest) <= accumulate * 0.5 * SAMPLE_RATE
        assert max(len(batch.ids) for batch in update) - min(len(batch.ids) for batch in update) <= 1


def test_noise_alone_has_no_text(noisy_recipe: AcousticRecipe):
    noisy_recipe.augment = replace(noisy_recipe.augment, noises=["white"], noise_alone=0.5, codec_share=0.0)
    loader = load_data(noisy_recipe)
    drawn, clean = by_id(list(loader.train(1))), by_id(list(loader.train(1, gain_only=True)))
    alone = {name for name in drawn if is_noise_alone(noisy_recipe.augment, name)}
    assert 0 < len(alone) < len(drawn)
    for name, (text, targets, samples) in drawn.items():
        assert (text, targets) == (("", []) if name in alone else clean[name][:2])
        assert len(samples) == len(clean[name][2])
    assert all(text and targets for text, targets, _ in clean.values())
    # Noise alone is not counted with what is too short for its text.
    batches = list(loader.train(1))
    task = make_trainer(noisy_recipe).task
    assert sum(task.count(batch)[1] for batch in batches) == 0
    assert sum(task.count(batch)[0] for batch in batches) == sum(len(targets) for _, targets, _ in drawn.values())


def test_gain_only_is_without_noise_rooms_and_codecs(
    noisy_recipe: AcousticRecipe, sounds: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loader_module, "ROOMS", 2)
    echo = np.zeros(2_000)
    echo[[0, 900]] = 0.8, -0.5
    soundfile.write(sounds.parent / "echo.wav", echo, SAMPLE_RATE)
    rooms = write_manifest(sounds.parent / "rooms.jsonl", [(sounds.parent / "echo.wav", "")])
    noisy_recipe.augment = replace(
        noisy_recipe.augment, speeds=[1.0], rooms=[str(rooms)], room_share=1.0, noise_share=1.0, codec_share=1.0
    )
    loader = load_data(noisy_recipe)
    clean, changed = (by_id(list(loader.train(1, gain_only=flag))) for flag in (True, False))
    for name, (_, _, samples) in clean.items():
        gain = 10 ** (random.Random(name).uniform(-20.0, 6.0) / 20)
        expected = torch.from_numpy(read(sounds.parent / f"{name.split('@')[0]}.wav")) * gain
        torch.testing.assert_close(samples, expected, rtol=1e-6, atol=0)
        assert ratio_db(expected, changed[name][2]) < 40


def test_dev_utterances_come_once_and_unchanged(sound_recipe: AcousticRecipe, sounds: Path):
    found = by_id(list(load_data(sound_recipe).dev(0)))
    assert list(found) == [f"s{index}" for index in range(12)]  # of similar length together
    for index, (name, (text, _, samples)) in enumerate(found.items()):
        assert text == TEXTS[index % len(TEXTS)]
        assert np.array_equal(samples.numpy(), read(sounds.parent / f"{name}.wav"))


def test_a_manifest_listed_three_times_is_there_three_times(sound_recipe: AcousticRecipe):
    sound_recipe.data.train *= 3
    sources = read_sources(sound_recipe.data.train, TextRule(sound_recipe.tokenizer))
    ids = [entry.id for _, entries in sources for entry in entries]
    assert len(set(ids)) == 36
    loader = load_data(sound_recipe)
    assert len({loader.corpus.samples(index).data_ptr() for index in range(36)}) == 12  # in memory once
    for epoch in (1, 2):
        batches = list(loader.train(epoch))
        assert {name.rpartition("@")[0] for name in by_id(batches)} == set(ids)
        assert Counter(text for batch in batches for text in batch.texts) == {
            text: 3 * count for text, count in Counter(TEXTS[index % len(TEXTS)] for index in range(12)).items()
        }


def test_shards_give_the_batches_of_their_files(noisy_recipe: AcousticRecipe, sounds: Path, tmp_path: Path):
    write_shards(sounds, tmp_path / "shards")
    packed = deepcopy(noisy_recipe)
    packed.data.train = [str(tmp_path / "shards")]
    assert_same_batches(list(load_data(packed).train(2)), list(load_data(noisy_recipe).train(2)))


def test_what_cannot_be_trained_on_is_counted(recipe: AcousticRecipe, tmp_path: Path):
    empty = tmp_path / "empty.wav"
    soundfile.write(empty, np.zeros(0), SAMPLE_RATE)
    entries = [
        (write_audio(tmp_path / "fine.wav", 0.8), "ab"),
        (write_audio(tmp_path / "long.wav", 3.0), "ab"),
        (write_audio(tmp_path / "tight.wav", 0.3), "ababababab"),
        (write_audio(tmp_path / "none.wav", 0.3), ""),
        (empty, "ab"),
    ]
    manifest = write_manifest(tmp_path / "train.jsonl", entries)
    corpus = AudioCorpus([(str(manifest), read_manifest(manifest))], tmp_path / "audio")
    usable, left_out = usable_utterances(corpus, CharacterTokenizer(recipe.tokenizer), 2.0)
    assert [row.id for row in usable] == ["fine"]
    # A recording without samples is unreadable, and was said to be.
    assert left_out == {"too long": 1, "too short for its text": 1, "without text": 1}


def test_a_damaged_recording_of_noise_is_a_line(recipe: AcousticRecipe, tmp_path: Path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no audio")
    noise = write_manifest(tmp_path / "noise.jsonl", [(write_audio(tmp_path / "hum.wav", 0.7), ""), (broken, "")])
    recipe.epochs = 1
    recipe.augment.noises, recipe.augment.noise_share = [str(noise)], 1.0
    trainer = make_trainer(recipe)
    trainer.run()
    assert "broken.wav" in said(trainer)


def test_without_any_recording_of_noise_a_run_does_not_begin(recipe: AcousticRecipe, tmp_path: Path):
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    recipe.augment.noises = [str(write_manifest(tmp_path / "noise.jsonl", [(tmp_path / "broken.wav", "")]))]
    with pytest.raises(RecipeError, match=r"noise\.jsonl: there are no recordings to augment with") as caught:
        make_trainer(recipe)
    assert one_line(caught)
    recipe.augment.noises = ["gone.jsonl"]
    with pytest.raises(RecipeError, match=r"^gone\.jsonl: cannot read the manifest"):
        make_trainer(recipe)


def test_recorded_and_simulated_rooms_have_equal_shares_and_begin_with_the_direct_sound(
    recipe: AcousticRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("pyroomacoustics", reason="pyroomacoustics is not installed")
    monkeypatch.setattr(loader_module, "ROOMS", 6)
    late = np.zeros(12_000, np.float32)
    late[[800, 2_000]] = 0.5, 0.25
    soundfile.write(tmp_path / "late.wav", late, SAMPLE_RATE)
    soundfile.write(tmp_path / "silent.wav", np.zeros(10), SAMPLE_RATE)
    recorded = write_manifest(tmp_path / "rooms.jsonl", [(tmp_path / f"{name}.wav", "") for name in ("late", "silent")])
    recipe.augment.rooms, recipe.augment.reverberation = ["simulated", str(recorded)], [0.2, 0.3]
    bank = load_data(recipe)._rooms().numpy()
    assert bank.dtype == np.float32
    assert bank.shape[0] == 6
    assert bank.shape[1] <= SAMPLE_RATE // 2
    assert (np.abs(bank).argmax(1) == 0).all()
    assert len({row.tobytes() for row in bank[::2]}) == 3
    draw = random.Random("bank 1 2")
    response = simulate(draw.uniform(0.2, 0.3), draw)
    response = response[np.abs(response).argmax() :][: SAMPLE_RATE // 2]
    assert np.array_equal(bank[2, : len(response)], response)
    found = bank[1::2, [0, 1_200]].tolist()
    assert all(row in ([0, 0], [0.5, 0.25]) for row in found)
    assert [0.5, 0.25] in found
    assert np.array_equal(load_data(recipe)._rooms().numpy(), bank)


def test_utterances_that_are_sure_but_of_no_use_are_one_line(recipe: AcousticRecipe, corpus: Path):
    lines = [json.loads(line) | {"confidence": 0.1} for line in corpus.read_text().splitlines()]
    lines[0] |= {"confidence": 0.9, "text": "ab" * 100}
    corpus.write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe.data.min_confidence = 0.5
    with pytest.raises(RecipeError, match="no utterance of the train data can be used") as caught:
        make_trainer(recipe).run()
    assert one_line(caught)


def test_batches_made_ahead_are_the_same_and_so_is_their_error():
    assert list(loader_module.prefetch(iter([1, 2, 3]), CPU)) == [1, 2, 3]
    assert list(loader_module.prefetch(iter([]), CPU)) == []

    def failing() -> Iterator[int]:
        yield from (1, 2)
        raise RecipeError("the third cannot be made")

    items = loader_module.prefetch(failing(), CPU)  # type: ignore[arg-type, type-var]
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(RecipeError, match="the third"):
        next(items)


lengths_drawn = st.lists(st.integers(1, 30_000), max_size=40)


@given(lengths_drawn, st.integers(1, 100_000), st.integers(1, 10))
def test_spans_cover_all_rows_within_the_limits_and_are_as_long_as_can_be(lengths: list[int], limit: int, count: int):
    def fits(begin: int, end: int) -> bool:
        return end - begin <= count and (end - begin) * max(lengths[begin:end]) <= limit

    spans = list(cut(lengths, limit, count))
    assert [row for begin, end in spans for row in range(begin, end)] == list(range(len(lengths)))
    for begin, end in spans:
        assert end - begin == 1 or fits(begin, end)
        assert end == len(lengths) or not fits(begin, end + 1)


@given(lengths_drawn, st.integers(1, 100_000), st.integers(1, 10), st.integers(0, 2**32 - 1), st.booleans())
def test_a_plan_has_every_utterance_once_within_the_limits_the_same_every_time(
    lengths: list[int], limit: int, count: int, seed: int, shortest_first: bool
):
    batches = plan(lengths, limit, count, (seed, 1), shortest_first)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= count
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= limit
    assert plan(lengths, limit, count, (seed, 1), shortest_first) == batches
    if shortest_first:
        order = [lengths[index] // loader_module.BUCKET for batch in batches for index in batch]
        assert order == sorted(order)


def test_plans_of_other_passes_and_seeds_are_other_ones_and_so_is_their_company():
    plans = [plan([FRAME] * 50, 5 * FRAME, 10, seed) for seed in ((1, 2), (1, 3), (2, 2))]
    assert len({repr(batches) for batches in plans}) == 3
    assert len({repr(sorted(map(sorted, batches))) for batches in plans}) == 3
