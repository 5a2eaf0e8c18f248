"""The alert rules in Prometheus' own evaluator: each fires when it must, late enough, and not on what is no trouble."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.generate.alerts import alerts, rules
from charts.generate.catalogue import catalogue
from charts.generate.dashboard import dashboard
from chatbot_operator.api.generated import REPOSITORY
from chatbot_operator.api.reasons import Reason
from devcluster.build import Programs
from devcluster.progress import Plain

METRICS = catalogue()
ALERTS = {alert.name: alert for alert in alerts(METRICS)}
BOT = 'chatbot_namespace="shop", chatbot="demo"'


def promtool(*args: str) -> subprocess.CompletedProcess[str]:
    program = Programs(Plain()).ensure(["promtool"])["promtool"]
    return subprocess.run([str(program), *args], capture_output=True, text=True, check=False)


@dataclass(frozen=True)
class Scene:
    """Series of one value a minute, and since which minute the alert has to fire; None: never."""

    alert: str
    series: dict[str, str]
    since: int | None
    name: str
    labels: str = BOT


def condition(type_: str, status: str, reason: str) -> str:
    return f'chatbot_operator_chatbot_condition{{{BOT}, condition="{type_}", status="{status}", reason="{reason}"}}'


def requests(code: str) -> str:
    return f'chatbot_runtime_requests_total{{{BOT}, route="chat", code="{code}", pod="demo-1"}}'


def reconciles(result: str) -> str:
    return f'chatbot_operator_reconciles_total{{namespace="chatbot-system", job="operator", result="{result}"}}'


def leader(pod: str) -> str:
    return f'chatbot_operator_leader{{namespace="chatbot-system", job="operator", pod="{pod}"}}'


OPERATOR = 'namespace="chatbot-system", job="operator"'
DOWN, STARTING = condition("Available", "False", "BackendNotReady"), condition("Available", "False", "Starting")
UP = condition("Available", "True", "Serving")
STUCK, LOADING = condition("Ready", "False", "ImagePullFailed"), condition("Ready", "False", "Downloading")
LIMITED, WELL = condition("FallbackActive", "True", "RateLimited"), condition("FallbackActive", "False", "NotNeeded")
GOOD, BAD = reconciles("ok"), reconciles("failed")
SCENES = (
    Scene("ChatbotUnavailable", {DOWN: "1x120"}, 5, "a chatbot is down"),
    Scene("ChatbotUnavailable", {STARTING: "1x3 _x120", DOWN: "_x3 1x120"}, 5, "its reason changes meanwhile"),
    Scene("ChatbotUnavailable", {DOWN: "1x4 _x120", UP: "_x4 1x120"}, None, "a short restart"),
    Scene("ChatbotUnavailable", {condition("Available", "False", "Suspended"): "1x120"}, None, "it is suspended"),
    Scene("ChatbotUnavailable", {condition("Ready", "False", "RollingOut"): "1x120", UP: "1x120"}, None, "a rollout"),
    Scene("ChatbotNotReady", {STUCK: "1x120"}, 60, "the new one cannot start"),
    Scene("ChatbotNotReady", {LOADING: "1x50 _x70"}, None, "a download of 50 minutes"),
    Scene("ChatbotNotReady", {condition("Ready", "False", "Suspended"): "1x120"}, None, "it is suspended"),
    Scene("ChatbotFallbackActive", {LIMITED: "1x120"}, 15, "a limit"),
    Scene("ChatbotFallbackActive", {LIMITED: "1x10 _x90"}, None, "it passes"),
    Scene("ChatbotFallbackActive", {WELL: "1x120"}, None, "the model answers"),
    Scene("ChatbotErrors", {requests("200"): "0+54x120", requests("502"): "0+6x120"}, 11, "a tenth fails"),
    Scene("ChatbotErrors", {requests("200"): "0+97x120", requests("503"): "0+3x120"}, None, "three in a hundred fail"),
    Scene("ChatbotErrors", {requests("200"): "0+10x120", requests("429"): "0+90x120"}, None, "an impatient client"),
    Scene("ChatbotErrors", {requests("200"): "0+0x120"}, None, "nobody asks"),
    Scene("ChatbotOperatorDown", {leader("a"): "0x120", leader("b"): "0x120"}, 10, "nobody leads", OPERATOR),
    Scene("ChatbotOperatorDown", {UP: "1x120"}, 10, "nobody is scraped", ""),
    Scene("ChatbotOperatorDown", {leader("a"): "0x120", leader("b"): "1x120"}, None, "one leads", OPERATOR),
    Scene("ChatbotOperatorDown", {leader("a"): "1x30 0x8 1x80"}, None, "an upgrade", OPERATOR),
    Scene("ChatbotOperatorFailing", {GOOD: "0+5x120", BAD: "0+5x120"}, 31, "half of them", OPERATOR),
    Scene("ChatbotOperatorFailing", {GOOD: "0+9x120", BAD: "0+1x120"}, None, "few", OPERATOR),
)


def as_test(scene: Scene) -> dict[str, Any]:
    """In promtool's form: looked at just before it is due and once it is, or at the end."""
    fires = {"exp_labels": {"severity": ALERTS[scene.alert].severity}}
    fires["exp_labels"] |= dict(re.findall(r'(\w+)="([^"]*)"', scene.labels))
    looks: list[tuple[int, list[Any]]] = [(30, []), (70, []), (119, [])]
    if scene.since is not None:
        looks = [(scene.since - 1, []), (scene.since + 1, [fires]), (119, [fires])]
    return {
        "name": f"{scene.alert}: {scene.name}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in scene.series.items()],
        "alert_rule_test": [
            {"alertname": scene.alert, "eval_time": f"{minute}m", "exp_alerts": alerts_} for minute, alerts_ in looks
        ],
    }


def write_rules(folder: Path, *, annotated: bool) -> Path:
    """The rules as the chart has them; what people read is left out where only firing is asked for."""
    found = rules(METRICS)
    if not annotated:
        for rule in found["groups"][0]["rules"]:
            del rule["annotations"]
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(found))
    return path


def run_tests(folder: Path, tests: list[dict[str, Any]], *, annotated: bool = False) -> str:
    path = write_rules(folder, annotated=annotated)
    test = {"rule_files": [path.name], "evaluation_interval": "1m", "tests": tests}
    (folder / "test.yaml").write_text(yaml.safe_dump(test))
    ended = promtool("test", "rules", str(folder / "test.yaml"))
    return "" if ended.returncode == 0 else ended.stdout + ended.stderr


def test_every_rule_is_accepted(tmp_path: Path) -> None:
    ended = promtool("check", "rules", "--lint=all", "--lint-fatal", str(write_rules(tmp_path, annotated=True)))
    assert ended.returncode == 0, ended.stderr
    assert f"{len(ALERTS)} rules found" in ended.stdout


def test_every_alert_has_a_scene_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    for name in ALERTS:
        assert {s.since is None for s in SCENES if s.alert == name} == {True, False}, name


def test_alerts_fire_when_they_must_and_only_then(tmp_path: Path) -> None:
    assert run_tests(tmp_path, [as_test(scene) for scene in SCENES]) == ""


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_that_is_broken_is_noticed(tmp_path: Path, name: str) -> None:
    """The same scenes against a rule that never fires, and one that fires at once."""
    tests = [as_test(scene) for scene in SCENES if scene.alert == name]
    for change in ({"expr": "vector(0) > 1"}, {"for": "0m"}):
        path = write_rules(tmp_path, annotated=False)
        found = yaml.safe_load(path.read_text())
        next(rule for rule in found["groups"][0]["rules"] if rule["alert"] == name).update(change)
        path.write_text(yaml.safe_dump(found))
        test = {"rule_files": [path.name], "evaluation_interval": "1m", "tests": tests}
        (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))
        assert promtool("test", "rules", str(tmp_path / "test.yaml")).returncode != 0, change


def test_whoever_is_woken_is_told_the_chatbot_its_reason_and_where_to_read_on(tmp_path: Path) -> None:
    told = {
        "summary": "Nobody can chat with shop/demo.",
        "description": "The chatbot has had no answering pod for 5 minutes. Reason: BackendNotReady.",
        "reason_url": "DOCS_URL/reference/reasons.md#backendnotready",
        "runbook_url": "DOCS_URL/troubleshooting.md#chatbotunavailable",
    }
    labels = {"severity": "critical", "chatbot_namespace": "shop", "chatbot": "demo"}
    look = {"alertname": "ChatbotUnavailable", "eval_time": "10m"}
    test = {
        "interval": "1m",
        "input_series": [{"series": DOWN, "values": "1x20"}],
        "alert_rule_test": [look | {"exp_alerts": [{"exp_labels": labels, "exp_annotations": told}]}],
    }
    assert run_tests(tmp_path, [test], annotated=True) == ""


def test_every_link_of_an_alert_leads_somewhere() -> None:
    headings = re.findall(r"^## (\w+)$", (REPOSITORY / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    assert headings == list(ALERTS), "the page has a section for each alert, in their order"
    reasons = (REPOSITORY / "docs/reference/reasons.md").read_text()
    for reason in Reason:
        assert f'<a id="{reason.value.lower()}"></a>' in reasons
    linked = re.findall(r"reasons\.md#(\w+)", (REPOSITORY / "docs/troubleshooting.md").read_text())
    assert {reason.value.lower() for reason in Reason} >= set(linked)


def panels() -> list[dict[str, Any]]:
    """All of the dashboard's, out of their rows."""
    return [p for top in dashboard(METRICS)["panels"] for p in (top, *top.get("panels", ())) if p["type"] != "row"]


def test_every_metric_has_a_panel_and_says_what_it_means() -> None:
    titles = {panel["title"]: panel for panel in panels()}
    page = (REPOSITORY / "docs/reference/metrics.md").read_text()
    for name, metric in METRICS.items():
        assert titles[name]["description"] == metric.help
        assert f"| `{name}` |" in page
        assert metric.help.endswith("."), f"{name} is documented by a sentence"


def test_every_query_of_the_dashboard_is_one(tmp_path: Path) -> None:
    queries = [target["expr"] for panel in panels() for target in panel["targets"]]
    found = [{"record": f"query:{i}", "expr": q.replace("$__rate_interval", "5m")} for i, q in enumerate(queries)]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": found}]}))
    ended = promtool("check", "rules", "--lint=none", str(tmp_path / "queries.yaml"))
    assert ended.returncode == 0, ended.stderr
    assert len(found) > len(METRICS)


def test_no_two_panels_overlap() -> None:
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard(METRICS)["panels"]]
    assert len(set(places)) == len(places)
    assert len({p["id"] for p in panels()}) == len(panels())
