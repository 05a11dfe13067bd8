"""The report: one HTML file with pictures, an interactive viewer, values and provenance."""

from medsal.view.report.document import Interactive, report

__all__ = ["Interactive", "report"]
