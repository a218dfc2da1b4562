"""`asr tune`: how a bundle is decoded best, on dev data."""

import dataclasses
import filecmp
import shlex
import shutil
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from asr.cli import options
from asr.cli.messages import audio_progress, complain
from asr.data.manifest import read_manifest
from asr.decode.build import NO_LM, DecoderOptions, make_decoder
from asr.errors import AsrError
from asr.files import replacing
from asr.model.bundle import (
    Bundle,
    find_language_model,
    load_bundle,
    packaged_language_models,
    packaged_models,
    write_config,
)
from asr.model.checksums import SUMS, write_checksums
from asr.recognize.offline import Recognizer

HEADING = "## Decoding"  # of the model card's last part, which is written anew


def tune(
    folder: Annotated[Path, Argument(metavar="BUNDLE", help="The bundle's folder.")],
    manifest: Annotated[Path, Argument(help="Dev data: JSON Lines with audio, text and speaker.")],
    lm: Annotated[
        list[str] | None,
        Option("--lm", help="Packaged language model, file or NONE; of several the best; else the bundle's own."),
    ] = None,
    rescore: Annotated[
        Path | None, Option(metavar="FOLDER", help="Recurrent language model, to weigh rescoring.")
    ] = None,
    lexicon: options.Lexicon = None,
    priors: Annotated[
        Path | None, Option(metavar="MANIFEST", help="Training data, to measure the priors of a bundle without them.")
    ] = None,
    keep_weights: Annotated[
        bool, Option("--keep-weights", help="Only calibrate, with the weights in the bundle.")
    ] = False,
    threads: options.Threads = 0,
) -> None:
    """Find a bundle's best decoding weights and calibration.

    The weights are those with the fewest word errors on the dev data; then confidences are calibrated. Priors are the
    tokens' average probabilities, which export measures; a language model takes their place. config.json and the part
    "Decoding" of MODEL_CARD.md are written anew, a language model's file is copied beside them.
    """
    from asr.evaluate.priors import measure_priors
    from asr.evaluate.tune import Sample, Tuner

    if not folder.exists() and str(folder) in packaged_models():
        packaged = load_bundle(str(folder)).path
        raise AsrError(f"{folder}: a packaged model stays as it is; copy its folder, {packaged}, and tune the copy")
    bundle, entries = load_bundle(folder.absolute()), read_manifest(manifest)
    if rescore:  # opened now, before hours of work
        make_decoder(DecoderOptions("beam", lm=NO_LM, rescore=rescore, lexicon=lexicon), bundle)
    recognizer = Recognizer(bundle, DecoderOptions("greedy", lexicon=lexicon), threads=threads)
    if priors is not None:
        log_priors = measure_priors(recognizer, [entry.source for entry in read_manifest(priors)])
        bundle = dataclasses.replace(bundle, config=dataclasses.replace(bundle.config, log_priors=log_priors))
    with audio_progress(lambda: [entry.seconds for entry in entries]) as on_progress:
        samples = []
        for entry in entries:
            frames, _ = recognizer.frames_and_level(entry.source, on_progress=on_progress)
            samples.append(Sample(entry.id, entry.text, entry.speaker or "-", frames))
    own = bundle.config.decoder.lm
    choice = lm or [own if own in ("", *packaged_language_models()) else str(folder / own)]
    models = [name for name in choice if name not in ("", NO_LM)]
    tuned = Tuner(bundle, samples, complain, lexicon, keep_weights).tune(models, str(rescore) if rescore else None)
    named = [part for name in lm or [] for part in ("--lm", name)] + (["--rescore", str(rescore)] if rescore else [])
    named += ["--lexicon", str(lexicon)] if lexicon else []
    named += ["--priors", str(priors)] if priors else []
    named += ["--keep-weights"] if keep_weights else []
    section = f"{HEADING}\n\n    {shlex.join(['asr', 'tune', str(folder), str(manifest), *named])}\n\n{tuned.card}"
    print(section, end="")
    config = dataclasses.replace(tuned.config, lm=bundled(bundle, tuned.config.lm))
    metrics = bundle.config.metrics | {"dev_wer_default": round(tuned.wer, 4)}
    write_config(folder, dataclasses.replace(bundle.config, decoder=config, metrics=metrics))
    path = folder / "MODEL_CARD.md"
    card = path.read_text(encoding="utf-8").split(HEADING)[0].rstrip() if path.is_file() else f"# {bundle.config.name}"
    with replacing(path) as part:
        part.write_text(f"{card}\n\n{section}", encoding="utf-8")
    if (folder / SUMS).exists():
        write_checksums(folder)


def bundled(bundle: Bundle, lm: str) -> str:
    """Copy a language model's file into the bundle, which can then be moved; the name by which its config finds it."""
    if not lm or lm in packaged_language_models():
        return lm
    source = find_language_model(lm)
    target = bundle.path / source.name
    if not target.exists():
        shutil.copyfile(source, target)
    elif not filecmp.cmp(source, target, shallow=False):
        raise AsrError(f"{target}: is another file than {source}; rename the language model")
    return source.name
