"""What a training by NequIP says of its progress: loaded by NequIP's own process, as a callback of its trainer."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer

PROGRESS: Final = "progress.jsonl"
ENERGY_MAE: Final = "energy_mae"
FORCES_MAE: Final = "forces_mae"


class Lines(Callback):
    """Appends a JSON line to a file in the working folder for every optimiser step and every validation."""

    def __init__(self) -> None:
        """Begin with no step."""
        self._began = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begin to measure."""
        del trainer, pl_module, batch, batch_idx
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell of a step and how long it took; a GPU is done when its loss is read."""
        del pl_module, batch, batch_idx
        loss = float(outputs["loss"])
        seconds = time.perf_counter() - self._began
        _tell({"step": trainer.global_step, "loss": loss, "seconds": seconds})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell of a validation."""
        del pl_module
        found = {name: float(trainer.callback_metrics[f"val0_epoch/{name}"]) for name in (ENERGY_MAE, FORCES_MAE)}
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        _tell({"step": trainer.global_step, "learning_rate": rate, **found})


def _tell(line: dict[str, Any]) -> None:
    with Path(PROGRESS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
