"""The walk from pydantic's JSON Schema to a structural schema."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from chatbot_operator.api.base import Block, Quantity, Rule, ruled
from chatbot_operator.api.schema import UnsupportedSchema, as_text, defaulted, structural_schema


class Inner(Block):
    """An inner block."""

    size: Quantity = Field("1Gi", description="Size in bytes.")
    note: str | None = Field(None, max_length=5, description="A note.", examples=["hi"])


class Outer(Block):
    """An outer block."""

    model_config = ConfigDict(json_schema_extra=ruled(Rule("self.someCount > 0", "A message.", ".someCount")))

    some_count: int = Field(3, gt=0, lt=10, description="How many.")
    share: float = Field(0.5, ge=0, description="A share.")
    kind: Literal["only"] = Field("only", description="The kind.")
    inner: Inner = Field(Inner(), description="The inner block.")
    other: Inner | None = Field(None, description="Another one, or none.")
    names: tuple[Annotated[str, Field(max_length=3, description="One name.")], ...] = Field(
        (), max_length=2, description="Names."
    )
    labels: Mapping[str, Annotated[str, Field(max_length=3, description="A value.")]] = Field(
        {}, max_length=2, description="Labels."
    )


def structural(model: type[BaseModel]) -> dict[str, Any]:
    return structural_schema(model.model_json_schema(by_alias=True), "spec")


def test_every_construct_that_the_models_use_gets_its_structural_form() -> None:
    schema = structural(Outer)
    inner = {
        "size": {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "description": "Size in bytes. Default: 1Gi.",
            "default": "1Gi",
            "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$",
            "maxLength": 20,
            "minimum": 0,
        },
        "note": {"type": "string", "description": "A note. Example: hi.", "maxLength": 5},
    }
    assert schema == {
        "type": "object",
        "description": "An outer block.",
        "x-kubernetes-validations": [
            {"rule": "self.someCount > 0", "message": "A message.", "fieldPath": ".someCount"}
        ],
        "properties": {
            "someCount": {
                "type": "integer",
                "format": "int32",
                "description": "How many. Default: 3.",
                "default": 3,
                "minimum": 0,
                "exclusiveMinimum": True,
                "maximum": 10,
                "exclusiveMaximum": True,
            },
            "share": {"type": "number", "description": "A share. Default: 0.5.", "default": 0.5, "minimum": 0},
            "kind": {"type": "string", "description": "The kind. Default: only.", "default": "only", "enum": ["only"]},
            "inner": {"type": "object", "description": "The inner block.", "default": {}, "properties": inner},
            "other": {"type": "object", "description": "Another one, or none.", "properties": inner},
            "names": {
                "type": "array",
                "description": "Names.",
                "maxItems": 2,
                "x-kubernetes-list-type": "atomic",
                "items": {"type": "string", "description": "One name.", "maxLength": 3},
            },
            "labels": {
                "type": "object",
                "description": "Labels.",
                "maxProperties": 2,
                "additionalProperties": {"type": "string", "description": "A value.", "maxLength": 3},
            },
        },
    }


def test_the_keys_of_a_node_have_a_fixed_order() -> None:
    assert list(structural(Outer)["properties"]["someCount"]) == [
        "type",
        "format",
        "description",
        "default",
        "minimum",
        "exclusiveMinimum",
        "maximum",
        "exclusiveMaximum",
    ]


def test_an_absent_block_is_filled_with_the_defaults_of_its_fields() -> None:
    assert defaulted(structural(Outer) | {"default": {}}) == {
        "someCount": 3,
        "share": 0.5,
        "kind": "only",
        "inner": {"size": "1Gi"},
    }


DESCRIBED: dict[str, Any] = {"description": "A field."}


@pytest.mark.parametrize(
    ("node", "problem"),
    [
        ({"type": "string", **DESCRIBED}, "spec.f: is a string without maxLength"),
        ({"type": "string", "maxLength": 3}, "spec.f: has no description"),
        ({"type": "string", "format": "uuid", **DESCRIBED}, "spec.f: has the unknown format uuid"),
        (
            {"type": "string", "maxLength": 3, "contentEncoding": "base64", **DESCRIBED},
            "spec.f: uses what the walk does not know: ['contentEncoding']",
        ),
        ({"type": "integer", "multipleOf": 5, **DESCRIBED}, "spec.f: uses what the walk does not know: ['multipleOf']"),
        ({"type": "array", "items": {}, **DESCRIBED}, "spec.f: is a list without maxItems"),
        ({"type": "array", "maxItems": 2, **DESCRIBED}, "spec.f: is a list of anything"),
        (
            {
                "type": "array",
                "maxItems": 2,
                "uniqueItems": True,
                "items": {"type": "boolean", **DESCRIBED},
                **DESCRIBED,
            },
            "spec.f: uses what the walk does not know: ['uniqueItems']",
        ),
        (
            {"type": "array", "maxItems": 2, "items": {"type": "boolean"}, **DESCRIBED},
            "spec.f[]: has no description",
        ),
        (
            {"type": "object", "additionalProperties": {"type": "boolean", **DESCRIBED}, **DESCRIBED},
            "spec.f: is a map without maxProperties",
        ),
        ({"type": "object", "additionalProperties": True, **DESCRIBED}, "is neither an object with properties nor"),
        ({"type": "object", **DESCRIBED}, "is neither an object with properties nor a map"),
        ({"anyOf": [{"type": "boolean"}, {"type": "integer"}], **DESCRIBED}, "is a union other than integer or string"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}], **DESCRIBED}, "is a string without maxLength"),
        ({"oneOf": [{"type": "boolean"}], **DESCRIBED}, "has no structural type: ['oneOf']"),
        ({"allOf": [{"type": "boolean"}, {"type": "integer"}], **DESCRIBED}, "combines several schemas by allOf"),
        ({**DESCRIBED}, "spec.f: has no structural type"),
        ({"type": "null", **DESCRIBED}, "spec.f: has no structural type"),
    ],
)
def test_what_has_no_structural_form_raises_and_names_the_field(node: dict[str, Any], problem: str) -> None:
    with pytest.raises(UnsupportedSchema) as caught:
        structural_schema({"type": "object", "description": "A block.", "properties": {"f": node}}, "spec")
    assert problem in str(caught.value)


def test_a_single_all_of_collapses_into_its_node() -> None:
    node = {"allOf": [{"type": "boolean"}], **DESCRIBED}
    schema = structural_schema({"type": "object", "description": "A block.", "properties": {"f": node}}, "spec")
    assert schema["properties"]["f"] == {"type": "boolean", "description": "A field."}


def test_a_default_of_a_block_that_differs_from_its_fields_defaults_raises() -> None:
    class Odd(Block):
        """A block whose default says one thing and whose fields say another."""

        inner: Inner = Field(Inner(size="2Gi"), description="The inner block.")

    with pytest.raises(UnsupportedSchema, match=r"spec\.inner: has a default that is not that of its fields"):
        structural(Odd)


def test_a_union_of_two_blocks_raises() -> None:
    class Either(Block):
        """A block with a real union."""

        one: Inner | Outer = Field(description="One of two.")

    with pytest.raises(UnsupportedSchema, match=r"spec\.one: is a union other than integer or string"):
        structural(Either)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("phi", "phi"),
        ("-1", "'-1'"),
        ("https://example.com/v1", "https://example.com/v1"),
        (False, "false"),
        (30, "30"),
        (["a", "b"], "[a, b]"),
        ({"requests": {"cpu": "1"}}, "{requests: {cpu: '1'}}"),
    ],
)
def test_values_in_descriptions_are_written_as_in_a_manifest(value: Any, text: str) -> None:
    assert as_text(value) == text
