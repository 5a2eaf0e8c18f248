"""`python -m charts.generate [--check]`: writes every generated file of the chart and the page on metrics."""

import sys

from charts.generate import alerts, dashboard, page, readme
from charts.generate.catalogue import catalogue
from chatbot_operator.api import generated

if __name__ == "__main__":
    metrics = catalogue()
    files = {
        "charts/chatbot-operator/files/alerts.yaml": alerts.rules_text(metrics),
        "charts/chatbot-operator/files/dashboard.json": dashboard.text(metrics),
        "charts/chatbot-operator/README.md": readme.text(),
        "docs/reference/metrics.md": page.text(metrics),
    }
    sys.exit(generated.main("charts.generate", files))
