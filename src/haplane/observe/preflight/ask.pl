# What one machine can find out alone: the round trip to the others by ICMP echo (else the time to connect to sshd),
# whether packets of full size pass, and whether somebody answers for an address.
#
# Arguments, tab-separated: interface NAME | peer ADDRESS SSH-PORT | free ADDRESS | count N.
use Socket qw(:all);
use IO::Handle;

my %given;
push @{$given{$_->[0]}}, $_ for map { [split /\t/, $_, -1] } @ARGV;
sub all_of { return @{$given{$_[0]} || []} }
my $interface = $given{interface} ? $given{interface}[0][1] : "";
my $count = $given{count}[0][1];

sub of_interface {
    open(my $file, "<", "/sys/class/net/$interface/$_[0]") or return "";
    chomp(my $line = <$file>);
    return $line;
}
my ($mtu, $index, $mac) = map { of_interface($_) } qw(mtu ifindex address);
$mtu = 65535 if $mtu > 65535;
$mac = pack("H12", $mac =~ s/://gr);

sub family { return $_[0] =~ /:/ ? AF_INET6 : AF_INET }
sub socket_address {
    my ($address, $port) = @_;
    my $packed = inet_pton(family($address), $address);
    return family($address) == AF_INET6 ? pack_sockaddr_in6($port, $packed) : pack_sockaddr_in($port, $packed);
}
sub readable {
    my ($socket, $seconds) = @_;
    my $bits = "";
    vec($bits, fileno($socket), 1) = 1;
    return $seconds > 0 && select($bits, undef, undef, $seconds) > 0;
}

# ---- round trips ----

my %echoing;
my $ID = $$ & 0xffff;
my $BEFORE_LOST_S = 0.5;

sub checksum {
    my ($packet) = @_;
    my $sum = 0;
    $sum += $_ for unpack("n*", length($packet) % 2 ? "$packet\0" : $packet);
    $sum = ($sum & 0xffff) + ($sum >> 16) while $sum >> 16;
    return ~$sum & 0xffff;
}

sub echo_request {
    my ($v6, $number, $padding) = @_;
    my @fields = ($v6 ? 128 : 8, 0, 0, $ID, $number);
    my $load = "\0" x $padding;
    # For ICMPv6 the kernel does it (RFC 3542 3.1).
    $fields[2] = checksum(pack("CCnnn", @fields) . $load) unless $v6;
    return pack("CCnnn", @fields) . $load;
}

# The number of an echo reply of ours, if the packet is one.
sub reply_number {
    my ($v6, $packet) = @_;
    $packet = substr($packet, (ord($packet) & 15) * 4) unless $v6;
    my ($type, undef, undef, $id, $number) = unpack("CCnnn", $packet);
    return defined $number && $type == ($v6 ? 129 : 0) && $id == $ID ? $number : undef;
}

sub echoes {
    my ($v6, @peers) = @_;
    socket(my $socket, $v6 ? AF_INET6 : AF_INET, SOCK_RAW, $v6 ? 58 : 1)
        or return say_failed("echo", "a raw socket: $!");
    my (@sent, @who, %times);
    my $collect = sub {
        my ($until) = @_;
        while (readable($socket, $until - now())) {
            recv($socket, my $packet, 65536, 0);
            my $number = reply_number($v6, $packet);
            next unless defined $number && $sent[$number];
            push @{$times{$who[$number]}}, now() - $sent[$number];
            $sent[$number] = 0;
        }
    };
    for my $round (1 .. $count) {
        for my $peer (@peers) {
            push @who, $peer;
            push @sent, now();
            send($socket, echo_request($v6, $#sent, 48), 0, socket_address($peer, 0));
        }
        $collect->(now() + 0.02);
    }
    $collect->(now() + $BEFORE_LOST_S);
    for my $peer (@peers) {
        my @ms = sort { $a <=> $b } map { $_ * 1000 } @{$times{$peer} || []};
        my $sum = 0;
        $sum += $_ for @ms;
        say_line("trip", $peer, "echo", $count, scalar @ms, @ms ? ($sum / @ms, $ms[-1]) : (0, 0));
    }
    my @answering = grep { $times{$_} } @peers;
    full_size($socket, $v6, $_) for @answering;
    @echoing{@answering} = (1) x @answering;
    return;
}

# With IP_PMTUDISC_PROBE (3) a packet may not be cut, and what was learnt of the path before is not looked at.
sub full_size {
    my ($socket, $v6, $peer) = @_;
    setsockopt($socket, $v6 ? IPPROTO_IPV6 : IPPROTO_IP, $v6 ? 23 : IP_MTU_DISCOVER, 3);
    for my $try (1 .. 3) {
        my $number = 60000 + $try;
        send($socket, echo_request($v6, $number, $mtu - ($v6 ? 48 : 28)), 0, socket_address($peer, 0)) or next;
        my $until = now() + 0.3;
        while (readable($socket, $until - now())) {
            my $from = recv($socket, my $packet, 65536, 0);
            my $answered = $v6 ? (unpack_sockaddr_in6($from))[1] : (unpack_sockaddr_in($from))[1];
            next unless inet_ntop($v6 ? AF_INET6 : AF_INET, $answered) eq $peer;
            return say_line("full", $peer, $mtu, "yes") if (reply_number($v6, $packet) // -1) == $number;
        }
    }
    return say_line("full", $peer, $mtu, "no");
}

sub connects {
    my ($peer, $port) = @_;
    my ($sum, $worst, $done) = (0, 0, 0);
    for (1 .. 5) {
        socket(my $socket, family($peer), SOCK_STREAM, 0) or last;
        $socket->blocking(0);
        my $begun = now();
        connect($socket, socket_address($peer, $port)) or $!{EINPROGRESS} or next;
        my $bits = "";
        vec($bits, fileno($socket), 1) = 1;
        # A second is enough: the next one would not be answered either.
        select(undef, $bits, undef, 1) > 0 or last;
        next if unpack("i", getsockopt($socket, SOL_SOCKET, SO_ERROR));
        my $ms = (now() - $begun) * 1000;
        ($sum, $done) = ($sum + $ms, $done + 1);
        $worst = $ms if $ms > $worst;
    }
    say_line("trip", $peer, "connect", 5, $done, $done ? $sum / $done : 0, $worst);
    return;
}

my @peers = all_of("peer");
for my $v6 (0, 1) {
    my @some = grep { (family($_) == AF_INET6) == $v6 } map { $_->[1] } @peers;
    echoes($v6, @some) if @some;
}
connects($_->[1], $_->[2]) for grep { !$echoing{$_->[1]} } @peers;

# ---- does somebody answer for an address? ----

# ARP with an empty sender address (RFC 5227 2.1.1): no neighbour remembers who asked.
sub arp_probe {
    my ($address) = @_;
    my $protocol = unpack("S", pack("n", 0x0806));
    socket(my $socket, 17, SOCK_DGRAM, $protocol) or return say_failed("probe", "a packet socket: $!");
    my $here = sub { pack("SniSCCa8", 17, 0x0806, $index, 1, 0, 6, $_[0]) };
    bind($socket, $here->("")) or return say_failed("probe", "bind to $interface: $!");
    my $wanted = inet_aton($address);
    my $question = pack("nnCCna6a4a6a4", 1, 0x0800, 6, 4, 1, $mac, "\0" x 4, "", $wanted);
    my %found;
    for (1 .. 3) {
        defined send($socket, $question, 0, $here->("\xff" x 6)) or return say_failed("probe", "ARP: $!");
        my $until = now() + 0.35;
        while (readable($socket, $until - now())) {
            recv($socket, my $packet, 2048, 0);
            next if length($packet) < 28;
            my ($sender, $owner) = unpack("x8a6a4", $packet);
            $found{$sender} = 1 if $owner eq $wanted && $sender ne $mac;
        }
    }
    return probed($address, %found);
}

# Neighbour solicitation (RFC 4861 4.3) to the group of all who could have the address.
sub neighbour_probe {
    my ($address) = @_;
    socket(my $socket, AF_INET6, SOCK_RAW, 58) or return say_failed("probe", "a raw socket: $!");
    setsockopt($socket, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 255);
    setsockopt($socket, IPPROTO_IPV6, IPV6_MULTICAST_IF, pack("i", $index));
    my $wanted = inet_pton(AF_INET6, $address);
    my $group = inet_pton(AF_INET6, "ff02::1:ff00:0");
    substr($group, 13, 3) = substr($wanted, 13, 3);
    my $question = pack("CCnNa16CCa6", 135, 0, 0, 0, $wanted, 1, 1, $mac);
    my %found;
    for (1 .. 3) {
        defined send($socket, $question, 0, pack_sockaddr_in6(0, $group, $index))
            or return say_failed("probe", "neighbour solicitation: $!");
        my $until = now() + 0.35;
        while (readable($socket, $until - now())) {
            recv($socket, my $packet, 2048, 0);
            next unless length($packet) >= 24 && ord($packet) == 136 && substr($packet, 8, 16) eq $wanted;
            my ($option, $length, $sender) = unpack("CCa6", substr($packet, 24));
            $found{defined $sender && $option == 2 ? $sender : "\0" x 6} = 1;
        }
    }
    return probed($address, %found);
}

sub probed {
    my ($address, %found) = @_;
    say_line("probed", $address);
    say_line("answer", $address, join(":", unpack("(H2)6", $_))) for sort keys %found;
    return;
}

for my $address (map { $_->[1] } all_of("free")) {
    family($address) == AF_INET6 ? neighbour_probe($address) : arp_probe($address);
}
