"""How the engine's container starts its engine: by a shell that starts it again after its end. Pure. It must not know
which engine.

Kubernetes counts a native sidecar in its pod's readiness: if the container ended with its engine, the runtime beside it
could not answer by the fallback rule for as long as the kubelet's back-off takes. Before the first answer the engine's
end is its container's, whose last words and exit code say why; and so it is when the kernel killed it for memory.
"""

from collections.abc import Sequence

ANSWERED = "answered"
"""File that the runtime makes in the engine's home once the engine has answered."""
MAX_PAUSE_SECONDS = 30
STEADY_SECONDS = 60
"""An engine that lived as long is started again at once."""

_SCRIPT = f"""
PATH=$PATH:/app
pause=0
trap 'kill -TERM $engine 2>/dev/null; wait $engine; exit $?' TERM INT
while true; do
  started=$(date +%s)
  "$0" "$@" & engine=$!
  wait $engine; status=$?
  [ -e "$HOME/{ANSWERED}" ] || exit $status
  grep -qs '^oom_kill [1-9]' /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control && exit $status
  [ $(($(date +%s) - started)) -lt {STEADY_SECONDS} ] || pause=0
  echo "$0 ended with status $status; it is started again in $pause s" >&2
  sleep $pause & wait $!
  pause=$((pause * 2 + 1))
  [ $pause -le {MAX_PAUSE_SECONDS} ] || pause={MAX_PAUSE_SECONDS}
done
"""


def command(program: str) -> Sequence[str]:
    """Of a container whose arguments are those of `program`, which is on PATH or in /app."""
    return ["/bin/sh", "-c", _SCRIPT, program]
