from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from net_frames import crystal, frame, graph_of, joined, molecule, moved, orthogonal, predicted, wandering  # noqa: E402

from mlipbench.nets import build, build_from_config, presets_of  # noqa: E402 - needs torch
from mlipbench.structures.neighbors import NeighborCap  # noqa: E402

pytestmark = pytest.mark.torch

NAMES = ("leignn", "leignn-smooth", "vanilla", "vanilla-nmu")
SIZES = {"elements": 10, "cutoff": 4.0, "cap": None, "hidden": 8, "layers": 3, "radial": 6}


def small(name, **changes):
    torch.manual_seed(0)
    return wandering(build(name, "small", **{**SIZES, **changes}))


def silu(x):
    return x / (1 + np.exp(-x)) / 0.6


def naive(network, graph):
    """The published equations in loops over edges, in arbitrary order, for one structure."""
    config = network.config
    p = {name: value.numpy() for name, value in network.state_dict().items()}
    width, n_atoms = config.hidden, len(graph.numbers)
    linear = lambda x, name: x @ p[f"{name}.weight"].T + p.get(f"{name}.bias", 0.0)  # noqa: E731
    mlp = lambda x, name: linear(silu(linear(x, f"{name}.first")), f"{name}.second")  # noqa: E731
    x, v = p["embedding.weight"][graph.numbers.numpy()], np.zeros((n_atoms, 3, width))
    s, w = p.get("global_embedding", np.zeros((1, width)))[0], np.zeros((3, width))
    edges = list(zip(graph.receivers.owner.tolist(), graph.senders.owner.tolist(), graph.vectors.numpy(), strict=True))
    np.random.default_rng(0).shuffle(edges)
    for number in range(config.layers):
        layer = f"layers.{number}"
        last = number == config.layers - 1
        if config.global_state:
            x = x + silu(mlp(np.hstack([x, np.tile(s, (n_atoms, 1))]), f"{layer}.distribute.scalars"))
            if number:
                v = v + linear(v + w, f"{layer}.distribute.vectors")
        phi = mlp(x, f"{layer}.message")
        dx, dv = np.zeros_like(x), np.zeros_like(v)
        for (
            i,
            j,
            vector,
        ) in edges:
            d = math.sqrt(vector @ vector)
            t = d / config.cutoff
            envelope = 1 - 21 * t**5 + 35 * t**6 - 15 * t**7 if t < 1 else 0.0
            basis = np.exp(-((config.radial - 1) ** 2) / 2 * (t - np.arange(config.radial) / (config.radial - 1)) ** 2)
            if config.smooth:
                filtered = envelope * linear(basis, f"{layer}.message.filter")
            else:
                filtered = linear(envelope * basis, f"{layer}.message.filter")
            q1, q2, q3 = np.split(phi[j] * filtered / math.sqrt(3), 3)
            dx[i] += q3
            dv[i] += (q1 * v[j] + q2 * (-vector / d)[:, None]) / math.sqrt(width)
        m, mv = (x + dx) / math.sqrt(2), v + dv
        v1, v2 = np.split(linear(mv, f"{layer}.update.mix"), 2, axis=-1)
        a, b, c = np.split(mlp(np.hstack([m, np.sqrt((v2**2).sum(1) + 1e-8)]), f"{layer}.update"), 3, axis=-1)
        if config.update == "nmu":
            x, v = m + b / math.sqrt(2) + np.tanh(c) * m, mv + a[:, None] * v1
        else:
            x, v = m + (a + b * (v1 * v2).sum(1) / math.sqrt(width)) / math.sqrt(2), mv + c[:, None] * v1
        if config.global_state and not last:
            s = s + silu(mlp(np.concatenate([x.mean(0), s]), f"{layer}.aggregate.scalars"))
            w = w + linear(v.mean(0) + w, f"{layer}.aggregate.vectors")
    energy = linear(silu(linear(x, "energy_head.0")), "energy_head.2").sum()
    forces = linear(v, "force_head")[:, :, 0]
    return energy, forces - forces.mean(0) if config.remove_net_force else forces


@pytest.mark.parametrize(
    ("name", "preset", "changes", "expected"),
    [
        ("leignn", "oc20", {}, 18_834_945),
        ("leignn", "iso17", {}, 18_817_025),
        ("leignn", "oc20", {"layers": 3, "elements": 83}, 14_156_545),
        ("vanilla", "oc20", {}, 10_437_633),
        ("vanilla-nmu", "oc20", {}, 10_437_633),
        # without the last aggregation, 1,049,600, and the first map of vectors, 262,144
        ("leignn-smooth", "oc20", {}, 18_834_945 - 1_049_600 - 262_144),
    ],
)
def test_parameters_of_the_released_code(name, preset, changes, expected):
    with torch.device("meta"):
        network = build(name, preset, **changes)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("structure", [molecule(7, 1), crystal(3, 2)], ids=["molecule", "crystal"])
def test_the_equations_in_loops(name, structure):
    network = small(name)
    graph = graph_of(structure, 4.0)
    energy, forces = naive(network, graph)
    found = predicted(network, structure)
    np.testing.assert_allclose(found[0], [energy], rtol=1e-10)
    np.testing.assert_allclose(found[1], forces, rtol=1e-10, atol=1e-10 * abs(forces).max())
    np.testing.assert_allclose(predicted(network, structure, forces=False)[0], [energy], rtol=1e-10)


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
def test_atoms_moved_by_lattice_vectors(name):
    network, structure = small(name), crystal(4, 5)
    shifts = np.array([[0, 0, 0], [1, -2, 0], [0, 3, 1], [-1, 0, 0]])
    away = frame(structure.numbers, structure.positions + shifts @ structure.cell[0], structure.cell[0])
    np.testing.assert_allclose(predicted(network, away)[0], predicted(network, structure)[0], rtol=1e-11)


@pytest.mark.parametrize(
    ("name", "changes", "consistent"),
    [
        ("leignn", {}, False),
        ("leignn", {"global_state": False}, True),
        ("leignn-smooth", {}, False),
        ("leignn-smooth", {"global_state": False, "remove_net_force": False}, True),
        ("vanilla", {}, True),
        ("vanilla-nmu", {}, True),
    ],
)
def test_two_molecules_far_apart(name, changes, consistent):
    """The published failure: a global state makes unlike molecules see each other at any distance."""
    network, first, second = small(name, **changes), molecule(5, 1), molecule(6, 2)
    both = frame(
        np.concatenate([first.numbers, second.numbers]), np.concatenate([first.positions, second.positions + 100.0])
    )
    together, apart = predicted(network, both), [predicted(network, part) for part in (first, second)]
    gap = abs(together[0] - apart[0][0] - apart[1][0])[0]
    force_gap = abs(together[1] - np.concatenate([apart[0][1], apart[1][1]])).max()
    if consistent:
        assert max(gap, force_gap) < 1e-10
    else:
        assert gap > 1e-6


def jump(network):
    """Return the steps of energy and forces of a dimer at the cutoff."""
    inside, outside = (
        predicted(network, frame([3, 5], [[0, 0, 0], [0.6 * d, 0.8 * d, 0]]))
        for d in (network.config.cutoff - 1e-6, network.config.cutoff + 1e-6)
    )
    return abs(inside[0] - outside[0]).max(), abs(inside[1] - outside[1]).max()


@pytest.mark.parametrize("name", ["leignn", "vanilla", "vanilla-nmu"])
def test_published_filters_jump_at_the_cutoff(name):
    """The published failure: the bias of the filter is not part of the envelope."""
    assert min(jump(small(name))) > 1e-6


@pytest.mark.parametrize("global_state", [True, False])
def test_smooth_filters_vanish_at_the_cutoff(global_state):
    """The envelope is of third order, so that 1e-6 Å inside 1e-18 of it is left."""
    network = small("leignn-smooth", global_state=global_state, remove_net_force=False)
    assert max(jump(network)) < 1e-13


def test_the_net_force_goes_where_asked():
    structure = molecule(6, 3)
    assert abs(predicted(small("leignn"), structure)[1].sum(0)).max() > 1e-3
    assert abs(predicted(small("leignn-smooth", remove_net_force=False), structure)[1].sum(0)).max() > 1e-3
    assert abs(predicted(small("leignn-smooth"), joined(structure, crystal(3, 2)))[1][:6].sum(0)).max() < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_an_atom_without_neighbours(name):
    energy, forces = predicted(small(name), joined(molecule(1, 1), frame([3, 4], [[0, 0, 0], [9, 0, 0]])))
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
    """Every parameter gets a finite gradient, but for the published dead ones; an empty structure spoils none."""
    network = small(name).train()
    output = network(graph_of(joined(molecule(6, 1), frame([], []), crystal(3, 2)), 4.0))
    (output.energy.square().sum() + output.forces.square().sum()).backward()
    dead = {name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()}
    assert all(value.grad is None or value.grad.isfinite().all() for value in network.parameters())
    expected = {key for key, _ in network.named_parameters() if key.startswith("layers.2.aggregate")}
    assert dead == (expected | {"layers.0.distribute.vectors.weight"} if name == "leignn" else set())


def test_stress_is_refused():
    with pytest.raises(ValueError, match="no stress"):
        small("leignn")(graph_of(molecule(3, 1), 4.0), stress=True)


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_survives_json(name):
    for preset, config in presets_of(name).items():
        plain = json.loads(json.dumps(dataclasses.asdict(config)))
        with torch.device("meta"):
            assert build_from_config(name, plain).config == config, preset


def test_caps_of_the_presets():
    assert {preset: config.cap for preset, config in presets_of("leignn").items()} == {
        "oc20": NeighborCap(50, whole_shells=False),
        "iso17": NeighborCap(20, whole_shells=True),
        "lips": NeighborCap(50, whole_shells=True),
        "md17": NeighborCap(50, whole_shells=True),
        "small": NeighborCap(50, whole_shells=True),
    }
    assert all(config.cap is None for config in presets_of("leignn-smooth").values())


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
@pytest.mark.parametrize("name", NAMES)
def test_compiled(name):
    network, batch = small(name), joined(molecule(7, 1), crystal(3, 2))
    graph = graph_of(batch, 4.0)
    expected, found = network(graph), torch.compile(network, fullgraph=True)(graph)
    torch.testing.assert_close(found.energy, expected.energy, rtol=1e-10, atol=0)
    torch.testing.assert_close(found.forces, expected.forces, rtol=1e-8, atol=1e-12)
