"""What is declared of each network, and what the documentation says of it, against measurement."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import physics  # noqa: E402 - needs torch
from physics import PROPERTIES, SUBJECTS, Subject  # noqa: E402 - needs torch

from mlipbench.nets import NET_NAMES  # noqa: E402 - needs torch
from mlipbench.nets.network import Network, NetworkConfig, Output  # noqa: E402 - needs torch
from mlipbench.nets.segments import segment_sum, take  # noqa: E402 - needs torch
from mlipbench.structures.neighbors import NeighborCap  # noqa: E402 - beside the others

pytestmark = pytest.mark.torch

PAGE = Path(__file__).parents[3] / "docs" / "models" / "properties.md"
MEASURABLE = 1e-6
WHOLE, STRICT = NeighborCap(4, whole_shells=True), NeighborCap(4, whole_shells=False)


@functools.cache
def measured(label: str, name: str) -> float:
    return PROPERTIES[name].error(SUBJECTS[label])


@pytest.mark.parametrize("name", PROPERTIES)
@pytest.mark.parametrize("label", SUBJECTS)
def test_networks_have_the_properties_declared_and_no_others(label, name):
    error = measured(label, name)
    if name in SUBJECTS[label].lacks:
        assert error > MEASURABLE
    else:
        assert error < PROPERTIES[name].tolerance


def test_every_network_is_declared():
    assert {subject.name for subject in SUBJECTS.values()} == set(NET_NAMES)
    assert set().union(*(subject.lacks for subject in SUBJECTS.values())) <= set(PROPERTIES)


@pytest.mark.parametrize("label", SUBJECTS)
def test_no_network_is_continuous_under_a_cap(label):
    assert physics.cap_error(SUBJECTS[label], None) < 1e-9
    for cap in (WHOLE, STRICT):
        assert physics.cap_error(SUBJECTS[label], cap) > MEASURABLE


@pytest.mark.parametrize("label", SUBJECTS)
def test_only_caps_that_keep_shells_whole_keep_the_symmetry_of_a_crystal(label):
    subject = SUBJECTS[label]
    assert physics.copper_error(subject, NeighborCap(20, whole_shells=False)) > MEASURABLE
    if "copper" not in subject.lacks:
        assert physics.copper_error(subject, NeighborCap(20, whole_shells=True)) < 1e-9


class Flawed(Network):
    """Pairwise forces, and one flaw."""

    conservative = False

    def __init__(self, flaw: str) -> None:
        super().__init__(NetworkConfig(elements=100, cutoff=5.0))
        self.flaw = flaw

    def forward(self, graph, *, forces=True, stress=False):
        weights = graph.vectors.square().sum(1, keepdim=True).add(1).reciprocal()
        if self.flaw == "lattice":
            weights = weights * (1 + graph.shifts.abs().sum(1, keepdim=True))
        per_atom = segment_sum(weights, graph.receivers) * graph.numbers[:, None]
        if self.flaw == "permutation":
            places = torch.arange(len(per_atom)) - take(graph.structures.offsets[:-1], graph.structures)
            per_atom = per_atom * (1 + places[:, None])
        if self.flaw == "batch":
            per_atom = per_atom - per_atom.mean()
        pull = segment_sum(weights * graph.vectors, graph.receivers)
        return Output(segment_sum(per_atom, graph.structures)[:, 0], pull)


@pytest.mark.parametrize("flaw", ["lattice", "permutation", "batch"])
def test_flaws_that_no_network_has_would_show(flaw):
    subject = Subject(flaw)
    subject.__dict__["network"] = Flawed(flaw)
    shown = {
        name for name in ("translation", "lattice", "permutation", "batch") if PROPERTIES[name].error(subject) > 1e-9
    }
    assert flaw in shown
    assert shown <= {flaw, "translation"} if flaw == "lattice" else shown == {flaw}


def documented() -> dict[tuple[str, str], str]:
    rows = [line.strip("| \n").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    head, *body = rows[rows.index(next(row for row in rows if "`leignn`" in row)) :]
    labels = [cell.strip("`") for cell in head]
    names = {entry.title: name for name, entry in PROPERTIES.items()}
    return {(label, names[title]): cell for title, *cells in body for label, cell in zip(labels, cells, strict=True)}


def test_the_documentation_says_what_is_measured():
    cells = documented()
    assert set(cells) == {(label, name) for label in SUBJECTS for name in PROPERTIES}
    for (label, name), cell in cells.items():
        verdict, _, size = cell.partition(", ")
        error = measured(label, name)
        assert verdict == ("yes" if error < PROPERTIES[name].tolerance else "no"), (label, name)
        if verdict == "no":
            assert float(size) / 10 < error < float(size) * 10, (label, name)
