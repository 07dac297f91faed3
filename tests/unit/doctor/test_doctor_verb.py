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
    capabilities = {"forces": "conservative", "elements": "O, Cu", "energy_reference": "total"}
    content = {"name": "toy", "adapter": f"mlipbench.testing.toys:{adapter}", "environment": "base", "kwargs": kwargs}
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


def test_a_model_that_ends_its_process_fails_every_check_and_the_verb_ends(tmp_path, capsys):
    path = card(tmp_path, "CrashAdapter", element=8)
    code, found = examined(capsys, path, "--trust")
    assert code == ExitCode.NEGATIVE_VERDICT
    lost = [check for check in found["checks"] if check["status"] == "failed"]
    assert all("the process of the model was lost: worker killed by SIGSEGV" in check["problem"] for check in lost)
    assert statuses(found)["output"] == "failed"
    assert statuses(found)["rotation"] == "failed"


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
