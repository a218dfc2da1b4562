"""Numbers in recognized English words as people write them: "twenty five dollars" → $25, "half past two" → 2:30.

What is not sure stays spelled out: counts from one to nine, fractions, neighbors that can be read in two ways ("two
fifty", "fifteen twenty minutes"). The grammar is our own: text2num 3.1 reads cardinals only, joins neighbors ("five
hundred and six hundred" → 506 100), splits years ("19 84") and takes 10 ms to import.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from asr.output.quantities import (
    CURRENCIES,
    DIGITS,
    LARGE,
    NUMBER_WORDS,
    OH,
    ONES,
    ORDINALS,
    PAD,
    POWERS,
    TEENS,
    TENS,
    Amount,
    Words,
    amount,
    below_hundred,
    ordinal,
    percent_end,
    span,
    table,
    word_set,
)


@dataclass(frozen=True)
class Number:
    """The words [start:end] are written as `text`."""

    start: int
    end: int
    text: str


MONTHS = word_set("january february march april may june july august september october november december")
VERBS = word_set("may march")  # months that are more often another word
HOURS = {word: hour for word, hour in (ONES | TEENS).items() if hour <= 12}
CENTURIES = TEENS | {"twenty": 20}
DECADES = table("tens twenties thirties forties fifties sixties seventies eighties nineties", 10, 10) | {"hundreds": 0}

REPEATS = {"double": 2, "triple": 3}

# What stands before a year (alone, or before other things too), a time and a day.
IN = word_set("in since year by until till before after during circa early late mid spring summer autumn fall winter")
NEAR = word_set("the of from to and or between around than for that this")
AT = word_set("by until till before after around from since about to it's")
ON = word_set("on of until till from to by since before after through between and dated")
SEASONS = word_set("summer winter spring autumn class")
SUBJECTS = word_set("i you he she it we they who this that which people one")
OWNERS = word_set("my your his her their our")  # "my two cents", "her twenty second birthday"
# Names that end in a number, and what is read digit by digit.
LABELS = word_set(
    "page chapter number paragraph section appendix slide item line question option volume tab grade phase tier level "
    "version release issue bullet exhibit table type clause module rule room flight gate channel runway row platform "
    "route highway bus"
)
PLACES = word_set("room flight gate channel runway row platform route highway bus")
LISTED = word_set(
    "pages chapters paragraphs sections slides items lines questions steps rows tables clauses rooms issues modules"
)
CALLED = LABELS | word_set("extension code pin zip call dial text boeing number's code's")
EXCLAIMED = word_set(
    "no yes well my god dear yeah wait i that the and sorry right okay"
)  # "oh" before them is no digit

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
    "thanks pardons apologies onwards towards afterwards always sometimes"
)
FOLLOWING = {"", ","} | word_set(
    "and but on in to for when so because then the this that tomorrow today tonight yesterday every we i he she they "
    "you it is was if until till as eastern pacific central sharp exactly please maybe monday tuesday wednesday "
    "thursday friday saturday sunday with at from by"
)
RANKED = word_set("of century anniversary birthday amendment floor day year street psalm edition")
WEIGHED = word_set(
    "weigh weighs weighed weighing lost lose losing loses gained gain gaining shed lift lifting lifted bench"
)
PAID = word_set("public taxpayers government debt investment savings cash money")  # pounds of these are money


def find_numbers(words: Sequence[str], breaks: Collection[int] = ()) -> list[Number]:
    """Numbers in order, never overlapping.

    Args:
        words: As spoken, in lower case and without marks ("twenty", "o'clock", "may").
        breaks: Indices i such that a mark of a sentence or clause follows words[i]; no number goes across one.
    """
    if TRIGGERS.isdisjoint(words):
        return []
    marked: Words = []
    position: list[int] = []  # of each word of `marked` in `words`
    for index, word in enumerate(words):
        marked.append(word)
        position.append(index)
        if index in breaks:
            marked.append(",")
            position.append(index + 1)
    marked += PAD
    numbers: list[Number] = []
    i = done = 0
    while i < len(position):
        found = _number_at(marked, i, done)
        if found and found.text:
            numbers.append(Number(position[found.start], position[found.end - 1] + 1, found.text))
            done = found.end
        i = found.end if found else i + 1
    return numbers


def _number_at(words: Words, i: int, done: int) -> Number | None:
    """The number that word i belongs to and that begins at `done` or later; without text: words that stay spelled."""
    if words[i] not in TRIGGERS:
        return None
    start = i
    if (
        words[i] in LARGE
    ):  # "a hundred", "the hundred and first", "hundred percent"; not "half a million", "few hundred"
        start -= words[i - 1] == "a"
        bare = start == i and not (words[i - 1] == "the" and words[i + 1] == "and") and not percent_end(words, i + 1)
        if bare or words[start - 1] in ("half", "of"):
            return Number(i, _run_end(words, i), "")
    for kind in KINDS:
        found = kind(words, start)
        if found and found.start >= done:
            return found
    return Number(i, _run_end(words, i), "")


def _run_end(words: Words, i: int) -> int:
    """End of the number words from i: where one of them cannot be read, those beside it stay spelled out too."""
    i += 1
    while words[i - 1] in NUMBER_WORDS:
        after = i + (words[i] == "and" and words[i - 1] in LARGE)
        if words[after] not in NUMBER_WORDS:
            break
        i = after + 1
    return i


def _is_counted(word: str) -> bool:
    plural = len(word) > 3 and word[-1] == "s" and word[-2] != "s" and word not in SINGULAR
    return plural or word in MEASURES or word in PEOPLE


# ------------------------------------------------------------------ kinds: the Number that begins at word i or holds it


def _digits(words: Words, i: int) -> Number | None:
    """Four digits or more ("oh five five five one two three"); fewer where sure: double o seven, room two oh five."""
    text, j, singles = "", i, 0
    sure = False
    while True:
        repeat = REPEATS.get(words[j], 1)
        at = j + (repeat > 1)
        if words[at] in DIGITS and (words[at] not in OH or words[at + 1] not in EXCLAIMED):
            sure |= repeat > 1 or words[at] == "zero"
            text, j, singles = text + str(DIGITS[words[at]]) * repeat, at + 1, singles + repeat
        elif words[j] == "hundred" and len(text) in (1, 2) and words[j + 1] in DIGITS | REPEATS:  # 800 numbers
            text, j, singles = text + "00", j + 1, singles + 2
        elif text and (below := below_hundred(words, j)):  # "five five five twelve twelve"
            text, j = text + str(below[0]), below[1]
        else:
            break
    if words[j] in LARGE or words[j] == "point" or percent_end(words, j) or words[j] in CURRENCIES:
        return None
    label = _label(words, i)
    if "hundred" in words[i:j]:
        sure = len(text) >= 7
    elif singles == len(text):
        counting = text in "123456789" or text in "987654321" or label in LISTED
        sure = (singles >= 4 + (words[i] == "oh") and not counting) or (
            singles == 3 and (sure or text in ("911", "999"))
        )
    else:
        sure = singles >= 3 and len(text) in (7, 10, 11) and not text.startswith("1234")
    sure |= (
        label in CALLED and words[i] in ONES and 3 - (label in PLACES) <= len(text) <= 4 and "hundred" not in words[i:j]
    )
    return Number(i, j, text) if sure else None


def _label(words: Words, i: int) -> str:
    """The word that names the number at i: "page five", "pages five to seven", "my extension is four four two"."""
    if words[i - 1] in ("is", "was", "in"):
        return next((word for word in words[max(i - 4, 0) : i - 1] if word in CALLED and words[i] not in LARGE), "")
    j = i
    while words[j - 1] in ("to", "and", "or", "through", ","):
        ends = j - 1 - (words[j - 2] == ",")
        j = ends
        while words[j - 1] in NUMBER_WORDS:
            j -= 1
        if (amount(words, j) or Amount(0, 0, "")).end != ends:
            return ""
        if words[j - 1] in LISTED:
            return words[j - 1]
    return words[i - 1]


def _clock(words: Words, i: int) -> Number | None:
    """ "half past two", "ten thirty a m", "at twenty to five", "at seven forty five" where no noun follows."""
    if words[i] in ("half", "quarter"):
        return _clock_past(words, i, 30 if words[i] == "half" else 15, i + 1)
    below = below_hundred(words, i)
    if below and below[0] in (5, 10, 20, 25) and (past := _clock_past(words, i, *below)):
        return past
    hour = HOURS.get(words[i])
    if hour is None:
        return None
    if words[i + 1] == "o'clock":
        return Number(i, i + 1, str(hour))
    if half := _half_day(words, i + 1):
        return Number(i, half[1], f"{hour}{half[0]}")
    if words[i + 1] in ("to", "or", "and") and words[i + 2] in HOURS and (half := _half_day(words, i + 3)):
        return Number(i, half[1], f"{hour} {words[i + 1]} {HOURS[words[i + 2]]}{half[0]}")
    minute, end = below_hundred(words, i + 1) or (0, i)
    if words[i + 1] in OH and words[i + 2] in ONES:
        minute, end = ONES[words[i + 2]], i + 3
    elif not 10 <= minute < 60:
        return None
    text = f"{hour}:{minute:02}"
    if half := _half_day(words, end):
        return Number(i, half[1], text + half[0])
    after = words[end]
    common = minute % 15 == 0 or minute < 10
    sure = words[i - 1] == "at" and not (_is_counted(after) or after in {"a", "an", "each", "point"} | NUMBER_WORDS)
    sure |= words[i - 1] in AT and common and after in FOLLOWING
    sure |= words[end : end + 2] == ["in", "the"] and words[end + 2] in ("morning", "afternoon", "evening")
    sure |= common and after in ("train", "bus", "flight", "ferry", "showing")
    return Number(i, end, text) if sure else None


def _half_day(words: Words, i: int) -> tuple[str, int] | None:
    """ " a.m." or " p.m." and its end. Recognizers write "a m" and "am"."""
    if words[i] in ("a", "p") and words[i + 1] == "m":
        return f" {words[i]}.m.", i + 2
    alone = (
        words[i] in ("am", "pm")
        and words[i + 1] not in ("i", "not")
        and (words[i - 1] != "one" or words[i - 2] == "at")
    )
    return (f" {words[i][0]}.m.", i + 1) if alone else None


def _clock_past(words: Words, i: int, minute: int, j: int) -> Number | None:
    """The time whose minutes are words i to j, and which goes on with "past", "after" or "to"."""
    j += words[j] == "minutes"
    hour, after = HOURS.get(words[j + 1]), words[j + 2]
    if hour is None or after in NUMBER_WORDS or _is_counted(after):
        return None
    if words[j] == "to" and minute != 30:
        before = words[i - 1] in ("at", "it's", "until", "till", "by", "nearly", "almost") and after in FOLLOWING
        if minute != 15 and not before:
            return None
        hour, minute = (hour - 2) % 12 + 1, 60 - minute
    elif words[j] != "past" and not (words[j] == "after" and minute == 15):
        return None
    half, end = _half_day(words, j + 2) or ("", j + 2)
    return Number(i - (minute % 30 == 15 and words[i - 1] == "a"), end, f"{hour}:{minute:02}{half}")


def _year(words: Words, i: int, sure: bool = False) -> tuple[int, int] | None:
    """Year and end: "nineteen eighty four", "two thousand and eight"; `sure` beside a month."""
    before = words[i - 1]
    sure |= before in IN
    near = sure or before in NEAR
    century = CENTURIES.get(words[i], 0)
    if words[i : i + 2] == ["two", "thousand"] or (century > 10 and words[i + 1] == "hundred"):
        century = century or 20
        last, end = below_hundred(words, i + 2 + (words[i + 2] == "and")) or (0, i + 2)
        if words[end] in LARGE:
            last, end = 0, i + 2  # "two thousand and two thousand five"
        after = words[end]
        if last:
            known = sure or (
                (century == 20 or century > 15) and last <= 50 + century and (near or not _is_counted(after))
            )
            known &= after not in MEASURES and after not in TEENS.keys() | TENS.keys()
        else:
            known = (sure and after in FOLLOWING) or (near and after in ("to", "and") and bool(_year(words, end + 1)))
    elif words[i + 1] in OH and words[i + 2] in ONES:
        last, end = ONES[words[i + 2]], i + 3
        known = century > 12 or sure
    else:
        last, end = below_hundred(words, i + 1) or (0, i)
        if words[end] == "of" and last % 10 == 1 and last > 20:
            last, end = last - 1, end - 1  # "in twenty twenty one of them"
        known = last > 9 and words[end] not in MEASURES and (sure or not _is_counted(words[end]))
        # "fifteen twenty", "eighteen nineteen" may be counts.
        alone = last > 59 or (
            century > 15 and (end == i + 3 or not century < last <= century + 4 + 60 * (century == 20))
        )
        known &= (
            (century > 12 and (alone or sure)) or (century > 15 and near) or (before in ("in", "since") and last > 0)
        )
    known &= words[end] not in LARGE and ordinal(words, i) is None
    return (century * 100 + last, end) if century and known else None


def _plain_year(words: Words, i: int) -> Number | None:
    """A year, also after its month; a decade ("nineteen sixties"); '69; "twenty fifteen sixteen"."""
    if CENTURIES.get(words[i], 0) > 10 and words[i + 1] in DECADES:
        return Number(i, i + 2, f"{CENTURIES[words[i]] * 100 + DECADES[words[i + 1]]}s")
    if words[i : i + 2] == ["two", "thousands"]:
        return Number(i, i + 2, "2000s")
    last, end = below_hundred(words, i) or (0, i)
    season = words[i - 1] == "of" and words[i - 2] in SEASONS and words[end] not in NUMBER_WORDS
    if (
        last > 20
        and not _is_counted(words[end])
        and (season or (words[i - 1] in ("in", "since") and words[end] in FOLLOWING and end == i + 2))
    ):
        return Number(i, end, f"'{last}")
    month = words[i - 1] in MONTHS
    found = _year(words, i, sure=month)
    if found is None:
        return None
    year, end = found
    if words[i:end] == ["twenty", "twenty"] and (words[end] == "vision" or "hindsight" in words[max(i - 3, 0) : i]):
        return Number(i, end, "20/20")
    last, last_end = below_hundred(words, end) or (0, end)
    if last == (year + 1) % 100 and last > 9 and words[last_end] in FOLLOWING:
        return Number(i, last_end, f"{year}/{last}")
    return Number(i - month, end, f"{words[i - 1].capitalize()} {year}" if month else str(year))


def _date(words: Words, i: int) -> Number | None:
    """ "the third of may", "may the third", "may third nineteen eighty four", "seven january twenty twenty"."""
    ranked = ordinal(words, i)
    day, end = ranked or below_hundred(words, i) or (0, i)
    if not 1 <= day <= 31:
        return None
    text = _ordinal_text(day) if ranked else str(day)
    start = i - 1 - (words[i - 1] == "the" and ranked is not None)
    month, after = words[start], words[end]
    if month in MONTHS:  # may third
        year, year_end = _year(words, end, sure=True) or (0, end)
        sure = year or (words[start - 1] in ON and (ranked or after in FOLLOWING))
        if ranked and not sure:
            sure = month not in VERBS or (words[start - 1] not in SUBJECTS and after in FOLLOWING)
        text = f"{month.capitalize()} {text}"
    else:  # third of may, seven january
        start, of = i, ranked is not None and after == "of"
        month = words[end + of]
        if month not in MONTHS:
            return None
        year, year_end = _year(words, end + of + 1, sure=True) or (0, end + of + 1)
        sure = of or year or (ranked and month not in VERBS) or (words[i - 1] in ON and (ranked or month not in VERBS))
        text += f"{' of' * of} {month.capitalize()}"
    return Number(start, year_end, f"{text} {year}" if year else text) if sure else None


def _measured(words: Words, i: int) -> Number | None:
    """ "three and a half percent", "twenty five dollars and fifty cents", "two pounds fifty", "five to ten euros"."""
    amounts, joint = span(words, i) or ([], "")
    if words[i - 1] in ("dollar", "pound", "euro") and words[i - 2] == "a":  # a dollar fifty
        value, end = below_hundred(words, i) or (0, i)
        sure = value > 9 and words[end] not in NUMBER_WORDS and not _is_counted(words[end])
        return Number(i - 2, end, f"{CURRENCIES[words[i - 1]]}1.{value}") if sure else None
    if not amounts:
        return None
    end = amounts[-1].end
    unit = words[end]
    if percent := percent_end(words, end):
        return Number(i, percent, f" {joint} ".join(f"{amount.text}%" for amount in amounts))
    if unit in ("cents", "pence") and words[i - 1] not in OWNERS:
        text = f" {joint} ".join(amount.text for amount in amounts)
        return Number(i, end, text) if unit == "cents" else Number(i, end + 1, text + "p")
    sign = CURRENCIES.get(unit)
    if sign is None or (sign == "£" and _is_weight(words, i, amounts[-1])) or words[i - 1 : i + 1] == ["like", "a"]:
        return None
    i += words[i] == "a" and unit in ("dollar", "pound", "euro")  # a $100 bill
    texts = [sign + amount.text + "0" * (amount.text[-2:-1] == ".") for amount in amounts]
    text = f" {joint} ".join(texts)
    end += 1
    cents, cents_end = below_hundred(words, end + (words[end] == "and")) or (0, end)
    if cents and text[1:].replace(",", "").isdigit():
        if words[cents_end] in ("cent", "cents", "pence", "penny"):
            return Number(i, cents_end + 1, f"{text}.{cents:02}")
        if (
            cents > 9
            and words[end] != "and"
            and words[cents_end] not in NUMBER_WORDS
            and not _is_counted(words[cents_end])
        ):
            return Number(i, cents_end, f"{text}.{cents}")
    return Number(i, end, text)


def _is_weight(words: Words, i: int, last: Amount) -> bool:
    """Whether pounds are of weight, or may be."""
    after = words[last.end + 1]
    if words[last.end] == "pound":
        return last.value != 1 and after not in ("note", "notes", "coin", "fine")
    of_goods = after == "of" and words[last.end + 2] not in PAID
    return of_goods or after in ("overweight", "heavier", "lighter") or not WEIGHED.isdisjoint(words[max(i - 4, 0) : i])


def _ordinal_text(value: int) -> str:
    return f"{value:,}" + ("th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th"))


def _plain_ordinal(words: Words, i: int) -> Number | None:
    """From "tenth" on; "twenty second" only where it cannot be a time of twenty seconds; no fractions."""
    value, end = ordinal(words, i) or (0, i)
    if value < 10:
        return None
    before, after = words[i - 1], words[end]
    fraction = (after == "of" and words[end - 1] in POWERS) or (after in ("of", "the", "as") and before == "a")
    if words[end - 1] == "second" and value < 100:
        if before in ("a", "every", "this", "that", "another", "each"):
            return None
        fraction |= before not in {"the", "on", *OWNERS} or not (after in FOLLOWING or after in RANKED)
    return Number(i, end, "" if fraction or before in NUMBER_WORDS else _ordinal_text(value))


def _count(words: Words, i: int) -> Number | None:
    """Other quantities; from one to nine only beside a larger one ("five to ten"), as decimal or name ("page five")."""
    found = span(words, i)
    if found is None:
        return None
    amounts, joint = found
    if not amounts:
        first = amount(words, i)
        return Number(i, _run_end(words, first.end + 1 if first else i), "")
    end, after, before = amounts[-1].end, words[amounts[-1].end], words[i - 1]
    text = f" {joint} ".join(amount.text for amount in amounts)
    some = after in ("something", "odd") and words[end - 1] in TENS.keys() | LARGE  # thirty something
    if some or (words[i] == "point" and after not in MEASURES):
        return Number(i, end, "")
    if before == "and" and words[end - 1] in TENS and words[i - 2] in ONES and words[i - 3] not in {"between", *TENS}:
        return Number(i, end, "")  # four and twenty
    if before in ("feet", "foot"):
        return None  # five feet eleven
    if words[i] == "a" and end == i + 2 and not (_is_counted(after) and words[i - 1] != "in"):
        return None  # a hundred times
    if before in ("minus", "negative") and words[i - 2] not in NUMBER_WORDS:
        return Number(i - 1, amounts[0].end, f"−{amounts[0].text}")
    if after in ("k", "x"):
        return Number(i, end + 1, text + after)
    label = _label(words, i)
    if (
        (label in LABELS or label in LISTED)
        and after not in MEASURES | PEOPLE
        and words[i - 1 : i + 1] != ["number", "one"]
    ):
        return Number(i, end, text if amounts[-1].value >= 10_000 else text.replace(",", ""))
    small = all(len(amount.text) == 1 for amount in amounts)
    return None if small else Number(i, end, text)


KINDS: tuple[Callable[[Words, int], Number | None], ...] = (
    _clock, _digits, _date, _plain_year, _measured, _plain_ordinal, _count,
)  # fmt: skip
TRIGGERS = NUMBER_WORDS | ORDINALS.keys() | DIGITS.keys() | word_set("half quarter double triple point")
