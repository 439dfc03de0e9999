# How much longer than asked does a sleep of 10 ms take, at worst? Argument: seconds.
my $end = now() + $ARGV[0];
my ($longest, $last) = (0, now());
while ($last < $end) {
    select(undef, undef, undef, 0.01);
    my $woken = now();
    $longest = $woken - $last - 0.01 if $woken - $last - 0.01 > $longest;
    $last = $woken;
}
say_line("stall", $longest * 1000, $ARGV[0]);
