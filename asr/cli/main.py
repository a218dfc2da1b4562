"""The program `asr`: its streams, warnings, errors and exit codes."""

import io
import os
import signal
import sys
import warnings
from contextlib import suppress
from types import FrameType

from asr.errors import AsrError, describe_os_error, is_disk_full
from asr.signals import held_back

EXTRAS = {"train": "training", "serve": "the server", "bulk": "bulk transcription"}  # each for the command of its name


def main() -> None:
    """Run the command line. Exit codes: 0, 1 when something failed, 2 on wrong usage, 128 + the signal that ended it
    (130 on Ctrl-C).
    """
    before = {}
    try:
        for name in ("SIGTERM", "SIGHUP"):  # as Ctrl-C, so that nothing is left behind
            number = getattr(signal, name, None)  # Windows has no SIGHUP, and `nohup` has it ignored
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, _end)
        _run()
    except KeyboardInterrupt:  # while the program starts
        sys.exit(128 + signal.SIGINT)
    finally:  # of a caller in the same process, whose children would have them too
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _silence_libraries() -> None:
    """What libraries in C write to standard error goes nowhere, as libmpg123 does about a damaged file; ours stays.

    Not when training: there it may be all that is known of a crash.
    """
    with suppress(OSError, AttributeError, ValueError):  # a closed or another stream
        if sys.stderr.fileno() == 2 and sys.argv[1:2] != ["train"]:
            own = os.dup(2)
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            sys.stderr = open(own, "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115


def _run() -> None:
    from asr.cli.messages import complain

    _silence_libraries()
    if sys.stdout is None:
        complain("standard output is closed, so there is nowhere to write")
        sys.exit(1)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # any text in any locale
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    # PYTHONWARNINGS=error is for the tests of programs: it would end this one at the first deprecation in a library.
    warnings.filters[:] = [item for item in warnings.filters if item[0] != "error"]  # type: ignore[index]
    try:
        with held_back():
            from asr.cli.app import app  # here, after the warnings are set

        app(prog_name="asr")  # turns Ctrl-C and a reader that went away into an exit code by itself
    except AsrError as error:
        complain(error)
    except ModuleNotFoundError as error:
        extra = next((command for command in sys.argv[1:2] if command in EXTRAS), "train")
        complain(f"{EXTRAS[extra]} needs more packages ({error.name} is missing): pip install 'recurrent-asr[{extra}]'")
    except OSError as error:
        complain(explain(error))
    try:
        sys.stdout.flush()
    except OSError:  # what could not be written is still in the buffer; Python would try again at exit, and complain
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(1)


def explain(error: OSError) -> str:
    """What happened, to which file, and what to do about it where that is known."""
    advice = "; make room, or write elsewhere" if is_disk_full(error) else ""
    return f"{describe_os_error(error) or type(error).__name__}{advice}"
