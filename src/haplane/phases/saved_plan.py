"""A plan in a file, to be reviewed and then applied exactly, or refused if anything it was made from has changed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from haplane.model.errors import HaplaneError, UsageError
from haplane.phases.change import Step
from haplane.phases.context import Context

VERSION = 1


@dataclass(frozen=True)
class Plan:
    """What an apply would do. fingerprint: of everything it was made from: the design, and each machine as it was."""

    steps: tuple[Step, ...]
    fingerprint: str


def fingerprint(context: Context) -> str:
    """The same as long as neither the files of the design nor anything read from the machines changes."""
    made_from = {
        name: {
            "machine": asdict(facts),
            "design": {one.name: str(one.loaded) for one in context.design.components(name).values()},
        }
        for name, facts in sorted(context.facts.items())
    }
    text = json.dumps(made_from, sort_keys=True, default=lambda value: sorted(value))
    return hashlib.sha256(text.encode()).hexdigest()


def written(plan: Plan, *, cluster: str) -> str:
    """The text of a plan file. cluster: its name."""
    return json.dumps({"version": VERSION, "cluster": cluster, **asdict(plan)}, indent=2) + "\n"


class _Step(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    machine: str
    phase: str
    sentence: str
    diff: str


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    version: int
    cluster: str
    steps: list[_Step]
    fingerprint: str


def read(text: str, *, file: str, cluster: str) -> Plan:
    """Raises UsageError when this is not a plan of this cluster."""
    try:
        found = _File.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"{file} is not a plan",
            where=file,
            why=f"{place}: {first['msg']}",
            hint="haplane plan --out FILE writes one",
        ) from None
    if found.version != VERSION:
        raise UsageError(
            f"{file} was written by another version of haplane",
            where=file,
            why=f"its format is {found.version}, and this haplane reads {VERSION}",
            hint="haplane plan --out writes it anew",
        )
    if found.cluster != cluster:
        raise UsageError(f"{file} is a plan for the cluster {found.cluster}, not for {cluster}", where=file)
    return Plan(tuple(Step(**step.model_dump()) for step in found.steps), found.fingerprint)


def refuse_unless_same(saved: Plan, now: Plan) -> None:
    """Raises HaplaneError, naming the first step that differs, when an apply would not do what the plan says."""
    if saved == now:
        return
    pairs = list(zip(saved.steps, now.steps, strict=False))
    different = next((pair for pair in pairs if pair[0] != pair[1]), None)
    if different:
        why = f"the plan: {_shown(different[0])}\nnow: {_shown(different[1])}"
    elif len(saved.steps) != len(now.steps):
        longer, which = (saved, "only in the plan") if len(saved.steps) > len(now.steps) else (now, "only now")
        why = f"{which}: {_shown(longer.steps[len(pairs)])}"
    else:
        why = "the steps are the same, but what they start from is not"
    raise HaplaneError(
        "the plan is out of date: nothing was changed",
        why=why,
        hint="the machines or the file changed since; haplane plan --out makes a new one",
    )


def _shown(step: Step) -> str:
    return f"{step.machine}: {step.sentence}{' (another difference in the file)' if step.diff else ''}"
