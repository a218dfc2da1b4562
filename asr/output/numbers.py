"""Numbers in recognized English words as people write them: "twenty five dollars" → $25, "half past two" → 2:30.

What is not sure stays spelled out: counts from one to nine, fractions, neighbors that can be read in two ways ("two
fifty", "fifteen twenty minutes"). The grammar is our own: text2num 3.1 reads cardinals only, joins neighbors ("five
hundred and six hundred" → 506 100), splits years ("19 84") and takes 10 ms to import.
"""

from collections.abc import Callable, Collection, Sequence

from asr.output.dates import clock, date, year
from asr.output.quantities import (
    CURRENCIES,
    DIGITS,
    FOLLOWING,
    LARGE,
    MEASURES,
    NUMBER_WORDS,
    OH,
    ONES,
    ORDINALS,
    PAD,
    PEOPLE,
    POWERS,
    SCALES,
    TENS,
    Amount,
    Number,
    Words,
    amount,
    below_hundred,
    is_counted,
    ordinal,
    ordinal_text,
    percent_end,
    span,
    word_set,
)

OWNERS = word_set("my your his her their our")  # "my two cents", "her twenty second birthday"
REPEATS = {"double": 2, "triple": 3}
UPWARD = "123456789"  # digits in this order are counting, not a code or a telephone number
LIST_WORDS = 20  # at most from "pages" to the last number of its list
# Names that end in a number, and what is read digit by digit.
PLACES = word_set("room flight gate channel runway row platform route highway bus")
LABELS = PLACES | word_set(
    "page chapter number paragraph section appendix slide item line question option volume tab grade phase tier level "
    "version release issue bullet exhibit table type clause module rule"
)
LISTED = word_set(
    "pages chapters paragraphs sections slides items lines questions steps rows tables clauses rooms issues modules"
)
CALLED = LABELS | word_set("extension code pin zip call dial text boeing number's code's")
# "oh" before these is no digit, "twenty second" before those no time, pounds after those are no money.
EXCLAIMED = word_set("no yes well my god dear yeah wait i that the and sorry right okay")
RANKED = FOLLOWING | word_set("of president century anniversary birthday amendment floor day year street psalm edition")
WEIGHED = word_set("weigh weighs weighed weighing lost lose losing loses gained gain gaining shed lift lifting lifted")
PAID = word_set("public taxpayers government debt investment savings cash money")  # pounds of these are money


def find_numbers(words: Sequence[str], breaks: Collection[int] = ()) -> list[Number]:
    """Numbers in order, never overlapping.

    Args:
        words: As spoken, in lower case and without marks ("twenty", "o'clock", "may").
        breaks: Indices i such that a mark of a sentence or clause follows words[i]; no number goes across one.
    """
    if TRIGGERS.isdisjoint(words):
        return []
    marks = set(breaks)
    marked: Words = []
    position: list[int] = []  # of each word of `marked` in `words`
    for index, word in enumerate(words):
        marked.append(word)
        position.append(index)
        if index in marks:
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
    if words[i] in LARGE:  # "a hundred", "the hundred and first"; not "half a million", "few hundred"
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


# ------------------------------------------------------------------ kinds: the Number that begins at word i or holds it


def _digits(words: Words, i: int) -> Number | None:
    """Four digits or more ("oh five five five one two three"); fewer where sure: double o seven, room two oh five."""
    text, j, singles, sure = "", i, 0, False
    while True:
        repeat = REPEATS.get(words[j], 1)
        at = j + (repeat > 1)
        if words[at] in DIGITS and (words[at] not in OH or words[at + 1] not in EXCLAIMED):
            sure |= repeat > 1 or words[at] == "zero"
            text, j, singles = text + str(DIGITS[words[at]]) * repeat, at + 1, singles + repeat
        elif words[j] == "hundred" and len(text) in (1, 2) and words[j + 1] in DIGITS | REPEATS:  # 800 numbers
            text, j, singles = text + "00", j + 1, singles - 99
        elif text and (below := below_hundred(words, j)):  # "five five five twelve twelve"
            text, j = text + str(below[0]), below[1]
        else:
            break
    if words[j] in LARGE or words[j] == "point" or percent_end(words, j) or words[j] in CURRENCIES:
        return None
    label = _label(words, i)
    named = label in CALLED and words[i] in ONES and singles >= 0 and 3 - (label in PLACES) <= len(text) <= 4
    if singles < 0:
        sure = len(text) >= 7
    elif singles < len(text):
        sure = singles >= 3 and len(text) in (7, 10, 11) and text[:4] not in UPWARD
    elif singles == 3:
        sure |= text in ("911", "999")
    else:
        listed = text in UPWARD or text in UPWARD[::-1] or label in LISTED
        sure = singles >= 4 + (words[i] == "oh") and not listed
    return Number(i, j, text) if sure or named else None


def _label(words: Words, i: int) -> str:
    """The word that names the number at i: "page five", "pages five to seven", "my extension is four four two"."""
    if words[i - 1] in ("is", "was", "in"):
        return next((word for word in words[max(i - 4, 0) : i - 1] if word in CALLED), "")
    j = i
    while words[j - 1] in ("to", "and", "or", "through", ",") and j > i - LIST_WORDS:
        ends = j - 1 - (words[j - 2] == ",")
        j = ends
        while words[j - 1] in NUMBER_WORDS:
            j -= 1
        listed = amount(words, j)
        if listed is None or listed.end != ends:
            return ""
        if words[j - 1] in LISTED:
            return words[j - 1]
    return words[i - 1]


def _measured(words: Words, i: int) -> Number | None:
    """Percent and money: "five to ten percent", "twenty five dollars and fifty cents", "two pounds fifty"."""
    amounts, joint = span(words, i) or ([], "")
    if words[i - 1] in ("dollar", "pound", "euro") and words[i - 2] == "a":  # a dollar fifty
        value, end = below_hundred(words, i) or (0, i)
        sure = value > 9 and words[end] not in NUMBER_WORDS and not is_counted(words[end])
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
    scale = words[end - 1]
    if scale in SCALES and scale != "thousand" and amounts[0].value < amounts[-1].value / SCALES[scale]:
        texts[0] += f" {scale}"  # one to two million
    text = f" {joint} ".join(texts)
    end += 1
    cents, cents_end = below_hundred(words, end + (words[end] == "and")) or (0, end)
    if cents and text[1:].replace(",", "").isdigit():
        if words[cents_end] in ("cent", "cents", "pence", "penny"):
            return Number(i, cents_end + 1, f"{text}.{cents:02}")
        bare = words[end] != "and" and words[cents_end] not in NUMBER_WORDS and not is_counted(words[cents_end])
        if cents > 9 and bare:
            return Number(i, cents_end, f"{text}.{cents}")
    return Number(i, end, text)


def _is_weight(words: Words, i: int, last: Amount) -> bool:
    """Whether pounds are of weight, or may be."""
    after = words[last.end + 1]
    if words[last.end] == "pound":
        return last.value != 1 and after not in ("note", "notes", "coin", "fine")
    of_goods = after == "of" and words[last.end + 2] not in PAID
    return of_goods or after in ("overweight", "heavier", "lighter") or not WEIGHED.isdisjoint(words[max(i - 4, 0) : i])


def _ordinal(words: Words, i: int) -> Number | None:
    """From "tenth" on; "twenty second" only where it cannot be a time of twenty seconds; no fractions."""
    value, end = ordinal(words, i) or (0, i)
    if value < 10:
        return None
    before, after = words[i - 1], words[end]
    fraction = after == "of" and (words[end - 1] in POWERS or words[end + 1] == "a")
    fraction |= after in ("of", "the", "as") and before == "a"
    if words[end - 1] == "second" and value < 100:
        if before in ("a", "every", "this", "that", "another", "each"):
            return None
        fraction |= before not in {"the", "on", *OWNERS} or after not in RANKED
    return Number(i, end, "" if fraction or before in NUMBER_WORDS else ordinal_text(value))


def _count(words: Words, i: int) -> Number | None:
    """Other quantities; from one to nine only beside a larger one ("five to ten"), as decimal or name ("page five")."""
    found = span(words, i)
    if found is None:
        return None
    amounts, joint = found
    if not amounts:  # "one to five hundred" is left alone as a whole
        return Number(i, _run_end(words, _run_end(words, i) + 1), "")
    end, after, before = amounts[-1].end, words[amounts[-1].end], words[i - 1]
    text = f" {joint} ".join(amount.text for amount in amounts)
    some = after in ("something", "odd") and words[end - 1] in {*TENS, *LARGE}  # thirty something
    if some or (words[i] == "point" and after not in MEASURES):
        return Number(i, end, "")
    if after == "and" and words[end + 2] in ("half", "quarter", "quarters"):
        return Number(i, end, "")  # ten and a half hours
    if before == "and" and words[end - 1] in TENS and words[i - 2] in ONES and words[i - 3] not in {"between", *TENS}:
        return Number(i, end, "")  # four and twenty
    if before in OH and words[i - 2] in NUMBER_WORDS:
        return Number(i, end, "")  # one oh five point five
    if before in ("feet", "foot"):
        return None  # five feet eleven
    if words[i] == "a" and end == i + 2 and not (is_counted(after) and words[i - 1] != "in"):
        return None  # a hundred times
    if before in ("minus", "negative") and words[i - 2] not in NUMBER_WORDS:
        return Number(i - 1, amounts[0].end, f"−{amounts[0].text}")
    if before == "covid" and text == "19":
        return Number(i - 1, end, "COVID-19")
    if after == "k" or (after == "x" and (len(words[end + 1]) != 1 or words[end + 1] in ("a", "i"))):
        return Number(i, end + 1, text + after)
    named = _label(words, i) in LABELS | LISTED and before not in ("is", "was", "in")
    counted = is_counted(after) if before in ("type", "release", "issue") else after in MEASURES or after in PEOPLE
    if named and not counted and words[i - 1 : i + 1] != ["number", "one"]:
        return Number(i, end, text if amounts[-1].value >= 10_000 else text.replace(",", ""))
    small = all(len(amount.text) == 1 for amount in amounts)
    return None if small else Number(i, end, text)


KINDS: tuple[Callable[[Words, int], Number | None], ...] = (
    clock,
    _digits,
    date,
    year,
    _measured,
    _ordinal,
    _count,
)
TRIGGERS = NUMBER_WORDS | ORDINALS.keys() | DIGITS.keys() | word_set("half quarter double triple point")
