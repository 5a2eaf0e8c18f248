#!/usr/bin/env bash
# release.sh TAG REGISTRY: publishes the images of a tag, then the chart that names them by digest.
set -euo pipefail
tag=$1 registry=${2,,}

# Before anything is published: the chart must state this version already.
make --silent .venv/.installed
version=$(.venv/bin/python -m charts.release "$tag")

make images REGISTRY="$registry" TAG="$version" PLATFORMS=linux/amd64,linux/arm64 PUSH=1 PIN=1
.venv/bin/python -m charts.release "$tag" --registry "$registry" --push "oci://$registry/charts" \
  ${OUTPUT:+--output "$OUTPUT"} ${CHART:+--chart "$CHART"} ${PLAIN_HTTP:+--plain-http}
