"""The words that are spoken for written ones: as corpora have them, and as alignment reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.spoken import WRITTEN_WORD, read_aloud, read_words, spoken_words


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("It’s Mr. O'Neil’s “dog”—isn't it, Mrs Bee?", "it's mister o'neil's dog isn't it missus bee"),
        ("'Hello', she said; the dogs' tails wagged", "hello she said the dogs tails wagged"),
        ("Crème brûlée à la Façade, Ångström, Łódź, œuvre", "creme brulee a la facade angstrom lodz oeuvre"),
        ("don´t, won`t, canʼt", "don't won't can't"),
        ("ﬁne　ｗｏｒｄｓ, co\u00adoperate", "fine words cooperate"),
        ("twenty-one... (a.b.) U.S.A.", "twenty one a b u s a"),
        ("R&B & 5% of 1,000,000", "r and b and five percent of one million"),
        ("0 7 42 101 1000", "zero seven forty two one hundred one one thousand"),
        (
            "1905, 1984; 1500 in 2024 and 2009",
            "nineteen oh five nineteen eighty four fifteen hundred in twenty twenty four and two thousand nine",
        ),
        ("the 1st, 22nd and 103rd", "the first twenty second and one hundred third"),
        ("3.50 or 0.5", "three point five zero or zero point five"),
        *((text, "") for text in ("12:30", "1990s", "90210", "007", "-5", "A4", "$5", "€", "1+1", "a@b", "x²", "½")),
        *(
            (text, "")
            for text in ("Dr. No", "12 St. John's", "e.g. I", "i. e. me", "us vs. them", "Jones Jr.", "c. 1700")
        ),
        *((text, "") for text in ("Henry VIII", "World War II.", "King Ⅷ", "chapter XIV")),
        ("I said no. KING HENRY VIII", ""),
        ("KING HENRY VIII", "king henry viii"),
        ("I drove; the mix, the 1st. A civic duty, no.", "i drove the mix the first a civic duty no"),
        *((text, "") for text in ("Привет world", "你好", "", " … ", "'", "55555")),
    ],
)
def test_english_texts_become_what_is_said_or_nothing(written: str, said: str):
    assert spoken_words(written) == said


@given(st.text(), st.sampled_from(["en", "fr"]))
def test_what_is_said_is_words_and_stays_as_it_is(text: str, language: str):
    said = spoken_words(text, language)
    assert spoken_words(said, language) == said
    assert said == " ".join(said.split())
    assert all(character.isalpha() or character in " '" or character.isprintable() for character in said)
    if language == "en":
        assert set(said) <= set("abcdefghijklmnopqrstuvwxyz' ")


@given(st.integers(0, 9999))
def test_every_number_of_up_to_four_digits_is_spelled(number: int):
    said = spoken_words(f"{number}.")
    assert said
    assert set(said) <= set("abcdefghijklmnopqrstuvwxyz ")


def test_turkish_has_two_letters_i():
    assert spoken_words("İstanbul, ISPARTA", "tr") == "istanbul ısparta"


def test_digits_stay_in_a_language_without_rules_for_them() -> None:
    assert read_aloud("5", "qaa") == "5"


@pytest.mark.parametrize("language", ["en", "de", "ja", "km", "zh"])
def test_numbers_of_any_length_are_read(language: str):
    """Some languages have no words for 10¹⁶, and Python makes no number of 5,000 digits."""
    for digits in (12, 13, 17, 18, 30, 5000):
        assert read_aloud("9" * digits, language)
        assert read_aloud(f"${'9' * digits}", language)
    assert read_aloud("9" * 30) == " ".join(["nine"] * 30)
    assert read_aloud("$1") == "one dollar"
    assert read_aloud("$01.01") == "one dollar one cent"


READ_ALOUD = {
    "$25.50": "twenty five dollars fifty cents", "$1.00": "one dollar", "£0.02": "two pence", "$0": "zero dollars",
    "€1,200": "one thousand two hundred euros", "£3.5m": "three point five million pounds",
    "$5bn.": "five billion dollars",
    "Dr.": "doctor", "e.g.": "for example", "no": "no", "80kg,": "eighty kilograms", "km": "kilometers",
    "555-1234": "five five five one two three four", "007": "zero zero seven", "50000": "fifty thousand",
    "3/4": "three quarters", "½": "a half", "2½": "two and a half", "3/5": "three five", "-4": "minus four",
    "20°C": "twenty degrees celsius", "#1": "number one", "50¢": "fifty cents", "2–3": "two to three",
    "9:30": "nine thirty", "10:05": "ten oh five", "12:00": "twelve", "5pm": "five p m",
    "5€": "five euros", "3,50€": "three euros fifty cents", "1 €": "one euro", "20€,": "twenty euros",
    "5 € —": "five euros", "¥500": "five hundred yen", "₹100": "one hundred rupees", "$ 5": "five dollars",
    "€1,5": "one point five euros", "€1,500": "one thousand five hundred euros",
    "2.5m€": "two point five million euros",
    "€10,000": "ten thousand euros", "10 000 €": "ten thousand euros", "10\u2009000": "ten thousand",
    "m²": "square meters", "20km²": "twenty square kilometers", "x²": "x squared", "No.5": "number five",
    "1600s": "sixteen hundreds", "2000s": "two thousands", "1910s": "nineteen tens",
    "Jan.": "january", "Sept.": "september", "Mt.": "mount", "Ave.,": "avenue", "Co.": "company",
    "Dept.": "department", "Fig.": "figure", "Gov.": "governor", "Sen.": "senator", "Rep.": "representative",
    "Lt.": "lieutenant", "St.": "saint", "(vs.)": "versus", "e. g.": "for example", "jan": "jan", "co": "co",
    "1990s": "nineteen nineties", "'90s": "nineties", "1980-1990": "nineteen eighty nineteen ninety", "3rd,": "third",
}  # fmt: skip


def test_numbers_prices_units_and_signs_are_read_aloud() -> None:
    assert {word: read_aloud(word) for word in READ_ALOUD} == READ_ALOUD


GERMAN = {
    "3,50": "drei komma fünf null", "20%": "zwanzig prozent", "5€": "fünf euro", "5 €": "fünf euro", "1 €": "ein euro",
    "$5": "fünf dollar", "3,50 €": "drei komma fünf null euro", "1.500": "eintausendfünfhundert",
    "10 000": "zehntausend", "Dr.": "doktor", "Prof.": "professor", "z.B.": "zum beispiel", "z. B.": "zum beispiel",
    "usw.": "und so weiter", "bzw.": "beziehungsweise", "ca.": "circa", "Nr.": "nummer", "Str.": "straße",
}  # fmt: skip


def test_german_numbers_prices_and_abbreviations_are_read_aloud() -> None:
    assert {word: read_aloud(word, "de") for word in GERMAN} == GERMAN


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("No. 5", "number five"),
        ("I said no.", "i said no"),
        ("see fig. 3 of vol. 2", "see figure three of volume two"),
        ("He ate a fig.", "he ate a fig"),
        ("it cost 10.000€ or 3.50€", "it cost ten thousand euros or three euros fifty cents"),
        ("(p. 12)", "page twelve"),
        ("p. is", "p is"),
        ("Henry VIII, in World War II.", "henry eight in world war two"),
        ("Chapter XIV — Louis IX", "chapter fourteen louis nine"),
        ("the mix IV VISIT Vivid I", "the mix iv visit vivid i"),
        ("A VIVID VISIT I", "a vivid visit i"),
        ("I VV", "i vv"),
    ],
)
def test_words_are_read_beside_their_neighbors(written: str, said: str) -> None:
    assert " ".join(read_words(written.split())).split() == said.split()


def test_a_price_in_millions_is_one_written_word() -> None:
    words = [match[0] for match in WRITTEN_WORD.finditer("It cost $5 million, or (£3.5 billion).")]
    assert words == ["It", "cost", "$5 million,", "or", "(£3.5 billion)."]
    said = "it cost five million dollars or three point five billion pounds"
    assert " ".join(read_words(words)) == said


@given(st.lists(st.text("059$€¥.,:²½% IVXpNoé\u2009")), st.sampled_from(["en", "de", "fr", "qaa"]))
def test_every_word_is_read(words: list[str], language: str) -> None:
    assert len(read_words(words, language)) == len(words)


def test_a_page_in_german_is_read_before_its_number() -> None:
    assert read_words(["S.", "12", "S."], "de") == ["seite", "zwölf", "s"]
