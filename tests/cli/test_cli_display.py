import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

import numpy as np
import pytest

from asr.cli.display import Display
from asr.output.transcript import Segment, Word
from asr.recognize.streaming import Event, Final, Partial

SOUND = np.full(640, 0.1, dtype=np.float32)  # −20 dB


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """The lines of what was drawn last, without colours."""
        drawn = re.split(r"\x1b\[\d*[AK]", self.getvalue())[-1]
        return re.sub(r"\x1b\[[?\d;]*\w", "", drawn).replace("\r", "").split("\n")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 40 × 6 characters, drawn on as often as there is something to show."""
    for name, value in {"TERM": "xterm", "COLUMNS": "40", "LINES": "6"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("asr.cli.display.REFRESH_SECONDS", 0.0)
    return Terminal()


@contextmanager
def drawing_on(terminal: Terminal) -> Iterator[Display]:
    with redirect_stderr(terminal), Display() as display:
        yield display


def partial(text: str, stable: str = "") -> list[Event]:
    return [Partial(text, stable, ())]


def final(text: str) -> Event:
    return Final(Segment((Word(text, 0.0, 1.0, 1.0),)))


def test_the_text_stands_above_the_meter(terminal: Terminal) -> None:
    with drawing_on(terminal) as display:
        display.show(SOUND, partial("hello wor", "hello"))
        text, meter = terminal.lines()
        assert text == "hello wor"
        assert re.fullmatch(r"━+─+ -20 dB", meter)
        assert "hello\x1b[2m wor\x1b[0m" in terminal.getvalue()


def test_the_end_of_a_long_text_is_shown_and_fits(terminal: Terminal) -> None:
    words = [f"word{number}" for number in range(100)]
    with drawing_on(terminal) as display:
        display.show(SOUND, partial(" ".join(words)))
        *text, _ = lines = terminal.lines()
    assert len(lines) == 5  # one less than there are
    assert all(len(line) <= 40 for line in lines)
    shown = " ".join(text).split()
    assert shown == words[-len(shown) :]


def test_a_word_longer_than_the_terminal_fits(terminal: Terminal) -> None:
    with drawing_on(terminal) as display:
        display.show(SOUND, partial("x" * 500 + "end"))
        *text, _ = lines = terminal.lines()
    assert len(lines) == 5
    assert text[-1].endswith("end")


def test_markup_in_the_text_is_text(terminal: Terminal) -> None:
    with drawing_on(terminal) as display:
        display.show(SOUND, partial("[bold]a[/bold] :smile:"))
        assert terminal.lines()[0] == "[bold]a[/bold] :smile:"


def test_a_final_takes_the_text_off_the_display(terminal: Terminal) -> None:
    with drawing_on(terminal) as display:
        display.show(SOUND, partial("hello"))
        display.show(SOUND, [final("hello")])
        assert len(terminal.lines()) == 1
        display.show(SOUND, [final("hello"), *partial("next")])
        assert terminal.lines()[0] == "next"


@pytest.mark.parametrize(
    ("level", "shown"), [(0.0, "quiet"), (np.nan, "quiet"), (1.0, "  0 dB"), (np.inf, "dB"), (0.5, " -6 dB")]
)
def test_the_meter_takes_any_samples(terminal: Terminal, level: float, shown: str) -> None:
    with drawing_on(terminal) as display:
        display.show(np.full(640, level, dtype=np.float32), [])
        assert terminal.lines()[-1].endswith(shown)


def test_no_samples_are_quiet(terminal: Terminal) -> None:
    with drawing_on(terminal) as display:
        display.show(SOUND[:0], [])
        assert terminal.lines()[-1].endswith("quiet")


def test_nothing_is_left_when_it_ends_or_steps_aside(terminal: Terminal) -> None:
    with drawing_on(terminal) as display:
        display.show(SOUND, partial("hello"))
        with display.aside():
            assert terminal.lines() == [""]
            before = terminal.getvalue()
        display.show(SOUND, [])
        # Where it begins to draw again: nothing above is erased.
        assert not re.search(r"\x1b\[\d*[AK]", terminal.getvalue()[len(before) :])
    assert terminal.lines() == [""]
    assert "\x1b[?25h" in terminal.getvalue().rpartition("\x1b[?25l")[2]  # the cursor is back


def test_lines_on_standard_error_come_above(terminal: Terminal) -> None:
    with drawing_on(terminal) as display:
        display.show(SOUND, partial("hello"))
        print("asr: a complaint", file=sys.stderr, flush=True)
        assert terminal.lines()[:2] == ["asr: a complaint", "hello"]


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_without_a_terminal_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with Display() as display:
        display.show(SOUND, partial("hello"))
        with display.aside():
            pass
    assert stream is None or stream.getvalue() == ""
