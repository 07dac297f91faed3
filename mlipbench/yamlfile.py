"""Strict YAML files: plain data, closed schemas, one-line errors.

Anchors, aliases, duplicate keys, other tags than YAML's own, large and deeply nested files are refused.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

import yaml

from mlipbench.errors import ConfigError, PrerequisiteError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import BaseModel

    Model = TypeVar("Model", bound=BaseModel)

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 20
_CREDENTIAL: Final = re.compile(r"(?i)(.*[_-])?(token|password|passwd|secret|api[_-]?key|credentials?)")


def no_credentials(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments of a model, none of which is a credential: files are copied into records.

    Raises:
        ValueError: The name of one says that it is.
    """
    for name in arguments:
        if _CREDENTIAL.fullmatch(name):
            raise ValueError(f"{name!r} does not belong in a file: give it by the environment or the hub's login")
    return arguments


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return the mapping a YAML file holds.

    Raises:
        ConfigError: The file is not UTF-8 YAML, is larger than 1 MiB, nested deeper than 20 levels, uses anchors,
            aliases or duplicate keys, or does not hold a mapping with text keys.
        PrerequisiteError: The file is missing or cannot be read.
    """
    text = _read_text(Path(path))
    try:
        data = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 (a safe loader made stricter)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise ConfigError(error.problem or "not valid YAML", file=path, where=_line(mark)) from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"not valid YAML: {error}", file=path) from None
    if not isinstance(data, dict):
        raise ConfigError("the top level is not a mapping", file=path, remedy="write `key: value` lines")
    return data


def validate(model_class: type[Model], data: Mapping[str, Any], path: str | Path) -> Model:
    """Return `data` as an instance of a pydantic model.

    Args:
        model_class: The schema.
        data: What `read_yaml` returned, or a part of the caller's own making.
        path: The file `data` came from, for the message.

    Raises:
        ConfigError: `data` does not fit; the line names the first offending field, with its line in the file, a close
            match where the key is unknown, and how many problems remain.
    """
    from pydantic import ValidationError

    try:
        return model_class.model_validate(data)
    except ValidationError as error:
        raise _as_config_error(error, model_class, path) from None


def merged(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with some of its entries replaced, part by part where both have parts."""
    whole = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(base.get(key), dict)
        whole[key] = merged(base[key], value) if nested else value
    return whole


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a remedy that lists close matches of an unknown name, else the known names."""
    names = sorted(known)
    folded = {candidate.lower(): candidate for candidate in names}
    close = [folded[match] for match in difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.6)]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(names)}" if names else "none is known"


def _as_config_error(error: Any, model_class: type[BaseModel], path: str | Path) -> ConfigError:
    problems = sorted(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    location: tuple[str | int, ...] = tuple(first["loc"])
    remedy = None
    if first["type"] == "extra_forbidden":
        problem = "unknown key"
        remedy = did_you_mean(str(location[-1]), _known_keys(model_class, location[:-1]))
    elif first["type"] == "missing":
        problem = "missing"
    else:
        problem = first["msg"].removeprefix("Value error, ")
        given = first.get("input")
        if isinstance(given, str | int | float | bool) or given is None:
            problem = f"{problem} (given: {str(given)[:60]!r})"
    if len(problems) > 1:
        problem = f"{problem} ({len(problems) - 1} more)"
    where = ", ".join(part for part in (_line_of(path, location), dotted(location)) if part)
    return ConfigError(problem, file=path, where=where, remedy=remedy)


def dotted(location: Sequence[str | int]) -> str:
    """Return a location such as ``("splits", "fit", "files", 0)`` as ``splits.fit.files[0]``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _known_keys(model_class: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    models: list[Any] = [model_class]
    for part in location:
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        if fields:
            models = [found for field in fields for found in _models_in(field.annotation)]
    return [key for model in models for key in model.model_fields]


def _models_in(annotation: Any) -> list[Any]:
    if hasattr(annotation, "model_fields"):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]


def _line_of(path: str | Path, location: Sequence[str | int]) -> str:
    """Return the line of the deepest part of `location` that stands in the file, or nothing where there is no file."""
    try:
        node = yaml.compose(_read_text(Path(path)), Loader=_StrictLoader)
    except (yaml.YAMLError, ConfigError, PrerequisiteError):
        return ""
    mark = None
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if not found:
                break
            mark, node = found[0][0].start_mark, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            mark = node.start_mark
    return _line(mark)


def _line(mark: yaml.Mark | None) -> str:
    return f"line {mark.line + 1}" if mark else ""


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PrerequisiteError(f"cannot be read ({error.strerror})", file=path, remedy="check the path") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError("larger than 1 MiB", file=path, remedy="this is not a file of this kind")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"byte {error.start} is not UTF-8", file=path, remedy="save the file as UTF-8") from None


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader without anchors and aliases, with unique text keys and bounded depth."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise _problem("anchors and aliases are not allowed", event.start_mark)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _problem(f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _problem(f"the key {key_node.value!r} is not text; put it in quotes", key_node.start_mark)
            if key in seen:
                raise _problem(f"the key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _problem(text: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, text, mark)
