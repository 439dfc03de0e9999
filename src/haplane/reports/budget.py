"""A budget as JSON: the same shape wherever one is shown."""

from __future__ import annotations

import math

from haplane.design.budget import Budget
from haplane.model.cluster import Value


def budget_as_json(budget: Budget) -> Value:
    """Times in seconds; null where they have no bound."""
    return {
        "fault": budget.fault,
        "sentence": budget.sentence,
        "affects": budget.affects,
        "typical_s": _seconds(budget.typical_s),
        "worst_s": _seconds(budget.worst_s),
        "links": [
            {
                "name": link.name,
                "typical_s": _seconds(link.typical_s),
                "worst_s": _seconds(link.worst_s),
                "because": link.because,
                "formula": link.formula or None,
                "setting": link.setting or None,
            }
            for link in budget.links
        ],
    }


def _seconds(seconds: float) -> Value:
    """JSON has no infinity."""
    return None if math.isinf(seconds) else round(seconds, 6)
