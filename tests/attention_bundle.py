"""A small bundle with an attention decoder, random weights: real files, so that all around the decoder is tested."""

from dataclasses import asdict, replace
from pathlib import Path

import carrier
import live_model

from asr.model.bundle import DecoderConfig, write_config
from asr.model.second_pass import GRAPH, TOKENS
from asr.model.tokens import BLANK, WORD_START, Tokens

# Pieces of several letters too, in the order in which BPE would have learned them.
LETTERS = Tokens([BLANK, f"{WORD_START}t", "he", f"{WORD_START}the", WORD_START, *"abcdefghijklmnopqrstuvwxyz'"])
SIZE = 64  # of the encoded frames


def write_bundle(folder: Path, streaming: bool = False, weight: float = 0.5) -> Path:
    """An acoustic model over the carrier's letters, and a decoder whose word is weighed so."""
    import torch

    from asr.nn.attention import AttentionDecoder
    from asr.nn.config import AttentionConfig
    from asr.nn.ctc_model import AcousticConfig, AcousticModel
    from asr.nn.export import export_attention, export_onnx

    folder.mkdir(parents=True)
    torch.manual_seed(7)
    config = AcousticConfig(
        cell="gru" if streaming else "lstm", bidirectional=not streaming, layers=2, hidden_size=SIZE
    )
    model = AcousticModel(config, len(carrier.TOKENS)).eval()
    heard = torch.from_numpy(live_model.speech())
    model.features.fit([heard])
    torch.nn.init.normal_(model.head.weight, std=0.5)
    with torch.no_grad():
        log_probs, *_ = model(heard.unsqueeze(0), torch.tensor([len(heard)]))
        model.head.bias -= log_probs.mean(dim=(0, 1))
        model.head.bias[:2] += 3.0  # blanks, and new words
    export_onnx(model, folder / "model.onnx", encoded=True)
    carrier.TOKENS.save(folder / "tokens.txt")
    decoder = AttentionDecoder(AttentionConfig(vocabulary=len(LETTERS), hidden_size=32), SIZE)
    torch.nn.init.normal_(decoder.head.weight, std=0.5)  # says something
    torch.nn.init.constant_(decoder.head.bias[:1], -3.0)  # and not too little
    export_attention(decoder, folder / GRAPH)
    LETTERS.save(folder / TOKENS)
    decoding = DecoderConfig(attention_weight=weight, attention_bonus=0.0, attention_confidence=(1.0, -0.5))
    settings = replace(carrier.CONFIG, name="attentive", streaming=streaming, model=asdict(config), decoder=decoding)
    write_config(folder, settings)
    return folder
