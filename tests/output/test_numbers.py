"""Numbers as people write them: by kind, what stays spelled out, and round trips from num2words."""

import datetime
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from num2words import num2words

from asr.output.numbers import TRIGGERS, find_numbers


def written(text: str) -> str:
    """The text with its numbers; a comma is a mark, and stays."""
    words = [word.rstrip(",") for word in text.split()]
    breaks = {index for index, word in enumerate(text.split()) if word.endswith(",")}
    marked = [word + "," * (index in breaks) for index, word in enumerate(words)]
    for number in reversed(find_numbers(words, breaks)):
        marked[number.start : number.end] = [number.text + "," * (number.end - 1 in breaks)]
    return " ".join(marked)


def spoken(value: int | float, to: str = "cardinal", **options: str) -> str:
    return num2words(value, to=to, **options).replace("-", " ").replace(",", "")


def pairs(table: str) -> list[tuple[str, str]]:
    return [
        (before.strip(), after.strip()) for before, after in (line.split("→") for line in table.strip().splitlines())
    ]


COUNTS = pairs("""
    five hundred people → 500 people
    five of the twelve → five of the 12
    two thousand leagues → 2,000 leagues
    one hundred and one nights → 101 nights
    a hundred and five → 105
    a hundred people → 100 people
    a thousand years → 1,000 years
    a million people → 1 million people
    forty two hundred → 4,200
    two million three hundred thousand → 2.3 million
    two million three hundred and fifty thousand and six → 2,350,006
    a hundred thousand → 100,000
    five hundred and six thousand → 506,000
    bought five hundred and six hundred → bought 500 and 600
    twenty five kilometres → 25 kilometres
    two and a half thousand people → 2,500 people
    nine out of ten → 9 out of 10
    one in twenty → 1 in 20
    no one in twenty years → no one in 20 years
    fifty k a year → 50k a year
    ten x faster → 10x faster
    twenty one of them → 21 of them
    a twenty second clip → a 20 second clip
    page five → page 5
    number nine → number 9
    type two diabetes → type 2 diabetes
    pages five and six → pages 5 and 6
    paragraphs twenty five and twenty six → paragraphs 25 and 26
    chapters two, three and four → chapters 2, 3 and 4
    page one thousand two hundred → page 1200
""")
MONEY = pairs("""
    twenty five dollars → $25
    one dollar and five cents → $1.05
    twenty five dollars and fifty cents → $25.50
    two pounds fifty → £2.50
    two pounds fifty people → £2 50 people
    a dollar fifty → $1.50
    two and a half dollars → $2.50
    ninety nine cents → 99 cents
    fifty pence → 50p
    three million dollars → $3 million
    between eight hundred and five thousand dollars → between $800 and $5,000
    between a hundred and five and two hundred and six dollars → between $105 and $206
    between one and two million dollars → between $1 million and $2 million
    five hundred to two million pounds → £500 to £2 million
    one point two billion dollars → $1.2 billion
    two hundred and fifty thousand euros → €250,000
    a hundred dollar bill → a $100 bill
    a five pound note → a £5 note
    five to ten euros → €5 to €10
    between five and ten dollars → between $5 and $10
    five or six hundred dollars → $500 or $600
    he lost twenty pounds → he lost 20 pounds
    thirty pounds of flour → 30 pounds of flour
    a fifty pound dog → a 50 pound dog
""")
DATES = pairs("""
    may the third → May 3rd
    the third of may → the 3rd of May
    may third nineteen eighty four → May 3rd 1984
    january first two thousand and five → January 1st 2005
    on june six nineteen forty four → on June 6 1944
    on the seventh of january twenty twenty → on the 7th of January 2020
    on six june → on 6 June
    seventh january → 7th January
    the twenty second of june → the 22nd of June
    in may twenty twenty → in May 2020
    march two thousand and eight → March 2008
""")
TIMES = pairs("""
    half past two → 2:30
    a quarter to five → 4:45
    quarter past nine → 9:15
    ten minutes past five → 5:10
    at twenty to one → at 12:40
    ten thirty a m → 10:30 a.m.
    nine oh five am → 9:05 a.m.
    seven p m → 7 p.m.
    three o'clock → 3 o'clock
    nine to five p m → 9 to 5 p.m.
    between two and three o'clock → between 2 and 3 o'clock
    half past nine o'clock → 9:30
    seventeen hundred hours → 1700 hours
    at seven forty five → at 7:45
    from nine thirty to ten thirty → from 9:30 to 10:30
    six fifteen in the morning → 6:15 in the morning
""")
YEARS = pairs("""
    nineteen eighty four → 1984
    two thousand and eight → 2008
    two thousand and eight people → 2,008 people
    in two thousand → in 2000
    in two thousand people → in 2,000 people
    in nineteen ninety and two thousand three hundred hours → in 1990 and 2,300 hours
    from two thousand to two thousand five → from 2000 to 2005
    twenty twenty four → 2024
    nineteen oh five → 1905
    in ten sixty six → in 1066
    fourteen ninety two → 1492
    in eighteen hundred → in 1800
    eighteen hundred people → 1,800 people
    the nineteen sixties → the 1960s
    the eighteen hundreds → the 1800s
    the early two thousands → the early 2000s
    the summer of sixty nine → the summer of '69
    twenty fifteen sixteen → 2015/16
    from nineteen ninety to two thousand → from 1990 to 2000
    in nineteen ninety and two thousand people → in 1990 and 2,000 people
    covid nineteen → COVID-19
    in nineteen fourteen eighteen men → in 1914 18 men
    in twenty twenty one of them left → in 2020 one of them left
    twenty twenty vision → 20/20 vision
""")
DECIMALS = pairs("""
    zero point two five → 0.25
    three point five percent → 3.5%
    ninety nine point nine nine per cent → 99.99%
    two and a half percent → 2.5%
    a hundred percent → 100%
    the one percent → the 1%
    point five percent → 0.5%
    five to ten percent → 5% to 10%
    three point fourteen → 3.14
    version three point one one → version 3.11
    version three point one point two → version 3.1.2
    four point oh → 4.0
    one point five million → 1.5 million
    minus five degrees → −5 degrees
    minus zero point five → −0.5
""")
DIGITS = pairs("""
    double o seven → 007
    oh five five five one two three → 0555123
    eight hundred five five five one two three four → 8005551234
    five five five twelve twelve → 5551212
    nine oh two one oh → 90210
    triple four one → 4441
    call nine one one → call 911
    my extension is four four two → my extension is 442
    room two oh five → room 205
    flight two twelve → flight 212
    five five, five five → five five, five five
""")
ORDINAL_NUMBERS = pairs("""
    the twenty first → the 21st
    the hundred and first → the 101st
    the two hundredth → the 200th
    the eleventh and the twelfth → the 11th and the 12th
    his twenty second birthday → his 22nd birthday
    the nineteenth century → the 19th century
""")
RANGES = pairs("""
    ten to fifteen people → 10 to 15 people
    five to ten people → 5 to 10 people
    eight or twelve → 8 or 12
    between five and six hundred → between 500 and 600
    ten to fifteen thousand → 10,000 to 15,000
    two to three million → 2 to 3 million
    steps four to six → steps 4 to 6
    nineteen fourteen to nineteen eighteen → 1914 to 1918
""")


@pytest.mark.parametrize(("before", "after"), COUNTS)
def test_counts(before: str, after: str) -> None:
    assert written(before) == after


@pytest.mark.parametrize(("before", "after"), MONEY)
def test_money(before: str, after: str) -> None:
    assert written(before) == after


@pytest.mark.parametrize(("before", "after"), DATES)
def test_dates(before: str, after: str) -> None:
    assert written(before) == after


@pytest.mark.parametrize(("before", "after"), TIMES)
def test_times(before: str, after: str) -> None:
    assert written(before) == after


@pytest.mark.parametrize(("before", "after"), YEARS)
def test_years(before: str, after: str) -> None:
    assert written(before) == after


@pytest.mark.parametrize(("before", "after"), DECIMALS)
def test_decimals_and_percent(before: str, after: str) -> None:
    assert written(before) == after


@pytest.mark.parametrize(("before", "after"), DIGITS)
def test_strings_of_digits(before: str, after: str) -> None:
    assert written(before) == after


@pytest.mark.parametrize(("before", "after"), ORDINAL_NUMBERS)
def test_ordinals(before: str, after: str) -> None:
    assert written(before) == after


@pytest.mark.parametrize(("before", "after"), RANGES)
def test_ranges(before: str, after: str) -> None:
    assert written(before) == after


SPELLED = """
    no one knew which one of them came one day
    one or two of the seven things
    a hundred times better
    thanks a million
    half a million people
    a couple hundred and fifty
    a thousand or two
    one to five hundred
    four and twenty blackbirds
    two thirds of them and three quarters
    one hundredth of a second
    a tenth of the price
    one oh five point five
    two and a half hours
    ten and a half hours on platform nine and three quarters
    first come first served
    wait a second on second hand news
    you may third the motion
    may two of us come in march
    the second may come
    ten to five
    at two fifty each
    at this point five people left
    at one point five people left
    my point two years ago
    zero point in arguing
    oh two of them
    one two three four
    fifteen twenty minutes
    about nine ten o'clock
    the question is one of many
    they release two versions
    seven x y two three
    twenty thirty people
    three four hundred people
    eighteen nineteen year olds
    one hundred and seventy twenty fifteen
    nine eleven and fifty fifty
    thirty something
    in her twenties
    five feet eleven
    my two cents
    a one two punch
    five minutes to five people
    which one am i
    chapters two three and four
"""


@pytest.mark.parametrize("text", [line.strip() for line in SPELLED.strip().splitlines()])
def test_what_is_not_sure_stays_spelled_out(text: str) -> None:
    assert written(text) == text


def test_number_spans_its_words_with_unit() -> None:
    words = ["he", "paid", "twenty", "five", "dollars", "and", "fifty", "cents", "today"]
    (number,) = find_numbers(words)
    assert (number.start, number.end, number.text) == (2, 8, "$25.50")


def test_no_number_crosses_a_mark() -> None:
    words = ["in", "nineteen", "eighty", "four"]
    assert [number.text for number in find_numbers(words)] == ["1984"]
    assert [(number.start, number.end, number.text) for number in find_numbers(words, [1])] == [
        (1, 2, "19"),
        (2, 4, "84"),
    ]


# ------------------------------------------------------------------ round trips


def figures(text: str) -> str:
    """What find_numbers makes of a text that is one number."""
    words = text.split()
    numbers = find_numbers(words)
    assert [(number.start, number.end) for number in numbers] == [(0, len(words))], (text, numbers)
    return numbers[0].text


def value(text: str) -> int:
    figure, _, scale = text.partition(" ")
    factor = {"": 1, "million": 10**6, "billion": 10**9, "trillion": 10**12}[scale]
    return round(float(figure.replace(",", "")) * factor)


@given(st.one_of(st.integers(10, 2000), st.integers(2100, 10**6), st.integers(10**6, 10**14)))
def test_cardinals_keep_their_value(number: int) -> None:
    assert value(figures(spoken(number))) == number
    american = spoken(number).replace(" and ", " ")
    if number < 10**6:  # "two million three" may be 2.3 million
        assert value(figures(american)) == number


@given(st.integers(10, 10**5).filter(lambda number: number % 100 not in (22, 32, 42, 52, 62, 72, 82, 92)))
def test_ordinals_keep_their_value(number: int) -> None:
    expected = num2words(number, to="ordinal_num")
    assert figures(spoken(number, "ordinal")).replace(",", "") == expected


@given(st.integers(1600, 2099).filter(lambda year: year % 100 and not 0 < year % 100 - year // 100 < 85))
def test_years_keep_their_digits(year: int) -> None:
    text = f"in {spoken(year, 'year')}".replace(" and ", " ")
    assert written(text) == f"in {year}"


@given(st.integers(1, 10**6 - 1), st.integers(1, 99), st.sampled_from([("USD", "$"), ("EUR", "€"), ("GBP", "£")]))
def test_money_keeps_its_value(whole: int, cents: int, currency: tuple[str, str]) -> None:
    code, sign = currency
    text = spoken(whole + cents / 100, "currency", currency=code, separator=" and").replace(" sterling", "")
    assert figures(text) == f"{sign}{whole:,}.{cents:02}"


@given(st.integers(0, 999), st.text("0123456789", min_size=1, max_size=6))
def test_decimals_keep_their_digits(whole: int, decimals: str) -> None:
    digits = " ".join(spoken(int(digit)) for digit in decimals)
    assert figures(f"{spoken(whole)} point {digits} percent") == f"{whole}.{decimals}%"


@given(st.text("0123456789", min_size=5, max_size=16).filter(lambda digits: digits not in "1234567890123456789"))
def test_strings_of_digits_are_kept(digits: str) -> None:
    text = " ".join(spoken(int(digit)) for digit in digits)
    if digits not in "987654321":
        assert figures(text) == digits
        assert figures(text.replace("zero", "oh")) == digits


@given(st.dates(datetime.date(1900, 1, 1), datetime.date(2040, 12, 31)))
def test_dates_keep_day_month_and_year(date: datetime.date) -> None:
    month, day = f"{date:%B}", spoken(date.day, "ordinal")
    year = spoken(date.year, "year")
    ordinal = num2words(date.day, to="ordinal_num")
    if date.year % 100:
        assert written(f"on {month.lower()} {day} {year}") == f"on {month} {ordinal} {date.year}"
        assert written(f"the {day} of {month.lower()} {year}") == f"the {ordinal} of {month} {date.year}"


@given(st.integers(1, 12), st.integers(1, 59), st.sampled_from(["a", "p"]))
def test_times_keep_hour_and_minute(hour: int, minute: int, half: str) -> None:
    minutes = f"oh {spoken(minute)}" if minute < 10 else spoken(minute)
    assert figures(f"{spoken(hour)} {minutes} {half} m") == f"{hour}:{minute:02} {half}.m."


OTHER = """the a and of to in is was at i m am k s people years dollars percent may march june o'clock past minus
    per cent , x"""
PHRASES = ["two thousand to", "and two thousand", "one hundred and", "nineteen ninety", "half past", "paragraphs two"]
ENGLISH = st.sampled_from(sorted(TRIGGERS) + OTHER.split() * 3 + PHRASES * 5)


@given(
    st.lists(ENGLISH, max_size=25).map(lambda parts: " ".join(parts).split(" ")),
    st.sets(st.integers(-2, 30), max_size=6),
)
def test_any_words_give_ordered_spans_inside_the_text_and_within_marks(words: list[str], breaks: set[int]) -> None:
    numbers = find_numbers(words, breaks)
    assert numbers == find_numbers(words, sorted(breaks))
    end = 0
    for number in numbers:
        assert end <= number.start < number.end <= len(words)
        assert not any(number.start <= index < number.end - 1 for index in breaks)
        assert re.search(r"\d", number.text)
        assert not TRIGGERS.isdisjoint(words[number.start : number.end])
        end = number.end


@given(st.lists(st.text(max_size=8), max_size=20))
def test_words_without_numbers_are_left_alone(words: list[str]) -> None:
    if TRIGGERS.isdisjoint(words):
        assert find_numbers(words) == []
    find_numbers(words)


def test_long_lists_take_time_in_proportion_to_their_length() -> None:
    assert find_numbers(["one", "and"] * 20_000) == []  # a minute, if each looked back to the first
