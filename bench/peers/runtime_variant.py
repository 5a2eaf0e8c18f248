"""The runtime without some of its parts, to show what they cost: `python -m bench.peers.runtime_variant serve`.

BENCH_WITHOUT names them: `log` (of requests), `metrics`, or both with a comma.
"""

import logging
import os
import sys
from typing import Self

from chatbot_runtime import metrics
from chatbot_runtime.__main__ import main


class Nothing:
    """Takes the place of every counter, gauge and histogram."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def labels(self, *_: object) -> Self:
        """Itself."""
        return self

    def inc(self, *_: object) -> None:
        """Counts nothing."""

    set = observe = set_function = inc


if __name__ == "__main__":
    without = os.environ["BENCH_WITHOUT"].split(",")
    if "metrics" in without:
        for kind in ("Counter", "Gauge", "Histogram"):
            setattr(metrics, kind, Nothing)
    if "log" in without:
        logging.getLogger("chatbot_runtime.request").setLevel(logging.WARNING)
    sys.exit(main())
