import json

import pytest

from mlipbench.conformance.catalogue import CHECKS

pytest_plugins = ["pytester"]

CASE = """
from mlipbench.testing.conformance import ConformanceSuite


class TestModel(ConformanceSuite):
    card = {card!r}
    calls = 80
"""
QUICK = "output or rotation or energy_reference or empty_batch"


def card(folder, lie):
    path = folder / "liar.yaml"
    capabilities = {"forces": "conservative", "elements": "O, Cu", "energy_reference": "arbitrary"}
    kwargs = {"of": "mlipbench.adapters.ase:AseAdapter", "calculator": "ase.calculators.emt:EMT", "lie": lie}
    content = {"name": "liar", "adapter": "mlipbench.testing.liars:LyingAdapter", "environment": "base"}
    path.write_text(json.dumps(content | {"kwargs": kwargs, "capabilities": capabilities}), encoding="utf-8")
    return str(path)


@pytest.fixture
def run(pytester, monkeypatch):
    def chosen(card, *options):
        monkeypatch.setenv("MLIPBENCH_CACHE", str(pytester.path / "cache"))
        pytester.makepyfile(CASE.format(card=card))
        return pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:cacheprovider", *options)

    return chosen


def test_a_correct_model_passes_and_what_does_not_apply_is_skipped(run):
    result = run("emt", "-k", QUICK, "-rs")
    result.assert_outcomes(passed=3, skipped=1, deselected=len(CHECKS) - 4)
    result.stdout.fnmatch_lines(["*not applicable: nothing states energies of atoms*"])


def test_a_liar_fails_with_what_is_wrong_and_how_to_mend_it(run, pytester):
    result = run(card(pytester.path, "mixed axes"), "-k", "rotation")
    result.assert_outcomes(failed=1, deselected=len(CHECKS) - 1)
    result.stdout.fnmatch_lines(["wrong: a rotated molecule has other predictions*", "mend: look for*"])


def test_what_an_adapter_raises_is_shown(run, pytester):
    result = run(card(pytester.path, "float32 arrays"), "-k", "output")
    result.assert_outcomes(failed=1, deselected=len(CHECKS) - 1)
    result.stdout.fnmatch_lines(["*AdapterError: WorkerError: forces have dtype float32, expected float64"])
