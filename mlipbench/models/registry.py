"""The registry of model cards: shipped ones, and those of installed packages.

A package ships cards by an entry point of the group ``mlipbench.models`` whose value names a folder of YAML files
inside an importable package, ``package:folder``::

    [project.entry-points."mlipbench.models"]
    acme = "acme_potentials:cards"

The folder is found through the metadata and the path of the package; nothing of the package is imported.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mlipbench.errors import ConfigError, PrerequisiteError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlipbench.models.card import ModelCard

ENTRY_POINT_GROUP: Final = "mlipbench.models"
BUILT_IN_ADAPTERS: Final = MappingProxyType(
    {
        "ase": "mlipbench.adapters.ase:AseAdapter",
        "chgnet": "mlipbench.adapters.chgnet:ChgnetAdapter",
        "composition": "mlipbench.adapters.composition:CompositionAdapter",
        "deepmd": "mlipbench.adapters.deepmd:DeepmdAdapter",
        "fairchem": "mlipbench.adapters.fairchem:FairchemAdapter",
        "fairchem_v1": "mlipbench.adapters.fairchem_v1:FairchemV1Adapter",
        "lj": "mlipbench.adapters.lj:LennardJonesAdapter",
        "mace": "mlipbench.adapters.mace:MaceAdapter",
        "nequip": "mlipbench.adapters.nequip:NequipAdapter",
        "nets": "mlipbench.adapters.nets:NetsAdapter",
        "trained": "mlipbench.adapters.trained:TrainedAdapter",
    }
)


def card_names() -> tuple[str, ...]:
    """Return the names of all known cards in alphabetical order, reading directories only.

    Raises:
        ConfigError: Two cards have the same name, or an entry point names no folder.
    """
    return tuple(sorted(_card_files()))


def load_card(name_or_path: str | Path, *, trust: bool = False) -> ModelCard:
    """Return a card by its name, by the path of its file, or by the folder of a checkpoint that a recipe made.

    Args:
        name_or_path: A name from `card_names`, or a path: whatever ends in ``.yaml`` or ``.yml`` or holds a ``/``.
        trust: Consent to a card that is neither shipped nor installed, and to a checkpoint that is a pickle which is
            not recorded (`mlipbench.trusted`). A checkpoint of our own networks holds data only and needs none.

    Raises:
        ConfigError: The name is unknown, or the card is invalid.
        PrerequisiteError: A card is given by path, or a checkpoint from elsewhere is a pickle, without `trust`.
    """
    if _is_path(name_or_path):
        path = Path(name_or_path)
        if path.is_dir():
            return _card_of_checkpoint(path, trust=trust)
        if not trust:
            raise PrerequisiteError(
                "a card given by path can run any code", file=path, remedy="read it, then give --trust"
            )
        return _read_card(path)
    name = str(name_or_path)
    files = _card_files()
    if name not in files:
        raise _unknown("model", name, files)
    card = _read_card(files[name])
    if card.name != name:
        raise ConfigError(f"the name {card.name!r} differs from the file's", file=files[name], where="name")
    return card


def card_below(path: Path, name: str) -> ModelCard | None:
    """Return a card that the packages installed in a folder ship, None where they ship none of that name.

    Args:
        path: A folder of packages with their metadata, such as another version of what is installed.
        name: Name of the card.

    Raises:
        ConfigError: The card is invalid.
    """
    folders = [path / "mlipbench" / "models" / "cards"]
    folders += [
        path.joinpath(*point.module.split("."), *(point.attr or "cards").split("."))
        for distribution in importlib.metadata.distributions(path=[str(path)])
        for point in distribution.entry_points.select(group=ENTRY_POINT_GROUP)
    ]
    files = [folder / f"{name}.yaml" for folder in folders]
    return next((_read_card(file) for file in files if file.is_file()), None)


def adapter_target(card: ModelCard) -> str:
    """Return where the adapter of a card is, as ``module:Class``.

    Raises:
        ConfigError: The card's short name stands for no built-in adapter.
    """
    if ":" in card.adapter:
        return card.adapter
    if card.adapter not in BUILT_IN_ADAPTERS:
        raise _unknown("adapter", card.adapter, BUILT_IN_ADAPTERS)
    return BUILT_IN_ADAPTERS[card.adapter]


def _card_of_checkpoint(folder: Path, *, trust: bool) -> ModelCard:
    """Return a card for a checkpoint: that of its network, with what the checkpoint was trained on."""
    from mlipbench.checkpoint import is_checkpoint, read_checkpoint
    from mlipbench.elements import format_elements
    from mlipbench.models.card import ModelCard

    if not is_checkpoint(folder):
        raise ConfigError(
            "the folder holds no checkpoint", file=folder, remedy="name a folder that `mlipbench train` has finished"
        )
    record = read_checkpoint(folder)
    if record.pickled:
        from mlipbench.trusted import admit

        admit(folder / record.weights_file, record.weights_sha256, trust=trust)
    net = load_card(record.net).model_dump(mode="json")
    capabilities = {
        "elements": format_elements(set(record.elements)),
        "energy_reference": record.data.energy_reference,
        "level_of_theory": record.data.level_of_theory,
    }
    changes = {
        "name": record.name,
        "checkpoint": {"path": "."},
        "checkpoints": {},
        "trainer": None,
        "capabilities": net["capabilities"] | capabilities,
        "training_data": [*(net["training_data"] or ()), record.data.dataset],
    }
    return ModelCard.model_validate(net | changes).in_folder(folder)


def _unknown(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    from mlipbench.yamlfile import did_you_mean

    return ConfigError(f"unknown {kind} {name!r}", remedy=did_you_mean(name, known))


def _is_path(value: str | Path) -> bool:
    text = str(value)
    return isinstance(value, Path) or text.endswith((".yaml", ".yml")) or "/" in text or "\\" in text


def _read_card(path: Path) -> ModelCard:
    from mlipbench.models.card import ModelCard
    from mlipbench.yamlfile import read_yaml, validate

    return validate(ModelCard, read_yaml(path), path).in_folder(path.parent)


def _card_files() -> dict[str, Path]:
    """Return the file of every card by the name of the card, which is the stem of the file."""
    files: dict[str, Path] = {}
    for folder in _folders():
        for path in sorted(folder.glob("*.yaml")):
            if path.stem in files:
                raise ConfigError(f"a model named {path.stem!r} exists already in {files[path.stem].parent}", file=path)
            files[path.stem] = path
    return files


def _folders() -> Iterator[Path]:
    yield Path(__file__).parent / "cards"
    seen = set()
    for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        if point.value not in seen:
            seen.add(point.value)
            yield _folder_of(point)


def _folder_of(point: importlib.metadata.EntryPoint) -> Path:
    """Return the folder an entry point names, without importing its package.

    Only the top-level package is looked up: `find_spec` would import the parents of a dotted name.
    """
    top, *rest = point.module.split(".")
    spec = importlib.util.find_spec(top)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(location, *rest, *(point.attr or "cards").split("."))
        if folder.is_dir():
            return folder
    raise ConfigError(
        "there is no such folder of cards",
        where=f"entry point {point.name} = {point.value!r} of the group {ENTRY_POINT_GROUP}",
        remedy="reinstall or remove the package that declares it",
    )
