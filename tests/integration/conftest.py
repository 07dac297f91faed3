from __future__ import annotations

import signal

import pytest
from integration_helpers import Workspace, make_frames, plugin_python


@pytest.fixture(autouse=True, scope="session")
def _interruptible():
    """Let the commands that tests start be interrupted: jobs in the background of a shell inherit that they cannot."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def workspace(tmp_path):
    """A dataset of 40 training and 60 test structures, without suites and cards."""
    made = Workspace(tmp_path)
    made.write_frames("train", make_frames(40, seed=1))
    made.write_frames("test", make_frames(60, seed=2))
    made.entry()
    return made


@pytest.fixture(scope="session")
def python_with_plugin(tmp_path_factory):
    return plugin_python(tmp_path_factory.mktemp("plugin") / "venv")
