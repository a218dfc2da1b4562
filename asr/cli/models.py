"""`asr models`: list of the packaged models and of what comes with them, or whether models are whole."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from asr.cli.messages import complain, print_table
from asr.cli.options import language_name, reject_if
from asr.errors import AsrError, BundleError, printable
from asr.lm.binary import load_model
from asr.lm.lexicon import Lexicon
from asr.model.bundle import LANGUAGE_MODEL, LEXICON, PACKAGED, load_bundle, packaged_models
from asr.model.session import open_session
from asr.model.tagger import GRAPH, Tagger

KINDS = (("n-gram language model", LANGUAGE_MODEL), ("pronunciations", LEXICON), ("marks and capitals", GRAPH))
COLUMNS = ("model", "language", "for", "delay", "size", "WER", "license")


def models(
    folders: Annotated[
        list[Path] | None, Argument(help="With --verify: packaged names or folders of models; default: all packaged.")
    ] = None,
    verify: Annotated[bool, Option("--verify", help="Check every byte of the models against their checksums.")] = False,
) -> None:
    """List the packaged models, or check them.

    WER is the word error rate on the model's dev data, with the decoder that runs by default. --verify reads all files
    of each model; one that was changed or damaged is a line on standard error, and the exit code is 1.
    """
    if verify:
        packaged = {path.name: path for path in sorted(PACKAGED.iterdir()) if (path / "MODEL_CARD.md").is_file()}
        verify_all([packaged.get(str(folder), folder) for folder in folders or map(Path, packaged)])
        return
    reject_if(folders, "FOLDERS", "goes with --verify")
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
    for kind, name in KINDS:
        for file in sorted(PACKAGED.glob(f"*/{name}")):
            print(f"{file.parent.name}: {kind}, {folder_size(file.parent)}")


def folder_size(folder: Path) -> str:
    return f"{sum(path.stat().st_size for path in folder.iterdir()) / 1e6:.0f} MB"


def verify_all(folders: list[Path]) -> None:
    failed = False
    for folder in folders:
        try:
            print(f"{printable(folder.name)}: {verify_model(folder)}")
        except AsrError as error:
            complain(error)
            failed = True
    if failed:
        raise typer.Exit(1)


def verify_model(folder: Path) -> str:
    """What was verified. AsrError if a file was changed, is missing or damaged."""
    from asr.model.checksums import verify_checksums  # these here, so that other commands start faster
    from asr.train.runs import checkpoint_damage

    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder; name one with a model, or a packaged model")
    known = verify_checksums(folder)
    for path in sorted(folder.iterdir()):
        if path.suffix == ".lm":
            load_model(path).check()
        elif path.suffix == ".lex":
            Lexicon.load(path)
        elif path.suffix == ".onnx":
            open_session(path, 1)
        elif path.suffix == ".safetensors" and (problem := checkpoint_damage(path)):
            raise BundleError(problem)
    if (folder / GRAPH).exists():
        Tagger(folder)
    elif (folder / "config.json").exists() and not (folder / LANGUAGE_MODEL).exists():
        load_bundle(folder)
    return "whole" if known else "can be opened; it has no checksums to compare with"
