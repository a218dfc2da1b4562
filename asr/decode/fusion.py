"""Shallow fusion: what a language model and hotwords add to the score of a token sequence in the beam.

An automaton over tokens whose states and steps are made when the beam first needs them; WFST decoders build the same
composition of lexicon, language model and hotwords ahead (Mohri, Pereira & Riley 2002). The gain of a step depends on
the state alone, so it is computed once and then looked up.

The n-gram score of a word is known when the word ends. Until then a word in progress has the score of the likeliest
word that it may become (language model look-ahead, Ortmanns, Ney & Eiden 1996); once no word of the vocabulary starts
with its letters, that of an unknown word. The real score replaces this one when the word ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

from asr.decode.hotwords import HotwordMatcher, pronounced, spellings
from asr.decode.lexicon import PronouncedModel, Pronunciations
from asr.lm.ngram import ROOT, NgramModel
from asr.lm.vocabulary import Vocabulary
from asr.model.tokens import WORD_START, Tokens

ROUNDING = 1e-9  # nats: by which two ways to compute a gain may differ
CACHED = 15_000  # states, and words in progress, after which all are made anew: some 30 MB


@dataclass(frozen=True)
class FusionWeights:
    """How a language model's natural logs are added to the acoustic ones (Hannun et al. 2014, equation 2)."""

    lm_weight: float = 0.5  # factor of the language model's log-probs
    word_bonus: float = 1.5  # nats added for each word, against the model's preference for few words
    unknown_score: float = -13.0  # nats added for a word that the language model does not know


class Choice(NamedTuple):
    """A word that letters or phones may stand for."""

    text: str | None  # None if no word is pronounced so
    id: int  # in the language model
    known: bool  # else it has the `unknown_score`


@dataclass(slots=True, eq=False)
class FusionState:
    """All of a token sequence that later gains depend on.

    `context` is shortened to what the end of the word in progress depends on, so that sequences that differ only in
    older words have equal states (recombination).
    """

    key: str  # equal for equal futures; after `Fusion.trim` there may be several objects with one key
    context: int  # the language model's state before the word in progress
    word: str  # letters of the word in progress, or phones
    words: range  # ids of the vocabulary's words that start with them, or entries of the lexicon
    lookahead: float  # score of the likeliest of them
    hotword_prefix: str  # the longest end of the text with which a hotword starts
    provisional_boost: float  # nats for it so far
    steps: dict[int, tuple[float, "FusionState"]] = field(default_factory=dict)  # token → gain (nats), next state
    word_end: tuple[float, int, str] | None = None  # result of `Fusion._end_word`
    highest_start: float | None = None  # result of `Fusion._highest_start`


@dataclass
class _Cache:
    """What was computed since the last `Fusion.trim`: states by key, words by spelling, unknown scores by context.

    Threads share it without a lock: whatever two of them compute for the same entry is equal.
    """

    states: dict[str, FusionState] = field(default_factory=dict)
    words: dict[str, range] = field(default_factory=dict)
    choices: dict[str, list[Choice]] = field(default_factory=dict)
    unknown: dict[int, float] = field(default_factory=dict)


class Fusion:
    """Gains of tokens after token sequences, from a language model, hotwords, both or neither.

        state = fusion.start()
        gain, state = fusion.step(state, token)     # for each token
        fusion.end(state)                           # the gain of ending there

    The sum over a whole sequence is, for each word, lm_weight · ln P(word | words before) + word_bonus, with
    unknown_score if it is unknown, and the boost of each hotword in it. Without a language model only hotwords count.
    Words of the model and hotwords, phrases with single spaces in them and boosts in nats, are spelled with the letters
    of `tokens`, or with the phones of their `pronunciations`; then the sum is that of the likeliest words, and the
    model is a `PronouncedModel`. The words of hotwords and the user's own are not unknown. Any number of threads may
    share a fusion.
    """

    def __init__(
        self,
        tokens: Tokens,
        model: NgramModel | None = None,
        weights: FusionWeights = FusionWeights(),
        hotwords: Mapping[str, float] | None = None,
        pronunciations: Pronunciations | None = None,
    ):
        self.model = model
        self.weights = weights
        self.pronunciations = pronunciations
        self._pieces = [symbol.removeprefix(WORD_START) for symbol in tokens.symbols]
        self._starts_word = [tokens.starts_word(token) for token in range(len(tokens))]
        self.written_hotwords = HotwordMatcher(hotwords or {})
        added = self.written_hotwords.words
        if pronunciations is None:
            self._hotwords, self._added = self.written_hotwords, {word: [word] for word in added}
        else:
            self._hotwords = HotwordMatcher(pronounced(hotwords or {}, pronunciations))
            self._added = spellings({*added, *pronunciations.own.values()}, pronunciations)
        # Not words that the language model knows, which it never scores as unknown: look-ahead would let their prefixes
        # take the place of others in the beam.
        self._known = {spelled for spelled, words in self._added.items() if not all(map(self._has_entry, words))}
        self._known_prefixes = {word[:length] for word in self._known for length in range(1, len(word) + 1)}
        # No step gains more: look-ahead never rises within a word, and no log-prob is above 0.
        self.highest_gain = max(0.0, weights.word_bonus) + self._hotwords.highest_gain
        self._entries: Vocabulary | PronouncedModel | None = None
        if model is not None:
            self._entries = model if isinstance(model, PronouncedModel) else model.vocabulary
        self._vocabulary = range(len(self._entries) if self._entries is not None else 0)
        self.cache = _Cache()

    def _has_entry(self, word: str) -> bool:
        """Whether look-ahead knows a word."""
        if self.model is None or self.model.vocabulary.get(word) is None:
            return False
        return not isinstance(self.model, PronouncedModel) or bool(self.model.lexicon.pronunciations(word))

    def trim(self) -> None:
        """Drop what was computed if it is much; changes no result."""
        cache = self.cache
        if max(len(cache.states), len(cache.words)) > CACHED:
            self.cache = _Cache()
            # States that a beam still holds lead to all others. A thread may be adding to the old cache: a list.
            for state in list(cache.states.values()):
                state.steps.clear()

    def start(self) -> FusionState:
        """Before the first token, at the beginning of a sentence."""
        return self._state(self.model.start() if self.model is not None else ROOT, "", self._vocabulary, "")

    def _state(self, context: int, word: str, words: range, hotword_prefix: str) -> FusionState:
        key = f"{context}\n{word}\n{hotword_prefix}"  # unlike a tuple's, a string's hash is computed once
        states = self.cache.states
        state = states.get(key)
        if state is None:
            lookahead, boost = self._lookahead(context, word, words), self._hotwords.provisional[hotword_prefix]
            state = states[key] = FusionState(key, context, word, words, lookahead, hotword_prefix, boost)
        return state

    def step(self, state: FusionState, token: int) -> tuple[float, FusionState]:
        known = state.steps.get(token)
        if known is not None:
            return known
        gain, context = -state.lookahead - state.provisional_boost, state.context
        word, words, hotword_prefix = state.word, state.words, state.hotword_prefix
        if self._starts_word[token] and word:
            score, context, hotword_prefix = self._end_word(state)
            gain += score
            word, words = "", self._vocabulary
        if piece := self._pieces[token]:
            hotword_prefix = self._hotwords.prefix(hotword_prefix + piece) if hotword_prefix or not word else ""
            word, words = word + piece, self._narrow(word + piece, words)
            if self.model is not None:
                cost, context = self.model.shorten(context, words.start, words.stop)
                gain += self.weights.lm_weight * cost
        after = self._state(context, word, words, hotword_prefix)
        state.steps[token] = result = gain + after.lookahead + after.provisional_boost, after
        return result

    def may_gain(self, state: FusionState, token: int, least: float) -> bool:
        """Whether the gain of `step` may be above `least` (nats); the state after it is not made."""
        word, words, hotword_prefix = state.word, state.words, state.hotword_prefix
        score, context, piece = 0.0, state.context, self._pieces[token]
        begins = self._starts_word[token] or not word
        if begins and word:
            score, context, hotword_prefix = self._end_word(state)
            word, words = "", self._vocabulary
        if self._hotwords.boosts:
            least += state.provisional_boost - self._hotwords.highest_rate * (len(hotword_prefix) + len(piece))
        # A first letter gains at most the score of the likeliest word, look-ahead never rises after it.
        highest = self._highest_start(state, score, context) if begins else 0.0
        if highest <= least:
            return False
        word += piece
        gain = score + self._lookahead(context, word, self._narrow(word, words)) - state.lookahead
        return gain > least - ROUNDING

    def _highest_start(self, state: FusionState, score: float, context: int) -> float:
        """An upper bound of the gain of tokens that begin a word, after what the one in progress scores."""
        if state.highest_start is None:
            if self.model is not None:  # look-ahead is 0 before the first letter; <unk> is one of the words
                score += max(0.0, self._word_score(self.model.best(context, 0, len(self._vocabulary)), True))
            state.highest_start = score - state.lookahead
        return state.highest_start

    def end(self, state: FusionState) -> float:
        """The gain of ending there: the last word counts, provisional boosts do not."""
        score = self._end_word(state)[0] if state.word else 0.0
        return score - state.lookahead - state.provisional_boost

    def _end_word(self, state: FusionState) -> tuple[float, int, str]:
        """Score of the word in progress, now complete; the context and the hotword prefix after it."""
        if state.word_end is not None:
            return state.word_end
        score, context = 0.0, state.context
        if self.model is not None:
            scored = [self.word_score(context, choice) for choice in self.choices(state.word, state.words)]
            score, context = max(scored, key=itemgetter(0))
        hotword_prefix = ""
        if state.hotword_prefix:
            score += self._hotwords.completed(state.hotword_prefix)
            hotword_prefix = self._hotwords.prefix(f"{state.hotword_prefix} ")
        state.word_end = word_end = score, context, hotword_prefix
        return word_end

    def word_score(self, context: int, choice: Choice) -> tuple[float, int]:
        """What a word adds after a context of the language model, without hotwords, and the context after it."""
        if self.model is None:
            return 0.0, context
        log_prob, context = self.model.score(context, choice.id)
        return self._word_score(log_prob, choice.known), context

    def choices(self, spelled: str, words: range | None = None) -> list[Choice]:
        """The words that letters or phones may stand for; `words` start so.

        If one of them is known, those that are not are left out.
        """
        if self.pronunciations is None:
            assert self.model is not None
            vocabulary = self.model.vocabulary
            if words and vocabulary.word(words.start) == spelled:
                return [Choice(spelled, words.start, True)]
            return [Choice(spelled, vocabulary.unknown, spelled in self._known)]
        cached = self.cache.choices
        choices = cached.get(spelled)
        if choices is None:
            choices = cached[spelled] = self._homophones(spelled, words)
        return choices

    def _homophones(self, spelled: str, entries: range | None) -> list[Choice]:
        assert self.pronunciations is not None
        if isinstance(self.model, PronouncedModel):
            entries = self._narrow(spelled, self._vocabulary) if entries is None else entries
            unknown, words = self.model.vocabulary.unknown, dict(self.model.homophones(spelled, entries))
        else:
            unknown, words = 0, dict.fromkeys(self.pronunciations.lexicon.words(spelled), 0)
        added = self._added.get(spelled, ())
        for word in added:
            words.setdefault(word, self.model.vocabulary.get(word) if self.model is not None else 0)
        choices = [
            Choice(word, unknown if number is None else number, True)
            for word, number in words.items()
            if number is not None or word in added
        ]
        return choices or [Choice(next(iter(words), None), unknown, False)]

    def _lookahead(self, context: int, word: str, words: range) -> float:
        """The highest score that the word in progress may come to have."""
        if self.model is None or not word:
            return 0.0
        cached = self.cache.unknown
        unknown = cached.get(context)
        if unknown is None:
            log_prob, _ = self.model.score(context, self.model.vocabulary.unknown)
            unknown = cached[context] = self._word_score(log_prob, False)
        if word in self._known_prefixes:
            unknown -= self.weights.unknown_score
        if not words:
            return unknown
        return max(unknown, self._word_score(self.model.best(context, words.start, words.stop), True))

    def _word_score(self, log_prob: float, known: bool) -> float:
        weights = self.weights
        return weights.lm_weight * log_prob + weights.word_bonus + (0.0 if known else weights.unknown_score)

    def _narrow(self, word: str, words: range) -> range:
        """Of `words`, which start with the letters of `word` but for the last ones, those that start with all."""
        if self._entries is None:
            return words
        cached = self.cache.words
        narrowed = cached.get(word)
        if narrowed is None:
            narrowed = cached[word] = self._entries.narrow(word, words)
        return narrowed
