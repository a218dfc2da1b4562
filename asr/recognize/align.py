"""Forced alignment: when each word of a text that is known was spoken.

The most likely path of log-probabilities through the tokens of the text, with blanks between them where they help: the
trellis of Graves et al. 2006, section 4.1, with the best path in place of the sum over paths. torchaudio's
`forced_align` finds the same path; it is not called, since importing torch takes longer than aligning ten minutes here.
"""

import logging
import math
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import accumulate, groupby, islice, pairwise, product
from pathlib import Path

import numpy as np

from asr.audio.sources import AudioFile, Excerpt, Samples
from asr.decode.build import open_pronunciations
from asr.decode.hotwords import VARIANTS
from asr.decode.lexicon import Pronunciations
from asr.decode.word_times import AlignedToken, shift, sounding, spell_words
from asr.errors import ArgumentError, AsrError, one_line
from asr.model.engine import Model
from asr.model.phones import arpabet
from asr.model.tokens import BLANK_ID, WORD_START, Tokens
from asr.normalize import normalize
from asr.output.transcript import Phone, Transcript, Word, split_segments, within
from asr.recognize.offline import OnProgress, Recognizer
from asr.spoken import WRITTEN_WORD, read_words

MIN_CONFIDENCE = 0.02  # of a word that fits
TOGETHER = 4  # words that fit and follow each other; chance finds fewer
APART = 5  # frames with tokens, and as many for each word left out, between words that do not follow each other
UNSPOKEN = 0.002  # confidence below which a word is not spoken: so are 1 % of those that are, 95 % of others
ROUNDS = 10  # of leaving out words that are not spoken
SKIPPED = -3.0  # log-probability of a frame of speech that the text does not have, beside that of its best token
OPENING = 2.0  # nats for each of log(frames) that it costs to begin to pass over speech between two words
TRELLIS_BYTES = 2**30  # more than four hours of speech without a pause
NAMED = 5  # words that are not spoken: a message names so many

log = logging.getLogger(__name__)


def align(
    model: Model,
    source: AudioFile | Samples | Excerpt,
    text: str,
    sample_rate: int | None = None,
    *,
    on_progress: OnProgress | None = None,
    read_aloud: Callable[[str], str] | None = None,
    min_confidence: float = MIN_CONFIDENCE,
) -> Transcript:
    """The words of `text` with the times at which the source speaks them.

    They keep their case and punctuation; a dash or another word without letters goes with the word before it. Times and
    confidences follow the decoders' rule (`spell_words`). Where the model spells phones, a word is aligned in the
    pronunciation that fits best, and has the times of its `phones`. Words that are not spoken, or that the model's
    tokens cannot spell, are marked so and logged as a warning; speech that the text does not have is passed over.

    Args:
        model: a recognizer, or whatever a `Recognizer` is made of, such as a packaged model's name. The lexicon of a
            recognizer's options counts.
        source, sample_rate: a recording, as for `Recognizer.transcribe`.
        text: the words that are spoken, in order.
        read_aloud: makes of a written word those that are spoken, such as "five dollars" of "$5"; without it, the
            rules of the model's language (`asr.spoken.read_words`).
        min_confidence: at least half of the words have it, in runs of several, or the text does not fit; 0 for any.

    Raises AudioError; ArgumentError, also for a text that has no words, or none that the model's tokens can spell;
    AsrError for one that is too long for the audio, or does not fit it.
    """
    if not isinstance(text, str):
        raise ArgumentError(f"text: {text!r:.80} is not a text; give the words that are spoken")
    if not isinstance(min_confidence, int | float) or not 0 <= min_confidence <= 1:
        raise ArgumentError(f"min_confidence: {min_confidence!r:.40}; give 0 to 1")
    words = split_words(text)
    if not words:
        raise ArgumentError("the text has no words; give the words that are spoken")
    recognizer = model if isinstance(model, Recognizer) else Recognizer(model, "greedy")
    tokens, config = recognizer.bundle.tokens, recognizer.bundle.config
    pronunciations = open_pronunciations(recognizer.bundle, recognizer.options.lexicon)
    upper = config.tokenizer.get("case") == "upper"
    read = read_words(words, config.language) if read_aloud is None else map(read_aloud, words)
    ways = [  # as it is read, or else as it is written
        spell(normalize(reading), tokens, upper, pronunciations)
        or spell(normalize(word), tokens, upper, pronunciations)
        for word, reading in zip(words, read, strict=True)
    ]
    spelled = [number for number, way in enumerate(ways) if way]
    unspelled = "" if len(spelled) == len(words) else cannot_spell(words, ways, tokens, pronunciations)
    if not spelled:
        raise ArgumentError(unspelled)
    drop_first_word_start(ways[spelled[0]], tokens)
    (log_probs, _), level = recognizer.frames_and_level(source, sample_rate, on_progress)
    seconds, problem = level.seconds, level.problem()

    def time_words(numbers: Sequence[int], frames: slice = slice(None)) -> dict[int, Word]:
        """Those of the words at the times of their tokens in some of the frames."""
        spelled = best_spellings(log_probs[frames], [ways[number] for number in numbers])
        aligned = zip(numbers, _align_words(log_probs[frames], spelled), strict=True)
        timed = [_word(words[number], own, tokens, config.frame_seconds, phones) for number, own in aligned]
        return dict(zip(numbers, shift(timed, (frames.start or 0) * config.frame_seconds), strict=True))

    phones = pronunciations is not None
    timed = _without_unspoken(time_words(spelled), time_words, config.frame_seconds)
    fitting = _count_fitting(timed, len(spelled), log_probs, config.frame_seconds, min_confidence)
    if 2 * fitting < len(spelled) and min_confidence > 0:
        raise AsrError(
            f"the text does not fit the recording: {len(spelled) - fitting} of its {len(spelled)} words were not found"
            f" there; {f'it is {problem}' if problem else 'check that they belong together'}"
        )
    unspoken = _named([words[number] for number in spelled if number not in timed], len(words))
    for warning in filter(None, (problem, unspelled, unspoken)):
        log.warning("%s: %s", source if isinstance(source, str | Path | Excerpt) else "recording", warning)
    start = source.start if isinstance(source, Excerpt) else 0.0
    found = within(sounding([*timed.values()], config.streaming, config.frame_seconds, start), start + seconds)
    placed = _with_unspoken(words, dict(zip(timed, found, strict=True)))
    return Transcript(split_segments(placed), seconds, language=config.language, start=start)


def _named(unspoken: Sequence[str], total: int) -> str:
    """The message that names the words of a text of `total` words that are not spoken; nothing if there are none."""
    more = ", …" if len(unspoken) > NAMED else ""
    named = f"{' '.join(unspoken[:NAMED])}{more}"
    return f"not spoken are {len(unspoken)} of the {total} words: {named}" if unspoken else ""


def _count_fitting(
    timed: dict[int, Word], total: int, log_probs: np.ndarray, frame_seconds: float, min_confidence: float
) -> int:
    """How many of the words, by their numbers in a text of `total` words, fit together with their neighbors.

    Some word that sounds like it is found for any in a long recording, but several after each other only for a text
    that is spoken there.
    """
    speech = np.cumsum([False, *(log_probs.argmax(axis=1) != BLANK_ID)])  # frames of it before each
    begins = {number: speech[round(word.start / frame_seconds)] for number, word in timed.items()}
    ends = {number: speech[round(word.end / frame_seconds)] for number, word in timed.items()}
    breaks = [begins[after] - ends[before] > APART * (after - before) for before, after in pairwise(timed)]
    runs = [*accumulate(breaks, initial=0)]  # the number of its run for each word
    counts = Counter(run for run, word in zip(runs, timed.values(), strict=True) if word.confidence >= min_confidence)
    return sum(count for count in counts.values() if count >= min(TOGETHER, total - 1))


def _with_unspoken(words: Sequence[str], found: dict[int, Word]) -> list[Word]:
    """All words; those that were not found, by their numbers, stand where the word before them ends."""
    placed: list[Word] = []
    for number, word in enumerate(words):
        end = placed[-1].end if placed else next(iter(found.values())).start
        placed.append(found.get(number) or Word(word, end, end, 0.0, spoken=False))
    return placed


def _without_unspoken(
    timed: dict[int, Word], time_words: Callable[..., dict[int, Word]], frame_seconds: float
) -> dict[int, Word]:
    """The words, by their numbers, without those that are not spoken, and the others where they are without them.

    A word that is not spoken takes the place of its neighbors. So of each run of bad ones the worst goes first, until
    all are good; then each that has gone comes back if it is good between its neighbors.
    """
    every = [*timed]
    for _ in range(ROUNDS):
        bad = {number: word.confidence for number, word in timed.items() if word.confidence < UNSPOKEN}
        runs = [[*run] for is_bad, run in groupby(timed, bad.__contains__) if is_bad]
        worst = {min(run, key=bad.__getitem__) for run in runs}
        if not worst or len(worst) == len(timed):
            break
        timed = time_words([number for number in timed if number not in worst])
    for number in every:
        if number in timed:
            continue
        numbers = [*timed]
        place = bisect(numbers, number)
        if not 0 < place < len(numbers):
            continue
        before, after = numbers[place - 1], numbers[place]
        begin = timed[numbers[place - 2]].end if place > 1 else 0.0
        end = timed[numbers[place + 1]].start if place + 1 < len(numbers) else math.inf
        frames = slice(round(begin / frame_seconds), None if end == math.inf else round(end / frame_seconds))
        with suppress(AsrError):  # no room between them
            again = time_words([before, number, after], frames)
            if all(word.confidence >= UNSPOKEN for word in again.values()):
                timed = dict(sorted((timed | again).items()))
    return timed


def _word(text: str, aligned: Sequence[AlignedToken], tokens: Tokens, frame_seconds: float, with_phones: bool) -> Word:
    """A written word at the times of its tokens."""
    parts = spell_words(aligned, tokens, frame_seconds)  # a word such as "well-known" is spelled as two
    confidence = math.prod(part.confidence for part in parts) ** (1 / len(parts))
    phones = time_phones(aligned, tokens, frame_seconds) if with_phones else ()
    return Word(text, parts[0].start, parts[-1].end, confidence, phones)


def _align_words(log_probs: np.ndarray, spelled: Sequence[list[int]]) -> list[list[AlignedToken]]:
    """The aligned tokens of each word, between which there may be audio that the text does not have."""
    begins = [0, *accumulate(len(ids) for ids in spelled)][:-1]
    aligned = iter(forced_align(log_probs, [token for ids in spelled for token in ids], begins))
    return [[*islice(aligned, len(ids))] for ids in spelled]


def split_words(text: str) -> list[str]:
    """The words as written; one without letters and digits is joined to the word before it, or else after it.

    Some have spaces inside, such as 10 000 and $ 5.
    """
    words: list[str] = []
    silent: list[str] = []  # before the first word
    for word in WRITTEN_WORD.findall(text):
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
    """The token ids of each word, normalised as for scoring, in all its spellings, most usual first.

    ArgumentError names the words that the tokens cannot spell, or that nobody can pronounce.
    """
    ways = [spell(normalize(word), tokens, upper, pronunciations) for word in words]
    if not all(ways):
        raise ArgumentError(cannot_spell(words, ways, tokens, pronunciations))
    if ways:
        drop_first_word_start(ways[0], tokens)
    return ways


def spell(text: str, tokens: Tokens, upper: bool, pronunciations: Pronunciations | None) -> list[list[int]]:
    """The token ids of a word, or of the several that are spoken for it, in all spellings; none if it has no spelling.

    text: normalized. Without `pronunciations` tokens are letters, in capitals if `upper`.
    """
    parts = text.split()
    if pronunciations is not None:
        ways = [*islice(product(*([*dict.fromkeys(pronunciations.of(part))] for part in parts)), VARIANTS)]
    else:
        ways = [tuple(part.upper() if upper else part for part in parts)]
    pieces = [[piece for part in way for piece in tokens.pieces(part)] for way in ways]
    if not parts or not tokens.ids.keys() >= {piece for way in pieces for piece in way}:
        return []
    return [[tokens.ids[piece] for piece in way] for way in pieces]


def cannot_spell(
    words: Sequence[str], ways: Sequence[list[list[int]]], tokens: Tokens, pronunciations: Pronunciations | None
) -> str:
    """The message that names the words without a spelling."""
    missing = [
        f"“{word}” (word {number})" for number, (word, way) in enumerate(zip(words, ways, strict=True), 1) if not way
    ]
    letters = tokens.letters if pronunciations is None else pronunciations.letters
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return (
        f"the model cannot spell {one_line(', '.join(missing[:3]))}{more}; "
        f"write numbers and signs as they are spoken, with the letters {one_line(''.join(sorted(letters)))}"
    )


def drop_first_word_start(ways: Sequence[list[int]], tokens: Tokens) -> None:
    """Take the word start out of the spellings of the first word of a text.

    It spells nothing, and in character models it stands between words only.
    """
    for way in ways:
        if tokens.symbols[way[0]] == WORD_START:
            way.pop(0)


def best_spellings(log_probs: np.ndarray, ways: Sequence[Sequence[list[int]]]) -> list[list[int]]:
    """The token ids of each word in the way that fits best between the words around it.

    ways: as of `spellings`. The words around are aligned as they are usually spelled.
    """
    chosen = [way[0] for way in ways]
    if all(len(way) == 1 for way in ways):
        return chosen
    runs = _align_words(log_probs, chosen)
    begins = [0, *(own[-1].last + 1 for own in runs[:-1])]
    ends = [*(own[0].first for own in runs[1:]), len(log_probs)]
    cost = OPENING * math.log(len(log_probs))
    return [
        max(way, key=lambda ids: path_score(log_probs[begin:end], ids, cost)) if len(way) > 1 else way[0]
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


def forced_align(
    log_probs: np.ndarray, targets: Sequence[int], word_starts: Sequence[int] | None = None
) -> list[AlignedToken]:
    """The most likely run of frames for each of the targets (token ids, at least one), in order.

    word_starts: numbers of the targets that begin words. Before them, and at the end, audio that the text does not have
    is passed over: any token may stand for the blank there, at a cost (the `<star>` of Pratap et al. 2023, "Scaling
    speech technology to 1,000+ languages"). To begin that between words costs more the longer the recording is, since
    more places in it resemble a word; else words would be torn from their neighbors.

    log_probs: (frames, tokens). Scores are kept at every √(24 frames)-th frame only, and the choices between two of
    them worked out again on the way back: twice the time, but memory for an hour instead of for a minute. Raises
    AsrError when there are fewer frames than the targets need, or more than memory may hold.
    """
    tokens, frames = np.array(targets), len(log_probs)
    needed = len(tokens) + np.count_nonzero(tokens[1:] == tokens[:-1])  # a blank parts equal ones
    if frames < needed:
        raise AsrError(
            f"the text is too long for the audio: it takes {needed} frames or more, there are {frames}; "
            "check that they belong together"
        )
    block = math.ceil(math.sqrt(24 * frames))
    if len(tokens) * (24 * frames / block + block) > TRELLIS_BYTES:
        raise AsrError(
            f"{frames} frames of audio and {len(tokens)} tokens of text are too many to align at once; "
            "cut the recording and its text in two"
        )
    opening = np.full(len(tokens) + 1, -np.inf)
    if word_starts is not None:
        opening[[*word_starts]] = -OPENING * math.log(frames)
        opening[[0, -1]] = 0.0
    scores, kept = _start(tokens, opening), []
    for start in range(0, frames, block):
        kept.append(scores)
        scores = _advance(scores, log_probs[start : start + block], tokens, opening)

    # States are numbered along the text: blank i is 3 i, gap i is 3 i + 1, token i is 3 i + 2.
    path = np.empty(frames, dtype=np.int64)
    in_blank, in_gap, in_token = (own[-1] for own in scores)
    state = 3 * len(tokens) + max((in_token, -1), (in_blank, 0), (in_gap, 1))[1]
    steps = np.empty((block, len(tokens) + 1), dtype=np.int8)
    for start in reversed(range(0, frames, block)):
        rows = log_probs[start : start + block]
        _advance(kept.pop(), rows, tokens, opening, steps)
        for frame in reversed(range(len(rows))):
            path[start + frame] = state
            step, kind = int(steps[frame, state // 3]), state % 3
            state -= step >> 2 if kind == 2 else step & (kind + 1)

    own = np.arange(len(tokens)) * 3 + 2
    firsts, ends = np.searchsorted(path, own).tolist(), np.searchsorted(path, own, "right").tolist()
    return [
        AlignedToken(token, first, end - 1, float(log_probs[first:end, token].max()))
        for token, first, end in zip(targets, firsts, ends, strict=True)
    ]


def path_score(log_probs: np.ndarray, targets: Sequence[int], opening_cost: float) -> float:
    """The log-prob of the most likely path; −inf if there are fewer frames than the targets need.

    opening_cost: of passing over audio before the targets, and of that after them.
    """
    tokens = np.array(targets)
    opening = np.full(len(tokens) + 1, -np.inf)
    opening[[0, -1]] = -opening_cost
    return max(scores[-1] for scores in _advance(_start(tokens, opening), log_probs, tokens, opening))


Scores = tuple[np.ndarray, np.ndarray, np.ndarray]  # of the best paths to each blank, each gap and each token


def _start(tokens: np.ndarray, opening: np.ndarray) -> Scores:
    """Scores before the first frame: the path stands in the first blank, or the first gap if there is one."""
    in_blank, in_gap = np.full((2, len(tokens) + 1), -np.inf)
    in_blank[0], in_gap[0] = 0.0, opening[0]
    return in_blank, in_gap, np.full(len(tokens), -np.inf)


def _advance(
    scores: Scores, log_probs: np.ndarray, tokens: np.ndarray, opening: np.ndarray, steps: np.ndarray | None = None
) -> Scores:
    """The scores of the best paths some frames later.

    opening: (tokens + 1,), what it adds to a score to begin to pass over audio before each token and at the end.
    steps, int8 (frames or more, tokens + 1), is filled with how many states back the paths of a frame come from: to a
    blank in bit 0, to a gap in bit 1, to a token in those above.
    """
    in_blank, in_gap, in_token = scores
    # From a token to the next without a blank, unless they are equal; nothing comes before the first.
    passable = np.where(np.diff(tokens, prepend=tokens[0]) != 0, 0.0, -np.inf)
    before = np.full(len(tokens) + 1, -np.inf)  # of the token before each blank
    anything = np.maximum(log_probs[:, BLANK_ID], log_probs[:, BLANK_ID + 1 :].max(axis=1) + SKIPPED)
    for frame, row in enumerate(log_probs):
        before[1:] = in_token
        opened, passed = before + opening, before[:-1] + passable
        entered = np.maximum(in_blank, in_gap)[:-1]
        if steps is not None:
            came = np.where(in_blank[:-1] >= in_gap[:-1], 2, 1) * (entered > in_token)
            came[passed > np.maximum(entered, in_token)] = 3
            steps[frame] = (before > in_blank) + 2 * (opened > in_gap)
            steps[frame, :-1] += (4 * came).astype(np.int8)
        in_blank = np.maximum(in_blank, before) + row[BLANK_ID]
        in_gap = np.maximum(in_gap, opened) + anything[frame]
        in_token = np.maximum(np.maximum(in_token, entered), passed) + row[tokens]
    return in_blank, in_gap, in_token
