"""Quantities, selectors, usage rates, volumes and fake pods' states are what Kubernetes would make of them."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devcluster.addons.fake_nodes import FAIL, finished_status, running_status
from devcluster.addons.metrics import annotated_usage, metrics_item
from devcluster.addons.quantities import parse_quantity, selects
from devcluster.addons.usage import Usage, UsageTable, parse
from devcluster.addons.volumes import grown, size_in_bytes, volume_for, wanted_growth, wants_volume
from devcluster.layout import Layout
from devcluster.objects import PROVISIONER, SIZED_PROVISIONER, base_objects
from devcluster.sized_volumes import SizedVolumes, mount_command

NOW = "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("0", 0), ("1.5", 1.5), (" 5 ", 5), ("2e3", 2000), ("1E3", 1000), ("3k", 3000), ("2G", 2e9)),
        *(("100m", 0.1), ("250u", 0.00025), ("7n", 7e-9)),
        *(("2Ki", 2048), ("64Mi", 64 * 2**20), ("1.5Gi", 1.5 * 2**30)),
    ],
)
def test_a_quantity_is_the_number_it_stands_for(text: str, value: float) -> None:
    assert parse_quantity(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "m", "1.2.3", "5Xi", "1i", "1K", "ten", "1 Gi"])
def test_what_is_no_quantity_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(text)


@given(st.integers(0, 10**6), st.sampled_from(["m", "", "k", "Ki", "Mi", "Gi"]))
def test_quantities_keep_the_order_of_their_numbers(number: int, suffix: str) -> None:
    assert parse_quantity(f"{number}{suffix}") <= parse_quantity(f"{number + 1}{suffix}")


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app=other", False),
        ("app!=other", True),
        ("missing!=anything", True),
        ("app", True),
        ("!app", False),
        ("!missing", True),
        ("app in (web, api)", True),
        ("app in (api)", False),
        ("app notin (api)", True),
        ("missing notin (api)", True),
        ("app=web,tier in (a,b)", True),
        ("app=web,tier in (b,c)", False),
    ],
)
def test_a_label_selector_matches_as_in_kubernetes(selector: str, matches: bool) -> None:
    assert selects(selector, {"app": "web", "tier": "a"}) is matches


def resource_metrics(cpu: float, at: int, memory: int = 1048576, container: str = "main") -> str:
    labels = f'{{container="{container}",namespace="ns",pod="web-1"}}'
    return (
        "# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time\n"
        f"container_cpu_usage_seconds_total{labels} {cpu} {at}\n"
        f"container_memory_working_set_bytes{labels} {memory} {at}\n"
        f"node_cpu_usage_seconds_total {cpu * 2} {at}\n"
        f"node_memory_working_set_bytes {memory * 2} {at}\n"
        "scrape_error 0\n"
    )


POD = ("pod", "ns", "web-1")


def test_a_rate_needs_two_readings_at_different_times() -> None:
    table = UsageTable()
    table.add(parse(resource_metrics(10.0, 1000), "node1"))
    table.add(parse(resource_metrics(10.0, 1000), "node1"))
    assert table.get(POD) == {}
    table.add(parse(resource_metrics(12.5, 11000), "node1"))
    assert table.get(POD) == {"main": Usage(cpu=0.25, memory=1048576, at=11.0)}
    assert table.get(("node", "", "node1"))[""].cpu == pytest.approx(0.5)


def test_a_reading_that_brings_nothing_new_keeps_the_rate() -> None:
    table = UsageTable()
    for cpu, at in ((10.0, 1000), (12.5, 11000), (12.5, 11000)):
        table.add(parse(resource_metrics(cpu, at), "node1"))
    assert table.get(POD)["main"].cpu == pytest.approx(0.25)


def test_a_restarted_container_counts_from_its_new_start() -> None:
    table = UsageTable()
    for cpu, at in ((100.0, 1000), (110.0, 11000), (0.5, 21000), (1.5, 31000)):
        table.add(parse(resource_metrics(cpu, at), "node1"))
    assert table.get(POD)["main"].cpu == pytest.approx(0.1)


def test_a_pod_is_shown_only_once_all_of_its_containers_have_a_rate() -> None:
    table = UsageTable()
    table.add(parse(resource_metrics(1.0, 1000), "node1"))
    two = resource_metrics(2.0, 11000) + resource_metrics(1.0, 11000, container="sidecar")
    table.add(parse(two, "node1"))
    assert table.get(POD) == {}
    table.forget(POD)
    assert table.get(POD) == {}


def fake_pod(**annotations: str) -> dict[str, Any]:
    containers = [{"name": "main", "image": "x"}, {"name": "second", "image": "y"}]
    inits = [{"name": "once", "image": "i"}, {"name": "sidecar", "image": "s", "restartPolicy": "Always"}]
    meta = {"name": "p", "namespace": "ns", "uid": "u", "labels": {"a": "b"}, "annotations": annotations}
    return {"metadata": meta, "spec": {"containers": containers, "initContainers": inits}}


def test_a_fake_pod_that_runs_is_ready_with_its_sidecar() -> None:
    status = running_status(fake_pod(), "10.0.0.1", "10.0.96.1", NOW)
    assert status["phase"] == "Running"
    assert {condition["type"]: condition["status"] for condition in status["conditions"]}["Ready"] == "True"
    once, sidecar = status["initContainerStatuses"]
    assert "terminated" in once["state"]
    assert "running" in sidecar["state"]


def test_a_fake_pod_told_to_fail_waits_with_that_reason() -> None:
    status = running_status(fake_pod(**{FAIL: "CrashLoopBackOff: back-off 10s"}), "10.0.0.1", "10.0.96.1", NOW)
    expected = {"reason": "CrashLoopBackOff", "message": "back-off 10s"}
    assert status["containerStatuses"][0]["state"]["waiting"] == expected
    assert {condition["type"]: condition["status"] for condition in status["conditions"]}["Ready"] == "False"


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (3, "Failed")])
def test_a_finished_fake_pod_has_the_phase_of_its_exit_code(code: int, phase: str) -> None:
    status = finished_status(fake_pod(), code, NOW, NOW)
    assert status["phase"] == phase
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == code


def test_annotated_usage_becomes_metrics_of_the_first_container() -> None:
    pod = fake_pod(**{"kwok.x-k8s.io/usage-cpu": "250m", "kwok.x-k8s.io/usage-memory": "64Mi"})
    item = metrics_item("PodMetrics", pod, annotated_usage(pod))
    assert item["containers"][0] == {"name": "main", "usage": {"cpu": "250000000n", "memory": "65536Ki"}}
    assert item["containers"][1]["usage"] == {"cpu": "0n", "memory": "0Ki"}
    assert item["metadata"]["labels"] == {"a": "b"}


def claim(**annotations: str) -> dict[str, Any]:
    spec = {
        "storageClassName": "standard",
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    return {"metadata": {"name": "c", "namespace": "ns", "uid": "u", "annotations": annotations}, "spec": spec}


ASKS = {"volume.kubernetes.io/storage-provisioner": PROVISIONER}
CHOSEN = {"volume.kubernetes.io/selected-node": "node2"}
LATE = {"volumeBindingMode": "WaitForFirstConsumer", "reclaimPolicy": "Delete"}


def test_a_late_binding_claim_waits_for_the_scheduler() -> None:
    assert not wants_volume(claim(**ASKS), LATE)
    assert wants_volume(claim(**ASKS, **CHOSEN), LATE)


def test_a_claim_of_another_provisioner_is_left_alone() -> None:
    assert not wants_volume(claim(**CHOSEN), LATE)


def test_a_volume_lies_on_the_chosen_node_and_is_bound_to_its_claim() -> None:
    volume = volume_for(claim(**ASKS, **CHOSEN), LATE, "/volumes/x")
    (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"][0]["values"] == ["node2"]
    assert volume["spec"]["claimRef"]["uid"] == "u"
    assert volume["spec"]["local"]["path"] == "/volumes/x"


SIZED = {"volume.kubernetes.io/storage-provisioner": SIZED_PROVISIONER}


def sized_claim(has: str, wants: str, **changes: Any) -> dict[str, Any]:
    """A claim that is bound to a sized volume of ours."""
    made = claim(**SIZED, **CHOSEN)
    made["spec"] |= {"storageClassName": "sized", "volumeName": "pvc-u", "resources": {"requests": {"storage": wants}}}
    return made | {"status": {"phase": "Bound", "capacity": {"storage": has}}} | changes


def test_only_the_sized_class_grows_and_it_is_not_the_default() -> None:
    classes = {o["metadata"]["name"]: o for o in base_objects(Layout(Path("/s"), 0)) if o["kind"] == "StorageClass"}
    default = "storageclass.kubernetes.io/is-default-class"
    told = {n: (c["metadata"]["annotations"][default], c["allowVolumeExpansion"]) for n, c in classes.items()}
    assert told == {"standard": ("true", False), "sized": ("false", True)}
    assert {c["volumeBindingMode"] for c in classes.values()} == {"WaitForFirstConsumer"}


def test_a_sized_claim_waits_for_its_node_even_in_a_class_that_binds_at_once() -> None:
    assert not wants_volume(claim(**SIZED), {"volumeBindingMode": "Immediate"})
    assert wants_volume(claim(**ASKS), {"volumeBindingMode": "Immediate"})
    assert wants_volume(claim(**SIZED, **CHOSEN), {"volumeBindingMode": "Immediate"})


def test_a_volume_names_the_provisioner_that_must_take_it_away() -> None:
    by = "pv.kubernetes.io/provisioned-by"
    assert volume_for(claim(**SIZED, **CHOSEN), LATE, "/x")["metadata"]["annotations"][by] == SIZED_PROVISIONER
    assert volume_for(claim(**ASKS, **CHOSEN), LATE, "/x")["metadata"]["annotations"][by] == PROVISIONER


@pytest.mark.parametrize(("has", "wants"), [("32Mi", "48Mi"), ("1Gi", "1025Mi"), ("1", "1001m")])
def test_a_bound_sized_claim_that_asks_for_more_grows(has: str, wants: str) -> None:
    assert wanted_growth(sized_claim(has, wants)) == wants


@pytest.mark.parametrize(
    "left_alone",
    [
        sized_claim("1Gi", "1024Mi"),
        sized_claim("48Mi", "32Mi"),
        # Between the binding and the status that tells of it.
        sized_claim("32Mi", "48Mi", status={"phase": "Pending"}),
        sized_claim("32Mi", "48Mi", status={"phase": "Bound"}),
        sized_claim("32Mi", "48Mi", status={"phase": "Lost", "capacity": {"storage": "32Mi"}}),
        sized_claim("32Mi", "48Mi", metadata=claim(**ASKS, **CHOSEN)["metadata"]),
        sized_claim("32Mi", "48Mi", metadata=claim(**SIZED)["metadata"] | {"uid": "bound to a volume of another's"}),
    ],
)
def test_other_claims_do_not_grow(left_alone: dict[str, Any]) -> None:
    assert wanted_growth(left_alone) is None


def test_of_a_new_size_the_volume_tells_before_the_claim() -> None:
    volume, status = grown(sized_claim("32Mi", "48Mi"), "48Mi")
    assert volume == ("/api/v1/persistentvolumes/pvc-u", {"spec": {"capacity": {"storage": "48Mi"}}})
    path = "/api/v1/namespaces/ns/persistentvolumeclaims/c/status"
    assert status == (path, {"status": {"capacity": {"storage": "48Mi"}}})


@pytest.mark.parametrize(("quantity", "size"), [("32Mi", 32 << 20), ("1.5Ki", 1536), ("1001m", 2), ("2e3", 2000)])
def test_a_volume_has_at_least_the_bytes_that_are_asked_for(quantity: str, size: int) -> None:
    assert size_in_bytes(quantity) == size


def test_a_mounted_volume_is_given_another_size_without_being_mounted_anew() -> None:
    assert "size=4096,mode=0777" in mount_command(Path("/v"), 4096, again=False)
    assert "remount,size=8192" in mount_command(Path("/v"), 8192, again=True)


def test_a_volume_on_a_node_that_is_not_running_is_remembered_until_it_is_removed(tmp_path: Path) -> None:
    layout = Layout(tmp_path, 0, "node", 2)
    volumes = SizedVolumes(layout)
    volumes.make("pvc-a", "node1", 4096)
    volumes.make("pvc-ab", "node2", 4096)
    volumes.resize("pvc-a", 8192)
    assert {path.name: path.read_text() for path in layout.volumes.glob("*.*")} == {
        "pvc-a.node1": "8192",
        "pvc-ab.node2": "4096",
    }
    volumes.remove("pvc-a")
    volumes.remove("pvc-a")
    assert sorted(path.name for path in layout.volumes.iterdir()) == ["pvc-ab", "pvc-ab.node2"]
