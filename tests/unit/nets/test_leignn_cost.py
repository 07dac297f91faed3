"""LEIGNN's operations and parameters against formulas written down from its equations."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import net_frames  # noqa: E402 - after torch
from net_frames import crystal, joined, molecule  # noqa: E402

from mlipbench.nets import build  # noqa: E402
from mlipbench.nets.messages import as_written  # noqa: E402
from mlipbench.worker.flops import count_flops, count_parameters  # noqa: E402

pytestmark = pytest.mark.torch

SIZES = [{"hidden": 32, "layers": 3, "radial": 20}, {"hidden": 48, "layers": 2, "radial": 12}]


def graph_of(network, *frames):
    return net_frames.graph_of(joined(*frames), network.config.cutoff, dtype=torch.float32)


def multiply_adds(graph, hidden, layers, radial, *, forces):
    """Return the multiply-adds of all maps, from the equations (1) to (9) and the sizes of their matrices."""
    atoms, edges, structures = len(graph.numbers), len(graph.vectors), len(graph.volumes)
    h = hidden
    total = 0
    for layer in range(1, layers + 1):
        first, last = layer == 1, layer == layers
        thirds = 2 if first else 3  # no vectors yet, so nobody reads the third that multiplies them
        wants_vectors = forces or not last
        # (5), (6): [x; s] by 2h x h, the half of s once a structure; h x h; vectors by h x h
        total += atoms * (h * h + h * h) + structures * h * h
        total += 0 if first else 3 * atoms * h * h
        # (1), (2): h x h/2 and h/2 x 3h of the sender, filters of each edge
        total += atoms * (h * (h // 2) + (h // 2) * thirds * h) + edges * radial * thirds * h
        # (3), (4): vectors by h x 2h, [m; n] by 2h x h and h x 3h
        total += 3 * atoms * h * (2 * h if wants_vectors else h)
        total += atoms * (2 * h * h + h * (3 * h if wants_vectors else 2 * h))
        # (7), (8): of the structures, but for the last layer, whose result nobody reads
        total += 0 if last else structures * (2 * h * h + h * h + 3 * h * h)
    head = atoms * (h * (h // 2) + h // 2)  # (9)
    return total + head + (3 * atoms * h if forces else 0)


@pytest.mark.parametrize("forces", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_the_closed_form(sizes, forces):
    network = build("leignn", "small", **sizes).eval()
    graph = graph_of(network, molecule(9, seed=0), crystal(7, seed=1))
    expected = 2 * multiply_adds(graph, **sizes, forces=forces)
    with torch.no_grad(), as_written(network):
        count = count_flops(lambda: network(graph, forces=forces))
    assert count.counted == pytest.approx(expected, rel=0.01)
    assert count.counted == expected
    with torch.no_grad():  # in blocks, without the Gaussians that are zero
        assert count_flops(lambda: network(graph, forces=forces)).counted < 0.9 * expected
    with torch.no_grad(), as_written(network):
        assert count_flops(lambda: network(graph, forces=forces)) == count


def test_the_closed_form_summed_up():
    """The formula of the documentation: per atom, edge and structure."""
    network = build("leignn", "small", **SIZES[0])
    graph = graph_of(network, molecule(9, seed=0), crystal(7, seed=1))
    atoms, edges, structures = len(graph.numbers), len(graph.vectors), len(graph.volumes)
    h, layers, radial = SIZES[0]["hidden"], SIZES[0]["layers"], SIZES[0]["radial"]
    summed = (
        atoms * ((18 * layers - 3) * h**2 + 3.5 * h)
        + edges * radial * h * (3 * layers - 1)
        + structures * (7 * layers - 6) * h**2
    )
    assert multiply_adds(graph, **SIZES[0], forces=True) == summed


def test_parameters_without_gradient():
    """Of the published size, those of the last aggregation and of the first layer's map of vectors."""
    network = build("leignn", "oc20")
    graph = graph_of(network, molecule(3, seed=0))
    counted = count_parameters(network, lambda: network(graph)[:2])
    h = 512
    scalars, vectors = 2 * h * h + h + h * h + h, h * h
    assert counted.total == counted.trainable == 18_834_945  # the reference's count
    assert counted.without_gradient == (scalars + vectors) + h * h
    assert scalars + vectors == 1_049_600  # the reference's 1.05 M


@pytest.mark.parametrize("name", ["leignn", "leignn-smooth", "vanilla", "painn", "painn-direct", "schnet"])
def test_parameters_without_gradient_are_those_that_a_backward_pass_leaves_alone(name):
    network = build(name, "small", **({} if name == "schnet" else {"hidden": 16})).train()
    graph = graph_of(network, molecule(5, seed=0), crystal(4, seed=1))
    counted = count_parameters(
        network, lambda: [tensor for tensor in network(graph, forces=not network.conservative) if tensor is not None]
    )
    output = network(graph)
    (output.energy.square().sum() + output.forces.square().sum()).backward()
    idle = sum(tensor.numel() for tensor in network.parameters() if tensor.grad is None)
    assert counted.without_gradient == idle
    assert (idle > 0) == (name == "leignn")
