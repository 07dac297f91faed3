"""Which processors the models of a round are measured on."""

import os
import sys

import pytest

from mlipbench.machine import processors_of_rounds


@pytest.fixture
def four(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7, 2, 3, 5}, raising=False)


@pytest.mark.parametrize(
    ("threads", "expected"),
    [
        (1, [[2], [3], [5], [7]]),
        (2, [[2, 3], [3, 5], [5, 7], [7, 2]]),
        (3, [[2, 3, 5], [3, 5, 7], [5, 7, 2], [7, 2, 3]]),
        (4, []),
        (8, []),
    ],
)
def test_rounds_go_through_all_processors(four, threads, expected):
    assert processors_of_rounds(threads) == expected


def test_other_systems_do_not_let_a_process_choose(four, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert processors_of_rounds(1) == []
