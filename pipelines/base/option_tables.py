"""Tables of configuration keys, made from the field descriptions: for `nightrank help config` and for the READMEs."""

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import time
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from features.errors import ConfigError
from features.frozen import FrozenConfig, Owner, section_of
from pipelines.base.config import ClickConfig, Config

__all__ = ["Option", "effects", "example_of", "filled", "markdown_table", "options_of", "overview", "paths"]

_TYPES = {int: "whole number", float: "number", bool: "true or false", str: "text", time: "time of day", Any: "value"}
_MANY = {int: "whole numbers", float: "numbers", str: "texts"}
_EFFECTS = {
    Owner.TONIGHT: "with the next command",
    Owner.VERSION: "with the next training",
    Owner.TRAINING: "with the next training",
    Owner.EVALUATION: "with the next evaluation or promotion",
}
_IN_WORDS = _REQUIRED, _OF_ITS_KEYS = "required", "its keys' own"
_MARKED = re.compile(r"(<!-- config: ([\w.-]+) -->\n)(?:(?!<!-- config:).)*?(<!-- /config -->)", re.DOTALL)
_FILES = (Config, ClickConfig)
"""What a configuration file may be; a path is looked up in the first that has it."""


@dataclass(frozen=True, slots=True)
class Option:
    """One key of the configuration as it is documented.

    Attributes:
        key: Dotted path, from the section that the table is of.
        values: Type and range of its values.
        default: Its default as YAML; `required` where there is none.
        description: What it means, without whose it is.
        effect: When a change of it takes effect.
    """

    key: str
    values: str
    default: str
    description: str
    effect: str


def options_of(path: str) -> list[Option]:
    """The keys at and below a dotted path, in the order of the file.

    Args:
        path: A section (`ranker`, `ranker.network`) or one key (`ranker.num_leaves`).

    Raises:
        ConfigError: There is no such path; the nearest is named.

    >>> [(option.values, option.default) for option in options_of("ranker.num_leaves")]
    [('whole number, 2 to 4096', '15')]
    """
    *_, last = path.split(".")
    for whole in _FILES:
        owner, field = _field_at(whole, path)
        if owner is None or field is None:
            continue
        section = section_of(field.annotation)
        if section is not None:
            return list(_rows(section, "", {section}))
        return [_option(owner, last, field, last)]
    near = difflib.get_close_matches(path, paths(), n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}?" if near else "`nightrank help config` lists the sections."
    raise ConfigError(f"the configuration has no key {path!r}. {hint}")


def overview() -> list[tuple[str, str]]:
    """Every top-level key or section of the configuration files, with what it is."""
    lines: dict[str, str] = {}
    for whole in _FILES:
        for name, field in whole.model_fields.items():
            section = section_of(field.annotation)
            text = _first_line(section) if section is not None else _description(whole, field)
            lines.setdefault(name, text)
    return list(lines.items())


def paths() -> list[str]:
    """The dotted path of every section and key."""
    return list(dict.fromkeys(path for whole in _FILES for path in _paths(whole, "")))


def effects(options: Sequence[Option]) -> str:
    """One or two sentences: when a change of these keys takes effect.

    >>> effects(options_of("ranker.network"))
    'A change takes effect with the next training.'
    """
    common, _ = Counter(option.effect for option in options).most_common(1)[0]
    others: dict[str, list[str]] = {}
    for option in options:
        above = others.setdefault(option.effect, [])
        if option.effect != common and not option.key.startswith(tuple(f"{key}." for key in above)):
            above.append(option.key)
    apart = (f"For {', '.join(f'`{key}`' for key in keys)} {effect}" for effect, keys in others.items() if keys)
    return ". ".join((f"A change takes effect {common}", *apart)) + "."


def markdown_table(path: str) -> str:
    """The keys below a dotted path as a Markdown table, with a line on when a change takes effect."""
    options = options_of(path)
    lines = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for option in options:
        default = option.default if option.default in _IN_WORDS else f"`{option.default}`"
        cells = (f"`{option.key}`", option.values, default, option.description)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    example = example_of(path)
    block = ("", "```yaml", *example.splitlines(), "```") if example else ()
    return "\n".join((*lines, "", effects(options), *block, ""))


def example_of(path: str) -> str:
    """The example of the section at a dotted path; empty where it has none, or the path is of a key."""
    fields = (_field_at(whole, path)[1] for whole in _FILES)
    sections = (section_of(field.annotation) for field in fields if field is not None)
    return next((section.example for section in sections if section is not None), "")


def filled(text: str) -> str:
    """A Markdown text with every table between `<!-- config: PATH -->` and `<!-- /config -->` made anew.

    Raises:
        ConfigError: There is no such path, or a table is not closed.
    """
    unclosed = text.count("<!-- config:") - len(_MARKED.findall(text))
    if unclosed:
        raise ConfigError(f"{unclosed} tables of options have no end. Write <!-- /config --> on a line below each.")
    return _MARKED.sub(lambda match: f"{match[1]}{markdown_table(match[2])}{match[3]}", text)


def _paths(section: type[FrozenConfig], prefix: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        inner = section_of(field.annotation)
        if inner is not None:
            yield from _paths(inner, f"{prefix}{name}.")


def _field_at(whole: type[FrozenConfig], path: str) -> tuple[type[FrozenConfig] | None, FieldInfo | None]:
    """The section that holds the last key of a path, and the key's field; None where there is none."""
    section: type[FrozenConfig] | None = whole
    owner, field = None, None
    for name in path.split("."):
        field = None if section is None else section.model_fields.get(name)
        if field is None:
            return None, None
        owner, section = section, section_of(field.annotation)
    return owner, field


def _rows(section: type[FrozenConfig], prefix: str, seen: set[type[FrozenConfig]]) -> Iterator[Option]:
    """The keys of a section and of the sections in it; the keys of a class of sections are listed once."""
    for name, field in section.model_fields.items():
        inner = section_of(field.annotation)
        if field.description is not None:
            yield _option(section, prefix + name, field, name)
        if inner is not None and inner not in seen:
            yield from _rows(inner, f"{prefix}{name}.", seen | {inner})
            seen.add(inner)


def _option(section: type[FrozenConfig], key: str, field: FieldInfo, name: str) -> Option:
    owner = section.owner_of(field)
    assert owner is not None, f"{section.__name__}.{name} belongs to nobody"
    return Option(
        key=key,
        values=_values(field.annotation, field.metadata),
        default=_default(field),
        description=_description(section, field),
        effect=_EFFECTS[owner],
    )


def _description(section: type[FrozenConfig], field: FieldInfo) -> str:
    """What a key means, without the closing words on whose it is."""
    owner = section.owner_of(field)
    return (field.description or "").removesuffix(owner.value if owner else "").strip()


def _first_line(section: type[BaseModel]) -> str:
    return (section.__doc__ or "").strip().splitlines()[0]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return _REQUIRED
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        if value == type(value).model_construct():
            return _OF_ITS_KEYS
        value = value.model_dump(mode="json")
    elif isinstance(value, tuple):
        value = [part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in value]
    elif isinstance(value, time):
        value = f"{value:%H:%M}"
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _values(annotation: Any, metadata: Sequence[Any]) -> str:  # noqa: ANN401 - whatever a field is annotated with
    """The type and the range of a key's values in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(arguments[0], arguments[1:])
    if origin in (Union, UnionType):
        return _alternatives(arguments, metadata)
    if origin is Literal:
        return ", ".join("true" if value is True else f"`{value}`" for value in arguments)
    if origin is tuple:
        return f"list of {_many(arguments[0])}{_length(metadata)}"
    if origin is dict:
        return f"mapping of {_many(arguments[0])} to {_many(arguments[1])}"
    is_section = isinstance(annotation, type) and issubclass(annotation, FrozenConfig)
    return "keys" if is_section else _TYPES.get(annotation, "text") + _range(metadata)


def _alternatives(parts: Sequence[Any], metadata: Sequence[Any]) -> str:
    shown = list(dict.fromkeys(_values(part, metadata) for part in parts if part is not NoneType))
    joined = ", ".join(shown) if all(part.startswith("`") for part in shown) else " or ".join(shown)
    null = "" if NoneType not in parts else "; or null" if "," in joined else " or null"
    return joined + null


def _many(annotation: Any) -> str:  # noqa: ANN401 - whatever a field is annotated with
    """Several values of a type in words."""
    bare = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    words = _MANY.get(bare) or _values(bare, ())
    return words.replace("text or whole number", "texts or whole numbers")


def _length(metadata: Sequence[Any]) -> str:
    least = next((part.min_length for part in metadata if hasattr(part, "min_length")), 0)
    most = next((part.max_length for part in metadata if hasattr(part, "max_length")), None)
    return (f", {least} or more" if least else "") + (f", {most} at most" if most else "")


def _range(metadata: Sequence[Any]) -> str:
    """Bounds in words, as `, 1 to 20`, `, above 0` or `, 0 to below 1`."""
    bounds = {
        name: getattr(part, name)
        for part in metadata
        for name in ("ge", "gt", "le", "lt", "multiple_of")
        if getattr(part, name, None) is not None
    }
    low = next((f"{word}{bounds[name]:,}" for name, word in (("ge", ""), ("gt", "above ")) if name in bounds), None)
    high = next((f"{word}{bounds[name]:,}" for name, word in (("le", ""), ("lt", "below ")) if name in bounds), None)
    steps = f", in steps of {bounds['multiple_of']}" if "multiple_of" in bounds else ""
    if low is not None and high is not None:
        return f", {low} to {high}{steps}"
    if low is not None:
        return f", {low}{' or more' if 'ge' in bounds else ''}{steps}"
    return f", {high}{' or less' if 'le' in bounds else ''}{steps}" if high is not None else steps
