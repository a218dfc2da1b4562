"""The decoders that `benchmark.py decoding` sets beside ours. It runs this in their environment, which has no `asr`.

    python decoding_peers.py pyctcdecode|flashlight FOLDER

FOLDER holds log_probs.npz, (frames, tokens) for each utterance, lm.arpa, and lexicon.json: `symbols` by token id, and
`spellings`, the token ids of each word of the language model. A line is printed when all is loaded. Then each line of
standard input is JSON, the arguments of `decoder`, and is answered by one: `seconds` of CPU time for all utterances,
and their `texts`. Weights are those of asr.decode.fusion.FusionWeights, in nats; both programs take the language
model's scores as KenLM has them, in log10.
"""

import gc
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

LN10 = math.log(10)
BLANK_ID = 0
THRESHOLD = 50.0  # nats below the best at which flashlight drops a hypothesis, as in torchaudio's ctc_decoder
NEVER = -1000.0  # log-prob of flashlight's silence between words, a token that our models do not have

Decode = Callable[[np.ndarray], str]


class Pyctcdecode:
    """Its pruning is the default one: no token below −5, no prefix more than 10 below the best."""

    def __init__(self, folder: Path, symbols: list[str], spellings: dict[str, list[int]]):
        import pyctcdecode

        self.ctc = pyctcdecode.build_ctcdecoder(["", *symbols[1:]], str(folder / "lm.arpa"))

    def decoder(self, beam_width: int, lm_weight: float, word_bonus: float, unknown_score: float) -> Decode:
        # The offset for unknown words is added to the log10 score, before the weight.
        self.ctc.reset_params(alpha=lm_weight, beta=word_bonus, unk_score_offset=unknown_score / (lm_weight * LN10))
        return lambda log_probs: self.ctc.decode(log_probs, beam_width=beam_width)


class Flashlight:
    """The decoder with a lexicon: it writes no other words. Set up as its documentation shows."""

    def __init__(self, folder: Path, symbols: list[str], spellings: dict[str, list[int]]):
        from flashlight.lib.text.decoder import SmearingMode, Trie
        from flashlight.lib.text.decoder.kenlm import KenLM
        from flashlight.lib.text.dictionary import Dictionary

        self.words = Dictionary()
        for word in (*spellings, "<unk>"):
            self.words.add_entry(word)
        self.model = KenLM(str(folder / "lm.arpa"), self.words)
        self.silence = len(symbols)
        self.trie = Trie(len(symbols) + 1, self.silence)
        start = self.model.start(False)
        for word, spelling in spellings.items():
            number = self.words.get_index(word)
            _, score = self.model.score(start, number)
            self.trie.insert(spelling, number, score)
        self.trie.smear(SmearingMode.MAX)

    def decoder(self, beam_width: int, lm_weight: float, word_bonus: float, unknown_score: float) -> Decode:
        from flashlight.lib.text.decoder import CriterionType, LexiconDecoder, LexiconDecoderOptions

        options = LexiconDecoderOptions(
            beam_size=beam_width,
            beam_size_token=self.silence + 1,
            beam_threshold=THRESHOLD,
            lm_weight=lm_weight * LN10,
            word_score=word_bonus,
            unk_score=unknown_score,
            sil_score=0.0,
            log_add=True,
            criterion_type=CriterionType.CTC,
        )
        unknown = self.words.get_index("<unk>")
        decoder = LexiconDecoder(options, self.trie, self.model, self.silence, BLANK_ID, unknown, [], False)

        def decode(log_probs: np.ndarray) -> str:
            emissions = np.pad(log_probs, ((0, 0), (0, 1)), constant_values=NEVER)
            best = decoder.decode(emissions.ctypes.data, *emissions.shape)[0]
            return " ".join(self.words.get_entry(word) for word in best.words if word >= 0)

        return decode


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    with np.load(folder / "log_probs.npz") as file:
        utterances = [file[key] for key in file]
    lexicon = json.loads((folder / "lexicon.json").read_text(encoding="utf-8"))
    peers: dict[str, type[Pyctcdecode] | type[Flashlight]] = {"pyctcdecode": Pyctcdecode, "flashlight": Flashlight}
    peer = peers[name](folder, **lexicon)
    print("ready", flush=True)
    for line in sys.stdin:
        decode = peer.decoder(**json.loads(line))
        gc.collect()  # what other runs left behind is not this one's
        started = time.process_time()
        texts = [decode(log_probs) for log_probs in utterances]
        print(json.dumps({"seconds": time.process_time() - started, "texts": texts}), flush=True)


if __name__ == "__main__":
    main()
