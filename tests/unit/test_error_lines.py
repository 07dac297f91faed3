from __future__ import annotations

import errno

import pytest

from mlipbench.errors import (
    ConfigError,
    DatasetError,
    ExitCode,
    MlipbenchError,
    NothingSelectedError,
    PrerequisiteError,
    ResultsError,
    WorkerError,
    from_os_error,
)


def test_error_is_one_line_with_file_place_problem_and_remedy() -> None:
    error = ConfigError("unknown\n key", file="a.yaml", where="line 3", remedy="did you mean\tb?")
    assert str(error) == "a.yaml: line 3: unknown key; did you mean b?"


def test_parts_that_are_not_given_leave_no_trace() -> None:
    assert str(MlipbenchError("broken")) == "broken"
    assert str(MlipbenchError("broken", where="frame 3")) == "frame 3: broken"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ConfigError, 2),
        (DatasetError, 2),
        (ResultsError, 2),
        (WorkerError, 3),
        (PrerequisiteError, 4),
        (NothingSelectedError, 5),
    ],
)
def test_each_error_ends_the_command_with_its_exit_code(kind: type[MlipbenchError], code: int) -> None:
    assert kind("x").exit_code == code


def test_exit_codes_are_those_of_the_documentation() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0,
        "NEGATIVE_VERDICT": 1,
        "USAGE": 2,
        "TASKS_FAILED": 3,
        "MISSING": 4,
        "NOTHING": 5,
        "LATER": 75,
        "INTERRUPTED": 130,
    }


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_something_missing_and_names_the_file(number: int) -> None:
    error = from_os_error(OSError(number, "no room"), "run/manifest.json")
    assert isinstance(error, PrerequisiteError)
    assert str(error).startswith("run/manifest.json: no space left on the device; ")


def test_other_failed_writes_keep_the_system_s_words() -> None:
    error = from_os_error(PermissionError(errno.EACCES, "Permission denied"), "x")
    assert type(error) is MlipbenchError
    assert str(error) == "x: Permission denied"


def test_worker_error_keeps_its_detail_out_of_the_line() -> None:
    error = WorkerError("crashed", detail="Traceback\n...")
    assert (str(error), error.detail) == ("crashed", "Traceback\n...")
