"""Times, years and dates in recognized words: "half past two" → 2:30, "may the third" → May 3rd."""

from asr.output.quantities import (
    FOLLOWING,
    LARGE,
    MEASURES,
    NUMBER_WORDS,
    OH,
    ONES,
    TEENS,
    TENS,
    Number,
    Words,
    below_hundred,
    is_counted,
    ordinal,
    ordinal_text,
    table,
    word_set,
)

HOURS = {word: hour for word, hour in (ONES | TEENS).items() if hour <= 12}
CENTURIES = TEENS | {"twenty": 20}
DECADES = table("tens twenties thirties forties fifties sixties seventies eighties nineties", 10, 10) | {"hundreds": 0}
MONTHS = word_set("january february march april may june july august september october november december")
VERBS = word_set("may march")  # months that are more often another word

# What stands before a time, a day, and a year (alone, or before other things too).
AT = word_set("for by until till before after around from since about to it's")
TO = word_set("at it's until till by nearly almost")  # at ten to five
ON = word_set("on of until till from to by since before after through between and dated")
IN = word_set("in since year by until till before after during circa early late mid spring summer autumn fall winter")
NEAR = word_set("the of from to and or between around than for that this")
SEASONS = word_set("summer winter spring autumn class")
SUBJECTS = word_set("i you he she it we they who this that which people one")


def clock(words: Words, i: int) -> Number | None:
    """Times: "half past two", "ten thirty a m", "at twenty to five", "at seven forty five" where no noun follows."""
    if words[i] in ("half", "quarter"):
        return _clock_past(words, i, 30 if words[i] == "half" else 15, i + 1)
    below = below_hundred(words, i)
    if below and below[0] in (5, 10, 20, 25) and (past := _clock_past(words, i, *below)):
        return past
    if below and 9 < below[0] < 24 and words[i + 1 : i + 3] == ["hundred", "hours"]:
        return Number(i, i + 2, f"{below[0]}00")
    hour = HOURS.get(words[i])
    if hour is None:
        return None
    if half := _half_day(words, i + 1):
        return Number(i, half[1], f"{hour}{half[0]}")
    if words[i + 1] in ("to", "or", "and") and words[i + 2] in HOURS and (half := _half_day(words, i + 3)):
        return Number(i, half[1], f"{hour} {words[i + 1]} {HOURS[words[i + 2]]}{half[0]}")
    minute, end = below_hundred(words, i + 1) or (0, i)
    if words[i + 1] in OH and words[i + 2] in ONES:
        minute, end = ONES[words[i + 2]], i + 3
    elif not 10 <= minute < 60:
        return None
    if words[end] == "o'clock":
        return Number(i, end, "")  # "nine ten o'clock"
    text = f"{hour}:{minute:02}"
    if half := _half_day(words, end):
        return Number(i, half[1], text + half[0])
    after = words[end]
    common = minute % 15 == 0 or minute < 10
    sure = words[i - 1] == "at" and not (is_counted(after) or after in {"a", "an", "each", "point"} | NUMBER_WORDS)
    sure |= words[i - 1] in AT and common and after in FOLLOWING
    sure |= words[end : end + 2] == ["in", "the"] and words[end + 2] in ("morning", "afternoon", "evening")
    sure |= common and after in ("train", "bus", "flight", "ferry", "showing", "tomorrow", "tonight")
    return Number(i, end, text) if sure else None


def _half_day(words: Words, i: int) -> tuple[str, int] | None:
    """What is written after the hour, and its end: " a.m." for "a m" and "am", nothing before "o'clock"."""
    if words[i] == "o'clock":
        return "", i
    if words[i] in ("a", "p") and words[i + 1] == "m":
        return f" {words[i]}.m.", i + 2
    verb = words[i + 1] in ("i", "not") or (words[i - 1] == "one" and words[i - 2] != "at")  # "which one am i"
    return (f" {words[i][0]}.m.", i + 1) if words[i] in ("am", "pm") and not verb else None


def _clock_past(words: Words, i: int, minute: int, j: int) -> Number | None:
    """The time whose minutes are words i to j, and which goes on with "past", "after" or "to"."""
    j += words[j] == "minutes"
    hour, after = HOURS.get(words[j + 1]), words[j + 2]
    if hour is None or after in NUMBER_WORDS or is_counted(after):
        return None
    if words[j] == "to" and minute != 30:
        if minute != 15 and not (words[i - 1] in TO and after in FOLLOWING):
            return None
        hour, minute = (hour - 2) % 12 + 1, 60 - minute
    elif words[j] != "past" and not (words[j] == "after" and minute == 15):
        return None
    end = j + 2 + (after == "o'clock")
    half, end = _half_day(words, end) or ("", end)
    return Number(i - (minute % 30 == 15 and words[i - 1] == "a"), end, f"{hour}:{minute:02}{half}")


def _year(words: Words, i: int, sure: bool = False) -> tuple[int, int] | None:
    """Year and end: "nineteen eighty four", "two thousand and eight"; `sure` beside a month."""
    sure |= words[i - 1] in IN
    near = sure or words[i - 1] in NEAR
    century = CENTURIES.get(words[i], 0)
    thousands = words[i : i + 2] == ["two", "thousand"]
    if thousands or (century > 10 and words[i + 1] == "hundred"):
        century = 20 if thousands else century
        last, end = below_hundred(words, i + 2 + (words[i + 2] == "and")) or (0, i + 2)
        if words[end] in LARGE:
            last, end = 0, i + 2  # "two thousand and two thousand five"
        after = words[end]
        if last:
            likely = century > 15 and (last <= 50 or not thousands) and (near or not is_counted(after))
            known = (sure or likely) and after not in MEASURES and after not in TEENS and after not in TENS
        else:
            # "from nineteen ninety to two thousand", "from two thousand to two thousand five"
            joined = words[i - 1] in ("to", "and") and i - 1 in (_years_end(words, i - 4), _years_end(words, i - 3))
            joined |= near and after in ("to", "and") and _years_end(words, end + 1) > 0
            known = (joined and not is_counted(after)) or (sure and after in FOLLOWING) or words[i - 1] == "year"
            known &= after not in NUMBER_WORDS
    elif words[i + 1] in OH and words[i + 2] in ONES:
        last, end = ONES[words[i + 2]], i + 3
        known = century > 12 or sure
    else:
        last, end = below_hundred(words, i + 1) or (0, i)
        if words[end] == "of" and last % 10 == 1 and last > 20:
            last, end = last - 1, end - 1  # "in twenty twenty one of them"
        count = end == i + 2 and century < last <= (90 if century == 20 else century + 4)  # "eighteen nineteen"
        known = sure if century > 12 else words[i - 1] in ("in", "since")
        known |= (last > 59 and century > 12) or (century > 15 and (near or not count))
        known &= last > 9 and words[end] not in MEASURES and (sure or not is_counted(words[end]))
    known &= words[end] not in LARGE and ordinal(words, i) is None
    return (century * 100 + last, end) if century and known else None


def _years_end(words: Words, i: int) -> int:
    """End of a year in two parts at i ("nineteen ninety"), 0 if there is none."""
    thousands = words[i : i + 2] == ["two", "thousand"]
    last = below_hundred(words, i + 1 + thousands)
    return last[1] if last and (thousands or (words[i] in CENTURIES and last[0] > 9)) else 0


def year(words: Words, i: int) -> Number | None:
    """A year, also after its month; a decade ("nineteen sixties"); '69; "twenty fifteen sixteen"."""
    if CENTURIES.get(words[i], 0) > 10 and words[i + 1] in DECADES:
        return Number(i, i + 2, f"{CENTURIES[words[i]] * 100 + DECADES[words[i + 1]]}s")
    if words[i : i + 2] == ["two", "thousands"]:
        return Number(i, i + 2, "2000s")
    last, end = below_hundred(words, i) or (0, i)
    short = words[i - 1] in ("in", "since") and words[end] in FOLLOWING and end == i + 2
    short |= words[i - 1] == "of" and words[i - 2] in SEASONS and words[end] not in NUMBER_WORDS
    if last > 20 and short and not is_counted(words[end]):
        return Number(i, end, f"'{last}")
    month = words[i - 1] in MONTHS
    value, end = _year(words, i, sure=month) or (0, i)
    if not value:
        return None
    if words[i:end] == ["twenty", "twenty"] and (words[end] == "vision" or "hindsight" in words[max(i - 3, 0) : i]):
        return Number(i, end, "20/20")
    last, last_end = below_hundred(words, end) or (0, end)
    if last == (value + 1) % 100 and last > 9 and words[last_end] in FOLLOWING:
        return Number(i, last_end, f"{value}/{last}")
    return Number(i - month, end, f"{words[i - 1].capitalize()} {value}" if month else str(value))


def date(words: Words, i: int) -> Number | None:
    """Days: "the third of may", "may the third", "may third nineteen eighty four", "seven january twenty twenty"."""
    ranked = ordinal(words, i)
    day, end = ranked or below_hundred(words, i) or (0, i)
    if not 1 <= day <= 31:
        return None
    text = ordinal_text(day) if ranked else str(day)
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
