"""How Kopf is set up: it watches, and neither remembers nor compares objects."""

import copy
from typing import Any

import kopf
import pytest

from chatbot_operator.handlers import configure, watched
from chatbot_operator.kinds import HTTP_ROUTE


class Untouchable(dict[str, Any]):
    """A part of an object that must not be copied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Untouchable":
        raise AssertionError("the object is copied")


async def test_an_event_costs_no_copy_of_its_object() -> None:
    settings = kopf.OperatorSettings()
    body = kopf.Body({"metadata": {"name": "demo"}, "spec": Untouchable(replicas=1)})
    with pytest.raises(AssertionError, match="is copied"):
        copy.deepcopy(dict(body))
    await configure(settings)
    storage = settings.persistence.diffbase_storage
    essence = settings.persistence.progress_storage.clear(essence=storage.build(body=body))
    assert (dict(essence), storage.fetch(body=body)) == ({}, None)


def test_a_kind_that_the_cluster_lacks_is_not_watched() -> None:
    assert {*watched(())} - {*watched({HTTP_ROUTE})} == {HTTP_ROUTE}
