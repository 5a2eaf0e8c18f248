"""JSON Schema as pydantic writes it -> structural schema as a CustomResourceDefinition wants it, in one walk.

Whatever the walk does not know raises, so that nothing of a model is lost without a word. Knows no file and no cluster.
"""

from collections.abc import Callable, Mapping
from typing import Any

import yaml

Schema = dict[str, Any]

_INT32_MAX = 2**31 - 1
_KEY_ORDER = (
    "type",
    "x-kubernetes-int-or-string",
    "anyOf",
    "format",
    "description",
    "default",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "minItems",
    "maxItems",
    "maxProperties",
    "required",
    "x-kubernetes-map-type",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
    "properties",
    "additionalProperties",
    "items",
)
_RULE_ORDER = ("rule", "message", "fieldPath", "reason")
_EXTENSIONS = {key for key in _KEY_ORDER if key.startswith("x-kubernetes-")} - {"x-kubernetes-int-or-string"}


class UnsupportedSchema(TypeError):
    """A model uses something that has no structural form here, or lacks a limit or a description."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


def structural_schema(json_schema: Mapping[str, Any], path: str) -> Schema:
    """The structural form of what `model_json_schema(by_alias=True)` returned for the object at `path`.

    Raises UnsupportedSchema.
    """
    return _Walk(json_schema.get("$defs", {})).node({k: v for k, v in json_schema.items() if k != "$defs"}, path)


def defaulted(schema: Mapping[str, Any]) -> Any:
    """What the API server makes of an absent value: the default, filled with the defaults inside; else None.

    An empty string, list or map is no default: it means what absent means.
    """
    if "default" not in schema:
        return None
    if "properties" not in schema:
        return schema["default"]
    inner = {name: defaulted(child) for name, child in schema["properties"].items()}
    return {name: value for name, value in inner.items() if value is not None} | schema["default"]


def as_text(value: Any) -> str:
    """A value as a person would write it in a manifest, on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("...\n").rstrip("\n")


def default_sentence(default: Any) -> str:
    """How a description says what the default is."""
    return f" Default: {as_text(default).removesuffix('.')}."


class _Walk:
    """The walk over one document with its shared definitions."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._kinds: Mapping[str, Callable[[Schema, str], Schema]] = {
            "boolean": self._boolean,
            "integer": self._number,
            "number": self._number,
            "string": self._string,
            "array": self._array,
            "object": self._object,
        }

    def node(self, raw: Mapping[str, Any], path: str) -> Schema:
        """The structural form of one node. `left` loses each key that is understood; what remains raises."""
        left = self._flatten(raw, path)
        left.pop("title", None)
        description = left.pop("description", None)
        default = left.pop("default", None)
        examples = left.pop("examples", [])
        result = _take(left, *sorted(_EXTENSIONS))
        if "anyOf" in left:
            result |= self._int_or_string(left, path)
        elif left.get("type") in self._kinds:
            result = self._kinds[left["type"]](left, path) | result
        else:
            raise UnsupportedSchema(path, f"has no structural type: {sorted(left)}")
        if left:
            raise UnsupportedSchema(path, f"uses what the walk does not know: {sorted(left)}")
        if default not in (None, "", [], {}):
            self._set_default(result, default, path)
        if not description:
            raise UnsupportedSchema(path, "has no description")
        result["description"] = _describe(description, result.get("default"), examples)
        if "x-kubernetes-validations" in result:
            result["x-kubernetes-validations"] = [
                _ordered(rule, _RULE_ORDER) for rule in result["x-kubernetes-validations"]
            ]
        return _ordered(result, _KEY_ORDER)

    def _flatten(self, raw: Mapping[str, Any], path: str) -> Schema:
        """References, single `allOf`, optional types and constants resolved; keys beside them win."""
        node = dict(raw)
        while True:
            if "$ref" in node:
                target = self._definitions[node.pop("$ref").removeprefix("#/$defs/")]
                node = {**target, **node}
            elif "allOf" in node:
                parts = node.pop("allOf")
                if len(parts) != 1:
                    raise UnsupportedSchema(path, "combines several schemas by allOf")
                node = {**parts[0], **node}
            elif {"type": "null"} in node.get("anyOf", []):
                choices = [choice for choice in node.pop("anyOf") if choice != {"type": "null"}]
                node = {**(choices[0] if len(choices) == 1 else {"anyOf": choices}), **node}
            elif "const" in node:
                node["enum"] = [node.pop("const")]
            else:
                return node

    def _boolean(self, left: Schema, _path: str) -> Schema:
        return {"type": left.pop("type")}

    def _number(self, left: Schema, _path: str) -> Schema:
        result = _take(left, "type", "minimum", "maximum")
        for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
            if exclusive in left:
                result |= {bound: left.pop(exclusive), exclusive: True}
        if result["type"] == "integer":
            result["format"] = "int32" if result.get("maximum", _INT32_MAX + 1) <= _INT32_MAX else "int64"
        return result

    def _string(self, left: Schema, path: str) -> Schema:
        result = _take(left, "type", "format", "enum", "pattern", "minLength", "maxLength")
        if result.get("format", "date-time") != "date-time":
            raise UnsupportedSchema(path, f"has the unknown format {result['format']}")
        if not result.keys() & {"maxLength", "enum", "format"}:
            raise UnsupportedSchema(path, "is a string without maxLength")
        return result

    def _int_or_string(self, left: Schema, path: str) -> Schema:
        if left["anyOf"] != [{"type": "integer"}, {"type": "string"}]:
            raise UnsupportedSchema(path, "is a union other than integer or string")
        if "maxLength" not in left:
            raise UnsupportedSchema(path, "is a string without maxLength")
        return {"x-kubernetes-int-or-string": True, **_take(left, "anyOf", "pattern", "maxLength", "minimum")}

    def _array(self, left: Schema, path: str) -> Schema:
        if "maxItems" not in left:
            raise UnsupportedSchema(path, "is a list without maxItems")
        if "items" not in left:
            raise UnsupportedSchema(path, "is a list of anything")
        result = _take(left, "type", "minItems", "maxItems")
        # Server-side apply merges lists of other kinds by owner; in ours the order means something.
        return {"x-kubernetes-list-type": "atomic", **result, "items": self.node(left.pop("items"), f"{path}[]")}

    def _object(self, left: Schema, path: str) -> Schema:
        values = left.pop("additionalProperties", False)
        result = _take(left, "type", "required")
        if "properties" in left and values is False:
            properties = left.pop("properties")
            result["properties"] = {name: self.node(child, f"{path}.{name}") for name, child in properties.items()}
        elif isinstance(values, Mapping) and "properties" not in left:
            if "maxProperties" not in left:
                raise UnsupportedSchema(path, "is a map without maxProperties")
            result |= {
                "maxProperties": left.pop("maxProperties"),
                "additionalProperties": self.node(values, f"{path}.*"),
            }
        else:
            raise UnsupportedSchema(path, "is neither an object with properties nor a map")
        return result

    def _set_default(self, result: Schema, default: Any, path: str) -> None:
        """A block's default stands in its fields, so that each of them is filled by itself.

        An empty one is written too: without it Kubernetes up to 1.35 makes null, which it then refuses, of a block that
        server-side apply has emptied.
        """
        if "properties" not in result:
            result["default"] = default
            return
        filled = defaulted({**result, "default": {}})
        if _without_empty(filled) != _without_empty(default):
            raise UnsupportedSchema(path, "has a default that is not that of its fields")
        result["default"] = {}


def _ordered(node: Schema, order: tuple[str, ...]) -> Schema:
    return {key: node[key] for key in order if key in node}


def _take(left: Schema, *keys: str) -> Schema:
    return {key: left.pop(key) for key in keys if key in left}


def _without_empty(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    inner = {key: _without_empty(child) for key, child in value.items()}
    return {key: child for key, child in inner.items() if child not in (None, "", [], {})}


def _describe(text: str, default: Any, examples: list[Any]) -> str:
    if default not in (None, {}):
        text += default_sentence(default)
    if examples:
        text += f" Example: {as_text(examples[0]).removesuffix('.')}."
    return text
