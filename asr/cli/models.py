"""`asr models`: list of the packaged models, and of what comes with them."""

from pathlib import Path

from asr.cli.messages import print_table
from asr.cli.options import language_name
from asr.model.bundle import LANGUAGE_MODEL, LEXICON, PACKAGED, load_bundle, packaged_models

COLUMNS = ("model", "language", "for", "delay", "size", "WER", "license")


def models() -> None:
    """List the packaged models and their error rates.

    WER is the word error rate on the model's dev data, with the decoder that runs by default.
    """
    bundles = [load_bundle(name) for name in packaged_models()]
    rows = [COLUMNS]
    for bundle in bundles:
        config = bundle.config
        wer = config.metrics.get("dev_wer_default")
        rows.append(
            (
                config.name,
                language_name(bundle),
                "files and live" if config.streaming else "files",
                f"{config.delay_seconds * 1000:.0f} ms" if config.streaming else "–",
                folder_size(bundle.path),
                "–" if wer is None else f"{wer:.1%}",
                config.license,
            )
        )
    print_table(rows)
    for bundle in bundles:
        print(f"\n{bundle.config.name}: {bundle.config.description}")
    print()
    for kind, name in (("n-gram language model", LANGUAGE_MODEL), ("pronunciations", LEXICON)):
        for file in sorted(PACKAGED.glob(f"*/{name}")):
            print(f"{file.parent.name}: {kind}, {folder_size(file.parent)}")


def folder_size(folder: Path) -> str:
    return f"{sum(path.stat().st_size for path in folder.iterdir()) / 1e6:.0f} MB"
