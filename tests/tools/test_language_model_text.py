"""Written sentences as they are read out (quotations from the sources), readers, and what is left out."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from developer_tools import load_tool

pytest.importorskip("num2words", reason="needs num2words")


@pytest.fixture
def spoken_text() -> ModuleType:
    return load_tool("spoken_text")


@pytest.fixture
def text(spoken_text: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/language_model_text.py, without the list of texts that models are judged by."""
    module = load_tool("language_model_text")
    monkeypatch.setattr(module, "_hashes", lambda name, code: frozenset())
    module._titles_read.clear()
    return module


@pytest.fixture
def spoken(spoken_text: ModuleType) -> Callable[[str], list[str]]:
    """The sentences of a paragraph, in lower case."""

    def read_out(paragraph: str) -> list[str]:
        sentences = spoken_text.sentences(spoken_text.plain(paragraph))
        return [" ".join(spoken_text.spoken(sentence)).lower() for sentence in sentences]

    return read_out


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        # dates and years
        ("It was held on April 28, 2002.", "it was held on april twenty eighth two thousand two"),
        ("On 5 January they caught up.", "on the fifth of january they caught up"),
        ("It slackened on 17 and 18 August.", "it slackened on the seventeenth and eighteenth of august"),
        ("The masks were stolen on May27.", "the masks were stolen on may twenty seventh"),
        ("The Julian calendar's 3 April is theirs.", "the julian calendar's third of april is theirs"),
        ("Dec. 2 nd . -- To the Percy.", "december second to the percy"),
        ("The attack in 1043 was beaten back.", "the attack in ten forty three was beaten back"),
        ("In the year 2100 it may rise.", "in the year twenty one hundred it may rise"),
        ("They fought in the 1980's and '90s.", "they fought in the nineteen eighties and nineties"),
        ("We started in the summer of '03.", "we started in the summer of oh three"),
        ("To the tune of 1,195 barrels.", "to the tune of one thousand one hundred and ninety five barrels"),
        ("There were 100,000people there.", "there were one hundred thousand people there"),
        # ranges and scores
        ("It took 12 – 14 weeks.", "it took twelve to fourteen weeks"),
        ("It prospered from 1850-1884.", "it prospered from eighteen fifty to eighteen eighty four"),
        ("They began with a 1–5 record.", "they began with a one five record"),
        ("You can call 1-800-HELPNOW.", "you can call one eight hundred helpnow"),
        # money
        ("He brought a $2 million account.", "he brought a two million dollar account"),
        ("The $4-billion benefit was announced.", "the four billion dollar benefit was announced"),
        ("It was sold for $1.", "it was sold for one dollar"),
        ("They gave £10-12 million.", "they gave ten to twelve million pounds"),
        ("He sold it for L16,000.", "he sold it for sixteen thousand pounds"),
        ("He had about 300 l. a year.", "he had about three hundred pounds a year"),
        ("It was a bill for £2 17s. 7d.", "it was a bill for two pounds seventeen shillings seven pence"),
        ("Six were hit by Bf 109s.", "six were hit by bf one hundred and nines"),
        ("We had no FFP3s.", "we had no ffp threes"),
        # clock
        ("At 7.30 that night he alighted.", "at seven thirty that night he alighted"),
        ("They waved to the 9.15.", "they waved to the nine fifteen"),
        ("At 7.62 mm it is small.", "at seven point six two millimeters it is small"),
        # fractions, units, sections, symbols
        ("It makes pictures 3-1/2 inches wide.", "it makes pictures three and a half inches wide"),
        ("Add 2½ cups and ¾ of it.", "add two and a half cups and three quarters of it"),
        ("It was 85 mi to the north at 20 °C.", "it was eighty five miles to the north at twenty degrees celsius"),
        ("Look at 4.5.36 over the page.", "look at four point five point thirty six over the page"),
        ("The 2d and 3d of them were there.", "the second and third of them were there"),
        ("C++ is on Node.js or 1Password.com.", "c plus plus is on node dot js or one password dot com"),
        ("It reached No. 17 and no. 5.", "it reached number seventeen and number five"),
        # letters and digits, names of works and rulers
        ("Is MD5 like HTML5 for the G20?", "is md five like html five for the g twenty"),
        ("World War I and World War II ended.", "world war one and world war two ended"),
        ("Henry VIII's wife was there.", "henry the eighth's wife was there"),
        ("Elizabeth I was his queen.", "elizabeth the first was his queen"),
        ("And Elizabeth I think is right.", "and elizabeth i think is right"),
        ("Malcolm X was there.", "malcolm x was there"),
        ("The Mk I was adopted.", "the mark one was adopted"),
        ("He called it \"Thief II\" for us.", "he called it thief two for us"),
        ("\"Flashpoint\"'s fifth season is here.", "flashpoint's fifth season is here"),
        ("The Łódź of Đorđe and Kathá is old.", "the lodz of dorde and katha is old"),
        ("He saw horses, dogs &c.", "he saw horses dogs et cetera"),
    ],
)  # fmt: skip
def test_a_sentence_is_read_out(spoken: Callable[[str], list[str]], sentence: str, words: str):
    assert spoken(sentence) == [words]


def test_abbreviations_end_sentences_only_where_one_begins(spoken: Callable[[str], list[str]]):
    assert spoken("She came to St. Petersburg with Mr. J. Smith. The end is near.") == [
        "she came to saint petersburg with mister j smith",
        "the end is near",
    ]
    assert spoken(
        "He and his sister lived in Washington, D.C. The other was with Apple Inc. and the like, etc. They left."
    ) == [
        "he and his sister lived in washington d c",
        "the other was with apple incorporated and the like et cetera",
        "they left",
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        "Could we have INQ000215556 on the screen?",
        "Acts xvii. 31.",
        "Clark, Roger, 41.",
        "It is an acid, C7H8O3, of the grape.",
        "Geneva, the 12th of May, 17--, to him.",
        "The word λόγος is of the Greeks.",
        "The function is f = kx as of now.",
        "It is located at 34°18'10N 73°26'20E and has a mosque.",
        "The XIV° Corpo d'Armata fought the occupation of the province.",
        "A€ always stands by the Church.",
    ],
)
def test_what_cannot_be_read_out_is_left_out(spoken: Callable[[str], list[str]], sentence: str):
    assert spoken(sentence) == [""]


def made(text: ModuleType, document: str) -> list[str]:
    return [sentence.lower() for _, sentence in text.sentences_of(document) if sentence]


def test_wikipedia_sentences_with_a_template_missing_are_left_out(text: ModuleType):
    body = (
        "He bought an additional of farmland for the price of one old house in town. It stood at an altitude of , "
        "and was his. Aikido was made by Ueshiba ( ), who was born there. The word [he] said was put in by us."
    )
    page = f'<doc id="1" url="u" title="T">\nT\n\n{body}\n</doc>'
    (document,) = text.wikipedia([("a", page)])
    assert made(text, document) == [
        "aikido was made by ueshiba who was born there",
        "the word he said was put in by us",
    ]


def test_old_encodings_of_books_are_read(text: ModuleType):
    assert text._decoded("Don’t say Kathá.".encode("cp1252")) == "Don’t say Kathá."
    assert text._decoded("Don’t say Kathá.".encode()) == "Don’t say Kathá."


def test_books_lose_footnote_numbers_and_dictionaries_are_left_out(text: ModuleType):
    def book(title: str) -> str:
        return (
            f"Title: {title}\nLanguage: English\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\n"
            "Such was their pens. 52 But the more humble industry was of the monks.\n\n*** END OF THE PROJECT GUTENBERG"
        )

    files = [("1.txt", book("The Decline")), ("2.txt", book("Webster's Unabridged Dictionary"))]
    documents = list(text.gutenberg(files))
    assert [made(text, document) for document in documents] == [
        ["such was their pens", "but the more humble industry was of the monks"]
    ]


def test_contractions_typed_without_apostrophe_get_it(text: ModuleType):
    rows = "Answer.sentence1,Answer.sentence2\nI dont know its a thing,theyre sure thats it but were not\n"
    (document,) = text.conversations([("a", rows)])
    assert made(text, document) == ["i don't know it's a thing", "they're sure that's it but were not"]


def test_sentences_that_share_eight_words_with_a_text_are_found_wherever_they_stand(text: ModuleType, tmp_path: Path):
    spoken = [*"abcdefghijkl".upper()]
    (tmp_path / "tune.jsonl").write_text(json.dumps({"text": " ".join(spoken)}) + "\n")
    overlap = text.Overlap([tmp_path / "tune.jsonl"])
    for before in range(9):
        for length in range(1, len(spoken) + 1):
            words = ["X"] * before + spoken[2 : 2 + length] + ["Y"]
            assert (words in overlap) == (min(length, len(spoken) - 2) >= text.GRAM)


def test_sentences_of_held_out_texts_are_left_out(text: ModuleType, monkeypatch: pytest.MonkeyPatch):
    from hashlib import blake2b
    from zlib import crc32

    known = [*"ABCDEFGHI"]
    grams = [" ".join(known[i : i + 8]) for i in (0, 1)] + ["A B"]  # the last: a short sentence as a whole
    hashes = {
        "Q": frozenset(int.from_bytes(blake2b(gram.encode(), digest_size=8).digest(), "little") for gram in grams),
        "I": frozenset(crc32(word.encode()) for word in known),
    }
    monkeypatch.setattr(text, "_hashes", lambda name, code: hashes[code])
    monkeypatch.setattr(text, "_held_out_words", text._HeldOutWords())
    assert text.is_held_out(["X", *known, "Y"])
    assert text.is_held_out(["A", "B"])
    assert not text.is_held_out(["A", "B", "C"])
    assert not text.is_held_out([*known[:7], "X", *known[7:]])


def test_a_source_is_built_without_the_tuning_texts(text: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    documents = ["It was the best of times.\n\nThis is what she said to him on that day.\n\nIt was the best of times."]
    monkeypatch.setattr(text, "documents", lambda snapshots, name: iter(documents))
    (tmp_path / "tune.txt").write_text("this is what she said to him on that day\n")
    text.build(tmp_path, tmp_path, "speeches", text.Overlap([tmp_path / "tune.txt"]), 1, True)
    assert (tmp_path / "speeches.txt").read_text() == "It was the best of times.\tIT WAS THE BEST OF TIMES\n\n"
