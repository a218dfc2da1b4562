"""`asr plot`: pictures of what a model does with a recording."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from asr.cli import options
from asr.cli.messages import complain
from asr.cli.outputs import Guard
from asr.data.manifest import read_manifest
from asr.errors import AsrError
from asr.files import replacing
from asr.recognize.offline import DEFAULT_MODEL, Recognizer

plot = typer.Typer(help="Pictures of what a model does with a recording.", no_args_is_help=True)


@plot.command(cls=options.Command)
def attention(
    source: Annotated[Path, Argument(metavar="FILE", help="A recording; or a manifest, of which there is no picture.")],
    output: Annotated[Path | None, Option("--output", "-o", help="A .png, .svg or .pdf file for the picture.")] = None,
    force: options.Force = False,
    model: options.Model = DEFAULT_MODEL,
    text: Annotated[str | None, Option(help="What is said; else what is recognized.")] = None,
    threads: options.Threads = 0,
) -> None:
    """Draw where the attention decoder looks while it writes a text, below the probabilities of CTC.

    Prints the share of the attention within half a second of the word by the CTC alignment. Of a manifest it is the
    mean of all recordings, with their own texts.
    """
    from asr.evaluate.attention import attend

    Guard([source], force).check(output)
    recognizer = Recognizer(model, threads=threads)
    if source.suffix == ".jsonl":
        if output is not None or text is not None:
            raise typer.BadParameter("goes with a recording, not a manifest", param_hint="--output or --text")
        shares, left_out = [], 0
        for entry in read_manifest(source):
            try:
                shares.append(attend(recognizer, entry.source, entry.text)[0].share)
            except AsrError as error:
                complain(error)
                left_out += 1
        mean = sum(shares) / max(1, len(shares))
        print(f"{mean:.1%} of the attention near the words, {len(shares)} recordings; left out: {left_out}")
        return
    attended, log_probs = attend(recognizer, str(source), text)
    print(f"{attended.share:.1%} of the attention near the words")
    if output is not None:
        from asr.train.report.plots import attention as draw

        config = recognizer.bundle.config
        figure = draw(log_probs, recognizer.bundle.tokens, attended, config.frame_seconds)
        with replacing(output) as part:
            figure.savefig(part, format=output.suffix[1:].lower() or "png", dpi=110)
