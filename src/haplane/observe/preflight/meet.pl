# All machines run this at the same moment. Each listens on its ports and for VRRP, connects to the others' ports and
# sends them a VRRP packet that every VRRP router ignores, and a datagram that every VXLAN ignores.
#
# Arguments, tab-separated: interface NAME | self ADDRESS | peer ADDRESS | group ADDRESS | listen ADDRESS PORT |
# connect ADDRESS PORT | again ADDRESS PORT TIMES | datagrams OWN PORT | datagram ADDRESS PORT | seconds N.
# Prints `ready` when it listens, and begins when it reads a line. again: so many connections, each of which counts, as
# what is in front of it may send each elsewhere.
use Socket qw(:all);
use IO::Handle;

my %given;
push @{$given{$_->[0]}}, $_ for map { [split /\t/, $_, -1] } @ARGV;
sub all_of { return @{$given{$_[0]} || []} }
my $seconds = $given{seconds}[0][1];
my $interface = $given{interface} ? $given{interface}[0][1] : "";

# Type 15 and router 0 are nobody's (RFC 9568 5.2.2, 5.2.3): keepalived drops it before it looks any further.
my $MARK = pack("CCCCnn", 0x3f, 0, 0, 0, 0, 0) . "haplane";
my $VRRP = 112;

sub family { return $_[0] =~ /:/ ? AF_INET6 : AF_INET }
sub socket_address {
    my ($address, $port) = @_;
    my $packed = inet_pton(family($address), $address);
    return family($address) == AF_INET6 ? pack_sockaddr_in6($port, $packed) : pack_sockaddr_in($port, $packed);
}
# A group of an IPv6 link is in the scope of an interface.
my $index = 0;
if (open(my $file, "<", "/sys/class/net/$interface/ifindex")) { $index = <$file> + 0; close($file) }

$| = 1;

# ---- listen ----

# A listener that never accepts: the kernel answers all the same, and no connection is left behind on the port.
my @listeners;
for my $one (all_of("listen")) {
    my (undef, $address, $port) = @$one;
    socket(my $listener, family($address), SOCK_STREAM, 0) or next;
    setsockopt($listener, SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind($listener, socket_address($address, $port)) && listen($listener, 256)) { push @listeners, $listener }
    else { say_failed("listen $port", "$!") unless $!{EADDRINUSE} }
}

my (@ears, %mouth, %me);
for my $own (map { $_->[1] } all_of("self")) {
    $me{$own} = 1;
    my $v6 = family($own) == AF_INET6;
    if (!socket(my $ear, family($own), SOCK_RAW, $VRRP) or !socket(my $send, family($own), SOCK_RAW, $VRRP)) {
        say_failed("vrrp", "a raw socket: $!");
    }
    else {
        push @ears, [$ear, $v6];
        $mouth{$v6} = $send;
        bind($send, socket_address($own, 0)) or say_failed("vrrp", "bind to $own: $!");
        my $packed = inet_pton(family($own), $own);
        if ($v6) {
            setsockopt($send, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 255);
            setsockopt($send, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 255);
            setsockopt($send, IPPROTO_IPV6, IPV6_MULTICAST_IF, pack("i", $index));
            setsockopt($ear, IPPROTO_IPV6, IPV6_JOIN_GROUP, pack_ipv6_mreq(inet_pton(AF_INET6, "ff02::12"), $index))
                or say_failed("group", "join ff02::12: $!");
        }
        else {
            setsockopt($send, IPPROTO_IP, IP_TTL, 255);
            setsockopt($send, IPPROTO_IP, IP_MULTICAST_TTL, 255);
            setsockopt($send, IPPROTO_IP, IP_MULTICAST_IF, $packed);
            setsockopt($ear, IPPROTO_IP, IP_ADD_MEMBERSHIP, pack_ip_mreq(inet_aton("224.0.0.18"), $packed))
                or say_failed("group", "join 224.0.0.18: $!");
        }
    }
}

my $SO_RCVBUFFORCE = 33;  # asm-generic/socket.h

# Raw, so that it gets its copy where the kernel's VXLAN has the port, too; as that one, only of what firewalls let in.
# Without the flag for a network's number (RFC 7348, 5) VXLAN drops it.
my $WRAPPED = "\0" x 8 . "haplane";
my (@catchers, %courier);
for my $one (all_of("datagrams")) {
    my (undef, $own, $port) = @$one;
    my $v6 = family($own) == AF_INET6;
    if (!socket(my $ear, family($own), SOCK_RAW, IPPROTO_UDP) or !socket(my $send, family($own), SOCK_DGRAM, 0)) {
        say_failed("datagrams", "a raw socket: $!");
    }
    elsif (!bind($ear, socket_address($own, 0)) or !bind($send, socket_address($own, 0))) {
        say_failed("datagrams", "bind to $own: $!");
    }
    else {
        # All UDP of the machine comes here, too: a name server's, a video's. Past the machine's limit only root may go.
        for my $option ($SO_RCVBUFFORCE, SO_RCVBUF) { last if setsockopt($ear, SOL_SOCKET, $option, 4 << 20) }
        push @catchers, [$ear, $v6, $port];
        $courier{$v6} = $send;
    }
}

# ---- together ----

print "ready\n";
my $input = "";
vec($input, fileno(STDIN), 1) = 1;
select($input, undef, undef, 30) or say_failed("all", "the other machines were not ready within 30 s");
defined(scalar <STDIN>) or exit 0;

my $end = now() + $seconds;
my (%heard, %sent, %refusal, %trying, %state, %caught, %carried, %lost);
my @wanted = map { [$_->[1], $_->[2]] } all_of("connect");
my $next_packets = my $next_connects = 0;
my (@again, %outcome);
for my $one (all_of("again")) {
    push @again, ([$one->[1], $one->[2]]) x $one->[3];
    $outcome{"$one->[1] $one->[2]"} = {};
}
my %counting;
my ($next_again, $apart) = (now(), $seconds / 2 / (1 + @again));

while ((my $left = $end - now()) > 0) {
    if (now() >= $next_packets) {
        $next_packets = now() + 0.25;
        # Not in the last half second: what is sent late may arrive late.
        if ($left > 0.5) {
            send_mark($_->[1], $_->[0] eq "group" ? "m" : "u") for all_of("peer"), all_of("group");
            send_datagram($_->[1], $_->[2]) for all_of("datagram");
        }
    }
    if (now() >= $next_connects) {
        # A refusal may come from a machine that has only just begun to listen.
        $next_connects = now() + 0.5;
        begin_connect(@$_) for grep { !$trying{"@$_"} && ($state{"@$_"} || "") ne "open" } @wanted;
    }
    # All within the first half, so that each has as long again for its answer.
    while (@again && now() >= $next_again) {
        $next_again += $apart;
        begin_again(@{shift @again});
    }
    my ($read, $write) = ("", "");
    vec($read, fileno($_->[0]), 1) = 1 for @ears, @catchers;
    vec($write, fileno($_), 1) = 1 for values %trying, map { $_->[0] } values %counting;
    next if select($read, $write, undef, 0.05) <= 0;
    for my $ear (@ears) { hear(@$ear) if vec($read, fileno($ear->[0]), 1) }
    for my $ear (@catchers) { catch(@$ear) if vec($read, fileno($ear->[0]), 1) }
    for my $key (keys %trying) { end_connect($key) if vec($write, fileno($trying{$key}), 1) }
    for my $key (keys %counting) { end_again($key) if vec($write, fileno($counting{$key}[0]), 1) }
}
say_line("heard", split(/ /, $_)) for sort keys %heard;
say_line("sent", $_) for sort keys %sent;
say_line("refused", $_, $refusal{$_}) for sort keys %refusal;
say_line("connect", @$_, $state{"@$_"} || "silent") for @wanted;
say_line("caught", split(/ /, $_)) for sort keys %caught;
say_line("carried", split(/ /, $_)) for sort keys %carried;
say_line("failed", "datagram to $_", $lost{$_}) for sort keys %lost;
$outcome{$_->[1]}{silent}++ for values %counting;
for my $place (sort keys %outcome) {
    say_line("again", split(/ /, $place), map { $outcome{$place}{$_} || 0 } qw(open refused silent));
}
say_line("listened", $seconds) if @ears;

sub send_mark {
    my ($address, $cast) = @_;
    my $socket = $mouth{family($address) == AF_INET6} or return;
    my $to = $cast eq "m" && $address =~ /:/
        ? pack_sockaddr_in6(0, inet_pton(AF_INET6, $address), $index) : socket_address($address, 0);
    if (defined send($socket, $MARK . $cast, 0, $to)) { $sent{$address} = 1 }
    else { $refusal{$address} = "$!" }
}

sub hear {
    my ($socket, $v6) = @_;
    my $from = recv($socket, my $packet, 2048, 0);
    return unless defined $from;
    my ($source, $body);
    if ($v6) {
        $source = inet_ntop(AF_INET6, (unpack_sockaddr_in6($from))[1]);
        $body = $packet;
    }
    else {
        return if length($packet) < 20;
        $source = inet_ntop(AF_INET, substr($packet, 12, 4));
        $body = substr($packet, (ord($packet) & 15) * 4);
    }
    return if $me{$source} or length($body) < 8;
    my ($first, $router) = unpack("CC", $body);
    if (length($body) >= 16 && substr($body, 8, 7) eq "haplane") { $heard{"$source 0 " . substr($body, 15, 1)} = 1 }
    # Only adverts: type 1.
    elsif (($first & 15) == 1) { $heard{"$source $router -"} = 1 }
}

sub send_datagram {
    my ($address, $port) = @_;
    my $socket = $courier{family($address) == AF_INET6} or return;
    if (defined send($socket, $WRAPPED, 0, socket_address($address, $port))) { $carried{"$address $port"} = 1 }
    else { $lost{$address} = "$!" }
}

# All that is there, which may be much: what is left in the socket keeps others out.
sub catch {
    my ($socket, $v6, $port) = @_;
    my $until = now() + 0.05;
    while (now() < $until && defined(my $from = recv($socket, my $packet, 2048, MSG_DONTWAIT))) {
        next if length($packet) < ($v6 ? 8 : 20);
        my $body = $v6 ? $packet : substr($packet, (ord($packet) & 15) * 4);
        next if length($body) < 8 || (unpack("nn", $body))[1] != $port || substr($body, 8) ne $WRAPPED;
        my $source = $v6
            ? inet_ntop(AF_INET6, (unpack_sockaddr_in6($from))[1]) : inet_ntop(AF_INET, substr($packet, 12, 4));
        $caught{"$source $port"} = 1;
    }
}

sub begin_connect {
    my ($address, $port) = @_;
    my $key = "$address $port";
    socket(my $socket, family($address), SOCK_STREAM, 0) or return;
    $socket->blocking(0);
    if (connect($socket, socket_address($address, $port))) { $state{$key} = "open" }
    elsif ($!{EINPROGRESS}) { $trying{$key} = $socket }
    else { $state{$key} = "$!" }
}

sub begin_again {
    my ($address, $port) = @_;
    my $place = "$address $port";
    socket(my $socket, family($address), SOCK_STREAM, 0) or return;
    $socket->blocking(0);
    if (connect($socket, socket_address($address, $port))) { $outcome{$place}{open}++ }
    elsif ($!{EINPROGRESS}) { $counting{fileno($socket)} = [$socket, $place] }
    else { $outcome{$place}{refused}++ }
}

sub end_again {
    my ($key) = @_;
    my ($socket, $place) = @{delete $counting{$key}};
    $outcome{$place}{unpack("i", getsockopt($socket, SOL_SOCKET, SO_ERROR)) ? "refused" : "open"}++;
}

sub end_connect {
    my ($key) = @_;
    $! = unpack("i", getsockopt(delete $trying{$key}, SOL_SOCKET, SO_ERROR));
    $state{$key} = $! ? "$!" : "open";
}
