from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from net_frames import crystal, frame, graph_of, joined, molecule  # noqa: E402 - needs torch

from mlipbench.nets import build, edge_blocks  # noqa: E402
from mlipbench.nets.edge_blocks import BlockedEdges  # noqa: E402
from mlipbench.nets.messages import EdgeBasis, MessageBasis, edge_messages, norms  # noqa: E402
from mlipbench.nets.messages import joined as joined_linear  # noqa: E402
from mlipbench.nets.radial import polynomial_envelope, polynomial_envelope_slope  # noqa: E402

pytestmark = pytest.mark.torch

CUTOFF, WIDTH, RADIAL = 4.0, 4, 40


@pytest.fixture(params=[2**20, 200], ids=["one block", "many blocks"])
def _block_size(request, monkeypatch):
    monkeypatch.setattr(edge_blocks, "_BLOCK", request.param)


def inputs(graph, *, with_vectors, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    n_atoms, parts = len(graph.numbers), 3 if with_vectors else 2
    return {
        "values": draw(n_atoms, parts * WIDTH),
        "vectors": draw(n_atoms, 3, WIDTH) if with_vectors else None,
        "edges": graph.vectors.clone().requires_grad_(),
        "weight": draw(parts * WIDTH, RADIAL),
        "bias": draw(parts * WIDTH),
    }


def messages(given, graph, *, smooth, blocks):
    """Return the two sums; in training with derivatives by the edges' vectors nothing goes in blocks."""
    basis = MessageBasis(RADIAL, CUTOFF, 3 * WIDTH, smooth=smooth).to(given["values"].dtype).train(not blocks)
    edges = basis(given["edges"], graph)
    assert isinstance(edges, BlockedEdges if blocks else EdgeBasis)
    return edge_messages(given["values"], given["vectors"], edges, (given["weight"], given["bias"]), graph)


@pytest.mark.usefixtures("_block_size")
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("with_vectors", [False, True])
def test_blocks_give_the_same_sums_and_derivatives(smooth, with_vectors):
    """Against the composed path, which the tests of the networks hold against loops over edges."""
    graph = graph_of(joined(molecule(9, 1), molecule(1, 2), frame([], []), crystal(4, 3)), CUTOFF)
    given = inputs(graph, with_vectors=with_vectors)
    leaves = [value for value in given.values() if value is not None]
    results = []
    for blocks in (False, True):
        sums = messages(given, graph, smooth=smooth, blocks=blocks)
        loss = sum((part.sin() * (number + 1)).sum() for number, part in enumerate(sums))
        results.append([*sums, *torch.autograd.grad(loss, leaves)])
    for composed, blocked in zip(*results, strict=True):
        torch.testing.assert_close(blocked, composed, rtol=1e-11, atol=1e-11)


@pytest.mark.usefixtures("_block_size")
def test_derivatives_by_finite_differences():
    graph = graph_of(joined(molecule(3, 1), crystal(1, 3)), 3.0)
    given = inputs(graph, with_vectors=True)

    def sums(*tensors):
        return messages(dict(zip(given, tensors, strict=True)), graph, smooth=True, blocks=True)

    assert torch.autograd.gradcheck(sums, tuple(given.values()))


def test_gaussians_left_out_do_not_show_in_single_precision():
    """128 Gaussians of which 12 are taken, against all of them in float64: rounding of float32 is 6e-8 a term."""
    batch = joined(molecule(20, 1), crystal(6, 3))
    exact_graph, graph = graph_of(batch, CUTOFF), graph_of(batch, CUTOFF, dtype=torch.float32)
    given = inputs(graph, with_vectors=True, dtype=torch.float32)
    exact = {name: value.detach().double().requires_grad_() for name, value in given.items()}
    found = messages(given, graph, smooth=False, blocks=True)
    expected = messages(exact, exact_graph, smooth=False, blocks=False)
    for part, exact_part in zip(found, expected, strict=True):
        largest = exact_part.detach().abs().max().item()
        torch.testing.assert_close(part.double(), exact_part, rtol=0, atol=2e-6 * largest)


def test_only_what_is_wanted_is_derived():
    graph = graph_of(molecule(5, 1), CUTOFF)
    given = inputs(graph, with_vectors=True)
    given["edges"], given["weight"] = graph.vectors, given["weight"].detach()
    given["bias"] = given["bias"].detach()
    sums = messages(given, graph, smooth=False, blocks=True)
    gradients = torch.autograd.grad(sums[0].sum() + sums[1].sum(), [given["values"], given["vectors"]])
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_blocks_refuse_second_derivatives():
    graph = graph_of(molecule(4, 1), CUTOFF)
    given = inputs(graph, with_vectors=True)
    scalars, _ = messages(given, graph, smooth=True, blocks=True)
    (gradient,) = torch.autograd.grad(scalars.square().sum(), given["values"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("name", ["leignn", "painn"])
def test_the_same_bits_every_time(name):
    torch.manual_seed(0)
    network = build(name, "small")
    graph = graph_of(joined(molecule(20, 1), crystal(6, 2)), network.config.cutoff, dtype=torch.float32)
    results = []
    for _ in range(3):
        network.zero_grad()
        output = network(graph)
        (output.energy.sum() + output.forces.abs().sum()).backward()
        gradients = [value.grad for value in network.parameters() if value.grad is not None]
        results.append([output.energy, output.forces, *gradients])
    for again in results[1:]:
        assert all(torch.equal(first, second) for first, second in zip(results[0], again, strict=True))


@pytest.mark.parametrize("p", [3, 5, 6])
def test_slope_of_the_envelope(p):
    t = torch.linspace(0.0, 1.2, 61, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(polynomial_envelope(t, p).sum(), t)
    torch.testing.assert_close(polynomial_envelope_slope(t, p).detach(), expected)


def test_norms_by_hand_and_their_derivatives_at_zero():
    vectors = torch.tensor([[[3.0], [0.0], [4.0]], [[0.0], [0.0], [0.0]]], dtype=torch.float64, requires_grad=True)
    lengths = norms(vectors)
    assert lengths[:, 0].tolist() == pytest.approx([5.0 + 1e-9, 1e-4])
    (first,) = torch.autograd.grad(lengths.sum(), vectors, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum() + first.sum(), vectors)
    assert first[1].abs().max() == 0
    assert second.isfinite().all()


def test_two_inputs_side_by_side():
    linear = torch.nn.Linear(5, 3)
    first, second = torch.randn(7, 2), torch.randn(7, 3)
    torch.testing.assert_close(joined_linear(linear, first, second), linear(torch.cat([first, second], 1)))
