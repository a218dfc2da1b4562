"""Each reader on a small tree of its corpus's real layout, and what the manifests then hold."""

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from corpus_trees import RATE, TREES, commonvoice, own_folder, record, write
from hypothesis import given
from hypothesis import strategies as st

from asr.audio.sources import read
from asr.data.corpora import CORPORA, csv_corpus, folder_corpus
from asr.data.corpora.corpus import Prepared, hold_out, language_of, prepare
from asr.data.corpora.own import COLUMNS
from asr.data.manifest import Entry, read_manifest
from asr.errors import RecipeError


def prepared(name: str, root: Path) -> dict[str, list[Entry]]:
    """The manifests of a corpus whose tree is made below `root`, read back."""
    TREES[name](root / "src")
    return manifests(prepare(CORPORA[name], root / "src", root / "out"))


def manifests(results: list[Prepared]) -> dict[str, list[Entry]]:
    read_back = {result.manifest.stem: read_manifest(result.manifest, check_files=True) for result in results}
    for result in results:
        entries = read_back[result.manifest.stem]
        assert result.utterances == len(entries)
        assert result.seconds == pytest.approx(sum(entry.seconds or 0 for entry in entries), abs=0.01)
    return read_back


def speakers(entries: list[Entry]) -> set[str | None]:
    return {entry.speaker for entry in entries}


def test_librispeech_has_a_manifest_for_each_part_that_is_there(tmp_path: Path):
    splits = prepared("mini-librispeech", tmp_path)
    assert splits.keys() == {"train-clean-5", "dev-clean-2"}
    first, second = splits["train-clean-5"]
    audio = tmp_path / "src/LibriSpeech/train-clean-5/19/198/19-198-0000.flac"
    assert first == Entry("19-198-0000", audio, "it's northanger abbey", 0.2, "19")
    assert (second.text, second.seconds) == ("and the 'tis", 1.2)
    shutil.rmtree(tmp_path / "src/LibriSpeech/train-clean-5")
    (only,) = prepare(
        CORPORA["mini-librispeech"], tmp_path / "src/LibriSpeech", tmp_path / "again"
    )  # the folder itself
    assert only.manifest == tmp_path / "again/dev-clean-2.jsonl"


def test_ljspeech_takes_the_text_with_numbers_in_words_and_sets_chapters_aside(tmp_path: Path):
    splits = prepared("ljspeech", tmp_path)
    chapters = {split: {entry.id.split("-")[0] for entry in entries} for split, entries in splits.items()}
    assert chapters == {"train": {"LJ002", "LJ003"}, "dev": {"LJ001"}}
    assert {entry.text for entry in splits["dev"]} == {"mister luders in eighteen oh one said no"}


def test_common_voice_keeps_its_splits_and_letters_and_counts_clips_that_are_not_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    root = tmp_path / "cv-corpus-17.0/sv-SE"
    commonvoice(root, '"L’été : ""Déjà”')
    (root / "clips/common_voice_en_bob.mp3").unlink()
    with caplog.at_level(logging.WARNING):
        splits = manifests(prepare(CORPORA["commonvoice"], root, tmp_path / "out"))
    assert {split: [entry.speaker for entry in entries] for split, entries in splits.items()} == {
        "train": ["ada"],
        "dev": ["cyd"],
        "test": ["dan"],
    }
    assert "1 clips of train.tsv are not there" in caplog.text
    (entry,) = splits["dev"]
    assert entry.audio == root / "clips/common_voice_en_cyd.mp3"
    assert (entry.id, entry.text) == ("common_voice_en_cyd", "l'été déjà")
    assert entry.seconds == pytest.approx(0.5, abs=0.1)


def test_an4_keeps_its_test_set_and_sets_speakers_of_train_aside(tmp_path: Path):
    splits = prepared("an4", tmp_path)
    assert [len(splits[split]) for split in ("train", "dev", "test")] == [2, 1, 1]
    assert speakers(splits["train"]) | speakers(splits["dev"]) == {"fash", "mblb", "mcel"}
    (test,) = splits["test"]
    assert (test.id, test.text, test.seconds) == ("an1-fcaw-b", "rubout g m sixty two", 0.2)
    assert len(read(test.audio)) == 0.2 * RATE


def test_tedlium_is_cut_into_its_utterances(tmp_path: Path):
    splits = prepared("tedlium", tmp_path)
    assert splits.keys() == {"train", "dev", "test"}
    (entry,) = splits["train"]
    assert entry.audio == tmp_path / "out/audio/train/AlGore_2006/AlGore_2006-1.flac"
    assert (entry.text, entry.seconds, entry.speaker) == ("it's the cause of sixties", 0.5, "AlGore_2006")
    talk = read(tmp_path / "src/TEDLIUM_release-3/legacy/train/sph/AlGore_2006.sph")
    np.testing.assert_array_equal(read(entry.audio), talk[RATE // 4 : 3 * RATE // 4])
    assert (
        json.loads((tmp_path / "out/train.jsonl").read_text())["audio"] == "audio/train/AlGore_2006/AlGore_2006-1.flac"
    )


def test_tedlium_tells_of_utterances_that_end_after_their_talk(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    TREES["tedlium"](tmp_path / "src")
    stm = tmp_path / "src/TEDLIUM_release-3/legacy/train/stm/AlGore_2006.stm"
    said = "".join(f"AlGore_2006 1 AlGore_2006 {start} {start + 0.5} <o> i 'd 've gone\n" for start in (0.5, 1.2, 2.0))
    stm.write_text(said)
    with caplog.at_level(logging.WARNING):
        (train, *_) = prepare(CORPORA["tedlium"], tmp_path / "src", tmp_path / "out")
    whole, trimmed = read_manifest(train.manifest)
    assert (whole.text, whole.seconds) == ("i'd've gone", 0.5)
    assert trimmed.seconds == 0.3
    assert "2 problems, the first: Removed 1 supervisions" in caplog.text


def test_voxforge_reads_either_prompts_and_keeps_anonymous_speakers_in_train(tmp_path: Path):
    splits = prepared("voxforge", tmp_path)
    assert speakers(splits["train"]) >= {None}
    assert speakers(splits["dev"]) == {"Aaron"}
    assert speakers(splits["train"]) == {None, "Bea"}
    texts = {entry.id: entry.text for entries in splits.values() for entry in entries}
    assert texts["Aaron-20080318-kdl/a0001"] == texts["anonymous-20080504-qvg/a0001"] == "ten four o'brien"
    assert texts["Bea-20090101-x/a0002"] == "ubermut"
    assert "Aaron-20080318-kdl/a0002" not in texts  # a recording without a prompt


def test_speech_commands_keeps_its_lists_and_digits_are_a_part_of_it(tmp_path: Path):
    splits = prepared("speechcommands", tmp_path)
    assert {split: speakers(entries) for split, entries in splits.items()} == {
        "train": {"0a7c2a8d"},
        "dev": {"1b4c9b89"},
        "test": {"2da58b32"},
    }
    assert [entry.text for entry in splits["train"]] == ["seven", "yes"]
    assert splits["test"][0].id == "speech_commands_v0.02/seven/2da58b32_nohash_0"
    results = prepare(CORPORA["digits"], tmp_path / "src/SpeechCommands/speech_commands_v0.02", tmp_path / "digits")
    assert all([entry.text for entry in entries] == ["seven"] for entries in manifests(results).values())


def test_a_folder_has_texts_beside_recordings_and_speakers_for_folders(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    for speaker in ("ada", "bob", "cyd"):
        own_folder(tmp_path / "src", "One, two.", "3 apples", "Naïve!", speaker=speaker)
    record(tmp_path / "src/ada/untold.wav")
    write(tmp_path / "src/ada/silent.txt", "Nobody said this.")
    results = prepare(folder_corpus("en"), tmp_path / "src", tmp_path / "src/out")
    assert (
        f"{tmp_path}/src/ada/silent.txt: no recording of this name, texts left out: 1 in {tmp_path}/src;" in caplog.text
    )
    splits = manifests(results)
    assert [len(splits["train"]), len(splits["dev"])] == [6, 3]
    assert not speakers(splits["train"]) & speakers(splits["dev"])
    assert {entry.text for entry in splits["train"]} == {"one two", "three apples", "naive"}
    assert [identifier for result in results for identifier in result.left_out] == ["ada/untold"]
    assert "1 left out, without a text that says what was spoken: ada/untold" in "".join(map(str, results))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_names_recordings_relative_to_itself(tmp_path: Path, separator: str):
    rows = [("text", "audio", "note")]
    for number in range(12):
        record(tmp_path / f"src/audio/{number}.wav")
        rows.append((f"sentence {number // 2}", f"audio/{number}.wav", "x"))
    rows.append(("in 1984", str(record(tmp_path / "elsewhere.flac")), ""))
    table = write(tmp_path / "src/list.csv", "\ufeff" + "".join(f"{separator.join(row)}\n" for row in rows))
    splits = manifests(prepare(csv_corpus("en"), table, tmp_path / "out"))
    assert len(splits["train"]) + len(splits["dev"]) == 13
    train, dev = ({entry.text for entry in splits[split]} for split in ("train", "dev"))
    assert not train & dev  # without speakers, no text is in both
    assert "in nineteen eighty four" in train | dev


def test_no_recording_of_a_table_is_in_both_train_and_dev(tmp_path: Path):
    names = [str(number) for number in range(30)]
    for name in names:
        record(tmp_path / f"{name}.wav")
    rows = ["Path,Sentence,Speaker,Offset,Duration"]
    for number, name in enumerate(names):  # each recording has two parts, of two people with texts of their own
        rows += [f"{name}.wav,one {'abcdefghij'[number % 10]},ann {number},0,0.1"]
        rows += [f"./{name}.wav,two {'abcdefghij'[number // 3]},bob {number},0.1,0.1"]
    columns = COLUMNS | {"audio": "path", "text": "SENTENCE"}
    for speaker in ("speaker", "none"):
        table = write(tmp_path / "list.csv", "\n".join(rows) + "\n")
        corpus = csv_corpus("en", columns | {"speaker": speaker})
        if speaker == "none":  # by texts, of which each is joined to others: nothing can be set aside
            with pytest.raises(RecipeError, match="nothing could be set aside"):
                prepare(corpus, table, tmp_path / "out")
            continue
        splits = manifests(prepare(corpus, table, tmp_path / "out"))
        train, dev = ({os.path.realpath(entry.audio) for entry in splits[split]} for split in ("train", "dev"))
        assert dev
        assert not train & dev
        assert {(entry.offset, entry.duration) for entry in splits["train"]} == {(0.0, 0.1), (0.1, 0.1)}


def test_missing_recordings_of_a_table_are_told_of_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    rows = ["audio,text"] + [f"{number}.wav,words {'abcdefgh'[number]}" for number in range(8)]
    for number in range(6):
        record(tmp_path / f"{number}.wav")
    results = prepare(csv_corpus("en"), write(tmp_path / "list.csv", "\n".join(rows) + "\n"), tmp_path / "out")
    assert sum(result.utterances for result in results) == 6
    left_out = f"{tmp_path}/6.wav: no such recording, 2 in {tmp_path / 'list.csv'} are left out"
    assert caplog.messages == [f"{left_out}; paths count from the table's folder"]


def test_a_language_is_a_code():
    assert [language_of(name) for name in ("en", "EN-us", "zh_TW", "haw")] == ["en", "en", "zh", "haw"]
    with pytest.raises(RecipeError, match=r"^'klingon' is no language; name it by its code"):
        language_of("klingon")


def test_other_languages_keep_letters_but_numbers_are_not_guessed(tmp_path: Path):
    own_folder(tmp_path / "src", "Grüße, Ömer!", "Ja.", "Um 3 Uhr")
    results = prepare(folder_corpus("de"), tmp_path / "src", tmp_path / "out")
    assert sorted(entry.text for entries in manifests(results).values() for entry in entries) == ["grüße ömer", "ja"]
    assert [identifier for result in results for identifier in result.left_out] == ["2"]


@given(st.lists(st.sampled_from([None, *"abcdefghij"]), min_size=2, max_size=80))
def test_setting_aside_takes_whole_groups_and_does_not_depend_on_the_order(groups: list[str | None]):
    entries = [Entry(str(number), Path(f"{number}.wav"), "a", 1.0, group) for number, group in enumerate(groups)]
    named = {group for group in groups if group}
    if not named or (len(named) == 1 and 2 * groups.count(None) < len(groups)):
        with pytest.raises(RecipeError, match="too few"):
            hold_out(entries, lambda entry: entry.speaker)
        return
    splits = hold_out(entries, lambda entry: entry.speaker)
    train, dev = splits["train"], splits["dev"]
    assert train
    assert dev
    assert sorted(entry.id for entry in train + dev) == sorted(entry.id for entry in entries)
    assert not speakers(train) & speakers(dev)
    assert None not in speakers(dev)
    smallest = min(groups.count(name) for name in named)
    assert len(dev) <= max(smallest, round(0.1 * len(entries)))
    again = hold_out(entries[::-1], lambda entry: entry.speaker)
    assert {entry.id for entry in again["dev"]} == {entry.id for entry in dev}


def test_recordings_of_unknown_length_are_told_of():
    line = "train.jsonl: 3 utterances, 1.00 h and 2 of unknown length"
    assert str(Prepared(Path("train.jsonl"), 3, seconds=3600.0, unmeasured=2, left_out=[])) == line
