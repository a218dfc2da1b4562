"""Languages of corpora."""

import pytest

from asr.data.text import language_of
from asr.errors import RecipeError


def test_a_language_is_a_code():
    assert [language_of(name) for name in ("en", "EN-us", "zh_TW", "haw")] == ["en", "en", "zh", "haw"]
    with pytest.raises(RecipeError, match=r"^'klingon' is no language; name it by its code"):
        language_of("klingon")
