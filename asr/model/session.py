"""Opens ONNX graphs: the one place in the package that imports onnxruntime and knows its settings."""

import logging
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from asr.errors import ArgumentError, AsrError, BundleError, one_line

if TYPE_CHECKING:
    import onnxruntime

NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"  # onnxruntime reads it once, when it is imported
PROVIDER = "ExecutionProvider"  # the end of all of onnxruntime's names for them

log = logging.getLogger(__name__)


@cache
def _onnxruntime() -> ModuleType:
    """onnxruntime without its telemetry, which would write into the home folder and look up a host."""
    added = NO_TELEMETRY not in os.environ
    if added:
        os.environ[NO_TELEMETRY] = "1"
    try:
        import onnxruntime
    finally:
        if added:
            del os.environ[NO_TELEMETRY]
    return onnxruntime


def usable_cores() -> int:
    """Cores this process may run on; onnxruntime by itself asks for all of the machine's, and may not get them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_session(
    path: Path, threads: int = 0, providers: Sequence[str] = (), error: type[AsrError] = BundleError
) -> "onnxruntime.InferenceSession":
    """The ONNX graph at `path`, ready to run.

    Args:
        threads: that one run uses; 0 for every core this process may use.
        providers: where to run, in order of preference: "cpu", "cuda", "coreml", … or onnxruntime's own names such as
            "CUDAExecutionProvider". The CPU is the last resort always.

    `error` if it cannot be run, ArgumentError for a provider that this onnxruntime lacks, or threads below 0.
    """
    if not isinstance(threads, int) or threads < 0:
        raise ArgumentError(f"threads: {threads!r}; give 0 or more")
    if not isinstance(providers, Sequence):
        raise ArgumentError(f"providers: {providers!r:.80} is not a list of names, such as ['cuda']")
    onnxruntime = _onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = 3  # errors only
    # Waiting threads sleep: spinning takes the cores from whoever else works on the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Every batch has another shape: plans made for the last one would only hold memory.
    options.enable_mem_pattern = False
    chosen = _full_names(providers, onnxruntime.get_available_providers())
    log.debug("%s: threads %d, %s", path, options.intra_op_num_threads, ", ".join(chosen))
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=chosen)
    except Exception as problem:  # onnxruntime's own exceptions share no base class
        raise error(f"{path}: cannot be run ({one_line(problem)}); copy it again") from problem


def _full_names(providers: Sequence[str], available: Sequence[str]) -> list[str]:
    """onnxruntime's names of providers, without repeats, the CPU last."""
    full = {name.removesuffix(PROVIDER).lower(): name for name in available}
    chosen = []
    for provider in (providers,) if isinstance(providers, str) else providers:
        name = full.get(str(provider).lower().removesuffix(PROVIDER.lower()))
        if name is None:
            raise ArgumentError(f"providers: no '{provider}' in this onnxruntime; it has {', '.join(sorted(full))}")
        chosen.append(name)
    return list(dict.fromkeys([*chosen, "CPU" + PROVIDER]))
