"""YAML in which ids stay text: `00123` is no octal number, `no` no truth value and `1_000` no thousand."""

from collections.abc import Sequence
from typing import Any

import yaml

__all__ = ["load_yaml"]

_AS_WRITTEN = (
    ("candidates", "blocked"),
    *(("data", table, "constants") for table in ("items", "events", "users", "candidates", "offers", "clicks")),
)
"""Keys whose values are text as it is written, in a list or by name."""
_MERGE = "tag:yaml.org,2002:merge"
_NULL = "tag:yaml.org,2002:null"
_TEXT = "tag:yaml.org,2002:str"


def load_yaml(text: str, at: Sequence[str] = ()) -> Any:  # noqa: ANN401 - whatever YAML holds
    """What a YAML text holds, values under `candidates.blocked` and `constants` as they are written.

    Args:
        text: The text; an empty one is None.
        at: Keys that it stands under.

    Raises:
        YAMLError: It is no YAML.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        for keys in _AS_WRITTEN:
            if tuple(at[: len(keys)]) == keys[: len(at)]:
                _keep_text(node, keys[len(at) :])
        return loader.construct_document(node)
    finally:
        loader.dispose()


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
