from __future__ import annotations

import pytest
from ase.data import chemical_symbols
from hypothesis import given
from hypothesis import strategies as st

from mlipbench.elements import SYMBOLS, format_elements, parse_elements


def test_symbols_are_those_of_ase() -> None:
    assert list(SYMBOLS) == chemical_symbols


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1-3", {1, 2, 3}),
        ("H", {1}),
        ("118", {118}),
        ("H, O, Al, 26-29", {1, 8, 13, 26, 27, 28, 29}),
        ("H-Be", {1, 2, 3, 4}),
        ("8, O", {8}),
        ("5-5", {5}),
    ],
)
def test_lists_of_symbols_numbers_and_ranges_are_read(text: str, numbers: set[int]) -> None:
    assert parse_elements(text) == numbers


@pytest.mark.parametrize("text", ["", "0", "119", "X", "h", "3-1", "1-", "-5", "1--3", "H,", "1 - 3", "²", "1.5"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"neither a chemical symbol|runs backwards"):
        parse_elements(text)


@given(st.sets(st.integers(1, 118), min_size=1))
def test_formatted_elements_are_read_back(numbers: set[int]) -> None:
    assert parse_elements(format_elements(numbers)) == numbers


def test_elements_are_formatted_in_order_of_atomic_number() -> None:
    assert format_elements({29, 1, 8}) == "H, O, Cu"
