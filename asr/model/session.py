"""Opens ONNX graphs: the one place in the package that imports onnxruntime and knows its settings."""

import logging
import math
import mmap
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from asr.errors import ArgumentError, AsrError, BundleError, one_line
from asr.files import open_input
from asr.model.bundle import PACKAGED
from asr.signals import held_back

if TYPE_CHECKING:
    import onnxruntime

NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"  # onnxruntime reads it once, when it is imported
PROVIDER = "ExecutionProvider"  # the end of all of onnxruntime's names for them

MAX_THREADS = 1024
MAX_STATE = 1 << 24  # numbers

log = logging.getLogger(__name__)


@cache
def _onnxruntime() -> ModuleType:
    """onnxruntime without its telemetry, which would write into the home folder and look up a host."""
    added = NO_TELEMETRY not in os.environ
    if added:
        os.environ[NO_TELEMETRY] = "1"
    try:
        with held_back():
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

    `error` if it cannot be run, ArgumentError for a provider that this onnxruntime lacks, or threads out of range.
    """
    if not isinstance(threads, int) or not 0 <= threads <= MAX_THREADS:
        raise ArgumentError(f"threads: {threads!r:.40}; give 0 to {MAX_THREADS}")
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
    if path.parent.parent != PACKAGED:
        _check_self_contained(path, error)
    chosen = _full_names(providers, onnxruntime.get_available_providers())
    log.debug("%s: threads %d, %s", path, options.intra_op_num_threads, ", ".join(chosen))
    try:
        # Falling back to other providers is printed on standard output; from the CPU alone there is none.
        session = onnxruntime.InferenceSession(str(path), options, providers=chosen, enable_fallback=len(chosen) > 1)
        [(item.name, item.shape) for item in (*session.get_inputs(), *session.get_outputs())]  # may be no UTF-8
        return session
    except Exception as problem:  # onnxruntime's own exceptions share no base class
        raise error(f"{path}: cannot be run ({one_line(problem)}); copy it again") from problem


def _check_self_contained(path: Path, error: type[AsrError]) -> None:
    """`error` for a graph with weights in other files: it might name any of the user's."""
    try:
        with open_input(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as graph:
            # The key of onnx's TensorProto.external_data that names the file, however the message is encoded.
            if graph.find(b"location") < 0:
                return
    except (OSError, ValueError) as problem:  # ValueError: an empty file
        reason = one_line(getattr(problem, "strerror", None) or problem)
        raise error(f"{path}: cannot be run ({reason}); copy it again") from problem
    raise error(f"{path}: takes weights from other files; save the graph with its weights inside")


class Graph:
    """An open ONNX graph, of the arguments of `open_session`. Threads may share it."""

    def __init__(
        self, path: Path, threads: int = 0, providers: Sequence[str] = (), error: type[AsrError] = BundleError
    ) -> None:
        self.path = path
        self._session, self._error = open_session(path, threads, providers, error), error
        self._inputs = {item.name: item for item in self._session.get_inputs()}
        self.inputs = list(self._inputs)  # names
        self.outputs = [item.name for item in self._session.get_outputs()]
        # Last axis of the first output, the log-probabilities: [tokens], or a name; [] if it is a single number.
        self.tokens = self._session.get_outputs()[0].shape[-1:]

    def run(self, inputs: dict[str, np.ndarray], shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
        """The outputs by name. `error` if it fails, or `log_probs` are not log-probabilities of this shape."""
        try:
            outputs = dict(zip(self.outputs, self._session.run(self.outputs, inputs), strict=True))
        except Exception as problem:  # onnxruntime's own exceptions share no base class
            raise self._error(f"{self.path}: cannot be run ({one_line(problem)}); copy it again") from problem
        found = outputs.get("log_probs", np.zeros(0))
        if found.shape != shape or found.dtype != np.float32 or not (found <= 1).all():  # false for NaN, too
            raise self._error(f"{self.path}: does not give log-probabilities of shape {shape}; copy it again")
        return outputs

    def state_shape(self, name: str) -> tuple[int, ...]:
        """The shape of an input, a state, without its first axis, the batch. `error` if it is none or huge."""
        item = self._inputs[name]
        shape = item.shape[1:]
        known = item.type == "tensor(float)" and all(isinstance(size, int) and size >= 0 for size in shape)
        if not known or math.prod(shape) > MAX_STATE:
            problem = f"its input {name} is no state of at most {MAX_STATE:,} numbers"
            raise self._error(f"{self.path}: {problem}; copy it again")
        return tuple(shape)


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
