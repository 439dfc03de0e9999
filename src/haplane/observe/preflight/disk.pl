# As etcd writes its log: small writes into room taken beforehand, each followed by fdatasync.
# Arguments: folder (the nearest one above it that exists is taken), samples, seconds at most.
use IO::Handle;
my ($folder, $samples, $seconds) = @ARGV;
$folder =~ s{/[^/]*$}{} until $folder eq "" || -d $folder;
my $path = "$folder/.haplane-disk.$$";
$SIG{$_} = sub { exit 1 } for qw(TERM INT HUP PIPE);
open(my $file, ">", $path) or say_failed("all", "cannot write into $folder/: $!");
END { unlink $path if $file }
my $SIZE = 2300;
syscall($calls->{fallocate}, fileno($file), 0, 0, $SIZE * $samples);    # best effort: not every file system can
my ($load, @ms) = ("h" x $SIZE);
my $end = now() + $seconds;
while (@ms < $samples && now() < $end) {
    my $begun = now();
    syswrite($file, $load) == $SIZE or say_failed("all", "write in $folder/: $!");
    syscall($calls->{fdatasync}, fileno($file)) == 0 or say_failed("all", "fdatasync in $folder/: $!");
    push @ms, (now() - $begun) * 1000;
}
@ms = sort { $a <=> $b } @ms;
# The smallest that at least 99 of 100 do not exceed.
say_line("disk", "$folder/", scalar @ms, $ms[POSIX::ceil(0.99 * @ms) - 1], $ms[-1]);
