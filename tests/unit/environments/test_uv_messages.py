"""What uv says, as one line."""

from __future__ import annotations

import pytest

from mlipbench.environments.uv import condensed

UNSOLVED = """\
Using CPython 3.11.7 interpreter at: /somewhere/python
error: No solution found when resolving dependencies
  cause: Because a==1 depends on b>=2 and you require b<1, we can conclude that a==1 cannot be used.
         And because you require a==1, we can conclude that your requirements are unsatisfiable.
"""
OLDER = """\
  \u00d7 No solution found when resolving dependencies:
  ╰─▶ Because there is no version of a==1 and you require a==1, we can
      conclude that your requirements are unsatisfiable.
"""
UNKNOWN = "failed to lookup address information: Name or service not known"
FETCH = f"""\
error: Request failed after 3 retries in 5.3s
  cause: Failed to fetch: <index>/torch
  cause: error sending request for url (<index>/torch)
  cause: client error (Connect)
  cause: dns error
  cause: {UNKNOWN}
"""
BUILD = """\
Resolved 1 package in 42ms
   Building ext==1.0
error: Failed to build `ext==1.0`
  cause: The build backend returned an error
  cause: Call to `backend.build_wheel` failed (exit status: 1)

         [stdout]
         compiling a.cpp

         [stderr]
         a.cpp:1:10: fatal error: torch/extension.h: No such file or directory
         error: command 'g++' failed with exit code 1

hint: Build failures usually indicate a problem with the package or the build environment
"""

TOOL = """\
error: Failed to build `ext==1.0`
  cause: Call to `backend.build_wheel` failed (exit status: 1)

         [stderr]
         Traceback (most recent call last):
           File "build.py", line 1, in <module>
         tool.errors.ConfigError: tool 0.1 is too old
"""


NO_SOLUTION = "No solution found when resolving dependencies: Because "


@pytest.mark.parametrize(
    ("said", "ends"),
    [
        (
            UNSOLVED,
            ["a==1 depends on b>=2 and ", "cannot be used. And because you require a==1, ", " are unsatisfiable"],
        ),
        (OLDER, ["there is no version of a==1 and you require a==1, we can conclude that your requirements are unsat"]),
    ],
)
def test_the_reason_of_the_resolver_is_one_line(said, ends):
    line = condensed(said)
    assert line.startswith(NO_SOLUTION + ends[0])
    assert all(part in line for part in ends)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (FETCH, "Request failed after 3 retries in 5.3s: Failed to fetch: <index>/torch: " + UNKNOWN),
        (BUILD, "Failed to build `ext==1.0`: error: command 'g++' failed with exit code 1"),
        (TOOL, "Failed to build `ext==1.0`: tool.errors.ConfigError: tool 0.1 is too old"),
        ("", ""),
        ("Resolved 3 packages in 1s\n + a==1\n", ""),
    ],
)
def test_the_cause_is_one_line(said, line):
    assert condensed(said) == line


def test_a_cause_of_a_page_is_cut():
    line = condensed("error: " + "word " * 500)
    assert len(line) <= 404
    assert line.endswith("word ...")
