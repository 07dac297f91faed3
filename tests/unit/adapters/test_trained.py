"""What surrounds a package's adapter where a recipe trained the model, with springs in the package's place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from checkpoint_records import write_folder

from mlipbench.adapters import trained
from mlipbench.adapters.trained import TrainedAdapter
from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.models.interface import LoadRequest, Predictions, Property
from mlipbench.recipe import Trainer
from mlipbench.structures import StructureBatch
from mlipbench.testing.toys import SpringAdapter

if TYPE_CHECKING:
    from pathlib import Path

ALL = frozenset(Property)
SHIFTS = {1: -3.25, 8: -70.5}


class Springs(SpringAdapter):
    """Springs that refuse helium, and remember what they were asked to load."""

    asked: LoadRequest | None = None

    @classmethod
    def load(cls, request: LoadRequest) -> Springs:
        cls.asked = request
        return cls(request.kwargs)

    def forward(self, prepared: StructureBatch, properties: frozenset[Property]) -> Predictions:
        found = super().forward(prepared, properties)
        refused = {int(s): "no helium" for s in np.unique(prepared.structure_index[prepared.numbers == 2])}
        return Predictions(found.energy, found.forces, found.stress, refused)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(trained, "_ADAPTERS", {Trainer.MACE: "test_trained:Springs"})
    made = tmp_path / "weights"
    write_folder(made, b"weights", per_element=SHIFTS, trainer="mace", weights_file="model.pt")
    return made


def molecules(*symbols: list[int]) -> StructureBatch:
    counts = [len(part) for part in symbols]
    return StructureBatch(
        numbers=np.concatenate(symbols),
        positions=np.random.default_rng(0).normal(size=(sum(counts), 3)),
        cell=np.broadcast_to(np.eye(3) * 9.0, (len(symbols), 3, 3)),
        pbc=np.ones((len(symbols), 3)),
        offsets=np.cumsum([0, *counts]),
    )


def load(folder: Path, **changes: Any) -> TrainedAdapter:
    return TrainedAdapter.load(LoadRequest(checkpoint=str(folder), **changes))


def test_the_energy_reference_is_added_and_nothing_else_changed(folder: Path) -> None:
    batch = molecules([1, 8], [8], [1, 1, 8])
    found = load(folder, kwargs={"stiffness": 2.0}).predict(batch, ALL)
    bare = SpringAdapter({"stiffness": 2.0}).predict(batch, ALL)
    assert (found.energy - bare.energy).tolist() == pytest.approx([-73.75, -70.5, -77.0], abs=1e-12)
    assert found.forces.tolist() == bare.forces.tolist()
    assert found.stress.tolist() == bare.stress.tolist()
    assert not found.not_applicable


def test_the_package_is_given_the_file_of_a_pickle_and_the_folder_of_plain_tensors(folder: Path) -> None:
    load(folder, dtype="float32", seed=3)
    assert Springs.asked is not None
    assert (Springs.asked.checkpoint, Springs.asked.dtype) == (str(folder / "model.pt"), "float32")
    plain = folder.parent / "plain"
    write_folder(plain, b"weights", per_element=SHIFTS, trainer="mace")
    load(plain)
    assert Springs.asked.checkpoint == str(plain)


def test_elements_outside_the_training_are_not_applicable(folder: Path) -> None:
    batch = molecules([1, 8], [1, 6, 7], [8, 1], [118, 1])
    found = load(folder).predict(batch, ALL)
    assert dict(found.not_applicable) == {
        1: "the checkpoint was not trained on C, N",
        3: "the checkpoint was not trained on Og",
    }
    alone = load(folder).predict(batch.select(np.array([0, 2])), ALL)
    assert found.energy[[0, 2]].tolist() == alone.energy.tolist()
    assert np.isnan(found.energy[[1, 3]]).all()
    assert found.forces[[0, 1, 5, 6]].tolist() == alone.forces.tolist()
    assert np.isnan(found.forces[[2, 3, 4, 7, 8]]).all()
    assert np.isnan(found.stress[[1, 3]]).all()


def test_reasons_of_the_package_keep_their_structures(folder: Path) -> None:
    write_folder(folder, b"weights", per_element=SHIFTS, elements=[1, 2, 8], trainer="mace", weights_file="model.pt")
    found = load(folder).predict(molecules([6], [1, 8], [2], [8]), ALL)
    assert dict(found.not_applicable) == {0: "the checkpoint was not trained on C", 2: "no helium"}


def test_a_batch_of_nothing_that_is_known(folder: Path) -> None:
    found = load(folder).predict(molecules([6], [7, 7]), ALL)
    assert set(found.not_applicable) == {0, 1}
    assert np.isnan(found.energy).all()
    assert found.forces is not None
    assert found.forces.shape == (3, 3)
    assert found.stress is not None
    assert found.stress.shape == (2, 6)


def test_what_cannot_be_loaded_gets_one_line(folder: Path) -> None:
    with pytest.raises(ConfigError, match="the model needs a checkpoint; train one with `mlipbench train`"):
        TrainedAdapter.load(LoadRequest())
    with pytest.raises(PrerequisiteError, match="the checkpoint cannot be read"):
        load(folder / "nowhere")
    (folder / "model.pt").write_bytes(b"other")
    with pytest.raises(ConfigError, match=r"model\.pt: the weights have sha256 .* truncated or changed"):
        load(folder)
    write_folder(folder, b"weights", per_element=SHIFTS, net="leignn", trainer="nets")
    with pytest.raises(ConfigError, match="the checkpoint is one of leignn, which another adapter reads"):
        load(folder)
