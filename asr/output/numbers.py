"""Numbers in recognized English words as people write them: "twenty five dollars" → $25, "half past two" → 2:30.

What is not sure stays spelled out: small counts, neighbors that can be read in two ways ("two fifty", "fifteen twenty
minutes"), fractions. A grammar of our own: text2num 3.1 reads cardinals only, joins neighbors ("five hundred and six
hundred" → 506 100), splits years ("19 84") and takes 10 ms to import.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Number:
    """The words [start:end], written as `text`."""

    start: int
    end: int
    text: str


class Amount(NamedTuple):
    """A cardinal or decimal number whose words end before index `end`."""

    value: float
    end: int
    text: str


Words = list[str]  # of one clause, and PAD


def _table(words: str, first: int = 1, step: int = 1) -> dict[str, int]:
    return {word: first + step * index for index, word in enumerate(words.split())}


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


ONES = _table("one two three four five six seven eight nine")
TEENS = _table("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen", 10)
TENS = _table("twenty thirty forty fifty sixty seventy eighty ninety", 20, 10)
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
OH = _set("oh o")
DIGITS = ONES | dict.fromkeys(["zero", "nought", "naught", *OH], 0)
NUMBER_WORDS = frozenset([*ONES, *TEENS, *TENS, *SCALES, "hundred", "zero"])
ORDINALS = (
    _table("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth")
    | _table("fifteenth sixteenth seventeenth eighteenth nineteenth", 15)
    | _table("twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth", 20, 10)
)
POWERS = {"hundredth": 100, "thousandth": 10**3, "millionth": 10**6}
DECADES = _table("tens twenties thirties forties fifties sixties seventies eighties nineties", 10, 10) | {"hundreds": 0}
CURRENCIES = {"dollar": "$", "dollars": "$", "pound": "£", "pounds": "£", "euro": "€", "euros": "€", "yen": "¥"}
MONTHS = _set("january february march april may june july august september october november december")
VERBS = _set("may march")  # months that are more often another word
HOURS = {word: hour for word, hour in (ONES | TEENS).items() if hour <= 12}

# What stands before a year, a time, a day, and a number that is read digit by digit or is a name.
YEAR_AFTER = _set(
    "in since year by until till before after during circa early late mid spring summer autumn fall winter"
)
TIME_AFTER = _set("at by until till before after around from since about to it's")
DAY_AFTER = _set("on of until till from to by since before after through between and dated")
LABELS = _set(
    "page chapter number paragraph section appendix slide item line question option volume tab grade phase tier level "
    "version release issue bullet exhibit room flight gate channel runway row table platform route highway bus "
    "extension code pin zip type clause module rule figure call dial text boeing number's code's"
)
PLURAL_LABELS = _set("pages chapters paragraphs sections slides items lines questions steps rows tables clauses rooms")
WEIGHED = _set(
    "weigh weighs weighed weighing lost lose losing loses gained gain gaining shed lift lifting lifted bench"
)
NO_POINT = _set("this that some one which the a my your his her our their at any no every")  # "this point five people"

# What follows a quantity, and what may follow a time or year but is no noun.
MEASURES = _set(
    "year years minute minutes hour hours day days week weeks month months second seconds mile miles yard yards feet "
    "foot inch inches meter meters metre metres kilometer kilometers kilometre kilometres centimeters centimetres "
    "millimeters millimetres gram grams kilogram kilograms kilos milligrams tons tonnes liter liters litre litres ounces "
    "gallons acres degrees volts watts percent per dollar dollars pound pounds euro euros cents bucks"
)
PEOPLE = _set("people men women children sheep fish horse foot police staff cattle")
NO_PLURAL = _set(
    "is was has as us this its his yes does it's he's she's that's what's there's unless plus perhaps less"
)
AFTER_TIME = _set(
    "and or but on in to for when so because then the this that tomorrow today tonight yesterday every we i he she they "
    "you it is was if until till as eastern pacific central sharp exactly please maybe monday tuesday wednesday "
    "thursday friday saturday sunday or with at from by"
) | {""}
HALVES = _set("morning afternoon evening")
EXCLAMATIONS = _set("no yes well my god dear yeah wait i that the and sorry right okay")  # "oh" before them is no digit
SUBJECTS = _set("i you he she it we they who this that which people one")
OWNERS = _set("my your his her their our")  # "my two cents"
NAMED_BY_ORDINAL = _set("century anniversary birthday amendment floor day year street psalm edition of")
PAD = [""] * 9  # so that looking ahead, or back from the first word, finds no word


def find_numbers(words: Sequence[str], breaks: Collection[int] = ()) -> list[Number]:
    """Numbers in order, never overlapping.

    Args:
        words: As spoken, in lower case and without marks ("twenty", "o'clock", "may").
        breaks: Indices i such that a mark of a sentence or clause follows words[i]; no number goes across one.
    """
    if TRIGGERS.isdisjoint(words):
        return []
    numbers: list[Number] = []
    start = 0
    for end in sorted({index + 1 for index in breaks if 0 <= index < len(words)} | {len(words)}):
        clause = [*words[start:end], *PAD]
        if not TRIGGERS.isdisjoint(clause):
            numbers += [Number(start + found.start, start + found.end, found.text) for found in _clause_numbers(clause)]
        start = end
    return numbers


def _clause_numbers(words: Words) -> list[Number]:
    numbers: list[Number] = []
    i = done = 0
    while i < len(words) - len(PAD):
        if words[i] not in TRIGGERS:
            i += 1
            continue
        start = i
        if words[i] == "hundred" or words[i] in SCALES:  # "a hundred", "the hundred and first", not "half a million"
            start -= words[i - 1] == "a"
            if words[start - 1] in ("half", "of") or (start == i and words[i : i + 2] != ["hundred", "and"]):
                i = _run_end(words, i)
                continue
        found = next((number for kind in KINDS if (number := kind(words, start)) and number.start >= done), None)
        if found is None:
            i = _run_end(words, i)
            continue
        if found.text:
            numbers.append(found)
        i = done = found.end
    return numbers


def _run_end(words: Words, i: int) -> int:
    """End of the number words from i: where one of them cannot be read, those beside it stay spelled out too."""
    i += 1
    while words[i - 1] in NUMBER_WORDS:
        after = i + (words[i] == "and" and words[i - 1] in ("hundred", *SCALES))
        if words[after] not in NUMBER_WORDS:
            break
        i = after + 1
    return i


# ------------------------------------------------------------------ quantities


def _below_hundred(words: Words, i: int) -> tuple[int, int] | None:
    """Value and end of a number from 1 to 99."""
    word = words[i]
    if word in TENS:
        ones = ONES.get(words[i + 1], 0)
        return TENS[word] + ones, i + 1 + bool(ones)
    value = ONES.get(word) or TEENS.get(word)
    return (value, i + 1) if value else None


def _group(words: Words, i: int) -> tuple[int, int] | None:
    """Value and end of what can stand before "thousand": "a", "twelve", "two hundred and five", also "forty two hundred"."""
    if words[i] == "hundred" or (words[i] == "a" and (words[i + 1] == "hundred" or words[i + 1] in SCALES)):
        value, end = 1, i + (words[i] == "a")
    elif below := _below_hundred(words, i):
        value, end = below
    else:
        return None
    if words[end] == "hundred" and (value < 10 or value % 10):
        value, end = value * 100, end + 1
        rest = _below_hundred(words, end + (words[end] == "and"))
        # Not "five hundred and six hundred", "one hundred one fifty".
        if rest and (words[rest[1]] not in NUMBER_WORDS or words[rest[1]] in SCALES):
            return value + rest[0], rest[1]
    return value, end


def _cardinal(words: Words, i: int) -> tuple[int, int] | None:
    """Value and end of the longest cardinal number: "two million three hundred thousand and five"."""
    total, end, limit = 0, i, 10**15
    while group := _group(words, i):
        scale = SCALES.get(words[group[1]], 1)
        value = group[0] * scale
        # Not "five thousand six thousand"; "two million three" may be 2.3 million.
        if value >= limit or (limit >= 10**6 and value < 100 and words[i - 1] != "and" and total):
            break
        total, end, limit = total + value, group[1] + (scale > 1), scale
        if scale == 1:
            break
        i = end + (words[end] == "and")
    return (total, end) if total else None


def _decimals(words: Words, i: int) -> tuple[str, int] | None:
    """Digits and end of what follows "point": single digits, or one number of two digits."""
    digits = ""
    while words[i] in DIGITS and (words[i] not in OH or not digits or words[i + 1] in DIGITS):
        digits += str(DIGITS[words[i]])
        i += 1
    if not digits and (below := _below_hundred(words, i)):
        digits, i = str(below[0]), below[1]
    follows = words[i] in NUMBER_WORDS and words[i] not in SCALES
    return (digits, i) if digits and not follows else None


def _amount(words: Words, i: int) -> Amount | None:
    """Cardinal ("2,300", "2.3 million"), decimal, or "two and a half" before a scale or a unit."""
    value: float
    if words[i] in DIGITS and not DIGITS[words[i]]:
        value, end = 0, i + 1
        if words[end] != "point" and not _percent_end(words, end):
            return None
    elif words[i] == "point":
        value, end = 0, i
    elif cardinal := _cardinal(words, i):
        value, end = cardinal
    else:
        return None
    text = f"{value:,}"
    for name, scale in SCALES.items():
        if scale > 1000 and value >= scale and value % (scale // 10) == 0:
            text = f"{value / scale:,g} {name}"
    whole = end
    while words[end] in ("point", "dot") and words[end - 1] not in SCALES and (decimals := _decimals(words, end + 1)):
        text, end = f"{text}.{decimals[0]}", decimals[1]
    if words[i] == "one" and words[i - 1] in NO_POINT and end > whole and not words[end].startswith("per"):
        end, text = whole, "1"  # "at one point five people"
    if words[end : end + 3] == ["and", "a", "half"] and end == whole:
        after = words[end + 3]
        if after in SCALES or after in CURRENCIES or _percent_end(words, end + 3):
            text, end = f"{value:,}.5", end + 3
    if end == whole:
        return Amount(value, end, text) if words[i] != "point" and (value or words[end] != "point") else None
    if text.count(".") == 1:
        value = float(text.replace(",", ""))
        if scale := SCALES.get(words[end]):
            text = f"{value * scale:,.10g}" if scale == 1000 else f"{text} {words[end]}"
            value, end = value * scale, end + 1
    return Amount(value, end, text)


def _span(words: Words, i: int) -> tuple[list[Amount], str] | None:
    """One amount, or two and the word between them ("ten to fifteen"); an empty list where that is not sure."""
    first = _amount(words, i)
    if first is None or words[first.end] in NUMBER_WORDS:
        return None
    joint = words[first.end]
    last = _amount(words, first.end + 1)
    between = joint == "and" and words[i - 1] == "between"
    if last is None or words[last.end] in NUMBER_WORDS or not (between or joint in ("to", "or")):
        return [first], ""
    if ORDINALS.get(words[last.end], 10) < 10 and last.value % 10 == 0:
        return [first], ""  # "ten or twenty first"
    scale = words[last.end - 1]
    if scale in ("hundred", "thousand") and words[first.end - 1] not in ("hundred", *SCALES):
        factor = SCALES.get(scale, 100)
        head = last.value / factor
        if 1 < first.value < head <= 4 * first.value:  # five or six hundred
            return [Amount(first.value * factor, first.end, f"{first.value * factor:,}"), last], joint
        if first.value < head:  # one to five hundred
            return [], joint
    if joint == "or" and last.value < first.value:  # a thousand or two
        return [], joint
    return [first, last], joint


def _percent_end(words: Words, i: int) -> int:
    """End of "percent" or "per cent" at i, 0 if it is not there."""
    return i + 1 if words[i] == "percent" else i + 2 if words[i : i + 2] == ["per", "cent"] else 0


def _is_plural(word: str) -> bool:
    return word in PEOPLE or (len(word) > 3 and word[-1] == "s" and word[-2] != "s" and word not in NO_PLURAL)


# ------------------------------------------------------------------ kinds: the Number that begins at word i or holds it


def _digits(words: Words, i: int) -> Number | None:
    """Four digits or more ("oh five five five one two three"), fewer where that is sure: double o seven, room two oh five."""
    text, singles, j = "", 0, i
    sure = False
    while True:
        word = words[j]
        repeat = {"double": 2, "triple": 3}.get(word, 1)
        j += repeat > 1
        if words[j] in DIGITS and (words[j] not in OH or words[j + 1] not in EXCLAMATIONS):
            sure |= repeat > 1 or words[j] == "zero"
            text, singles, j = text + str(DIGITS[words[j]]) * repeat, singles + repeat, j + 1
        elif text and words[j] == "hundred" and repeat == 1:
            text, j = text + "00", j + 1
        elif text and repeat == 1 and (below := _below_hundred(words, j)):
            text, j = text + str(below[0]), below[1]
        else:
            j -= repeat > 1
            break
    if words[j] in SCALES or words[j] == "point" or _percent_end(words, j) or words[j] in CURRENCIES:
        return None
    only_digits = singles == len(text)
    if only_digits and singles == 3:
        sure |= text in ("911", "999")
    if (only_digits and (singles >= 4 + (words[i] == "oh") or (singles == 3 and sure))) or (singles >= 3 and len(text) >= 7):
        return Number(i, j, text)
    named = 2 <= len(text) <= 4 and _is_labelled(words, i) and words[i] not in OH and "hundred" not in words[i:j]
    return Number(i, j, text) if named else None


def _is_labelled(words: Words, i: int) -> bool:
    """Whether a number that names something begins at i: "page five", "my extension is four four two"."""
    before = words[i - 1]
    if before in ("is", "was", "in"):
        return not LABELS.isdisjoint(words[max(i - 4, 0) : i - 1])
    while before in ("to", "and", "or", "through") and words[i - 2] in NUMBER_WORDS:
        i -= 2
        while words[i - 1] in NUMBER_WORDS:
            i -= 1
        before = words[i - 1] if words[i - 1] in PLURAL_LABELS else ""
    return before in LABELS or before in PLURAL_LABELS


def _clock(words: Words, i: int) -> Number | None:
    """ "half past two", "ten thirty a m", "twenty to five", and "at seven forty five" where no noun follows."""
    if words[i] in ("half", "quarter"):
        return _clock_past(words, i, {"half": 30, "quarter": 15}[words[i]], i + 1)
    below = _below_hundred(words, i)
    if below is None:
        return None
    if below[0] in (5, 10, 20, 25) and (past := _clock_past(words, i, below[0], below[1])):
        return past
    hour = HOURS.get(words[i])
    if hour is None:
        return None
    if words[i + 1] == "o'clock":
        return Number(i, i + 1, str(hour))
    if end := _half_day(words, i + 1)[1]:
        return Number(i, end, f"{hour}{_half_day(words, i + 1)[0]}")
    other = HOURS.get(words[i + 2])
    if other and words[i + 1] in ("to", "or", "and") and (end := _half_day(words, i + 3)[1]):
        return Number(i, end, f"{hour} {words[i + 1]} {other}{_half_day(words, i + 3)[0]}")
    minute = _minute(words, i + 1)
    if minute is None:
        return None
    text, end = f"{hour}:{minute[0]:02}", minute[1]
    suffix, suffix_end = _half_day(words, end)
    if suffix_end:
        return Number(i, suffix_end, text + suffix)
    after, before = words[end], words[i - 1]
    at = before == "at" and not (after in MEASURES or _is_plural(after) or after in ("a", "an", "each", "point"))
    common = minute[0] % 15 == 0 or words[i + 1] in OH
    loose = before in TIME_AFTER and common and after in AFTER_TIME
    named = words[end : end + 2] == ["in", "the"] and words[end + 2] in HALVES
    train = after in ("train", "bus", "flight", "ferry", "showing") and common
    return Number(i, end, text) if (at or loose or named or train) and after not in NUMBER_WORDS else None


def _minute(words: Words, i: int) -> tuple[int, int] | None:
    if words[i] in OH and words[i + 1] in ONES:
        return ONES[words[i + 1]], i + 2
    below = _below_hundred(words, i)
    return below if below and 10 <= below[0] < 60 else None


def _half_day(words: Words, i: int) -> tuple[str, int]:
    """ " a.m." and its end; an end of 0 where it is not there. The recognizer writes "a m" and "am"."""
    if words[i] in ("a", "p") and words[i + 1] == "m":
        return f" {words[i]}.m.", i + 2
    if (
        words[i] in ("am", "pm")
        and words[i + 1] not in ("i", "not")
        and (words[i - 1] != "one" or words[i - 2] == "at")
    ):
        return f" {words[i][0]}.m.", i + 1
    return "", 0


def _clock_past(words: Words, i: int, minute: int, j: int) -> Number | None:
    """The time whose minutes are words i to j: past, after or to the hour that follows."""
    in_minutes = words[j] == "minutes"
    j += in_minutes
    hour = HOURS.get(words[j + 1])
    word = words[j]
    if hour is None or words[j + 2] in NUMBER_WORDS or words[j + 2] in MEASURES or _is_plural(words[j + 2]):
        return None
    start = i - (minute == 15 and words[i - 1] == "a")
    if word == "to":
        if minute == 30 or (
            minute != 15 and not (words[i - 1] in ("at", "it's", "until", "till") and words[j + 2] in AFTER_TIME)
        ):
            return None
        hour, minute = (hour - 2) % 12 + 1, 60 - minute
    elif word != "past" and not (word == "after" and minute == 15):
        return None
    suffix, end = _half_day(words, j + 2)
    return Number(start, end or j + 2, f"{hour}:{minute}".replace(":5", ":05" if minute == 5 else ":5") + suffix)


def _year(words: Words, i: int, sure: bool = False) -> tuple[int, int] | None:
    """Year and end: "nineteen eighty four", "two thousand and eight"; `sure` beside a month."""
    before = words[i - 1]
    after_in = sure or before in YEAR_AFTER
    loose = after_in or before in (
        "the",
        "of",
        "from",
        "to",
        "and",
        "or",
        "between",
        "around",
        "than",
        "for",
        "that",
        "this",
    )
    if words[i : i + 2] == ["two", "thousand"]:
        rest = _below_hundred(words, i + 2 + (words[i + 2] == "and"))
        if rest is None or words[rest[1]] in NUMBER_WORDS - ONES.keys():
            bare = words[i + 2] not in NUMBER_WORDS and words[i + 2] in AFTER_TIME - {"or", "to"}
            return (2000, i + 2) if (after_in or before == "year") and bare else None
        is_count = words[rest[1]] in MEASURES or (_is_plural(words[rest[1]]) and not loose) or rest[0] > 50
        return None if is_count and not sure else (2000 + rest[0], rest[1])
    century = TEENS.get(words[i]) or (20 if words[i] == "twenty" else 0)
    if words[i + 1] == "hundred":
        rest = _below_hundred(words, i + 2 + (words[i + 2] == "and"))
        value, end = (century * 100 + rest[0], rest[1]) if rest else (century * 100, i + 2)
        return (value, end) if century > 10 and after_in and not _counts(words[end]) else None
    if words[i + 1] in OH and words[i + 2] in ONES:
        year, end = century * 100 + ONES[words[i + 2]], i + 3
        return (year, end) if century > 12 or (century and after_in) else None
    below = _below_hundred(words, i + 1)
    if not century or below is None or below[0] < 10:
        return None
    last, end = below
    if words[end] == "of" and last % 10 == 1 and last > 20:
        last, end = last - 1, end - 1  # "in twenty twenty one of them"
    if (
        words[end] in MEASURES
        or words[end] in SCALES
        or words[end] == "hundred"
        or (_counts(words[end]) and not after_in)
    ):
        return None
    alone = (century >= 16 or last > 59) and not century < last <= century + 4 and (century, last % 10) != (20, 0)
    alone |= century == 20 and last == 20
    known = century >= 13 or last > 59 or before in ("in", "year", "since")
    return (
        (century * 100 + last, end)
        if century > 12 and alone or known and (after_in or loose and century > 15)
        else None
    )


def _counts(word: str) -> bool:
    return word in MEASURES or _is_plural(word)


def _plain_year(words: Words, i: int) -> Number | None:
    """A year, a decade ("nineteen sixties"), '69 after a season; with the month before it."""
    century = TEENS.get(words[i]) or (20 if words[i] == "twenty" else 0)
    if century > 10 and words[i + 1] in DECADES:
        return Number(i, i + 2, f"{century * 100 + DECADES[words[i + 1]]}s")
    if words[i - 1] == "of" and words[i - 2] in ("summer", "winter", "spring", "autumn", "class") and words[i] in TENS:
        value, end = _below_hundred(words, i) or (0, i)
        return None if words[end] in NUMBER_WORDS or _counts(words[end]) else Number(i, end, f"'{value}")
    month = words[i - 1] in MONTHS
    found = _year(words, i, sure=month)
    if found is None:
        return None
    return Number(i - month, found[1], f"{words[i - 1].capitalize()} {found[0]}" if month else str(found[0]))


def _ordinal(words: Words, i: int) -> tuple[int, int] | None:
    """Value and end of an ordinal number: "third", "hundred and first", "twenty second", "two hundredth"."""
    if words[i] in ORDINALS:
        return ORDINALS[words[i]], i + 1
    cardinal = _cardinal(words, i)
    if cardinal is None:
        return None
    value, end = cardinal
    if words[end] in POWERS and value < POWERS[words[end]]:
        return value * POWERS[words[end]], end + 1
    end += words[end] == "and" and value % 100 == 0
    last = ORDINALS.get(words[end], 0)
    fits = last and value >= 20 and value % (10 if last < 10 else 100) == 0
    return (value + last, end + 1) if fits else None


def _ordinal_text(value: int) -> str:
    return f"{value:,}" + ("th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th"))


def _date(words: Words, i: int) -> Number | None:
    """ "the third of may", "may the third", "may third nineteen eighty four", "seven january twenty twenty"."""
    day = _ordinal(words, i)
    text = _ordinal_text(day[0]) if day else ""
    if day is None and (day := _below_hundred(words, i)):
        text = str(day[0])
    if day is None or day[0] > 31:
        return None
    end = day[1]
    is_ordinal = not text.isdigit()
    the = words[i - 1] == "the"
    start = i - the - 1
    month = words[start]
    if month in MONTHS and (is_ordinal or not the):
        year = _year(words, end, sure=True)
        certain = year or words[start - 1] in DAY_AFTER or (is_ordinal and month not in VERBS)
        if month in VERBS and is_ordinal and not certain:
            certain = words[start - 1] not in SUBJECTS and words[end] in AFTER_TIME
        if not certain or (not is_ordinal and not year and words[end] not in AFTER_TIME):
            return None
        return Number(start, year[1] if year else end, f"{month.capitalize()} {text}" + (f" {year[0]}" if year else ""))
    of = is_ordinal and words[end] == "of"
    month = words[end + of]
    if month not in MONTHS:
        return None
    year = _year(words, end + of + 1, sure=True)
    if not (
        of
        or year
        or words[i - 1] in DAY_AFTER
        and (month not in VERBS or is_ordinal)
        or (is_ordinal and month not in VERBS)
    ):
        return None
    text += f"{' of' * of} {month.capitalize()}"
    return Number(i, year[1], f"{text} {year[0]}") if year else Number(i, end + of + 1, text)


def _percent(words: Words, i: int) -> Number | None:
    """ "three and a half percent", "five to ten per cent", "a hundred percent"."""
    found = _span(words, i)
    if not found or not found[0] or not (end := _percent_end(words, found[0][-1].end)):
        return None
    return Number(i, end, f" {found[1]} ".join(f"{amount.text}%" for amount in found[0]))


def _money(words: Words, i: int) -> Number | None:
    """ "twenty five dollars and fifty cents", "two pounds fifty", "five to ten euros", "fifty pence"."""
    found = _span(words, i)
    if not found or not found[0]:
        return None
    amounts, joint = found
    end = amounts[-1].end
    unit, value = words[end], amounts[-1].value
    if unit == "cents":
        return (
            Number(i, end, f" {joint} ".join(amount.text for amount in amounts)) if words[i - 1] not in OWNERS else None
        )
    if unit == "pence":
        return Number(i, end + 1, f" {joint} ".join(amount.text for amount in amounts) + "p")
    sign = CURRENCIES.get(unit)
    if sign is None or (sign == "£" and _is_weight(words, i, end, value)):
        return None
    if words[i] == "a" and (unit in ("dollar", "pound", "euro") or words[i - 1] == "like"):
        if words[i - 1] == "like":
            return None
        i += 1  # a $100 bill
    text = f" {joint} ".join(sign + amount.text for amount in amounts)
    end += 1
    cents = _below_hundred(words, end + (words[end] == "and"))
    if cents and "." not in text and text[-1].isdigit():
        if words[cents[1]] in ("cent", "cents", "pence"):
            return Number(i, cents[1] + 1, f"{text}.{cents[0]:02}")
        if (
            cents[0] >= 10
            and words[end] != "and"
            and words[cents[1]] not in NUMBER_WORDS
            and not _counts(words[cents[1]])
        ):
            return Number(i, cents[1], f"{text}.{cents[0]}")
    return Number(i, end, text)


def _is_weight(words: Words, i: int, end: int, value: float) -> bool:
    """Whether pounds are of weight, or may be."""
    if words[end] == "pound":
        return value != 1 and words[end + 1] not in ("note", "notes", "coin", "fine")
    after = words[end + 1]
    of_goods = after == "of" and words[end + 2] not in (
        "public",
        "taxpayers",
        "government",
        "debt",
        "investment",
        "savings",
    )
    return of_goods or after in ("overweight", "heavier", "lighter") or not WEIGHED.isdisjoint(words[max(i - 4, 0) : i])


def _plain_ordinal(words: Words, i: int) -> Number | None:
    """From "tenth" on; "twenty second" only where it cannot be a time of twenty seconds, fractions never."""
    found = _ordinal(words, i)
    if found is None or found[0] < 10:
        return None
    value, end = found
    before, after = words[i - 1], words[end]
    part = after == "of" and words[end - 1] in POWERS or (after in ("of", "the", "as") and before == "a")
    if part or before in NUMBER_WORDS:
        return Number(i, end, "")
    if words[end - 1] == "second" and value < 100:
        if before not in ("the", "his", "her", "their", "my", "our", "on") or not (
            after in AFTER_TIME or after in NAMED_BY_ORDINAL
        ):
            return None if before in ("a", "every", "this", "that", "another", "each") else Number(i, end, "")
    return Number(i, end, _ordinal_text(value))


def _count(words: Words, i: int) -> Number | None:
    """Other quantities; from one to nine only beside a larger one ("five to ten"), as a decimal or as a name ("page five")."""
    found = _span(words, i)
    if not found:
        return None
    amounts, joint = found
    if not amounts:
        return Number(i, _run_end(words, (_amount(words, i) or Amount(0, i, "")).end + 1), "")
    first, last = amounts[0], amounts[-1]
    end, after, before = last.end, words[last.end], words[i - 1]
    negative = before in ("minus", "negative") and words[i - 2] not in NUMBER_WORDS
    if after in ("something", "odd") or words[i] == "point" and (before in NO_POINT or after not in MEASURES):
        return Number(i, end, "")
    if before == "and" and words[i - 2] in ONES and words[i] in TENS and words[i - 3] != "between":
        return Number(i, end, "")  # four and twenty
    if (
        words[i] == "a"
        and end == i + 2
        and not joint
        and (not _counts(after) or words[i + 1] != "hundred" and after not in MEASURES | PEOPLE)
    ):
        if not (words[i + 1] == "thousand" and _counts(after)):
            return None
    small = all(
        amount.end - start == 1 and amount.value < 10
        for amount, start in zip(amounts, (i, first.end + 1), strict=False)
    )
    if negative:
        return Number(i - 1, first.end, f"−{first.text}") if not joint or words[first.end + 1] == "minus" else None
    if _is_labelled(words, i) and not _counts(after) and not (before == "number" and words[i] == "one"):
        return Number(i, end, f" {joint} ".join(amount.text.replace(",", "") for amount in amounts))
    return None if small else Number(i, end, f" {joint} ".join(amount.text for amount in amounts))


KINDS: tuple[Callable[[Words, int], Number | None], ...] = (
    _clock, _digits, _date, _plain_year, _percent, _money, _plain_ordinal, _count,
)  # fmt: skip
TRIGGERS = NUMBER_WORDS | ORDINALS.keys() | DIGITS.keys() | _set("half quarter double triple point")
