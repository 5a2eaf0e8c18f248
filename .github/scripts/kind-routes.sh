#!/usr/bin/env bash
# kind-routes.sh NAME: lets this machine reach the Services and pods of a kind cluster by their own addresses.
set -euo pipefail
node=$(docker inspect --format '{{.NetworkSettings.Networks.kind.IPAddress}}' "$1-control-plane")
if [ -z "$node" ]; then
  echo "the node $1-control-plane has no address in the network 'kind'" >&2
  exit 1
fi
# kind's own defaults for Services and pods.
for range in 10.96.0.0/16 10.244.0.0/16; do
  sudo ip route replace "$range" via "$node"
done
