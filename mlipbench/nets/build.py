"""Networks by name."""

from __future__ import annotations

import dataclasses
import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from mlipbench.errors import ConfigError
from mlipbench.structures.neighbors import NeighborCap

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from mlipbench.nets.network import Network, NetworkConfig

# The module of each network. It has NETWORKS, a dict from names of cards to `Network` classes, and PRESETS, a dict from
# these names to configurations by name of the preset.
_MODULES: Final = MappingProxyType(
    {
        "leignn": "mlipbench.nets.leignn",
        "leignn-smooth": "mlipbench.nets.leignn",
        "vanilla": "mlipbench.nets.leignn",
        "vanilla-nmu": "mlipbench.nets.leignn",
        "painn": "mlipbench.nets.painn",
        "painn-direct": "mlipbench.nets.painn",
        "schnet": "mlipbench.nets.schnet",
        "dimenet": "mlipbench.nets.dimenet",
        "dimenet++": "mlipbench.nets.dimenet",
        "cgcnn": "mlipbench.nets.cgcnn",
        "forcenet": "mlipbench.nets.forcenet",
    }
)
NET_NAMES: Final = tuple(_MODULES)


def presets_of(name: str) -> Mapping[str, NetworkConfig]:
    """Return the configurations of a network by name of the preset.

    Raises:
        ConfigError: There is no network of this name.
    """
    presets: Mapping[str, NetworkConfig] = _module(name).PRESETS[name]
    return presets


def build(name: str, preset: str, **changes: Any) -> Network:
    """Return a network with random weights, drawn from torch's generator.

    Args:
        name: Name of the network, as on its card.
        preset: Name of the preset.
        **changes: Fields of the configuration that differ from the preset's.

    Raises:
        ConfigError: There is no such network or preset, or a change fits no field.
    """
    presets = presets_of(name)
    if preset not in presets:
        raise _unknown("preset", preset, presets, f"network {name}")
    fields = {field.name for field in dataclasses.fields(presets[preset])}
    for field in changes:
        if field not in fields:
            raise _unknown("field", field, fields, f"network {name}")
    return _network(name, dataclasses.replace(presets[preset], **changes))


def build_from_config(name: str, config: Mapping[str, Any]) -> Network:
    """Return a network from a configuration as plain data, as a checkpoint holds it.

    Args:
        name: Name of the network.
        config: What `dataclasses.asdict` makes of its configuration.

    Raises:
        ConfigError: There is no such network, or the fields are not those of its configuration.
    """
    config_class = type(next(iter(presets_of(name).values())))
    values = dict(config)
    cap = values.get("cap")
    try:
        if cap is not None:
            values["cap"] = NeighborCap(**cap)
        return _network(name, config_class(**values))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the configuration does not fit: {error}", where=f"network {name}") from None


def _network(name: str, config: NetworkConfig) -> Network:
    network: Network = _module(name).NETWORKS[name](config)
    return network


def _module(name: str) -> ModuleType:
    if name not in _MODULES:
        raise _unknown("network", name, _MODULES, "")
    return importlib.import_module(_MODULES[name])


def _unknown(kind: str, name: str, known: Any, where: str) -> ConfigError:
    from mlipbench.yamlfile import did_you_mean

    return ConfigError(f"unknown {kind} {name!r}", where=where or None, remedy=did_you_mean(name, known))
