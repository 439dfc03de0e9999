# What happens on this machine, a line per event, until standard input ends. Each line that comes there is answered
# with the clock. Tab-separated; times are seconds of the monotonic clock (what a journal entry has is microseconds):
#
#   start T               from now on nothing is missed
#   vip FROM T WHAT 1|0   an address is here, or not; it changed after FROM, and was seen at T
#   etcd FROM T LEADER HAS_LEADER CHANGES    the member's gauges, "-" while it does not answer
#   journal JSON          an entry of the units that may matter
#   ready T               the state at the beginning has been said
#   reading T TOKEN       the answer to the line TOKEN
#   failed WHAT WHY
#
# Arguments, tab-separated: vip ADDRESS WHAT | unit NAME | etcd ADDRESS PORT.
use Socket qw(:all);
use IO::Handle;

my %given;
push @{$given{$_->[0]}}, $_ for map { [split /\t/, $_, -1] } @ARGV;
sub all_of { return @{$given{$_[0]} || []} }

# How long an address may have changed unseen by a program that is not held up.
my $LOOK_S = 0.02;
my $POLL_S = 0.5;
# An etcd that takes longer does not answer.
my $ANSWER_S = 2;

$| = 1;
sub stamp { return sprintf("%.6f", $_[0]) }

my $started = now();
# Nothing had changed yet when it was looked last.
my $looked = $started;
say_line("start", stamp($started));

# ---- which addresses are here: rtnetlink(7) ----

my ($NEWADDR, $DELADDR, $GETADDR, $ERROR, $DONE) = (20, 21, 22, 2, 3);
my ($IFA_ADDRESS, $IFA_LOCAL) = (1, 2);
my %what = map { (inet_pton($_->[1] =~ /:/ ? AF_INET6 : AF_INET, $_->[1]) => $_->[2]) } all_of("vip");
# Each: the interfaces that have it. %listed: while all are being listed, those that were named until now.
my (%here, %listed, %told);
my $listing = 0;
my $netlink = %what ? open_netlink() : undef;

sub open_netlink {
    my ($AF_NETLINK, $NETLINK_ROUTE) = (16, 0);
    my $changes_of_addresses = 0x10 | 0x100;    # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
    socket(my $socket, $AF_NETLINK, SOCK_RAW, $NETLINK_ROUTE) or return say_failed("vip", "netlink: $!");
    bind($socket, pack("SSLL", $AF_NETLINK, 0, 0, $changes_of_addresses)) or return say_failed("vip", "netlink: $!");
    list_addresses($socket);
    return $socket;
}

# Asked for after changes are being heard, so that nothing falls in between.
sub list_addresses {
    my ($socket) = @_;
    ($listing, %listed) = (1);
    my $REQUEST_DUMP = 0x1 | 0x300;
    send($socket, pack("LSSLLCCCCL", 24, $GETADDR, $REQUEST_DUMP, 1, (0) x 6), 0) or say_failed("vip", "netlink: $!");
}

sub hear_netlink {
    my ($now) = @_;
    if (defined recv($netlink, my $packet, 65536, MSG_DONTWAIT)) { note_changes($packet) }
    # Some changes were lost: what they came to is asked for.
    elsif ($!{ENOBUFS}) { list_addresses($netlink) }
    return if $listing;
    for my $address (sort keys %what) {
        my $is_here = $here{$address} && %{$here{$address}} ? 1 : 0;
        next if defined $told{$address} and $told{$address} == $is_here;
        say_line("vip", stamp($looked), stamp($now), $what{$address}, $is_here);
        $told{$address} = $is_here;
    }
}

sub note_changes {
    my ($packet) = @_;
    while (length($packet) >= 16) {
        my ($length, $type) = unpack("LS", $packet);
        last if $length < 16 or $length > length($packet);
        my $body = substr($packet, 16, $length - 16);
        note_address($type == $NEWADDR, $body) if $type == $NEWADDR or $type == $DELADDR;
        ($listing, %here) = (0, %listed) if $type == $DONE;
        if ($type == $ERROR and my $number = -unpack("l", $body)) {
            $! = $number;
            say_failed("vip", "netlink: $!");
        }
        substr($packet, 0, ($length + 3) & ~3) = "";
    }
}

sub note_address {
    my ($is_new, $body) = @_;
    my $interface = unpack("x4L", $body);
    my ($attributes, %value) = substr($body, 8);
    while (length($attributes) >= 4) {
        my ($length, $type) = unpack("SS", $attributes);
        last if $length < 4 or $length > length($attributes);
        $value{$type} = substr($attributes, 4, $length - 4);
        substr($attributes, 0, ($length + 3) & ~3) = "";
    }
    my $address = $value{$IFA_LOCAL} // $value{$IFA_ADDRESS} // return;
    return unless $what{$address};
    for my $known ($listing ? (\%listed, \%here) : \%here) {
        if ($is_new) { $known->{$address}{$interface} = 1 }
        else         { delete $known->{$address}{$interface} }
    }
}

# ---- what daemons say ----

my ($journal, $reader, $said) = (undef, 0, "");
if (my @units = all_of("unit")) {
    # Also what is said before it reads: nothing falls in between.
    my @command = (qw(journalctl --quiet --follow --no-tail --output=json), "--since=@" . (time() - 1),
        "--output-fields=MESSAGE,SYSLOG_IDENTIFIER,UNIT", map { "--unit=$_->[1]" } @units);
    $reader = open($journal, "-|") // say_failed("journal", "fork: $!");
    if (!$reader) {
        my ($PR_SET_PDEATHSIG, $SIGTERM) = (1, 15);
        syscall($calls->{prctl}, $PR_SET_PDEATHSIG, $SIGTERM, 0, 0, 0);
        open(STDIN, "<", "/dev/null");
        { no warnings; exec @command }
        POSIX::_exit(127);
    }
}

sub hear_journal {
    if (!sysread($journal, $said, 65536, length($said))) {
        close($journal);
        ($journal, $reader) = (undef, 0);
        return say_failed("journal", "journalctl has ended");
    }
    while ($said =~ s/^(.*)\n//) {
        my $entry = $1;
        say_line("journal", $entry) if $entry =~ / STATE\b|\bServer |"Started |"Stopped|Main process exited/i;
    }
}

# ---- etcd: its metrics, asked for gently ----

my @GAUGES = qw(etcd_server_is_leader etcd_server_has_leader etcd_server_leader_changes_seen_total);
my ($address, $port) = @{$given{etcd} || []} ? @{$given{etcd}[0]}[1, 2] : ("", 0);
my ($etcd, $asked, $answer, $is_connected);
# When the state that was told was still so; when to ask next.
my ($state, $state_at, $next) = ("", $started, $started);

sub ask_etcd {
    my ($now) = @_;
    ($asked, $answer, $is_connected, $next) = ($now, "", 0, $now + $POLL_S);
    socket($etcd, $address =~ /:/ ? AF_INET6 : AF_INET, SOCK_STREAM, 0) or return end_etcd("");
    $etcd->blocking(0);
    my $there = $address =~ /:/
        ? pack_sockaddr_in6($port, inet_pton(AF_INET6, $address))
        : pack_sockaddr_in($port, inet_aton($address));
    connect($etcd, $there) or $!{EINPROGRESS} or end_etcd("");
}

sub begin_etcd {
    $is_connected = 1;
    # HTTP/1.0: the answer ends with the connection.
    defined send($etcd, "GET /metrics HTTP/1.0\r\n\r\n", MSG_NOSIGNAL) or end_etcd("");
}

sub hear_etcd {
    my $length = sysread($etcd, $answer, 65536, length($answer));
    return if !defined $length and $!{EAGAIN};
    my @values = map { $answer =~ /^$_ (\S+)\n/m ? $1 : () } @GAUGES;
    end_etcd(join("\t", @values)) if @values == @GAUGES or !$length;
}

sub end_etcd {
    my ($found) = @_;
    $found = join("\t", ("-") x @GAUGES) unless $found =~ /\t.*\t/;
    close($etcd) if $etcd;
    $etcd = undef;
    say_line("etcd", stamp($state_at), stamp(now()), $found) if $found ne $state;
    ($state, $state_at) = ($found, $asked);
}

# ---- until standard input ends ----

my ($ready, $typed) = (0, "");

sub hear_input {
    my ($now) = @_;
    sysread(STDIN, $typed, 4096, length($typed)) or exit 0;
    while ($typed =~ s/^(.*)\n//) { say_line("reading", stamp($now), substr($1, 0, 64)) }
}

END { kill TERM => $reader if $reader }
$SIG{$_} = sub { exit 0 } for qw(TERM INT HUP);

while (1) {
    my ($read, $write) = ("", "");
    for my $ear (\*STDIN, $netlink, $journal, $is_connected ? $etcd : undef) {
        vec($read, fileno($ear), 1) = 1 if $ear;
    }
    vec($write, fileno($etcd), 1) = 1 if $etcd and !$is_connected;
    my $before = now();
    my $count = select($read, $write, undef, $LOOK_S);
    my $now = now();
    next if $count < 0;
    if ($netlink and vec($read, fileno($netlink), 1)) { hear_netlink($now) }
    # It has looked when it began to wait; when nothing came, also when it ended.
    else { $looked = $count ? $before : $before + $LOOK_S }
    hear_input($now) if vec($read, fileno(STDIN), 1);
    hear_journal() if $journal and vec($read, fileno($journal), 1);
    if ($etcd) {
        if ($is_connected) { hear_etcd() if vec($read, fileno($etcd), 1) }
        elsif (vec($write, fileno($etcd), 1)) { begin_etcd() }
        end_etcd("") if $etcd and $now > $asked + $ANSWER_S;
    }
    elsif ($port and $now >= $next) { ask_etcd($now) }
    if (!$ready and !$listing and ($state or !$port)) {
        say_line("ready", stamp($now));
        $ready = 1;
    }
}
