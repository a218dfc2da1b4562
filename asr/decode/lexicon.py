"""Words of a language model in the spelling of the recogniser."""

import unicodedata
from collections.abc import Set

import numpy as np

from asr.errors import LanguageModelError
from asr.lm.ngram import Level, NgramModel
from asr.lm.vocabulary import SPECIAL
from asr.normalize import APOSTROPHES

UNUSABLE = 0.5  # share of a language model's words that cannot be spelled, above which it is refused


def spellable(model: NgramModel, letters: Set[str], name: str) -> NgramModel:
    """The language model with its words in the recogniser's letters; `name` is what an error calls it.

    Where words have others, their case, apostrophes and accents are changed; of n-grams that become equal the likeliest
    counts. LanguageModelError if most words cannot be spelled even so.
    """
    vocabulary = model.vocabulary
    if letters | {*"".join(SPECIAL)} >= vocabulary.letters:
        return model
    words = [vocabulary.word(word) for word in range(len(vocabulary))]
    folded = [word if word in SPECIAL else _folded(word, letters) for word in words]
    unusable = sum(new is None for new in folded)
    if unusable > UNUSABLE * (len(words) - len(SPECIAL)):
        share = unusable / (len(words) - len(SPECIAL))
        raise LanguageModelError(
            f"{name}: the recogniser cannot spell {share:.0%} of this language model's words, such as "
            f"'{words[folded.index(None)]}'; build one from text in its letters, {''.join(sorted(letters))}"
        )
    renamed = [word if new is None else new for word, new in zip(words, folded, strict=True)]
    return model if renamed == words else _rename(model, renamed)


def _folded(word: str, letters: Set[str]) -> str | None:
    """The word, changed as little as is enough to spell it with the letters; None if nothing is enough."""
    quoted = word.translate(APOSTROPHES)
    plain = "".join(char for char in unicodedata.normalize("NFKD", quoted) if not unicodedata.combining(char))
    forms = (form for base in (word, quoted, plain) for form in (base, base.lower(), base.upper()))
    return next((form for form in forms if letters >= {*form}), None)


def _rename(model: NgramModel, words: list[str]) -> NgramModel:
    """The model with other words, by id; of n-grams that become equal the likeliest is kept."""
    names = sorted({word.encode() for word in words})
    ids = {name: number for number, name in enumerate(names)}
    renumbered = np.array([ids[word.encode()] for word in words])
    levels: list[Level] = []
    places = np.zeros(1, dtype=np.int64)  # of each n-gram of the level below, in its new level
    for level in model.levels():
        contexts, lasts = places[level.context], renumbered[level.word]
        order = np.lexsort((-level.log_prob, lasts, contexts))
        first = np.ones(len(order), dtype=bool)
        first[1:] = (np.diff(contexts[order]) != 0) | (np.diff(lasts[order]) != 0)
        places = np.empty(len(order), dtype=np.int64)
        places[order] = np.cumsum(first) - 1
        kept = order[first]
        levels.append(Level(contexts[kept], lasts[kept], level.log_prob[kept], level.backoff[kept]))
    return NgramModel.of(names, levels)
