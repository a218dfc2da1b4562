"""Forced alignment: when each word of a text that is known was spoken.

The most likely path of log-probabilities through the tokens of the text, with blanks between them where they help: the
trellis of Graves et al. 2006, section 4.1, with the best path in place of the sum over paths. torchaudio's
`forced_align` finds the same path; it is not called, since importing torch takes longer than aligning ten minutes here.
"""

import math
from collections.abc import Sequence
from itertools import islice, pairwise, product

import numpy as np

from asr.audio.sources import AudioFile, Samples
from asr.decode.build import open_pronunciations
from asr.decode.hotwords import VARIANTS
from asr.decode.lexicon import Pronunciations
from asr.decode.word_times import AlignedToken, spell_words
from asr.errors import ArgumentError, AsrError, one_line
from asr.model.engine import Model
from asr.model.phones import arpabet
from asr.model.tokens import BLANK_ID, WORD_START, Tokens
from asr.normalize import normalize
from asr.output.transcript import Phone, Transcript, Word, split_segments
from asr.recognize.offline import OnProgress, Recognizer

TRELLIS_BYTES = 2**30  # more than four hours of speech without a pause


def align(
    model: Model,
    source: AudioFile | Samples,
    text: str,
    sample_rate: int | None = None,
    *,
    on_progress: OnProgress | None = None,
) -> Transcript:
    """The words of `text` with the times at which the source speaks them.

    They keep their case and punctuation; a dash or another word without letters goes with the word before it. Times and
    confidences follow the decoders' rule (`spell_words`). The duration is that of the frames. Where the model spells
    phones, a word is aligned in the pronunciation that fits best, and has the times of its `phones`.

    Args:
        model: a recognizer, or whatever a `Recognizer` is made of, such as a packaged model's name. The lexicon of a
            recognizer's options counts.
        source, sample_rate: a recording, as for `Recognizer.transcribe`.
        text: all words that are spoken, in order; numbers as they are spoken.

    Raises AudioError; ArgumentError, also for a text that has no words or cannot be spelled with the model's tokens;
    AsrError for one that is too long for the audio.
    """
    if not isinstance(text, str):
        raise ArgumentError(f"text: {text!r:.80} is not a text; give the words that are spoken")
    words = split_words(text)
    if not words:
        raise ArgumentError("the text has no words; give the words that are spoken")
    recognizer = model if isinstance(model, Recognizer) else Recognizer(model, "greedy")
    tokens, config = recognizer.bundle.tokens, recognizer.bundle.config
    pronunciations = open_pronunciations(recognizer.bundle, recognizer.options.lexicon)
    ways = spellings(words, tokens, config.tokenizer.get("case") == "upper", pronunciations)
    log_probs = recognizer.log_probs(source, sample_rate, on_progress=on_progress)
    spelled = best_spellings(log_probs, ways)
    aligned = iter(forced_align(log_probs, [token for ids in spelled for token in ids]))
    timed = []
    for word, ids in zip(words, spelled, strict=True):
        own = [next(aligned) for _ in ids]
        parts = spell_words(own, tokens, config.frame_seconds)  # a word such as "well-known" is spelled as two
        confidence = math.prod(part.confidence for part in parts) ** (1 / len(parts))
        phones = time_phones(own, tokens, config.frame_seconds) if pronunciations is not None else ()
        timed.append(Word(word, parts[0].start, parts[-1].end, confidence, phones))
    duration = len(log_probs) * config.frame_seconds
    return Transcript(split_segments(timed), duration, language=config.language)


def split_words(text: str) -> list[str]:
    """The words as written; one without letters and digits is joined to the word before it, or else after it."""
    words: list[str] = []
    silent: list[str] = []  # before the first word
    for word in text.split():
        if normalize(word):
            words.append(" ".join([*silent, word]))
            silent = []
        elif words:
            words[-1] += f" {word}"
        else:
            silent.append(word)
    return words


def spellings(
    words: Sequence[str], tokens: Tokens, upper: bool = False, pronunciations: Pronunciations | None = None
) -> list[list[list[int]]]:
    """The token ids of each word, normalised as for scoring, in all ways in which it is spelled: most usual first.

    ArgumentError names the words that the tokens cannot spell, or that nobody can pronounce.
    """
    spelled, missing = [], []
    for number, word in enumerate(words, 1):
        parts = normalize(word).split()
        if pronunciations is not None:
            ways = [*islice(product(*([*dict.fromkeys(pronunciations.of(part))] for part in parts)), VARIANTS)]
        else:
            ways = [tuple(part.upper() if upper else part for part in parts)]
        pieces = [[piece for part in way for piece in tokens.pieces(part)] for way in ways]
        if not ways or not tokens.ids.keys() >= {piece for way in pieces for piece in way}:
            missing.append(f"“{word}” (word {number})")
        spelled.append([[tokens.ids.get(piece, BLANK_ID) for piece in way] for way in pieces])
    if missing:
        letters = tokens.letters if pronunciations is None else pronunciations.letters
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ArgumentError(
            f"the model cannot spell {one_line(', '.join(missing[:3]))}{more}; "
            f"write numbers and signs as they are spoken, with the letters {one_line(''.join(sorted(letters)))}"
        )
    for way in spelled[0] if spelled else ():
        if tokens.symbols[way[0]] == WORD_START:
            way.pop(0)  # it spells nothing, and in character models it stands between words only
    return spelled


def best_spellings(log_probs: np.ndarray, ways: Sequence[Sequence[list[int]]]) -> list[list[int]]:
    """The token ids of each word in the way that fits best between the words around it.

    ways: as of `spellings`. The words around are aligned as they are usually spelled.
    """
    chosen = [way[0] for way in ways]
    if all(len(way) == 1 for way in ways):
        return chosen
    aligned = iter(forced_align(log_probs, [token for ids in chosen for token in ids]))
    runs = [[next(aligned) for _ in ids] for ids in chosen]
    begins = [0, *(own[-1].last + 1 for own in runs[:-1])]
    ends = [*(own[0].first for own in runs[1:]), len(log_probs)]
    return [
        max(way, key=lambda ids: path_score(log_probs[begin:end], ids)) if len(way) > 1 else way[0]
        for way, begin, end in zip(ways, begins, ends, strict=True)
    ]


def time_phones(aligned: Sequence[AlignedToken], tokens: Tokens, frame_seconds: float) -> tuple[Phone, ...]:
    """The phones of a word from its aligned tokens, one after the other without a gap.

    A token lasts until the next one begins, the last one to the end of its run; phones of one token share it evenly.
    """
    spelled = [(tokens.symbols[item.token].strip(WORD_START), item) for item in aligned]
    spelled = [(letters, item) for letters, item in spelled if letters]
    ends = [*(item.first for _, item in spelled[1:]), spelled[-1][1].last + 1]
    phones = []
    for (letters, item), end in zip(spelled, ends, strict=True):
        times = np.linspace(item.first, end, len(letters) + 1) * frame_seconds
        confidence = min(1.0, math.exp(item.log_prob))
        phones += [
            Phone(arpabet(letter), start, stop, confidence)
            for letter, (start, stop) in zip(letters, pairwise(times.tolist()), strict=True)
        ]
    return tuple(phones)


def forced_align(log_probs: np.ndarray, targets: Sequence[int]) -> list[AlignedToken]:
    """The most likely run of frames for each of the targets (token ids, at least one), in order.

    log_probs: (frames, tokens). Scores are kept at every √(8 frames)-th frame only, and the choices between two of them
    worked out again on the way back: twice the time, but memory for an hour instead of for a minute. Raises
    AsrError when there are fewer frames than the targets need, or more than memory may hold.
    """
    tokens, frames = np.array(targets), len(log_probs)
    needed = len(tokens) + np.count_nonzero(tokens[1:] == tokens[:-1])  # a blank parts equal ones
    if frames < needed:
        raise AsrError(
            f"the text is too long for the audio: it takes {needed} frames or more, there are {frames}; "
            "check that they belong together"
        )
    block = math.ceil(math.sqrt(8 * frames))
    if 2 * len(tokens) * (8 * frames / block + block) > TRELLIS_BYTES:
        raise AsrError(
            f"{frames} frames of audio and {len(tokens)} tokens of text are too many to align at once; "
            "cut the recording and its text in two"
        )
    scores, kept = _start(tokens), []
    for start in range(0, frames, block):
        kept.append(scores)
        scores = _advance(scores, log_probs[start : start + block], tokens)

    # States are numbered along the text: blank i is 2 i, token i is 2 i + 1.
    path = np.empty(frames, dtype=np.int64)
    state = 2 * len(tokens) - (scores[0][-1] <= scores[1][-1])
    steps = np.empty((block, 2, len(tokens) + 1), dtype=np.int8)
    for start in reversed(range(0, frames, block)):
        rows = log_probs[start : start + block]
        _advance(kept.pop(), rows, tokens, steps)
        for frame in reversed(range(len(rows))):
            path[start + frame] = state
            state -= steps[frame, state % 2, state // 2]

    own = np.arange(len(tokens)) * 2 + 1
    firsts, ends = np.searchsorted(path, own).tolist(), np.searchsorted(path, own, "right").tolist()
    return [
        AlignedToken(token, first, end - 1, float(log_probs[first:end, token].max()))
        for token, first, end in zip(targets, firsts, ends, strict=True)
    ]


def path_score(log_probs: np.ndarray, targets: Sequence[int]) -> float:
    """The log-prob of the most likely path; −inf if there are fewer frames than the targets need."""
    tokens = np.array(targets)
    in_blank, in_token = _advance(_start(tokens), log_probs, tokens)
    return max(in_blank[-1], in_token[-1])


def _start(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores before the first frame: the path stands in the first blank."""
    in_blank = np.full(len(tokens) + 1, -np.inf)
    in_blank[0] = 0.0
    return in_blank, np.full(len(tokens), -np.inf)


def _advance(
    scores: tuple[np.ndarray, np.ndarray], log_probs: np.ndarray, tokens: np.ndarray, steps: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The scores of the best paths to each blank (tokens + 1,) and each token (tokens,) some frames later.

    steps, int8 (frames or more, 2, tokens + 1), is filled with how many states back each path of a frame comes from.
    """
    in_blank, in_token = scores
    # From a token to the next without a blank, unless they are equal; nothing comes before the first.
    passable = np.where(np.diff(tokens, prepend=tokens[0]) != 0, 0.0, -np.inf)
    passed = np.full(len(tokens), -np.inf)
    for frame, row in enumerate(log_probs):
        passed[1:] = in_token[:-1]
        passed += passable
        entered = np.maximum(in_token, in_blank[:-1])
        if steps is not None:
            steps[frame, 0, 0] = 0
            steps[frame, 0, 1:] = in_token > in_blank[1:]
            steps[frame, 1, :-1] = in_blank[:-1] > in_token
            steps[frame, 1, :-1][passed > entered] = 2
        left = np.append(in_blank[0], np.maximum(in_blank[1:], in_token))
        in_blank = left + row[BLANK_ID]
        in_token = np.maximum(entered, passed) + row[tokens]
    return in_blank, in_token
