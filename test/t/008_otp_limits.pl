# One-time passwords through every gateway, and limits against abuse.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $simulator = simulator();
my $node = server('otp', settings => "max_connections = 150\nsms_gateway.default_gateway = 'cpaas'\n"
		. "log_statement = all\nlog_min_messages = debug5\n");
gateways($node, $simulator, shop => "otp_per_phone 'off'",
	omni => "template_code 'TPL', otp_param 'pin', otp_per_phone 'off'", cpaas => "otp_per_phone 'off'");
worker_pid($node);

# The code that arrived at a phone (as the provider writes it), on each gateway.
sub code_of
{
	my ($gateway, $phone) = @_;
	return SmsTest::control('GET', $simulator, "otp?phone=$phone") if $gateway eq 'shop';
	my ($last) = reverse grep { ($_->{phone} // '') eq $phone } requests($simulator);
	return $last->{body}{list_param}{pin} if $gateway eq 'omni';
	return ($last->{body}{text} =~ /^(\S+) is your code$/)[0];
}

# Sends a phone a code through cpaas; returns the code.
sub fresh
{
	my ($phone) = @_;
	ask("SELECT sms_send_otp('$phone', '{OTP} is your code', gateway => 'cpaas')");
	return code_of('cpaas', $phone =~ s/^0/84/r);
}

# Whether a code is right: t or f.
sub check { my ($phone, $code, $gateway) = @_; return ask("SELECT sms_check_otp('$phone', '$code', '$gateway')"); }

# The command with which pgbench runs SQL in so many sessions, so many times in each.
my $scripts = 0;
sub pgbench
{
	my ($sql, $sessions, $times, @more) = @_;
	my $file = $node->basedir . '/pgbench' . ++$scripts . '.sql';
	append_to_file($file, $sql);
	return ('pgbench', '-n', '-c', $sessions, '-j', '2', '-t', $times, '-f', $file, '-h', $node->host,
		'-p', $node->port, @more, 'postgres');
}

my %codes;
my $n = 0;
for my $gateway ('shop', 'omni', 'cpaas')
{
	subtest "$gateway: the same functions and the same answers on all gateways" => sub {
		my $local = '090123000' . $n++;
		my $phone = $local =~ s/^0/84/r;
		is(ask("SELECT status FROM sms_send_otp('$local', '{OTP} is your code', gateway => '$gateway', length => 8)"),
			'sent', 'sent');
		my $code = code_of($gateway, $phone);
		like($code, qr/^\d{8}$/, 'eight digits arrived');
		$codes{$code} = 1;
		is(check($local, '00000000', $gateway), 'f', 'a wrong one');
		is(check($local, $code, $gateway), 't', 'the right one');
		is(check($local, $code, $gateway), 'f', 'it is used up');

		my $id = ask("INSERT INTO sms_outbox (kind, gateway, phone, content, options)
			VALUES ('otp', '$gateway', '$local', '{OTP} is your code', '{\"digits_only\": false, \"length\": 10}')
			RETURNING id");
		becomes("SELECT status FROM sms_outbox WHERE id = $id", 'sent', 'from the outbox');
		$code = code_of($gateway, $phone);
		like($code, qr/^[0-9A-Z]{10}$/, 'ten characters arrived');
		$codes{$code} = 1;
		is(check($local, $gateway eq 'shop' ? $code : lc $code, $gateway), 't', 'it is right');
		is(ask("SELECT content IS NULL AND list_param IS NULL FROM sms_outbox WHERE id = $id"), 't',
			'the row holds no text any more');
	};
}
is(scalar(keys %codes), 6, 'codes differ');

subtest 'the last code counts, for its phone and its gateway' => sub {
	my $first = fresh('0901111111');
	my $second = fresh('0901111111');
	is(check('0901111111', $first, 'cpaas'), 'f', 'a new code ends the last one') if $first ne $second;
	is(check('0901111112', $second, 'cpaas'), 'f', "another phone's");
	is(check('0901111111', $second, 'omni'), 'f', "another gateway's");
	is(check('+84 90 111 11 11', $second, 'cpaas'), 't', 'the phone may be written in any way');
	is(check('0901111111', $first, 'cpaas'), 'f', 'an older code does not come back when the last one is used');
};

subtest 'several are claimed at once: keeping the hash of one ends no claim of the others' => sub {
	my $those = "FROM sms_outbox WHERE phone LIKE '8490777777_'";
	ask("INSERT INTO sms_outbox (kind, gateway, phone, content)
		SELECT 'otp', 'cpaas', '090777777' || i, '{OTP} is your code' FROM generate_series(1, 8) i");
	becomes("SELECT count(*) $those AND status = 'sent'", '8', 'eight are sent');
	is(ask("SELECT count(*) FROM sms_gateway_otp WHERE phone LIKE '8490777777_'"), '8', 'eight are kept');
	is(ask("SELECT max(sent_at) - min(sent_at) < interval '2 seconds' $those"), 't',
		'together, not one at each look');
};

subtest 'five wrong tries end a code, also in transactions that roll back' => sub {
	my $tries = "SELECT tries FROM sms_gateway_usage WHERE subject =";
	my $code = fresh('0902222222');
	for my $i (1 .. 4)
	{
		ask("BEGIN; SELECT sms_check_otp('0902222222', 'wrong', 'cpaas'); ROLLBACK");
	}
	is(ask("$tries 'check " . hidden('84902222222') . "'"), 4,
		'wrong tries count though their transactions rolled back');
	is(ask("BEGIN; SELECT sms_check_otp('0902222222', '$code', 'cpaas'); ROLLBACK"), 't', 'four leave it good');
	is(check('0902222222', 'wrong', 'cpaas'), 'f', 'the fifth');
	is(check('0902222222', $code, 'cpaas'), 'f', '… ends it');
	$code = fresh('0902222223');
	is(check('0902222223', 'wrong', 'cpaas'), 'f', 'a wrong try');
	$node->stop('immediate');
	$node->start;
	is(ask("$tries 'check " . hidden('84902222223') . "'"), 1, '… survives a crash');
	is(check('0902222223', $code, 'cpaas'), 't', '… and so does the code');
};

subtest 'a code has its time, its length and its text' => sub {
	is(ask("SELECT status FROM sms_send_otp('0903333333', '{OTP} is your code', gateway => 'cpaas',
			ttl => '1 second')"), 'sent', 'a short one');
	my $code = code_of('cpaas', '84903333333');
	sleep 1.1;    # time itself: the code's second passes
	is(check('0903333333', $code, 'cpaas'), 'f', '… is over');
	for my $bad ("ttl => '0'", "ttl => '2 days'", "length => 3", "length => 11", "content => 'no place'")
	{
		isnt(error_of("SELECT sms_send_otp(phone => '0903333333', gateway => 'cpaas', $bad)"), '', "refused: $bad");
	}
};

my $sessions = 50 / patience();
subtest 'checks at once have one success, and guesses no more than five tries' => sub {
	my $code = fresh('0904444444');
	ask("CREATE SEQUENCE successes MINVALUE 0 START 0");
	my $sql = "SELECT CASE WHEN sms_check_otp('0904444444', '$code', 'cpaas') THEN nextval('successes') END;\n";
	$node->command_ok([ pgbench($sql, $sessions, 20) ], "checks by $sessions sessions, 20 each");
	is(ask("SELECT last_value FROM successes"), 0, 'one success');
	is(ask("SELECT is_called FROM successes"), 't', '… and not none');
	fresh('0905555555');
	$node->command_ok([ pgbench("SELECT sms_check_otp('0905555555', 'guess', 'cpaas');\n", 20, 5) ],
		'100 guesses by 20 sessions');
	is(ask("SELECT tries FROM sms_gateway_usage WHERE subject = 'check " . hidden('84905555555') . "'"), 5,
		'… were five tries, exactly');
};

subtest 'the clear code is nowhere' => sub {
	my $log = slurp_file($node->logfile);
	for my $known (keys %codes)
	{
		my $logged = () = $log =~ /\Q$known\E/gi;
		# What the test itself typed is logged by log_statement: the two checks of each code.
		my $typed = () = $log =~ /sms_check_otp\('[^']*', '\Q$known\E'/gi;
		is($logged, $typed, "code $known is in no log line of ours");
	}
	my $any = join '|', keys %codes;
	is(ask("SELECT count(*) FROM sms_outbox o WHERE o::text ~ '($any)'"), 0, '… and on no row');
	is(ask("SELECT count(*) FROM sms_gateway_otp o WHERE o::text ~ '($any)'"), 0, '… nor in the table of hashes');
	ask("ALTER SYSTEM SET log_min_messages = warning; ALTER SYSTEM SET log_statement = none; SELECT pg_reload_conf()");
};

subtest 'by default five one-time passwords an hour and phone' => sub {
	my $otp = sub { my ($phone) = @_; return "FROM sms_send_otp('$phone', '{OTP}', gateway => 'shop')"; };
	ask("ALTER SERVER shop OPTIONS (DROP otp_per_phone)");
	ask("SELECT " . $otp->('0906666666')) for 1 .. 5;
	my $error = error_of("SELECT " . $otp->('0906666666'));
	like($error, qr/ERROR:  53400: the limit otp_per_phone of gateway "shop" is reached/, 'the sixth is refused');
	like($error, qr/one phone, as 84906666666,.*HINT:  Try again after 20\d\d-/s, '… with phone and time to try again');
	isnt(error_of("INSERT INTO sms_outbox (kind, gateway, phone, content)
			VALUES ('otp', 'shop', '0906666666', '{OTP}')"), '', '… from the outbox, too');
	is(ask("SELECT status " . $otp->('0906666667')), 'sent', 'another phone is free');
	is(ask("SELECT status FROM sms_send('0906666666', 'text', gateway => 'shop')"), 'sent', '… and texts are');
	fault($simulator, fault => 'code', text => '104', match => '/MainService');
	ask("SELECT " . $otp->('0906666668')) for 1 .. 6;
	no_faults($simulator);
	is(ask("SELECT status " . $otp->('0906666668')), 'sent', 'what certainly was not sent does not count');
	error_of("BEGIN; SELECT " . $otp->('0906666669') . "; ROLLBACK") for 1 .. 6;
	is(ask("SELECT used FROM sms_gateway_usage WHERE subject = 'otp " . hidden('84906666669') . "'"), 5,
		'what was sent counts, though the transaction rolled back');
};

ask("CREATE ROLE app LOGIN; GRANT INSERT, SELECT ON sms_outbox TO app; GRANT USAGE ON FOREIGN SERVER shop TO app");
my $any_phone = "'09080' || lpad((random() * 99999)::int::text, 5, '0')";
my %limited = (
	per_phone => [ "per_phone '7/hour'", "'0907777777'", 7 ],
	per_role => [ "per_role '33/day'", $any_phone, 33 ],
	daily_budget => [ "daily_budget '150'", $any_phone, 150 ],
);
for my $limit (sort keys %limited)
{
	subtest "$limit is exact under as many sessions" => sub {
		my ($option, $phone, $allowed) = @{ $limited{$limit} };
		my $used = "SELECT sum(used) FROM sms_gateway_usage";
		my $into = "INSERT INTO sms_outbox (gateway, phone, content)";
		my $one = "$into VALUES ('shop', $phone, '$limit')";
		ask("ALTER SERVER shop OPTIONS (ADD $option)");
		ask("SELECT sms_pause('shop', 'limits')");
		# Sessions end at their first refusal: many are needed.
		system_log(pgbench("$one;\n", $sessions, 20, '-U', 'app')) for 1 .. 3;
		is(ask("SELECT count(*) FROM sms_outbox WHERE content = '$limit'"), $allowed, "exactly $allowed of many");

		# What rolls back is given back.
		ask("DELETE FROM sms_gateway_usage; DELETE FROM sms_outbox WHERE content = '$limit'");
		my $rest = $allowed - 1;
		my $all_but_one = "$into SELECT 'shop', $phone, '$limit' FROM generate_series(1, $rest)";
		is(error_of("BEGIN; $all_but_one; ROLLBACK;
				BEGIN; SAVEPOINT s; $all_but_one; ROLLBACK TO s; $all_but_one; COMMIT", role => 'app'), '',
			'a transaction and a savepoint that rolled back took nothing');
		is(ask($used), $rest, '… to the message');
		is(error_of("BEGIN; $one; ROLLBACK", role => 'app'), '', 'a session that rolls back and ends …');
		# It does when it is idle, which is after psql has its answer.
		becomes($used, $rest, '… gave back what it took');
		isnt(error_of($all_but_one, role => 'app'), '', 'a statement that goes beyond');
		becomes($used, $rest, '… takes nothing');
		ask("ALTER SERVER shop OPTIONS (DROP $limit)");
		ask("DELETE FROM sms_gateway_usage; DELETE FROM sms_outbox WHERE content = '$limit'");
	};
}

subtest 'redact: texts are blanked when they have ended' => sub {
	ask("SELECT sms_resume('shop'); ALTER SERVER shop OPTIONS (ADD redact 'true');
		ALTER SERVER omni OPTIONS (ADD redact 'true')");
	queue_text('shop', 'a secret text');
	ask("INSERT INTO sms_outbox (kind, gateway, phone, template_code, list_param)
		VALUES ('omni', 'omni', '0901234567', 'T', '{\"pin\": \"9876543\"}')");
	my $canceled = queue_text('shop', 'a secret canceled', send_after => "now() + interval '1 h'");
	queue_text('shop', 'a secret expired', expires_at => "(SELECT now() + interval '1 ms' FROM pg_sleep(0.01))");
	ask("SELECT sms_cancel($canceled)");
	fault($simulator, fault => 'code', text => '104', match => '/MainService', count => 1);
	becomes("SELECT count(*) FROM sms_outbox WHERE content LIKE 'a secret%' OR list_param::text LIKE '%9876543%'", '0',
		'texts that have ended are blanked, however they ended');
	no_faults($simulator);
	like(error_of("SELECT sms_retry($canceled)"), qr/55000: message \d+ cannot be sent again: its text was blanked/,
		'… and are not sent empty');
	ask("ALTER SERVER shop OPTIONS (DROP redact); ALTER SERVER omni OPTIONS (DROP redact)");
};

subtest 'the window of a limit ends' => sub {
	my $insert = "INSERT INTO sms_outbox (gateway, phone, content)
		SELECT 'shop', '0909999999', 'w' FROM generate_series(1,";
	ask("ALTER SERVER shop OPTIONS (ADD per_phone '2/second')");
	like(error_of("$insert 3)"), qr/ERROR:  53400:/, 'three in a second are too many');
	ask("$insert 2)");
	sleep 1.1;    # time itself: the limit's second passes
	is(error_of("$insert 2)"), '', 'then two more');
};

subtest 'limits that make no sense are refused' => sub {
	for my $bad ("per_phone '5'", "per_role '5/fortnight'", "otp_per_phone '-1/hour'", "daily_budget '0'",
		"per_phone '5/0s'")
	{
		my ($name) = $bad =~ /^(\w+)/;
		error_of("ALTER SERVER shop OPTIONS (DROP $name)");    # an error if it has none
		like(error_of("ALTER SERVER shop OPTIONS (ADD $bad)"), qr/ERROR:  \w{5}: invalid value for option/,
			"refused: $bad");
	}
};

$node->stop;
done_testing();
