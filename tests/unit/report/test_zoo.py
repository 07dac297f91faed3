"""The page of all models, from cards, synthetic runs and diagnoses."""

import json

import pytest
from test_model_sheet import SPLIT, diagnosis

from mlipbench.cli.app import main
from mlipbench.environments.families import family_package
from mlipbench.models.registry import card_names


def row_of(text, name):
    """Return the cells of a model by the heads of its table."""
    lines = text.splitlines()
    (place,) = [place for place, line in enumerate(lines) if line.startswith(f"| {name} |")]
    heads = next(line for line in reversed(lines[:place]) if line.startswith("| model |"))
    return dict(zip(*([cell.strip() for cell in line.split("|")[1:-1]] for line in (heads, lines[place])), strict=True))


@pytest.fixture
def page(make_run, tmp_path, capsys):
    make_run("schnet", manifest={"splits": [SPLIT], "environment": {"name": "torch", "parameters": 1077}})
    make_run("schnet", seed=1, manifest={"splits": [SPLIT], "environment": {"name": "torch", "parameters": 88}})
    make_run("mace", manifest={"splits": [SPLIT | {"n_predicted": 39, "n_failed": 1}]})
    folder = tmp_path / "results" / "doctor"
    folder.mkdir()
    (folder / "schnet.json").write_text(json.dumps(diagnosis("schnet")))
    (folder / "torn.json").write_text("{")
    code = main(["report", str(tmp_path / "results"), "--results", str(tmp_path / "results"), "--zoo"])
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'results' / 'zoo.md'}\n"
    return code, captured.err, (tmp_path / "results" / "zoo.md").read_text(encoding="utf-8")


def test_all_cards_have_a_row_and_what_is_known_of_them(page):
    _, _, text = page
    assert [row_of(text, name)["model"] for name in card_names() if "_" not in name]
    schnet = row_of(text, "schnet")
    assert schnet["parameters"] == "88 to 1,077"
    assert schnet["verified here"] == "✓ wiring, coverage, training"
    assert schnet["trained on"] == "what the recipe says"
    assert row_of(text, "mace")["verified here"] == "✓ training; ✗ coverage"
    assert row_of(text, "uma-s") == {
        "model": "uma-s",
        "paper": "https://arxiv.org/abs/2506.23971",
        "parameters": "",
        "forces": "conservative",
        "trained on": "OC20, OMat24, OMol25, ODAC25, OMC25",
        "licence": "MIT (code), FAIR Chemistry License (weights)",
        "gated": "yes",
        "verified here": "",
        "runs here": "",
    }


def test_a_damaged_diagnosis_is_named_once_and_the_rest_is_made(page):
    code, said, _ = page
    assert code == 3
    assert said.count("torn.json") == 1


def test_environments_are_named_by_their_package(page):
    _, _, text = page
    heads = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert "mace: mace-torch 0.3.16" in heads
    assert "torch: mlipbench" in heads
    assert family_package("nobody-has-this") is None


def test_one_model_and_all_models_are_two_pages(make_run, tmp_path, capsys):
    make_run("net", manifest={"splits": [SPLIT]})
    assert main(["report", str(tmp_path / "results"), "--zoo", "--model", "net"]) == 2
    assert "--model is of one model, --zoo of all; give one of them" in capsys.readouterr().err
