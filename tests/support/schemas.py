"""Walks over, and random objects of, a structural schema; for tests of the API."""

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]

_TEXT = st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"])


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every node below `schema` (itself not), with its path: `.a.b`, `[]` for items, `.*` for the values of a map."""
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from nodes(child, f"{path}.{name}")
    for key, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        if key in schema:
            yield path + suffix, schema[key]
            yield from nodes(schema[key], path + suffix)


def is_leaf(schema: Schema) -> bool:
    """Whether the node holds a single value."""
    return not schema.keys() & {"properties", "items", "additionalProperties"}


def objects_of(schema: Schema) -> st.SearchStrategy[Any]:
    """Random values that types, limits, enums and patterns allow (CEL rules are not looked at)."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "x-kubernetes-int-or-string" in schema:
        return st.integers(0, 10**9) | st.from_regex(r"\A[1-9][0-9]{0,5}(\.[0-9]{1,3})?(m|k|Ki|M|Mi|G|Gi|T|Ti)?\Z")
    kind = schema["type"]
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        return st.integers(schema.get("minimum", -(2**31)), schema.get("maximum", 2**40))
    if kind == "string":
        return _strings(schema)
    if kind == "array":
        return st.lists(objects_of(schema["items"]), min_size=schema.get("minItems", 0), max_size=3)
    if "additionalProperties" in schema:
        keys = st.from_regex(r"\A[a-z]{1,8}/[a-z]{1,8}\Z")
        return st.dictionaries(keys, objects_of(schema["additionalProperties"]), max_size=2)
    fields = {name: objects_of(child) for name, child in schema["properties"].items()}
    required = {name: fields.pop(name) for name in schema.get("required", [])}
    return st.fixed_dictionaries(required, optional=fields)


def _strings(schema: Schema) -> st.SearchStrategy[str]:
    if schema.get("format") == "date-time":
        return st.datetimes().map(lambda moment: f"{moment.isoformat()}Z")
    if "pattern" in schema:
        matching = st.from_regex(schema["pattern"].replace("^", r"\A", 1).removesuffix("$") + r"\Z")
        return matching.filter(lambda text: len(text) <= schema["maxLength"])
    return st.text(_TEXT, min_size=schema.get("minLength", 0), max_size=min(schema["maxLength"], 40))
