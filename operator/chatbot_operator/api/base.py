"""What every block of the API is made of: the frozen base model, CEL rules, shared field types.

Knows pydantic and nothing of Kubernetes clients or of what the fields mean.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

NAME_PATTERN = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
KEY_PATTERN = "^[-._a-zA-Z0-9]+$"
QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"
QUANTITY_MAX_LENGTH = 20


class Block(BaseModel):
    """One object of the API: attributes in snake_case, manifests in camelCase.

    Unknown fields are ignored, so that an older operator accepts a newer definition;
    a written null means absent, as it does to `kubectl apply`.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            return {key: value for key, value in data.items() if value is not None}
        return data

    def manifest(self) -> dict[str, Any]:
        """As plain JSON data in camelCase, without what is absent."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


@dataclass(frozen=True)
class Rule:
    """One CEL validation rule of the schema node that it is declared on.

    `message` is a full sentence that names the field and the remedy. `field_path` is relative to the node.
    """

    cel: str
    message: str
    field_path: str | None = None
    reason: Literal["FieldValueRequired", "FieldValueForbidden"] | None = None

    def schema(self) -> JsonDict:
        """As an item of `x-kubernetes-validations`."""
        entry: JsonDict = {"rule": self.cel, "message": self.message}
        if self.field_path is not None:
            entry["fieldPath"] = self.field_path
        if self.reason is not None:
            entry["reason"] = self.reason
        return entry


def ruled(*rules: Rule, atomic: bool = False) -> JsonDict:
    """`json_schema_extra` of a model or field: its rules, and whether server-side apply owns it as a whole."""
    extra: JsonDict = {}
    if rules:
        extra["x-kubernetes-validations"] = [rule.schema() for rule in rules]
    if atomic:
        extra["x-kubernetes-map-type"] = "atomic"
    return extra


def _quantity_text(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


def _check_quantity(text: str) -> str:
    if len(text) > QUANTITY_MAX_LENGTH or re.fullmatch(QUANTITY_PATTERN, text) is None:
        raise ValueError("must be a quantity such as 500m, 2, 512Mi or 20Gi")
    return text


Quantity = Annotated[
    str,
    BeforeValidator(_quantity_text),
    AfterValidator(_check_quantity),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 0,
            "maxLength": QUANTITY_MAX_LENGTH,
            "pattern": QUANTITY_PATTERN,
        }
    ),
]
"""A Kubernetes quantity, kept as text; a manifest may write a whole number."""

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=NAME_PATTERN)]
"""The name of a Kubernetes object."""

DataKey = Annotated[str, Field(min_length=1, max_length=253, pattern=KEY_PATTERN)]
"""A key in the data of a Secret or ConfigMap."""


def url_rules(path: str, field: str) -> tuple[Rule, Rule]:
    """The rules of an optional URL, on the object around it.

    On the string itself a refused value, password included, would be printed by the API server.
    """
    return (
        Rule(
            f"!has(self.{field}) || !self.{field}.matches('^[^/]*//[^/?#]*@')",
            f"{path}.{field} must not contain a user name or password (user:password@): "
            "whoever may read the Chatbot could read them.",
            f".{field}",
        ),
        Rule(
            f"!has(self.{field}) || self.{field}.matches('^https?://[^ /?#]+([/?#].*)?$')",
            f"{path}.{field} must be a URL that begins with http:// or https:// and a host, "
            "such as https://example.com/v1.",
            f".{field}",
        ),
    )


def key_rules(path: str) -> tuple[Rule, Rule]:
    """The rules of a map of labels or annotations that a user may fill beside the operator."""
    return (
        Rule(
            "self.all(k, !k.matches('^([^/]*[.])?(chatbot-operator[.]dev|app[.]kubernetes[.]io)/'))",
            f"{path} must not hold keys of chatbot-operator.dev/ or app.kubernetes.io/: the operator sets those.",
        ),
        Rule(
            "self.all(k, !format.qualifiedName().validate(k).hasValue())",
            f"{path}: every key must be a qualified name such as example.com/team.",
        ),
    )


def distinct_rule(path: str) -> Rule:
    """The rule of a list in which nothing may stand twice."""
    return Rule("self.all(m, self.exists_one(n, n == m))", f"{path} must not name a model twice.")
