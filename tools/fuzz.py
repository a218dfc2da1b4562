"""Tries damaged and hostile inputs for some minutes: `python tools/fuzz.py --minutes 60 --processes 2`.

Each input is made from a number, so that `--harness NAME --seed N --count 1` makes it again. What is promised of every
input is asserted (tests/fuzz/promises.py): only our errors in one line, 10 s, 300 MB, nothing opened outside the input,
nothing left behind. Findings are printed with their numbers; the exit code is 1 if there are any. An input that ends
the process, or hangs for two minutes, ends the program with its number.
"""

import argparse
import faulthandler
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / part) for part in (".", "fuzz")]

from harnesses import HARNESSES, try_one  # noqa: E402
from promises import GROWTH, memory  # noqa: E402

SHOWN = 5  # findings of a harness with their traceback
SLICE = 500  # inputs of one harness, then the next has its turn
HANGS = 120  # seconds; the first input makes the seeds, too
APART = 10**7  # between the first inputs of two processes


def fuzz(names: list[str], seed: int, seconds: float, count: int | None, current: Path) -> dict[str, list[int]]:
    """For each harness: inputs, findings, bytes by which the memory grew. current: a file for the input's number."""
    results = {name: [0, 0, 0] for name in names}
    deadline = time.monotonic() + seconds
    faulthandler.enable()

    def attempt(number: str, name: str, seed: int) -> None:
        current.write_text(number)
        faulthandler.dump_traceback_later(HANGS, exit=True)
        try_one(name, seed, Path(parent))

    with tempfile.TemporaryDirectory(prefix="fuzz-") as parent:
        while time.monotonic() < deadline and any(count is None or tried < count for tried, _, _ in results.values()):
            for name, result in results.items():
                with suppress(Exception):  # what it imports is no growth
                    attempt(f"the first of {name}", name, seed)
                before, until = memory(), time.monotonic() + min(seconds / len(names), deadline - time.monotonic())
                for _ in range(SLICE if count is None else min(SLICE, count - result[0])):
                    if time.monotonic() > until:
                        break
                    number = f"--harness {name} --seed {seed + result[0]} --count 1"
                    try:
                        attempt(number, name, seed + result[0])
                    except Exception:
                        result[1] += 1
                        if result[1] <= SHOWN:
                            print(number, flush=True)
                            traceback.print_exc(limit=-6, file=sys.stdout)
                    result[0] += 1
                faulthandler.cancel_dump_traceback_later()
                result[2] = max(result[2], memory() - before)
    return results


def fuzz_in_processes(
    processes: int, names: list[str], seed: int, seconds: float, count: int | None
) -> dict[str, list[int]]:
    """As `fuzz`, in so many processes, each with inputs of its own."""
    totals = {name: [0, 0, 0] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, str(number)) for number in range(processes)]
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            running = [
                pool.submit(fuzz, names, seed + number * APART, seconds, count, path)
                for number, path in enumerate(paths)
            ]
            try:
                for future in running:
                    for name, (tried, found, grown) in future.result().items():
                        totals[name][0] += tried
                        totals[name][1] += found
                        totals[name][2] = max(totals[name][2], grown)
            except RuntimeError:
                sys.exit(f"a process ended at one of: {', '.join(path.read_text() for path in paths if path.exists())}")
    return totals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--harness", choices=HARNESSES, action="append", help="default: all")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first input; default: the time")
    parser.add_argument("--count", type=int, help="inputs of each harness at most, in each process")
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    names = arguments.harness or [*HARNESSES]
    results = fuzz_in_processes(arguments.processes, names, arguments.seed, 60 * arguments.minutes, arguments.count)
    print(f"\nseed {arguments.seed}\n\n| harness | inputs | findings | memory grew by, MB |\n| --- | --- | --- | --- |")
    for name, (tried, found, grown) in results.items():
        print(f"| {name} | {tried:,} | {found:,} | {grown / 1e6:.0f} |")
    tried, found = (sum(column) for column in list(zip(*results.values(), strict=True))[:2])
    print(f"| all | {tried:,} | {found:,} | |")
    broken = any(found or grown > GROWTH for _, found, grown in results.values())
    sys.exit(broken)


if __name__ == "__main__":
    main()
