"""Signals that ask a program to end."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

Handler = Callable[[int, FrameType | None], object]
# Windows has no SIGHUP.
ENDINGS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def ended_by_signals(stop: Callable[[], object]) -> Iterator[None]:
    """Ctrl-C, a termination request and a closed terminal call `stop`; a second one is a KeyboardInterrupt."""

    def end(number: int, frame: FrameType | None) -> None:
        for ending in endings:
            signal.signal(ending, signal.default_int_handler)
        stop()

    endings = [signal.SIGINT, signal.SIGTERM]
    # Windows has no SIGHUP, and `nohup` has it ignored.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        endings.append(signal.SIGHUP)
    before = {number: signal.signal(number, end) for number in endings}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held_back() -> Iterator[None]:
    """Signals that end a program come after this block. For imports and temporary files: an exception between two of
    their lines can get lost, leave something behind, or become another one or a crash within a library in C.

    A mask holds for one thread, and another one may be given the signal, whose handler Python runs in the main thread
    nevertheless. So in the main thread the handlers wait, too.
    """
    blocked, held, within = _blocked(), list[int](), True

    def wrap(handler: Handler) -> Handler:
        def hold(number: int, frame: FrameType | None) -> None:
            if within:
                held.append(number)
            else:  # it came while the handlers were put back
                handler(number, frame)

        return hold

    before: dict[int, Handler] = {}
    try:
        with suppress(ValueError):  # not in the main thread, in which alone handlers run
            for number in ENDINGS:
                handler = signal.getsignal(number)
                if callable(handler):
                    signal.signal(number, wrap(handler))
                    before[number] = handler
        yield
    finally:
        within = False
        try:
            for number, handler in before.items():
                signal.signal(number, handler)
        finally:
            if blocked is not None:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number in dict.fromkeys(held):
            signal.raise_signal(number)


def _blocked() -> set[int] | None:
    """Block the signals in this thread → those that were blocked before; None on Windows."""
    return signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS) if hasattr(signal, "pthread_sigmask") else None
