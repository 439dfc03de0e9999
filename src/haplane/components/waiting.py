"""Nobody waits in the dark: the new holder of the VIP tells every client whose connection died with the old one.

A client that only waits sends nothing, so it does not notice that the VIP has moved. Each balancer therefore knows who
is connected through the others: HAProxy replicates a stick table of clients between them (`peers`). The new holder
sends each client a segment that fits no connection; the client's kernel answers with what it believes in (RFC 9293,
3.10.7.4), and the holder's kernel, which has no such connection, resets it. See docs/decisions/0010.

Sources: the HAProxy configuration manual (3.5 Peers, stick-table, tcp-request connection) and management guide (show
table, set table); keepalived.conf(5); tried with HAProxy 2.6.
"""

from __future__ import annotations

from collections.abc import Mapping

from haplane.components.base import COMES_FIRST, LIBEXEC, File, View, join_host_port
from haplane.components.settings import Setting, Settings
from haplane.components.templates import render
from haplane.model.cluster import Address, BalancerProgram, Cluster, EndpointOwner, Interface

PEERS_PORT = 10240
TELL_FILE = f"{LIBEXEC}/tell-clients"
KEEP_FILE = f"{LIBEXEC}/keep-clients"
SERVICE = "haplane-clients.service"
# For root on this machine only.
SOCKET = "/run/haproxy/admin.sock"
# HAProxy's master, which alone can ask processes that a reload has left behind. The distribution's unit opens it.
MASTER_SOCKET = "/run/haproxy-master.sock"

# Whoever has just closed is in the table for another `expire`, and who moves in has to read it: as short as can be.
# Whoever lives is touched every 10 s, so four touches would have to fail. len: [IPv6]:port has 45 characters.
# size: 262,144. Live ones: 3 balancers with 10,000 connections at most. That leaves 232,000 for connections that have
# ended; when it is full, those that would expire first go, and nobody who is touched every 10 s is among them unless
# 232,000 connections end in 10 s. An entry takes 216 bytes (2.6, x86_64), and only once it exists: at most 57 MB.
CLIENTS = """\

# Who is connected, known to every balancer.
peers balancers
{% for name, address in peers %}
  peer {{ name }} {{ address }}
{% endfor %}

backend clients
  stick-table type string len 48 size 256k expire 40s store conn_cur,gpc0 peers balancers
"""

SERVICE_UNIT = f"""\
# Written by haplane.
[Unit]
Description=Keep the other balancers' memory of the clients connected here
PartOf=haproxy.service
After=haproxy.service
StartLimitIntervalSec=0
[Service]
ExecStart={KEEP_FILE} {SOCKET} {MASTER_SOCKET}
{COMES_FIRST}
Restart=always
RestartSec=1
[Install]
WantedBy=haproxy.service
"""

# Both programs are in the Perl that every Debian and Ubuntu has (perl-base).
ASK = r"""
# Calls for each line that HAProxy answers to a command. Dies when there is no HAProxy.
sub ask {
    my ($path, $command, $each) = @_;
    socket(my $haproxy, AF_UNIX, SOCK_STREAM, 0) or die "a socket: $!\n";
    connect($haproxy, pack_sockaddr_un($path)) or die "HAProxy does not answer on $path: $!\n";
    syswrite($haproxy, "$command\n") or die "HAProxy does not listen on $path: $!\n";
    # Its master ends the conversation only when we do.
    shutdown($haproxy, 1);
    while (my $line = <$haproxy>) { $each->($line) }
}
"""

KEEP = (
    r"""#!/usr/bin/perl
# Written by haplane. keep-clients SOCKET MASTER_SOCKET
#
# Marks the entry of every connection that is open here as one that lasts (gpc0), and touches it every 10 s. HAProxy
# replicates that. By themselves entries of open connections stay where the connection is, but the replicas' expire.
use strict;
use warnings;
use Socket qw(:all);

my ($admin, $master) = @ARGV;
my $OPEN = "show table clients data.conn_cur gt 0";
my $OPEN_SINCE = "$OPEN data.gpc0 eq 0";
my $MARK_EVERY_S = 2;
# Of these rounds.
my $TOUCH_ALL_EVERY = 5;
# As many as fit into one of HAProxy's buffers (tune.bufsize, 16384): each takes up to 83 bytes.
my $AT_ONCE = 150;

for (my $round = 0; ; $round++) {
    # Whoever waits longer for HAProxy begins anew.
    alarm 15;
    touch($round % $TOUCH_ALL_EVERY ? those_that_are_new() : all());
    alarm 0;
    sleep $MARK_EVERY_S;
}

sub those_that_are_new { return listed($admin, $OPEN_SINCE) }

sub all {
    my @open = listed($admin, $OPEN);
    # Connections that are older than the last reload are known to older processes only.
    my @older;
    if (-S $master) {
        my $are_older = 0;
        ask($master, "show proc", sub {
            $are_older = $_[0] =~ /old workers/ if $_[0] =~ /^#/;
            push @older, $1 if $are_older && $_[0] =~ /^([0-9]+)\s+worker/;
        });
    }
    # One that ends right now has nothing to say.
    for my $process (@older) { eval { push @open, listed($master, "\@!$process $OPEN") } }
    return @open;
}

sub listed {
    my ($path, $command) = @_;
    my @found;
    ask($path, $command, sub { push @found, $1 if $_[0] =~ /\bkey=([0-9A-Fa-f.:]+:[0-9]+) / });
    return @found;
}

sub touch {
    my %once = map { $_ => 1 } @_;
    my @touches = map { "set table clients key $_ data.gpc0 1" } sort keys %once;
    while (my @some = splice(@touches, 0, $AT_ONCE)) {
        ask($admin, join(";", @some), sub { print STDERR "HAProxy says: $_[0]" if $_[0] =~ /\S/ });
    }
}
"""
    + ASK
)

TELL = (
    r"""#!/usr/bin/perl
# Written by haplane. tell-clients SOCKET VIP PORT WAIT_MS [leaving]
#
# Run by keepalived when this machine becomes MASTER: tells every client of VIP:PORT that HAProxy knows of that its
# connection is gone, unless it is here. Two at once do no harm: clients answer either, and nobody is told who lives.
# leaving: run when it is MASTER no more. Ends the connections that are here: their clients are reset (HAProxy listens
# with `transparent`, or the kernel could not send that from an address that is gone), nothing is left to answer for
# later ones of the same port, and this machine's own programs hear it, too. What of that was lost is told again.
use strict;
use warnings;
use Socket qw(:all);

my ($haproxy, $vip, $port, $wait_ms, $leaving) = @ARGV;
my $family = $vip =~ /:/ ? AF_INET6 : AF_INET;
my $source = inet_pton($family, $vip) or die "$vip is no address\n";

my $AT_MOST = 20_000;
my $PER_SECOND = 20_000;
# When the later rounds begin, in seconds after the first. A client answers one such segment per connection and half a
# second (Linux, tcp_invalid_ratelimit): the second round is for lost segments, the third for lost answers.
my @LATER = (0.25, 0.55);
# Connections that are older than keep-clients' round have been marked by it. What is not marked and was not touched for
# longer has ended: it is told once, last and slowly, for who has just come back needs the processors.
my $EXPIRE_S = 40;
my $MARKED_WITHIN_S = 5;
my $PER_SECOND_OF_ENDED = 2_000;

my ($told, $refused, $refusal) = (0, 0, "");
$SIG{ALRM} = sub { finish("15 s are over") };
alarm 15;

socket(my $raw, $family, SOCK_RAW, IPPROTO_TCP) or finish("a raw socket: $!");
# What comes back is the kernel's business.
setsockopt($raw, SOL_SOCKET, SO_RCVBUF, 1);
# IP_TRANSPARENT, IPV6_TRANSPARENT: what goes out in the VIP's name need not be from where it is.
my ($level, $transparent) = $family == AF_INET6 ? (41, 75) : (0, 19);
setsockopt($raw, $level, $transparent, 1) if $leaving;
bind($raw, to($source)) or finish("the VIP is not here: $!");

if ($leaving) {
    my @left = connected();
    exit 0 unless @left;
    $told = @left;
    # Who comes back before all have heard whose the VIP is now comes here.
    pause($wait_ms / 1000);
    # It may be MASTER again, and they others.
    ss("--kill", "connected") unless ip_is_here();
    my $first = now();
    tell_all(@left);
    tell_again($first, @left);
    finish("");
}

my $begun = started();
# What is left of connections from when the VIP was here a minute ago: to a client that uses their port again, the
# kernel would answer for them instead of resetting.
ss("--kill", qw(time-wait fin-wait-1 fin-wait-2 closing last-ack));
# First those that were open for long: they wait. What is listed besides has mostly ended, and takes long to read.
my @clients = clients("gt");
# The others must have heard whose the VIP is now, and the old holder must have let go of it.
pause(0.01) while now() < $begun + $wait_ms / 1000;
my $first = now();
tell_all(@clients);
# Those that were not there when keep-clients looked, and those that are there no more.
my (@recent, @ended);
my $since_ms = ($EXPIRE_S - $MARKED_WITHIN_S) * 1000;
push @{$_->[2] < $since_ms ? \@ended : \@recent}, $_ for clients("eq");
tell_all(@recent);
tell_again($first, @clients, @recent);
tell_all_at($PER_SECOND_OF_ENDED, @ended);
finish("");

# The lines of ss for what is connected to the VIP's port and in one of these states.
sub ss {
    my ($what, @states) = @_;
    my $states = join(" ", map { "state $_" } @states);
    # A listener of both IP versions sees IPv4 as IPv6.
    my $addresses = $family == AF_INET ? "src $vip or src [::ffff:$vip]" : "src [$vip]";
    # Whoever connects from the VIP's own machine comes from the VIP: without it that end hears nobody.
    my $ports = $what eq "--kill" ? "( sport = :$port or dport = :$port )" : "sport = :$port";
    return `ss $what --no-header --tcp --numeric $states "( $addresses ) and $ports" 2> /dev/null`;
}

sub connected {
    my @found;
    for (ss("", "established")) {
        my ($address, $its_port) = /\s\[?(?:::ffff:)?([0-9A-Fa-f.:]+?)\]?:([0-9]+)\s*$/ or next;
        my $packed = inet_pton($family, $address);
        push @found, [$packed, $its_port, 0] if defined $packed;
    }
    return @found;
}

sub ip_is_here {
    socket(my $other, $family, SOCK_RAW, IPPROTO_TCP) or return 0;
    return bind($other, to($source));
}

# Those of this VIP's IP version that are known, the last seen first: [address, port].
sub clients {
    my ($long_lived) = @_;
    my @found;
    my $note = sub {
        my ($address, $its_port, $expires) = $_[0] =~ /\bkey=([0-9A-Fa-f.:]+):([0-9]{1,5}) .*?\bexp=([0-9]+)/ or return;
        # As a listener of both IP versions sees IPv4.
        $address =~ s/^::ffff:(?=[0-9.]+$)//i;
        my $packed = inet_pton($family, $address);
        return if !defined $packed or $packed eq $source or $its_port < 1 or $its_port > 65535;
        push @found, [$packed, $its_port, $expires];
    };
    eval { ask($haproxy, "show table clients data.gpc0 $long_lived 0", $note); 1 } or finish($@);
    @found = sort { $b->[2] <=> $a->[2] } @found;
    my $room = $AT_MOST - $told;
    splice(@found, $room) if @found > $room;
    $told += @found;
    return @found;
}

sub tell_again {
    my ($first, @clients) = @_;
    for my $later (@LATER) {
        pause(0.01) while now() < $first + $later;
        tell_all(@clients);
    }
}

sub tell_all { tell_all_at($PER_SECOND, @_) }

# One segment for each, no faster than so many per second.
sub tell_all_at {
    my ($per_second, @clients) = @_;
    my $begun = now();
    my $sent = 0;
    for my $client (@clients) {
        pause(0.005) while $sent >= $per_second / 100 + (now() - $begun) * $per_second;
        my ($address, $its_port) = @$client;
        my $segment = segment($address, $its_port);
        next if send_once($segment, $address);
        # Full buffers: a moment later there is room.
        if ($!{ENOBUFS} or $!{EAGAIN} or $!{ENOMEM}) {
            pause(0.005);
            next if send_once($segment, $address);
        }
        ($refused, $refusal) = ($refused + 1, "$!");
    }
    continue { $sent++ }
}

sub send_once { return defined send($raw, $_[0], 0, to($_[1])) }

# A bare ACK (RFC 9293, 3.1) with numbers that fit no connection, or one in a thousand times, hence new ones each time.
sub segment {
    my ($address, $its_port) = @_;
    my $ACK = 0x10;
    my @fields = ($port, $its_port, int(rand(2**32)), int(rand(2**32)), 5 << 4, $ACK, 1024);
    my $tcp = pack("nnNNCCnnn", @fields, 0, 0);
    # The pseudo-headers of IPv4 and IPv6 (RFC 8200, 8.1) have the same sum: addresses, protocol, length.
    my $sum = unpack("%32n*", $source . $address . pack("nn", IPPROTO_TCP, length($tcp)) . $tcp);
    $sum = ($sum & 0xffff) + ($sum >> 16) while $sum >> 16;
    return pack("nnNNCCnnn", @fields, ~$sum & 0xffff, 0);
}

sub to { return $family == AF_INET6 ? pack_sockaddr_in6(0, $_[0]) : pack_sockaddr_in(0, $_[0]) }

sub pause { select(undef, undef, undef, $_[0]) }

# Seconds since boot, in hundredths.
sub now {
    open(my $file, "<", "/proc/uptime") or finish("/proc/uptime: $!");
    return (split / /, <$file>)[0];
}

# When this process was, on the same clock: it may have waited for a processor since (proc_pid_stat(5), in 1/100 s).
# Where lxcfs shows the container's uptime the two are different clocks, and this one is ahead: then it is now.
sub started {
    open(my $file, "<", "/proc/self/stat") or finish("/proc/self/stat: $!");
    my ($started, $now) = ((split / /, <$file> =~ s/.*\) //r)[19] / 100, now());
    return $started < $now ? $started : $now;
}

# keepalived throws away what its scripts print.
sub finish {
    my ($problem) = @_;
    chomp $problem;
    my $line = "told $told clients of $vip port $port that the VIP has moved";
    $line .= "; $refused segments could not be sent ($refusal)" if $refused;
    $line .= "; stopped: $problem" if $problem;
    exec("logger", "--stderr", "--tag", "haplane-tell-clients", "--socket-errors=off", $line);
}
"""
    + ASK
)


def is_used(cluster: Cluster) -> bool:
    """Whether there is anybody who could tell, and wants to."""
    moves = cluster.endpoint.by is EndpointOwner.KEEPALIVED and len(cluster.balancers) > 1
    knows = cluster.balanced_by is BalancerProgram.HAPROXY
    return moves and knows and cluster.failover.tell_clients


def _is_used_on(view: View) -> bool:
    """A worker's own balancer has no clients that could come to another one."""
    return is_used(view.cluster) and view.machine in view.cluster.balancers


def haproxy_settings(view: View) -> Settings:
    """What HAProxy needs besides in `global` and in the frontend of the endpoint."""
    if not _is_used_on(view):
        return {"global": {}, "frontend": {}}
    return {
        "global": {"localpeer": Setting(view.machine.name, "its name among the balancers")},
        "frontend": {
            "tcp-request connection set-var(sess.port)": Setting("src_port"),
            # Not only where `dst` is the VIP: on a port that was told here before, Linux says it is the client
            # (SO_ORIGINAL_DST; conntrack saw our segment to it first). To be told for nothing harms nobody.
            "tcp-request connection track-sc0": Setting(
                "src,concat(:,sess.port) table clients",
                "whoever holds the VIP next can tell these clients that it has moved",
            ),
        },
    }


def bind_option(view: View) -> str:
    """Of HAProxy's listener: what is sent on its connections, a reset above all, leaves also when the VIP has left."""
    return " transparent" if _is_used_on(view) else ""


def haproxy_sections(view: View) -> str:
    """What comes after the other sections of haproxy.cfg."""
    if not _is_used_on(view):
        return ""
    peers = [(one.name, join_host_port(one.address, PEERS_PORT)) for one in view.cluster.balancers]
    return render(CLIENTS, peers=peers)


def haproxy_files(view: View) -> tuple[File, ...]:
    """What keeps the replicas alive."""
    if not _is_used_on(view):
        return ()
    return (
        File(KEEP_FILE, KEEP, mode=0o755),
        File(f"/etc/systemd/system/{SERVICE}", SERVICE_UNIT),
    )


STOP = f"systemctl disable -q --now {SERVICE} 2>/dev/null || true"


def haproxy_commands(view: View) -> str:
    """Shell commands for when those files are there: begun anew or, if clients are not told, ended."""
    if _is_used_on(view):
        # Where HAProxy does not run yet, its unit starts both.
        again = f"if systemctl is-active -q haproxy; then systemctl restart {SERVICE}; fi"
        return f"systemctl enable -q {SERVICE}\n{again}"
    return STOP


def keepalived_settings(view: View, vip: Interface) -> Mapping[str, Setting]:
    """What a vrrp_instance needs besides."""
    if not is_used(view.cluster):
        return {}
    call = _tell(view, vip.ip, view.timers.advert_ms)
    leaving = Setting(f'"{call} leaving" root', "those that are connected here learn that the VIP has left")
    return {
        "notify_master": Setting(f'"{call}" root', "idle clients learn that their connection died with the old holder"),
        "notify_backup": leaving,
        "notify_fault": leaving,
    }


def keepalived_stopped(view: View) -> tuple[str, ...]:
    """Shell commands for when keepalived has ended, and the VIP is gone: until then nobody else told its clients."""
    if not is_used(view.cluster):
        return ()
    # Killed, it has said nothing: the next holder waits for three adverts and its skew.
    taken_ms = 4 * view.timers.advert_ms
    return tuple(_tell(view, vip.ip, taken_ms) + " leaving" for vip in view.cluster.endpoint.vips)


def _tell(view: View, vip: Address, wait_ms: int) -> str:
    return f"{TELL_FILE} {SOCKET} {vip} {view.cluster.endpoint.port} {wait_ms}"


def keepalived_files(view: View) -> tuple[File, ...]:
    return (File(TELL_FILE, TELL, mode=0o755),) if is_used(view.cluster) else ()
