"""The verb, on models that need no package."""

import json

import pytest

from mlipbench.cli.app import main
from mlipbench.conformance.catalogue import CHECKS
from mlipbench.errors import ExitCode


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MLIPBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def card(folder, adapter, **kwargs):
    path = folder / "toy.yaml"
    capabilities = {"forces": "conservative", "elements": "O, Cu", "energy_reference": "arbitrary"}
    content = {"name": "toy", "adapter": f"mlipbench.testing.{adapter}", "environment": "base", "kwargs": kwargs}
    path.write_text(json.dumps(content | {"capabilities": capabilities}), encoding="utf-8")
    return str(path)


def examined(capsys, *words):
    code = main(["doctor", *words, "--json", "--display", "none"])
    return code, json.loads(capsys.readouterr().out)


def statuses(found):
    return {check["check"]: check["status"] for check in found["checks"]}


def test_a_fitted_model_is_fitted_to_embedded_data(capsys):
    code, found = examined(capsys, "composition")
    assert code == ExitCode.DONE
    assert found["dataset"] == "mini-slabs"
    assert list(statuses(found)) == list(CHECKS)
    assert found["failed"] == 0


def test_a_model_that_ends_its_process_fails_check_by_check(tmp_path, capsys):
    path = card(tmp_path, "toys:CrashAdapter", element=8)
    code, found = examined(capsys, path, "--trust")
    assert code == ExitCode.NEGATIVE_VERDICT
    lost = {check["check"]: check["problem"] for check in found["checks"] if check["status"] == "failed"}
    for name in ("output", "rotation", "force_units", "threads"):
        assert lost[name] == "the process of the model was lost: worker killed by SIGSEGV"


def test_a_liar_is_named_below_the_table(tmp_path, capsys):
    honest = {"of": "mlipbench.adapters.ase:AseAdapter", "calculator": "ase.calculators.emt:EMT"}
    path = card(tmp_path, "liars:LyingAdapter", lie="energy in kcal/mol", **honest)
    assert main(["doctor", path, "--trust", "--display", "none"]) == ExitCode.NEGATIVE_VERDICT
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("toy: float64 on cpu, ")
    assert lines[2].split() == ["GROUP", "CHECK", "STATUS", "MEASURED", "TOLERANCE", "NOTE"]
    place = lines.index("  wrong: the energy is in kcal/mol, the forces are in eV/Å (slope 0.043364)")
    assert lines[place - 1].startswith("force_units: The regression slope of forces on -dE/dx")
    assert lines[place + 1] == "  mend: multiply energies by 0.043364104"
    assert lines[-1].endswith("1 failed, 4 not applicable")


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["nosuch"], ExitCode.USAGE, "unknown model 'nosuch'"),
        (["painn"], ExitCode.MISSING, "has no weights of its own"),
        (["leignn", "--dataset", "nosuch"], ExitCode.USAGE, "it has mini-ethanol, mini-isomers"),
        (["emt", "--device", "cuda"], ExitCode.USAGE, "does not offer device 'cuda'"),
        (["./toy.yaml"], ExitCode.MISSING, "give --trust"),
    ],
)
def test_what_cannot_begin_ends_in_one_line(words, code, part, capsys):
    assert main(["doctor", *words, "--display", "none"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert part in err
    assert err.count("\n") == 1
