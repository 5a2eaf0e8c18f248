"""Generates what of the chart follows from code: alert rules, dashboard, the table of values, the page on metrics."""
