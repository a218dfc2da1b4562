"""`asr models`: what comes with the package."""

from asr.model.bundle import load_bundle, packaged_models


def models() -> None:
    """List the packaged models."""
    for name in packaged_models():
        bundle = load_bundle(name)
        size = sum(path.stat().st_size for path in bundle.path.iterdir()) / 1e6
        mode = (
            f"files and live ({bundle.config.delay_seconds * 1000:.0f} ms delay)"
            if bundle.config.streaming
            else "files"
        )
        wer = bundle.config.metrics.get("dev_wer")
        measured = "" if wer is None else f", WER {wer:.1%} on its dev data (greedy)"
        print(f"{name}  {bundle.config.language}, {mode}, {size:.0f} MB{measured}, {bundle.config.license}")
        print(f"    {bundle.config.description}")
