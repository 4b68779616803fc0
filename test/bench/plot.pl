#!/usr/bin/perl
# Draws the bench's table as an SVG: each figure as a share of what it has to reach.
use strict;
use warnings;

my @bars;
while (<STDIN>)
{
	chomp;
	my ($name, $value, $least) = /^(.{62})\s+(\S+)\s+(?:<\s*)?([\d.]+)/ or next;
	next if $value !~ /^-?[\d.]+$/;
	$name =~ s/\s+$//;
	my $below = /^.{62}\s+\S+\s+</;
	# Longer is better; the line is what has to be reached.
	my $share = $below ? ($value > 0 ? $least / $value : 10) : $value / $least;
	push @bars, [ $name, $value, ($below ? '< ' : '') . $least, $share > 3 ? 3 : $share ];
}
my ($left, $unit, $step) = (430, 150, 28);
my $height = $step * @bars + 60;
printf qq{<svg xmlns="http://www.w3.org/2000/svg" width="1000" height="%d" font-family="sans-serif" font-size="13">\n},
	$height;
print qq{<rect width="100%" height="100%" fill="white"/>\n};
my $title = 'sms_gateway: measured, as a multiple of what has to be reached (longer is better)';
print qq{<text x="10" y="24" font-size="16">$title</text>\n};
my $y = 45;
for my $bar (@bars)
{
	my ($name, $value, $least, $share) = @$bar;
	s/&/&amp;/g, s/</&lt;/g for $name, $least;
	printf qq{<text x="10" y="%d">%s</text>\n}, $y + 14, $name;
	printf qq{<rect x="%d" y="%d" width="%.0f" height="18" fill="%s"/>\n}, $left, $y, $share * $unit,
		$share >= 1 ? '#3a7d44' : '#b3392f';
	printf qq{<text x="%.0f" y="%d">%s (%s)</text>\n}, $left + $share * $unit + 6, $y + 14, $value, $least;
	$y += $step;
}
printf qq{<line x1="%d" y1="38" x2="%d" y2="%d" stroke="black" stroke-dasharray="4 3"/>\n</svg>\n},
	$left + $unit, $left + $unit, $y;
