"""From a checkpoint to its bundle: graphs, weights, measured error rates, model card."""

import hashlib
import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from asr.data.manifest import Entry, read_manifest
from asr.data.shards import read_list, read_training
from asr.data.tokenizer import PHONES_MODEL, TOKENIZER_MODEL
from asr.decode.beam import BEAM_WIDTH
from asr.decode.build import DecoderName
from asr.errors import RecipeError, one_line
from asr.evaluate.live import transcribe_live
from asr.evaluate.wer import Evaluation, Utterance, evaluate
from asr.model.bundle import BundleConfig, load_bundle, write_config
from asr.model.tokens import Tokens
from asr.nn.ctc_model import SAMPLES_PER_FRAME, AcousticModel
from asr.nn.export import export_onnx, quantize_weights, save_weights
from asr.nn.frontend import SAMPLE_RATE
from asr.recognize.offline import Recognition, Recognizer
from asr.recognize.streaming import CHUNK_SECONDS, StreamingRecognizer
from asr.train.acoustic import AcousticEpoch
from asr.train.checkpoint import load_weights
from asr.train.config import AcousticRecipe
from asr.train.runs import Record
from asr.train.task import Epoch, best_epoch

# int8 weights become the bundle's graph if they cost less than this much WER on dev.
INT8_MAX_LOSS = 0.003
FLOAT_GRAPH, INT8_GRAPH = "model.float.onnx", "model.int8.onnx"


@dataclass(frozen=True)
class Measured:
    """How a bundle does on the dev data."""

    rates: dict[str, Evaluation]  # by graph and decoder
    utterances: list[Utterance]  # of the bundle's own graph and the greedy decoder


def make_bundle(
    recipe: AcousticRecipe,
    curve: list[AcousticEpoch],
    checkpoint: Path,
    target: Path,
    record: Record,
    console: Console,
) -> Measured:
    """Write the bundle of a checkpoint in its run's folder; an older bundle at `target` is replaced."""
    with bundle_folder(checkpoint.parent, target) as work:
        measured = fill_bundle(work, recipe, curve, checkpoint, record, console)
    for name, result in measured.rates.items():
        console.print(f"{name}: {result}")
    return measured


@contextmanager
def bundle_folder(run: Path, target: Path) -> Iterator[Path]:
    """A new folder with the run's tokens.txt, to be filled; at the end it becomes `target`."""
    work = target.with_name(f"{target.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True)
        shutil.copy(run / "tokens.txt", work)
    except OSError as error:
        raise RecipeError(f"{work}: cannot be made ({one_line(error)}); make room, or write elsewhere") from error
    yield work
    shutil.rmtree(target, ignore_errors=True)
    os.replace(work, target)


def fill_bundle(
    work: Path,
    recipe: AcousticRecipe,
    curve: list[AcousticEpoch],
    checkpoint: Path,
    record: Record,
    console: Console,
) -> Measured:
    """All of a bundle but its tokens."""
    run, tokens = checkpoint.parent, Tokens.load(work / "tokens.txt")
    for name in (TOKENIZER_MODEL, PHONES_MODEL):
        if (run / name).exists():
            shutil.copy(run / name, work)
    model = AcousticModel(recipe.model, len(tokens), recipe.phones.vocabulary if recipe.phones.weight else 0)
    held = describe_checkpoint(load_weights(checkpoint, model), curve)
    save_weights(model, work / "weights.safetensors")
    export_onnx(model, work / FLOAT_GRAPH)
    quantize_weights(work / FLOAT_GRAPH, work / INT8_GRAPH)
    shutil.copy(work / FLOAT_GRAPH, work / "model.onnx")
    config = BundleConfig(
        name=recipe.name,
        language=recipe.language,
        description=recipe.description,
        license=recipe.license,
        sample_rate=SAMPLE_RATE,
        frame_seconds=SAMPLES_PER_FRAME / SAMPLE_RATE,
        streaming=not recipe.model.bidirectional,
        model=asdict(recipe.model),
        tokenizer=asdict(recipe.tokenizer),
        lookahead=recipe.model.lookahead,
    )
    write_config(work, config)

    console.print("measuring the bundle on the dev data")
    heard = {
        "float32": measure(work, recipe.data.dev, "greedy", work / FLOAT_GRAPH),
        "int8": measure(work, recipe.data.dev, "greedy", work / INT8_GRAPH),
    }
    results = {f"{name}, greedy": evaluate(utterances) for name, utterances in heard.items()}
    loss = results["int8, greedy"].wer - results["float32, greedy"].wer
    chosen = "int8" if loss < INT8_MAX_LOSS else "float32"
    if chosen == "int8":
        os.replace(work / INT8_GRAPH, work / "model.onnx")
    else:
        os.replace(work / FLOAT_GRAPH, work / "model.onnx")
    if config.streaming:
        live = f"{chosen}, greedy, live in chunks of {CHUNK_SECONDS * 1000:.0f} ms"
        results[live] = evaluate(measure_streaming(work, recipe.data.dev))
    results[f"{chosen}, beam {BEAM_WIDTH}"] = evaluate(measure(work, recipe.data.dev, "beam"))
    greedy, beam = results[f"{chosen}, greedy"], results[f"{chosen}, beam {BEAM_WIDTH}"]
    metrics = {"dev_wer": greedy.wer, "dev_cer": greedy.cer, f"dev_wer_beam{BEAM_WIDTH}": beam.wer}
    write_config(work, replace(config, metrics={name: round(value, 4) for name, value in metrics.items()}))
    delay = config.delay_seconds if config.streaming else None
    megabytes = (work / "model.onnx").stat().st_size / 1e6
    card = model_card(recipe, model, curve, results, f"{chosen}, {megabytes:.1f} MB", held, record, delay)
    (work / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    return Measured(results, heard[chosen])


def describe_checkpoint(progress: dict[str, Any], curve: Sequence[Epoch]) -> str:
    """What a model card says that the bundle holds."""
    if "averaged" in progress:
        return f"the mean of {', '.join(progress['averaged'])}"
    epoch, batches = len(progress["curve"]), progress.get("running", {}).get("batches", 0)
    if batches:
        return f"what {epoch} epochs and {batches:,} batches made"
    best = bool(curve) and epoch == best_epoch(curve).epoch
    return f"epoch {epoch}, the best on dev" if best else f"epoch {epoch}"


def measure(bundle: Path, manifest: str, decoder: DecoderName, graph: Path | None = None) -> list[Utterance]:
    """What the exported graph hears on a manifest, by the same code that users run."""
    recognizer = Recognizer(load_bundle(bundle), decoder, graph=graph)
    entries = read_manifest(Path(manifest))
    # A damaged recording counts with the text up to there, as in `asr evaluate`.
    return _pair(entries, recognizer.transcribe_all(entry.audio for entry in entries))


def measure_streaming(bundle: Path, manifest: str) -> list[Utterance]:
    """The same of a live model that hears each recording chunk by chunk, with the greedy decoder."""
    recognizer = StreamingRecognizer(load_bundle(bundle), "greedy", endpoint=None)
    entries = read_manifest(Path(manifest))
    return _pair(entries, (transcribe_live(recognizer, entry.audio) for entry in entries))


def _pair(entries: Iterable[Entry], recognitions: Iterable[Recognition]) -> list[Utterance]:
    pairs = ((entry, recognition.transcript) for entry, recognition in zip(entries, recognitions, strict=True))
    return [Utterance(entry.id, entry.text, transcript.text, transcript.duration) for entry, transcript in pairs]


def model_card(
    recipe: AcousticRecipe,
    model: AcousticModel,
    curve: list[AcousticEpoch],
    results: dict[str, Evaluation],
    weights: str,
    held: str,
    record: Record,
    delay: float | None,
) -> str:
    """MODEL_CARD.md: what the model is, what it learned from, how it was made, how well it does.

    weights: in which form the graph holds them, and its size. held: which epoch's they are. delay: seconds that a live
    model is behind its audio.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    config = recipe.model
    directions = "bidirectional" if config.bidirectional else "unidirectional"
    latency = (
        ""
        if delay is None
        else f"\n| delay | {delay * 1000:.0f} ms: a frame of 40 ms and {config.lookahead} frames of look-ahead |"
    )
    units = "characters" if recipe.tokenizer.kind == "characters" else f"{recipe.tokenizer.vocabulary} BPE tokens"
    manifests = "\n".join(f"- {manifest_line('trained on', path)}" for path in recipe.data.train)
    if recipe.init_from:
        before = f"- began with the weights of `{recipe.init_from}`, whose license and attribution hold for these too"
        manifests = f"{before}\n{manifests}"
    rows = "\n".join(
        f"| {name} | {result.wer:.2%} | {result.interval[0]:.2%} – {result.interval[1]:.2%} | {result.cer:.2%} | "
        f"{result.substitutions} | {result.deletions} | {result.insertions} |"
        for name, result in results.items()
    )
    epochs = "\n".join(
        f"| {epoch.epoch} | {epoch.step} | {epoch.train_loss:.3f} | {epoch.dev_loss:.3f} | {epoch.dev_wer:.2%} | "
        f"{epoch.gradient_norm:.2f} | {epoch.speed:.0f} | {epoch.minutes:.0f} |"
        for epoch in curve
    )
    options = "[--decoder greedy | --lm NONE]" if delay is None else "[--decoder greedy [--streaming] | --lm NONE]"
    first = next(iter(results.values()))
    return f"""# {recipe.name}

{recipe.description}

| | |
| --- | --- |
| language | {recipe.language} |
| model | {config.layers} {directions} {config.cell} layers of {config.hidden_size}, CTC over {units} |
| parameters | {parameters:,} |
| input | 16 kHz mono, {config.n_mels} log-mel bands, one output frame per 40 ms |{latency}
| graph | `model.onnx`, weights in {weights}; `weights.safetensors` holds them in half precision |
| license of the weights | {recipe.license} |
| data | {recipe.attribution or "see below"} |

## Error rates

On `{recipe.data.dev}`: {first.utterances} utterances, {first.seconds / 3600:.2f} h, {first.reference_words:,} words.
No language model; 95 % interval by bootstrap over utterances. The best epoch was chosen on the same data, so the
figures flatter the model a little.

| graph and decoder | WER | 95 % interval | CER | substitutions | deletions | insertions |
| --- | --- | --- | --- | --- | --- | --- |
{rows}

`asr evaluate --model FOLDER {options} {recipe.data.dev}`, with this folder, prints these figures.

## Training

    {record.command}

{manifests}
- {manifest_line("validated on", recipe.data.dev)}
- {record.machine}

The bundle holds {held}. Losses are in nats per token, dev WER is greedy with the float32
model, speed is in seconds of audio per second, minutes are since the start, validation included.

| epoch | steps | train loss | dev loss | dev WER | gradient norm | speed | minutes |
| --- | --- | --- | --- | --- | --- | --- | --- |
{epochs}
"""


def manifest_line(role: str, path: str) -> str:
    entries = read_training(path)
    known = [entry.seconds for entry in entries if entry.seconds is not None]
    hours = f", {sum(known) / 3600:.2f} h" if len(known) == len(entries) else ""
    return f"{role} `{path}`: {len(entries):,} utterances{hours}, SHA-256 {digest(path)[:12]}…"


def digest(path: str) -> str:
    """SHA-256 of a file, or of the lists of shards, in hexadecimal."""
    return hashlib.sha256(read_list(path)).hexdigest()


def machine() -> str:
    """The machine and versions, for the record."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{name}, {os.cpu_count()} cores"
    return f"on {device}; torch {torch.__version__}, Python {platform.python_version()}"
