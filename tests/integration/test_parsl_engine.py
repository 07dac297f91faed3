"""Shards handed out by Parsl, on executors of this machine."""

from __future__ import annotations

import re

import pytest
from integration_helpers import CHECKOUT, one_error
from test_shards import check, plain, workspace  # noqa: F401 - fixtures

from mlipbench.errors import ConfigError
from mlipbench.execution.engines.parsl import read_config

pytest.importorskip("parsl", reason="Parsl is not installed; the extra `parsl` brings it")

SITE = """
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

config = Config(
    executors=[
        HighThroughputExecutor(
            label="here", address="127.0.0.1", max_workers_per_node=2, encrypted=False,
            provider=LocalProvider(init_blocks=1, max_blocks=1, worker_init={init!r}),
        )
    ],
    run_dir={folder!r},
)
"""
ENGINE = ("--engine", "parsl", "--engine-config", "site.py")


def site(workspace, init="", text=SITE):  # noqa: F811
    path = workspace.root / "site.py"
    path.write_text(text.format(init=init, folder=str(workspace.root / "parsl")))
    return path


def test_parsl_computes_what_a_plain_run_does(workspace, plain):  # noqa: F811
    site(workspace)
    done = workspace.ok("run", "suite-toys.yaml", "--shards", "3", *ENGINE, "--display", "plain")
    assert re.search(rf"^4 shards: done, {38 + 20 + 38} structures in ", done.stderr, re.MULTILINE)
    check(workspace, plain)
    again = workspace.ok("run", "suite-toys.yaml", "--shards", "3", *ENGINE)
    assert again.stderr.count("finished before, in ") == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "`config` is no configuration of Parsl: there is none; define `config = parsl.config.Config"),
        ("config = {'executors': []}", "`config` is no configuration of Parsl: it is a dict"),
        ("import no_such_package", "fails: ModuleNotFoundError: No module named 'no_such_package'"),
        ("raise SystemExit('out')", "fails: SystemExit: out"),
        ("config = (", "fails: SyntaxError: "),
    ],
)
def test_what_is_no_configuration_is_one_line(tmp_path, text, words):
    path = tmp_path / "site.py"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}: {words}")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets that Parsl leaves open
def test_the_configuration_in_the_documents_is_one(tmp_path):
    text = (CHECKOUT / "docs" / "shards.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    path = tmp_path / "site.py"
    path.write_text(block)
    (executor,) = read_config(path).executors
    assert (executor.label, executor.available_accelerators) == ("gpus", ["0", "1", "2", "3"])


def test_options_that_do_not_fit_are_one_line(workspace):  # noqa: F811
    site(workspace)
    line = one_error(workspace.cli("run", "suite-toys.yaml", *ENGINE), 2)
    assert "--engine: an engine computes shards; say how many: --shards N" in line
    line = one_error(workspace.cli("run", "suite-toys.yaml", "--shards", "2", "--engine", "parsl"), 2)
    assert "give both: --engine parsl --engine-config FILE" in line
    line = one_error(workspace.cli("run", "suite-toys.yaml", "--shards", "2", *ENGINE[:-1], "none.py"), 2)
    assert "none.py: --engine-config: there is no such file" in line
