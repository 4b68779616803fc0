# One-time passwords through every gateway, and limits against abuse.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $simulator = simulator();
my $node = server('otp', settings => "max_connections = 150\nsms_gateway.default_gateway = 'cpaas'\nlog_statement = all\nlog_min_messages = debug5\n");
sub ask { my ($sql) = @_; return scalar_of($node, $sql); }
gateways($node, $simulator, shop => "otp_per_phone 'off'", omni => "template_code 'TPL', otp_param 'pin', otp_per_phone 'off'",
	cpaas => "otp_per_phone 'off'");
worker_pid($node);

# The code that arrived at a phone, on each gateway.
sub code_of
{
	my ($gateway, $phone) = @_;
	return SmsTest::control('GET', $simulator, "otp?phone=$phone") if $gateway eq 'shop';
	my ($last) = reverse grep { ($_->{phone} // '') eq $phone } requests($simulator);
	return $gateway eq 'omni' ? $last->{body}{list_param}{pin} : ($last->{body}{text} =~ /^(\S+) is your code$/)[0];
}

# --- the same functions and the same answers on all of them
my %codes;
my $n = 0;
for my $gateway ('shop', 'omni', 'cpaas')
{
	my $local = '090123000' . $n++;
	my $phone = $local =~ s/^0/84/r;
	is(ask("SELECT status FROM sms_send_otp('$local', '{OTP} is your code', gateway => '$gateway', length => 8)"), 'sent', "$gateway: sent");
	my $code = code_of($gateway, $phone);
	like($code, qr/^\d{8}$/, "$gateway: eight digits arrived");
	$codes{$code} = 1;
	is(ask("SELECT sms_check_otp('$local', '00000000', '$gateway')"), 'f', "$gateway: a wrong one");
	is(ask("SELECT sms_check_otp('$local', '$code', '$gateway')"), 't', "$gateway: the right one");
	is(ask("SELECT sms_check_otp('$local', '$code', '$gateway')"), 'f', "$gateway: it is used up");

	my $id = ask("INSERT INTO sms_outbox (kind, gateway, phone, content, options) VALUES ('otp', '$gateway', '$local', '{OTP} is your code',
		'{\"digits_only\": false, \"length\": 10}') RETURNING id");
	ok(wait_until(sub { ask("SELECT status FROM sms_outbox WHERE id = $id") eq 'sent' }), "$gateway: from the outbox");
	$code = code_of($gateway, $phone);
	like($code, qr/^[0-9A-Z]{10}$/, "$gateway: ten characters arrived");
	$codes{$code} = 1;
	is(ask("SELECT sms_check_otp('$local', '" . ($gateway eq 'shop' ? $code : lc $code) . "', '$gateway')"), 't', "$gateway: it is right");
	is(ask("SELECT content IS NULL AND list_param IS NULL FROM sms_outbox WHERE id = $id"), 't', "$gateway: the row holds no text any more");
}
is(scalar(keys %codes), 6, 'codes differ');

# --- the last code counts; wrong numbers, other gateways
ask("SELECT sms_send_otp('0901111111', '{OTP} is your code', gateway => 'cpaas')");
my $first = code_of('cpaas', '84901111111');
ask("SELECT sms_send_otp('0901111111', '{OTP} is your code', gateway => 'cpaas')");
my $second = code_of('cpaas', '84901111111');
is(ask("SELECT sms_check_otp('0901111111', '$first', 'cpaas')"), 'f', 'a new code ends the last one') if $first ne $second;
is(ask("SELECT sms_check_otp('0901111112', '$second', 'cpaas')"), 'f', "another phone's");
is(ask("SELECT sms_check_otp('0901111111', '$second', 'omni')"), 'f', "another gateway's");
is(ask("SELECT sms_check_otp('+84 90 111 11 11', '$second', 'cpaas')"), 't', 'the phone may be written in any way');
is(ask("SELECT sms_check_otp('0901111111', '$first', 'cpaas')"), 'f', 'an older code does not come back when the last one is used');

# --- several at once: keeping one's hash ends no claim of the others
ask("INSERT INTO sms_outbox (kind, gateway, phone, content) SELECT 'otp', 'cpaas', '090777777' || i, '{OTP} is your code' FROM generate_series(1, 8) i");
ok(wait_until(sub { ask("SELECT count(*) FROM sms_outbox WHERE phone LIKE '8490777777_' AND status = 'sent'") eq '8' }), 'eight are sent');
is(ask("SELECT count(*) FROM sms_gateway_otp WHERE phone LIKE '8490777777_'"), '8', '… and kept');
is(ask("SELECT max(sent_at) - min(sent_at) < interval '2 seconds' FROM sms_outbox WHERE phone LIKE '8490777777_'"), 't', '… together, not one at each look');

# --- five wrong tries end it, also in transactions that roll back
sub fresh { my ($phone) = @_; ask("SELECT sms_send_otp('$phone', '{OTP} is your code', gateway => 'cpaas')"); return code_of('cpaas', $phone =~ s/^0/84/r); }
my $code = fresh('0902222222');
for my $i (1 .. 4)
{
	$node->psql('postgres', "BEGIN; SELECT sms_check_otp('0902222222', 'wrong', 'cpaas'); ROLLBACK");
}
is(ask("SELECT tries FROM sms_gateway_otp WHERE phone = '84902222222'"), 4, 'wrong tries count though their transactions rolled back');
is($node->safe_psql('postgres', "BEGIN; SELECT sms_check_otp('0902222222', '$code', 'cpaas'); ROLLBACK"), 't', 'four leave it good');
is(ask("SELECT sms_check_otp('0902222222', 'wrong', 'cpaas')"), 'f', 'the fifth');
is(ask("SELECT sms_check_otp('0902222222', '$code', 'cpaas')"), 'f', '… ends it');
$code = fresh('0902222223');
$node->stop('immediate') if ask("SELECT sms_check_otp('0902222223', 'wrong', 'cpaas')") eq 'f';
$node->start;
is(ask("SELECT tries FROM sms_gateway_otp WHERE phone = '84902222223'"), 1, 'a wrong try survives a crash');
is(ask("SELECT sms_check_otp('0902222223', '$code', 'cpaas')"), 't', '… and so does the code');

# --- its time
is(ask("SELECT status FROM sms_send_otp('0903333333', '{OTP} is your code', gateway => 'cpaas', ttl => '1 second')"), 'sent', 'a short one');
$code = code_of('cpaas', '84903333333');
sleep 1.1;
is(ask("SELECT sms_check_otp('0903333333', '$code', 'cpaas')"), 'f', '… is over');
for my $bad ("ttl => '0'", "ttl => '2 days'", "length => 3", "length => 11", "content => 'no place'")
{
	isnt($node->psql('postgres', "SELECT sms_send_otp(phone => '0903333333', gateway => 'cpaas', $bad)"), 0, "refused: $bad");
}

# --- 1,000 checks at once, one success
my $sessions = 50 / patience();
$code = fresh('0904444444');
my $script = $node->basedir . '/check.sql';
append_to_file($script, "SELECT CASE WHEN sms_check_otp('0904444444', '$code', 'cpaas') THEN nextval('successes') END;\n");
ask("CREATE SEQUENCE successes MINVALUE 0 START 0");
$node->command_ok([ 'pgbench', '-n', '-c', $sessions, '-j', '2', '-t', '20', '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ], "checks by $sessions sessions");
is(ask("SELECT last_value FROM successes"), 0, 'one success');
is(ask("SELECT is_called FROM successes"), 't', '… and not none');
$code = fresh('0905555555');
my $guess = $node->basedir . '/guess.sql';
append_to_file($guess, "SELECT sms_check_otp('0905555555', 'guess', 'cpaas');\n");
$node->command_ok([ 'pgbench', '-n', '-c', '20', '-j', '2', '-t', '5', '-f', $guess, '-h', $node->host, '-p', $node->port, 'postgres' ], '100 guesses by 20 sessions');
is(ask("SELECT tries FROM sms_gateway_otp WHERE phone = '84905555555'"), 5, '… were five tries, exactly');

# --- the clear code is nowhere
my $log = slurp_file($node->logfile);
for my $known (keys %codes)
{
	my $logged = () = $log =~ /\Q$known\E/gi;
	# What the test itself typed is logged by log_statement: the two checks of each code.
	my $typed = () = $log =~ /sms_check_otp\('[^']*', '\Q$known\E'/gi;
	is($logged, $typed, "code $known is in no log line of ours");
}
is(ask("SELECT count(*) FROM sms_outbox o WHERE o::text ~ '(" . join('|', keys %codes) . ")'"), 0, '… and on no row');
is(ask("SELECT count(*) FROM sms_gateway_otp o WHERE o::text ~ '(" . join('|', keys %codes) . ")'"), 0, '… nor in the table of hashes');
ask("ALTER SYSTEM SET log_min_messages = warning; ALTER SYSTEM SET log_statement = none; SELECT pg_reload_conf()");

# --- limits: by default five one-time passwords an hour and phone
ask("ALTER SERVER shop OPTIONS (DROP otp_per_phone)");
ask("SELECT sms_send_otp('0906666666', '{OTP}', gateway => 'shop')") for 1 .. 5;
my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT sms_send_otp('0906666666', '{OTP}', gateway => 'shop')");
like($err, qr/ERROR:  53400: the limit otp_per_phone of gateway "shop" is reached/, 'the sixth is refused');
like($err, qr/HINT:  Try again after 20\d\d-/, '… with the time to try again');
isnt($node->psql('postgres', "INSERT INTO sms_outbox (kind, gateway, phone, content) VALUES ('otp', 'shop', '0906666666', '{OTP}')"), 0, '… from the outbox, too');
is(ask("SELECT status FROM sms_send_otp('0906666667', '{OTP}', gateway => 'shop')"), 'sent', 'another phone is free');
is(ask("SELECT status FROM sms_send('0906666666', 'text', gateway => 'shop')"), 'sent', '… and texts are');
fault($simulator, fault => 'code', text => '104', match => '/MainService');
ask("SELECT sms_send_otp('0906666668', '{OTP}', gateway => 'shop')") for 1 .. 6;
no_faults($simulator);
is(ask("SELECT status FROM sms_send_otp('0906666668', '{OTP}', gateway => 'shop')"), 'sent', 'what certainly was not sent does not count');
$node->psql('postgres', "BEGIN; SELECT sms_send_otp('0906666669', '{OTP}', gateway => 'shop'); ROLLBACK") for 1 .. 6;
is(ask("SELECT used FROM sms_gateway_usage WHERE subject = 'otp 84906666669'"), 5, 'what was sent counts, though the transaction rolled back');

# --- exact under as many sessions, for each limit
ask("CREATE ROLE app LOGIN; GRANT INSERT, SELECT ON sms_outbox TO app; GRANT USAGE ON FOREIGN SERVER shop TO app");
my %limited = (
	per_phone => [ "per_phone '7/hour'", "'0907777777'", 7 ],
	per_role => [ "per_role '33/day'", "'09080' || lpad((random() * 99999)::int::text, 5, '0')", 33 ],
	daily_budget => [ "daily_budget '150'", "'09080' || lpad((random() * 99999)::int::text, 5, '0')", 150 ],
);
for my $limit (sort keys %limited)
{
	my ($option, $phone, $allowed) = @{ $limited{$limit} };
	ask("ALTER SERVER shop OPTIONS (ADD $option)");
	ask("SELECT sms_pause('shop', 'limits')");
	my $file = $node->basedir . "/$limit.sql";
	append_to_file($file, "INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', $phone, '$limit');\n");
	# Sessions end at their first refusal: many are needed.
	for (1 .. 3)
	{
		system_log('pgbench', '-n', '-c', $sessions, '-j', '2', '-t', '20', '-f', $file, '-h', $node->host, '-p', $node->port, '-U', 'app', 'postgres');
	}
	is(ask("SELECT count(*) FROM sms_outbox WHERE content = '$limit'"), $allowed, "$limit: exactly $allowed of many");

	# What rolls back is given back.
	ask("DELETE FROM sms_gateway_usage; DELETE FROM sms_outbox WHERE content = '$limit'");
	my $own = "INSERT INTO sms_outbox (gateway, phone, content) SELECT 'shop', $phone, '$limit' FROM generate_series(1, " . ($allowed - 1) . ")";
	is($node->psql('postgres', "BEGIN; $own; ROLLBACK; BEGIN; SAVEPOINT s; $own; ROLLBACK TO s; $own; COMMIT", extra_params => [ '-U', 'app' ]), 0,
		"$limit: a transaction and a savepoint that rolled back took nothing");
	is(ask("SELECT sum(used) FROM sms_gateway_usage"), $allowed - 1, "$limit: … to the message");
	is($node->psql('postgres', "BEGIN; INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', $phone, '$limit'); ROLLBACK", extra_params => [ '-U', 'app' ]),
		0, "$limit: a session that rolls back and ends …");
	is(ask("SELECT sum(used) FROM sms_gateway_usage"), $allowed - 1, "$limit: … gave back what it took");
	isnt($node->psql('postgres', "BEGIN; $own; COMMIT", extra_params => [ '-U', 'app' ]), 0, "$limit: a statement that goes beyond");
	is(ask("SELECT sum(used) FROM sms_gateway_usage"), $allowed - 1, "$limit: … takes nothing");
	ask("ALTER SERVER shop OPTIONS (DROP $limit)");
	ask("DELETE FROM sms_gateway_usage; DELETE FROM sms_outbox WHERE content = '$limit'");
}

# --- redact: texts are blanked when they have ended
ask("SELECT sms_resume('shop'); ALTER SERVER shop OPTIONS (ADD redact 'true'); ALTER SERVER omni OPTIONS (ADD redact 'true')");
ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'a secret text')");
ask("INSERT INTO sms_outbox (kind, gateway, phone, template_code, list_param) VALUES ('omni', 'omni', '0901234567', 'T', '{\"pin\": \"9876543\"}')");
ask("INSERT INTO sms_outbox (gateway, phone, content, send_after) VALUES ('shop', '0901234567', 'a secret canceled', now() + interval '1 h')");
ask("INSERT INTO sms_outbox (gateway, phone, content, send_after, expires_at) VALUES ('shop', '0901234567', 'a secret expired', now() + interval '1 h', now() + interval '0.2 s')");
ask("SELECT sms_cancel(id) FROM sms_outbox WHERE content = 'a secret canceled'");
fault($simulator, fault => 'code', text => '104', match => '/MainService', count => 1);
ok(wait_until(sub { ask("SELECT count(*) FROM sms_outbox WHERE content LIKE 'a secret%' OR list_param::text LIKE '%9876543%'") == 0 }), 'texts that have ended are blanked, however they ended');
no_faults($simulator);
($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT sms_retry(max(id)) FROM sms_outbox WHERE status = 'canceled'");
like($err, qr/55000: message \d+ cannot be sent again: its text was blanked/, '… and are not sent empty');
ask("ALTER SERVER shop OPTIONS (DROP redact); ALTER SERVER omni OPTIONS (DROP redact)");

# --- a window ends
ask("ALTER SERVER shop OPTIONS (ADD per_phone '2/second')");
is($node->psql('postgres', "INSERT INTO sms_outbox (gateway, phone, content) SELECT 'shop', '0909999999', 'w' FROM generate_series(1, 3)"), 3, 'three in a second are too many');
ask("INSERT INTO sms_outbox (gateway, phone, content) SELECT 'shop', '0909999999', 'w' FROM generate_series(1, 2)");
sleep 1.1;
is($node->psql('postgres', "INSERT INTO sms_outbox (gateway, phone, content) SELECT 'shop', '0909999999', 'w' FROM generate_series(1, 2)"), 0, 'then two more');
for my $bad ("per_phone '5'", "per_role '5/fortnight'", "otp_per_phone '-1/hour'", "daily_budget '0'", "per_phone '5/0s'")
{
	my ($name) = $bad =~ /^(\w+)/;
	$node->psql('postgres', "ALTER SERVER shop OPTIONS (DROP $name)");
	like(($node->psql('postgres', "ALTER SERVER shop OPTIONS (ADD $bad)"))[2], qr/ERROR:  invalid value for option/, "refused: $bad");
}

$node->stop;
done_testing();
