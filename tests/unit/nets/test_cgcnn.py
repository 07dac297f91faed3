from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from net_frames import crystal, frame, graph_of, joined, molecule, moved, orthogonal, predicted, wandering  # noqa: E402

from mlipbench.errors import ConfigError  # noqa: E402 - needs torch
from mlipbench.nets import build, build_from_config, presets_of  # noqa: E402
from mlipbench.nets.atom_features import CATEGORY_SIZES, continuous_features, khot_features  # noqa: E402
from mlipbench.nets.normalisation import BatchNorm  # noqa: E402

pytestmark = pytest.mark.torch

SIZES = {"cutoff": 4.0, "hidden": 6, "convolutions": 2, "readout": 5, "readout_layers": 3, "radial": 9}


def small(**changes):
    """A network in float64 to the last bit, with statistics of batches as if it had been trained."""
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        network = wandering(build("cgcnn", "small", **{**SIZES, **changes}))
    finally:
        torch.set_default_dtype(default)
    for convolution in network.convolutions:
        torch.nn.init.normal_(convolution.batch_norm.running_mean)
        torch.nn.init.uniform_(convolution.batch_norm.running_var, 0.5, 2.0)
    return network


def doubled(structure):
    return frame(
        np.tile(structure.numbers, 2),
        np.concatenate([structure.positions, structure.positions + structure.cell[0, 0]]),
        structure.cell[0] * np.array([[2], [1], [1]]),
    )


def softplus(x):
    return np.log1p(np.exp(x))


def naive(network, graph):
    """The paper's equation 5, with the OC20 code base's normalisations, edge by edge for one structure.

    In training mode the statistics are those of the structure's own edges.
    """
    config = network.config
    p = {name: value.numpy() for name, value in network.state_dict().items()}
    bits = khot_features(101).numpy().astype(float)
    x = [p["embedding.weight"] @ bits[z] + p["embedding.bias"] for z in graph.numbers.tolist()]
    edges = list(zip(graph.receivers.owner.tolist(), graph.senders.owner.tolist(), graph.vectors.numpy(), strict=True))
    np.random.default_rng(0).shuffle(edges)
    spacing = config.cutoff / (config.radial - 1)
    for number in range(config.convolutions):
        at = f"convolutions.{number}"
        sums, rows = [np.zeros(config.hidden) for _ in x], []
        for i, j, vector in edges:
            distance = math.sqrt(vector @ vector)
            e = np.array([math.exp(-0.5 * ((distance - k * spacing) / spacing) ** 2) for k in range(config.radial)])
            rows.append((i, p[f"{at}.linear.weight"] @ np.concatenate([x[i], x[j], e]) + p[f"{at}.linear.bias"]))
        mean, variance = p[f"{at}.batch_norm.running_mean"], p[f"{at}.batch_norm.running_var"]
        if network.training:
            mean = sum(z for _, z in rows) / len(rows)
            variance = sum((z - mean) ** 2 for _, z in rows) / len(rows)
        for i, z in rows:
            normalised = (z - mean) / np.sqrt(variance + 1e-5)
            y = normalised * p[f"{at}.batch_norm.weight"] + p[f"{at}.batch_norm.bias"]
            sums[i] = sums[i] + softplus(y[config.hidden :]) / (1 + np.exp(-y[: config.hidden]))
        for i, total in enumerate(sums):
            centred = (total - total.mean()) / math.sqrt(((total - total.mean()) ** 2).mean() + 1e-5)
            x[i] = softplus(x[i] + centred * p[f"{at}.layer_norm.weight"] + p[f"{at}.layer_norm.bias"])
    y = sum(x) / len(x)
    for number in range(config.readout_layers):
        y = softplus(p[f"readout.{2 * number}.weight"] @ y + p[f"readout.{2 * number}.bias"])
    last = 2 * config.readout_layers
    return (p[f"readout.{last}.weight"] @ y + p[f"readout.{last}.bias"])[0]


# The table of features


@pytest.fixture(scope="module")
def bits():
    """The bit that is set in each category of each element, None where none is."""
    table = [[part.tolist() for part in row.split(CATEGORY_SIZES)] for row in khot_features(101)]
    assert all(part.count(1.0) <= 1 and part.count(0.0) >= len(part) - 1 for row in table for part in row)
    return [[part.index(1.0) if 1.0 in part else None for part in row] for row in table]


@pytest.mark.parametrize(
    ("number", "group", "period", "block", "valence"),
    [
        (1, 1, 1, "s", 1),
        (8, 16, 2, "p", 6),
        (29, 11, 4, "d", 11),
        (58, 0, 6, "f", 2),  # group 0 is that of lanthanides and actinides
        (78, 10, 6, "d", 10),
        (83, 15, 6, "p", 5),
    ],
)
def test_elements_by_hand(bits, number, group, period, block, valence):
    found = bits[number]
    assert (found[0], found[1] + 1, "spdf"[found[7]], found[4] + 1) == (group, period, block, valence)


@pytest.mark.parametrize(
    ("number", "pauling"), [(1, 2.20), (6, 2.55), (7, 3.04), (8, 3.44), (9, 3.98), (11, 0.93), (26, 1.83), (53, 2.66)]
)
def test_electronegativities_by_hand(bits, number, pauling):
    """Ten bins from 0.5 to 4.0 on Pauling's scale."""
    assert bits[number][2] == int((pauling - 0.5) / 0.35)


def test_the_periodic_table_in_full(bits):
    """Groups and periods by counting from one noble gas to the next."""
    noble = [0, 2, 10, 18, 36, 54, 86, 118]
    for number in range(1, 101):
        period = sum(number > gas for gas in noble)
        before, length = number - noble[period - 1], noble[period] - noble[period - 1]
        group = before if before <= 2 and number != 2 else before + 18 - length
        if length == 32 and 3 <= before <= 16:
            group = 0
        assert (bits[number][0], bits[number][1] + 1) == (group, period), number
        assert None not in [bits[number][column] for column in (3, 4, 5, 7)], number


def test_bins_agree_with_the_table_of_numbers(bits):
    """Ionisation energies, electron affinities and volumes come from another table: each lies in the bin set here."""
    scales = {5: (3.8939056, 24.587387), 6: (-19.7, 3.612725), 8: (4.6, 70.0)}
    ranges = {5: (1.3, 3.3, math.log), 6: (-3.0, 3.7, float), 8: (1.5, 4.3, math.log)}
    numbers = continuous_features(85).double()
    compared = 0
    for number in range(1, 85):
        for column, (low, high, of) in ranges.items():
            bit = bits[number][column]
            if bit is not None:
                smallest, largest = scales[column]
                value = of(smallest + numbers[number, column].item() * (largest - smallest))
                assert bit == int((value - low) / (high - low) * 10), (number, column)
                compared += 1
    without_affinity = {2, 10, 12, 18, 25, 30, 36, 48, 61, 62, 64, 67, 68, 80}
    assert {number for number in range(1, 85) if bits[number][6] is None} == without_affinity
    assert compared == 84 + (84 - len(without_affinity)) + 83  # the volume of promethium is missing


def test_elements_without_features_are_refused():
    with pytest.raises(ConfigError, match="features of elements up to 100, not 101"):
        build("cgcnn", "small", elements=102)


# The network


@pytest.mark.parametrize(
    ("preset", "expected"), [("oc20", 245_889), ("lips", 245_889), ("md17", 245_889), ("small", 220_289)]
)
def test_parameters_by_hand(preset, expected):
    """With h channels, r Gaussians, c convolutions and n readout layers of width w.

    The embedding has 92 bits and a bias. A convolution maps two atoms and an edge to 2 h, and its norms have scale and
    shift of 2 h and h channels.
    """
    config = presets_of("cgcnn")[preset]
    h, r, w = config.hidden, config.radial, config.readout
    convolution = (2 * h + r) * 2 * h + 2 * h + 2 * (2 * h) + 2 * h
    readout = (h * w + w) + (config.readout_layers - 1) * (w * w + w) + (w + 1)
    assert 92 * h + h + config.convolutions * convolution + readout == expected
    assert sum(parameter.numel() for parameter in build("cgcnn", preset).parameters()) == expected


@pytest.mark.parametrize(
    "structure", [molecule(7, 1), crystal(3, 2), molecule(1, 3)], ids=["molecule", "crystal", "atom"]
)
def test_the_equations_in_loops(structure):
    network = small()
    energy, _ = predicted(network, structure, forces=False)
    np.testing.assert_allclose(energy, [naive(network, graph_of(structure, 4.0))], rtol=1e-12)


def test_batch_norm_by_hand():
    """Mean 3 and variance 8 / 3 in the first channel, 10 and 0 in the second; running ones move a tenth of the way."""
    layer = BatchNorm(2).double()
    found = layer(torch.tensor([[1.0, 10.0], [3.0, 10.0], [5.0, 10.0]], dtype=torch.float64))
    last = 2 / math.sqrt(8 / 3 + 1e-5)
    np.testing.assert_allclose(found.detach(), [[-last, 0], [0, 0], [last, 0]], atol=1e-14)
    np.testing.assert_allclose(layer.running_mean, [0.3, 1.0])
    np.testing.assert_allclose(layer.running_var, [0.9 + 0.8 / 3, 0.9])
    row = layer(torch.tensor([[0.3, 1.0]], dtype=torch.float64))  # a single row has no variance
    np.testing.assert_allclose(row.detach(), [[0.0, 0.0]], atol=1e-15)
    np.testing.assert_allclose(layer.running_mean, [0.3, 1.0])


@pytest.mark.parametrize("name", ["cgcnn", "forcenet"])
def test_training_predicts_what_evaluation_does(name):
    """Once the running statistics are those of the batch; so forces fitted in training are the forces of evaluation."""
    torch.manual_seed(0)
    sizes = SIZES if name == "cgcnn" else {"cutoff": 4.0, "hidden": 6, "layers": 2}
    network = wandering(build(name, "small", **sizes)).train()
    batch = joined(molecule(7, 1), crystal(3, 2), molecule(5, 4))
    graph = graph_of(batch, 4.0)
    for _ in range(250):  # 0.9^250 = 4e-12 of the first ones is left
        network(graph)
    energy, forces = predicted(network, batch)
    found_energy, found_forces = predicted(network.eval(), batch)
    np.testing.assert_allclose(found_energy, energy, rtol=1e-9)
    np.testing.assert_allclose(found_forces, forces, atol=1e-9 * abs(forces).max())


@pytest.mark.parametrize("structure", [molecule(7, 1), crystal(3, 2)], ids=["molecule", "crystal"])
def test_the_equations_in_training(structure):
    network = small().train()
    for wanted in (False, True):
        energy, _ = predicted(network, structure, forces=wanted)
        np.testing.assert_allclose(energy, [naive(network, graph_of(structure, 4.0))], rtol=1e-12)


@pytest.mark.parametrize("structure", [molecule(7, 1), crystal(3, 2)], ids=["molecule", "crystal"])
def test_forces_are_the_gradient_of_the_energy(structure):
    """Central differences with 1e-4 Å leave an error of the order of 1e-8 of the largest force."""
    network = small()
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


def test_forces_can_be_trained():
    """The gradient of a loss of forces through the statistics of a batch, by automatic and by finite differences."""
    network = small().train()
    graph = graph_of(joined(molecule(5, 1), crystal(2, 2), molecule(1, 3)), 4.0)
    weights = [network.convolutions[0].linear.weight, network.convolutions[1].batch_norm.weight, network.embedding.bias]

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


@pytest.mark.parametrize("determinant", [1, -1])
def test_rotation_reflection_and_translation(determinant):
    network, matrix = small(), orthogonal(determinant)
    batch = joined(molecule(7, 1), crystal(3, 2))
    energy, forces = predicted(network, batch)
    turned_energy, turned_forces = predicted(network, moved(batch, matrix, (1.0, -2.0, 5.0)))
    np.testing.assert_allclose(turned_energy, energy, rtol=1e-11)
    np.testing.assert_allclose(turned_forces, forces @ matrix.T, atol=1e-11 * abs(forces).max())


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
    """Declared: the statistics are those of all edges of the batch."""
    network = small().train()
    alone, together = (
        predicted(network, molecule(7, 1))[0][0],
        predicted(network, joined(molecule(7, 1), crystal(3, 2)))[0][0],
    )
    assert abs(alone - together) > 1e-4 * abs(alone)


def test_a_doubled_cell_has_the_same_energy():
    """Declared: atoms are averaged. Where the energy should double it stays, and forces are halved."""
    network, structure = small(), crystal(3, 2)
    energy, forces = predicted(network, structure)
    found_energy, found_forces = predicted(network, doubled(structure))
    np.testing.assert_allclose(found_energy, energy, rtol=1e-12)
    np.testing.assert_allclose(found_forces, np.tile(forces, (2, 1)) / 2, atol=1e-12)


def test_the_energy_jumps_at_the_cutoff():
    """Declared: no envelope, so a pair that comes apart loses its messages at once."""
    network = small()
    inside, outside = (predicted(network, frame([8, 29], [[0, 0, 0], [x, 0, 0]]))[0][0] for x in (4 - 1e-9, 4 + 1e-9))
    assert abs(inside - outside) > 1e-3 * abs(outside)


@pytest.mark.parametrize("training", [False, True])
def test_no_atoms_no_edges_no_structures(training):
    network = small().train(training)
    statistics = network.convolutions[0].batch_norm.running_mean.clone()
    lone = joined(frame([], []), molecule(1, 3))
    energy, forces = predicted(network, lone)
    assert np.isfinite(energy).all()
    assert forces.tolist() == [[0.0, 0.0, 0.0]]
    assert predicted(network, lone.slice(0, 0))[0].shape == (0,)
    assert torch.equal(network.convolutions[0].batch_norm.running_mean, statistics)


def test_gradients_without_edges_are_finite():
    network = small().train()
    output = network(graph_of(joined(frame([], []), molecule(1, 3)), 4.0))
    (output.energy.sum() + output.forces.sum()).backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters())
    assert network.embedding.weight.grad.any()


def test_a_configuration_survives_json():
    network = small()
    again = build_from_config("cgcnn", json.loads(json.dumps(dataclasses.asdict(network.config))))
    again.double().eval().load_state_dict(network.state_dict())
    expected = predicted(network, crystal(3, 2))[0]
    np.testing.assert_allclose(predicted(again, crystal(3, 2))[0], expected, rtol=1e-6)
