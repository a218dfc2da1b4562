#!/usr/bin/env python3
"""Pack a training run for a machine without network, and put the results that come back together again.

    pack_training.py pack OUT --train TRAIN.jsonl ... --dev DEV.jsonl ... --recipe RECIPE.yaml --cache CACHE
    pack_training.py join FOLDER RESULTS                      # RESULTS: the files that `train_packed.py` wrote

`pack` writes OUT/part-00.tar with the sources of `asr`, recipe, wheels, dev data, noise and weights to start from, and
OUT/part-01.tar, part-02.tar, … with the training data, none of them larger than `--part-size`; `tools/train_packed.py`
unpacks them over there. Utterances are spread over the parts at random, so that some of the parts are a smaller corpus
of the same kind. With `--only-base` part-00.tar alone is made again: after a change of sources or recipe. Each part
has the manifest part-NN.jsonl; where the recipe spells phones, each row has its text in phone letters as "phones", so
that no time is spent on it over there, and part-00.tar has the lexicon, to write words.

Needs the ffmpeg program with libopus: training data become Opus at 16 kbit/s, dev data at 32, noise at 64, unless they
are Opus already. CACHE keeps them for the next time.
"""

import argparse
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

from asr.data.manifest import Entry
from asr.data.pronunciation import PhoneSpeller, make_speller
from asr.data.tokenizer import TextRule
from asr.errors import AsrError
from asr.model.bundle import PACKAGED
from asr.train.config import AcousticRecipe, load_recipe

ROOT = Path(__file__).parents[1]
INDEX = "index.json"  # of the results, written by train_packed.py
TRAIN_KBITS, DEV_KBITS, NOISE_KBITS = 16, 32, 64
ENCODED_AT_ONCE = 24  # by one ffmpeg process, which takes as long to start as to encode 3 s
BLOCK = tarfile.BLOCKSIZE  # a file in a tar takes whole blocks, and one more for its header
RECORDINGS = {".wav", ".flac", ".opus", ".ogg", ".mp3"}
LEFT_BEHIND = {"pretrained", "__pycache__"}
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

Row = dict[str, Any]  # of a manifest; "audio" is an absolute path
Member = tuple[str, Path | bytes]  # name in the tar, and the file or its contents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for command in (pack, join):
        name = command.__name__
        commands.add_parser(name, description=command.__doc__).set_defaults(command=command)
    add = commands.choices["join"].add_argument
    add("folder", type=Path, help="run's folder, to be made")
    add("results", type=Path, help=f"folder of the files that came back, {INDEX} among them")
    add = commands.choices["pack"].add_argument
    add("out", type=Path)
    add("--train", nargs="*", type=Path, default=[], help="manifests (JSON Lines)")
    add("--min-confidence", type=float, default=0.6, help="of training texts that a model wrote, 0 to 1")
    add("--dev", nargs="+", type=Path, required=True, help="manifests (JSON Lines)")
    add("--noise", type=Path, help="manifest or folder of noise recordings, packed as noise.jsonl")
    add("--recipe", type=Path, required=True)
    add("--start", nargs="*", type=Path, default=[], help="files of a run to go on with, packed in start/")
    add("--wheels", type=Path, help="folder of wheels that the other machine lacks")
    add("--source", type=Path, default=ROOT, help="folder that holds asr/ (default: this one)")
    add("--part-size", type=parse_size, default="60M", help="bytes, or with K, M, G (default: 60M)")
    add("--seed", type=int, default=1)
    add("--only-base", action="store_true", help="make part-00.tar only")
    add("--cache", type=Path, default=Path("runs/opus"), help="folder of encoded recordings")
    add("--workers", type=int, default=1, help="ffmpeg processes")
    options = parser.parse_args()
    try:
        options.command(options)
    except AsrError as error:
        sys.exit(str(error))


def parse_size(text: str) -> int:
    return round(float(text[:-1]) * UNITS[text[-1]]) if text[-1] in UNITS else int(text)


def pack(options: argparse.Namespace) -> None:
    """Write the parts and say what to carry. SystemExit names what is missing or too large."""
    options.out.mkdir(parents=True, exist_ok=True)
    base = pack_base(options)
    print_part(base, "")
    if options.only_base:
        return
    rows = encode(read_rows(options.train, options.min_confidence), options.cache, TRAIN_KBITS, options.workers)
    spell(rows, load_recipe(options.recipe, []))
    random.Random(options.seed).shuffle(rows)
    for stale in set(options.out.glob("part-*.tar")) - {base}:
        stale.unlink()
    for number, part in enumerate(split(rows, options.part_size), start=1):
        name = f"part-{number:02d}"
        path = write_tar(options.out / f"{name}.tar", manifest_members(f"{name}.jsonl", name, part), options.part_size)
        print_part(path, f", {len(part):,} utterances, {hours(part):.2f} h")
    print("then:  python3 train_packed.py train --work WORK --out RESULTS --budget-minutes MINUTES")


def hours(rows: list[Row]) -> float:
    return sum(row.get("seconds", 0.0) for row in rows) / 3600


def print_part(path: Path, contents: str) -> None:
    command = f"python3 train_packed.py unpack --work WORK {path.name}"
    print(f"carry {path} ({path.stat().st_size / UNITS['M']:.1f} MiB{contents}) and train_packed.py, run:  {command}")


def read_rows(manifests: Iterable[Path], min_confidence: float = 0.0) -> list[Row]:
    """Rows of all manifests, audio paths absolute. SystemExit if an id occurs twice or a recording is missing."""
    rows: dict[str, Row] = {}
    for manifest in manifests:
        lines = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines() if line.strip()]
        kept = [row for row in lines if row.get("confidence", 1.0) >= min_confidence]
        for row in kept:
            row["audio"] = (manifest.parent / row["audio"]).absolute()
            row.setdefault("id", row["audio"].stem)
            if row["id"] in rows:
                sys.exit(f"{manifest}: the id {row['id']} occurs twice; ids are unique in all manifests together")
            if not row["audio"].is_file():
                sys.exit(f"{manifest}: no recording {row['audio']}; build the corpus again")
            rows[row["id"]] = row
        unsure = f", {len(lines) - len(kept):,} below confidence {min_confidence} left out" * (len(kept) < len(lines))
        print(f"{manifest}: {len(kept):,} rows, {hours(kept):.2f} h{unsure}")
    return list(rows.values())


def encode(rows: list[Row], cache: Path, kbits: int, workers: int) -> list[Row]:
    """The rows with Opus files below CACHE as audio; those that are Opus already stay as they are."""
    folder = cache / f"{kbits}k"
    encoded = [row if row["audio"].suffix == ".opus" else row | {"audio": folder / cached_name(row)} for row in rows]
    pairs = list({new["audio"]: (old["audio"], new["audio"]) for old, new in zip(rows, encoded, strict=True)}.values())
    pairs = [(source, target) for source, target in pairs if source != target and not target.exists()]
    groups = [pairs[first : first + ENCODED_AT_ONCE] for first in range(0, len(pairs), ENCODED_AT_ONCE)]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda group: run_ffmpeg(group, kbits), groups))
    return encoded


def opus_name(row: Row) -> str:
    return "/".join(re.sub(r"[^\w.-]", "_", name) for name in (row.get("source", "audio"), row["id"])) + ".opus"


def cached_name(row: Row) -> str:
    """Another one where the recording has changed."""
    status = row["audio"].stat()
    what = f"{row['audio'].resolve()} {status.st_size} {status.st_mtime_ns}"
    return opus_name(row).removesuffix(".opus") + f"-{sha256(what.encode()).hexdigest()[:12]}.opus"


def run_ffmpeg(pairs: Iterable[tuple[Path, Path]], kbits: int) -> None:
    """Encode (source, target) pairs, 16 kHz mono; a target is there whole or not at all. SystemExit if ffmpeg fails."""
    parts = {target: target.with_suffix(".partial") for _, target in pairs}
    command: list[str | Path] = ["ffmpeg", "-nostdin", "-v", "error", "-y"]
    for source, _ in pairs:
        command += ["-i", source]
    for index, (target, part) in enumerate(parts.items()):
        target.parent.mkdir(parents=True, exist_ok=True)
        command += ["-map", f"{index}:a", "-ac", "1", "-ar", "16000", "-c:a", "libopus", "-b:a", f"{kbits}k"]
        command += ["-application", "voip", "-f", "ogg", part]
    if not shutil.which("ffmpeg"):
        sys.exit("ffmpeg is missing; install it, with libopus")
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"ffmpeg cannot encode ({' '.join(done.stderr.split())[-300:]})")
    for target, part in parts.items():
        os.replace(part, target)


def spell(rows: list[Row], recipe: AcousticRecipe) -> None:
    """Add phones to rows that have none, if the recipe needs them; empty ones to texts that cannot be pronounced."""
    if speller := make_speller(recipe.tokenizer, recipe.phones, recipe.language):
        rule = TextRule(recipe.tokenizer)
        for row in rows:
            text = rule(row["text"], row["id"])
            row["phones"] = speller(Entry(row["id"], row["audio"], text, None, None, phones=row.get("phones")))
        for line in speller.report():
            print(line)


def lexicon_members(recipe: AcousticRecipe) -> Iterator[Member]:
    """The packaged lexicon that the recipe needs to write words, and its own dictionary. Rows have their phones."""
    if recipe.tokenizer.spelling == "phones":
        speller = PhoneSpeller(recipe.tokenizer.lexicon, recipe.language)
        if speller.packaged.is_file():
            yield f"source/asr/{speller.packaged.relative_to(PACKAGED.parent)}", speller.packaged
        if speller.own is not None:
            yield speller.own.name, speller.own


def manifest_members(manifest: str, folder: str, rows: list[Row]) -> Iterator[Member]:
    packed = [row | {"audio": f"{folder}/{opus_name(row)}"} for row in rows]
    if len({row["audio"] for row in packed}) < len(packed):
        sys.exit(f"{manifest}: two ids differ only in characters that a file name may not hold; change one")
    yield manifest, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in packed).encode()
    for row, new in zip(rows, packed, strict=True):
        yield new["audio"], row["audio"]


def split(rows: list[Row], part_size: int) -> Iterator[list[Row]]:
    """Rows one after another as they fit into parts."""
    part: list[Row] = []
    used = start = 2 * BLOCK + tarfile.RECORDSIZE  # the manifest's blocks, and the end of the tar
    for row in rows:
        (_, line), (_, audio) = manifest_members("", "part-00", [row])
        size = len(line) + audio.stat().st_size + 2 * BLOCK
        if part and used + size > part_size:
            yield part
            part, used = [], start
        part.append(row)
        used += size
    if part:
        yield part


def pack_base(options: argparse.Namespace) -> Path:
    """part-00.tar: all but the training data."""
    recipe = load_recipe(options.recipe, [])
    members: list[Member] = [
        ("recipe.yaml", options.recipe),
        ("source/tools/train_packed.py", ROOT / "tools/train_packed.py"),
    ]
    for path in sorted(options.source.glob("asr/**/*")):
        if path.is_file() and not LEFT_BEHIND & set(path.parts):
            members.append((f"source/{path.relative_to(options.source)}", path))
    members += lexicon_members(recipe)
    wheels = sorted(options.wheels.glob("*.whl")) if options.wheels else []
    members += [(f"wheels/{path.name}", path) for path in wheels]
    members += [(f"start/{path.name}", path) for path in options.start]
    for dev in options.dev:
        rows = encode(read_rows([dev]), options.cache, DEV_KBITS, options.workers)
        spell(rows, recipe)
        members += manifest_members(dev.name, dev.stem, rows)
    if options.noise:
        noise = encode(read_noise(options.noise), options.cache, NOISE_KBITS, options.workers)
        members += manifest_members("noise.jsonl", "noise", noise)
    return write_tar(options.out / "part-00.tar", members, options.part_size)


def read_noise(path: Path) -> list[Row]:
    if path.is_file():
        return read_rows([path])
    found = sorted(file for file in path.rglob("*") if file.suffix in RECORDINGS)
    return [{"audio": file.absolute(), "id": file.stem, "text": "", "source": "noise"} for file in found]


def write_tar(path: Path, members: Iterable[Member], limit: int) -> Path:
    """SystemExit if it is larger than `limit` bytes. Dates and owners are left out: the same input, the same file."""
    part = path.with_suffix(".partial")
    with tarfile.open(part, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in members:
            data = content.read_bytes() if isinstance(content, Path) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    if part.stat().st_size > limit:
        part.unlink()
        sys.exit(f"{path.name} would be larger than {limit:,} bytes; raise --part-size, or pack less beside the data")
    os.replace(part, path)
    return path


def join(options: argparse.Namespace) -> None:
    """Unpack results as the run's folder. SystemExit if a piece is missing or damaged."""
    data = b""
    try:
        for piece in json.loads((options.results / INDEX).read_text(encoding="utf-8"))["pieces"]:
            data += (content := (options.results / piece["name"]).read_bytes())
            if sha256(content).hexdigest() != piece["sha256"]:
                sys.exit(f"{options.results / piece['name']}: damaged, other SHA-256 than in {INDEX}; copy it again")
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"{options.results}: the results are not complete ({error}); copy them again")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(options.folder, filter="data")
        print(f"{options.folder}: {', '.join(tar.getnames())}")


if __name__ == "__main__":
    main()
