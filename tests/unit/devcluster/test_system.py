"""Processes, control groups, numbers, certificates and engines: what is read from the machine is understood rightly."""

import datetime as dt
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from devcluster import certificates, cgroups
from devcluster.engines import Running, choose
from devcluster.errors import DevClusterError
from devcluster.layout import Layout
from devcluster.packages import is_debian_like
from devcluster.processes import Processes, Record, members, start_time, wait_until
from devcluster.progress import Plain
from devcluster.state import Numbers, Saved, default_state_dir, overlapping_route

MOUNTS_V1 = (
    "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"
    "cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0\n"
    "cgroup /sys/fs/cgroup/cpuacct cgroup rw,cpuacct 0 0\n"
    "cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\n"
    "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n"
    "cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n"
    "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
)


def processes(folder: Path) -> Processes:
    (folder / "run").mkdir()
    (folder / "log").mkdir()
    return Processes(folder, folder / "run", folder / "log")


@pytest.fixture
def running(tmp_path: Path) -> Processes:
    return processes(tmp_path)


def test_a_killed_program_is_started_again_and_stop_ends_both(tmp_path: Path, running: Processes) -> None:
    running.start("sleeper", ["/bin/sh", "-c", "exec tail -f /dev/null"])
    try:
        wait_until("it runs", lambda: running.program("sleeper") is not None, 5.0)
        killed = running.kill_program("sleeper")
        wait_until("it runs again", lambda: running.program("sleeper") not in (None, killed), 5.0)
    finally:
        running.stop("sleeper", grace=2.0)
    assert not running.alive("sleeper")
    assert members(tmp_path) == []


def test_a_program_whose_shell_was_killed_is_still_found_and_ended(tmp_path: Path, running: Processes) -> None:
    record = running.start("orphan", ["tail", "-f", "/dev/null"])
    wait_until("it runs", lambda: running.program("orphan") is not None, 5.0)
    os.kill(record.pid, signal.SIGKILL)
    os.waitpid(record.pid, 0)
    assert len(members(tmp_path)) == 1
    running.stop_all([])
    assert members(tmp_path) == []


def test_starting_what_runs_already_changes_nothing(running: Processes) -> None:
    first = running.start("once", ["tail", "-f", "/dev/null"])
    try:
        assert running.start("once", ["false"]) == first
    finally:
        running.stop("once", grace=0)


def test_a_recycled_pid_is_not_taken_for_ours() -> None:
    assert Record(os.getpid(), start_time(os.getpid())).alive
    assert not Record(os.getpid(), "1").alive
    assert not Record(os.getpid(), "").alive


def test_a_process_that_only_waits_to_be_reaped_counts_as_ended() -> None:
    with subprocess.Popen(["true"]) as process:
        wait_until("it has ended", lambda: start_time(process.pid) == "", 5.0)


def test_waiting_too_long_names_what_was_waited_for() -> None:
    with pytest.raises(TimeoutError, match="the moon is green"):
        wait_until("the moon is green", lambda: False, 0.05, 0.01)


def test_control_group_hierarchies_are_told_apart() -> None:
    assert Path("/sys/fs/cgroup/memory") in cgroups.hierarchies(MOUNTS_V1, "cgroup")
    assert cgroups.hierarchies(MOUNTS_V1, "cgroup2") == [Path("/sys/fs/cgroup/unified")]


def test_a_missing_controller_is_named() -> None:
    without = "".join(line for line in MOUNTS_V1.splitlines(keepends=True) if "memory" not in line)
    assert cgroups.missing_controllers(MOUNTS_V1) == set()
    assert cgroups.missing_controllers(without) == {"memory"}
    assert cgroups.missing_controllers("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n") == set()
    assert "cpu" in cgroups.missing_controllers("")


def route(destination: str, mask: str) -> str:
    header = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
    return f"{header}*\t{destination}\t0\t1\t0\t0\t0\t{mask}\t0\t0\t0\n"


def test_an_existing_network_in_a_clusters_range_is_noticed_and_the_default_route_is_not() -> None:
    assert overlapping_route(route("0A05C80A", "FFFFFFFF"), "10.200.0.0/16") == "10.200.5.10/32"
    assert overlapping_route(route("0000000A", "000000FF"), "10.200.0.0/16") == "10.0.0.0/8"
    assert overlapping_route(route("00000000", "00000000"), "10.200.0.0/16") is None
    assert overlapping_route(route("0000C90A", "0000FFFF"), "10.200.0.0/16") is None


def test_numbers_are_given_once_kept_by_their_folder_and_free_again_after_release(tmp_path: Path) -> None:
    numbers = Numbers(tmp_path / "numbers")
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    a, b = (numbers.claim(folder, ephemeral=False) for folder in folders[:2])
    assert a != b
    assert numbers.claim(folders[0], ephemeral=False) == a
    numbers.release(a, folders[0])
    assert numbers.claim(folders[2], ephemeral=False) == a


def test_processes_that_claim_at_the_same_time_get_different_numbers(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from devcluster.state import Numbers\n"
        "print(Numbers(Path(sys.argv[1])).claim(Path(sys.argv[2]), ephemeral=False))"
    )
    root = Path(__file__).parents[3]
    commands = [[sys.executable, "-c", program, str(tmp_path / "numbers"), str(tmp_path / f"c{i}")] for i in range(4)]
    started = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for command in commands]
    given = [process.communicate(timeout=60)[0].strip() for process in started]
    assert len(set(given)) == 4, given


def disown(numbers: Path, number: int) -> None:
    """Make a claim's owner a process that is gone."""
    file = numbers / f"{number}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"started": "1"}))


@pytest.mark.parametrize(
    ("ephemeral", "folder_there", "abandoned"),
    [(True, True, True), (True, False, True), (False, False, True), (False, True, False)],
)
def test_a_claim_of_a_dead_owner_is_abandoned_if_its_test_is_over_or_its_folder_is_gone(
    tmp_path: Path, ephemeral: bool, folder_there: bool, abandoned: bool
) -> None:
    folder = tmp_path / "state"
    if folder_there:
        folder.mkdir()
    numbers = Numbers(tmp_path / "numbers")
    number = numbers.claim(folder, ephemeral=ephemeral)
    assert numbers.take_abandoned() == [], "its owner is this process, which lives"
    disown(tmp_path / "numbers", number)
    assert [claim.state_dir for claim in numbers.take_abandoned()] == ([folder] if abandoned else [])


def test_only_one_process_cleans_up_after_an_abandoned_cluster(tmp_path: Path) -> None:
    numbers = Numbers(tmp_path / "numbers")
    disown(tmp_path / "numbers", numbers.claim(tmp_path / "state", ephemeral=True))
    assert len(numbers.take_abandoned()) == 1
    assert numbers.take_abandoned() == []


def test_a_number_is_released_only_by_the_folder_that_holds_it(tmp_path: Path) -> None:
    numbers = Numbers(tmp_path / "numbers")
    number = numbers.claim(tmp_path / "holder", ephemeral=False)
    numbers.release(number, tmp_path / "stranger")
    assert numbers.of(tmp_path / "holder") is not None
    numbers.release(number, tmp_path / "holder")
    assert numbers.of(tmp_path / "holder") is None


@pytest.mark.parametrize("name", ["", "numbers", "a/b", "..", ".hidden", "späti"])
def test_a_name_that_cannot_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(DevClusterError, match="cannot be a cluster's name"):
        default_state_dir(name)


def test_settings_survive_writing_and_reading_and_damage_reads_as_none(tmp_path: Path) -> None:
    saved = Saved("x", 4, "node", 2, "release", ephemeral=True)
    saved.write(tmp_path)
    assert Saved.read(tmp_path) == saved
    (tmp_path / "settings.json").write_text('{"name": "x"')
    assert Saved.read(tmp_path) is None


def test_a_foreign_kubeconfig_is_used_and_our_own_is_not_taken_for_one(tmp_path: Path) -> None:
    assert choose(tmp_path, {"KUBECONFIG": "/elsewhere/config"}) == "given"
    Running("embedded", str(tmp_path / "kubeconfig")).write(tmp_path)
    assert choose(tmp_path, {"KUBECONFIG": str(tmp_path / "kubeconfig")}) == "embedded"
    assert choose(tmp_path, {}) == "embedded"


def test_debian_and_its_descendants_are_recognised() -> None:
    assert is_debian_like("ID=debian\n")
    assert is_debian_like('ID=linuxmint\nID_LIKE="ubuntu debian"\n')
    assert not is_debian_like('ID=fedora\nID_LIKE="rhel"\n')
    assert not is_debian_like("")


def test_certificates_chain_to_their_authorities_and_keys_are_private(tmp_path: Path) -> None:
    layout = Layout(tmp_path, 9, "node", 1)
    certificates.make_all(layout)

    def load(name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((layout.pki / f"{name}.crt").read_bytes())

    load("apiserver").verify_directly_issued_by(load("server-ca"))
    load("node1").verify_directly_issued_by(load("client-ca"))
    load("front-proxy").verify_directly_issued_by(load("front-proxy-ca"))
    names = load("apiserver").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert {layout.host_address, layout.first_service_address} <= addresses
    private = [*layout.pki.glob("*.key"), layout.kubeconfig, layout.component_kubeconfig("node1")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}


def test_authorities_stay_between_starts_until_they_are_half_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path, 9)
    certificates.make_all(layout)
    before = (layout.pki / "server-ca.crt").read_bytes()
    certificates.make_all(layout)
    assert (layout.pki / "server-ca.crt").read_bytes() == before
    monkeypatch.setattr(certificates, "VALIDITY", dt.timedelta(days=365))
    certificates.make_all(layout)
    assert (layout.pki / "server-ca.crt").read_bytes() != before


def test_plain_progress_says_what_takes_long_before_it_starts(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Plain(sys.stdout)
    with progress.step("short work"), progress.step("long work", usual=60):
        assert "long work (usually about 60 s)" in capsys.readouterr().out
    said = capsys.readouterr().out
    assert "s short work" in said
    assert "s long work" in said
