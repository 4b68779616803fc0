# A gateway that is hostile, or broken: every answer is a result, nothing hangs, nothing crashes, nothing grows.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use Compress::Zlib qw(memGzip);
use Encode ();
use IO::Compress::Gzip;
use IO::Socket::INET;
use PostgreSQL::Test::Utils;
use Test::More;
use POSIX ();
use Time::HiRes qw(sleep);
use Unicode::Normalize ();

# The head of an answer, and a whole answer with a body, which may have more headers.
sub head { my (@lines) = @_; return join '', map { "$_\r\n" } @lines, ''; }
sub http { my ($body, @more) = @_; return head('HTTP/1.1 200 OK', 'Content-Length: ' . length $body, @more) . $body; }

# 200 MB of nothing, in little.
sub gzip_bomb
{
	my $bomb;
	my $gzip = IO::Compress::Gzip->new(\$bomb);
	$gzip->print("\0" x 1048576) for 1 .. 200;
	$gzip->close;
	return $bomb;
}

my $accepted = '{"code": 200, "data": {"token": "t-1"}, "message": "OK", "referentId": "id-1"}';
my $slowly = sub { my ($piece) = @_; sleep 0.2; return $piece; };    # time itself: a server may take it

# What comes back, by the name in the URL; what has to be made of it, a pattern for status and result_code; and what
# comes after that, again and again.
my %answers = (
	# without an end
	endless => [ head('HTTP/1.1 200 OK'), qr/^uncertain\|too_large/, sub { 'x' x 65536 } ],
	endless_chunks => [ head('HTTP/1.1 200 OK', 'Transfer-Encoding: chunked'), qr/^uncertain\|too_large/,
		sub { "10000\r\n" . 'x' x 65536 . "\r\n" } ],
	endless_headers => [ "HTTP/1.1 200 OK\r\n", qr/^uncertain\|(too_large|broken)/,
		sub { 'X-Header: ' . 'x' x 1000 . "\r\n" } ],
	one_header => [ 'HTTP/1.1 200 OK', qr/^uncertain\|(too_large|broken|timeout)/, sub { 'x' x 10000 } ],
	drip => [ head('HTTP/1.1 200 OK', 'Content-Length: 1000'), qr/^uncertain\|timeout/, sub { $slowly->('x') } ],
	interim => [ '', qr/^uncertain\|(too_large|broken|timeout)/, sub { head('HTTP/1.1 100 Continue') } ],
	silent => [ '', qr/^uncertain\|timeout/, sub { $slowly->('') } ],

	# in other encodings than they say
	gzip_bomb => [ http(gzip_bomb(), 'Content-Encoding: gzip'), qr/^uncertain\|too_large/ ],
	gzip_broken => [ http('not gzip', 'Content-Encoding: gzip'), qr/^uncertain\|/ ],
	gzip_twice => [ http(memGzip(memGzip($accepted)), 'Content-Encoding: gzip, gzip'), qr/^(sent|uncertain)\|/ ],
	encoding_unknown => [ http($accepted, 'Content-Encoding: rot13'), qr/^(sent|uncertain)\|/ ],

	# with headers that nobody wants
	thousand_headers => [ http($accepted, map { "X-H$_: value" } 1 .. 1000), qr/^(sent|uncertain)\|/ ],
	cookies => [ http($accepted, ('Set-Cookie: a=b') x 500), qr/^sent\|/ ],

	# with characters that are none
	nul => [ http("{\"code\": 200, \"referentId\": \"a\\u0000b\", \"message\": \"\0\"}"), qr/^(sent|uncertain)\|/ ],
	nul_only => [ http("\0" x 100), qr/^uncertain\|/ ],
	not_utf8 => [ http("{\"code\": 400, \"message\": \"caf\xe9 \xff\xfe \xc0\x80\"}"), qr/^failed\|400/ ],
	surrogates => [ http('{"code": "x\ud800", "message": "\udfff \ud83d\ude00"}'), qr/^failed\|x/ ],
	utf16 => [ http(Encode::encode('UTF-16', $accepted)), qr/^uncertain\|/ ],

	# of another length than they say
	longer => [ head('HTTP/1.1 200 OK', 'Content-Length: 5000') . $accepted, qr/^uncertain\|broken/ ],
	shorter => [ head('HTTP/1.1 200 OK', 'Content-Length: 10') . $accepted, qr/^uncertain\|/ ],
	negative => [ head('HTTP/1.1 200 OK', 'Content-Length: -5') . $accepted, qr/^(sent|uncertain)\|/ ],
	enormous => [ head('HTTP/1.1 200 OK', 'Content-Length: 99999999999999999999') . $accepted,
		qr/^(sent|uncertain)\|/ ],
	chunk_size => [ head('HTTP/1.1 200 OK', 'Transfer-Encoding: chunked') . "FFFFFFFFFFFFFFFFF\r\n$accepted",
		qr/^uncertain\|broken/ ],
	closed => [ undef, qr/^uncertain\|broken/ ],
	closed_in_headers => [ "HTTP/1.1 200 OK\r\nContent-", qr/^uncertain\|/ ],
	two_answers => [ http($accepted) . http('{"code": 500}'), qr/^sent\|/ ],

	# in something like HTTP
	http_0_9 => [ $accepted, qr/^uncertain\|broken/ ],
	nonsense => [ "\x16\x03\x01\x02\x00\x01\x00" . 'x' x 100, qr/^uncertain\|/ ],
	status_999 => [ head('HTTP/1.1 999 What', 'Content-Length: 0'), qr/^uncertain\|999/ ],
	status_0 => [ head('HTTP/1.1 000 What', 'Content-Length: 0'), qr/^uncertain\|/ ],
	http_3_1 => [ head('HTTP/3.1 200 OK', 'Content-Length: 2') . '{}',
		qr/^(sent|uncertain)\|/ ],    # versions of libcurl differ
	redirect => [ head('HTTP/1.1 302 Found', 'Location: file:///etc/passwd', 'Content-Length: 0'), qr/^failed\|302/ ],
	redirect_loop => [ head('HTTP/1.1 301 Moved', 'Location: /redirect_loop', 'Content-Length: 0'),
		qr/^failed\|301/ ],
	retry_never => [ head('HTTP/1.1 429 Slow', 'Retry-After: 99999999999999', 'Content-Length: 0'),
		qr/^failed\|429/ ],
	retry_odd => [ head('HTTP/1.1 429 Slow', 'Retry-After: -1; yesterday', 'Content-Length: 0'), qr/^failed\|429/ ],

	# in JSON that says little
	brackets => [ http('[' x 1000000), qr/^uncertain\|200/ ],
	braces => [ http('{"a":' x 150000), qr/^uncertain\|200/ ],
	types => [ http('{"code": {"a": [1]}, "data": [], "referentId": {"x": 1e999}, '
				. '"token": 123456789012345678901234567890, "message": false}'), qr/^(sent|failed)\|/ ],
	numbers => [ http('{"code": 2e2, "referentId": -0.0, "data": {"token": 18446744073709551616}}'),
		qr/^(sent|failed)\|/ ],
	long_id => [ http('{"code": 200, "referentId": "' . 'i' x 500000 . '", "data": {"token": "' . 't' x 400000 . '"}}'),
		qr/^sent\|/ ],
	repeated_keys => [ http('{' . '"code": 500,' x 20000 . ' "code": 200}'), qr/^sent\|/ ],
);

# A server that answers so: one process a connection.
my $listener = IO::Socket::INET->new(Listen => 100, LocalAddr => '127.0.0.1', ReuseAddr => 1) or die "listen: $!";
my $url = 'http://127.0.0.1:' . $listener->sockport;
my $parent = $$;
defined(my $server = fork) or die "fork: $!";
if (!$server)
{
	setpgrp;
	$SIG{CHLD} = 'IGNORE';
	$SIG{PIPE} = 'DEFAULT';
	while (1)
	{
		my $socket = $listener->accept or next;
		exit 0 if getppid != $parent;
		next if fork;
		serve($socket);
		POSIX::_exit(0);
	}
}
$listener->close;
END { kill 'KILL', -$server if $server && $$ == $parent; }

sub serve
{
	my ($socket) = @_;
	my $request = '';
	alarm 20;
	while ($request !~ /\r\n\r\n/ || length($') < ($request =~ /Content-Length: (\d+)/i ? $1 : 0))
	{
		sysread($socket, $request, 65536, length $request) or return;
	}
	my ($case) = $request =~ m{^\w+ /(\w+)} or return;
	my ($answer, undef, $more) = @{ $answers{$case} };
	return if !defined $answer;
	my $written = 0;
	while ($written < length $answer)
	{
		$written += syswrite($socket, $answer, 65536, $written) // return;
	}
	while ($more)
	{
		my $piece = $more->();
		!length $piece || defined syswrite($socket, $piece) or return;
	}
	# The client may be reading yet: an end, not a reset.
	shutdown $socket, 1;
	sysread $socket, $request, 1;
	return;
}

my $simulator = simulator();
my $node = server('answers', settings => "max_worker_processes = 20\n");
my %locale = (UTF8 => 'C.UTF-8', LATIN1 => 'C', EUC_KR => 'C', SQL_ASCII => 'C', WIN1258 => 'C');
ask("CREATE DATABASE db_\L$_\E TEMPLATE template0 ENCODING '$_' LC_COLLATE '$locale{$_}' LC_CTYPE '$locale{$_}'")
	for sort keys %locale;

subtest 'one after the other in a session: an answer is a result, never an error; in every encoding' => sub {
	for my $encoding (sort keys %locale)
	{
		my $database = lc "db_$encoding";
		my @cases = $encoding eq 'UTF8' ? sort keys %answers : qw(not_utf8 surrogates nul utf16 types long_id);
		ask("CREATE EXTENSION sms_gateway;\n" . join('', map {
			"CREATE SERVER $_ FOREIGN DATA WRAPPER interits
				OPTIONS (base_url '$url/$_', sender 'X', timeout '2s', max_attempts '1');
			CREATE USER MAPPING FOR PUBLIC SERVER $_ OPTIONS (api_key 'demo');\n" } @cases), $database);
		for my $case (@cases)
		{
			my (undef, $out, $err) = $node->psql($database, "SET statement_timeout = '" . 10 * patience() . "s';
				SELECT status, result_code FROM sms_send('0901234567', 'x', '$case')");
			like($err ne '' ? $err : $out, $answers{$case}[1], "$encoding: $case");
		}
	}
};

subtest 'all at once through the worker: it survives, stays small, and another gateway does not notice' => sub {
	my $database = 'db_utf8';
	gateways($node, $simulator, database => $database);
	my $worker = worker_pid($node, $database);
	my $these = "gateway NOT IN ('shop', 'omni', 'cpaas')";
	# Under memcheck one of each is as much as can be asked within their 2 s.
	my $rounds = patience() > 1 ? 1 : 5;
	ask("INSERT INTO sms_outbox (gateway, phone, content)
		SELECT gateway, '0901234567', 'round ' || i
		FROM (SELECT srvname FROM pg_foreign_server) s(gateway), generate_series(1, $rounds) i WHERE $these",
		$database);
	becomes('SELECT sum(in_flight) > 0 FROM sms_gateways', 't', 'they are on their way', database => $database);
	cmp_ok(median_ms($node, 'shop', $database), '<', 100 * slowness(),
		'a good gateway goes on beside them (median, ms)');
	becomes("SELECT count(*) FROM sms_outbox
		WHERE status = 'queued' AND gateway NOT IN (SELECT name FROM sms_gateways WHERE state = 'paused')
			AND gateway NOT LIKE 'retry%'", 0, 'every message comes to an end', seconds => 60, database => $database);

	my @ends = split /\n/, ask("SELECT DISTINCT gateway || '|' || status || '|' || coalesce(result_code, '')
		FROM sms_outbox WHERE $these", $database);
	my @unexpected = grep {
		my ($case, $end) = split /\|/, $_, 2;
		# A connection that is used again may close under the request, and so many at once may take too long.
		$end !~ /^(queued|uncertain\|(timeout|broken))/ && $end !~ $answers{$case}[1];
	} @ends;
	is(join(', ', @unexpected), '', '… as it does in a session');
	is(worker_pid($node, $database), $worker, 'the worker is the same');
	slurp_file("/proc/$worker/status") =~ /VmHWM:\s+(\d+)/;
	cmp_ok($1, '<', memory(150) * 1024, 'and never had 150 MB');
	is(ask("SELECT count(*) FROM sms_outbox WHERE result_message ~ '[\\x01-\\x1f\\x7f]'", $database), 0,
		'no control characters on rows');
};

subtest 'texts and answers in every encoding, from and to UTF-8' => sub {
	my %words = (UTF8 => 'Đã giao đơn hàng', LATIN1 => 'déjà vu', EUC_KR => '안녕하세요', SQL_ASCII => 'Đã giao',
		WIN1258 => Encode::encode('UTF-8', "\x{110}a\x{303} giao"));    # it has marks, but few letters with them
	for my $encoding (sort keys %words)
	{
		my $database = lc "db_$encoding";
		gateways($node, $simulator, database => $database) if $encoding ne 'UTF8';
		forget($simulator);
		my $client = $encoding eq 'SQL_ASCII' ? '' : "SET client_encoding = 'UTF8';";
		ask("$client SELECT status FROM sms_send('0901234567', '$words{$encoding}', 'shop')", $database);
		my ($got) = requests($simulator);
		is($got->{content}, Unicode::Normalize::NFC(Encode::decode('UTF-8', $words{$encoding})),
			"$encoding: the text arrives as it was written, composed");
		fault($simulator, fault => 'body',
			text => '{"CodeResult": "99", "CountRegenerate": 0, "ErrorMessage": "lỗi café 안녕"}');
		my $message = ask("$client SELECT result_message FROM sms_send('0901234567', 'x', 'shop')", $database);
		like($message, qr/\S/, "$encoding: an answer with characters that it may lack: $message");
		no_faults($simulator);
	}
};

$node->stop;
done_testing();
