from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from mlipbench.errors import ConfigError
from mlipbench.structures import StructureBatch

torch = pytest.importorskip("torch")

from mlipbench.nets.build import build, presets_of  # noqa: E402 - needs torch
from mlipbench.nets.graph import find_neighbors, make_graph  # noqa: E402 - needs torch

if TYPE_CHECKING:
    from mlipbench.nets.network import Network, Output

pytestmark = pytest.mark.torch

CUTOFF = 3.2
CRYSTAL = Atoms(
    "CuOH", [[0.1, 0.2, 0.0], [1.9, 0.4, 0.3], [0.8, 1.7, 1.1]], cell=[[2.9, 0, 0], [0.9, 2.6, 0], [-0.6, 0.5, 3.1]],
    pbc=True,
)  # fmt: skip


def network() -> Network:
    torch.manual_seed(5)
    net = build("schnet", "small", hidden=24, filters=16, interactions=2, gaussians=20, cutoff=CUTOFF).double().eval()
    for parameter in net.parameters():
        # Biases start at zero, where a mistake in them would not show
        torch.nn.init.normal_(parameter, std=0.4)
    return net


@pytest.fixture(scope="module", name="net")
def net_fixture() -> Network:
    return network()


def predict(net: Network, frames: list[Atoms], **wanted: bool) -> Output:
    batch = StructureBatch.from_atoms(frames)
    return net(make_graph(batch, find_neighbors(batch, net.config.cutoff), torch.float64), **wanted)


def energy(net: Network, atoms: Atoms) -> float:
    return predict(net, [atoms], forces=False).energy.item()


def all_pairs(atoms: Atoms):
    """Return senders and receivers, and distances, by trying all images within two cells."""
    shifts = [s for s in itertools.product(range(-2, 3), repeat=3) if atoms.pbc.all() or not any(s)]
    found = []
    for i, j, shift in itertools.product(range(len(atoms)), range(len(atoms)), shifts):
        distance = np.linalg.norm(atoms.positions[j] + shift @ atoms.cell.array - atoms.positions[i])
        if (i != j or any(shift)) and distance < CUTOFF:
            found.append((j, i, distance))
    senders, receivers, distances = zip(*found, strict=True)
    return torch.tensor([senders, receivers]), torch.tensor(distances, dtype=torch.float64)


@pytest.mark.parametrize("atoms", [molecule("CH3CH2OH"), CRYSTAL], ids=["molecule", "crystal"])
def test_torch_geometrics_own_forward(net, atoms) -> None:
    from torch_geometric.nn.models import SchNet

    theirs = SchNet(24, 16, 2, 20, CUTOFF, interaction_graph=lambda _pos, _batch: all_pairs(atoms)).double()
    theirs.load_state_dict(net.model.state_dict(), strict=False)  # theirs lists each filter twice
    expected = theirs(torch.from_numpy(atoms.numbers).long(), torch.from_numpy(atoms.positions))
    assert energy(net, atoms) == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("atoms", [molecule("CH3CH2OH"), CRYSTAL], ids=["molecule", "crystal"])
def test_forces_are_minus_the_slope(net, atoms) -> None:
    forces = predict(net, [atoms]).forces
    step = 1e-4
    for atom, axis in itertools.product(range(3), range(3)):
        moved = []
        for sign in (1, -1):
            displaced = atoms.copy()
            displaced.positions[atom, axis] += sign * step
            moved.append(energy(net, displaced))
        assert forces[atom, axis].item() == pytest.approx((moved[1] - moved[0]) / (2 * step), rel=1e-5, abs=1e-7)


def test_moved_turned_and_relabelled(net) -> None:
    atoms = CRYSTAL.copy()
    before = predict(net, [atoms])
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turn *= -np.sign(np.linalg.det(turn))  # with a reflection
    order = [2, 0, 1]
    after = predict(
        net,
        [
            Atoms(
                atoms.numbers[order],
                (atoms.positions @ turn + [5.0, -3.0, 9.0])[order],
                cell=atoms.cell @ turn,
                pbc=True,
            )
        ],
    )
    assert after.energy.item() == pytest.approx(before.energy.item(), rel=1e-12)
    np.testing.assert_allclose(after.forces, (before.forces.numpy() @ turn)[order], atol=1e-10)


def test_alone_and_together(net) -> None:
    frames = [molecule("H"), CRYSTAL, molecule("CO2"), Atoms("HO", [[0, 0, 0], [9, 9, 9]]), molecule("CH3CH2OH")]
    together = predict(net, frames)
    alone = [predict(net, [atoms]) for atoms in frames]
    np.testing.assert_allclose(together.energy, torch.cat([one.energy for one in alone]), rtol=1e-12)
    np.testing.assert_allclose(together.forces, torch.cat([one.forces for one in alone]), atol=1e-10)


def test_atoms_on_their_own_add_up(net) -> None:
    apart = predict(net, [Atoms("HO", [[0, 0, 0], [9, 9, 9]])])
    assert apart.energy.item() == pytest.approx(energy(net, molecule("H")) + energy(net, molecule("O")), rel=1e-12)
    assert not apart.forces.any()


def test_a_cell_of_one_atom_twice(net) -> None:
    atom = bulk("Cu")
    assert energy(net, atom.repeat((1, 2, 1))) == pytest.approx(2 * energy(net, atom), rel=1e-12)


def test_no_jump_at_the_cutoff(net) -> None:
    inside, outside = (
        predict(net, [Atoms("OHC", [[0, 0, 0], [0, 1, 0], [CUTOFF + step, 0, 0]])]) for step in (-1e-6, 1e-6)
    )
    nearer = predict(net, [Atoms("OHC", [[0, 0, 0], [0, 1, 0], [CUTOFF - 0.5, 0, 0]])])
    assert abs(nearer.energy - outside.energy).item() > 1e-3
    assert inside.energy.item() == pytest.approx(outside.energy.item(), abs=1e-9)
    np.testing.assert_allclose(inside.forces, outside.forces, atol=1e-4)


def test_gradient_of_a_loss_of_forces() -> None:
    net = network().train()
    frames = [molecule("CO2"), CRYSTAL, molecule("H")]
    weights = dict(net.named_parameters())
    gradients = torch.autograd.grad(predict(net, frames).forces.pow(2).sum(), weights.values(), allow_unused=True)
    # A last bias shifts all energies alike
    assert [name for name, gradient in zip(weights, gradients, strict=True) if gradient is None] == ["model.lin2.bias"]
    chosen = weights["model.interactions.0.conv.nn.0.weight"]
    expected = gradients[list(weights).index("model.interactions.0.conv.nn.0.weight")][3, 7]
    losses = []
    for change in (1e-5, -2e-5):
        with torch.no_grad():
            chosen[3, 7] += change
        losses.append(predict(net, frames).forces.pow(2).sum().item())
    assert (losses[0] - losses[1]) / 2e-5 == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("preset", "changes", "expected"),
    [
        ("md17", {}, 117_953),  # MDSim's log of its run on water
        ("small", {"interactions": 3}, 238_465),  # the OC20 code base's SchNet(128, 128, 3)
        # by hand: elements; three times filters, maps to and from their width and a map of atoms; two output layers
        (
            "oc20",
            {},
            100 * 1024 + 3 * (201 * 256 + 257 * 256 + 1024 * 256 + 257 * 1024 + 1025 * 1024) + (1025 * 512 + 513),
        ),
    ],
)
def test_published_numbers_of_parameters(preset, changes, expected) -> None:
    assert sum(parameter.numel() for parameter in build("schnet", preset, **changes).parameters()) == expected


def test_presets() -> None:
    presets = presets_of("schnet")
    assert set(presets) == {"oc20", "iso17", "lips", "md17", "small"}
    assert all(config.cap is None for config in presets.values())


def test_another_table_of_elements_is_refused() -> None:
    with pytest.raises(ConfigError, match="the table of elements has 100 rows, not 119"):
        build("schnet", "small", elements=119)
