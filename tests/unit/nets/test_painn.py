from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from net_frames import crystal, frame, graph_of, joined, molecule, moved, orthogonal, predicted, wandering  # noqa: E402

from mlipbench.nets import build, build_from_config, presets_of  # noqa: E402 - needs torch

pytestmark = pytest.mark.torch

NAMES = ("painn", "painn-direct")
SIZES = {"elements": 10, "cutoff": 4.0, "hidden": 8, "layers": 3, "radial": 6}


def small(name, **changes):
    torch.manual_seed(0)
    return wandering(build(name, "small", **{**SIZES, **changes}))


def silu(x):
    return x / (1 + np.exp(-x)) / 0.6


def naive(network, graph):
    """The equations of the OC20 code base in loops over edges, in arbitrary order, for one structure."""
    config = network.config
    p = {name: value.numpy() for name, value in network.state_dict().items()}
    width, n_atoms = config.hidden, len(graph.numbers)
    linear = lambda x, name: x @ p[f"{name}.weight"].T + p.get(f"{name}.bias", 0.0)  # noqa: E731
    mlp = lambda x, name: linear(silu(linear(x, f"{name}.first")), f"{name}.second")  # noqa: E731
    x, v = p["trunk.embedding.weight"][graph.numbers.numpy()], np.zeros((n_atoms, 3, width))
    edges = list(zip(graph.receivers.owner.tolist(), graph.senders.owner.tolist(), graph.vectors.numpy(), strict=True))
    np.random.default_rng(0).shuffle(edges)
    for number in range(config.layers):
        block = f"trunk.messages.{number}"
        spread = np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
        normal = (x - x.mean(axis=1, keepdims=True)) / spread
        phi = mlp(normal * p[f"{block}.normalise.weight"] + p[f"{block}.normalise.bias"], block)
        dx, dv = np.zeros_like(x), np.zeros_like(v)
        for i, j, vector in edges:
            d = math.sqrt(vector @ vector)
            t = d / config.cutoff
            envelope = 1 - 21 * t**5 + 35 * t**6 - 15 * t**7 if t < 1 else 0.0
            basis = np.exp(-((config.radial - 1) ** 2) / 2 * (t - np.arange(config.radial) / (config.radial - 1)) ** 2)
            if network.conservative:
                filtered = envelope * linear(basis, f"{block}.filter")
            else:
                filtered = linear(envelope * basis, f"{block}.filter")
            b, c, a = np.split(phi[j] * filtered, 3)
            dx[i] += a
            dv[i] += (b / math.sqrt(3) * v[j] + c * (vector / d)[:, None]) / math.sqrt(width)
        m, mv = (x + dx) / math.sqrt(2), v + dv
        v1, v2 = np.split(linear(mv, f"trunk.updates.{number}.mix"), 2, axis=-1)
        a, b, c = np.split(mlp(np.hstack([m, np.sqrt((v2**2).sum(1) + 1e-8)]), f"trunk.updates.{number}"), 3, axis=-1)
        x, v = m + (a + b * (v1 * v2).sum(1) / math.sqrt(width)) / math.sqrt(2), mv + c[:, None] * v1
    energy = linear(silu(linear(x, "energy_head.0")), "energy_head.2").sum()
    if network.conservative:
        return energy, None
    for number in range(2):
        block = f"force_head.{number}"
        n = np.sqrt((linear(v, f"{block}.norm_mix") ** 2).sum(1) + 1e-8)
        x, gates = np.split(mlp(np.hstack([x, n]), block), 2, axis=-1)
        x, v = silu(x), gates[:, None] * linear(v, f"{block}.mix")
    return energy, v[:, :, 0]


@pytest.mark.parametrize(
    ("name", "layers", "expected"),
    [
        ("painn-direct", 6, 20_073_475),
        ("painn", 6, 18_695_169),
        ("painn-direct", 4, 13_899_779),
        ("painn", 4, 12_521_473),
    ],
)
def test_parameters_of_the_released_code(name, layers, expected):
    with torch.device("meta"):
        network = build(name, "oc20", layers=layers, elements=83)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("structure", [molecule(7, 1), crystal(3, 2)], ids=["molecule", "crystal"])
def test_the_equations_in_loops(name, structure):
    network = small(name)
    energy, forces = naive(network, graph_of(structure, 4.0))
    found = predicted(network, structure)
    np.testing.assert_allclose(found[0], [energy], rtol=1e-10)
    np.testing.assert_allclose(predicted(network, structure, forces=False)[0], [energy], rtol=1e-10)
    if forces is not None:
        np.testing.assert_allclose(found[1], forces, rtol=1e-10, atol=1e-10 * abs(forces).max())


@pytest.mark.parametrize("structure", [molecule(7, 1), crystal(3, 2)], ids=["molecule", "crystal"])
def test_forces_are_the_gradient_of_the_energy(structure):
    """Central differences with 1e-4 Å leave an error of the order of 1e-8 of the largest force."""
    network = small("painn")
    _, forces = predicted(network, structure)
    step, found = 1e-4, np.zeros_like(forces)
    for atom in range(structure.n_atoms):
        for axis in range(3):
            ends = []
            for sign in (1, -1):
                positions = structure.positions.copy()
                positions[atom, axis] += sign * step
                cell = structure.cell[0] if structure.pbc.all() else None
                ends.append(predicted(network, frame(structure.numbers, positions, cell), forces=False)[0][0])
            found[atom, axis] = (ends[1] - ends[0]) / (2 * step)
    np.testing.assert_allclose(forces, found, atol=1e-6 * abs(forces).max())


def test_stress_is_the_strain_derivative_of_the_energy():
    network, structure = small("painn"), crystal(3, 2)
    stress = network(graph_of(structure, 4.0), stress=True).stress[0].detach().numpy()
    step, found = 1e-4, np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            ends = []
            for sign in (1, -1):
                strain = np.zeros((3, 3))
                strain[a, b] += sign * step / 2
                strain[b, a] += sign * step / 2
                ends.append(predicted(network, moved(structure, np.eye(3) + strain), forces=False)[0][0])
            found[a, b] = (ends[0] - ends[1]) / (2 * step * abs(np.linalg.det(structure.cell[0])))
    np.testing.assert_allclose(stress, found, atol=1e-6 * abs(stress).max())


def test_forces_can_be_trained():
    """The gradient of a loss of forces, by automatic and by finite differences."""
    network = small("painn").train()
    graph = graph_of(joined(molecule(5, 1), crystal(2, 2), molecule(1, 3)), 4.0)
    weights = [network.trunk.messages[1].filter.weight, network.trunk.updates[0].mix.weight]

    def loss():
        output = network(graph)
        return (output.forces**2).sum() + (output.energy**2).sum()

    gradients = torch.autograd.grad(loss(), weights)
    for weight, gradient in zip(weights, gradients, strict=True):
        direction = torch.randn(weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight.add_(direction, alpha=step)
            ends.append(loss().item())
            with torch.no_grad():
                weight.sub_(direction, alpha=step)
        assert (gradient * direction).sum().item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("determinant", [1, -1])
def test_rotation_reflection_and_translation(name, determinant):
    network, matrix = small(name), orthogonal(determinant)
    batch = joined(molecule(7, 1), crystal(3, 2))
    energy, forces = predicted(network, batch)
    turned_energy, turned_forces = predicted(network, moved(batch, matrix, (1.0, -2.0, 5.0)))
    np.testing.assert_allclose(turned_energy, energy, rtol=1e-11)
    np.testing.assert_allclose(turned_forces, forces @ matrix.T, atol=1e-11 * abs(forces).max())


@pytest.mark.parametrize("name", NAMES)
def test_atoms_in_another_order(name):
    network, structure = small(name), crystal(5, 3)
    order = np.array([3, 0, 4, 1, 2])
    shuffled = frame(structure.numbers[order], structure.positions[order], structure.cell[0])
    energy, forces = predicted(network, structure)
    np.testing.assert_allclose(predicted(network, shuffled)[0], energy, rtol=1e-11)
    np.testing.assert_allclose(predicted(network, shuffled)[1], forces[order], atol=1e-11 * abs(forces).max())


@pytest.mark.parametrize("name", NAMES)
def test_a_structure_does_not_see_its_batch(name):
    network = small(name)
    parts = [molecule(7, 1), frame([], []), crystal(3, 2), molecule(1, 4)]
    energy, forces = predicted(network, joined(*parts))
    alone = [predicted(network, part) for part in parts]
    np.testing.assert_allclose(energy, np.concatenate([part[0] for part in alone]), rtol=1e-11)
    np.testing.assert_allclose(forces, np.concatenate([part[1] for part in alone]), atol=1e-11)
    assert energy[1] == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_a_doubled_cell_has_twice_the_energy(name):
    network, structure = small(name), crystal(3, 2)
    doubled = frame(
        np.tile(structure.numbers, 2),
        np.concatenate([structure.positions, structure.positions + structure.cell[0, 0]]),
        structure.cell[0] * np.array([[2], [1], [1]]),
    )
    energy, forces = predicted(network, structure)
    np.testing.assert_allclose(predicted(network, doubled)[0], 2 * energy, rtol=1e-11)
    np.testing.assert_allclose(predicted(network, doubled)[1], np.tile(forces, (2, 1)), atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_two_molecules_far_apart(name):
    network, first, second = small(name), molecule(5, 1), molecule(6, 2)
    both = frame(
        np.concatenate([first.numbers, second.numbers]), np.concatenate([first.positions, second.positions + 100.0])
    )
    together, apart = predicted(network, both), [predicted(network, part) for part in (first, second)]
    np.testing.assert_allclose(together[0], apart[0][0] + apart[1][0], rtol=1e-11)
    np.testing.assert_allclose(together[1], np.concatenate([apart[0][1], apart[1][1]]), atol=1e-11)


def jump(network):
    """Return the steps of energy and forces of a dimer at the cutoff."""
    inside, outside = (
        predicted(network, frame([3, 5], [[0, 0, 0], [0.6 * d, 0.8 * d, 0]]))
        for d in (network.config.cutoff - 1e-6, network.config.cutoff + 1e-6)
    )
    return abs(inside[0] - outside[0]).max(), abs(inside[1] - outside[1]).max()


def test_energy_and_forces_at_the_cutoff():
    """The envelope leaves (1e-6)³ of the energy and (1e-6)² of the forces; the published direct form jumps."""
    assert max(jump(small("painn"))) < 1e-9
    assert min(jump(small("painn-direct"))) > 1e-6


def test_no_net_force():
    assert abs(predicted(small("painn"), molecule(6, 3))[1].sum(0)).max() < 1e-12
    assert abs(predicted(small("painn-direct"), molecule(6, 3))[1].sum(0)).max() > 1e-6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [False, True])
def test_an_atom_without_neighbours(name, training):
    network = small(name).train(training)
    energy, forces = predicted(network, joined(molecule(1, 1), frame([3, 4], [[0, 0, 0], [9, 0, 0]])))
    assert np.isfinite(energy).all()
    assert (forces == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_at_all(name):
    network = small(name)
    empty = frame([], [])
    assert predicted(network, empty.slice(0, 0))[0].shape == (0,)
    assert predicted(network, empty)[0].tolist() == [0.0]
    assert predicted(network, empty)[1].shape == (0, 3)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_parameters(name):
    """Finite also of atoms without neighbours, whose vectors are zero, where a bare norm has no derivative."""
    network = small(name).train()
    output = network(graph_of(joined(molecule(6, 1), molecule(1, 3), crystal(3, 2)), 4.0))
    (output.energy.square().sum() + output.forces.square().sum()).backward()
    for key, value in network.named_parameters():
        assert value.grad is not None, key
        assert value.grad.isfinite().all(), key
        assert value.grad.any(), key


def test_stress_of_direct_forces_is_refused():
    with pytest.raises(ValueError, match="no stress"):
        small("painn-direct")(graph_of(molecule(3, 1), 4.0), stress=True)


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_survives_json(name):
    for preset, config in presets_of(name).items():
        plain = json.loads(json.dumps(dataclasses.asdict(config)))
        with torch.device("meta"):
            assert build_from_config(name, plain).config == config, preset


@pytest.mark.parametrize("name", NAMES)
def test_single_precision(name):
    """Rounding of float32 costs a few 1e-6 of the largest value, measured with the `small` preset."""
    torch.manual_seed(0)
    network = build(name, "small").eval()
    batch = joined(molecule(20, 1), crystal(6, 2))
    energy, forces = predicted(network, batch)
    exact_energy, exact_forces = predicted(network.double(), batch)
    assert abs(energy - exact_energy).max() < 1e-5 * abs(exact_energy).max()
    assert abs(forces - exact_forces).max() < 1e-5 * abs(exact_forces).max()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler itself
def test_compiled():
    network, batch = small("painn-direct"), joined(molecule(7, 1), crystal(3, 2))
    graph = graph_of(batch, 4.0)
    expected, found = network(graph), torch.compile(network, fullgraph=True)(graph)
    torch.testing.assert_close(found.energy, expected.energy, rtol=1e-10, atol=0)
    torch.testing.assert_close(found.forces, expected.forces, rtol=1e-8, atol=1e-12)
