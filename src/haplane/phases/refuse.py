"""Why an apply does not even begin: hazards in the file or on the machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from haplane.design.design import Design
from haplane.design.hazards import Finding, lint, stops
from haplane.model.errors import ExitCode, HaplaneError
from haplane.model.progress import Progress
from haplane.transport.ssh import Remote


class Hazardous(HaplaneError):
    """Hazards of severity error that nobody accepted; nothing was touched."""

    exit_code = ExitCode.FINDING

    def __init__(self, findings: Sequence[Finding], where: str) -> None:
        super().__init__(
            f"{len(findings)} hazard{'' if len(findings) == 1 else 's'} {where}: nothing was changed",
            why="\n".join(str(finding) for finding in findings),
            hint="mend it; or, if you know better, accept one in the file with your reason: accept: {ID: REASON}",
        )


def refuse_hazards(design: Design) -> None:
    """Raises Hazardous with all that lint found and nobody accepted."""
    if found := stops(lint(design)):
        raise Hazardous(found, "in the file")


async def refuse_unfit_machines(design: Design, remotes: Mapping[str, Remote], progress: Progress) -> None:
    """The quick part of preflight. Raises Hazardous with all that it found and nobody accepted."""
    from haplane.observe.preflight import preflight  # a plan without changes does not need it

    report = await preflight(design, remotes, slow=False, progress=progress)
    if found := stops(report.findings):
        raise Hazardous(found, "on the machines")
