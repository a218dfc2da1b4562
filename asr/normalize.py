"""The form in which texts are compared, aligned and learned, and that of language codes."""

import unicodedata

# For str.translate, as typesetters and keyboards write them: right and left quote, reversed quote, modifier letters,
# prime, full width, backtick, acute.
APOSTROPHES = str.maketrans(dict.fromkeys("’‘‛ʼʻ′＇`´", "'"))
# Letters that do not decompose into a letter of a to z and a mark.
LETTERS = str.maketrans({"æ": "ae", "œ": "oe", "ø": "o", "ß": "ss", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"})
TATWEEL = "\u0640"  # makes an Arabic word wider


class _ScoredCharacters(dict[int, str | None]):
    """For str.translate: what scoring makes of a code point, worked out once for each."""

    def __missing__(self, code: int) -> str | None:
        character = APOSTROPHES.get(code, chr(code))  # NFKC makes a new one out of U+0149
        # Letters, marks (accents, vowel signs) and numbers spell words; everything else parts them.
        kept = character == "'" or unicodedata.category(character)[0] in "LMN"
        self[code] = character if kept else " "
        return self[code]


class _WithoutFormat(dict[int, str | None]):
    """For str.translate: drops invisible format characters, such as the soft hyphen, and tatweel."""

    def __missing__(self, code: int) -> str | None:
        self[code] = None if unicodedata.category(chr(code)) == "Cf" or chr(code) == TATWEEL else chr(code)
        return self[code]


_SCORED_CHARACTERS = _ScoredCharacters()
_WITHOUT_FORMAT = _WithoutFormat()


def primary_language(code: str) -> str:
    """The language of a code, without its region: sv of sv-SE and sv_SE."""
    return code.lower().replace("_", "-").partition("-")[0]


def without_format(text: str) -> str:
    """Without characters that only shape what is seen, such as the soft hyphen and Arabic's tatweel."""
    return text.translate(_WITHOUT_FORMAT)


def without_accents(text: str) -> str:
    """A text in a to z as far as its letters are such with marks, or, small ones, are written so: Ö is O, ß is ss."""
    letters = unicodedata.normalize("NFKD", text.translate(LETTERS))
    return "".join(character for character in letters if not unicodedata.combining(character))


def lowered(text: str) -> str:
    """Lower case, with a Turkish İ as i: Unicode would keep its dot as a second character, which no alphabet has."""
    return text.replace("İ", "i").lower()


def normalize(text: str) -> str:
    """The one rule that references and hypotheses pass through before they are compared.

    1. Typographic apostrophes become `'`; what only shapes the writing (soft hyphen, joiners, tatweel) goes.
    2. Unicode NFKC, so that composed and decomposed accents, ligatures and full-width forms are equal.
    3. Lower case.
    4. Hyphens, all other punctuation and symbols become spaces; an apostrophe stays only inside a word.
    5. White space collapses to single spaces, none at the ends.

    Numbers, abbreviations and spelling variants are left alone: `10`, `ten` and `Mr` differ from `ten`, `10`
    and `mister`. The rule is idempotent.
    """
    text = lowered(unicodedata.normalize("NFKC", without_format(text.translate(APOSTROPHES))))
    # Again: some letters, such as H with a line below, have a composed form only in lower case.
    text = unicodedata.normalize("NFKC", text).translate(_SCORED_CHARACTERS)
    words = (word.strip("'") for word in text.split())
    # A mark without a letter is what NFKC leaves of a free-standing accent.
    return " ".join(word for word in words if any(character.isalnum() for character in word))
