"""What is wrong with a configuration, in one line with its YAML path and the remedy."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel

from features.frozen import section_of
from pipelines.base.removed import REMOVED, REMOVED_VALUES

__all__ = ["explained", "yaml_fault"]


def yaml_fault(error: yaml.YAMLError) -> str:
    """What is wrong with a YAML text, and on which line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return problem if mark is None else f"{problem} (line {mark.line + 1}, column {mark.column + 1})"


def explained(fault: Mapping[str, Any], kind: type[BaseModel]) -> str:
    """What is wrong at a YAML path and what to do: of an unknown key, what became of it or the nearest one.

    Args:
        fault: One of pydantic's errors.
        kind: The class of the whole configuration.
    """
    location = [str(part) for part in fault["loc"]]
    path = ".".join(location) or "configuration"
    if fault["type"] == "tuple_type":
        return f"{path}: it is no list. Write [ONE, OTHER]."
    if fault["type"] == "literal_error" and (path, fault["input"]) in REMOVED_VALUES:
        return f"{path}: {fault['input']} is no value of it any more. {REMOVED_VALUES[path, fault['input']]}"
    if fault["type"] == "value_error":
        return f"{path}: {fault['msg'].removeprefix('Value error, ')}"
    if fault["type"] != "extra_forbidden":
        wrong = "the key is missing" if fault["type"] == "missing" else fault["msg"]
        return f"{path}: {wrong}. `nightrank help config {_documented(kind, location)}` says what it takes."
    if path in REMOVED:
        return f"{path}: there is no such key any more. {REMOVED[path].remedy}"
    keys = list(_keys_at(kind, location[:-1]))
    near = difflib.get_close_matches(location[-1], keys, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}?" if near else f"Its keys are {', '.join(sorted(keys))}."
    return f"{path}: unknown key. {hint}"


def _documented(model: type[BaseModel], location: Sequence[str]) -> str:
    """The part of a path that leads through sections and keys, without positions in lists and keys of mappings."""
    keys: list[str] = []
    for part in location:
        if part in _keys_at(model, keys):
            keys.append(part)
    return ".".join(keys)


def _keys_at(model: type[BaseModel], location: Sequence[str]) -> Collection[str]:
    """The keys of the section at a path; none where it holds a value."""
    for part in location:
        if part.isdigit():  # the position in a list
            continue
        field = model.model_fields.get(part)
        inner = None if field is None else section_of(field.annotation)
        if inner is None:
            return ()
        model = inner
    return model.model_fields
