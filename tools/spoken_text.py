"""Written English sentences as they are read out: numbers, dates, money, units and abbreviations in words.

`sentences` cuts a paragraph into sentences; `spoken` returns the words of one. Both expect the output of `plain`.
"""

import functools
import html
import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from num2words import num2words

DOT: Final = "\x01"  # full stop of an abbreviation
LOST: Final = "\x02"  # something that cannot be read out; its sentence is left out


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


class _Plain(dict[int, str]):
    """For str.translate: ASCII for each character, `LOST` for letters and digits that have none; worked out once."""

    def __missing__(self, code: int) -> str:
        base = unicodedata.normalize("NFKD", chr(code))
        kept = "".join(part for part in base if part.isascii())
        category = unicodedata.category(chr(code))[0]
        self[code] = kept if kept.isalpha() else LOST if category in "LN" else "" if category in "MC" else " "
        return self[code]


_PLAIN = _Plain(
    {code: chr(code) for code in (*range(32, 127), 10, ord(LOST))}
    | str.maketrans({
        "’": "'", "‘": "'", "`": "'", "“": '"', "”": '"', "″": '"', "—": " -- ", "―": " -- ", "–": "-", "‐": "-",
        "‑": "-", "−": " minus ", "…": "... ", "€": "€", "£": "£", "¥": "¥", "°": "°", "½": " 1/2", "¼": " 1/4",
        "¾": " 3/4", "×": " by ", "_": " ", "*": " ", "\t": " ", "&": " and ", "\\": "", "æ": "ae", "Æ": "Ae",
        "œ": "oe", "Œ": "Oe", "ß": "ss", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "ð": "d", "Ð": "D", "đ": "d",
        "Đ": "D", "þ": "th", "Þ": "Th", "ı": "i",
    })
)  # fmt: skip


def plain(text: str) -> str:
    """ASCII without accents, and the signs of currencies and degrees."""
    return html.unescape(text).replace("&c.", "etc.").translate(_PLAIN)


# ------------------------------------------------------------------ abbreviations and sentences

BEFORE_NAMES = {
    "Mr": "Mister", "Mrs": "Missus", "Messrs": "Messieurs", "Dr": "Doctor", "Prof": "Professor", "Capt": "Captain",
    "Col": "Colonel", "Gen": "General", "Lt": "Lieutenant", "Lieut": "Lieutenant", "Maj": "Major", "Sgt": "Sergeant",
    "Adm": "Admiral", "Rev": "Reverend", "Hon": "Honorable", "Sen": "Senator", "Gov": "Governor",
    "Rep": "Representative", "Mt": "Mount", "Ft": "Fort", "St": "Saint", "Ste": "Sainte", "Mme": "Madame",
    "Mlle": "Mademoiselle",
}  # fmt: skip
OTHERS = {
    "Jr": "Junior", "Sr": "Senior", "Vol": "Volume", "vol": "volume", "vols": "volumes", "vs": "versus",
    "etc": "et cetera", "Co": "Company", "Inc": "Incorporated", "Corp": "Corporation", "Ltd": "Limited",
    "Bros": "Brothers", "Esq": "Esquire", "Jan": "January", "Feb": "February", "Apr": "April", "Aug": "August",
    "Sept": "September", "Oct": "October", "Nov": "November", "Dec": "December", "approx": "approximately",
    "Ave": "Avenue", "v": "versus", "Ph": "P H", "al": "al", "cf": "compare",
}  # fmt: skip
BEFORE_NUMBERS = {
    "no": "number", "nos": "numbers", "p": "page", "pp": "pages", "ch": "chapter", "chap": "chapter", "fig": "figure",
    "figs": "figures", "sec": "section", "para": "paragraph", "art": "article", "op": "opus", "ca": "circa",
    "c": "circa", "mk": "mark",
}  # fmt: skip
ABBREVIATIONS = BEFORE_NAMES | OTHERS
FIRST_WORDS = (
    "The|A|An|In|On|At|He|She|It|They|We|You|I|This|That|These|Those|His|Her|Its|Their|My|Our|But|And|Or|So|If|When|While|After|Before|As|"
    "For|From|With|There|Then|What|Who|How|Why|However|Although|Since|During|By|To|Not|No|Yes|Some|Many|Most|Both|One|Now|Here|Is|Are|Was"
)
# A full stop, and what shows that it ends a sentence even after an abbreviation.
_STOP = re.compile(rf"\.(?=(\s+(?:{FIRST_WORDS})\s|[\"')]*$)?)")
_EXPANDED = re.compile(rf"\b({'|'.join(ABBREVIATIONS)}){DOT}")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')]*\s+(?=[\"'(]*[A-Z])")
_CLAUSE_END = re.compile(r"(?<=[;:])\s+|\s--\s")


def _protect(match: re.Match[str]) -> str:
    """The full stop, `DOT` after an abbreviation, both where that ends a sentence."""
    text, start = match.string, match.start()
    word = re.split(r"[^A-Za-z]", text[max(text.rfind(" ", 0, start) + 1, start - 12) : start])[-1]
    if word in BEFORE_NAMES:
        return DOT
    after = text[start + 1 : start + 3].lstrip()[:1]
    initial = len(word) == 1 and word.isupper() and word != "I" and after.isupper()
    if initial or word in ABBREVIATIONS or (after.isdigit() and word.lower() in BEFORE_NUMBERS):
        return DOT if match[1] is None else f"{DOT}."
    return "."


def sentences(paragraph: str) -> Iterator[str]:
    """Sentences; clauses of those longer than 50 words. Full stops of abbreviations are `DOT` in them."""
    for sentence in _SENTENCE_END.split(_STOP.sub(_protect, paragraph)):
        yield from [sentence] if sentence.count(" ") < 50 else _CLAUSE_END.split(sentence)


def written(sentence: str) -> str:
    return sentence.replace(f"{DOT}.", ".").replace(DOT, ".")


# ------------------------------------------------------------------ Roman numerals

_ROMAN = re.compile(r"([A-Z][a-z]+) ([IVXL]+)\b(?=($|[,;.:)]|\s(?:of|was|had|and|in|as)\b)|[\s'\"?!-])")
_LOWER_ROMAN = re.compile(r" ([ivxl]+)\b")
_LOWER_NUMBERED = _set("chapter volume vol book canto act scene ch chap part section psalm")
_NUMBERED = _set(
    "War Part Chapter Book Volume Vol Canto Act Scene Section Article Type Class Phase Mark Mk Stage Group Title "
    "Schedule Annex Bowl Grade Appendix Division Table Level Episode Tier Category Corps Fantasy Panzer Trek Rocky "
    "Harrier Lightning Mirage Phantom Corsair Halloween Alpha Psalm Problem Factor Intensity Wrestlemania Quest "
    "Auto Myst"
)
_MONARCHS = _set(
    "Alexander Alfonso Benedict Carlos Catherine Charles Christian Clement Constantine Edward Elizabeth Ferdinand "
    "Francis Franz Frederick George Gregory Gustav Haakon Henri Henry Innocent Ivan James John Joseph Justinian Leo "
    "Leopold Louis Manuel Mary Maximilian Napoleon Nicholas Otto Paul Pedro Peter Philip Pius Richard Robert Rudolf "
    "Stephen Theodosius Umberto Urban Wilhelm William"
)


@functools.cache
def _roman(numeral: str) -> int:
    """The number from 1 to 59 that the numeral stands for, 0 where it is none."""
    if not re.fullmatch(r"L?(?:X{0,3}|XL)(?:IX|IV|V?I{0,3})", numeral):
        return 0
    values = ["IVXL".index(letter) for letter in numeral]
    numbers = [(1, 5, 10, 50)[value] for value in values]
    return sum(-n if n < max(numbers[i:]) else n for i, n in enumerate(numbers))


def _spell_roman(match: re.Match[str]) -> str:
    name, numeral, follows = match.groups()
    number, monarch = _roman(numeral), name in _MONARCHS
    if name in _NUMBERED:
        return f"{name.replace('Mk', 'Mark')} {_spelled(number, 'cardinal')}" if number else match[0]
    sure = monarch and follows is not None if numeral == "I" else monarch or len(numeral) > 1
    if not number or not sure:
        return match[0]
    if not monarch and (
        numeral == "XI" or match.string[match.end() : match.end() + 1] == '"'
    ):  # a team of cricketers; "Thief II"
        return f"{name} {_spelled(number, 'cardinal')}"
    article = "" if match.string.startswith((" Corps", " Army"), match.end()) else "the "
    return f"{name} {article}{_spelled(number, 'ordinal')}"


def _spell_lower_roman(match: re.Match[str]) -> str:
    before = match.string[max(0, match.start() - 8) : match.start()].rstrip(f".{DOT}").rsplit(" ", 1)[-1].lower()
    number = _roman(match[1].upper()) if before in _LOWER_NUMBERED else 0
    return f" {_spelled(number, 'cardinal')}" if number else match[0]


# ------------------------------------------------------------------ numbers

MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
UNITS = {
    "km/h": "kilometers per hour", "mph": "miles per hour", "m/s": "meters per second", "km": "kilometers",
    "cm": "centimeters", "mm": "millimeters", "m": "meters", "mi": "miles", "ft": "feet", "yd": "yards",
    "yds": "yards", "kg": "kilograms", "mg": "milligrams", "lb": "pounds", "lbs": "pounds", "oz": "ounces",
    "ml": "milliliters", "hp": "horsepower", "kW": "kilowatts", "MW": "megawatts", "GW": "gigawatts", "Hz": "hertz",
    "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz", "kB": "kilobytes", "KB": "kilobytes",
    "MB": "megabytes", "GB": "gigabytes", "TB": "terabytes", "ms": "milliseconds", "sec": "seconds", "secs": "seconds",
    "min": "minutes", "mins": "minutes", "hr": "hours", "hrs": "hours", "yr": "years", "yrs": "years",
    "sq mi": "square miles", "sq ft": "square feet", "°C": "degrees celsius", "°F": "degrees fahrenheit",
    "°": "degrees",
}  # fmt: skip
MONEY = {
    "£": ("pound", "pounds", "pence"),
    "$": ("dollar", "dollars", "cents"),
    "€": ("euro", "euros", "cents"),
    "¥": ("yen", "yen", ""),
}
SCALES = {"m": "million", "bn": "billion", "k": "thousand", "b": "billion"}  # after money

# The patterns of this section begin with a set of characters wherever they can: re is several times faster then.
_CODE = re.compile(r"\d(?:\d{4}(?<=[A-Za-z]\d{5})|\d{12}|\d*[A-Za-z]+\d|\s?--(?!\s))")  # formulas too, and 18--
_VERSE = re.compile(r"(?<![A-Za-z'])(?:[ivxl]+|[IVXL]+)[.:] ?\d")  # xii. 3
_INDEX = re.compile(r",? \d+(?:[, -]+\d+)*[.;,]?$")
_TRAILING = re.compile(r"[.!?;] \d{1,3}\.?$")
_SCORES = (
    r"record|wins?|won|loss|losses|lost|victory|defeat|draw|tie|lead|vote|decision|score|season|series|home|away|"
    r"aggregate|start|against"
)
_POUNDS_BEFORE = re.compile(r"L\.?(\d{3,}|\d{1,3}(?:,\d{3})+)\b")
_POUNDS_AFTER = re.compile(r"(\d[\d,]*) ?l\b\.?(?= |$)")
_SHILLINGS = re.compile(r"(?<![\dA-Za-z.-])(\d{1,2}) ?s(?:\.?(?= ?\d{1,2} ?d\b)|\.(?=\s|$)(?<![02-9]0s\.))")
_PENCE = re.compile(r"(\d{1,2}) ?d\.")
_ORDINAL = re.compile(r"(\d+) ?(st|nd|rd|th|(?<=[23])d)\b")
_NAMED = re.compile(rf"\b(?:({'|'.join(BEFORE_NUMBERS)}){DOT} ?|(Nos?|pp|Mk) )(?=\d)", re.IGNORECASE)
_GLUED = re.compile(r"(\d)(?<=[A-Za-z]\d)")
_MONTH = re.compile(rf"(?:{MONTHS})\b")
_US_DATE = re.compile(rf"({MONTHS}) (\d\d?)(?: ?(-|to|and|or) ?(\d\d?))?(?![\d:%]|[.,]\d|st\b|nd\b|rd\b|th\b|-[a-z])")
_UK_DATE = re.compile(
    rf"(?:\b(?P<the>[Tt]he) )?(?<![\d.,/:-])\b(?:(\d\d?) ?(-|to|and|or) ?)?(\d\d?)(?:st|nd|rd|th)?(?: of)? ({MONTHS})\b"
)
_HALF_DAY = re.compile(rf"(\d)\s?([ap])[.{DOT}]*m\b\.?", re.IGNORECASE)  # 10.30am, 4 p.m.
_CLOCK = re.compile(r"(\d\d?)([:.])([0-5]\d)\b(?![:.]?\d)")
_AFTER_CLOCK = re.compile(r"[,;.!?]?(?: (?!%|per|point|[mb]illion|second|met|kilo|mile|[mkc]?m\b)|[\"']*$)")
_FRACTION = re.compile(r"(?:\b(\d+)(?:-| ?and | ))?(?<![\d/])(\d{1,2})/([2-9]|10|16)\b(?![/\d])")
_MONEY_RANGE = re.compile(
    r"([£$€¥])(\d[\d,.]*) ?(?:-|to) ?[£$€¥]?(?=\d[\d,.]* ?-?(?:million|billion|trillion|m|bn|k)\b)"
)
_RANGE = re.compile(
    rf"(?<![\d.,/:A-Za-z-])(\d[\d,]*(?:\.\d+)?%?) ?- ?([£$€]?)(\d[\d,]*(?:\.\d+)?)(?![\d/:-]| (?:{_SCORES})\b)"
)
_VERSION = re.compile(r"\d+(?:\.\d+){2,}\b")
_UNIT = re.compile(rf"(\d[\d,.]*)([ -]?)({'|'.join(sorted(UNITS, key=len, reverse=True))})(?![A-Za-z\d/])")
_DIGITS = (
    r"(\d+(?:,\d{2,3}(?!\d))*)(\.\d+)?"
    r"(?:(st|nd|rd|th)\b|(\s?%)|('?s)\b|\s?(-?)(hundred|thousand|million|billion|trillion|m|bn|k|b)\b)?(-)?"
)
_MONEY = re.compile(rf"([£$€¥])\s?{_DIGITS}", re.IGNORECASE)
_NUMBER = re.compile(_DIGITS)
_YEAR_FOLLOWS = re.compile(
    rf"(?:\b(?:in|since|until|till|by|year|from|before|after|and|to)|{MONTHS}|th|st|nd|rd)[\s,]*$", re.IGNORECASE
)


@functools.lru_cache(200_000)
def _spelled(number: int, kind: str) -> str:
    if kind == "year" and number >= 2100:  # num2words: two thousand one hundred
        return f"{_spelled(number // 100, 'cardinal')} hundred" + (
            f" {_spelled(number % 100, 'cardinal')}" if number % 100 else ""
        )
    words = num2words(number, to=kind).replace("-", " ").replace(",", "")
    return words.replace(" and ", " ") if kind == "year" else words


def _digits(text: str) -> str:
    return " ".join(_spelled(int(digit), "cardinal") for digit in text)


def _value(text: str) -> float:
    return float(text.replace(",", "").rstrip("%."))


def _spell_us_date(match: re.Match[str]) -> str:
    month, first, joint, second = match.groups()
    if not (1 <= int(first) <= 31 and int(second or 1) <= 31):
        return match[0]
    last = f" {'to' if joint == '-' else joint} {_spelled(int(second), 'ordinal')}" if second else ""
    return f"{month} {_spelled(int(first), 'ordinal')}{last}"


def _spell_uk_date(match: re.Match[str]) -> str:
    the, first, joint, second, month = match.groups()
    if not 1 <= int(second) <= 31:
        return match[0]
    before = f"{_spelled(int(first), 'ordinal')} {'to' if joint == '-' else joint} " if first else ""
    bare = re.search(r"(?:'s|\b(?:whose|his|her|its|their|our|this|next|previous)) $", match.string[: match.start()])
    return f"{'' if bare else the or 'the'} {before}{_spelled(int(second), 'ordinal')} of {month}"


def _spell_clock(match: re.Match[str]) -> str:
    hour, mark, minute = match.groups()
    before, after = match.string[max(0, match.start() - 6) : match.start()].lower(), match.string[match.end() :]
    if mark == "." and not re.match(r" [ap] m\b", after):
        train = (
            before.endswith("the ")
            and minute[1] in "05"
            and re.match(r"[,;.!?\"']*$| (?:train|express|bus|boat)\b", after)
        )
        at = before == "at " or before.endswith((" at ", "until ", "till "))
        if not ((train or at) and _AFTER_CLOCK.match(after)):
            return match[0]
    if int(hour) > (24 if mark == ":" else 12):
        return match[0]
    past = (
        "" if minute == "00" else f"oh {_digits(minute[1])}" if minute[0] == "0" else _spelled(int(minute), "cardinal")
    )
    return f" {_spelled(int(hour), 'cardinal')} {past} "


def _spell_fraction(match: re.Match[str]) -> str:
    whole, above, below = match[1], int(match[2]), int(match[3])
    if not 0 < above < below:
        return match[0]
    name = {2: "half", 4: "quarter"}.get(below) or _spelled(below, "ordinal")
    number = ("a" if whole else "one") if above == 1 else _spelled(above, "cardinal")
    return f" {whole + ' and ' if whole else ''}{number} {name}{'s' if above > 1 else ''} "


def _spell_range(match: re.Match[str]) -> str:
    first, money, second = match.groups()
    phone = len(first) == 3 and len(second) == 4 and second.isdigit()
    return f"{first} to {money}{second}" if _value(first) < _value(second) and not phone else match[0]


def _spell_unit(match: re.Match[str]) -> str:
    number, joint, unit = match.groups()
    name = UNITS[unit]
    if unit == "m" and not joint:
        return match[0]  # 5m is a million or a length
    if number == "1" or joint == "-":
        name = name.replace("feet", "foot") if "feet" in name else re.sub(r"s\b", "", name, count=1)
    return f"{number} {name}"


def _words(match: re.Match[str], digits: str, decimals: str | None, alone: bool) -> str:
    """A number in words: year, digit by digit, or cardinal."""
    number = int(digits)
    if (
        alone
        and len(digits) == 4
        and (1100 <= number <= 2199 or (1000 <= number < 1100 and _YEAR_FOLLOWS.search(match.string[: match.start()])))
    ):
        return _spelled(number, "year")
    if alone and len(digits) > 1 and (digits[0] == "0" or len(digits) > 6):
        return _digits(digits)
    return _spelled(number, "cardinal") + (f" point {_digits(decimals[1:])}" if decimals else "")


def _spell_number(match: re.Match[str]) -> str:
    digits, decimals, ordinal, percent, plural, _, scale, _ = match.groups()
    if "," in digits and not re.fullmatch(r"\d{1,3}(?:,\d{2,3})*,\d{3}", digits):
        return " ".join(_spelled(int(part), "cardinal") for part in digits.split(",")) + match[0][len(digits) :]
    alone = not (decimals or scale or "," in digits)
    digits = digits.replace(",", "")
    if ordinal:
        return f" {_spelled(int(digits), 'ordinal')} "
    words = _words(match, digits, decimals, alone)
    if plural:
        decade = digits[-1] == "0" and len(digits) in (2, 4)
        words += "'s" if "'" in plural and not decade else "es" if words.endswith("x") else "s"
        words = re.sub("tys$", "ties", words)
    return f" {words} {'billion' if scale == 'bn' else scale or ''}{'percent' if percent else ''} "


def _spell_money(match: re.Match[str]) -> str:
    sign, digits, decimals, *_, joint, scale, hyphen = match.groups()
    one, many, hundredth = MONEY[sign]
    digits = digits.replace(",", "")
    article = (
        re.search(r"\ba $", match.string[: match.start()], re.IGNORECASE) is not None
    )  # a two million dollar account
    if decimals and len(decimals) == 3 and not scale:
        part = _spelled(int(decimals[1:]), "cardinal") if decimals != ".00" else ""
        if int(digits) == 0:
            return f" {part} {hundredth} "
        return f" {_spelled(int(digits), 'cardinal')} {one if digits == '1' or article else many} {part} "
    words = _words(match, digits, decimals, False) + (f" {SCALES.get(scale.lower(), scale.lower())}" if scale else "")
    if article:
        words = words.removeprefix("one ") if words.startswith("one hundred") else words
    return f" {words} {one if article or joint or hyphen or words == 'one' else many} "


def _spell_numbers(clause: str) -> str:
    if any(sign in clause for sign in MONEY):
        clause = re.sub(r"(?:USD?|AUD?|CAD?|NZ|HK|\b[AC])\s?(?=\$)", "", clause)
    if "#" in clause:
        clause = re.sub(r"#(?=\d)", "number ", clause)
    if "'0" in clause:
        clause = re.sub(r"'0(\d)\b", r" oh \1", clause)
    if "L" in clause:
        clause = _POUNDS_BEFORE.sub(r"£\1", clause)
    clause = _POUNDS_AFTER.sub(r"£\1", clause)
    if "s." in clause or "d." in clause or " d" in clause:
        clause = _PENCE.sub(r"\1 pence", _SHILLINGS.sub(r"\1 shillings", clause))
    clause = _ORDINAL.sub(lambda m: m[1] + (("nd" if m[1][-1] == "2" else "rd") if m[2] == "d" else m[2]), clause)
    if DOT in clause or "No" in clause or "Mk " in clause or "pp " in clause:
        clause = _NAMED.sub(lambda m: f"{BEFORE_NUMBERS[(m[1] or m[2]).lower()]} ", clause)
    clause = _GLUED.sub(r" \1", clause)
    if _MONTH.search(clause):
        clause = _UK_DATE.sub(_spell_uk_date, _US_DATE.sub(_spell_us_date, clause))
    clause = _CLOCK.sub(_spell_clock, _HALF_DAY.sub(r"\1 \2 m", clause))
    if "/" in clause:
        clause = _FRACTION.sub(_spell_fraction, clause)
    if "-" in clause:
        clause = _RANGE.sub(_spell_range, _MONEY_RANGE.sub(r"\2 to \1", clause))
    clause = _UNIT.sub(_spell_unit, _VERSION.sub(lambda m: m[0].replace(".", " point "), clause))
    if any(sign in clause for sign in MONEY):
        clause = _MONEY.sub(_spell_money, clause)
    return _NUMBER.sub(_spell_number, clause)


# ------------------------------------------------------------------ words

_DOMAIN = re.compile(r"\.(?=(?:com|org|net|io|dev|fm|js|edu|gov)\b)")
_LETTERS = dict.fromkeys(range(128), " ") | {ord(c): c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ'"}
FUNCTION_WORDS = _set(
    "THE OF AND TO A IN THAT IT IS WAS I HE HIS WITH AS FOR YOU BE NOT AT ON BY HER SHE THIS WHICH HAVE FROM THEY "
    "ALL HIM OR MY ARE WE SO ME ONE IF WHAT WHO AN BEEN SAID DO HAS MORE THEN INTO OUR ITS ABOUT UP OUT WOULD THERE "
    "HAD BUT"
)


def spoken(sentence: str) -> list[str]:
    """Words as they are read out, upper case; none where the sentence is no prose or cannot be read out."""
    if LOST in sentence or " = " in sentence:
        return []
    digits = re.search(r"\d", sentence) is not None
    if digits and (_CODE.search(sentence) or _VERSE.search(sentence) or any(sign in sentence for sign in "=^~<>")):
        return []
    text = sentence
    if "\"'s" in text:
        text = re.sub(r"\"'s\b", "'s", text)
    if "St " in text:
        text = re.sub(r"\bSt (?=[A-Z])", "Saint ", text)
    text = _LOWER_ROMAN.sub(_spell_lower_roman, _DOMAIN.sub(" dot ", _ROMAN.sub(_spell_roman, text)))
    if digits:
        text = _spell_numbers(_TRAILING.sub("", text))
    if DOT in text:
        text = _EXPANDED.sub(lambda match: ABBREVIATIONS[match[1]], text)
    if "+" in text or "#" in text:
        text = text.replace("C++", "C plus plus").replace("C#", "C sharp").replace("+", " plus ")
    if not text.isascii():  # the sign of a currency or of degrees where no number is read out with it
        return []
    words = text.upper().translate(_LETTERS).split()
    if "'" in text:
        words = [word for word in (word.strip("'") for word in words) if word]
    return (
        words
        if _is_prose(words)
        and not (digits and _INDEX.search(sentence) and (FUNCTION_WORDS - {"ONE"}).isdisjoint(words))
        else []
    )


def _is_prose(words: list[str]) -> bool:
    if not 2 <= len(words) <= 60 or max(map(len, words)) > 22:
        return False
    if len([word for word in words if len(word) == 1 and word not in "AIO"]) > 0.3 * len(words):
        return False
    return len(words) < 7 or not FUNCTION_WORDS.isdisjoint(words)
