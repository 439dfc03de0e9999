# Whatever this machine sends into the TUN device NAME comes back out of it MS later, and is then forwarded as it was.
# Of perl-base alone: it has no Time::HiRes. The number of clock_gettime(2) is Linux's, by architecture.
use strict;
use warnings;
use Fcntl;
use POSIX ();

my ($name, $ms) = @ARGV;
my $clock = {x86_64 => 228, aarch64 => 113}->{(POSIX::uname())[4]} or die "this architecture is not known\n";

sub now {
    my $time = "\0" x 16;
    syscall($clock, 1, $time) == 0 or die "clock_gettime: $!\n";
    my ($seconds, $nanoseconds) = unpack("qq", $time);
    return $seconds + $nanoseconds / 1e9;
}

# Forwarding takes one from the TTL (RFC 1812 5.3.1); so that nobody sees it, one is added (checksum by RFC 1624).
sub one_hop_more {
    my ($packet) = @_;
    return $packet unless ord($packet) >> 4 == 4 && ord(substr($packet, 8, 1)) < 255;
    my ($word, $before) = unpack("nn", substr($packet, 8, 4));
    my $checksum = (~$before & 0xffff) + 0x0100;
    $checksum = ($checksum & 0xffff) + ($checksum >> 16);
    substr($packet, 8, 2) = pack("n", $word + 0x0100);
    substr($packet, 10, 2) = pack("n", ~$checksum & 0xffff);
    return $packet;
}

sysopen(my $tun, "/dev/net/tun", O_RDWR | O_NONBLOCK) or die "/dev/net/tun: $!\n";
# TUNSETIFF; IFF_TUN | IFF_NO_PI (linux/if_tun.h)
ioctl($tun, 0x400454ca, pack("a16 s x22", $name, 0x1001)) or die "TUNSETIFF: $!\n";

my @waiting;
while (1) {
    my $bits = "";
    vec($bits, fileno($tun), 1) = 1;
    my $left = @waiting ? $waiting[0][0] - now() : undef;
    select($bits, undef, undef, defined $left && $left < 0 ? 0 : $left);
    while (sysread($tun, my $packet, 65536)) {
        push @waiting, [now() + $ms / 1000, $packet];
    }
    while (@waiting && $waiting[0][0] <= now()) {
        syswrite($tun, one_hop_more(shift(@waiting)->[1]));
    }
}
