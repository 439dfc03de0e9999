"""Whether the prober keeps to its schedule: `python bench/prober.py`. No machine is needed.

It opens 500 new TLS connections a second to a bare TLS server, open loop, on one core; the server has another. How late
each request is begun is the prober's own error: what a drill measures cannot be known better.

Target: all of them asked and served, and 99 of 100 begun within 5 ms of when they were due.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from measuring import row, table

from haplane.drills.checkers import measure
from haplane.probes import prober
from haplane.probes.history import parse
from haplane.probes.packing import packed

RATE, DURATION_S, REPEAT = 500.0, 20.0, 3
TARGET_MS = 5
SERVER = Path(__file__).with_name("bare_tls.py")


@dataclass(frozen=True)
class Asked:
    """One run. Late: between when a request was due and when it was begun."""

    served: int
    late_p99_ms: float
    late_worst_ms: float
    answered_p50_ms: float
    answered_p99_ms: float
    cpu_share: float


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A server's key and certificate in one file, and the certificate that a client trusts: the same one."""
    key, certificate, both = folder / "server.key", folder / "server.crt", folder / "server.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=kubernetes"
    names = ("-addext", "subjectAltName=DNS:kubernetes")
    files = ("-keyout", str(key), "-out", str(certificate))
    subprocess.run(["openssl", *request.split(), *names, *files], capture_output=True, check=True)
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    return both, certificate


@contextmanager
def serving(pem: Path, core: int) -> Iterator[int]:
    """A server in a process of its own, on this core; its port."""
    with subprocess.Popen([sys.executable, SERVER, pem], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            os.sched_setaffinity(process.pid, {core})
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def ask(port: int, authority: Path, core: int, *, duration_s: float) -> Asked:
    """As it runs on a client machine, but for where."""
    config = prober.Config(
        address="127.0.0.1",
        port=port,
        server_hostname="kubernetes",
        ca_file=str(authority),
        rate=RATE,
        persistent_rate=0.0,
        duration_s=duration_s,
    )
    program = authority.with_name("prober.pyz")
    program.write_bytes(packed())
    process = subprocess.Popen(
        [sys.executable, "-I", program, config.to_json()], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    os.sched_setaffinity(process.pid, {core})
    assert process.stdout is not None
    lines = process.stdout.read().decode().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"the prober ended with {process.returncode}")
    outage = measure(parse(lines))
    assert outage.begun_late is not None and outage.before.p50_s is not None and outage.before.p99_s is not None
    return Asked(
        served=outage.total - outage.not_served,
        late_p99_ms=outage.begun_late.p99_s * 1000,
        late_worst_ms=outage.begun_late.worst_s * 1000,
        answered_p50_ms=outage.before.p50_s * 1000,
        answered_p99_ms=outage.before.p99_s * 1000,
        cpu_share=(usage.ru_utime + usage.ru_stime) / duration_s,
    )


def main(duration_s: float = DURATION_S, repeat: int = REPEAT) -> None:
    cores = sorted(os.sched_getaffinity(0))
    table(f"The prober, {RATE:.0f} new TLS connections a second for {duration_s:g} s on one core")
    with tempfile.TemporaryDirectory(prefix="haplane-bench-") as folder:
        pem, authority = make_certificate(Path(folder))
        with serving(pem, cores[-1]) as port:
            runs = [ask(port, authority, cores[0], duration_s=duration_s) for _ in range(repeat)]
    row(f"served, of {RATE * duration_s:.0f}", [run.served for run in runs], "requests", 0)
    row("begun late, p99", [run.late_p99_ms for run in runs], "ms")
    row("begun late, at worst", [run.late_worst_ms for run in runs], "ms", 1)
    row("answered, p50", [run.answered_p50_ms for run in runs], "ms")
    row("answered, p99", [run.answered_p99_ms for run in runs], "ms")
    row("of its core used, its start included", [100 * run.cpu_share for run in runs], "%", 0)
    print(f"\nTarget: all served, and p99 of how late they were begun below {TARGET_MS} ms.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="whether the prober keeps to its schedule")
    parser.add_argument("--seconds", type=float, default=DURATION_S)
    parser.add_argument("--repeat", type=int, default=REPEAT)
    given = parser.parse_args()
    main(given.seconds, given.repeat)
