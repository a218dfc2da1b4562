"""One function per kind of input: makes the input of a number in an empty folder, and uses it as the program does.

What each promises is asserted by `promises.kept`; here only what further holds of a result.
"""

import io
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import carrier
import numpy as np
from inputs import HOSTILE, SAMPLE, WORDS, audio_seeds, damage, json_text, number, samples
from messages import messages, server
from promises import BrokenPromise, kept
from tagger_folder import write_tagger

import asr
from asr.audio.sources import Excerpt, duration, read_blocks
from asr.data.manifest import read_manifest
from asr.decode.build import make_decoder
from asr.decode.lexicon import PronouncedModel
from asr.lm.arpa import write_arpa
from asr.lm.binary import load_model, save_model
from asr.lm.estimate import estimate
from asr.lm.lexicon import Lexicon
from asr.lm.ngram import NgramModel
from asr.lm.trie import Trie
from asr.model.bundle import load_bundle
from asr.model.engine import StreamingEngine, open_engine
from asr.model.tagger import GRAPH, LISTED, MARKS, Tagger
from asr.model.tokens import CONTROL
from asr.spoken import read_aloud

TEXT = ["the cat sat on the mat", "a cat sat", "the dog sat on a cat", "on a mat the dog sat"] * 2
LEXICON = Lexicon.of([("the", "Da"), ("the", "DI"), ("cat", "kAt"), ("dog", "dag"), ("sat", "sAt"), ("on", "an")])
SPEECH = carrier.speech("the cat")
DIGITS = (
    "9" * 5000,
    "1" * 20,
    "1",
    "0",
    ".",
    ",",
    "$",
    "£",
    "th",
    "st",
    "%",
    "-",
    "²",
    "٣",
    "½",
    "VIII",
    " ",
    "'",
    ":",
    "1,000",
)


@cache
def models() -> list[NgramModel]:
    plain, _ = estimate(TEXT, 4)
    return [plain, plain.packed(), estimate(TEXT, 2)[0]]


def audio(dice: random.Random, folder: Path) -> None:
    suffix, content = dice.choice(audio_seeds())
    path = folder / f"talk.{suffix if dice.random() < 0.8 else dice.choice(('wav', 'm4a', 'raw', 'mp3', 'm3u8'))}"
    path.write_bytes(damage(dice, content))
    duration(path)
    heard = sum(map(len, read_blocks(path if dice.random() < 0.7 else path.read_bytes())))
    # Half a second was written, and a file of these sizes cannot hold hours, whatever its header says.
    if heard > 3600 * 16_000:
        raise BrokenPromise(f"{heard / 16_000:.0f} s of audio")


def bundle(dice: random.Random, folder: Path) -> None:
    model = carrier.write_bundle(folder / "model", streaming=dice.random() < 0.5)
    name = dice.choice(("config.json", "config.json", "tokens.txt", "model.onnx"))
    path = model / name
    if name == "config.json":
        path.write_bytes(json_text(dice, json.loads(path.read_bytes()) | {"decoder": {"lm": "own.lm"}}))
    else:
        path.write_bytes(damage(dice, path.read_bytes()))
    loaded = load_bundle(model)
    make_decoder(dice.choice(("beam", "greedy")), loaded)
    engine = open_engine(loaded, threads=1)
    if isinstance(engine, StreamingEngine):
        engine.run([engine.start()], [SPEECH])
    else:
        engine.run([SPEECH])


def tagger(dice: random.Random, folder: Path) -> None:
    model = write_tagger(folder / "model")
    name = dice.choice((GRAPH, LISTED, "config.json"))
    path = model / name
    content = path.read_bytes()
    path.write_bytes(json_text(dice, json.loads(content)) if name == "config.json" else damage(dice, content))
    words = [*WORDS, dice.choice(("", "'", "x" * 5000, "日本", "\ud800"))] * dice.choice((1, 100))
    pauses = [dice.choice((0.0, 0.5, -1.0, 1e300, float("nan"), float("inf"))) for _ in words]
    for tag in Tagger(model).tag(words, pauses if dice.random() < 0.5 else None):
        if CONTROL.search(tag.form) or tag.mark not in MARKS:
            raise BrokenPromise(f"{tag}")


def language_model(dice: random.Random, folder: Path) -> None:
    path = folder / "words.lm"
    save_model(dice.choice(models()), path)
    path.write_bytes(damage(dice, path.read_bytes()))
    model = load_model(path)
    for searched in (model, PronouncedModel(model, LEXICON)):
        states = {0, searched.start()}
        for _ in range(2):
            following = set()
            for state in states:
                for word in WORDS:
                    log_prob, after = searched.score(state, searched.vocabulary.id(word))
                    if not np.isfinite(log_prob):
                        raise BrokenPromise(f"a log-prob of {log_prob}")
                    following.add(after)
                searched.best(state, 0, 4)
                searched.shorten(state, 1, 5)
            states = following
    write_arpa(model, io.StringIO())
    Trie(model)


def lexicon(dice: random.Random, folder: Path) -> None:
    path = folder / "words.lex"
    if dice.random() < 0.5:
        LEXICON.save(path)
    else:
        path.write_text("the\tDH AH0\nthe(2)\tDH IY0\n;;; comment\ncat  K AE1 T # animal\n")
    path.write_bytes(damage(dice, path.read_bytes()))
    read = Lexicon.load(path)
    if any(CONTROL.search(word) for word, _ in read):
        raise BrokenPromise("a word with control characters")
    for word in WORDS:
        read.pronunciations(word)
    PronouncedModel(models()[0], read)


def arpa(dice: random.Random, folder: Path) -> None:
    path = folder / "words.arpa"
    save_model(dice.choice((models()[0], models()[-1])), path)
    path.write_bytes(damage(dice, path.read_bytes()))
    for _ in load_model(path).levels():
        pass


RECIPE = {
    "name": "tiny",
    "kind": "acoustic",
    "epochs": 3,
    "data": {"train": ["a.jsonl"], "dev": "b.jsonl", "max_seconds": 20.0},
    "model": {"cell": "gru", "layers": 2, "hidden_size": 16, "lookahead": 3, "bidirectional": False},
    "tokenizer": {"kind": "characters", "alphabet": "abc", "vocabulary": 40},
    "optimizer": {"learning_rate": 0.001, "clip": 2, "schedule": "constant"},
    "augment": {"speeds": [0.9, 1.0], "gain_db": [-3, 3], "noises": ["pink"]},
}


def recipe(dice: random.Random, folder: Path) -> None:
    import yaml

    from asr.train.config import load_recipe

    path = folder / "recipe.yaml"
    if dice.random() < 0.5:
        path.write_bytes(json_text(dice, RECIPE))
    else:
        path.write_bytes(damage(dice, yaml.safe_dump(RECIPE).encode()))
    overrides = [
        f"{key}={dice.choice(HOSTILE)!s:.100}" for key in ("name", "model.layers", "optimizer") if not dice.randrange(4)
    ]
    loaded = load_recipe(path, overrides)
    if not loaded.folder.resolve().is_relative_to(Path(loaded.output).resolve()):
        raise BrokenPromise(f"a run outside of its output: {loaded.folder}")


def manifest(dice: random.Random, folder: Path) -> None:
    path = folder / "dev.jsonl"
    entry = {"audio": "a.wav", "text": "the cat", "seconds": 1.5, "speaker": "ada", "id": "1", "confidence": 0.5}
    path.write_bytes(b"\n".join(json_text(dice, entry | {"id": str(line)}) for line in range(3)))
    read_manifest(path, check_files=dice.random() < 0.3)


@cache
def parquet() -> bytes:
    import pyarrow
    import pyarrow.parquet

    rows = [{"audio": f"{number}.wav", "offset": 1.0, "duration": 2.5, "other": "a" * number} for number in range(40)]
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), content, row_group_size=16)
    return content.getvalue()


def bulk(dice: random.Random, folder: Path) -> None:
    """Manifests of many recordings; the plan and a part of an output."""
    from asr.bulk.plan import PLAN, Part, Recording, list_recordings, make_plan
    from asr.bulk.run import Writer
    from asr.bulk.store import Store

    store, plain = Store(str(folder / "out")), [Recording("a.wav", "a.wav", 9, "1", 1.5), Recording("b.wav", "b.wav")]
    suffix = dice.choice((".jsonl", ".txt", ".parquet", PLAN, "part-00000.jsonl", "part-00000.parquet"))
    if suffix.startswith("part"):
        row = {"path": "a.wav", "text": "the cat", "words": [], "duration": 1.5, "error": None}
        content = json.dumps(row).encode() + b"\n" + json_text(dice, row) if suffix.endswith("l") else parquet()
        store.write(suffix, content if dice.random() < 0.5 else damage(dice, content))
        Writer(store, suffix.rpartition(".")[2]).begin([Part("00000", tuple(plain))], (), retry_errors=True)
    elif suffix == PLAN:
        make_plan(store, plain, {"model": "m"}, share_long=False)
        settings, *parts = map(json.loads, (store.read(PLAN) or b"").splitlines())
        store.write(PLAN, json_text(dice, settings) + b"\n" + b"\n".join(json_text(dice, part) for part in parts))
        for part in make_plan(store, plain, {"model": "m"}, share_long=False):
            check_names(part.recordings)
    else:
        entry = {"audio": dice.choice(("a.wav", "s3://b/a.wav")), "offset": 1.0, "duration": 2.5, "text": "the cat"}
        lines = b"\n".join(json_text(dice, entry) for _ in range(3)).replace(b"/etc/", b"etc/")  # reading that is right
        (folder / f"list{suffix}").write_bytes(damage(dice, parquet()) if suffix == ".parquet" else lines)
        recordings = list_recordings([str(folder / f"list{suffix}")], print)
        check_names(recordings)
        if any(CONTROL.search(item.name) for item in recordings):
            raise BrokenPromise(f"names of files for a terminal: {recordings}")


def check_names(recordings: Iterable[Any]) -> None:
    for item in recordings:
        if ".." in Path(item.name).parts or Path(item.name).is_absolute():
            raise BrokenPromise(f"a file outside of the output: {item.name!r}")


def run(dice: random.Random, folder: Path) -> None:
    """A run's folder, and its checkpoint."""
    from safetensors.numpy import save

    from asr.train.checkpoint import read_checkpoint
    from asr.train.runs import find_runs

    record = {"kind": "acoustic", "epochs": 3, "command": "asr train a.yaml", "machine": "m"}
    epoch = {"epoch": 1, "step": 10, "minutes": 0.5, "dev_wer": 0.5, "dev_loss": 1.0}
    progress = {"tokens": ["<blank>", "a"], "curve": [epoch], "batches": 1, "stats": {"step": 1}, "averaged": ["a"]}
    header = {"progress": json_text(dice, progress).decode("utf-8", "replace")}
    weights = save({"model.head.bias": np.zeros(3, dtype=np.float32)}, header)
    parts = {"recipe.yaml": b"name: a\n", "run.json": json_text(dice, record), "curve.jsonl": json_text(dice, epoch)}
    parts["last.safetensors"] = weights if dice.random() < 0.5 else damage(dice, weights)
    for name, content in parts.items():
        (folder / name).write_bytes(content)
    for found in find_runs(folder):
        if not all(line.isprintable() for line in found.damage):
            raise BrokenPromise(f"{found.damage}")
    read_checkpoint(folder / "last.safetensors")


@cache
def recognizers(bundles: Path) -> tuple[asr.Recognizer, Path, Path]:
    whole, live = carrier.write_bundle(bundles / "whole"), carrier.write_bundle(bundles / "live", streaming=True)
    return asr.Recognizer(whole, threads=1), whole, live


def arguments(dice: random.Random, folder: Path) -> None:
    """Of the Python API."""
    recognizer, _, live = recognizers(folder.parent / "bundles")

    def odd() -> Any:
        return dice.choice(HOSTILE)

    calls: list[Callable[[], Any]] = [
        lambda: recognizer.transcribe(samples(dice), dice.choice((16_000, number(dice), odd()))),
        lambda: recognizer.transcribe(SPEECH, number(dice)),
        lambda: recognizer.transcribe(SPEECH, 16_000, hotwords=odd()),
        lambda: recognizer.transcribe(SPEECH, 16_000, hotwords={str(odd()): number(dice)}),
        lambda: recognizer.transcribe(Excerpt(SAMPLE, odd(), odd(), number(dice), dice.choice((odd(), number(dice))))),
        lambda: recognizer.transcribe(Excerpt(SAMPLE, start=number(dice), end=dice.choice((None, number(dice))))),
        lambda: asr.align(recognizer, SPEECH, odd(), 16_000),
        lambda: read_aloud(
            "".join(dice.choices(DIGITS, k=dice.randrange(1, 6))), dice.choice(("en", "de", "ja", "qaa"))
        ),
        lambda: asr.punctuate(odd(), dice.choice(("en", odd()))),
        lambda: asr.Recognizer(recognizer, style=odd()),
        lambda: asr.DecoderOptions(beam_width=odd(), nbest=odd()),
        lambda: asr.DecoderOptions(odd(), lm=odd()),
        lambda: asr.Endpoint(odd(), number(dice), number(dice)),
        lambda: asr.Recognizer(recognizer, batch_size=odd(), threads=odd()),
        lambda: asr.load_model(odd() if dice.random() < 0.5 else "x" * dice.choice((300, 5000))),
        lambda: asr.StreamingRecognizer(live, threads=1).accept(samples(dice), dice.choice((16_000, 8000, odd()))),
    ]
    dice.choice(calls)()


def command_line(dice: random.Random, folder: Path) -> None:
    """Files and values in places where they do not belong; exit code and messages are those of the program."""
    from asr.cli.main import main

    _, whole, _ = recognizers(folder.parent / "bundles")
    carrier.save(folder / "talk.wav", "the cat")
    (folder / "odd\x1b[31m.wav").write_bytes(damage(dice, SAMPLE.read_bytes()[:4000]))
    values = ["talk.wav", "odd\x1b[31m.wav", "missing", "x" * 5000, ".", "-", "", "\x1b[2J", "0", "-1", "1e9", "nan"]
    values += ["greedy", "beam", "json", "srt", str(whole), "NONE", "the cat:8", "9" * 20, "$" + "9" * 5000]
    options = ["--format", "--decoder", "--lm", "--hotwords", "--beam-width", "--threads", "--batch-size", "--language"]
    options += ["--hotwords-file", "--output", "--lexicon", "--rescore", "--nbest", "--output-dir", "--style"]
    commands = "transcribe", "transcribe", "evaluate", "runs", "models", "align", "punctuate", "lexicon", "lm"
    chosen = [dice.choice(commands)]
    for _ in range(dice.randrange(1, 5)):
        chosen += [dice.choice(options), dice.choice(values)] if dice.random() < 0.6 else [dice.choice(values)]
    if chosen[0] in ("transcribe", "evaluate", "align"):
        chosen += ["--model", dice.choice((str(whole), str(whole), dice.choice(values)))]
    before, out, err = (sys.argv, sys.stdin), io.StringIO(), io.StringIO()
    sys.argv, sys.stdin = ["asr", *chosen], SimpleNamespace(buffer=io.BytesIO(b""))
    code: Any = None
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.argv, sys.stdin = before
    lines = err.getvalue().splitlines()
    if code not in (0, 1, 2) or "Traceback" in err.getvalue():
        raise BrokenPromise(f"exit code {code}: {chosen}")
    if code == 1 and not all(line.startswith("asr: ") and line.isprintable() and len(line) <= 305 for line in lines):
        raise BrokenPromise(f"{chosen}: {lines!r:.500}")
    if "\x1b" in out.getvalue():
        raise BrokenPromise(f"an escape on standard output: {chosen}")


HARNESSES: dict[str, Callable[[random.Random, Path], None]] = {
    item.__name__: item
    for item in (
        audio,
        bundle,
        tagger,
        language_model,
        lexicon,
        arpa,
        recipe,
        manifest,
        bulk,
        run,
        arguments,
        command_line,
        messages,
    )
}


def try_one(name: str, seed: int, parent: Path) -> None:
    """The input of a number; `parent` is kept between inputs. An error that is not ours, where a promise is broken."""
    folder, temporary = parent / "input", parent / "tmp"
    shutil.rmtree(folder, ignore_errors=True)
    for made in (folder, temporary):
        made.mkdir(exist_ok=True)
    audio_seeds(), models(), recognizers(parent / "bundles")
    if name == "messages":
        server(parent / "bundles")
    before, os.environ["TMPDIR"] = (os.getcwd(), os.environ.get("TMPDIR")), str(temporary)
    tempfile.tempdir = None  # to be found again
    os.chdir(folder)
    try:
        with kept(parent):
            HARNESSES[name](random.Random(f"{name} {seed}"), folder)
    finally:
        os.chdir(before[0])
        del os.environ["TMPDIR"]
        if before[1] is not None:
            os.environ["TMPDIR"] = before[1]
        tempfile.tempdir = None
