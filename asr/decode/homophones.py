"""Which of the words that sound alike were meant, decided by the words on both sides.

Beam search has one token sequence for "their" and "there", and takes at the word's end what is likelier after the words
before. Here the words that each pronunciation of a finished reading may stand for are a small lattice. Dynamic
programming (Viterbi 1967) finds the likeliest way through it, exactly for n-grams: of the ways that language model and
hotwords cannot tell apart any more only the best goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from asr.decode.fusion import Fusion
from asr.decode.word_times import rewritten
from asr.output.transcript import Word


@dataclass(slots=True, eq=False)
class Path:
    """The best way to write words up to some place, of those that lead to the same state there."""

    previous: "Path | None"
    text: str | None  # of the last word; None if no word is pronounced so
    score: float  # what `Fusion` gives for the words, in nats
    context: int  # the language model's state
    hotword_prefix: str  # the longest end of the text with which a hotword starts


class HomophoneWriter:
    """Writes the pronunciations that one stream's readings consist of as words.

    Readings of a stream begin alike, so what was worked out for the last one is used for the next one.

    Args:
        fusion: scores words.
        prune: nats; a way that scores so much less than the best one is given up.
    """

    def __init__(self, fusion: Fusion, prune: float):
        self.fusion = fusion
        self.prune = prune
        assert fusion.pronunciations is not None
        self._write = fusion.pronunciations.write
        self._spelled: list[str] = []
        self._paths = [[Path(None, "", 0.0, fusion.start().context, "")]]  # after each of them, best first

    def write(self, words: Sequence[Word], growing: bool = False) -> tuple[tuple[Word, ...], float]:
        """Written words for pronounced ones, and what they add to the acoustic score.

        growing: more may follow: the last word is left out as long as no word is pronounced so.
        """
        spelled = [word.text for word in words]
        if growing and spelled and self.fusion.choices(spelled[-1])[0].text is None:
            spelled.pop()
        same = 0
        for before, now in zip(self._spelled, spelled, strict=False):
            if before != now:
                break
            same += 1
        del self._paths[same + 1 :]
        for pronunciation in spelled[same:]:
            self._paths.append(self._extend(self._paths[-1], pronunciation))
        self._spelled = spelled
        path: Path | None = self._paths[-1][0]
        assert path is not None
        score, written = path.score, []
        for word, pronunciation in zip(reversed(words[: len(spelled)]), reversed(spelled), strict=True):
            assert path is not None
            written.append(rewritten(word, path.text or self._write(pronunciation)))
            path = path.previous
        return tuple(reversed(written)), score

    def settled(self, count: int) -> int:
        """How many of the first `count` words no later word can change."""
        paths: set[Path | None] = {*self._paths[count]}
        while len(paths) > 1:
            paths = {path and path.previous for path in paths}
            count -= 1
        return count

    def _extend(self, paths: Sequence[Path], spelled: str) -> list[Path]:
        best: dict[tuple[int, str], Path] = {}
        fusion, hotwords = self.fusion, self.fusion.written_hotwords
        choices = fusion.choices(spelled)
        for path in paths:
            for choice in choices:
                gain, context = fusion.word_score(path.context, choice)
                prefix = hotwords.prefix(path.hotword_prefix + choice.text) if choice.text else ""
                score = path.score + gain + hotwords.completed(prefix)
                prefix = hotwords.prefix(f"{prefix} ")
                other = best.get((context, prefix))
                if other is None or other.score < score:
                    best[context, prefix] = Path(path, choice.text, score, context, prefix)
        ranked = sorted(best.values(), key=attrgetter("score"), reverse=True)
        return [path for path in ranked if path.score >= ranked[0].score - self.prune]
