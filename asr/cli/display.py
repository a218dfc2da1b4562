"""What a terminal shows while somebody speaks: the utterance in progress and the level of the sound."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import numpy as np

from asr.recognize.streaming import Event, Partial

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

REFRESH_SECONDS = 0.1
QUIETEST = -60  # dB below full scale: where the meter starts
METER_CHARACTERS = 30
MARGIN_CHARACTERS = 12  # right of the meter: the level, and ^C


class Display:
    """Two parts that are drawn in place on standard error; nothing at all where that is not a terminal.

    Lines that are written to standard error meanwhile appear above them.
    """

    def __init__(self) -> None:
        self._live: Live | None = None
        self._partial: Partial | None = None
        self._peak = 0.0
        self._drawn = 0.0  # when, by the monotonic clock

    def __enter__(self) -> Self:
        if sys.stderr is not None and sys.stderr.isatty():
            # Here, because these imports are not needed where standard error is a pipe.
            from rich.console import Console
            from rich.live import Live

            self._console = Console(stderr=True)
            self._live = Live(
                console=self._console,
                get_renderable=self._render,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, samples: np.ndarray, events: list[Event]) -> None:
        """Update the display by the latest samples (n,) and the events that they led to."""
        for event in events:
            self._partial = event if isinstance(event, Partial) else None
        self._peak = float(np.fmax.reduce(np.abs(samples), initial=self._peak))  # fmax, because it passes over NaN
        if self._live is not None and time.monotonic() >= self._drawn + REFRESH_SECONDS:
            self._live.refresh()
            self._drawn, self._peak = time.monotonic(), 0.0

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Off the terminal for as long as something is written to standard output, which may be the same terminal."""
        if self._live is not None:
            self._live.stop()
        yield
        if self._live is not None:
            self.__enter__()  # a new one: a Live that is started again erases lines that are not its own

    def _render(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        lines: list[Text] = []
        if self._partial is not None:
            stable = self._partial.stable_prefix
            text = Text.assemble(stable, (self._partial.text[len(stable) :], "dim"))
            # The end of the text, where the news is; what is taller than the terminal could not be erased again.
            lines = list(text.wrap(self._console, self._console.width))[-max(1, self._console.height - 2) :]
        level = 20 * math.log10(max(self._peak, 1e-9))
        # What a terminal adds for Ctrl-C must fit behind the meter, or the lines to erase would be one more.
        size = max(0, min(METER_CHARACTERS, self._console.width - MARGIN_CHARACTERS))
        filled = round(size * min(max(1 - level / QUIETEST, 0), 1))
        meter = Text(no_wrap=True, overflow="crop")
        meter.append("━" * filled, "red" if self._peak >= 1 else "green")
        meter.append("─" * (size - filled), "dim")
        meter.append(f" {level:3.0f} dB" if level >= QUIETEST else "  quiet")
        return Group(*lines, meter)
