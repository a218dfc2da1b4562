#!/usr/bin/env python3
"""Train from the parts of `pack_training.py` on a machine without network; nothing is installed outside of WORK.

    train_packed.py check  --work WORK                      # versions, devices, memory, missing modules
    train_packed.py unpack --work WORK part-00.tar ...      # then recordings are decoded in the background
    train_packed.py train  --work WORK --out OUT --budget-minutes 8 [--piece-size 15M] [--pieces 8] [a.b=value ...]

Parts come in any order, part-00.tar (sources, recipe, wheels, dev data) among them; `train` uses those that are there.
In the recipe dev manifests and a dictionary are those of the same name in WORK, and other paths start there:
noise.jsonl, start. The run's folder is WORK/runs/NAME; `train` goes on with a run that is there, whose budget began
with it. OUT gets results-*.NN and index.json, at most `--pieces` files of `--piece-size` bytes: every minute the latest
weights and logs, at the end those to be exported. A set replaces the one before when it is complete, so OUT can be
taken at any moment; `pack_training.py join` makes the run's folder of it.
"""

import argparse
import importlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

INDEX = "index.json"  # of the results: names and SHA-256 of the pieces, in their order
RUNS, AUDIO, SITE, SOURCE = "runs", "runs/audio", "site", "source"  # folders below WORK
WINDOW, FINAL = "window.safetensors", "final.safetensors"
LOGS = ("recipe.yaml", "tokens.txt", "*.model", "*.lex", "run.json", "curve.jsonl", "skipped.jsonl", "steps.jsonl")
DURING = (WINDOW, *LOGS, "constant.safetensors")  # patterns; the last ones are left out where there is no room
AT_END = (FINAL, *LOGS, "constant.safetensors")
WRITING_SECONDS = 5.0  # kept of the budget for the results
SPARE = 1 << 17  # bytes kept free in the results: the index, and what gzip adds
POLL_SECONDS = 2.0  # between looks at the window's weights
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
MODULES = (
    "torch torchaudio numpy scipy safetensors sentencepiece yaml rich pydantic filelock soundfile soxr jiwer "
    "rapidfuzz pyroomacoustics onnx onnxruntime jinja2 tensorboard "
    "asr.train.corpus asr.train.acoustic asr.train.trainer"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for command in (check, unpack, decode, train):
        name = command.__name__
        commands.add_parser(name, description=command.__doc__).set_defaults(command=command)
        commands.choices[name].add_argument("--work", type=Path, required=True, help="folder for everything")
    commands.choices["unpack"].add_argument("parts", nargs="+", type=Path)
    commands.choices["decode"].add_argument("manifest")
    add = commands.choices["train"].add_argument
    add("--out", type=Path, required=True, help="folder for the results")
    add("--budget-minutes", type=float, required=True, help="from the start of the command to the last results")
    add("--piece-size", type=parse_size, default="15M", help="bytes, or with K, M, G (default: 15M)")
    add("--pieces", type=int, default=8, help="files in OUT at most, the index counted (default: 8)")
    add("--total-size", type=parse_size, default="62M", help="of all files in OUT (default: 62M)")
    add("overrides", nargs="*", help="of the recipe, a.b=value")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.work = options.work.resolve()  # decoded audio is found by the absolute paths of its recordings
    paths = [str(options.work / SOURCE), str(options.work / SITE)]
    sys.path[:0] = paths
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # of processes started from here
    options.command(options)


def parse_size(text: str) -> int:
    return round(float(text[:-1]) * UNITS[text[-1]]) if text[-1] in UNITS else int(text)


def check(options: argparse.Namespace) -> None:
    """Print versions, devices, memory and missing modules."""
    memory, disk = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), shutil.disk_usage(options.work).free
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, GiB: memory {memory >> 30}, disk {disk >> 30}")
    for name in MODULES.split():
        try:
            print(name, getattr(importlib.import_module(name), "__version__", ""))
        except Exception as error:  # whatever a module's import raises
            print(f"MISSING {name}: {type(error).__name__}: {error}")
    if torch := sys.modules.get("torch"):
        print(f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, {torch.get_num_threads()} threads")
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            print(f"{torch.cuda.get_device_name(index)}, {free >> 30} of {total >> 30} GiB free")
    print(f"parts: {' '.join(part_manifests(options.work)) or 'none'}")


def part_manifests(work: Path) -> list[str]:
    return sorted(path.name for path in work.glob("part-*.jsonl"))


def unpack(options: argparse.Namespace) -> None:
    """Unpack parts into WORK and start to decode, in the background. SystemExit if one is damaged or unsafe."""
    work = options.work
    for part in options.parts:
        try:
            with tarfile.open(part) as tar:
                for member in tar:
                    name = Path(member.name)
                    if not member.isreg() or name.is_absolute() or ".." in name.parts:
                        sys.exit(f"{part}: {member.name!r} is not a file below the folder; make the part again")
                    tar.extract(member, work, filter="data")
        except (OSError, tarfile.TarError) as error:
            sys.exit(f"{part}: cannot be unpacked ({error}); copy it again")
    if (work / "wheels").exists():
        site, new = work / SITE, work / f"{SITE}.new"  # never overwritten: processes have its libraries mapped
        for wheel in (work / "wheels").glob("*.whl"):  # unzipped, as there may be no pip
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(new)
        shutil.rmtree(site, ignore_errors=True)
        new.rename(site)
        shutil.rmtree(work / "wheels")
    program = work / SOURCE / "tools" / Path(__file__).name
    for manifest in part_manifests(work) if program.exists() else ():
        log = work / f"{manifest}.log"
        if not log.exists():
            command = [sys.executable, program, "decode", "--work", work, manifest]
            with log.open("w") as file:  # a session of its own: it goes on when this command has returned
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)


def decode(options: argparse.Namespace) -> None:
    """Decode a part's recordings (`unpack` starts this), or wait for the process that does so."""
    from asr.train.corpus import decode_manifest

    started, manifest = time.monotonic(), options.work / options.manifest
    decode_manifest(manifest, options.work / AUDIO)  # which locks what it writes
    print(f"{manifest.name}: decoded after {time.monotonic() - started:.1f} s", flush=True)


def train(options: argparse.Namespace) -> None:
    """Train on all parts for what is left of the budget, and write the results."""
    started, out = time.monotonic(), options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    os.chdir(options.work)
    if not (manifests := part_manifests(options.work)):
        sys.exit(f"{options.work}: no training data; unpack part-01.tar first")
    for manifest in manifests:
        decode(argparse.Namespace(work=options.work, manifest=manifest))
    overrides = [f"data.train=[{','.join(manifests)}]", f"budget_minutes={options.budget_minutes}", *options.overrides]
    run_recipe(overrides, Results(out, options.piece_size, options.pieces, options.total_size), started)
    print(f"{time.monotonic() - started:.0f} s, results: {' '.join(sorted(path.name for path in out.iterdir()))}")


@dataclass(frozen=True)
class Results:
    """Folder for the results: at most `pieces` files (index included) of `piece_size` bytes, `total_size` in all."""

    out: Path
    piece_size: int
    pieces: int
    total_size: int

    def write(self, run: Path, patterns: tuple[str, ...]) -> None:
        """Put files of a run there in place of those before; the last ones are left out if there is no room."""
        buffer, room = io.BytesIO(), min(self.total_size, self.piece_size * (self.pieces - 1)) - SPARE
        with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:  # logs become small, weights hardly
            for path in (path for pattern in patterns for path in sorted(run.glob(pattern))):
                if buffer.tell() + path.stat().st_size <= room:
                    tar.add(path, path.name)
                else:
                    print(f"no room for {path.name} in the results", file=sys.stderr)
        data, stage, index = buffer.getvalue(), run / "stage", []
        stage.mkdir(exist_ok=True)
        name = f"results-{sha256(data).hexdigest()[:8]}"
        for number, first in enumerate(range(0, len(data), self.piece_size), start=1):
            piece = data[first : first + self.piece_size]
            (stage / f"{name}.{number:02d}").write_bytes(piece)
            index.append({"name": f"{name}.{number:02d}", "sha256": sha256(piece).hexdigest()})
        (stage / INDEX).write_text(json.dumps({"pieces": index}, indent=1) + "\n", encoding="utf-8")
        old = [path for path in self.out.glob("results-*") if path.stem != name]
        size = len(data) + sum(path.stat().st_size for path in old)
        both = len(old) + len(index) < self.pieces and size + SPARE <= self.total_size
        for path in () if both else old:  # then there is no complete set for a fraction of a second
            path.unlink()
        for entry in [*index, {"name": INDEX}]:
            shutil.move(stage / entry["name"], self.out / entry["name"])
        for path in old if both else ():
            path.unlink()

    @contextmanager
    def following(self, run: Path) -> Iterator[None]:
        """Write the results anew, in a thread, whenever the trainer has written the window's weights."""
        stop = threading.Event()

        def follow() -> None:
            seen = 0
            while not stop.wait(POLL_SECONDS):
                try:
                    if (written := (run / WINDOW).stat().st_mtime_ns) != seen:
                        self.write(run, DURING)
                        seen = written
                except FileNotFoundError:  # not written yet
                    continue
                except OSError as error:
                    print(f"{self.out}: the results cannot be written now ({error})", file=sys.stderr)

        thread = threading.Thread(target=follow)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def run_recipe(overrides: list[str], results: Results, started: float) -> None:
    """Train WORK/recipe.yaml; the best weights, in half precision, become final.safetensors. SystemExit if it fails."""
    import yaml
    from rich.console import Console

    from asr.errors import AsrError
    from asr.signals import ended_by_signals
    from asr.train.acoustic import AcousticTask
    from asr.train.checkpoint import MODEL, read_checkpoint, write_checkpoint
    from asr.train.config import load_recipe
    from asr.train.export import machine
    from asr.train.process import prepare_process
    from asr.train.runs import BEST, Record
    from asr.train.trainer import Trainer

    try:
        values = yaml.safe_load(Path("recipe.yaml").read_text(encoding="utf-8"))
        data = values["data"]
        more = ",".join(Path(path).name for path in data.get("more_dev", ()))
        here = [f"output={RUNS}", f"data.dev={Path(data['dev']).name}", f"data.more_dev=[{more}]"]
        if lexicon := values.get("tokenizer", {}).get("lexicon"):
            here.append(f"tokenizer.lexicon={Path(lexicon).name}")
        recipe = load_recipe(Path("recipe.yaml"), [*here, *overrides])
        prepare_process(recipe.threads)
        console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
        trainer = Trainer(AcousticTask, recipe, console, resume=True)
        Record(recipe.kind, recipe.epochs, shlex.join(sys.argv), machine()).save(recipe.folder)
        spent = time.monotonic() - started + WRITING_SECONDS  # decoding and loading are part of the budget
        recipe.budget_minutes -= spent / 60
        if recipe.budget_minutes <= 0:
            sys.exit(f"decoding and loading took {spent:.0f} s, the whole budget; raise --budget-minutes")
        try:
            stop = threading.Event()
            with results.following(recipe.folder), ended_by_signals(stop.set):
                trainer.run(stop)
        except KeyboardInterrupt:
            print("stopped by a signal", file=sys.stderr)
        if not (recipe.folder / BEST).exists():  # stopped before anything was measured
            return results.write(recipe.folder, DURING)
        tensors, progress = read_checkpoint(recipe.folder / BEST, MODEL)
        halved = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
        write_checkpoint(recipe.folder / FINAL, halved, progress)
        results.write(recipe.folder, AT_END)
    except AsrError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
