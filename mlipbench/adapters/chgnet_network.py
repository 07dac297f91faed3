"""CHGNet's network with its first layers applied before the gather.

The gated perceptrons of CHGNet start with a linear layer on concatenated features of atoms, bonds and angles. As
``W [a, b, c] = W_a a + W_b b + W_c c``, the parts are multiplied once for each atom and each undirected bond instead of
once for each edge and angle they take part in, and core and gate share one multiplication. Weights and function are
those of the package; results differ in rounding only. Follows ``CHGNet._compute`` and ``chgnet.model.layers`` of
chgnet 0.4.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from chgnet.model.functions import MLP, GatedMLP
    from chgnet.model.layers import AngleUpdate, AtomConv, BondConv
    from chgnet.model.model import BatchedGraph, CHGNet


def energies(model: CHGNet, graph: BatchedGraph) -> torch.Tensor:
    """Return what ``model._compute(graph)["e"]`` returns, for models whose readout is a sum over the atoms.

    Args:
        model: The network, in evaluation mode.
        graph: The joined graphs.

    Returns:
        Shape (n_structures,), eV an atom where the model is intensive, else eV; without the composition model.
    """
    import torch

    atoms = model.atom_embedding(graph.atomic_numbers - 1)
    bonds = model.bond_embedding(graph.bond_bases_ag)
    atom_weights = model.bond_weights_ag(graph.bond_bases_ag)
    bond_weights = model.bond_weights_bg(graph.bond_bases_bg)
    has_angles = len(graph.angle_bases) != 0
    angles = model.angle_embedding(graph.angle_bases) if has_angles else None
    layers = zip(model.atom_conv_layers[:-1], model.bond_conv_layers, model.angle_layers, strict=True)
    for atom_layer, bond_layer, angle_layer in layers:
        atoms = _atom_convolution(atom_layer, atoms, bonds, atom_weights, graph)
        if has_angles and bond_layer is not None:
            bonds = _bond_convolution(bond_layer, (atoms, bonds, angles), bond_weights, graph.batched_bond_graph)
            if angle_layer is not None:
                angles = _angle_update(angle_layer, (atoms, bonds, angles), graph.batched_bond_graph)
    atoms = _atom_convolution(model.atom_conv_layers[-1], atoms, bonds, atom_weights, graph)
    if model.readout_norm is not None:
        atoms = model.readout_norm(atoms)
    energy = model.pooling(model.mlp(atoms), graph.atom_owners).view(-1)
    return energy / torch.bincount(graph.atom_owners) if model.is_intensive else energy


def _atom_convolution(
    layer: AtomConv, atoms: torch.Tensor, bonds: torch.Tensor, weights: torch.Tensor, graph: BatchedGraph
) -> torch.Tensor:
    import torch
    from torch.nn.functional import linear

    weight, bias = _first(layer.twoBody_atom)
    n, m = atoms.shape[1], bonds.shape[1]
    center, neighbor = graph.batched_atom_graph[:, 0], graph.batched_atom_graph[:, 1]
    hidden = torch.index_select(linear(atoms, weight[:, :n], bias), 0, center)
    hidden = hidden + torch.index_select(linear(atoms, weight[:, n + m :]), 0, neighbor)
    hidden = hidden + torch.index_select(linear(bonds, weight[:, n : n + m]), 0, graph.directed2undirected)
    messages = _rest(layer.twoBody_atom, hidden) * torch.index_select(weights, 0, graph.directed2undirected)
    update = torch.zeros_like(atoms).index_add_(0, center, messages)
    return _finish(layer, update, atoms, layer.atom_norm)


def _bond_convolution(
    layer: BondConv, features: tuple[torch.Tensor, ...], weights: torch.Tensor, bond_graph: torch.Tensor
) -> torch.Tensor:
    import torch

    bonds = features[1]
    messages = _rest(layer.twoBody_bond, _three_body(layer.twoBody_bond, features, bond_graph))
    messages = messages * torch.index_select(weights, 0, bond_graph[:, 1])
    messages = messages * torch.index_select(weights, 0, bond_graph[:, 2])
    update = torch.zeros_like(bonds).index_add_(0, bond_graph[:, 1], messages)
    return _finish(layer, update, bonds, layer.bond_norm)


def _angle_update(layer: AngleUpdate, features: tuple[torch.Tensor, ...], bond_graph: torch.Tensor) -> torch.Tensor:
    update = _rest(layer.twoBody_bond, _three_body(layer.twoBody_bond, features, bond_graph))
    if layer.resnet:
        update = update + features[2]
    return update if layer.angle_norm is None else layer.angle_norm(update)


def _three_body(gated: GatedMLP, features: tuple[torch.Tensor, ...], bond_graph: torch.Tensor) -> torch.Tensor:
    """Return the first layer on bond i, bond j, angle and centre atom, in this order of the weight's columns."""
    import torch
    from torch.nn.functional import linear

    atoms, bonds, angles = features
    weight, bias = _first(gated)
    m, k = bonds.shape[1], angles.shape[1]
    hidden = linear(angles, weight[:, 2 * m : 2 * m + k], bias)
    hidden = hidden + torch.index_select(linear(bonds, weight[:, :m]), 0, bond_graph[:, 1])
    hidden = hidden + torch.index_select(linear(bonds, weight[:, m : 2 * m]), 0, bond_graph[:, 2])
    return hidden + torch.index_select(linear(atoms, weight[:, 2 * m + k :]), 0, bond_graph[:, 0])


def _place(mlp: MLP) -> int:
    """Return the place of the first linear layer; what stands before it does nothing in evaluation mode."""
    from torch.nn import Linear

    return next(k for k, layer in enumerate(mlp.layers) if isinstance(layer, Linear))


def _first(gated: GatedMLP) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias of the first linear layers of core and gate, one above the other."""
    import torch

    core, gate = (mlp.layers[_place(mlp)] for mlp in (gated.mlp_core, gated.mlp_gate))
    return torch.cat([core.weight, gate.weight]), torch.cat([core.bias, gate.bias])


def _rest(gated: GatedMLP, hidden: torch.Tensor) -> torch.Tensor:
    """Return the output of a gated perceptron from that of its first linear layers."""
    core, gate = hidden.chunk(2, dim=1)
    core = gated.mlp_core.layers[_place(gated.mlp_core) + 1 :](core)
    gate = gated.mlp_gate.layers[_place(gated.mlp_gate) + 1 :](gate)
    if gated.norm is not None:
        core, gate = gated.bn1(core), gated.bn2(gate)
    return gated.activation(core) * gated.sigmoid(gate)


def _finish(
    layer: AtomConv | BondConv, update: torch.Tensor, features: torch.Tensor, norm: torch.nn.Module | None
) -> torch.Tensor:
    if layer.use_mlp_out:
        update = layer.mlp_out(update)
    if layer.resnet:
        update = update + features
    return update if norm is None else norm(update)
