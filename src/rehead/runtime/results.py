"""Turn a result into JSON, and its type into the JSON schema of that: one frozen dataclass declares both.

The type hints say what a key holds, the docstring what it means: its first paragraph is the schema's description, its
`Attributes:` those of the keys. What differs between a field and its key is said by `entry`.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Json = dict[str, Any]


class Result:
    """What a command gives: the base of frozen dataclasses that become JSON."""

    def to_json(self) -> Json:
        """Return the result as `--json` prints it."""
        return dict(_entries(self))


@dataclass(frozen=True)
class _Entry:
    """How a field stands in JSON; see `entry`."""

    key: str | None = None
    merged: bool = False
    optional: bool = False
    hidden: bool = False


def entry(
    key: str | None = None,
    *,
    merged: bool = False,
    optional: bool = False,
    hidden: bool = False,
) -> Any:
    """Return a dataclass field that does not stand in JSON under its own name.

    Args:
        key: the name that it has there.
        merged: the entries of its value, a dataclass or None, stand in the place of itself.
        optional: it is left out where it is None, which is the field's default then.
        hidden: it is left out always.
    """
    how = _Entry(key, merged, optional, hidden)
    return field(default=None if optional else MISSING, metadata={"json": how})


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    for one in fields(value):
        how, content = _entry_of(one), getattr(value, one.name)
        if how.hidden or (content is None and (how.optional or how.merged)):
            continue
        if how.merged:
            yield from _entries(content)
        else:
            yield how.key or one.name, as_json(content)


def as_json(value: Any) -> Any:
    """Return dataclasses as dictionaries and tuples as lists, however deep they lie."""
    if is_dataclass(value):
        return dict(_entries(value))
    if isinstance(value, Mapping):
        return {key: as_json(content) for key, content in value.items()}
    return [as_json(content) for content in value] if isinstance(value, list | tuple) else value


def schema_of(result: type) -> Json:
    """Return the JSON schema (draft 2020-12) of what `to_json` of a dataclass gives."""
    definitions: dict[str, Json] = {}
    described = _object_schema(result, definitions)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": result.__name__}
    return head | described | ({"$defs": dict(sorted(definitions.items()))} if definitions else {})


def _object_schema(kind: type, definitions: dict[str, Json]) -> Json:
    properties: dict[str, Json] = {}
    required: list[str] = []
    hints, described = get_type_hints(kind), _attributes_of(kind)
    for one in fields(kind):
        how, hint = _entry_of(one), hints[one.name]
        if how.hidden:
            continue
        if how.merged:
            (content,) = (option for option in get_args(hint) or (hint,) if option is not type(None))
            inner = _object_schema(content, definitions)
            properties |= inner["properties"]
            required += [] if content is not hint else inner["required"]
            continue
        key = how.key or one.name
        if how.optional:
            hint = Union[tuple(option for option in get_args(hint) if option is not type(None))]  # noqa: UP007
        meaning = {"description": described[one.name]} if one.name in described else {}
        properties[key] = meaning | _schema(hint, definitions)
        required += [] if how.optional else [key]
    summary = _plain(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0])
    closed = {"properties": properties, "required": required, "additionalProperties": False}
    return {"description": summary, "type": "object", **closed}


_PLAIN: dict[Any, Json] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
    Any: {},
}


def _schema(hint: Any, definitions: dict[str, Json]) -> Json:
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        options = [_schema(option, definitions) for option in arguments]
        if all(option.keys() == {"type"} for option in options):
            return {"type": [option["type"] for option in options]}
        return {"anyOf": options}
    if origin is tuple and arguments[-1] is not Ellipsis:
        each = [_schema(argument, definitions) for argument in arguments]
        return {"type": "array", "prefixItems": each, "minItems": len(each), "maxItems": len(each)}
    if origin in (list, tuple):
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}
    if not is_dataclass(hint):
        raise TypeError(f"{hint!r} has no JSON schema")
    assert isinstance(hint, type)
    if hint.__name__ not in definitions:
        definitions[hint.__name__] = {}  # a type may hold itself
        definitions[hint.__name__] = _object_schema(hint, definitions)
    return {"$ref": f"#/$defs/{hint.__name__}"}


def _attributes_of(kind: type) -> dict[str, str]:
    """Return what the docstrings of a dataclass and its bases say of the attributes, by name."""
    described: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        _, _, section = inspect.cleandoc(base.__dict__.get("__doc__") or "").partition("Attributes:\n")
        for names, text in re.findall(r"^    (\w[\w, ]*): (.*(?:\n     +.*)*)", section, re.MULTILINE):
            described |= dict.fromkeys(re.split(r",\s*", names), _plain(text))
    return described


def _plain(text: str) -> str:
    """Return a part of a docstring in one line, in JSON's words."""
    return re.sub(r"\bNone\b", "null", " ".join(text.split()))


def _entry_of(one: Field[Any]) -> _Entry:
    how = one.metadata.get("json", _Entry())
    assert isinstance(how, _Entry)
    return how
