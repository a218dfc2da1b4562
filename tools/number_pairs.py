"""Make pairs of spoken and written English numbers, and score `asr.output.numbers` on a table of them.

    python tools/number_pairs.py make TABLE             # 2,000 pairs of nine kinds, always the same
    python tools/number_pairs.py score TABLE [--wrong]  # share exactly right by kind; --wrong lists the others

A table has one pair a line: kind, spoken form, written form, separated by tabs. Words outside the number are the same
in both. In a fifth of the pairs made, the traps, little or nothing is to be converted ("wait a second").
`number_sentences.tsv` has their texts: kind; sentence, number (for its "{}") or trap; text. After an equals sign
stands the written form, with figures in its {slots}; without one, both forms have words. Needs num2words.
"""

import argparse
import re
from calendar import month_name
from collections import Counter
from pathlib import Path
from random import Random

from num2words import num2words

SENTENCES = Path(__file__).with_name("number_sentences.tsv")
KINDS = ("count", "money", "date", "time", "year", "decimal", "phone", "ordinal", "range")
PAIRS, TRAP_SHARE, SEED = 2000, 0.2, 27
OPENERS = ("", "i think ", "um ", "well ", "she said that ", "as you know ", "we heard that ", "and then ")
ENDINGS = ("", " i believe", " as far as i know", " you know", " or so they say", " if i remember rightly")
NUMBERS = {  # slot: lowest, highest, form in num2words
    "s": (2, 9, "cardinal"), "u": (10, 90, "cardinal"), "n": (10, 999, "cardinal"), "page": (1, 99, "cardinal"),
    "tenth": (1, 9, "cardinal"), "cents": (11, 99, "cardinal"), "hour": (1, 12, "cardinal"), "nth": (1, 9, "ordinal"),
    "minute": (10, 59, "cardinal"), "day": (1, 28, "ordinal"), "ordinal": (10, 400, "ordinal"),
    "low": (5, 18, "cardinal"), "high": (19, 40, "cardinal"),
    "old": (1600, 1899, "year"), "new": (1900, 2030, "year"), "year": (1100, 2040, "year"),
}  # fmt: skip


def speak(rng: Random, number: int, form: str = "cardinal") -> str:
    """Words of a number as in Britain ("a hundred and five") or in America ("one hundred five")."""
    words = num2words(number, to=form).replace("-", " ").replace(",", "")
    words = words.replace(" and ", " ") if rng.random() < 0.5 else words
    return re.sub("^one (?=hundred|thousand)", rng.choice(["a ", "one "]), words) if form == "cardinal" else words


def draw(rng: Random, slot: str) -> tuple[str, str]:
    """A random value of a slot: words and figures."""
    if slot in NUMBERS:
        low, high, form = NUMBERS[slot]
        number = rng.randint(low, high)
        return speak(rng, number, form), num2words(number, to="ordinal_num") if form == "ordinal" else str(number)
    if slot == "month":
        return (month := rng.choice(month_name[1:])).lower(), month
    if slot == "decade":
        tens = 10 * rng.randint(2, 9)
        return num2words(tens).removesuffix("y") + "ies", f"{tens}s"
    if slot == "big":  # mostly round
        number = rng.randint(10, 999) * 10 ** rng.randint(2, 3) + rng.choice([0, 0, rng.randint(1, 99)])
        return speak(rng, number), f"{number:,}"
    if slot == "clock":
        hour, minute = rng.randint(1, 12), 5 * rng.randint(1, 11)
        before = minute > 30
        minutes, spoken_hour = (60 - minute, hour % 12 + 1) if before else (minute, hour)
        part = {15: rng.choice(["quarter", "a quarter"]), 30: "half"}.get(minutes) or speak(rng, minutes)
        return f"{part} {'to' if before else 'past'} {speak(rng, spoken_hour)}", f"{hour}:{minute:02}"
    figures = "".join(rng.choices("0123456789", k=3 if slot == "room" else rng.randint(6, 11)))
    zero, double = rng.choice(["oh", "o", "zero"]), rng.choice([r"(\d)(\1?)", r"(\d)()"])
    digits = [(again and "double", int(digit)) for digit, again in re.findall(double, figures)]
    return " ".join(f"{twice} {speak(rng, d) if d else zero}".strip() for twice, d in digits), figures


def pair(rng: Random, texts: dict[str, list[str]]) -> tuple[str, str]:
    trap = rng.random() < TRAP_SHARE
    sentence = rng.choice(OPENERS) + ("{}" if trap else rng.choice(texts["sentence"])) + rng.choice(ENDINGS)
    spoken, _, written = rng.choice(texts["trap" if trap else "number"]).partition("=")
    slots = {slot: draw(rng, slot) for slot in sorted(set(re.findall(r"{(\w+)}", sentence + spoken)))}
    words, figures = ({slot: value[form] for slot, value in slots.items()} for form in (0, 1))
    sentence = sentence.replace("{}", "\0").format(**words)
    spoken, written = spoken.format(**words), written.format(**figures)
    return sentence.replace("\0", spoken), sentence.replace("\0", written or spoken)


def make(table: Path) -> None:
    texts: dict[str, dict[str, list[str]]] = {kind: {} for kind in KINDS}
    for line in SENTENCES.read_text(encoding="utf-8").splitlines():
        kind, part, text = line.split("\t")
        texts[kind].setdefault(part, []).append(text)
    rng, pairs = Random(SEED), dict[str, str]()
    while len(pairs) < PAIRS:
        kind = KINDS[len(pairs) % len(KINDS)]
        spoken, written = pair(rng, texts[kind])
        pairs.setdefault(spoken, f"{kind}\t{spoken}\t{written}\n")
    table.write_text("".join(sorted(pairs.values())), encoding="utf-8")


def score(table: Path, wrong: bool) -> None:
    from asr.output.numbers import find_numbers

    counts: dict[str, Counter[str]] = {}
    for line in table.read_text(encoding="utf-8").splitlines():
        kind, spoken, written = line.split("\t")
        words = spoken.split()
        for number in sorted(find_numbers(words), key=lambda number: -number.start):
            words[number.start : number.end] = [number.text]
        result = " ".join(words)
        outcome = "right" if result == written else "left" if result == spoken else "wrong"
        for row in (kind, "all"):
            counts.setdefault(row, Counter())[outcome] += 1
        if wrong and outcome != "right":
            print(kind, spoken, written, result, sep="\t")
    print("| kind | pairs | exactly right | left in words | wrong |\n| --- | ---: | ---: | ---: | ---: |")
    for row in sorted(counts, key=[*KINDS, "all"].index):
        total = counts[row].total()
        shares = (f"{counts[row][outcome] / total:.1%}" for outcome in ("right", "left", "wrong"))
        print(f"| {row} | {total} |", " | ".join(shares), "|")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["make", "score"])
    parser.add_argument("table", type=Path)
    parser.add_argument("--wrong", action="store_true", help="print the pairs that are not exactly right")
    args = parser.parse_args()
    make(args.table) if args.mode == "make" else score(args.table, args.wrong)
