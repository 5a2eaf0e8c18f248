"""Renders docs/performance.md from what the benchmarks have kept in docs/performance/: `python -m bench.report`.

A benchmark NAME keeps NAME.json and NAME.svg there. Its part of the page is NAME.md, which begins with `## `.
It must not know what is measured.
"""

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

FOLDER = Path("docs/performance")
PAGE = Path("docs/performance.md")
INTRODUCTION = """# Performance

Made by `python -m bench.report` from what the benchmarks have kept in [performance/](performance/); do not edit.
Figures are ratios to a peer or a bare bound in the same run; each part ends with what its numbers do not say.
How to take them anew: [bench/README.md](../bench/README.md).
"""
Point = tuple[float, float]


def machine() -> str:
    """This machine in a few words."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = models[0].partition(":")[2].strip() if models else platform.machine()
    return f"{os.cpu_count()} cores ({model}), Linux, Python {platform.python_version()}"


def plot(name: str, axis: str, panels: Sequence[tuple[str, Mapping[str, Sequence[Point]]]], marker: str = "o") -> None:
    """Draw `name`.svg: a panel for each title, in it a line for each name. The same data gives the same file."""
    import matplotlib as mpl  # here: half a second, which only a report needs

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": name, "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(3.4 * len(panels), 2.8), layout="constrained", squeeze=False
    )
    for panel, (title, lines) in zip(axes[0], panels, strict=True):
        for label, points in lines.items():
            if points:
                panel.plot([x for x, _ in points], [y for _, y in points], marker=marker, label=label)
        panel.set_title(title)
        panel.set_xlabel(axis)
        panel.set_ylim(bottom=0)
        panel.set_xlim(left=0)
        panel.legend()
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
    pyplot.close(figure)


def main() -> int:
    """Writes the page; 2 if there is nothing to write."""
    for name in ("autoscaling", "local", "operator", "runtime", "web"):
        if (FOLDER / f"{name}.json").exists():
            (FOLDER / f"{name}.md").write_text(import_module(f"bench.{name}_report").section())
    parts = [path.read_text().strip() for path in sorted(FOLDER.glob("*.md"))]
    if not parts:
        print(f"error: {FOLDER} is empty; run a benchmark with --save first", file=sys.stderr)
        return 2
    PAGE.write_text("\n\n".join([INTRODUCTION.strip(), *parts]) + "\n")
    print(f"{PAGE}: {len(parts)} part(s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
