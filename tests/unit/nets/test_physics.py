"""Every network has the properties it is declared to have and lacks those it is declared to lack, as documented."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from physics import PROPERTIES, SUBJECTS

from mlipbench.nets import NET_NAMES

pytestmark = pytest.mark.torch
DOCUMENT = Path(__file__).parents[3] / "docs/models/properties.md"


def documented() -> dict[tuple[str, str], bool]:
    """Return what the table of the documents says, by network and property."""
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in DOCUMENT.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ]
    labels = [label.strip("`") for label in rows[0][1:]]
    return {(label, row[0]): cell == "yes" for row in rows[1:] for label, cell in zip(labels, row[1:], strict=True)}


@pytest.mark.parametrize("prop", PROPERTIES)
@pytest.mark.parametrize("label", SUBJECTS)
def test_a_property_holds_exactly_where_it_is_declared(label: str, prop: str) -> None:
    subject, entry = SUBJECTS[label], PROPERTIES[prop]
    error = entry.error(subject)
    if prop in subject.lacks:
        assert error > 5 * entry.tolerance, "declared to fail, and does not"
    else:
        assert error < entry.tolerance


def test_every_network_is_declared() -> None:
    assert {subject.name for subject in SUBJECTS.values()} == set(NET_NAMES)


def test_the_documents_say_what_is_declared() -> None:
    declared = {
        (label, entry.title): prop not in subject.lacks
        for label, subject in SUBJECTS.items()
        for prop, entry in PROPERTIES.items()
    }
    assert documented() == declared
