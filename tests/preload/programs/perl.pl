# Work of many kinds with a result that is always the same.
use strict;
use warnings;
use Digest::MD5 qw(md5_hex);

sub work {
    my ($seed) = @_;
    my (%words, @lists, $text);
    for my $i (1 .. 60000) {
        my $word = 'w' . ($i * $seed % 9973);
        $words{$word} .= "$i,";
        push @{$lists[$i % 300]}, "x" x ($i % 200);
        $text .= $word if $i % 7 == 0;
    }
    $text =~ s/(\d)(\d)/$2-$1/g;
    my @sorted = sort { length($words{$a}) <=> length($words{$b}) || $a cmp $b } keys %words;
    my @parts = map { join '', @$_ } @lists;
    delete @words{@sorted[0 .. 3000]};
    return md5_hex($text, join(',', @sorted), @parts, map { "$_=$words{$_}" } sort keys %words);
}

my @children;
for my $seed (1 .. 3) {
    my $pid = open(my $out, '-|') // die "fork: $!";
    if (!$pid) {
        print work($seed), "\n";
        exit 0;
    }
    push @children, $out;
}
print work($_), "\n" for 1 .. 3;
for my $out (@children) { print while <$out>; }
