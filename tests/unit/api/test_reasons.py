"""The closed list of conditions, reasons and events, and the pages made of it."""

import json
import re
from typing import get_args

import pytest

from chatbot_operator import names
from chatbot_operator.api import troubleshooting
from chatbot_operator.api.generated import REPOSITORY
from chatbot_operator.api.reasons import CONDITIONS, FALLBACK_REASONS, ConditionType, EventReason, Reason
from chatbot_operator.api.reference import api_page, reasons_page
from chatbot_operator.api.status import Condition
from chatbot_operator.api.troubleshooting import LOOK
from chatbot_runtime.contract import FallbackReason


def test_a_reason_is_a_plain_string_in_json_and_carries_its_explanation() -> None:
    assert json.dumps({"reason": Reason.ROLLING_OUT}) == '{"reason": "RollingOut"}'
    assert Reason.ROLLING_OUT.meaning == "New pods are replacing old ones."
    assert f"{EventReason.PHASE_CHANGED}" == "PhaseChanged"
    assert EventReason.STEPPED_BACK.severity == "Warning"


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_explained_in_sentences_and_belongs_to_a_condition(reason: Reason) -> None:
    assert reason.meaning.endswith(".")
    assert reason.remedy.endswith(".")
    assert any(reason in (*text.true, *text.otherwise) for text in CONDITIONS.values())
    assert re.fullmatch("[A-Z][A-Za-z]+", reason)
    assert reason.name == re.sub(r"(?<!^)(?=[A-Z])", "_", reason).upper()


def test_every_condition_type_is_described_and_no_reason_stands_twice_on_one_side() -> None:
    assert list(CONDITIONS) == list(ConditionType)
    for text in CONDITIONS.values():
        assert len(set(text.true)) == len(text.true)
        assert len(set(text.otherwise)) == len(text.otherwise)
        assert not set(text.true) & set(text.otherwise)


def test_whatever_keeps_the_model_away_or_opens_a_circuit_is_a_reason_for_ready_too() -> None:
    ready = set(CONDITIONS[ConditionType.READY].otherwise)
    assert set(CONDITIONS[ConditionType.MODEL_READY].otherwise) <= ready
    assert set(CONDITIONS[ConditionType.FALLBACK_ACTIVE].true) <= ready


def test_every_reason_fits_the_schema_of_a_condition() -> None:
    for type_, text in CONDITIONS.items():
        for reason in (*text.true, *text.otherwise):
            condition = Condition.model_validate(
                {
                    "type": type_,
                    "status": "Unknown",
                    "lastTransitionTime": "2026-01-31T12:00:00Z",
                    "reason": reason,
                    "message": reason.meaning,
                }
            )
            assert condition.reason == reason


def test_the_page_of_reasons_has_a_row_for_each_and_its_links_lead_somewhere() -> None:
    page = reasons_page()
    anchors = set(re.findall(r'<a id="([a-z]+)"></a>', page))
    assert anchors == {reason.lower() for reason in Reason}
    assert set(re.findall(r"\(#([a-z]+)\)", page)) <= anchors


@pytest.mark.parametrize("page", [api_page(), reasons_page()], ids=["api", "reasons"])
def test_all_rows_of_a_table_have_as_many_cells_as_its_head(page: str) -> None:
    tables = [block.splitlines() for block in page.split("\n\n") if block.startswith("| ")]
    assert tables
    for head, *rows in tables:
        columns = len(re.findall(r"(?<!\\)\|", head))
        assert all(len(re.findall(r"(?<!\\)\|", row)) == columns for row in rows)


def test_the_page_of_the_api_names_the_annotations_that_the_operator_reads() -> None:
    assert f"`{names.RETRY}`" in api_page()
    assert f"`{names.PAUSED}`" in api_page()


def test_a_pods_report_of_its_fallback_can_only_be_a_reason_of_the_list() -> None:
    assert set(get_args(FallbackReason)) == set(FALLBACK_REASONS)


def test_every_reason_has_its_entry_in_troubleshooting_and_a_problem_says_where_to_look() -> None:
    page = (REPOSITORY / "docs/troubleshooting.md").read_text()
    entries = dict(re.findall(r"^### (\w+)\n\n(.*?)(?=^### |\Z)", page, re.MULTILINE | re.DOTALL))
    assert set(entries) == set(Reason) == set(LOOK)
    problems = {r for text in CONDITIONS.values() for r in text.otherwise} - {
        r for r in Reason if r.remedy == "Nothing."
    }
    for found in Reason:
        entry = entries[found.value]
        assert found.meaning in entry
        assert found.remedy in entry
        looked = re.search(r"^- Look at: (`[^`]+`(, `[^`]+`)*)$", entry, re.MULTILINE)
        assert looked or found not in problems or found in (Reason.SETTLED, Reason.NOT_NEEDED, Reason.DISABLED)
    assert page == troubleshooting.page(page)
