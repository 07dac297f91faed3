from __future__ import annotations

import contextlib
import sys
from collections import OrderedDict

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("thop")

from mlipbench.cost import OperatorClass  # noqa: E402 - after torch
from mlipbench.worker.flops import count_flops, count_parameters, count_thop  # noqa: E402

pytestmark = pytest.mark.torch

# 7 rows of 5 times a matrix 5 x 3: 105 multiply-adds
LINEAR = 210


@pytest.fixture
def linear():
    return torch.nn.Linear(5, 3)


@pytest.fixture
def rows():
    return torch.randn(7, 5)


def seen(count, kind):
    return {operator.name: (operator.calls, operator.elements) for operator in count.largest(kind)}


# --- products


def test_a_linear_layer(linear, rows):
    assert count_flops(lambda: linear(rows)).flops == LINEAR


def test_a_linear_layer_with_the_gradient_of_its_input(linear, rows):
    rows.requires_grad_()
    assert count_flops(lambda: torch.autograd.grad(linear(rows).sum(), rows)).flops == 2 * LINEAR


def test_a_linear_layer_with_all_gradients(linear, rows):
    rows.requires_grad_()
    assert count_flops(lambda: linear(rows).sum().backward()).flops == 3 * LINEAR


@pytest.mark.parametrize("mode", [contextlib.nullcontext, torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_count_does_not_depend_on_the_mode(mode, linear, rows):
    weights = torch.randn(7, 5, 3)

    def call():
        with mode():
            linear(rows)
            torch.einsum("bi,bio->bo", rows, weights)
            rows @ linear.weight.t()

    assert count_flops(call).flops == 3 * LINEAR


def test_a_multilayer_perceptron(rows):
    mlp = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.SiLU(), torch.nn.Linear(16, 3))
    count = count_flops(lambda: mlp(rows))
    assert count.flops == 2 * 7 * (5 * 16 + 16 * 3)
    assert seen(count, OperatorClass.ARITHMETIC) == {"aten.silu": (1, 7 * 16)}
    assert count.call_share == 2 / 3


PRODUCTS = {
    "bmm": (lambda: torch.bmm(torch.ones(4, 2, 3), torch.ones(4, 3, 5)), 4 * 2 * 3 * 5),
    "matmul": (lambda: torch.ones(4, 2, 3) @ torch.ones(3, 5), 4 * 2 * 3 * 5),
    "baddbmm": (lambda: torch.ones(4, 2, 5).baddbmm_(torch.ones(4, 2, 3), torch.ones(4, 3, 5)), 4 * 2 * 3 * 5),
    "addbmm": (lambda: torch.addbmm(torch.ones(2, 5), torch.ones(4, 2, 3), torch.ones(4, 3, 5)), 4 * 2 * 3 * 5),
    "addmm in place": (lambda: torch.ones(2, 5).addmm_(torch.ones(2, 3), torch.ones(3, 5)), 2 * 3 * 5),
    "out": (lambda: torch.mm(torch.ones(2, 3), torch.ones(3, 5), out=torch.empty(2, 5)), 2 * 3 * 5),
    "mv": (lambda: torch.ones(4, 3) @ torch.ones(3), 4 * 3),
    "addmv": (lambda: torch.addmv(torch.ones(4), torch.ones(4, 3), torch.ones(3)), 4 * 3),
    "dot": (lambda: torch.dot(torch.ones(9), torch.ones(9)), 9),
    # 3 channels of 6 places (10 - 5 + 1), each over 2 channels and a window of 5
    "convolution": (lambda: torch.nn.functional.conv1d(torch.ones(8, 2, 10), torch.ones(3, 2, 5)), 8 * 3 * 6 * 2 * 5),
    # two heads: 7 x 7 scores over 4 channels, and as much for the values
    "attention": (
        lambda: torch.nn.functional.scaled_dot_product_attention(*torch.ones(3, 1, 2, 7, 4)),
        2 * 2 * 7 * 7 * 4,
    ),
    "vmap": (lambda: torch.vmap(lambda row: torch.ones(3, 5) @ row)(torch.ones(7, 5)), 7 * 5 * 3),
    "torch.func.grad": (
        lambda: torch.func.grad(lambda row: (torch.ones(3, 5) @ row).sum())(torch.ones(5)),
        2 * 5 * 3,  # and once backwards
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_is_two_operations_per_multiply_add(name):
    call, multiply_adds = PRODUCTS[name]
    assert count_flops(call).counted == 2 * multiply_adds


class Toy(torch.nn.Module):
    """Energies of atoms from their positions by two layers; forces are minus the gradient."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(3, 16)
        self.second = torch.nn.Linear(16, 1)

    def forward(self, positions, *, forces):
        positions.requires_grad_(forces)
        energy = self.second(torch.tanh(self.first(positions))).sum()
        return -torch.autograd.grad(energy, positions)[0] if forces else energy


def test_forces_by_a_gradient():
    """Torch's own counter raises here: the positions are a leaf and the module differentiates inside."""
    toy, positions = Toy().requires_grad_(requires_grad=False), torch.randn(10, 3)
    one_way = 2 * 10 * (3 * 16 + 16 * 1)
    assert count_flops(lambda: toy(positions, forces=False)).flops == one_way
    assert count_flops(lambda: toy(positions, forces=True)).flops == 2 * one_way


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torchscript(linear, rows):
    scripted = torch.jit.script(linear)
    assert count_flops(lambda: [scripted(rows) for _ in range(3)]).flops == 3 * LINEAR


def test_compiled_functions_run_as_written(linear, rows):
    def backend(*_):
        raise AssertionError("compiled")

    assert count_flops(lambda: torch.compile(linear, backend=backend)(rows)).flops == LINEAR


def test_the_same_call_gives_the_same_count(linear, rows):
    weight = linear.weight
    first, second = (count_flops(lambda: torch.autograd.grad(linear(rows).sin().sum(), weight)) for _ in range(2))
    assert first == second


# --- what is not counted


@torch.library.custom_op("mlipbench_tests::product", mutates_args=())
def product(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return first @ second


def test_an_operator_of_another_library_leaves_no_figure(linear, rows):
    count = count_flops(lambda: product(linear(rows), torch.ones(3, 400)))
    assert count.flops is None
    assert count.reason == "not looked into: mlipbench_tests.product"
    assert count.counted == LINEAR
    assert seen(count, OperatorClass.OPAQUE) == {"mlipbench_tests.product": (1, 7 * 400)}


def test_operators_that_hide_a_product_leave_no_figure():
    bilinear = torch.nn.Bilinear(4, 5, 6)
    assert (
        count_flops(lambda: bilinear(torch.ones(7, 4), torch.ones(7, 5))).reason == "not looked into: aten._trilinear"
    )
    few, many = torch.ones(10, 3), torch.ones(30, 3)
    assert count_flops(lambda: torch.cdist(few, few)).reason == "not looked into: aten._cdist_forward"
    assert count_flops(lambda: torch.cdist(many, many)).reason == "not looked into: aten._euclidean_dist"
    sparse = torch.eye(30).to_sparse()
    assert "aten._sparse_addmm" in count_flops(lambda: torch.sparse.mm(sparse, many)).reason
    recurrent = torch.nn.LSTM(3, 4)
    assert "rnn" in count_flops(lambda: recurrent(many)).reason


def test_names_that_resemble_products_do_not_hide_one(rows):
    def call():
        torch.lgamma(rows.abs())
        torch.cummax(rows, 0)
        torch.hamming_window(9)

    assert not count_flops(call).largest(OperatorClass.OPAQUE)


def test_a_product_written_as_elementwise_operations_leaves_no_figure(rows):
    weights = torch.randn(5, 3)
    count = count_flops(lambda: (rows[:, :, None] * weights).sum(1))
    assert count.flops is None
    assert count.reason == "products of matrices are 0% of the arithmetic only"
    assert seen(count, OperatorClass.ARITHMETIC) == {"aten.mul": (1, 7 * 5 * 3), "aten.sum": (1, 7 * 3)}


def test_scatter_is_arithmetic_and_gather_is_not():
    values, owner = torch.ones(6, 4), torch.tensor([0, 0, 1, 2, 2, 2])

    def call():
        torch.zeros(3, 4).index_add_(0, owner, values)
        torch.zeros(3, 4).scatter_add_(0, owner[:, None].expand(6, 4), values)
        torch.zeros(3, 4).index_put_((owner,), values, accumulate=True)

    count = count_flops(call)
    assert count.flops is None
    names = ("aten.index_add_", "aten.index_put_", "aten.scatter_add_")
    assert seen(count, OperatorClass.ARITHMETIC) == dict.fromkeys(names, (1, 12))
    moving = count_flops(lambda: torch.zeros(3, 4).index_put_((owner[1:4],), values[owner].index_select(0, owner)[:3]))
    assert moving.calls(OperatorClass.ARITHMETIC) == 0


def test_views_and_copies_are_free(rows):
    mask = rows > 0

    def call():
        rows.t().reshape(-1).view(5, 7)[1:].unsqueeze(0).expand(3, 4, 7).detach().clone().double()
        torch.cat([rows, rows]).contiguous().unsqueeze_(0)
        torch.where(mask, rows, torch.zeros_like(rows))
        rows[0, 0].item()

    count = count_flops(call)
    assert seen(count, OperatorClass.ARITHMETIC) == {}
    assert count.calls(OperatorClass.FREE) > 15
    assert count.flops == 0
    assert count.call_share is None


# --- thop


class Mixed(torch.nn.Module):
    """A linear layer, and a product that no module makes."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.Linear(5, 3))
        self.weight = torch.nn.Parameter(torch.randn(5, 3))

    def forward(self, rows):
        return self.inner(rows) + rows @ self.weight


def state(module):
    """Return all that a profiler could leave behind."""
    return [
        (name, set(part.__dict__) | set(part._buffers), list(part._forward_hooks), part.training)
        for name, part in module.named_modules()
    ] + [list(part._forward_pre_hooks) for part in module.modules()]


def test_thop_sees_modules_only(rows, capsys):
    module = Mixed()
    module.inner.eval()
    before = state(module)
    count = count_thop(module, lambda: module(rows))
    assert (count.macs, count.flops, count.reason) == (105, 210, None)
    assert count.covered == 0.5
    assert count.unseen == ("Mixed",)
    assert count_flops(lambda: module(rows)).flops == 2 * LINEAR
    assert state(module) == before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt])
def test_thop_leaves_nothing_behind_when_the_call_fails(raised, rows):
    module = Mixed()
    before = state(module)

    def call():
        module(rows)
        raise raised("no")

    if raised is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            count_thop(module, call)
    else:
        assert count_thop(module, call).reason == "thop fails: ValueError: no"
    assert state(module) == before


def test_thop_leaves_a_module_with_two_parents_alone(linear, rows):
    """It hooks such a module twice, counts it four times, and forgets half of the hooks."""
    module = torch.nn.ModuleDict({"a": torch.nn.ModuleList([linear]), "b": torch.nn.ModuleList([linear])})
    before = state(module)
    assert count_thop(module, lambda: linear(rows)).macs == 4 * 105
    assert state(module) == before


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_thop_fails_on_torchscript(linear, rows):
    module = torch.nn.ModuleList([torch.nn.Linear(5, 5), torch.jit.script(linear)])
    before = state(module[:1])
    count = count_thop(module, lambda: module[1](module[0](rows)))
    assert count.macs is None
    assert count.reason.startswith("thop fails: RuntimeError: Can't add a new parameter after ScriptModule")
    assert state(module[:1]) == before
    assert count_flops(lambda: module[1](module[0](rows))).flops == 2 * 7 * (25 + 15)


def test_without_thop(linear, rows, monkeypatch):
    monkeypatch.setitem(sys.modules, "thop", None)
    count = count_thop(linear, lambda: linear(rows))
    assert count.macs is None
    assert count.reason.startswith("thop cannot be imported")


def test_a_gradient_inside_works_under_thop():
    toy, positions = Toy(), torch.randn(10, 3)
    count = count_thop(toy, lambda: toy(positions, forces=True))
    assert count.macs == 10 * (3 * 16 + 16)  # the way forwards only
    assert count.covered == pytest.approx(1 / 2)


# --- SchNet of torch-geometric


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_schnet_equals_the_formula():
    schnet_module = pytest.importorskip("torch_geometric.nn.models.schnet", reason="needs torch-geometric")
    atoms, hidden, filters, gaussians, layers = 12, 16, 24, 10, 3
    pairs = torch.cartesian_prod(torch.arange(atoms), torch.arange(atoms)).t()
    pairs = pairs[:, pairs[0] != pairs[1]]
    positions = torch.randn(atoms, 3)

    def graph(pos, _batch):
        return pairs, (pos[pairs[0]] - pos[pairs[1]]).norm(dim=1)

    network = schnet_module.SchNet(
        hidden_channels=hidden, num_filters=filters, num_interactions=layers, num_gaussians=gaussians, cutoff=10.0,
        interaction_graph=graph,
    )  # fmt: skip
    numbers = torch.ones(atoms, dtype=torch.long)
    edges = pairs.shape[1]
    filter_network = edges * (gaussians * filters + filters * filters)
    block = atoms * (hidden * filters + filters * hidden + hidden * hidden)
    head = atoms * (hidden * (hidden // 2) + hidden // 2)

    def call():
        network(numbers, positions)

    assert count_flops(call).flops == 2 * (layers * (filter_network + block) + head)
    # the filter network has two parents, which thop hooks twice and sums twice
    assert count_thop(network, call).macs == layers * (4 * filter_network + block) + head


# --- parameters


def test_parameters_by_hand(rows):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.used = torch.nn.Linear(5, 3)
            self.again = torch.nn.Linear(5, 3)
            self.again.weight = self.used.weight
            self.idle = torch.nn.Linear(4, 2)
            self.fixed = torch.nn.Parameter(torch.ones(6), requires_grad=False)
            self.register_buffer("scale", torch.ones(9))

        def forward(self, x):
            return self.again(x) * self.fixed.sum()

    module = Tied()
    counted = count_parameters(module, lambda: (module(rows),))
    # weights 15 once, biases 3 + 3, idle 8 + 2, fixed 6; the bias of `used` and all of `idle` get nothing
    assert (counted.total, counted.trainable, counted.without_gradient) == (15 + 6 + 10 + 6, 15 + 6 + 10, 3 + 10)


def test_frozen_parameters_are_trainable_where_the_adapter_says_so(linear, rows):
    linear.requires_grad_(requires_grad=False)
    assert count_parameters(linear, lambda: (linear(rows),)).trainable == 0
    counted = count_parameters(linear, lambda: (linear(rows),), ["weight"])
    assert (counted.total, counted.trainable, counted.without_gradient) == (18, 15, 0)
    assert not any(tensor.requires_grad for tensor in linear.parameters())


def test_what_the_model_has_detached_gets_no_gradient(rows):
    module = torch.nn.ModuleDict(OrderedDict(a=torch.nn.Linear(5, 4), b=torch.nn.Linear(4, 1)))
    assert count_parameters(module, lambda: (module.b(module.a(rows)),)).without_gradient == 0
    assert count_parameters(module, lambda: (module.b(module.a(rows).detach()),)).without_gradient == 5 * 4 + 4


def test_a_graph_that_is_used_up_still_tells():
    toy, positions = Toy(), torch.randn(10, 3, requires_grad=True)

    def outputs():
        energy = torch.tanh(toy.first(positions)).sum() + toy.second.bias
        torch.autograd.grad(energy, positions)
        with pytest.raises(RuntimeError, match="second time"):
            energy.backward()
        return (energy,)

    assert count_parameters(toy, outputs).without_gradient == 16  # the weights of the second layer


def test_no_outputs_give_no_figure(linear):
    counted = count_parameters(linear, lambda: None)
    assert (counted.total, counted.without_gradient) == (18, None)
    assert counted.reason == "the package gives no outputs that can be differentiated"
