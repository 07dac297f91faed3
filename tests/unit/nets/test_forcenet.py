from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from scipy.special import sph_harm_y

torch = pytest.importorskip("torch")

from net_frames import crystal, frame, graph_of, joined, molecule, moved, orthogonal, predicted, wandering  # noqa: E402

from mlipbench.errors import ConfigError  # noqa: E402 - needs torch
from mlipbench.nets import build, build_from_config, presets_of  # noqa: E402
from mlipbench.nets.atom_features import atomic_radii, continuous_features  # noqa: E402
from mlipbench.nets.forcenet import spherical_harmonics  # noqa: E402
from mlipbench.nets.normalisation import BatchNorm  # noqa: E402

pytestmark = pytest.mark.torch

SIZES = {"cutoff": 4.0, "hidden": 6, "layers": 2}


def small(**changes):
    """A network in float64 to the last bit, with statistics of batches as if it had been trained."""
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        network = wandering(build("forcenet", "small", **{**SIZES, **changes}))
    finally:
        torch.set_default_dtype(default)
    for module in network.modules():
        if isinstance(module, BatchNorm):
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network


def harmonics(unit):
    """Nine numbers from scipy's complex functions, by polar and azimuthal angle."""
    polar, azimuth = math.acos(unit[2]), math.atan2(unit[1], unit[0])
    of = lambda degree, order: sph_harm_y(degree, order, polar, azimuth)  # noqa: E731
    orders = [of(1, 1), of(2, 1), of(2, 2)]
    return np.array(
        [of(degree, 0).real for degree in range(3)]
        + [value.real for value in orders]
        + [value.imag for value in orders]
    )


def naive(network, graph):
    """The equations of the paper and the OC20 code base in loops over edges for one structure, as they are written."""
    config = network.config
    p = {name: value.numpy() for name, value in network.state_dict().items()}
    linear = lambda x, name: p[f"{name}.weight"] @ x + p[f"{name}.bias"]  # noqa: E731
    swish = lambda x: x / (1 + np.exp(-x))  # noqa: E731
    sines = lambda x: np.array([math.sin(1.1**k * value) for k in range(50) for value in x])  # noqa: E731

    def mlp(x, name):
        x = linear(x, f"{name}.0") - p[f"{name}.1.running_mean"]
        x = x / np.sqrt(p[f"{name}.1.running_var"] + 1e-5) * p[f"{name}.1.weight"] + p[f"{name}.1.bias"]
        return linear(swish(x), f"{name}.3")

    features, radii = network.features.numpy(), network.edges.radii.numpy()
    numbers = graph.numbers.tolist()
    h = [linear(sines(features[z]), "embedding") for z in numbers]
    edges = []
    for i, j, vector in zip(
        graph.receivers.owner.tolist(), graph.senders.owner.tolist(), graph.vectors.numpy(), strict=True
    ):
        d = math.sqrt(vector @ vector)
        r_i, r_j = radii[numbers[i]], radii[numbers[j]]
        shifted = [max(x / config.cutoff, 1e-3) for x in (d, d - r_j, d - r_i, d - r_j - r_i)]
        f = linear(sines(shifted), "edges.linear")
        edges.append((i, j, np.kron(harmonics(vector / d), f), math.cos(math.pi * d / (2 * config.cutoff))))
    np.random.default_rng(0).shuffle(edges)
    for number in range(config.layers):
        at = f"interactions.{number}"
        values = [linear(x, f"{at}.value") for x in h]
        m = [p[f"{at}.own"][0] * value for value in values]
        for i, j, basis, envelope in edges:
            w = linear(np.concatenate([linear(basis, f"{at}.edge"), h[j], h[i]]), f"{at}.filter_in")
            w = linear(swish(linear(swish(w), f"{at}.filter_out.1")), f"{at}.filter_out.3") * envelope
            m[i] = m[i] + values[j] * w
        h = [x + mlp(total, f"{at}.update") for x, total in zip(h, m, strict=True)]
    g = [swish(linear(x, "last.0")) for x in h]
    return linear(sum(g), "energy_head")[0], np.array([mlp(x, "force_head") for x in g])


# The table of features


@pytest.mark.parametrize(
    ("number", "group", "period", "radius", "ionisation"),
    [(1, 1, 1, 31, 13.598), (8, 16, 2, 66, 13.618), (29, 11, 4, 132, 7.726), (78, 10, 6, 136, 8.959)],
)
def test_elements_by_hand(number, group, period, radius, ionisation):
    """Covalent radii in pm (Cordero et al., 2008) and ionisation energies in eV; caesium's radius is the largest."""
    found = continuous_features(85)[number].double()
    expected = [
        (group - 1) / 17,
        (period - 1) / 6,
        (radius - 28) / (244 - 28),
        (ionisation - 3.894) / (24.587 - 3.894),
    ]
    np.testing.assert_allclose(found[[0, 1, 3, 5]], expected, atol=1e-4)


@pytest.mark.parametrize(("number", "radius"), [(1, 0.25), (3, 1.45), (6, 0.70), (8, 0.60), (29, 1.35), (78, 1.35)])
def test_slater_radii_by_hand(number, radius):
    assert atomic_radii(85)[number].item() == pytest.approx(radius, rel=1e-6)


def test_features_lie_between_zero_and_one():
    table = continuous_features(85)
    assert table.isfinite().all()
    assert table.min().item() == 0.0
    assert table.max().item() == 1.0
    # within the table every range is used up, but for the seventh period
    np.testing.assert_allclose(table[1:].max(0).values, [1, 5 / 6, 1, 1, 1, 1, 1, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(table[1:].min(0).values, np.zeros(9), atol=1e-6)
    assert atomic_radii(85)[1:].min().item() == 0.25


def test_elements_without_features_are_refused():
    with pytest.raises(ConfigError, match="features of elements up to 84, not 85"):
        build("forcenet", "small", elements=86)


# The network


def test_harmonics_of_scipy():
    units = np.random.default_rng(0).normal(size=(20, 3))
    units = np.vstack([units / np.linalg.norm(units, axis=1)[:, None], np.eye(3), -np.eye(3)])
    found = spherical_harmonics(torch.from_numpy(units)).numpy()
    np.testing.assert_allclose(found, [harmonics(unit) for unit in units], atol=1e-14)


@pytest.mark.parametrize(("preset", "expected"), [("oc20", 11_363_624), ("small", 503_208)])
def test_parameters_by_hand(preset, expected):
    """With h channels: sines of 9 features to h, of 4 distances to 4.

    A block has maps from 9 x 4 to h, from 3 h to h (the filter's first) and five from h to h (two of the filter, one of
    values, two of the update), a batch norm and weights of the atom itself. Heads: h to h, then h to h, a batch norm
    and h to 3 for forces, and h to 1 for the energy.
    """
    config = presets_of("forcenet")[preset]
    h = config.hidden
    square = h * h + h
    block = (36 * h + h) + (3 * h * h + h) + 5 * square + 2 * h + h
    heads = square + (square + 2 * h + 3 * h + 3) + (h + 1)
    assert (9 * 50 * h + h) + (4 * 50 * 4 + 4) + config.layers * block + heads == expected
    assert sum(parameter.numel() for parameter in build("forcenet", preset).parameters()) == expected


@pytest.mark.parametrize(
    "structure", [molecule(6, 1), crystal(2, 2), molecule(1, 3)], ids=["molecule", "crystal", "atom"]
)
def test_the_equations_in_loops(structure):
    network = small()
    energy, forces = naive(network, graph_of(structure, 4.0))
    found = predicted(network, structure)
    np.testing.assert_allclose(found[0], [energy], rtol=1e-12)
    np.testing.assert_allclose(found[1], forces, rtol=1e-11, atol=1e-12 * abs(forces).max())
    assert predicted(network, structure, forces=False)[1] is None


def test_rotations_change_the_forces():
    """Declared: forces do not turn with the structure, energies are not invariant. Translations do hold."""
    network, matrix, batch = small(), orthogonal(1), joined(molecule(7, 1), crystal(3, 2))
    energy, forces = predicted(network, batch)
    turned_energy, turned_forces = predicted(network, moved(batch, matrix))
    assert abs(turned_forces - forces @ matrix.T).max() > 1e-2 * abs(forces).max()
    assert (abs(turned_energy - energy) > 1e-5 * abs(energy)).all()
    shifted_energy, shifted_forces = predicted(network, moved(batch, shift=(1.0, -2.0, 5.0)))
    np.testing.assert_allclose(shifted_energy, energy, rtol=1e-11)
    np.testing.assert_allclose(shifted_forces, forces, atol=1e-11 * abs(forces).max())


def test_atoms_in_another_order():
    network, structure = small(), crystal(5, 3)
    order = np.array([3, 0, 4, 1, 2])
    shuffled = frame(structure.numbers[order], structure.positions[order], structure.cell[0])
    energy, forces = predicted(network, structure)
    np.testing.assert_allclose(predicted(network, shuffled)[0], energy, rtol=1e-11)
    np.testing.assert_allclose(predicted(network, shuffled)[1], forces[order], atol=1e-11 * abs(forces).max())


def test_a_structure_does_not_see_its_batch_in_evaluation():
    network = small()
    parts = [molecule(7, 1), frame([], []), crystal(3, 2), molecule(1, 4)]
    energy, forces = predicted(network, joined(*parts))
    alone = [predicted(network, part) for part in parts]
    np.testing.assert_allclose(energy, np.concatenate([part[0] for part in alone]), rtol=1e-11)
    np.testing.assert_allclose(forces, np.concatenate([part[1] for part in alone]), atol=1e-11)


def test_a_structure_sees_its_batch_in_training():
    """Declared: the statistics are those of all atoms of the batch."""
    network = small().train()
    alone, together = (
        predicted(network, part)[1][:7] for part in (molecule(7, 1), joined(molecule(7, 1), crystal(3, 2)))
    )
    assert abs(alone - together).max() > 1e-3 * abs(alone).max()


def test_a_doubled_cell_has_twice_the_energy_less_the_bias():
    """Declared: the energy head's bias counts once per structure."""
    network, structure = small(), crystal(3, 2)
    doubled = frame(
        np.tile(structure.numbers, 2),
        np.concatenate([structure.positions, structure.positions + structure.cell[0, 0]]),
        structure.cell[0] * np.array([[2], [1], [1]]),
    )
    energy, forces = predicted(network, structure)
    found_energy, found_forces = predicted(network, doubled)
    np.testing.assert_allclose(found_energy, 2 * energy - network.energy_head.bias.item(), rtol=1e-11)
    np.testing.assert_allclose(found_forces, np.tile(forces, (2, 1)), atol=1e-11)


def test_nothing_jumps_at_the_cutoff():
    """The cosine vanishes there, with a slope of -π / 8 per Å: within 2e-9 Å filters change by the order of 1e-9."""
    network = small()
    inside, outside = (predicted(network, frame([8, 29], [[0, 0, 0], [x, 0, 0]])) for x in (4 - 1e-9, 4 + 1e-9))
    np.testing.assert_allclose(inside[0], outside[0], rtol=1e-7)
    np.testing.assert_allclose(inside[1], outside[1], atol=1e-7)


def test_there_is_no_stress():
    with pytest.raises(ValueError, match="no stress"):
        small()(graph_of(crystal(3, 2), 4.0), stress=True)


def test_gradients_of_a_loss():
    """By automatic and by finite differences, through the statistics of a batch."""
    network = small().train()
    graph = graph_of(joined(molecule(5, 1), crystal(2, 2), molecule(1, 3)), 4.0)
    weights = [network.interactions[0].edge.weight, network.interactions[1].own, network.edges.linear.weight]

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


@pytest.mark.parametrize("training", [False, True])
def test_no_atoms_no_edges_no_structures(training):
    network = small().train(training)
    statistics = network.force_head[1].running_mean.clone()
    lone = joined(frame([], []), molecule(1, 3))
    output = network(graph_of(lone, 4.0))
    assert output.energy[0].item() == network.energy_head.bias.item()
    assert output.forces.isfinite().all()
    assert predicted(network, lone.slice(0, 0))[0].shape == (0,)
    assert torch.equal(network.force_head[1].running_mean, statistics)
    (output.energy.sum() + output.forces.sum()).backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters())


def test_a_configuration_survives_json():
    network = small()
    again = build_from_config("forcenet", json.loads(json.dumps(dataclasses.asdict(network.config))))
    again.double().eval().load_state_dict(network.state_dict())
    expected = predicted(network, crystal(3, 2))[1]
    np.testing.assert_allclose(predicted(again, crystal(3, 2))[1], expected, atol=1e-5 * abs(expected).max())
