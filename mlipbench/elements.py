"""Chemical symbols and formulas, without importing ASE at start-up."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SYMBOLS: Final = tuple(
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr "  # noqa: SIM905
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu "
    "Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr "
    "Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og".split()
)


def parse_elements(text: str) -> frozenset[int]:
    """Return the atomic numbers of a list such as ``1-89`` or ``H, O, Al, 26-29``.

    Raises:
        ValueError: A part is neither a symbol, a number from 1 to 118 nor a range between two of these.
    """
    numbers: set[int] = set()
    for part in (piece.strip() for piece in text.split(",")):
        first, dash, last = part.partition("-")
        start = _atomic_number(first)
        stop = _atomic_number(last) if dash else start
        if stop < start:
            raise ValueError(f"{part!r} runs backwards")
        numbers.update(range(start, stop + 1))
    return frozenset(numbers)


def format_elements(numbers: frozenset[int] | set[int]) -> str:
    """Return symbols in order of atomic number, such as ``H, O, Cu``."""
    return ", ".join(SYMBOLS[z] for z in sorted(numbers))


def parse_formula(text: str) -> dict[int, int]:
    """Return how many atoms of each atomic number a formula such as ``C9H8O4`` stands for.

    Raises:
        ValueError: It is not a row of different symbols, each with a number of atoms behind it unless that is one.
    """
    parts = re.findall(r"([A-Z][a-z]?)([1-9][0-9]{0,6})?", text)
    counts = {SYMBOLS.index(symbol): int(number or 1) for symbol, number in parts if symbol in SYMBOLS[1:]}
    if not counts or len(counts) < len(parts) or "".join(map("".join, parts)) != text:
        raise ValueError(f"{text!r} is no formula such as C9H8O4, with each element once and whole numbers of atoms")
    return counts


def format_formula(counts: Mapping[int, int]) -> str:
    """Return the formula of numbers of atoms by atomic number: carbon, hydrogen and then the alphabet.

    The order is Hill's (J. Am. Chem. Soc. 22 (1900) 478), which is the alphabet alone where there is no carbon.
    """
    numbers = {SYMBOLS[z]: n for z, n in counts.items() if n}
    first = [symbol for symbol in ("C", "H") if symbol in numbers and "C" in numbers]
    order = first + sorted(numbers.keys() - set(first))
    return "".join(symbol + (str(numbers[symbol]) if numbers[symbol] > 1 else "") for symbol in order)


def _atomic_number(text: str) -> int:
    if text in SYMBOLS[1:]:
        return SYMBOLS.index(text)
    if text.isascii() and text.isdigit() and 1 <= int(text) < len(SYMBOLS):
        return int(text)
    raise ValueError(f"{text!r} is neither a chemical symbol nor an atomic number from 1 to {len(SYMBOLS) - 1}")
