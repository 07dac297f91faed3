"""LEIGNN as one writes it at first: the yardstick for the speed of `mlipbench.nets.leignn`.

The equations of the released code, straight from its description: edges in any order, every edge tensor written out,
`index_add` for all sums, all thirds of all filters in all layers, the last aggregation computed though nobody reads it,
inputs of two-part maps side by side. Modules carry the names of `mlipbench.nets.leignn`, so that weights can be copied.
"""

from __future__ import annotations

import math

import torch
from torch import nn


def activation(x):
    """SiLU scaled to keep the variance."""
    return nn.functional.silu(x) / 0.6


class TwoLinear(nn.Module):
    """Two maps with an activation between them."""

    def __init__(self, inputs, hidden, outputs):
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.second = nn.Linear(hidden, outputs)

    def forward(self, x):
        return self.second(activation(self.first(x)))


class Global(nn.Module):
    """A map of scalars and one of vectors."""

    def __init__(self, hidden):
        super().__init__()
        self.scalars = TwoLinear(2 * hidden, hidden, hidden)
        self.vectors = nn.Linear(hidden, hidden, bias=False)


class Message(TwoLinear):
    """Messages of one layer."""

    def __init__(self, hidden, radial):
        super().__init__(hidden, hidden // 2, 3 * hidden)
        self.filter = nn.Linear(radial, 3 * hidden)


class Update(TwoLinear):
    """The update of one layer."""

    def __init__(self, hidden):
        super().__init__(2 * hidden, hidden, 3 * hidden)
        self.mix = nn.Linear(hidden, 2 * hidden, bias=False)


class Layer(nn.Module):
    """One layer."""

    def __init__(self, hidden, radial):
        super().__init__()
        self.hidden = hidden
        self.distribute = Global(hidden)
        self.message = Message(hidden, radial)
        self.update = Update(hidden)
        self.aggregate = Global(hidden)

    def forward(self, x, v, s, w, edges, batch):
        senders, receivers, basis, units = edges
        x = x + activation(self.distribute.scalars(torch.cat([x, s[batch]], dim=-1)))
        v = v + self.distribute.vectors(v + w[batch])

        messages = self.message(x)[senders] * self.message.filter(basis) / math.sqrt(3)
        q1, q2, q3 = messages.split(self.hidden, dim=-1)
        along = (q1[:, None, :] * v[senders] + q2[:, None, :] * units[:, :, None]) / math.sqrt(self.hidden)
        m = (x + torch.zeros_like(x).index_add(0, receivers, q3)) / math.sqrt(2)
        v = v + torch.zeros_like(v).index_add(0, receivers, along)

        v1, v2 = self.update.mix(v).split(self.hidden, dim=-1)
        a, b, c = self.update(torch.cat([m, torch.sqrt((v2**2).sum(1) + 1e-8)], dim=-1)).split(self.hidden, dim=-1)
        x, v = m + b / math.sqrt(2) + torch.tanh(c) * m, v + a[:, None, :] * v1

        size = torch.zeros_like(s[:, :1]).index_add(0, batch, torch.ones_like(x[:, :1]))
        mean_x = torch.zeros_like(s).index_add(0, batch, x) / size
        mean_v = torch.zeros_like(w).index_add(0, batch, v) / size[:, :, None]
        s = s + activation(self.aggregate.scalars(torch.cat([mean_x, s], dim=-1)))
        w = w + self.aggregate.vectors(mean_v + w)
        return x, v, s, w


class PlainLeignn(nn.Module):
    """LEIGNN with the sizes of a configuration."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.elements, config.hidden)
        self.global_embedding = nn.Parameter(torch.randn(1, config.hidden))
        self.layers = nn.ModuleList(Layer(config.hidden, config.radial) for _ in range(config.layers))
        half = config.hidden // 2
        self.energy_head = nn.Sequential(nn.Linear(config.hidden, half), nn.Identity(), nn.Linear(half, 1))
        self.force_head = nn.Linear(config.hidden, 1, bias=False)
        self.register_buffer("centres", torch.linspace(0, 1, config.radial), persistent=False)

    def forward(self, numbers, vectors, senders, receivers, batch):
        """Return energies and forces; `batch` counts up and its last entry tells the number of structures."""
        n_structures = int(batch[-1]) + 1
        distances = vectors.norm(dim=1)
        t = (distances / self.config.cutoff)[:, None]
        envelope = torch.where(t < 1, 1 - 21 * t**5 + 35 * t**6 - 15 * t**7, torch.zeros_like(t))
        width = self.centres[1] - self.centres[0]
        basis = envelope * torch.exp(-0.5 * ((t - self.centres) / width) ** 2)
        edges = senders, receivers, basis, -vectors / distances[:, None]

        x = self.embedding(numbers)
        v = x.new_zeros(len(x), 3, self.config.hidden)
        s = self.global_embedding.repeat(n_structures, 1)
        w = x.new_zeros(n_structures, 3, self.config.hidden)
        for layer in self.layers:
            x, v, s, w = layer(x, v, s, w, edges, batch)
        atoms = self.energy_head[2](activation(self.energy_head[0](x)))
        energy = x.new_zeros(n_structures, 1).index_add(0, batch, atoms)
        return energy[:, 0], self.force_head(v)[:, :, 0]
