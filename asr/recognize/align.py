"""Forced alignment: when each word of a text that is known was spoken.

The most likely path of log-probabilities through the tokens of the text, with blanks between them where they help: the
trellis of Graves et al. 2006, section 4.1, with the best path in place of the sum over paths. torchaudio's
`forced_align` finds the same path; it is not called, since importing torch takes longer than aligning ten minutes here.
"""

import math
from collections.abc import Sequence

import numpy as np

from asr.audio.sources import AudioFile, Samples
from asr.decode.word_times import AlignedToken, spell_words
from asr.errors import ArgumentError, AsrError, one_line
from asr.model.engine import Model
from asr.model.tokens import BLANK_ID, WORD_START, Tokens
from asr.normalize import normalize
from asr.output.transcript import Transcript, Word, split_segments
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
    confidences follow the decoders' rule (`spell_words`). The duration is that of the frames.

    Args:
        model: a recognizer, or whatever a `Recognizer` is made of, such as a packaged model's name.
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
    spelled = spell(words, tokens, upper=config.tokenizer.get("case") == "upper")
    log_probs = recognizer.log_probs(source, sample_rate, on_progress=on_progress)
    aligned = iter(forced_align(log_probs, [token for ids in spelled for token in ids]))
    timed = []
    for word, ids in zip(words, spelled, strict=True):
        # A word such as "well-known" is spelled as two.
        parts = spell_words([next(aligned) for _ in ids], tokens, config.frame_seconds)
        confidence = math.prod(part.confidence for part in parts) ** (1 / len(parts))
        timed.append(Word(word, parts[0].start, parts[-1].end, confidence))
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


def spell(words: Sequence[str], tokens: Tokens, upper: bool = False) -> list[list[int]]:
    """Token ids of each word, normalised as for scoring. ArgumentError names the words that the tokens cannot spell."""
    spelled, missing = [], []
    for number, word in enumerate(words, 1):
        text = normalize(word).upper() if upper else normalize(word)
        pieces = [piece for part in text.split() for piece in tokens.pieces(part)]
        if not tokens.ids.keys() >= set(pieces):
            missing.append(f"“{word}” (word {number})")
        spelled.append([tokens.ids.get(piece, BLANK_ID) for piece in pieces])
    if missing:
        letters = "".join(sorted(symbol for symbol in tokens.symbols if len(symbol) == 1 and symbol != WORD_START))
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ArgumentError(
            f"the model cannot spell {one_line(', '.join(missing[:3]))}{more}; "
            f"write numbers and signs as they are spoken, with the letters {one_line(letters)}"
        )
    if spelled and tokens.symbols[spelled[0][0]] == WORD_START:
        spelled[0].pop(0)  # it spells nothing, and in character models it stands between words only
    return spelled


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
    scores = np.full(len(tokens) + 1, -np.inf), np.full(len(tokens), -np.inf)
    scores[0][0] = 0.0  # before the first frame the path stands in the first blank
    kept = []
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
