"""A checkpoint becomes a bundle: graph, weights, figures measured on the dev data, MODEL_CARD.md."""

import json
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from asr.data.manifest import read_manifest
from asr.data.pronunciation import PhoneSpeller
from asr.data.sentences import read_texts
from asr.data.shards import ShardEntry, read_recordings, read_training
from asr.data.tokenizer import (
    ATTENTION_MODEL,
    PHONES_MODEL,
    TOKENIZER_MODEL,
    BpeTokenizer,
    TextRule,
    read_tokenizer,
)
from asr.data.written import LabeledText, TaggedText, listed_forms
from asr.decode.beam import BEAM_WIDTH
from asr.decode.build import DecoderName
from asr.errors import AudioError, RecipeError, one_line
from asr.evaluate.live import transcribe_live
from asr.evaluate.perplexity import Perplexity, known_words, neural_perplexity, ngram_perplexity
from asr.evaluate.priors import measure_priors
from asr.evaluate.tagging import MAIN, Counts
from asr.evaluate.wer import Evaluation, Utterance, evaluate
from asr.lm.binary import load_model
from asr.lm.neural import NeuralConfig, NeuralModel
from asr.model import second_pass, tagger
from asr.model.bundle import BundleConfig, load_bundle, write_config
from asr.model.checksums import SUMS, write_checksums
from asr.model.tokens import Tokens
from asr.nn.ctc_model import SAMPLES_PER_FRAME, AcousticModel
from asr.nn.export import (
    export_attention,
    export_language_model,
    export_onnx,
    export_tagger,
    quantize_weights,
    save_weights,
)
from asr.nn.frontend import SAMPLE_RATE
from asr.nn.language_model import LanguageModel
from asr.nn.tagger import TaggerModel
from asr.recognize.offline import Recognition, Recognizer
from asr.recognize.streaming import CHUNK_SECONDS, StreamingRecognizer
from asr.train.checkpoint import load_weights
from asr.train.config import AcousticRecipe, LanguageRecipe, TaggerRecipe
from asr.train.optim import count_parameters
from asr.train.report.card import data_files, manifest_line, render, text_line
from asr.train.runs import Record
from asr.train.task import Epoch, best_epoch

# int8 weights become the bundle's graph if on dev they cost less than this much WER, or raise the perplexity per word
# by less than this share.
INT8_MAX_WER_LOSS = 0.003
INT8_MAX_PERPLEXITY_RISE = 0.01
INT8_MAX_F1_LOSS = 0.003
CRF_PRIOR_SCALE = 0.6  # of the priors in a bundle trained by CTC-CRF, where greedy decoding of en-gru had fewest errors
FROM_SHARDS = 500  # recordings of a set of shards, by which priors are measured
BEAM = f"beam {BEAM_WIDTH}"
# What a bundle may hold, also after `asr tune`; a folder with other files is somebody's own.
BUNDLE_FILES = {"config.json", "tokens.txt", second_pass.TOKENS, tagger.LISTED, "MODEL_CARD.md", SUMS}
BUNDLE_SUFFIXES = {".onnx", ".safetensors", ".model", ".lm", ".lex", ".arpa", ".gz"}


@dataclass(frozen=True)
class Trained:
    """A run of which a bundle and a report can be made."""

    recipe: Any  # of one of the kinds
    curve: list[Any]  # of that kind's `Epoch`s
    record: Record
    checkpoint: Path  # in its folder


@dataclass(frozen=True)
class Measured:
    """Results of a bundle on the dev data."""

    rates: dict[str, Evaluation]  # by graph and decoder
    utterances: list[Utterance]  # of the bundle's own graph and the greedy decoder


def make_bundle(run: Trained, target: Path, console: Console) -> Measured:
    """Write the bundle of an acoustic model; an older bundle at `target` is replaced. RecipeError."""
    recipe: AcousticRecipe = run.recipe
    spelling, lexicon = recipe.tokenizer.spelling, ""
    with bundle_folder(run.checkpoint.parent, target) as folder:
        if spelling == "phones":
            lexicon = PhoneSpeller(recipe.tokenizer.lexicon, recipe.language).put(run.checkpoint.parent, folder)
        for name in (TOKENIZER_MODEL, PHONES_MODEL, ATTENTION_MODEL):
            if (run.checkpoint.parent / name).exists():
                shutil.copy(run.checkpoint.parent / name, folder)
        vocabulary = len(Tokens.load(folder / "tokens.txt"))
        phones = recipe.phones.vocabulary if recipe.phones.weight else 0
        model = AcousticModel(recipe.model, vocabulary, phones, recipe.attention)
        progress = load_weights(run.checkpoint, model)
        export = partial(export_onnx, encoded=model.attention is not None)
        graphs = write_graphs(model, folder, export)
        if model.attention is not None:
            BpeTokenizer((folder / ATTENTION_MODEL).read_bytes()).tokens.save(folder / second_pass.TOKENS)
            export_attention(model.attention, folder / second_pass.GRAPH)
            quantize_weights(folder / second_pass.GRAPH, folder / second_pass.GRAPH)
        config = BundleConfig(
            **described(recipe),
            sample_rate=SAMPLE_RATE,
            frame_seconds=SAMPLES_PER_FRAME / SAMPLE_RATE,
            streaming=not recipe.model.bidirectional,
            tokenizer=asdict(recipe.tokenizer),
            lookahead=recipe.model.lookahead,
            spelling=spelling,
            lexicon=lexicon,
        )
        write_config(folder, config)
        if recipe.objective.crf:
            # In training the n-grams made rare tokens unlikely. Without a language model the priors do so; with one,
            # they are divided out again.
            config = replace(config, log_priors=measure_training_priors(folder, recipe.data.train))
            config = replace(config, decoder=replace(config.decoder, prior_scale=CRF_PRIOR_SCALE))
            model.head.bias.detach().add_(torch.tensor(config.log_priors), alpha=CRF_PRIOR_SCALE)
            graphs = write_graphs(model, folder, export)
        console.print("measuring the bundle on the dev data")
        measured, chosen, graph = measure_graphs(folder, graphs, recipe.data.dev, config.streaming)
        if not recipe.objective.crf:
            config = replace(config, log_priors=measure_training_priors(folder, recipe.data.train))
        greedy, beam = (measured.rates[f"{chosen}, {decoder}"] for decoder in ("greedy", BEAM))
        metrics = {"dev_wer": greedy.wer, "dev_cer": greedy.cer, f"dev_wer_beam{BEAM_WIDTH}": beam.wer}
        write_config(folder, replace(config, metrics={name: round(value, 4) for name, value in metrics.items()}))
        write_card(run, folder, model, progress, graph=graph, config=config, rates=measured.rates)
    for name, result in measured.rates.items():
        console.print(f"{name}: {result}")
    return measured


def measure_graphs(folder: Path, graphs: dict[str, Path], manifest: str, live: bool) -> tuple[Measured, str, str]:
    """Choose the bundle's graph by the greedy decoder's errors, and measure it with the beam decoder and live."""
    utterances = {name: measure(folder, manifest, "greedy", graph) for name, graph in graphs.items()}
    rates = {f"{name}, greedy": evaluate(recognized) for name, recognized in utterances.items()}
    chosen, weights = choose_graph(graphs, rates["int8, greedy"].wer - rates["float32, greedy"].wer, INT8_MAX_WER_LOSS)
    if live:
        name = f"{chosen}, greedy, live in chunks of {CHUNK_SECONDS * 1000:.0f} ms"
        rates[name] = evaluate(measure(folder, manifest, "greedy", live=True))
    rates[f"{chosen}, {BEAM}"] = evaluate(measure(folder, manifest, "beam"))
    return Measured(rates, utterances[chosen]), chosen, weights


def make_language_bundle(run: Trained, target: Path, console: Console) -> dict[str, Perplexity]:
    """The same of a language model. Returns its perplexities by graph, and that of the recipe's n-gram model."""
    recipe: LanguageRecipe = run.recipe
    data = recipe.data
    with bundle_folder(run.checkpoint.parent, target) as folder:
        tokens = Tokens.load(folder / "tokens.txt")
        model = LanguageModel(recipe.model, len(tokens))
        progress = load_weights(run.checkpoint, model)
        graphs = write_graphs(model, folder, export_language_model)
        config = NeuralConfig(
            **described(recipe),
            tokenizer=asdict(recipe.tokenizer),
            kind="language",
        )
        write_config(folder, config)
        console.print("measuring the model on the dev text")
        sentences = list(read_texts(data.dev, TextRule(recipe.tokenizer)))
        encoded = [*map(read_tokenizer(run.checkpoint.parent, config.tokenizer, tokens).encode, sentences)]
        ngram = load_model(data.ngram) if data.ngram else None
        known = known_words(sentences, ngram)
        results = {
            name: neural_perplexity(NeuralModel.load(folder, graph), encoded, known) for name, graph in graphs.items()
        }
        rise = results["int8"].per_word / results["float32"].per_word - 1
        chosen, graph = choose_graph(graphs, rise, INT8_MAX_PERPLEXITY_RISE)
        result = results[chosen]
        metrics = {"dev_perplexity_token": result.per_token, "dev_perplexity_word": result.per_word}
        write_config(folder, replace(config, metrics={name: round(value, 3) for name, value in metrics.items()}))
        perplexities = {f"{recipe.name}, {name}": result for name, result in results.items()}
        if ngram is not None:
            perplexities[f"`{data.ngram}`, order {ngram.order}"] = ngram_perplexity(ngram, sentences)
        write_card(
            *(run, folder, model, progress),
            graph=graph,
            perplexities=perplexities,
            tokens=len(tokens),
            sentences=len(sentences),
            words=sum(len(sentence.split()) for sentence in sentences),
            unknown=sum(int((~mask).sum()) for mask in known),
            seen=run.curve[-1].epoch * data.epoch_batches * data.batch_size * data.bptt_length,
        )
    for name, result in perplexities.items():
        console.print(f"{name}: {result}")
    return perplexities


def make_tagger(run: Trained, target: Path, console: Console) -> dict[str, dict[str, float]]:
    """The same of a tagger. Returns its F1 by graph, mark and case, on the dev texts, words alone."""
    recipe: TaggerRecipe = run.recipe
    with bundle_folder(run.checkpoint.parent, target) as folder:
        (folder / "tokens.txt").unlink()  # the marks are the same for all
        model = TaggerModel(recipe.model)
        progress = load_weights(run.checkpoint, model)
        graphs = {"float32": folder / tagger.GRAPH, "int8": folder / "tagger.int8.onnx"}
        export_tagger(model, graphs["float32"])
        quantize_weights(graphs["float32"], graphs["int8"])
        listed = "".join(f"{word}\n" for word in listed_forms(recipe.data.train))
        (folder / tagger.LISTED).write_text(listed, encoding="utf-8")
        config = tagger.TaggingConfig(
            **described(recipe),
            rows=recipe.model.rows,
            kind="tagger",
        )
        write_config(folder, config)
        console.print("measuring the tagger on the dev texts")
        text = TaggedText(LabeledText.read(recipe.data.dev), recipe.data, recipe.model.rows, recipe.seed)
        scores = {name: tagger_f1(tagger.Tagger(folder, graph), text) for name, graph in graphs.items()}
        losses = [score - scores["int8"][name] for name, score in scores["float32"].items() if name in MAIN]
        loss = max(losses, default=0.0)
        chosen, graph = choose_graph(graphs, loss, INT8_MAX_F1_LOSS)
        main = scores[chosen].keys() & MAIN.keys()
        metrics = {f"dev_f1_{MAIN[name]}": round(scores[chosen][name], 4) for name in sorted(main)}
        write_config(folder, replace(config, metrics=metrics))
        write_card(run, folder, model, progress, graph=graph, scores=scores, words=len(text.corpus.words))
    for name, f1 in scores.items():
        console.print(f"{name}: F1 " + "  ".join(f"{mark} {score:.3f}" for mark, score in f1.items()))
    return scores


def described(recipe: Any) -> dict[str, Any]:
    """Fields of every config.json."""
    about = {name: getattr(recipe, name) for name in ("name", "language", "description", "license")}
    return {**about, "model": asdict(recipe.model)}


def tagger_f1(model: tagger.Tagger, text: TaggedText) -> dict[str, float]:
    counts = Counts()
    for batch in text.batches(0, len(text.corpus.words), plain=True):
        batch.score(model.run(batch.features.numpy(), batch.extras.numpy(), batch.lengths.numpy()), counts)
    return counts.f1()


@contextmanager
def bundle_folder(run: Path, target: Path) -> Iterator[Path]:
    """A new folder with the run's tokens.txt, to be filled; at the end it becomes `target`, by renaming.

    RecipeError if `target` is anything but missing, an empty folder, or a bundle, which is replaced. If the process is
    killed, the older bundle is at `target` or, between two renames, beside it, and the next export puts it back.
    """
    target = target.resolve()
    aside = target.parent / f".{target.name}.export"
    new, old = aside / "new", aside / "old"

    def check() -> None:
        if target.exists() and not is_replaceable(target):
            raise RecipeError(f"{target}: is there and is not a model bundle; name a new or an empty folder")

    def clean_up() -> None:
        if old.exists() and not target.exists():
            os.replace(old, target)
        shutil.rmtree(aside, ignore_errors=True)

    try:
        clean_up()
        check()
        new.mkdir(parents=True)
        shutil.copy(run / "tokens.txt", new)
        yield new
        write_checksums(new)
        check()  # it took minutes
        if target.exists():
            os.replace(target, old)
        os.replace(new, target)
    except OSError as error:
        raise RecipeError(f"{target}: the bundle cannot be made ({one_line(error)})") from error
    finally:
        clean_up()


def is_replaceable(folder: Path) -> bool:
    """Whether nothing is lost with a folder: it is empty, or a bundle."""
    try:
        if not (found := list(folder.iterdir())):
            return True
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    ours = isinstance(config, dict) and config.keys() >= {"name", "format", "model", "license"}
    known = all(path.name in BUNDLE_FILES or path.suffix in BUNDLE_SUFFIXES for path in found if path.is_file())
    return ours and known and not any(path.is_dir() for path in found)


def write_graphs(model: Any, folder: Path, export: Callable[[Any, Path], None]) -> dict[str, Path]:
    """Write weights.safetensors, model.onnx with weights in float32, and beside it a graph with weights in int8."""
    graphs = {"float32": folder / "model.onnx", "int8": folder / "model.int8.onnx"}
    save_weights(model, folder / "weights.safetensors")
    export(model, graphs["float32"])
    quantize_weights(graphs["float32"], graphs["int8"])
    return graphs


def choose_graph(graphs: dict[str, Path], loss: float, max_loss: float) -> tuple[str, str]:
    """Take the int8 weights if they lose less than `max_loss`. Returns their form, and that with the size."""
    chosen = "int8" if loss < max_loss else "float32"
    graphs[chosen].replace(graphs["float32"])
    graphs["int8"].unlink(missing_ok=True)
    return chosen, f"{chosen}, {graphs['float32'].stat().st_size / 1e6:.1f} MB"


def measure(
    bundle: Path, manifest: str, decoder: DecoderName, graph: Path | None = None, live: bool = False
) -> list[Utterance]:
    """Recognise a manifest as users do; a damaged recording counts with the text up to there, as in `asr evaluate`.

    graph: another one than the bundle's own. live: chunk by chunk, by its own graph.
    """
    entries = read_manifest(Path(manifest))
    if live:
        stream = StreamingRecognizer(load_bundle(bundle), decoder, endpoint=None, style="spoken")
        recognitions: Iterable[Recognition] = (transcribe_live(stream, entry.source) for entry in entries)
    else:
        recognizer = Recognizer(load_bundle(bundle), decoder, graph=graph, style="spoken")
        recognitions = recognizer.transcribe_all(entry.source for entry in entries)
    pairs = ((entry, recognition.transcript) for entry, recognition in zip(entries, recognitions, strict=True))
    return [Utterance(entry.id, entry.text, transcript.text, transcript.duration) for entry, transcript in pairs]


def measure_training_priors(bundle: Path, sources: Sequence[str]) -> tuple[float, ...]:
    recordings: list[Any] = []
    for source in sources:
        entries = read_training(source)
        if entries and isinstance(entries[0], ShardEntry):  # which are read one after the other
            found = islice(read_recordings(entry for entry in entries if isinstance(entry, ShardEntry)), FROM_SHARDS)
            recordings += [recording for recording in found if not isinstance(recording, AudioError)]
        else:
            recordings += [entry.source for entry in entries]
    return measure_priors(Recognizer(load_bundle(bundle), "greedy"), recordings)


def write_card(run: Trained, folder: Path, model: nn.Module, progress: dict[str, Any], **values: Any) -> None:
    """MODEL_CARD.md in a bundle's folder. progress: of the checkpoint; values: of the template of this kind."""
    line = manifest_line if run.recipe.kind == "acoustic" else text_line
    roles = {"train": "trained on", "dev": "validated on"}
    render(
        f"{run.recipe.kind}_card.md",
        folder / "MODEL_CARD.md",
        **vars(run),
        parameters=count_parameters(model),
        weights=describe_weights(progress, run.curve),
        data=[line(roles[role], path) for role, path in data_files(run.recipe)],
        **values,
    )


def describe_weights(progress: dict[str, Any], curve: Sequence[Epoch]) -> str:
    if "averaged" in progress:
        return f"the mean of {', '.join(progress['averaged'])}"
    epoch = len(progress.get("curve", []))
    if batches := progress.get("stats", {}).get("batches", 0):
        return f"the weights after {epoch} epochs and {batches:,} batches"
    best = bool(curve) and epoch == best_epoch(curve).epoch
    return f"epoch {epoch}, the best on dev" if best else f"epoch {epoch}"


def machine() -> str:
    """The machine and versions, for the record."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{name}, {os.cpu_count()} cores"
    return f"on {device}; torch {torch.__version__}, Python {platform.python_version()}"
