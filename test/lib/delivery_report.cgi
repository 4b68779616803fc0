#!/usr/bin/perl
# A small adapter between a web server and sms_delivery_report(), where there is no PostgREST: takes a provider's
# callback, GET with query parameters or POST with JSON, at …/delivery_report.cgi/GATEWAY.  libpq's environment
# variables (PGHOST, PGUSER, …) say where the database is; the role needs EXECUTE on that one function.
use strict;
use warnings;
use IPC::Open2;
use JSON::PP;

sub answer { my ($status, $text) = @_; print "Status: $status\r\nContent-Type: application/json\r\n\r\n$text\n"; exit; }
sub unescape
{
	my ($text) = @_;
	$text =~ tr/+/ /;
	$text =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
	utf8::decode($text);
	return $text;
}

my ($gateway) = ($ENV{PATH_INFO} // '') =~ m{^/([\w-]+)$} or answer('404 Not Found', '{"error":"no gateway"}');
my %report = map { my ($name, $value) = map { unescape($_) } split(/=/, $_, 2); $name => $value // '' }
	split /&/, $ENV{QUERY_STRING} // '';
if ($ENV{REQUEST_METHOD} eq 'POST')
{
	my $length = $ENV{CONTENT_LENGTH} // 0;
	answer('413 Payload Too Large', '{"error":"too large"}') if $length > 65536;
	read STDIN, my $body, $length;
	my $json = eval { decode_json($body) };
	answer('400 Bad Request', '{"error":"no JSON object"}') if ref $json ne 'HASH';
	%report = (%report, %$json);
}
# psql quotes the values; nothing of the request is ever SQL.
my $pid = open2(my $out, my $in, 'psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-v', 'gateway=' . $gateway,
	'-v', 'report=' . JSON::PP->new->ascii->encode(\%report));
print $in "SELECT coalesce(sms_delivery_report(:'gateway', :'report')::text, 'null')\n";
close $in;
my $id = <$out>;
waitpid $pid, 0;
answer($? == 0 ? '200 OK' : '403 Forbidden', $? == 0 ? "{\"id\":" . ($id =~ s/\s+$//r) . "}" : '{"error":"refused"}');
