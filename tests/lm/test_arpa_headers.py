from pathlib import Path

import pytest

from asr.errors import LanguageModelError
from asr.lm.arpa import read_arpa

BODY = b"\\1-grams:\n-1\t<s>\t0\n-1\t</s>\n-1\t<unk>\n-1\ta\n\n\\end\\\n"


@pytest.mark.parametrize(
    "header",
    [
        b"\\data\\\nngram\t1=4\n\n",
        b"\\data\\ \nngram  1 =\t4 \n\n",
        b"\xef\xbb\xbf\\data\\\r\nngram 1=4\r\n\r\n",
        b"made by a program\n\n\\data\\\nngram 1=4\n\n",
    ],
    ids=["tab", "blanks", "byte order mark", "heading"],
)
def test_the_counts_may_have_tabs_blanks_a_heading_or_a_byte_order_mark(header: bytes):
    assert read_arpa((header + BODY).splitlines(True), Path("a.arpa")).order == 1


@pytest.mark.parametrize("content", [b"just a text\n", b"just a text\n" * 1000, b"", b"\\data"])
def test_a_text_is_no_language_model(content: bytes):
    with pytest.raises(LanguageModelError, match=r"a\.arpa: not a language model"):
        read_arpa(content.splitlines(True), Path("a.arpa"))
