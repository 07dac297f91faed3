"""A model that writes down every call."""

import hashlib
import os
import time
from pathlib import Path

from mlipbench.testing.toys import SpringAdapter


class RecordedAdapter(SpringAdapter):
    """Appends a line per call to the file `TOY_POTENTIALS_CALLS`: structures of the call and a hash of its positions.

    Args:
        kwargs: ``seconds`` that a call takes, beside those of `SpringAdapter`.
    """

    def forward(self, prepared, properties):
        time.sleep(float(self.kwargs.get("seconds", 0.0)))
        if "TOY_POTENTIALS_CALLS" in os.environ:
            name = hashlib.sha256(prepared.positions.tobytes()).hexdigest()
            with Path(os.environ["TOY_POTENTIALS_CALLS"]).open("a", encoding="utf-8") as file:
                file.write(f"{prepared.n_structures} {name}\n")
        return super().forward(prepared, properties)
