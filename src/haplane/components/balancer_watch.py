"""keepalived hears at once that the balancer has ended: a process that already runs waits for that, and writes a file.

The balancer's own unit says it, too, but systemd has to start a program for it first (ExecStopPost): 0.2 s and more on
a busy machine, and so long all new connections are refused. See docs/decisions/0031.

Only where clients are told that the VIP has moved. Else the ends of their connections must leave before the VIP does,
or they wait in the dark: the processes that hold them may end later than the one that is waited for.

keepalived's own track_process would do the same; it needs the kernel's process connector, which containers do not have.
"""

from __future__ import annotations

from haplane.components import waiting
from haplane.components.balancer import balancer_of
from haplane.components.base import COMES_FIRST, LIBEXEC, RUN, File, View
from haplane.components.templates import render
from haplane.model.cluster import Cluster

WATCH_FILE = f"{LIBEXEC}/watch-balancer"
UNIT_NAME = "haplane-balancer-watch.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT_NAME}"
# By the distribution's unit: of its master, which a reload keeps.
PID_FILE = "/run/haproxy.pid"

# In the Perl that every Debian and Ubuntu has (perl-base). Nobody else writes the file, so that no late word of an end
# can follow that of a beginning.
WATCH = r"""#!/usr/bin/perl
# Written by haplane. watch-balancer PID_FILE NAME FILE
#
# Writes 0 into FILE while the process NAME of PID_FILE runs, and 1 from the moment it ends. A reload keeps the process.
use strict;
use warnings;

my ($pid_file, $name, $file) = @ARGV;
# pidfd_open(2), the same number on all architectures.
my $PIDFD_OPEN = 434;
my $LOOK_EVERY_S = 0.1;

while (1) {
    my $process = running();
    say_gone(defined $process ? 0 : 1);
    if (defined $process) { ends($process, undef) }
    else { select(undef, undef, undef, $LOOK_EVERY_S) }
}

# The balancer's process, opened; undef when there is none.
sub running {
    open(my $pid, "<", $pid_file) or return undef;
    my ($number) = (<$pid> // "") =~ /^([0-9]+)/ or return undef;
    my $fd = syscall($PIDFD_OPEN, $number + 0, 0);
    if ($fd < 0) {
        return undef if $!{ESRCH} or $!{EINVAL};
        die "pidfd_open: $!\n";
    }
    open(my $process, "<&=", $fd) or die "fdopen: $!\n";
    # Only now: as long as it is open, nobody else can have its number.
    open(my $comm, "<", "/proc/$number/comm") or return undef;
    return undef if (<$comm> // "") ne "$name\n";
    return ends($process, 0) ? undef : $process;
}

# Waits until it has ended, or for so many seconds. Returns whether it has.
sub ends {
    my ($process, $wait_s) = @_;
    vec(my $bits = "", fileno($process), 1) = 1;
    return select($bits, undef, undef, $wait_s) > 0;
}

my $said;
sub say_gone {
    my ($gone) = @_;
    return if defined $said && $said == $gone;
    open(my $out, ">", $file) or die "$file: $!\n";
    print $out "$gone\n";
    close($out) or die "$file: $!\n";
    $said = $gone;
}
"""

# Without it the balancer's own unit and keepalived's questions are left.
UNIT = """\
# Written by haplane.
[Unit]
Description=Tell keepalived at once when {{ balancer.title }} has ended
PartOf=keepalived.service
Before=keepalived.service
StartLimitIntervalSec=0
[Service]
ExecStart={{ program }} {{ pid_file }} {{ balancer.name }} {{ balancer.gone_file }}
ExecStopPost=/bin/sh -c 'echo 0 > {{ balancer.gone_file }}'
RuntimeDirectory={{ folder }}
RuntimeDirectoryPreserve=yes
{{ comes_first }}
Restart=always
RestartSec=1
[Install]
WantedBy=keepalived.service
"""


def is_used(cluster: Cluster) -> bool:
    return waiting.is_used(cluster)


def files(view: View) -> tuple[File, ...]:
    if not is_used(view.cluster):
        return ()
    unit = render(
        UNIT,
        balancer=balancer_of(view.cluster),
        program=WATCH_FILE,
        pid_file=PID_FILE,
        folder=RUN.removeprefix("/run/"),
        comes_first=COMES_FIRST,
    )
    return (File(WATCH_FILE, WATCH, mode=0o755), File(UNIT_FILE, unit))


STOP = f"systemctl disable -q --now {UNIT_NAME} 2>/dev/null || true"


def commands(view: View) -> str:
    """Shell commands for when those files are there: the watch started anew or, where it is not used, stopped."""
    if not is_used(view.cluster):
        return STOP
    return f"systemctl enable -q {UNIT_NAME}\nsystemctl restart {UNIT_NAME}"
