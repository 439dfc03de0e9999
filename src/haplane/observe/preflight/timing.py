"""What takes a while: how quick the disk under etcd is, and for how long a machine can be made to wait."""

from __future__ import annotations

from haplane.components.etcd import DATA
from haplane.observe.preflight import perl
from haplane.observe.preflight.probe import Disk, Stall

SAMPLES = 200
DISK_S = 5
STALL_S = 60.0


def disk_command(folder: str = DATA) -> str:
    """Where the folder is not there yet, the one above it is measured."""
    return perl.command("disk", ((folder,), (SAMPLES,), (DISK_S,)))


def parse_disk(output: str) -> Disk:
    """Raises perl.CouldNot."""
    for fields in perl.records(output):
        if fields[0] == "disk":
            return Disk(fields[1], int(fields[2]), float(fields[3]), float(fields[4]))
    raise perl.CouldNot("the measurement printed nothing")


def stall_command(seconds: float = STALL_S) -> str:
    return perl.command("stall", ((seconds,),))


def parse_stall(output: str) -> Stall:
    """Raises perl.CouldNot."""
    for fields in perl.records(output):
        if fields[0] == "stall":
            return Stall(float(fields[1]), float(fields[2]))
    raise perl.CouldNot("the measurement printed nothing")
