#!/usr/bin/env bash
# cluster-report.sh: what there is to read after a failure. Never a Secret.
set -uo pipefail
eval "$(.venv/bin/python -m devcluster env)"
kubectl get chatbots,pods,events --all-namespaces --output wide
kubectl logs --namespace chatbot-system deployment/chatbot-operator --tail=200
