"""Shallow fusion: what a language model and hotwords add to the score of a token sequence in the beam.

A lazy automaton over tokens (the composition of lexicon, language model and hotwords that WFST decoders build ahead,
Mohri, Pereira & Riley 2002, made state by state as the beam asks for it). A step's gain depends on the state alone, so
it is worked out once and then looked up, frame after frame.

A word's n-gram score is known when the word ends. Until then a partial word has an estimate, that of the likeliest
word it may become after the words before it (language model look-ahead, Ortmanns, Ney & Eiden 1996), which the real
score replaces; as soon as no word of the vocabulary starts so, that of an unknown word.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from asr.lm.ngram import ROOT, NgramModel
from asr.model.tokens import WORD_START, Tokens

CACHED = 15_000  # states, and partial words, after which they are forgotten and made anew: some 30 MB


@dataclass(frozen=True)
class FusionWeights:
    """How a language model's natural logs are added to the acoustic ones (Hannun et al. 2014, equation 2).

    lm_weight: factor of the language model's log-probs. word_bonus: nats added for each word, against the model's
    liking for few words. unknown_score: nats added for a word that the language model does not know.
    """

    lm_weight: float = 0.5
    word_bonus: float = 1.5
    unknown_score: float = -13.0


class Spelling:
    """The letters of a word so far, and the ids of the words of the vocabulary that start so."""

    __slots__ = ("longer", "text", "words")

    def __init__(self, text: str, words: range):
        self.text = text
        self.words = words
        self.longer: dict[str, Spelling] = {}


StateKey = tuple[int, str, str]


class FusionState:
    """What the future of a token sequence depends on; `steps[token]` is (gain in nats, state after it) once known.

    key: equal of states with equal futures, which after `Fusion.trim` may be different objects.
    context: the language model's state before the word in progress, or what of it that word's end still depends on,
    so that more states are equal, and readings that differ only in older words meet. spelling: that word so far.
    estimate: its score.
    hot: the longest end of the text, from the start of a word on, with which a hotword starts. lent: its boost so far.
    ended: `Fusion._end_word` of it, once known. start: `Fusion.bound` of a token that begins a word, but for hotwords.
    """

    __slots__ = ("context", "ended", "estimate", "hot", "key", "lent", "spelling", "start", "steps")

    def __init__(self, context: int, spelling: Spelling, estimate: float, hot: str, lent: float):
        self.key = (context, spelling.text, hot)
        self.context = context
        self.spelling = spelling
        self.estimate = estimate
        self.hot = hot
        self.lent = lent
        self.ended: tuple[float, int, str] | None = None
        self.steps: dict[int, tuple[float, FusionState]] = {}
        self.start: float | None = None


class Fusion:
    """Gains of tokens after token sequences, from a language model, hotwords, both or neither.

        state = fusion.start()
        gain, state = fusion.step(state, token)     # as often as there are tokens
        fusion.end(state)                           # the gain of ending there

    The sum over a whole sequence is, whatever its tokens: for each word lm_weight · ln P(word | words before) +
    word_bonus, unknown_score if it is unknown, and the boost of each hotword that it contains. Without a language model
    only the hotwords count.

    hotwords: phrases, words in the tokens' letters with single spaces between them, and their boosts in nats. A boost
    is lent to the phrase letter by letter, ever more of it, and taken back if something else follows. Their words are
    not unknown.
    """

    def __init__(
        self,
        tokens: Tokens,
        model: NgramModel | None = None,
        weights: FusionWeights = FusionWeights(),
        hotwords: Mapping[str, float] | None = None,
    ):
        self.model = model
        self.weights = weights
        self._pieces = [symbol.removeprefix(WORD_START) for symbol in tokens.symbols]
        self._starts_word = [tokens.starts_word(token) for token in range(len(tokens))]
        self._boosts = dict(hotwords or {})
        self._lent: dict[str, float] = {}  # to each beginning of a hotword, spaces included
        for phrase, boost in self._boosts.items():
            for length in range(1, len(phrase) + 1):
                # Squared: lent evenly, the first letters of many hotwords would take the room of others in the beam.
                lent = boost * (length / len(phrase)) ** 2
                self._lent[phrase[:length]] = max(lent, self._lent.get(phrase[:length], 0.0))
        # Not those that the language model knows: it never scores them as unknown, so that to estimate them as such
        # would only let their beginnings take the room of others in the beam.
        words = {word for phrase in self._boosts for word in phrase.split()}
        self._hot_words = {word for word in words if model is None or model.vocabulary.get(word) is None}
        self._hot_beginnings = {word[:length] for word in self._hot_words for length in range(1, len(word) + 1)}
        boosts = self._boosts.values()
        rates = [boost / len(phrase) for phrase, boost in self._boosts.items()]
        self._highest_rate = max(rates, default=0.0)  # nothing is lent more for its length
        # No step gains more: an estimate never rises within a word, and no log-prob is above 0. All hotwords that one
        # word ends are ends of the longest of them.
        ended = (sum(self._boosts.get(end, 0.0) for end in _ends(phrase)) for phrase in self._boosts)
        self.highest_gain = max(0.0, weights.word_bonus) + max(ended, default=0.0) + max(boosts, default=0.0)
        self._words = range(len(model.vocabulary) if model is not None else 0)
        self._forget()

    def _forget(self) -> None:
        self._states: dict[StateKey, FusionState] = {}
        self._unknown: dict[int, float] = {}  # context → score of a word that the model does not know
        self._nothing = Spelling("", self._words)
        self._spelled = 0

    def trim(self) -> None:
        """Forget what was worked out when that is much; changes no result."""
        if max(len(self._states), self._spelled) > CACHED:
            for state in self._states.values():
                state.steps.clear()  # a state that is still in use goes on, and makes new ones
            self._forget()

    def start(self) -> FusionState:
        """Before the first token, at the beginning of a sentence."""
        return self._state(self.model.start() if self.model is not None else ROOT, self._nothing, "")

    def _state(self, context: int, spelling: Spelling, hot: str) -> FusionState:
        key = (context, spelling.text, hot)
        state = self._states.get(key)
        if state is None:
            estimate, lent = self._estimate(context, spelling), self._lent.get(hot, 0.0)
            state = self._states[key] = FusionState(context, spelling, estimate, hot, lent)
        return state

    def step(self, state: FusionState, token: int) -> tuple[float, FusionState]:
        """The gain of going on with a token (not the blank), and the state after it."""
        known = state.steps.get(token)
        if known is not None:
            return known
        gain, context, spelling, hot = -state.estimate - state.lent, state.context, state.spelling, state.hot
        if self._starts_word[token] and spelling.text:
            score, context, hot = self._end_word(state)
            gain += score
            spelling = self._nothing
        if piece := self._pieces[token]:
            hot = self._beginning(hot + piece) if hot or not spelling.text else ""
            spelling = self._longer(spelling, piece)
            if self.model is not None:
                paid, context = self.model.shorten(context, spelling.words.start, spelling.words.stop)
                gain += self.weights.lm_weight * paid
        after = self._state(context, spelling, hot)
        state.steps[token] = result = gain + after.estimate + after.lent, after
        return result

    def bound(self, state: FusionState, token: int) -> float:
        """At least the gain of `step`, faster."""
        spelling, piece, hot = state.spelling, self._pieces[token], state.hot
        if self._starts_word[token] or not spelling.text:
            bound = state.start
            if bound is None:
                score, context, _ = self._end_word(state) if spelling.text else (0.0, state.context, hot)
                # 0 is the estimate before the first letter.
                bound = state.start = score + max(0.0, self._highest_estimate(context)) - state.estimate
            if hot and spelling.text:
                hot = self._end_word(state)[2]
        else:
            longer = spelling.longer.get(piece) or self._longer(spelling, piece)
            # As long as there are words that start so, the best of them may be the same.
            bound = 0.0 if longer.words else self._estimate(state.context, longer) - state.estimate
        return bound + self._highest_rate * (len(hot) + len(piece)) - state.lent if self._boosts else bound

    def end(self, state: FusionState) -> float:
        """The gain of ending there: the last word counts, and what was lent is taken back."""
        score = self._end_word(state)[0] if state.spelling.text else 0.0
        return score - state.estimate - state.lent

    def _end_word(self, state: FusionState) -> tuple[float, int, str]:
        """The score of the word in progress, now complete, and the context and `hot` after it."""
        if state.ended is not None:
            return state.ended
        context, text, words, hot = state.context, state.spelling.text, state.spelling.words, state.hot
        score = 0.0
        if self.model is not None:
            vocabulary = self.model.vocabulary
            known = bool(words) and vocabulary.word(words.start) == text
            log_prob, context = self.model.score(context, words.start if known else vocabulary.unknown)
            score = self._word_score(log_prob, known or text in self._hot_words)
        if hot:
            score += sum(self._boosts.get(end, 0.0) for end in _ends(hot))
        state.ended = score, context, self._beginning(f"{hot} ")
        return state.ended

    def _estimate(self, context: int, spelling: Spelling) -> float:
        """The highest score that the word in progress may come to have."""
        if self.model is None or not spelling.text:
            return 0.0
        unknown = self._unknown.get(context)
        if unknown is None:
            log_prob, _ = self.model.score(context, self.model.vocabulary.unknown)
            unknown = self._unknown[context] = self._word_score(log_prob, False)
        if spelling.text in self._hot_beginnings:
            unknown -= self.weights.unknown_score
        if not spelling.words:
            return unknown
        return max(unknown, self._word_score(self.model.best(context, spelling.words.start, spelling.words.stop), True))

    def _highest_estimate(self, context: int) -> float:
        """The highest score that any word may have; <unk> is one of them."""
        return self._word_score(self.model.best(context, 0, len(self._words)), True) if self.model is not None else 0.0

    def _word_score(self, log_prob: float, known: bool) -> float:
        weights = self.weights
        return weights.lm_weight * log_prob + weights.word_bonus + (0.0 if known else weights.unknown_score)

    def _longer(self, spelling: Spelling, piece: str) -> Spelling:
        """The spelling with another piece."""
        longer = spelling.longer.get(piece)
        if longer is None:
            text = spelling.text + piece
            words = self.model.vocabulary.narrow(text, spelling.words) if self.model is not None else self._words
            longer = spelling.longer[piece] = Spelling(text, words)
            self._spelled += 1
        return longer

    def _beginning(self, text: str) -> str:
        """The longest end of the text, from the start of a word on, with which a hotword starts; or nothing."""
        return next((end for end in _ends(text) if end in self._lent), "") if self._lent else ""


def _ends(text: str) -> Iterator[str]:
    """The text, then without its first word, its first two words, and so on, but not without all of them."""
    while text.strip():
        yield text
        text = text.partition(" ")[2]
