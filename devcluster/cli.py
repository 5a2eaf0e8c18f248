"""The command line `python -m devcluster`. It must not do anything that the modules it calls could do themselves."""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from devcluster import doctor, engines, kind, kubectl, report, state
from devcluster.build import Programs
from devcluster.cluster import Cluster, remove_abandoned
from devcluster.engines import ENGINES, Running
from devcluster.errors import DevClusterError
from devcluster.images import builder, description
from devcluster.layout import LEVELS
from devcluster.progress import Progress, for_this_terminal

INTERRUPTED = 130
MARKS = {"ok": "ok", "missing": "MISSING", "note": "-"}


def _state_dir(options: argparse.Namespace) -> Path:
    folder: Path = options.state_dir or state.default_state_dir(options.name)
    return folder.resolve()


def _load(options: argparse.Namespace, progress: Progress) -> Cluster:
    return Cluster.load(options.name, options.state_dir, progress)


def _say(options: argparse.Namespace, document: dict[str, Any], lines: str) -> None:
    print(json.dumps(document, indent=1) if options.output == "json" else lines)


def _up_embedded(options: argparse.Namespace, progress: Progress) -> Running:
    wanted = builder.build_all(progress) if options.level == "node" and options.images else {}
    cluster = Cluster.start(
        options.name,
        level=options.level,
        nodes=options.nodes,
        fake_nodes=options.fake_nodes,
        state_dir=options.state_dir,
        images=wanted.values(),
        progress=progress,
    )
    references = {name: image.reference for name, image in wanted.items()}
    return Running("embedded", str(cluster.kubeconfig), references)


def _up_kind(options: argparse.Namespace, progress: Progress) -> Running:
    kubeconfig = kind.up(options.name, options.nodes, _state_dir(options), progress)
    programs = Programs(progress)
    programs.ensure(["helm"])
    kind.metrics(kubeconfig, str(programs.path("helm")), progress)
    wanted = description.usual() if options.images else {}
    references = {name: kind.load_image(options.name, image, progress) for name, image in wanted.items()}
    return Running("kind", str(kubeconfig), references)


def _up_given(progress: Progress) -> Running:
    kubeconfig = os.environ.get("KUBECONFIG", "")
    if not kubeconfig:
        raise DevClusterError("no cluster is given", "set KUBECONFIG, or choose another --engine")
    kubectl.require_answer(kubeconfig, Programs(progress))
    progress.note(
        f"using the cluster of KUBECONFIG={kubeconfig}; its images must come from a registry that it can reach"
    )
    return Running("given", kubeconfig)


def up(options: argparse.Namespace, progress: Progress) -> int:
    began = time.monotonic()
    folder = _state_dir(options)
    engine = engines.choose(folder) if options.engine == "auto" else options.engine
    if engine == "given":
        running = _up_given(progress)
    elif engine == "kind":
        running = _up_kind(options, progress)
    else:
        running = _up_embedded(options, progress)
    running.write(folder)
    programs, wanted = Programs(progress), ["kubectl", "helm"] if options.helm else ["kubectl"]
    # The embedded cluster's own fit it; for any other those of the machine are as good.
    tools = programs.ensure(wanted) if engine == "embedded" else {name: kubectl.find(programs, name) for name in wanted}
    took = time.monotonic() - began
    document = {"engine": running.engine, "kubeconfig": running.kubeconfig, "images": dict(running.images)}
    document |= {name: str(path) for name, path in tools.items()}
    hint = f'eval "$({sys.executable} -m devcluster env --name {options.name})"   # kubectl in this shell'
    _say(options, document | {"seconds": round(took, 1)}, f"ready after {took:.1f} s ({running.engine})\n  {hint}")
    return 0


def down(options: argparse.Namespace, progress: Progress) -> int:
    folder = _state_dir(options)
    running = Running.read(folder)
    for leftover in remove_abandoned():
        progress.note(f"took away what was left of {leftover}")
    if running is not None and running.engine == "kind":
        kind.down(options.name, folder)
    elif running is not None and running.engine == "given":
        (folder / "running.json").unlink(missing_ok=True)
        progress.note("the given cluster is left as it is")
    elif state.Saved.read(folder) is None and state.Numbers().of(folder) is None:
        progress.note("nothing is running")
    else:
        with progress.step(f"cluster {options.name} stopped"):
            cluster = _load(options, progress)
            cluster.stop() if options.keep_state else cluster.remove()
    return 0


def status(options: argparse.Namespace, progress: Progress) -> int:
    running = Running.read(_state_dir(options))
    if running is not None and running.engine != "embedded":
        document = {"engine": running.engine, "kubeconfig": running.kubeconfig, "images": dict(running.images)}
        _say(options, document, f"cluster {options.name} ({running.engine}), kubeconfig {running.kubeconfig}")
        return 0
    found = report.of(_load(options, progress))
    _say(options, found.document(), report.text(found))
    return 0 if found.healthy else 1


def env(options: argparse.Namespace, progress: Progress) -> int:
    running = Running.read(_state_dir(options))
    if running is not None and running.engine != "embedded":
        variables = {"KUBECONFIG": running.kubeconfig}
    else:
        variables = _load(options, progress).environment()
    lines = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
    _say(options, variables, lines)
    return 0


def logs(options: argparse.Namespace, progress: Progress) -> int:
    cluster = _load(options, progress)
    path = cluster.processes.log(options.component.removeprefix("kube-").replace("/", "-"))
    if not path.exists():
        names = ", ".join(sorted(p.stem for p in cluster.layout.logs.glob("*.log")))
        raise DevClusterError(f"there is no log of {options.component!r}", f"there are {names}")
    follow = ["--follow"] if options.follow else []
    return subprocess.run(("tail", f"--lines={options.lines}", *follow, str(path)), check=False).returncode


def restart(options: argparse.Namespace, progress: Progress) -> int:
    cluster = _load(options, progress)
    with progress.step(f"{options.component} restarted"):
        cluster.restart(options.component)
    return 0


def images(options: argparse.Namespace, progress: Progress) -> int:
    folder = _state_dir(options)
    running = Running.read(folder)
    described = description.load()
    archives = [Path(name) for name in options.images if name not in described]
    names = [name for name in options.images if name in described] or ([] if archives else list(description.usual()))
    if running is not None and running.engine == "kind":
        references = {name: kind.load_image(options.name, described[name], progress) for name in names}
    else:
        cluster = _load(options, progress)
        built = builder.build_all(progress, names) if names else {}
        cluster.load_images([*built.values(), *archives])
        running = running or Running("embedded", str(cluster.kubeconfig))
        references = {name: image.reference for name, image in built.items()}
    Running(running.engine, running.kubeconfig, {**running.images, **references}).write(folder)
    _say(options, references, "\n".join(f"{name:<20} {reference}" for name, reference in references.items()))
    return 0


def nodes(options: argparse.Namespace, progress: Progress) -> int:
    cluster = _load(options, progress)
    if options.fake:
        added = cluster.add_fake_nodes(options.fake)
    else:
        described = builder.build_all(progress)
        added = [cluster.add_node(described.values()) for _ in range(options.real)]
    _say(options, {"nodes": added}, "\n".join(added))
    return 0


def examine(options: argparse.Namespace, _: Progress) -> int:
    checks = doctor.examine(options.level)
    lines = []
    for check in checks:
        lines.append(f"{MARKS[check.verdict]:<8} {check.name:<16} {check.found}")
        if check.remedy:
            lines.append(f"{'':<25} -> {check.remedy}")
    missing = [check for check in checks if check.verdict == "missing"]
    lines.append(f"\n{len(missing)} thing(s) missing for level {options.level}" if missing else "\nready for `up`")
    document = {"level": options.level, "checks": [check.__dict__ for check in checks]}
    _say(options, document, "\n".join(lines))
    return 1 if missing else 0


def parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", default="dev", help="which cluster (default: dev)")
    common.add_argument("--state-dir", type=Path, help="its folder (default: below XDG_STATE_HOME)")
    common.add_argument("--output", choices=("text", "json"), default="text")
    root = argparse.ArgumentParser(prog="python -m devcluster", description="A small real Kubernetes on this machine.")
    commands = root.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, function: object, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, parents=[common])
        command.set_defaults(function=function)
        return command

    start = add("up", up, "start a cluster, or complete and repair the one that is there")
    start.add_argument(
        "--level", choices=LEVELS, default="node", help="node: pods really run (root); control-plane: API only"
    )
    start.add_argument("--nodes", type=int, default=1, help="real nodes (default 1)")
    start.add_argument("--fake-nodes", type=int, default=0, help="nodes on which pods only seem to run")
    start.add_argument("--engine", choices=("auto", *ENGINES), default="auto")
    start.add_argument("--no-images", dest="images", action="store_false", help="do not build and load our images")
    start.add_argument("--helm", action="store_true", help="build Helm too; `env` then puts it on the PATH")
    add("down", down, "stop a cluster and remove everything of it").add_argument(
        "--keep-state", action="store_true", help="keep its data and images for the next `up`"
    )
    add("status", status, "show the parts of a cluster; exit code 1 if it is not healthy")
    add("env", env, 'print what a shell needs: eval "$(python -m devcluster env)"')
    show = add("logs", logs, "show the log of one part")
    show.add_argument("component")
    show.add_argument("--lines", type=int, default=50)
    show.add_argument("--follow", action="store_true")
    add("restart", restart, "end one part, start it again, wait for it").add_argument("component")
    load = add(
        "images", images, "build our images (the usual, or those named) or take archives, and put them into every node"
    )
    load.add_argument("images", nargs="*", metavar="NAME_OR_ARCHIVE")
    more = add("nodes", nodes, "add nodes").add_mutually_exclusive_group(required=True)
    more.add_argument("--real", type=int, default=0, metavar="COUNT")
    more.add_argument("--fake", type=int, default=0, metavar="COUNT")
    add("doctor", examine, "show what this machine lacks").add_argument("--level", choices=LEVELS, default="node")
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        return int(options.function(options, for_this_terminal()))
    except DevClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except TimeoutError as error:
        print(f"error: {error}\n  see `python -m devcluster logs`", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was being started has been stopped", file=sys.stderr)
        return INTERRUPTED
