# Sending now: what goes over the wire, and how a session waits for it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use IPC::Run ();
use JSON::PP;
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = simulator();
my $node = server('send');
gateways($node, $simulator, shop => "timeout '2s'");

# What a plain text through shop comes to; $columns of its result.
sub send_now
{
	my ($columns) = @_;
	return ask("SELECT $columns FROM sms_send('0901234567', 'x', 'shop')");
}

subtest 'every call returns its result' => sub {
	my $text = "FROM sms_send('0901234567', 'Xin chào', 'shop', 'r-1')";
	is(ask("SELECT status, result_code, http_status, smsid <> '' $text"), 'sent|100|200|t', 'eSMS accepts a text');
	is(ask("SELECT status, result_code, smsid $text"), 'uncertain|124|',
		'a repeated request_id is not sent twice, and nothing is known of this one');
	is(ask("SELECT status FROM sms_send('0901234567', '字', 'shop', options => jsonb_build_object(
			'sms_type', 8, 'sandbox', true, 'campaign_id', 'tet', 'callback_url', 'https://example.com/cb',
			'send_date', timestamptz '2030-01-01 00:00:00+00'))"), 'sent', 'a fixed-number message');
	is(ask("SELECT status FROM sms_send_otp('0901234567', 'Mã {OTP} & 100%', 'shop', '3 minutes', 8, false)"),
		'sent', 'a one-time password');
	my $code = HTTP::Tiny->new->get("$simulator->{url}/simulator/otp?phone=84901234567")->{content};
	is(length $code, 8, 'it has the length that was asked for');
	is(ask("SELECT sms_check_otp('0901234567', 'wrong', 'shop')"), 'f', 'a wrong code');
	is(ask("SELECT sms_check_otp('0901234567', '$code', 'shop')"), 't', 'the right code');
	is(ask("SELECT sms_check_otp('0901234567', '$code', 'shop')"), 'f', 'the right code again is used up');
	is(ask("SELECT status, result_code, left(id_omni_mess, 6), length(id_omni_mess)
			FROM sms_omni_send('0901234567', 'TPL',
				'{\"n\": 123456789012345678901234567890, \"t\": \"é\"}', '{3}', 'omni')"),
		'sent|1|ICOMNI|36', 'an omni message');
	is(ask("SELECT status, result_code, referent_id <> ''
			FROM sms_send_bulk('{0901234567,0907654321}', 'hi', 'cpaas',
				options => '{\"scheduled\": \"2030-01-01T07:00:00+07:00\", \"ext\": {\"a\": [1, 2]}, \"type\": 2}')"),
		'sent|200|t', 'a bulk message');
};

subtest 'every field that can be set is on the wire' => sub {
	my @got = requests($simulator);
	is(stats($simulator)->{requests}, 9, 'one request for each call');
	is_deeply({ %{ $got[0]{body} } },
		{ ApiKey => 'demo', SecretKey => 'demo', Phone => '84901234567', Content => "Xin ch\x{e0}o", SmsType => '2',
			Brandname => 'MYSHOP', IsUnicode => '1', RequestId => $got[0]{body}{RequestId} }, 'the body of a text');
	like($got[0]{body}{RequestId}, qr/^sgw-\w{24}-0$/, 'a request_id is made of whose it is, too');
	is($got[0]{path}, '/MainService.svc/json/SendMultipleMessage_V4_post_json/', 'its path');
	delete $got[2]{body}{RequestId};
	is_deeply({ %{ $got[2]{body} } },
		{ ApiKey => 'demo', SecretKey => 'demo', Phone => '84901234567', Content => "\x{5b57}", SmsType => '8',
			IsUnicode => '1', Unicode => '1', Sandbox => '1', campaignid => 'tet',
			CallbackUrl => 'https://example.com/cb', SendDate => '2030-01-01 07:00:00' },
		'a fixed-number text has no brandname; SendDate is Vietnam time');
	is_deeply({ %{ $got[3]{body} } },
		{ ApiKey => 'demo', SecretKey => 'demo', Phone => '84901234567', Brandname => 'MYSHOP', Type => '2',
			TimeAlive => '3', NumCharOfCode => '8', IsNumber => '0', message => "M\x{e3} {OTP} & 100%" },
		'the query of a one-time password');
	is_deeply($got[7]{body}{routerule}, ['3'], 'the routing rule');
	is_deeply($got[8]{body}{destinations}, [ '84901234567', '84907654321' ], 'the receivers of a bulk message');
	is($got[8]{body}{scheduled}, '2030-01-01T00:00:00.000Z', 'its time is UTC with milliseconds');
	is_deeply($got[8]{body}{ext}, { a => [ 1, 2 ] }, 'its ext');
	is($got[8]{body}{useUnicode}, 0, 'useUnicode is a number');
};

subtest "credentials: the role's own mapping wins over PUBLIC's" => sub {
	ask("CREATE USER MAPPING FOR CURRENT_USER SERVER shop OPTIONS (api_key 'demo', secret_key 'wrong')");
	is(send_now('status, result_code, result_message'), 'failed|101|Authorize Failed', 'bad credentials are a result');
	is(ask("SELECT 1 FROM sms_send('0901234567', 'x', 'shop');
			ALTER USER MAPPING FOR CURRENT_USER SERVER shop OPTIONS (SET secret_key 'demo');
			SELECT status FROM sms_send('0901234567', 'x', 'shop')"),
		"1\nsent", 'a changed mapping counts at once');
	ask("DROP USER MAPPING FOR CURRENT_USER SERVER shop");
};

subtest 'decomposed letters, as macOS makes them, are sent composed: in texts, templates and options' => sub {
	forget($simulator);
	is(ask("SELECT status FROM sms_send('0901234567', normalize('Cảm ơn quý khách', NFD), 'shop')"),
		'sent', 'a decomposed text');
	is(ask("SELECT status FROM sms_omni_send('0901234567', normalize('Mẫu', NFD),
			jsonb_build_object(normalize('tên', NFD), normalize('Thắng', NFD)), gateway => 'omni')"),
		'sent', 'a decomposed template');
	is(ask("SELECT status FROM sms_omni_send('0901234567', 'TPL', '[\"x\"]', '{1,3}', 'shop',
			options => jsonb_build_object('oaid', '1', 'sms_content', normalize('đã gửi', NFD)))"),
		'sent', 'a decomposed option');
	my @got = requests($simulator);
	is($got[0]{body}{Content}, "C\x{1ea3}m \x{1a1}n qu\x{fd} kh\x{e1}ch", '… composed on the wire');
	is_deeply([ $got[1]{body}{templatecode}, $got[1]{body}{list_param} ],
		[ "M\x{1eab}u", { "t\x{ea}n" => "Th\x{1eaf}ng" } ], '… with the names of its parameters');
	like(encode_json($got[2]{body}), qr/\xc4\x91\xc3\xa3 g\xe1\xbb\xadi/, '… and options');
};

subtest 'text made to be slow can be canceled' => sub {
	my $error;
	my $seconds = took(sub {
		$error = error_of("SET statement_timeout = '300ms'; SELECT sms_parts(repeat(U&'\\0301\\0323', 1000000))");
	});
	like($error, qr/statement timeout/, 'statement_timeout ends it');
	cmp_ok($seconds, '<', 1 * patience(), '… at once');
};

subtest 'answers of all kinds are results' => sub {
	my @answers = (
		[ { fault => 'http', value => 500, text => 'oops' }, 'uncertain|500|500' ],
		[ { fault => 'http', value => 503 }, 'failed|503|503' ],
		[ { fault => 'http', value => 401, text => 'Unauthorized' }, 'failed|401|401' ],
		[ { fault => 'retry_after', value => 3 }, 'failed|429|429' ],
		[ { fault => 'redirect', text => 'http://evil.example/x' }, 'failed|302|302' ],
		[ { fault => 'garbage' }, 'uncertain|200|200' ],
		[ { fault => 'empty' }, 'uncertain|200|200' ],
		[ { fault => 'html' }, 'uncertain|200|200' ],
		[ { fault => 'truncate' }, 'uncertain|broken|200' ],
		[ { fault => 'huge', value => 50 }, 'uncertain|too_large|200' ],
		[ { fault => 'close' }, 'uncertain|broken|' ],
		[ { fault => 'hang' }, 'uncertain|timeout|' ],
		[ { fault => 'code', text => '146' }, 'failed|146|200' ],
		[ { fault => 'body', text => '[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[' }, 'uncertain|200|200' ],
		[ { fault => 'body', text => '{"CodeResult":{"a":1},"SMSID":[1]}' }, 'uncertain|200|200' ],
		[ { fault => 'body', text => '{"CodeResult":100,"SMSID":12345}' }, 'sent|100|200' ],
	);
	for my $case (@answers)
	{
		my ($fault, $expected) = @$case;
		forget($simulator);
		fault($simulator, %$fault);
		is(send_now('status, result_code, http_status'), $expected,
			"a gateway that answers with $fault->{fault} " . ($fault->{value} // $fault->{text} // ''));
		is(stats($simulator)->{requests}, 1, 'and was asked once');
		no_faults($simulator);
	}
};

subtest 'a connection that dies under a request is not tried again behind our back' => sub {
	my $omni = "FROM sms_omni_send('0901234567', 'T', gateway => 'omni')";
	is(ask("SELECT 1 FROM sms_send('0901234567', 'x', 'shop');
			SELECT 1 FROM sms_send('0901234567', 'x', 'shop')"), "1\n1", 'two requests over one connection');
	fault($simulator, fault => 'close', count => 1);
	is(ask("SELECT status $omni; SELECT status, result_code $omni"), "uncertain\nsent|1",
		'the first is uncertain, not silently repeated');
	no_faults($simulator);

	my $session = $node->background_psql('postgres', on_error_stop => 0);
	is($session->query("SELECT 1 $omni"), '1', 'a session has a connection');
	fault($simulator, fault => 'close', count => 1);
	is($session->query("SELECT status $omni"), 'uncertain', 'the same on a reused connection');
	$session->quit;
	no_faults($simulator);
};

subtest 'waiting obeys cancel, time-outs and termination at once, and holds no lock' => sub {
	hang($simulator);
	ask("ALTER SERVER shop OPTIONS (SET timeout '60s')");
	my $error;
	my $seconds = took(sub {
		$error = error_of("SET statement_timeout = '300ms'; SELECT sms_send('0901234567', 'x', 'shop')");
	});
	like($error, qr/statement timeout/, 'statement_timeout ends the wait');
	cmp_ok($seconds, '<', 2 * patience(), 'soon');
	for my $how ('pg_cancel_backend', 'pg_terminate_backend')
	{
		my $session = IPC::Run::start([ $node->installed_command('psql'), '-XAtq', '-d', $node->connstr('postgres'),
				'-c', "SELECT sms_send('0901234567', '$how', 'shop', 'id of $how')" ], '2>', \my $said);
		my $pid;
		wait_until(sub {
			$pid = ask("SELECT pid FROM pg_stat_activity
				WHERE query LIKE '%''$how''%' AND pid <> pg_backend_pid() AND wait_event_type = 'Extension'");
		});
		is(ask("SELECT count(*) FROM pg_locks WHERE pid = $pid AND locktype <> 'virtualxid'"), '0',
			'no lock is held meanwhile');
		cmp_ok(took(sub { ask("SELECT $how($pid)"); $session->finish; }), '<', patience(),
			"$how ends the wait at once");
	}
	no_faults($simulator);
	is(send_now('status'), 'sent', 'and the next call works');
};

subtest 'databases in other encodings' => sub {
	ask("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
		CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0");
	my $utf8 = "SET client_encoding = 'UTF8'";
	forget($simulator);
	gateways($node, $simulator, database => 'latin');
	is(ask("$utf8; SELECT status FROM sms_send('0901234567', 'café', 'shop')", 'latin'), 'sent', 'LATIN1 sends');
	is((requests($simulator))[0]{content}, "caf\x{e9}", 'as UTF-8');
	fault($simulator, fault => 'body', text => "{\"CodeResult\":\"104\",\"ErrorMessage\":\"l\x{1ed7}i caf\x{e9}\"}");
	is(ask("$utf8; SELECT result_message FROM sms_send('0901234567', 'x', 'shop')", 'latin'), "l?i caf\x{c3}\x{a9}",
		'what LATIN1 cannot hold becomes a question mark');
	no_faults($simulator);
	gateways($node, $simulator, database => 'ascii');
	is(ask("SELECT status FROM sms_send('0901234567', 'café', 'shop')", 'ascii'), 'sent',
		'SQL_ASCII sends what is UTF-8');
	like(error_of("SELECT sms_send('0901234567', E'caf\\xe9', 'shop')", database => 'ascii'), qr/not valid UTF-8/,
		'and refuses what is not');
};

subtest "no secret is in the server's log, however much it logs" => sub {
	ask("ALTER SYSTEM SET log_min_messages = 'debug5'");
	ask("SELECT pg_reload_conf()");
	ask("ALTER USER MAPPING FOR PUBLIC SERVER shop OPTIONS (SET secret_key 'demo', SET api_key 'demo')");
	my $size = -s $node->logfile;
	ask("SELECT status FROM sms_send_otp('0901234567', gateway => 'shop')");
	hang($simulator);
	ask("ALTER SERVER shop OPTIONS (SET timeout '200ms')");
	ask("SELECT status FROM sms_send_otp('0901234567', gateway => 'shop')");
	unlike(substr(slurp_file($node->logfile), $size), qr/ApiKey|SecretKey/, 'no URL and no body in the log');
};

$node->stop;
done_testing();
