"""The signals that end a run."""

import signal
from types import FrameType


class StopSignals:
    """Inside, SIGINT and SIGTERM only set `came`, for the run to end where it can; the second one ends it at once."""

    def __init__(self) -> None:
        self.came = False

    def __enter__(self) -> "StopSignals":
        self._before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
