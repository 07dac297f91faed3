import json

import pytest

pytest_plugins = ["pytester"]

CASE = """
from ase.build import molecule

pytest_plugins = ["mlipbench.testing.latency"]


def test_latency(latency):
    latency({card!r}, [molecule("H2O"), molecule("CH4")], rounds=8)
"""


def card(folder, adapter, **kwargs):
    path = folder / "toy.yaml"
    capabilities = {"forces": "conservative", "elements": "1-94", "energy_reference": "total"}
    content = {"name": "toy", "adapter": f"mlipbench.testing.toys:{adapter}", "environment": "base", "kwargs": kwargs}
    path.write_text(json.dumps(content | {"capabilities": capabilities}), encoding="utf-8")
    return path


@pytest.fixture
def run(pytester, monkeypatch):
    def chosen(adapter, **kwargs):
        monkeypatch.setenv("MLIPBENCH_CACHE", str(pytester.path / "cache"))
        for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
            monkeypatch.delenv(name, raising=False)  # pytest-benchmark measures nothing in a worker of xdist
        pytester.makepyfile(CASE.format(card=str(card(pytester.path, adapter, **kwargs))))
        return pytester.runpytest_subprocess("--benchmark-json=found.json", "-p", "no:randomly")

    return chosen


def test_what_is_reported_is_the_time_of_the_model(run, pytester):
    result = run("SlowAdapter", seconds=0.05)
    result.assert_outcomes(passed=1)
    found = json.loads((pytester.path / "found.json").read_text())["benchmarks"][0]
    assert found["stats"]["rounds"] == 8
    assert 0.05 <= found["stats"]["min"] <= found["stats"]["median"] < 0.1


def test_a_model_that_fails_fails_the_test(run):
    result = run("RaiseAdapter")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*WorkerError*no parameters for element None*"])
