from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from scipy.special import eval_legendre, spherical_jn

from mlipbench.errors import ConfigError
from mlipbench.structures import StructureBatch

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from mlipbench.nets.build import build, presets_of  # noqa: E402 - needs torch
from mlipbench.nets.dimenet import DimeNetPlusPlus, SphericalBasis, geometric  # noqa: E402 - needs torch
from mlipbench.nets.graph import find_neighbors, make_graph  # noqa: E402 - needs torch

if TYPE_CHECKING:
    from mlipbench.nets.network import Network, Output

pytestmark = pytest.mark.torch

CUTOFF = 3.2
SIZES = {"hidden": 16, "blocks": 2, "spherical": 3, "radial": 2, "cutoff": CUTOFF}
OWN_SIZES = {"dimenet": {"bilinear": 3}, "dimenet++": {"out_emb": 12, "int_emb": 10, "basis_emb": 5}}
CRYSTAL = Atoms(
    "CuOH", [[0.1, 0.2, 0.0], [1.9, 0.4, 0.3], [0.8, 1.7, 1.1]], cell=[[2.9, 0, 0], [0.9, 2.6, 0], [-0.6, 0.5, 3.1]],
    pbc=True,
)  # fmt: skip
LINE = Atoms("NCO", [[0, 0, -1.2], [0, 0, 0], [0, 0, 1.1]])


def network(name: str) -> Network:
    torch.manual_seed(5)
    net = build(name, "small", **SIZES, **OWN_SIZES[name]).double().eval()
    for part in net.modules():
        if isinstance(part, torch.nn.Linear):
            # Biases and the last layer start at zero, where a mistake in them would not show
            torch.nn.init.normal_(part.weight, std=part.in_features**-0.5)
            if part.bias is not None:
                torch.nn.init.normal_(part.bias, std=0.3)
    return net


def is_plus_plus(net: Network) -> bool:
    return isinstance(net, DimeNetPlusPlus)


@pytest.fixture(scope="module", name="net", params=["dimenet", "dimenet++"])
def net_fixture(request) -> Network:
    return network(request.param)


def predict(net: Network, frames: list[Atoms], **wanted: bool) -> Output:
    batch = StructureBatch.from_atoms(frames)
    return net(make_graph(batch, find_neighbors(batch, net.config.cutoff), torch.float64), **wanted)


def energy(net: Network, atoms: Atoms) -> float:
    return predict(net, [atoms], forces=False).energy.item()


def plain_radius_graph(positions, r, **_settings):
    close = (torch.cdist(positions, positions) < r) & ~torch.eye(len(positions), dtype=torch.bool)
    receivers, senders = close.nonzero().T
    return torch.stack([senders, receivers])


def plain_triplets(edges, num_nodes):
    """What torch-geometric's function of this name returns; its own needs a package that cannot be installed."""
    j, i = edges
    assert max(*i, *j) < num_nodes
    ways = [
        (ji, kj)
        for ji, kj in itertools.product(range(len(i)), repeat=2)
        if i[kj] == j[ji] and j[kj] != i[ji]
    ]  # fmt: skip
    ji, kj = torch.tensor(ways).T
    return i, j, i[ji], j[ji], j[kj], kj, ji


@pytest.fixture(scope="module", name="their_basis")
def their_basis_fixture():
    return geometric.SphericalBasisLayer(3, 2, CUTOFF)


@pytest.fixture(scope="module", name="theirs")
def theirs_fixture(net, their_basis):
    common = {"hidden_channels": 16, "out_channels": 1, "num_blocks": 2, "num_spherical": 3, "num_radial": 2}
    own = (
        {"int_emb_size": 10, "basis_emb_size": 5, "out_emb_channels": 12} if is_plus_plus(net) else {"num_bilinear": 3}
    )
    with pytest.MonkeyPatch.context() as patch:
        # Each basis built takes seconds
        patch.setattr(geometric, "SphericalBasisLayer", lambda *_sizes: their_basis)
        theirs = (geometric.DimeNetPlusPlus if is_plus_plus(net) else geometric.DimeNet)(**common, **own, cutoff=CUTOFF)
    theirs.double().load_state_dict(net.state_dict())
    return theirs


class OwnBasis(torch.nn.Module):
    """Our basis where torch-geometric's takes angles."""

    def __init__(self, basis: SphericalBasis) -> None:
        super().__init__()
        self.basis = basis

    def forward(self, distances, angles, edge_kj):
        return self.basis(distances, torch.cos(angles), edge_kj)


@pytest.mark.parametrize("formula", ["C2H6CHOH", "CH3CH2OH", "CO2"])
def test_torch_geometrics_own_forward(net, theirs, formula, monkeypatch) -> None:
    atoms = molecule(formula)
    monkeypatch.setattr(geometric, "radius_graph", plain_radius_graph)
    monkeypatch.setattr(geometric, "triplets", plain_triplets)
    arguments = torch.from_numpy(atoms.numbers).long(), torch.from_numpy(atoms.positions)
    expected = theirs(*arguments).item()
    assert abs(expected) > 1e-3
    # The numbers in its basis have seven digits
    assert energy(net, atoms) == pytest.approx(expected, rel=1e-6)
    monkeypatch.setitem(theirs._modules, "sbf", OwnBasis(net.sbf))
    assert energy(net, atoms) == pytest.approx(theirs(*arguments).item(), rel=1e-11)


def test_basis_of_torch_geometric(their_basis) -> None:
    distances = torch.linspace(0.4, 3.1, 9, dtype=torch.float64)
    angles = torch.linspace(0.0, np.pi, 12, dtype=torch.float64)
    edges = torch.arange(12) % 9
    found = SphericalBasis(3, 2, CUTOFF)(distances, torch.cos(angles), edges)
    np.testing.assert_allclose(found, their_basis(distances, angles, edges), rtol=2e-7, atol=1e-7)


def test_basis_by_scipy() -> None:
    spherical, radial, cutoff = 7, 6, 5.0
    basis = SphericalBasis(spherical, radial, cutoff)
    distances, cosines = np.array([0.5, 1.3, 3.0, 4.9]), np.array([-1.0, -0.4, 0.3, 1.0])
    found = basis(*map(torch.from_numpy, (distances, cosines, np.arange(4)))).numpy().reshape(4, spherical, radial)
    roots = basis.roots.numpy().reshape(spherical, radial)
    x = distances / cutoff
    envelope = 1 / x - 28 * x**5 + 48 * x**6 - 21 * x**7  # eq. 8 with p = 6, over x
    for order, n in itertools.product(range(spherical), range(radial)):
        root = roots[order, n]
        grid = np.linspace(1e-3, root + 0.1, 2000)
        assert np.count_nonzero(np.diff(np.sign(spherical_jn(order, grid)))) == n + 1
        assert abs(spherical_jn(order, root)) < 1e-7
        bessel = np.sqrt(2) / abs(spherical_jn(order + 1, root)) * spherical_jn(order, root * x)
        harmonic = np.sqrt((2 * order + 1) / (4 * np.pi)) * eval_legendre(order, cosines)
        np.testing.assert_allclose(found[:, order, n], envelope * bessel * harmonic, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spherical", [1, 2])
def test_few_orders(spherical) -> None:
    arguments = torch.tensor([1.3, 2.0]), torch.tensor([0.3, -0.7]), torch.tensor([0, 1])
    full = SphericalBasis(4, 3, CUTOFF)(*arguments)
    torch.testing.assert_close(SphericalBasis(spherical, 3, CUTOFF)(*arguments), full[:, : 3 * spherical])


def test_basis_in_single_precision() -> None:
    # Of distances down to a tenth of the cutoff, where the expanded formulas have no digit left.
    distances = torch.linspace(0.6, 5.9, 54)
    cosines, edges = torch.linspace(-1, 1, 54), torch.arange(54)
    exact = SphericalBasis(7, 6, 6.0)(distances.double(), cosines.double(), edges)
    rounded = SphericalBasis(7, 6, 6.0).float()(distances, cosines, edges)
    assert rounded.dtype == torch.float32
    np.testing.assert_allclose(rounded, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("atoms", [molecule("CH3CH2OH"), CRYSTAL, LINE], ids=["molecule", "crystal", "line"])
def test_forces_are_minus_the_slope(net, atoms) -> None:
    forces = predict(net, [atoms]).forces
    step = 1e-4
    for atom, axis in itertools.product(range(3), range(3)):
        moved = []
        for sign in (1, -1):
            displaced = atoms.copy()
            displaced.positions[atom, axis] += sign * step
            moved.append(energy(net, displaced))
        assert forces[atom, axis].item() == pytest.approx((moved[1] - moved[0]) / (2 * step), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("atoms", [LINE, molecule("C2H2"), bulk("Cu")], ids=["NCO", "acetylene", "copper"])
def test_second_derivatives_of_atoms_in_line(net, atoms) -> None:
    batch = StructureBatch.from_atoms([atoms])
    graph = make_graph(batch, find_neighbors(batch, CUTOFF), torch.float64)
    vectors = graph.vectors.clone().requires_grad_()

    def slope(at):
        return torch.autograd.grad(net.energy(graph, at).sum(), at, create_graph=True)[0]

    direction = torch.randn(vectors.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    (found,) = torch.autograd.grad((slope(vectors) * direction).sum(), vectors)
    step = 1e-4
    ahead, behind = (slope((vectors + sign * step * direction).detach().requires_grad_()) for sign in (1, -1))
    expected = ((ahead - behind) / (2 * step)).detach()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


def test_gradient_of_a_loss_of_forces(net) -> None:
    net = network("dimenet++" if is_plus_plus(net) else "dimenet").train()
    frames = [LINE, CRYSTAL, molecule("H")]
    weights = dict(net.named_parameters())
    gradients = torch.autograd.grad(predict(net, frames).forces.pow(2).sum(), weights.values())
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)
    chosen, expected = weights["rbf.freq"], gradients[list(weights).index("rbf.freq")][1]
    losses = []
    for change in (1e-5, -2e-5):
        with torch.no_grad():
            chosen[1] += change
        losses.append(predict(net, frames).forces.pow(2).sum().item())
    assert (losses[0] - losses[1]) / 2e-5 == pytest.approx(expected.item(), rel=1e-4)


def test_moved_turned_and_relabelled(net) -> None:
    before = predict(net, [CRYSTAL])
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turn *= -np.sign(np.linalg.det(turn))  # with a reflection
    order = [2, 0, 1]
    positions = CRYSTAL.positions @ turn + [5.0, -3.0, 9.0]
    positions[0] += CRYSTAL.cell[1] @ turn
    after = predict(net, [Atoms(CRYSTAL.numbers[order], positions[order], cell=CRYSTAL.cell @ turn, pbc=True)])
    assert after.energy.item() == pytest.approx(before.energy.item(), rel=1e-11)
    np.testing.assert_allclose(after.forces, (before.forces.numpy() @ turn)[order], atol=1e-9)


def test_alone_and_together(net) -> None:
    frames = [molecule("H"), CRYSTAL, molecule("CO2"), Atoms("HO", [[0, 0, 0], [9, 9, 9]]), molecule("CH3CH2OH")]
    together = predict(net, frames)
    alone = [predict(net, [atoms]) for atoms in frames]
    np.testing.assert_allclose(together.energy, torch.cat([one.energy for one in alone]), rtol=1e-11)
    np.testing.assert_allclose(together.forces, torch.cat([one.forces for one in alone]), atol=1e-9)


def test_atoms_on_their_own_add_up(net) -> None:
    apart = predict(net, [Atoms("HO", [[0, 0, 0], [9, 9, 9]])])
    assert apart.energy.item() == pytest.approx(energy(net, molecule("H")) + energy(net, molecule("O")), rel=1e-12)
    assert not apart.forces.any()


@pytest.mark.parametrize("repeats", [(1, 2, 1), (2, 1, 2)])
def test_a_cell_of_one_atom_several_times(net, repeats) -> None:
    atom = bulk("Cu")
    assert energy(net, atom.repeat(repeats)) == pytest.approx(np.prod(repeats) * energy(net, atom), rel=1e-10)


def test_no_jump_at_the_cutoff(net) -> None:
    inside, outside = (
        predict(net, [Atoms("OHC", [[0, 0, 0], [0, 1, 0], [CUTOFF + step, 0, 0]])]) for step in (-1e-5, 1e-5)
    )
    nearer = predict(net, [Atoms("OHC", [[0, 0, 0], [0, 1, 0], [CUTOFF - 0.5, 0, 0]])])
    assert abs(nearer.energy - outside.energy).item() > 1e-3
    assert inside.energy.item() == pytest.approx(outside.energy.item(), abs=1e-9)
    np.testing.assert_allclose(inside.forces, outside.forces, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "preset", "expected"),
    [
        ("dimenet", "md17", 2_100_070),  # MDSim's log of its run on aspirin
        # The OC20 code base's 1,810,182, whose four output blocks have a bias of 192 torch-geometric's have not
        ("dimenet++", "oc20", 1_810_182 - 4 * 192),
    ],
)
def test_published_numbers_of_parameters(name, preset, expected) -> None:
    assert sum(parameter.numel() for parameter in build(name, preset).parameters()) == expected


@pytest.mark.parametrize("name", ["dimenet", "dimenet++"])
def test_presets(name) -> None:
    presets = presets_of(name)
    assert set(presets) == {"oc20", "iso17", "lips", "md17", "small"}
    assert all(config.cap is None for config in presets.values())
    small = sum(parameter.numel() for parameter in build(name, "small").parameters())
    assert 300_000 < small < 1_000_000


@pytest.mark.parametrize("name", ["dimenet", "dimenet++"])
def test_untrained_it_predicts_nothing(name) -> None:
    output = predict(build(name, "small").double(), [molecule("CH3CH2OH")])
    assert not output.energy.any()
    assert not output.forces.any()


@pytest.mark.parametrize("name", ["dimenet", "dimenet++"])
def test_another_table_of_elements_is_refused(name) -> None:
    with pytest.raises(ConfigError, match="the table of elements has 95 rows, not 119"):
        build(name, "small", elements=119)
