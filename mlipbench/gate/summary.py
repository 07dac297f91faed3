"""What a gate found, for a pull request, for a program and for a build's log."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

from mlipbench.gate.findings import Finding, State
from mlipbench.report.compared import as_dict as comparison_as_dict
from mlipbench.report.compared import shown, structures
from mlipbench.report.text import clean, escape_markdown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mlipbench.comparison.comparing import Comparison
    from mlipbench.gate.verdict import Gate

_HEAD: Final = ("Run", "Where", "What", "Baseline", "Now", "Change [95 %]", "Tolerated", "Found")
_WORST: Final = ("Split", "Metric", "Structure", "Baseline", "Now", "Change")
_SECTIONS: Final = (
    (State.REGRESSION, "Regressions"),
    (State.INCOMPLETE, "Incomplete"),
    (State.WARNING, "Warnings"),
    (State.NOT_JUDGED, "Not judged"),
    (State.IMPROVED, "Improved"),
)
_NAMED: Final = 3
_ANNOTATION: Final = {State.REGRESSION: "error", State.INCOMPLETE: "error", State.WARNING: "warning"}


def to_markdown(gate: Gate) -> str:
    """Return what a gate found as Markdown: verdict, what changed, the structures that got worse, how to repeat it."""
    counts = ", ".join(f"{len(gate.of(state))} {state.value}" for state in State if gate.of(state))
    parts = [f"## mlipbench gate: {gate.verdict}", _sources(gate), f"{counts or 'nothing was looked at'}."]
    parts += [f"- {escape_markdown(problem)}" for problem in gate.problems]
    for state, title in _SECTIONS:
        if found := gate.of(state):
            parts.append(f"### {title}\n\n{_table(_HEAD, [_row(finding) for finding in found])}")
    if aside := list(_not_comparable(gate)):
        parts.append("### Not comparable\n\n" + "\n".join(aside))
    if worst := _worst(gate):
        parts.append(f"### Structures that got worse\n\n{_table(_WORST, worst)}")
    if unchanged := gate.of(State.UNCHANGED):
        rows = _table(_HEAD, [_row(finding) for finding in unchanged])
        head = f"<details><summary>Unchanged: {len(unchanged)}</summary>"
        parts.append(f"{head}\n\n{rows}\n\n</details>")
    if repeat := list(_commands(gate)):
        parts.append("### To repeat it\n\n```console\n" + "\n".join(repeat) + "\n```")
    return "\n\n".join(parts) + "\n"


def to_text(gate: Gate) -> str:
    """Return what a gate found as lines for a terminal: what is not unchanged, and the verdict."""
    lines = []
    for state, _ in _SECTIONS:
        lines += [f"{state.value}: {_as_line(finding)}" for finding in gate.of(state)]
    if aside := len(gate.of(State.NOT_COMPARABLE)):
        lines += [f"not comparable: {line}" for line in _grouped(gate)]
        lines.append(f"{aside} numbers were not comparable")
    lines.append(f"{len(gate.of(State.UNCHANGED))} unchanged")
    return "\n".join([*map(clean, lines), f"verdict: {gate.verdict}"])


def as_dict(gate: Gate) -> dict[str, Any]:
    """Return what a gate found as plain data for JSON; numbers are in the units they are stored in."""
    return {
        "verdict": gate.verdict,
        "exit_code": int(gate.exit_code),
        "baseline": gate.baseline,
        "against": gate.against,
        "policy": gate.policy,
        "problems": list(gate.problems),
        "findings": [_finding(finding) for finding in gate.findings],
        "comparisons": [_comparison_as_dict(comparison, gate) for comparison in gate.comparisons],
    }


def as_annotations(gate: Gate) -> Iterator[str]:
    """Yield the commands that make GitHub show regressions and warnings beside the build.

    https://docs.github.com/actions/reference/workflow-commands-for-github-actions
    """
    for finding in gate.findings:
        if kind := _ANNOTATION.get(finding.state):
            title = _escaped(f"mlipbench: {finding.state.value}", ":,")
            yield f"::{kind} title={title}::{_escaped(_as_line(finding))}"


def _escaped(text: str, more: str = "") -> str:
    plain = clean(text).replace("%", "%25")
    for char in more:
        plain = plain.replace(char, f"%{ord(char):02X}")
    return plain


def _sources(gate: Gate) -> str:
    said = []
    if gate.baseline:
        said.append(f"Baseline: `{clean(gate.baseline).replace('`', '')}`.")
    if gate.against:
        said.append(f"Times beside {escape_markdown(gate.against)}.")
    said.append(f"Policy: {escape_markdown(gate.policy)}.")
    if gate.comparisons:
        said.append(
            "A metric is a regression where its change for the worse is larger than tolerated and significant at 5 % "
            "over all metrics and splits of its run (Holm)."
        )
    return " ".join(said)


def _row(finding: Finding) -> list[str]:
    where = "" if finding.place is None else f"{finding.place.dataset}/{finding.place.split}"
    if finding.row is None or finding.comparison is None:
        return [finding.run, where, finding.about, "", "", "", "", finding.said]
    numbers = shown(finding.row, finding.comparison)
    unit = f" {numbers.unit}" if numbers.unit else ""
    values = [f"{value}{unit}" if value else "" for value in (numbers.a, numbers.b)]
    change = numbers.relative or (f"{numbers.change}{unit}" if numbers.change else "")
    said = finding.said
    if numbers.detectable and finding.row.change and finding.row.change.p != 1.0:
        said = f"{said}; {numbers.detectable} would have been found"
    return [finding.run, where, finding.about, *values, change, _tolerated(finding, numbers.unit), said]


def _tolerated(finding: Finding, unit: str) -> str:
    change = None if finding.row is None else finding.row.change
    if finding.tolerance is None or change is None or finding.row is None:
        return ""
    if change.relative is not None and change.a:
        return f"{100.0 * finding.tolerance / abs(change.a):.3g} %"
    if finding.row.unit != "1":
        return f"{finding.tolerance:.3g} {finding.row.unit}"
    share = unit == "%"
    return f"{100.0 * finding.tolerance:.3g} points" if share else f"{finding.tolerance:.3g}"


def _as_line(finding: Finding) -> str:
    run, where, about, base, now, change, tolerated, said = _row(finding)
    numbers = f"{base} -> {now} ({change}; tolerated {tolerated}): " if base and now else ""
    return f"{': '.join(filter(None, (run, where, about)))}: {numbers}{said}"


def _grouped(gate: Gate) -> Iterator[str]:
    """Yield what could not be compared, one line for each run, place and reason."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for finding in gate.of(State.NOT_COMPARABLE):
        where = "" if finding.place is None else f"{finding.place.dataset}/{finding.place.split}"
        groups.setdefault((finding.run, where, finding.said), []).append(finding.about)
    for (run, where, said), about in groups.items():
        more = f" and {len(about) - _NAMED} more" if len(about) > _NAMED else ""
        yield f"{': '.join(filter(None, (run, where)))}: {', '.join(about[:_NAMED])}{more}: {said}"


def _not_comparable(gate: Gate) -> Iterator[str]:
    return (f"- {escape_markdown(line)}" for line in _grouped(gate))


def _worst(gate: Gate) -> list[list[str]]:
    """Return the structures that changed most for the worse, of the kinds of errors that got worse."""
    bad = {finding.place[:3] for finding in gate.of(State.REGRESSION, State.WARNING) if finding.place}
    rows = []
    for comparison in gate.comparisons:
        for found in comparison.largest:
            if (found.task, found.dataset, found.split) not in bad:
                continue
            lines = zip(found.structures, structures(found, comparison), strict=True)
            for structure, (_, dataset, split, metric, unit, name, _, a, b, change) in lines:
                if structure.change > 0:
                    rows.append([f"{dataset}/{split}", f"{metric} ({unit})", name, a, b, change])
    return rows


def _commands(gate: Gate) -> Iterator[str]:
    seen = set()
    for comparison in gate.comparisons:
        manifest = comparison.b.manifest
        if manifest is None:
            continue
        if manifest.git:
            changed = " # with changes that are not committed" if manifest.git.get("dirty") else ""
            seen.add(f"git checkout {manifest.git.get('commit')}{changed}")
        if manifest.arguments:
            seen.add(f"mlipbench {shlex.join(manifest.arguments)}")
    yield from (clean(line) for line in sorted(seen))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([escape_markdown(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _comparison_as_dict(comparison: Comparison, gate: Gate) -> dict[str, Any]:
    content = comparison_as_dict([comparison])
    content["baseline"]["path"] = gate.baseline  # it was unpacked for as long as it was read
    return content


def _finding(finding: Finding) -> dict[str, Any]:
    place = finding.place
    return {
        "state": finding.state.value,
        "run": finding.run,
        "about": finding.about,
        "said": finding.said,
        "task": place.task if place else None,
        "dataset": place.dataset if place else None,
        "split": place.split if place else None,
        "metric": (place.metric or None) if place else None,
        "tolerance": finding.tolerance,
    }
