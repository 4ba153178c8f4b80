"""YAML in which ids stay text: `00123` is no octal number, `no` no truth value and `1_000` no thousand."""

from collections.abc import Sequence
from typing import Any

import yaml

__all__ = ["load_yaml"]

_AS_WRITTEN = (
    ("candidates", "blocked"),
    ("promotion", "tags"),
    *(("data", table, "constants") for table in ("items", "events", "users", "candidates", "offers", "clicks")),
)
"""Keys whose values are text as it is written, in a list or by name."""
_MERGE = "tag:yaml.org,2002:merge"
_NULL = "tag:yaml.org,2002:null"
_TEXT = "tag:yaml.org,2002:str"


def load_yaml(text: str, at: Sequence[str] = ()) -> Any:  # noqa: ANN401 - whatever YAML holds
    """Parse YAML, keeping values under `candidates.blocked` and `constants` as the text that is written.

    Args:
        text: The text; an empty one is None.
        at: Keys that it stands under.

    Raises:
        YAMLError: It is no YAML, a key stands twice, or a value is none (a 13th month, an integer without end).
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        for keys in _AS_WRITTEN:
            if tuple(at[: len(keys)]) == keys[: len(at)]:
                _keep_text(node, keys[len(at) :])
        _refuse_repeated(node)
        return loader.construct_document(node)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise yaml.YAMLError(f"a value cannot be read ({type(error).__name__}); put text in quotes") from error
    finally:
        loader.dispose()


def _refuse_repeated(node: yaml.Node) -> None:
    """Stop where a mapping has a key twice, since the first would be lost without a word."""
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag != _MERGE and (first := lines.setdefault(str(key.value), line)) != line:
                raise yaml.YAMLError(f"the key {key.value!r} stands on line {first} and again on line {line}")
            _refuse_repeated(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated(value)


def _keep_text(node: yaml.Node, keys: Sequence[str]) -> None:
    """Make plain scalars text: those of the lists and mappings under some keys, nulls apart."""
    if keys and isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.tag == _MERGE:
                for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    _keep_text(merged, keys)
            elif key.value == keys[0]:
                _keep_text(value, keys[1:])
    elif not keys:
        values = [value for _, value in node.value] if isinstance(node, yaml.MappingNode) else node.value
        for value in values if isinstance(values, list) else [node]:
            if isinstance(value, yaml.ScalarNode) and value.tag != _NULL:
                value.tag = _TEXT
