"""How fast beam search is, and what it finds, beside pyctcdecode and flashlight: the part `decoding` of benchmark.py.

All decode the same log-probs with the same language model on the same core, one after the other, round after round, so
that what else the machine does hits all of them. The time is the CPU's, of decoding alone.
"""

import gc
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.data.manifest import Entry
from asr.decode.base import Hypothesis
from asr.decode.beam import BeamDecoder
from asr.decode.fusion import Fusion, FusionWeights
from asr.evaluate.wer import Evaluation, Utterance, evaluate
from asr.lm.binary import load_model, save_model
from asr.model.bundle import Bundle, find_language_model
from asr.recognize.offline import Recognizer

OURS = "asr"
PEERS = {  # what pip installs for each
    "pyctcdecode": ("pyctcdecode==0.5.0", "kenlm==0.3.0", "numpy<2"),
    "flashlight": ("flashlight-text==0.0.7", "numpy<2"),
}
PEER_PROGRAM = Path(__file__).with_name("decoding_peers.py")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "asr-benchmark"
NARROW_BEAM = 16
BEAMS = {  # 100 is pyctcdecode's default
    OURS: (8, NARROW_BEAM, 32, 64),
    "pyctcdecode": (8, NARROW_BEAM, 64, 100),
    "flashlight": (NARROW_BEAM, 64),
}
WIDE_BEAM = 256
LM_WEIGHTS = (0.3, 0.5, 0.7)
WORD_BONUSES = (1.0, 2.0, 3.0)
UNKNOWN_SCORES = {OURS: (-5.0, -10.0), "pyctcdecode": (-5.0, -10.0), "flashlight": (-math.inf,)}  # it knows its lexicon


class NotMeasured(Exception):
    """Why a peer is left out, in a line."""


class Run(NamedTuple):
    """CPU seconds for all utterances, and what each came to."""

    seconds: float
    texts: Sequence[str]


class Case(NamedTuple):
    """A row of the table. weights: None without a language model."""

    decoder: str
    beam_width: int
    weights: FusionWeights | None


class Ours:
    """Our decoder on log-probs, each (frames, tokens), with the language model of a file."""

    def __init__(self, bundle: Bundle, lm: Path, log_probs: Sequence[np.ndarray]):
        self.bundle = bundle
        self.lm = lm
        self.log_probs = log_probs
        config = bundle.config.decoder
        self.weights = FusionWeights(config.lm_weight, config.word_bonus, config.unknown_score)

    def decode(self, beam_width: int, weights: FusionWeights | None) -> Run:
        seconds, hypotheses = self.hypotheses(beam_width, weights)
        return Run(seconds, [hypothesis.text for hypothesis in hypotheses])

    def hypotheses(self, beam_width: int, weights: FusionWeights | None) -> tuple[float, list[Hypothesis]]:
        tokens, frame_seconds = self.bundle.tokens, self.bundle.config.frame_seconds
        # Opened anew each time: no run finds what the one before it has looked up.
        fusion = Fusion(tokens, load_model(self.lm), weights) if weights is not None else None
        decoder = BeamDecoder(tokens, frame_seconds, beam_width, fusion=fusion)
        hypotheses = []
        gc.collect()  # what other runs left behind is not this one's
        started = time.process_time()
        for rows in self.log_probs:
            state = decoder.reset()
            decoder.advance(state, rows)
            hypotheses.append(decoder.finish(state)[0])
        return time.process_time() - started, hypotheses


class Peer:
    """A decoder of others in a process of its own. NotMeasured when it does not start or breaks off."""

    def __init__(self, name: str, python: Path, folder: Path, stack: ExitStack):
        self.log = folder / f"{name}.log"
        self.process = stack.enter_context(
            subprocess.Popen(
                [python, PEER_PROGRAM, name, folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stack.enter_context(self.log.open("w")),
                text=True,
            )
        )
        stack.callback(self.process.kill)
        self._answer()

    def decode(self, beam_width: int, weights: FusionWeights | None) -> Run:
        assert weights is not None
        assert self.process.stdin is not None
        print(json.dumps({"beam_width": beam_width} | asdict(weights)), file=self.process.stdin, flush=True)
        return Run(**json.loads(self._answer()))

    def _answer(self) -> str:
        assert self.process.stdout is not None
        if line := self.process.stdout.readline():
            return line
        raise NotMeasured(last_line(self.log.read_text(errors="replace")))


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it ended without a word"])[-1]


def environment() -> Path:
    """The Python of the peers' virtual environment, made if it is not there."""
    folder = CACHE / f"decoding-python{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin/python"
    if not python.exists():
        command([sys.executable, "-m", "venv", folder])
    return python


def command(arguments: Sequence[str | Path]) -> None:
    """Run it; NotMeasured, with the last line it wrote, when it fails."""
    finished = subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if finished.returncode:
        raise NotMeasured(last_line(finished.stderr))


def write_inputs(folder: Path, ours: Ours) -> int:
    """What decoding_peers.py reads. Returns how many words the language model has."""
    model, tokens = load_model(ours.lm), ours.bundle.tokens
    save_model(model, folder / "lm.arpa")
    np.savez(folder / "log_probs.npz", *ours.log_probs)
    spellings = {}
    for word in map(model.vocabulary.word, range(len(model.vocabulary))):
        pieces = tokens.pieces(word)
        if tokens.ids.keys() >= set(pieces):  # which is not so for <unk>, <s> and </s>
            spellings[word] = [tokens.ids[piece] for piece in pieces]
    lexicon = {"symbols": tokens.symbols, "spellings": spellings}
    (folder / "lexicon.json").write_text(json.dumps(lexicon), encoding="utf-8")
    return len(spellings)


def decoding(entries: Sequence[Entry], model: str, lm: str, rounds: int) -> None:
    """Print the tables."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    recognizer = Recognizer(model, "greedy", threads=1)
    log_probs = [recognizer.log_probs(entry.source) for entry in entries]
    ours = Ours(recognizer.bundle, find_language_model(lm), log_probs)
    seconds = sum(map(len, log_probs)) * recognizer.bundle.config.frame_seconds
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        words = write_inputs(folder, ours)
        print(
            f"{len(entries)} utterances, {seconds / 60:.1f} min; {lm}, {words:,} words; {rounds} rounds\n", flush=True
        )
        decoders: dict[str, Ours | Peer] = {OURS: ours}
        best = {OURS: best_weights(OURS, ours, entries)}
        for peer, packages in PEERS.items():
            try:
                python = environment()
                command([python, "-m", "pip", "install", "--disable-pip-version-check", *packages])
                decoders[peer] = Peer(peer, python, folder, stack)
                best[peer] = best_weights(peer, decoders[peer], entries)
            except NotMeasured as reason:
                print(f"{peer}: not measured: {reason}\n", flush=True)
        cases = [Case(OURS, beam_width, weights) for weights in (None, ours.weights) for beam_width in BEAMS[OURS]]
        cases += [Case(peer, beam_width, weights) for peer, weights in best.items() for beam_width in BEAMS[peer]]
        compare(decoders, list(dict.fromkeys(cases)), entries, seconds, rounds)
    print(
        f"\nWeights in nats. Those of {model} are {shown(ours.weights)}; the others are of a small grid those with the "
        f"fewest word errors on these same utterances, for each decoder at beam {NARROW_BEAM}.\n"
    )
    search(ours)


def best_weights(name: str, decoder: Ours | Peer, entries: Sequence[Entry]) -> FusionWeights:
    """Those of the grid with the fewest word errors at a narrow beam."""
    grid = [FusionWeights(*weights) for weights in product(LM_WEIGHTS, WORD_BONUSES, UNKNOWN_SCORES[name])]
    return min(grid, key=lambda weights: score(entries, decoder.decode(NARROW_BEAM, weights).texts).wer)


def compare(
    decoders: Mapping[str, Ours | Peer], cases: Sequence[Case], entries: Sequence[Entry], seconds: float, rounds: int
) -> None:
    """The table of speeds and error rates."""
    runs: dict[Case, list[Run]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            runs[case].append(decoders[case.decoder].decode(case.beam_width, case.weights))
    print("| decoder | beam | LM weight, word bonus, unknown | seconds of audio per CPU second | WER, 95 % interval |")
    print("| --- | --- | --- | --- | --- |")
    for case, done in runs.items():
        speeds = [seconds / run.seconds for run in done]
        speed = f"{statistics.median(speeds):.0f} ({min(speeds):.0f} – {max(speeds):.0f})"
        result = score(entries, done[0].texts)
        low, high = result.interval
        wer = f"{result.wer:.1%} ({low:.1%} – {high:.1%})"
        print(f"| {case.decoder} | {case.beam_width} | {shown(case.weights)} | {speed} | {wer} |")


def score(entries: Sequence[Entry], texts: Sequence[str]) -> Evaluation:
    pairs = zip(entries, texts, strict=True)
    return evaluate(Utterance(entry.id, entry.text, text, entry.seconds or 0.0) for entry, text in pairs)


def shown(weights: FusionWeights | None) -> str:
    return "no LM" if weights is None else ", ".join(f"{value:g}" for value in asdict(weights).values())


def search(ours: Ours) -> None:
    """The table of what the narrow beam misses of the wide one: sums of `Hypothesis.score`, in nats."""
    print(f"| weights | sum of scores, beam {NARROW_BEAM} | beam {WIDE_BEAM} | ratio | the same text |")
    print("| --- | --- | --- | --- | --- |")
    for weights in (None, ours.weights):
        (_, found), (_, best) = (ours.hypotheses(beam_width, weights) for beam_width in (NARROW_BEAM, WIDE_BEAM))
        sums = [sum(hypothesis.score for hypothesis in hypotheses) for hypotheses in (found, best)]
        same = statistics.mean(one.text == other.text for one, other in zip(found, best, strict=True))
        print(
            f"| {shown(weights)} | {sums[0]:.1f} | {sums[1]:.1f} | {sums[1] / sums[0]:.2%} | {same:.1%} |", flush=True
        )
