"""The command line as a program, and what a command did."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

PROGRAM = (sys.executable, "-c", "from asr.cli.main import main; main()")


@dataclass(frozen=True)
class Outcome:
    """What a command did: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines of standard error, each of which must be one of `asr`'s own."""
        lines = self.err.splitlines()
        assert all(line.startswith("asr: ") for line in lines), self.err
        return lines


Command = Callable[..., Outcome]
