"""Clusters of different numbers share no address and no name, and everything of one lies in its own range."""

import ipaddress
from pathlib import Path

import pytest

from devcluster.errors import DevClusterError
from devcluster.layout import MAX_NODES, NUMBERS, Layout


def ranges(layout: Layout) -> list[ipaddress.IPv4Network]:
    pods = [layout.node_pod_range(index) for index in layout.node_indices]
    texts = [layout.fake_pod_range, layout.service_range, layout.load_balancer_range, *pods]
    return [ipaddress.ip_network(text) for text in texts]  # type: ignore[misc]


def test_no_two_ranges_of_a_full_cluster_overlap_and_all_lie_in_its_own() -> None:
    layout = Layout(Path("/s"), 3, "node", MAX_NODES)
    all_ranges = ranges(layout)
    whole = ipaddress.ip_network(layout.cluster_range)
    for index, one in enumerate(all_ranges):
        assert one.subnet_of(whole)  # type: ignore[arg-type]
        assert not any(one.overlaps(other) for other in all_ranges[index + 1 :])


def test_every_single_address_lies_outside_the_ranges_that_are_given_out() -> None:
    layout = Layout(Path("/s"), 3, "node", MAX_NODES)
    single = [layout.bridge_address, layout.fake_node_address, *map(layout.node_address, layout.node_indices)]
    assert len(set(single)) == len(single)
    for address in map(ipaddress.ip_address, single):
        assert address in ipaddress.ip_network(layout.cluster_range)
        assert not any(address in given_out for given_out in ranges(layout))


def test_all_numbers_have_ranges_of_their_own() -> None:
    clusters = [Layout(Path("/s"), number, "node", 1) for number in NUMBERS]
    assert len({layout.cluster_range for layout in clusters}) == len(clusters)
    assert len({layout.bridge for layout in clusters}) == len(clusters)


def test_pods_of_the_last_node_stay_within_the_pod_range() -> None:
    layout = Layout(Path("/s"), 55, "node", MAX_NODES)
    last = ipaddress.ip_network(layout.node_pod_range(MAX_NODES))
    assert last.subnet_of(ipaddress.ip_network(layout.pod_range))  # type: ignore[arg-type]


def test_interface_names_fit_the_kernels_fifteen_characters() -> None:
    assert len(Layout(Path("/s"), 55, "node", MAX_NODES).node_link(MAX_NODES)) <= 15


def test_without_nodes_the_api_server_listens_on_loopback_only() -> None:
    assert ipaddress.ip_address(Layout(Path("/s"), 7).host_address).is_loopback
    assert not ipaddress.ip_address(Layout(Path("/s"), 7, "node", 1).host_address).is_loopback


def test_a_state_folder_too_deep_for_a_socket_is_refused_with_a_remedy() -> None:
    with pytest.raises(DevClusterError, match="--state-dir"):
        Layout(Path("/" + "x" * 120), 0)


@pytest.mark.parametrize(("number", "nodes"), [(-1, 0), (56, 0), (0, MAX_NODES + 1)])
def test_numbers_and_node_counts_out_of_range_are_refused(number: int, nodes: int) -> None:
    with pytest.raises(DevClusterError, match="out of range"):
        Layout(Path("/s"), number, "node", nodes)
