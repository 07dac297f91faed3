"""The page of one model: made of synthetic runs and diagnoses, through the verb where it is one."""

import json

import pytest

from mlipbench.cli.app import main
from mlipbench.comparison.collect import collect
from mlipbench.report.sheet.sheet import build_sheet
from mlipbench.report.sheet.write import to_html, to_markdown
from mlipbench.report.table import build_tables
from mlipbench.report.verdicts import NOT_CLAIMED
from mlipbench.store.diagnoses import DiagnosisRecord, read_diagnoses

PHYSICS = {"task": "physics", "metric": "net_force", "unit": "eV/Å", "split": "molecules"}
SPLIT = {
    "task": "s2ef", "dataset": "toys", "split": "test", "role": "evaluate", "status": "ok", "n_expected": 40,
    "n_predicted": 40,
}  # fmt: skip


def diagnosis(model="net", **failed):
    checks = [
        {"check": "rotation", "group": "symmetry", "status": "passed", "seconds": 0.1},
        {"check": "force_units", "group": "units", "status": "passed", "seconds": 0.1},
    ]
    for check in checks:
        if check["check"] in failed:
            check |= {"status": "failed", "problem": failed[check["check"]], "remedy": "mend it"}
    return {
        "model": model, "network": None, "dataset": "toys", "device": "cpu", "dtype": "float32", "seconds": 2.0,
        "failed": len(failed), "checks": checks,
    }  # fmt: skip


def sheet_of(results, model="net", *diagnoses):
    records = collect([results])
    return build_sheet(model, records, build_tables(records), [DiagnosisRecord(**one) for one in diagnoses])


def axis(sheet, name):
    return next(one for one in sheet.axes if one.name == name)


def test_what_nobody_looked_at_is_said(make_run, tmp_path):
    make_run("net", manifest={"splits": [SPLIT]})
    sheet = sheet_of(tmp_path / "results")
    assert [one.word for one in sheet.axes] == ["not looked at", "passes", "passes", "not looked at", "not looked at"]
    assert sheet.first == "none of those that were looked at; not looked at: wiring, stability, physics"
    text = to_markdown(sheet)
    assert "## Capabilities verified\n\nnot examined by doctor." in text
    assert "## Cost\n\nnot measured." in text


def test_the_first_axis_goes_before_the_others(make_run, tmp_path):
    make_run("net", manifest={"splits": [SPLIT | {"n_predicted": 39, "n_failed": 1}]})
    sheet = sheet_of(tmp_path / "results", "net", diagnosis(force_units="forces are in kcal/mol/Å"))
    assert sheet.first == "wiring: 1 of 2 checks failed: force_units"
    assert axis(sheet, "coverage").said == "1 of 40 structures failed"
    assert "forces are in kcal/mol/Å" in to_markdown(sheet)
    good = sheet_of(tmp_path / "results", "net", diagnosis())
    assert good.first == "coverage: 1 of 40 structures failed"


@pytest.mark.parametrize(("value", "passes"), [(2e-3, False), (1e-3, True), (0.0, True)])
def test_physics_is_judged_by_the_threshold(make_run, tmp_path, value, passes):
    make_run("net", record=PHYSICS | {"value": value, "ci_low": value, "ci_high": value})
    sheet = sheet_of(tmp_path / "results")
    assert axis(sheet, "physics").passes is passes
    assert ("✓" if passes else "✗") in to_markdown(sheet)
    assert sheet.first.startswith("none of" if passes else "physics: beyond the threshold: Net force")


@pytest.mark.parametrize(("forces", "passes"), [("conservative", False), ("direct", None)])
def test_direct_forces_do_not_claim_to_be_a_gradient(make_run, tmp_path, forces, passes):
    asked = PHYSICS | {"metric": "force_gradient_rmse", "value": 0.5, "ci_low": 0.4, "ci_high": 0.6}
    make_run("net", record=asked, card={"capabilities": {"forces": forces}})
    sheet = sheet_of(tmp_path / "results")
    assert axis(sheet, "physics").passes is passes
    records = collect([tmp_path / "results"])
    (table,) = build_tables(records)
    assert (NOT_CLAIMED in table.footnotes) is (passes is None)
    assert ("✗" in table.rows[0].cells[0].text) is (passes is False)
    assert table.columns[0].limit == " ≤ 20"  # meV/Å


def test_untrained_weights_fail(make_run, tmp_path):
    weights = {"toys": {"verdict": {"trained": False}, "recipe": "toys"}}
    model = {"name": "net", "card": {}, "card_sha256": "0" * 64, "checkpoints": weights}
    make_run("net", manifest={"model": model})
    facts = {"parameters": 3, "preset": "small", "n_train": 8, "dataset": "toys", "steps": 5, "learning_rate": 0.01}
    weights["toys"] |= facts
    found = axis(build_sheet("net", collect([tmp_path / "results"]), [], []), "training")
    assert (found.passes, found.said) == (False, "untrained by toys: forces are no better than half of none")


def test_weights_that_cost_what_trained_ones_do_need_not_be_trained(make_run, tmp_path):
    weights = {"toys": {"verdict": {"trained": False}, "recipe": "toys"}}
    model = {"name": "net", "card": {}, "card_sha256": "0" * 64, "checkpoints": weights}
    cost = {"task": "efficiency", "metric": "latency_p50", "unit": "ms", "split": "slabs"}
    make_run("net", manifest={"model": model}, record=cost)
    found = axis(build_sheet("net", collect([tmp_path / "results"]), [], []), "training")
    assert (found.passes, found.said) == (None, "there is no run but of costs")


def test_lost_replicas_fail(make_run, tmp_path):
    lost = {"task": "md", "metric": "survived", "unit": "1", "direction": "higher", "value": 0.5, "ci_low": 0.1,
            "ci_high": 0.9}  # fmt: skip
    make_run("net", record=lost)
    found = axis(sheet_of(tmp_path / "results"), "stability")
    assert (found.passes, found.said) == (False, "replicas survive in part on toys/test (50%)")


def test_ranks_are_those_among_all_models(make_run, tmp_path):
    make_run("net", error=0.05)
    make_run("better", error=0.01)
    text = to_markdown(sheet_of(tmp_path / "results"))
    assert "· 2" in text
    assert "better" not in text


def test_names_and_notes_are_escaped(make_run, tmp_path):
    name = "<script>alert(1)</script>"
    make_run("net", card={"note": name, "adapter": "a|b", "environment": "e"})
    sheet = sheet_of(tmp_path / "results", "net", diagnosis(rotation=name))
    html = to_html(sheet)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "script-src &#39;none&#39;" in html
    assert "a\\|b" in to_markdown(sheet)
    assert "<script" not in to_markdown(sheet)


def test_the_verb_writes_both_files(make_run, tmp_path, capsys):
    results = tmp_path / "results"
    make_run("net")
    (results / "doctor").mkdir()
    (results / "doctor" / "net.json").write_text(json.dumps(diagnosis()))
    (results / "doctor" / "other.json").write_text(json.dumps(diagnosis("other", rotation="wrong")))
    given = ["report", "--model", "net", "--results", str(results), "--output", str(tmp_path / "out"), "--json"]
    assert main(given) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["axes"]["wiring"] == {"passes": True, "found": "none of 2 checks failed"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model-net.md", "model-net.html"}
    assert not (results / "runs" / "leaderboard.md").exists()


def test_an_unknown_model_ends_with_5(make_run, tmp_path, capsys):
    make_run("net")
    assert main(["report", "--model", "nett", "--results", str(tmp_path / "results")]) == 5
    assert "there is no run of 'nett'; there are runs of net" in capsys.readouterr().err


def test_a_damaged_diagnosis_is_named_and_left_out(make_run, tmp_path, capsys):
    results = tmp_path / "results"
    make_run("net")
    (results / "doctor").mkdir()
    (results / "doctor" / "net.json").write_text('{"model": "net"}')
    assert main(["report", "--model", "net", "--results", str(results)]) == 3
    said = capsys.readouterr().err
    assert "net.json" in said
    assert "make it anew with `mlipbench doctor MODEL --json`" in said


def test_what_doctor_says_can_be_read_back(tmp_path):
    from mlipbench.conformance.result import failed, passed
    from mlipbench.doctor.examine import Diagnosis, Finding

    findings = (Finding(passed("rotation"), "symmetry", 0.5), Finding(failed("energy_units", "w", "m"), "units", 0.5))
    told = Diagnosis("net-recipe", "net", None, "cpu", "float64", findings, 1.0).record().model_dump(mode="json")
    folder = tmp_path / "doctor"
    folder.mkdir()
    (folder / "net.json").write_text(json.dumps(told))
    problems = []
    (read,) = (found for found in read_diagnoses(tmp_path, problems) if found.is_of("net"))
    assert not problems
    assert [check.status for check in read.checks] == ["passed", "failed"]
    assert read.model_dump(mode="json") == told
