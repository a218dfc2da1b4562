"""Number words as values: cardinals, ordinals, decimals and pairs of them ("ten to fifteen"), for `numbers`."""

from dataclasses import dataclass
from typing import NamedTuple

Words = list[str]  # those of a text, "," where a mark stands, and PAD
PAD = [""] * 9  # at the end, so that neither looking ahead nor looking back from the first word leaves the list


@dataclass(frozen=True)
class Number:
    """The words [start:end] are written as `text`."""

    start: int
    end: int
    text: str


class Amount(NamedTuple):
    """A cardinal or decimal number whose words end before index `end`."""

    value: float
    end: int
    text: str


def word_set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def table(words: str, first: int = 1, step: int = 1) -> dict[str, int]:
    return {word: first + step * index for index, word in enumerate(words.split())}


ONES = table("one two three four five six seven eight nine")
TEENS = table("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen", 10)
TENS = table("twenty thirty forty fifty sixty seventy eighty ninety", 20, 10)
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
LARGE = frozenset({"hundred", *SCALES})
OH = frozenset({"oh", "o"})
DIGITS = ONES | dict.fromkeys(["zero", "nought", "naught", *OH], 0)
NUMBER_WORDS = frozenset({*ONES, *TEENS, *TENS, *LARGE, "zero"})
ORDINALS = (
    table("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth")
    | table("fifteenth sixteenth seventeenth eighteenth nineteenth", 15)
    | table("twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth", 20, 10)
)
POWERS = {"hundredth": 100, "thousandth": 10**3}
CURRENCIES = {"dollar": "$", "dollars": "$", "pound": "£", "pounds": "£", "euro": "€", "euros": "€", "yen": "¥"}
HALVED = frozenset({*SCALES, *CURRENCIES, "percent", "per"})  # 2.5 million, but "two and a half hours"
# "at this point five people": no decimal number
BEFORE_POINT = word_set("at this that some one which the a my your his her our their any no every")

# What is measured, and what may follow a time, a year or an ordinal number and is not counted.
MEASURES = word_set(
    "year years minute minutes hour hours day days week weeks month months second seconds mile miles yard yards foot "
    "feet inch inches meter meters metre metres kilometer kilometers kilometre kilometres centimeters centimetres "
    "millimeters millimetres grams kilograms kilos milligrams tons tonnes liter liters litre litres ounces gallons "
    "acres degrees volts watts percent per dollar dollars pound pounds euro euros cents bucks"
)
PEOPLE = word_set("people men women children sheep fish horse foot police staff cattle")
SINGULAR = word_set(
    "is was has as us this its his yes does it's he's she's that's what's there's unless plus perhaps less times "
    "thanks pardons apologies diabetes onwards towards afterwards always sometimes"
)
FOLLOWING = {"", ","} | word_set(
    "and but on in to for when so because then the this that tomorrow today tonight yesterday every we i he she they "
    "you it is was if until till as eastern pacific central sharp exactly please maybe monday tuesday wednesday "
    "thursday friday saturday sunday with at from by already now"
)


def is_counted(word: str) -> bool:
    plural = len(word) > 3 and word[-1] == "s" and word[-2] != "s" and word not in SINGULAR
    return plural or word in MEASURES or word in PEOPLE


def below_hundred(words: Words, i: int) -> tuple[int, int] | None:
    """Value and end of a number from 1 to 99."""
    word = words[i]
    if word in TENS:
        ones = ONES.get(words[i + 1], 0)
        return TENS[word] + ones, i + 1 + bool(ones)
    value = ONES.get(word) or TEENS.get(word)
    return (value, i + 1) if value else None


def _group(words: Words, i: int) -> tuple[int, int] | None:
    """Value and end of what may stand before "thousand": "a", "two hundred and five"; also "forty two hundred"."""
    article = words[i] == "a" and words[i + 1] in LARGE
    group = (1, i + article) if article or words[i] == "hundred" else below_hundred(words, i)
    if (
        group is None
        or words[group[1]] != "hundred"
        or (group[0] >= 10 and group[0] % 10 < 2 and group[0] not in (11, 21))
    ):
        return group  # "ninety one hundred" may be 90 and 100
    value, end = group[0] * 100, group[1] + 1
    joint = end + (words[end] == "and")
    last, last_end = below_hundred(words, joint) or (0, joint)
    after = words[last_end]
    if last and (after not in NUMBER_WORDS or after in SCALES):
        return value + last, last_end
    # "five hundred and six hundred" is two numbers; "one hundred and fifty two hundred" and so on are left alone.
    return (value, end) if not last or (after == "hundred" and last < 20) else (value, joint)


def cardinal(words: Words, i: int) -> tuple[int, int] | None:
    """Value and end of the longest cardinal number: "two million three hundred thousand and five"."""
    total, end, limit = 0, i, 10**15
    while group := _group(words, i):
        scale = SCALES.get(words[group[1]], 1)
        value = group[0] * scale
        # Not "five thousand six thousand"; "two million three" may be 2.3 million.
        if value >= limit or (total and limit >= 10**6 and value < 100 and words[i - 1] != "and"):
            break
        total, end, limit = total + value, group[1] + (scale > 1), scale
        if scale == 1:
            break
        i = end + (words[end] == "and")
    return (total, end) if total else None


def ordinal(words: Words, i: int) -> tuple[int, int] | None:
    """Value and end of an ordinal number: "third", "hundred and first", "twenty second", "two hundredth"."""
    if words[i] in ORDINALS:
        return ORDINALS[words[i]], i + 1
    value, end = cardinal(words, i) or (0, i)
    power = POWERS.get(words[end], 0)
    if power and 0 < (last := value % 1000) < power:  # "seven thousand three hundredth"
        return value + last * (power - 1), end + 1
    end += words[end] == "and" and value % 100 == 0
    last = ORDINALS.get(words[end], 0)
    return (value + last, end + 1) if last and value >= 20 and value % (10 if last < 10 else 100) == 0 else None


def ordinal_text(value: int) -> str:
    return f"{value:,}" + ("th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th"))


def _decimals(words: Words, i: int) -> tuple[str, int] | None:
    """Digits and end of what follows "point": single digits, or one number of two digits."""
    digits = ""
    while words[i] in DIGITS and (words[i] not in OH or not digits or words[i + 1] in DIGITS):
        digits, i = f"{digits}{DIGITS[words[i]]}", i + 1
    if not digits and (below := below_hundred(words, i)):
        digits, i = str(below[0]), below[1]
    return (digits, i) if digits and words[i] not in NUMBER_WORDS - SCALES.keys() else None


def cardinal_text(value: int) -> str:
    """2,300,000 is "2.3 million": at most one decimal, else all digits."""
    for name, scale in SCALES.items():
        if scale <= value < 1000 * scale and scale > 1000 and value % (scale // 10) == 0:
            return f"{value / scale:,g} {name}"
    return f"{value:,}"


def amount(words: Words, i: int) -> Amount | None:
    """A cardinal number, a decimal one ("three point five million"), or "two and a half" before a scale or a unit."""
    value: float
    value, end = cardinal(words, i) or (0, i + (words[i] in DIGITS and not DIGITS[words[i]]))
    text, whole = cardinal_text(value), end
    while words[end] in ("point", "dot") and words[end - 1] not in SCALES and (decimals := _decimals(words, end + 1)):
        if "." in text and end - whole > 2:
            return None  # "two point three two point four", but "version two point three point four"
        text, end = f"{text}.{decimals[0]}", decimals[1]
    if (
        words[end : end + 3] == ["and", "a", "half"]
        and end == whole > i
        and words[end + 3] in HALVED
        and text.isdigit()
    ):
        text, end = f"{value:,}.5", end + 3
    if end == whole:
        return Amount(value, end, text) if value or (words[i] == "zero" and percent_end(words, end)) else None
    if words[i] == "one" and words[i - 1] in ("at", "this", "that") and words[end] not in HALVED:
        return None  # "at one point five people left"
    if words[i] == "point" and (words[i - 1] in BEFORE_POINT or words[i - 1] in NUMBER_WORDS):
        return None  # "at this point five percent"
    if text.count(".") == 1:
        value = float(text.replace(",", ""))
        if scale := SCALES.get(words[end]):
            text = f"{value * scale:,.10g}" if scale == 1000 else f"{text} {words[end]}"
            value, end = value * scale, end + 1
    return Amount(value, end, text)


def span(words: Words, i: int) -> tuple[list[Amount], str] | None:
    """One amount, or two and the word between them ("ten to fifteen"); no amount where the meaning is not sure."""
    first = amount(words, i)
    if first and words[i - 1] == "between" and words[first.end] != "and" and "and" in words[i : first.end]:
        first = amount([*words[: words.index("and", i)], *PAD], i)  # between eight hundred and five thousand
    if first is None or words[first.end + (words[first.end] == "point")] in NUMBER_WORDS:
        return None
    joint = "out of" if words[first.end : first.end + 2] == ["out", "of"] else words[first.end]
    last = amount(words, first.end + 1 + (joint == "out of"))
    joined = joint in ("to", "or", "out of") or (joint == "and" and words[i - 1] == "between")
    if joint == "in" and last is not None:
        joined = first.text == "1" and words[i - 1] not in ("no", "any") and last.text in ("10", "20", "50", "100")
    if not joined or last is None or words[last.end] in NUMBER_WORDS:
        return [first], ""
    if words[last.end] in ORDINALS and ordinal(words, first.end + 1):  # "ten or twenty first"
        return [first], ""
    factor = {"hundred": 100, "thousand": 1000}.get(words[last.end - 1], 0)
    if factor and words[first.end - 1] not in LARGE and first.value < last.value / factor:
        if not first.value > 1 or last.value / factor > 4 * first.value:
            return [], joint  # "one to five hundred"
        first = Amount(first.value * factor, first.end, f"{first.value * factor:,}")  # "five or six hundred"
    clock = joint == "to" and first.value in (5, 10, 20, 25) and last.value <= 12
    if last.value < first.value and (
        clock or (joint == "or" and last.value < 10)
    ):  # "a thousand or two", "ten to five"
        return [], joint
    return [first, last], joint


def percent_end(words: Words, i: int) -> int:
    """End of "percent" or "per cent" at i, 0 if it is not there."""
    return i + 1 if words[i] == "percent" else i + 2 if words[i : i + 2] == ["per", "cent"] else 0
