"""Tries damaged and hostile inputs for some minutes: `python tools/fuzz.py --minutes 60`.

Each input is made from a number, so that `--harness NAME --seed N --count 1` makes it again. What is promised of every
input is asserted (tests/fuzz/promises.py): only our errors in one line, 10 s, 300 MB, nothing opened outside the input,
nothing left behind. Findings are printed with their numbers; the exit code is 1 if there are any.
"""

import argparse
import os
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / part) for part in (".", "fuzz")]

from harnesses import HARNESSES, try_one  # noqa: E402
from promises import GROWTH, memory  # noqa: E402

SHOWN = 5  # findings of a harness with their traceback
SLICE = 500  # inputs of one harness, then the next has its turn


def fuzz(names: list[str], seed: int, seconds: float, count: int | None) -> dict[str, list[int]]:
    """For each harness: inputs, findings, bytes by which the memory grew."""
    results = {name: [0, 0, 0] for name in names}
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="fuzz-") as parent:
        while time.monotonic() < deadline and any(count is None or tried < count for tried, _, _ in results.values()):
            for name, result in results.items():
                with suppress(Exception):  # what it imports is no growth
                    try_one(name, seed, Path(parent))
                before, until = memory(), time.monotonic() + min(seconds / len(names), deadline - time.monotonic())
                for _ in range(SLICE if count is None else min(SLICE, count - result[0])):
                    if time.monotonic() > until:
                        break
                    try:
                        try_one(name, seed + result[0], Path(parent))
                    except Exception:
                        result[1] += 1
                        if result[1] <= SHOWN:
                            print(f"--harness {name} --seed {seed + result[0]} --count 1")
                            traceback.print_exc(limit=-6)
                    result[0] += 1
                result[2] = max(result[2], memory() - before)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--harness", choices=HARNESSES, action="append", help="default: all")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first input; default: the time")
    parser.add_argument("--count", type=int, help="inputs of each harness at most")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    results = fuzz(arguments.harness or [*HARNESSES], arguments.seed, 60 * arguments.minutes, arguments.count)
    print(f"\nseed {arguments.seed}\n\n| harness | inputs | findings | memory grew by, MB |\n| --- | --- | --- | --- |")
    for name, (tried, found, grown) in results.items():
        print(f"| {name} | {tried:,} | {found:,} | {grown / 1e6:.0f} |")
    tried, found = (sum(column) for column in list(zip(*results.values(), strict=True))[:2])
    print(f"| all | {tried:,} | {found:,} | |")
    broken = any(found or grown > GROWTH for _, found, grown in results.values())
    sys.exit(broken)


if __name__ == "__main__":
    main()
