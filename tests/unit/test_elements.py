from __future__ import annotations

import pytest
from ase.data import chemical_symbols
from ase.formula import Formula
from hypothesis import given
from hypothesis import strategies as st

from mlipbench.elements import SYMBOLS, format_elements, format_formula, parse_elements, parse_formula


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


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("C9H8O4", {6: 9, 1: 8, 8: 4}),
        ("O4C9H8", {6: 9, 1: 8, 8: 4}),
        ("H128O64", {1: 128, 8: 64}),
        ("Co", {27: 1}),
        ("CO", {6: 1, 8: 1}),
        ("C2H6O", {6: 2, 1: 6, 8: 1}),
    ],
)
def test_formulas_are_counted(text: str, counts: dict[int, int]) -> None:
    assert parse_formula(text) == counts


@pytest.mark.parametrize(
    "text", ["", "C9H8OH", "CH3CH2OH", "C0", "C01", "c9", "X2", "Qq", "C(H)4", "C9 H8", "9C", "C1.5"]
)
def test_what_is_no_formula_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no formula such as C9H8O4"):
        parse_formula(text)


@given(st.dictionaries(st.integers(1, 118), st.integers(1, 1000)), st.integers(1, 1000))
def test_formulas_with_carbon_are_written_as_ase_writes_hills(counts: dict[int, int], n_carbon: int) -> None:
    counts[6] = n_carbon
    written = format_formula(counts)
    assert written == Formula.from_dict({SYMBOLS[z]: n for z, n in counts.items()}).format("hill")
    assert parse_formula(written) == counts


def test_formulas_without_carbon_follow_the_alphabet() -> None:
    assert format_formula({8: 64, 1: 128}) == "H128O64"
    assert format_formula({16: 44, 15: 12, 3: 27}) == "Li27P12S44"
    assert format_formula({1: 2, 4: 1}) == "BeH2"
