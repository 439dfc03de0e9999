"""What is read from machines before a change, and what it means.

`host`, `installed`, `meeting`, `asking`, `timing`: one command each and a pure parser. `keepalived_file`, `firewall`:
what files and rules mean. `*_checks`: pure judges. `report`: all of them together. `run`: the only module that touches
a machine.
"""

from haplane.observe.preflight.check import Check, Outcome, Result
from haplane.observe.preflight.report import CHECKS, Report, judge, measured_facts
from haplane.observe.preflight.run import preflight

__all__ = ["CHECKS", "Check", "Outcome", "Report", "Result", "judge", "measured_facts", "preflight"]
