"""Start-up of the verbs people type most; the goal is 0.3 s on an idle machine."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.benchmark

VERBS = {
    "help": ["--help"],
    "list": ["list", "models"],
    "plan": ["plan", "quickstart", "--models", "composition,emt,lj"],
}
BARE = "import numpy, pydantic, typer, yaml; type('A', (pydantic.BaseModel,), {})"


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_starts_in_little_more_than_its_libraries(benchmark, verb):
    """`plan` needs numpy, pydantic, typer and YAML; what mlipbench adds to importing them must stay small."""
    command = [sys.executable, "-m", "mlipbench", *VERBS[verb]]
    subprocess.run(command, check=True, capture_output=True)  # the data are read once
    bare = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", BARE], check=True)
        bare.append(time.perf_counter() - start)
    benchmark.pedantic(subprocess.run, args=(command,), kwargs={"check": True, "capture_output": True}, rounds=5)
    ratio = benchmark.stats.stats.median / statistics.median(bare)
    benchmark.extra_info["ratio_to_libraries"] = ratio
    assert ratio < 2.0
