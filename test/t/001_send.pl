# Sending now: what goes over the wire, and how a session waits for it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use JSON::PP;
use SmsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $simulator = simulator();
my $node = server('send');
gateways($node, $simulator, shop => "timeout '2s'");

sub ask { my ($sql) = @_; return scalar_of($node, $sql); }

# --- every call, and every field that can be set
is(ask("SELECT status, result_code, http_status, smsid <> '' FROM sms_send('0901234567', 'Xin chào', 'shop', 'r-1')"),
	'sent|100|200|t', 'eSMS accepts a text');
is(ask("SELECT status, result_code, smsid FROM sms_send('0901234567', 'Xin chào', 'shop', 'r-1')"),
	'sent|124|', 'a repeated request_id is accepted and not sent twice');
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
is(ask("SELECT status, result_code, left(id_omni_mess, 6), length(id_omni_mess) FROM sms_omni_send('0901234567', 'TPL',
		'{\"n\": 123456789012345678901234567890, \"t\": \"é\"}', '{3}', 'omni')"), 'sent|1|ICOMNI|36', 'an omni message');
is(ask("SELECT status, result_code, referent_id <> '' FROM sms_send_bulk('{0901234567,0907654321}', 'hi', 'cpaas',
		options => '{\"scheduled\": \"2030-01-01T07:00:00+07:00\", \"ext\": {\"a\": [1, 2]}, \"type\": 2}')"),
	'sent|200|t', 'a bulk message');

my @got = requests($simulator);
is_deeply({ %{ $got[0]{body} } },
	{ ApiKey => 'demo', SecretKey => 'demo', Phone => '84901234567', Content => "Xin ch\x{e0}o", SmsType => '2',
		Brandname => 'MYSHOP', IsUnicode => '0', RequestId => 'r-1' }, 'the body of a text');
is($got[0]{path}, '/MainService.svc/json/SendMultipleMessage_V4_post_json/', 'its path');
delete $got[2]{body}{RequestId};
is_deeply({ %{ $got[2]{body} } },
	{ ApiKey => 'demo', SecretKey => 'demo', Phone => '84901234567', Content => "\x{5b57}", SmsType => '8', IsUnicode => '1',
		Sandbox => '1', campaignid => 'tet', CallbackUrl => 'https://example.com/cb', SendDate => '2030-01-01 07:00:00' },
	'a fixed-number text has no brandname; SendDate is Vietnam time');
is_deeply({ %{ $got[3]{body} } },
	{ ApiKey => 'demo', SecretKey => 'demo', Phone => '84901234567', Brandname => 'MYSHOP', Type => '2', TimeAlive => '3',
		NumCharOfCode => '8', IsNumber => '0', message => "M\x{e3} {OTP} & 100%" }, 'the query of a one-time password');
is_deeply($got[7]{body}{routerule}, ['3'], 'the routing rule');
is(stats($simulator)->{requests}, 9, 'one request for each call');
is_deeply($got[8]{body}{destinations}, [ '84901234567', '84907654321' ], 'the receivers of a bulk message');
is($got[8]{body}{scheduled}, '2030-01-01T00:00:00.000Z', 'its time is UTC with milliseconds');
is_deeply($got[8]{body}{ext}, { a => [ 1, 2 ] }, 'its ext');
is($got[8]{body}{useUnicode}, 0, 'useUnicode is a number');

# --- credentials: the role's own mapping wins over PUBLIC's
is(ask("CREATE USER MAPPING FOR CURRENT_USER SERVER shop OPTIONS (api_key 'demo', secret_key 'wrong');
		SELECT status, result_code, result_message FROM sms_send('0901234567', 'x', 'shop')"),
	'failed|101|Authorize Failed', 'bad credentials are a result');
is(ask("ALTER USER MAPPING FOR CURRENT_USER SERVER shop OPTIONS (SET secret_key 'demo');
		SELECT status FROM sms_send('0901234567', 'x', 'shop')"), 'sent', 'a changed mapping counts at once');
ask("DROP USER MAPPING FOR CURRENT_USER SERVER shop");

# --- decomposed letters, as macOS makes them, are sent composed: in texts, templates and options
forget($simulator);
is(ask("SELECT status FROM sms_send('0901234567', normalize('Cảm ơn quý khách', NFD), 'shop')"), 'sent', 'a decomposed text');
is(ask("SELECT status FROM sms_omni_send('0901234567', normalize('Mẫu', NFD), jsonb_build_object(normalize('tên', NFD), normalize('Thắng', NFD)), gateway => 'omni')"),
	'sent', 'a decomposed template');
is(ask("SELECT status FROM sms_omni_send('0901234567', 'TPL', '[\"x\"]', '{1,3}', 'shop', options => jsonb_build_object('oaid', '1', 'sms_content', normalize('đã gửi', NFD)))"),
	'sent', 'a decomposed option');
@got = requests($simulator);
is($got[0]{body}{Content}, "C\x{1ea3}m \x{1a1}n qu\x{fd} kh\x{e1}ch", '… composed on the wire');
is_deeply([ $got[1]{body}{templatecode}, $got[1]{body}{list_param} ], [ "M\x{1eab}u", { "t\x{ea}n" => "Th\x{1eaf}ng" } ], '… with the names of its parameters');
like(encode_json($got[2]{body}), qr/\xc4\x91\xc3\xa3 g\xe1\xbb\xadi/, '… and options');

my ($out, $err);
my $started = time;
$node->psql('postgres', "SET statement_timeout = '300ms'; SELECT sms_parts(repeat(U&'\\0301\\0323', 1000000))", stderr => \$err);
like($err, qr/statement timeout/, 'text made to be slow can be canceled');
cmp_ok(time - $started, '<', 1 * patience(), '… at once');

# --- answers of all kinds are results
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
	is(ask("SELECT status, result_code, http_status FROM sms_send('0901234567', 'x', 'shop')"), $expected,
		"a gateway that answers with $fault->{fault} " . ($fault->{value} // $fault->{text} // ''));
	is(stats($simulator)->{requests}, 1, 'and was asked once');
	no_faults($simulator);
}

# --- a connection that dies under a request is not tried again behind our back
forget($simulator);
is(ask("SELECT 1 FROM sms_send('0901234567', 'x', 'shop');
		SELECT 1 FROM sms_send('0901234567', 'x', 'shop')"), "1\n1", 'two requests over one connection');
fault($simulator, fault => 'close', count => 1);
$node->psql('postgres', "SELECT status FROM sms_omni_send('0901234567', 'T', gateway => 'omni');
	SELECT status, result_code FROM sms_omni_send('0901234567', 'T', gateway => 'omni')", stdout => \$out);
is($out, "uncertain\nsent|1", 'the first is uncertain, not silently repeated');
no_faults($simulator);
forget($simulator);
my $session = $node->background_psql('postgres', on_error_stop => 0) if $node->can('background_psql');
SKIP:
{
	skip 'no background sessions in this version of the framework', 1 if !$session || !$session->can('query');
	$session->query("SELECT 1 FROM sms_omni_send('0901234567', 'T', gateway => 'omni')");
	fault($simulator, fault => 'close', count => 1);
	is($session->query("SELECT status FROM sms_omni_send('0901234567', 'T', gateway => 'omni')"), 'uncertain',
		'the same on a reused connection');
	$session->quit;
}
no_faults($simulator);

# --- waiting obeys cancel, time-outs and termination at once, and holds no lock
fault($simulator, fault => 'hang');
ask("ALTER SERVER shop OPTIONS (SET timeout '60s')");
my $start = time;
$node->psql('postgres', "SET statement_timeout = '300ms'; SELECT sms_send('0901234567', 'x', 'shop')", stderr => \$err);
like($err, qr/statement timeout/, 'statement_timeout ends the wait');
cmp_ok(time - $start, '<', 2 * patience(), 'soon');
for my $how ('pg_cancel_backend', 'pg_terminate_backend')
{
	my $h = IPC::Run::start([ $node->installed_command('psql'), '-XAtq', '-d', $node->connstr('postgres'), '-c',
			"SELECT sms_send('0901234567', '$how', 'shop', 'id of $how')" ], '2>', \my $said);
	my $pid;
	wait_until(sub { $pid = ask("SELECT pid FROM pg_stat_activity WHERE query LIKE '%''$how''%' AND pid <> pg_backend_pid() AND wait_event = 'Extension'") });
	is(ask("SELECT count(*) FROM pg_locks WHERE pid = $pid AND locktype <> 'virtualxid'"), '0', 'no lock is held meanwhile');
	$start = time;
	ask("SELECT $how($pid)");
	$h->finish;
	cmp_ok(time - $start, '<', patience(), "$how ends the wait at once");
}
no_faults($simulator);
is(ask("SELECT status FROM sms_send('0901234567', 'x', 'shop')"), 'sent', 'and the next call works');

# --- databases in other encodings
$node->safe_psql('postgres', "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
	CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0");
forget($simulator);
gateways($node, $simulator, database => 'latin');
is($node->safe_psql('latin', "SET client_encoding = 'UTF8'; SELECT status FROM sms_send('0901234567', 'café', 'shop')"), 'sent', 'LATIN1 sends');
is((requests($simulator))[0]{content}, "caf\x{e9}", 'as UTF-8');
fault($simulator, fault => 'body', text => "{\"CodeResult\":\"104\",\"ErrorMessage\":\"l\x{1ed7}i caf\x{e9}\"}");
is($node->safe_psql('latin', "SET client_encoding = 'UTF8'; SELECT result_message FROM sms_send('0901234567', 'x', 'shop')"), "l?i caf\x{c3}\x{a9}",
	'what LATIN1 cannot hold becomes a question mark');
no_faults($simulator);
gateways($node, $simulator, database => 'ascii');
is($node->safe_psql('ascii', "SELECT status FROM sms_send('0901234567', 'café', 'shop')"), 'sent', 'SQL_ASCII sends what is UTF-8');
$node->psql('ascii', "SELECT sms_send('0901234567', E'caf\\xe9', 'shop')", stderr => \$err);
like($err, qr/not valid UTF-8/, 'and refuses what is not');

# --- no secret is in the server's log, however much it logs
ask("ALTER SYSTEM SET log_min_messages = 'debug5'");
ask("SELECT pg_reload_conf()");
ask("ALTER USER MAPPING FOR PUBLIC SERVER shop OPTIONS (SET secret_key 'demo', SET api_key 'demo')");
my $size = -s $node->logfile;
ask("SELECT status FROM sms_send_otp('0901234567', gateway => 'shop')");
fault($simulator, fault => 'hang');
ask("ALTER SERVER shop OPTIONS (SET timeout '200ms')");
ask("SELECT status FROM sms_send_otp('0901234567', gateway => 'shop')");
my $log = substr(slurp_file($node->logfile), $size);
unlike($log, qr/ApiKey|SecretKey/, 'no URL and no body in the log');

$node->stop;
done_testing();
