"""The report: one self-contained HTML page with the numbers, the plots and the pictures behind them.

`write_report(path, ReportData(...))` writes a file that opens without a network. The data classes
are plain: they know nothing of stores or datasets, so anything that has average precisions and ranked lists
can fill them.
Needs the extra `[report]` (jinja2, pillow).
"""

from ilias_fast.report.data import (
    GroupScore,
    MatchedPair,
    MethodResult,
    QueryResult,
    Ranked,
    Ranking,
    ReportData,
    ReportOptions,
)
from ilias_fast.report.figures import Curve, Heat, LinePlot
from ilias_fast.report.render import write_report

__all__ = [
    "Curve",
    "GroupScore",
    "Heat",
    "LinePlot",
    "MatchedPair",
    "MethodResult",
    "QueryResult",
    "Ranked",
    "Ranking",
    "ReportData",
    "ReportOptions",
    "write_report",
]
