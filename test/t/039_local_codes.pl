# One-time passwords for eSMS that are made here; and whoever makes them, the same five tries, single use and count,
# whatever becomes of the message that they are in.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = simulator();
my $node = server('local_codes', settings => "max_connections = 80\nrestart_after_crash = on\n"
		. "sms_gateway.default_gateway = 'here'\n");
gateways($node, $simulator, shop => "otp_per_phone 'off'", cpaas => "otp_per_phone 'off'",
	omni => "template_code 'TPL', otp_param 'pin', otp_per_phone 'off'");
ask("CREATE SERVER here FOREIGN DATA WRAPPER esms OPTIONS (base_url '$simulator->{url}', brandname 'MYSHOP',
		otp 'local', otp_per_phone 'off', poll_delivery 'false');
	CREATE USER MAPPING FOR PUBLIC SERVER here OPTIONS (api_key 'demo', secret_key 'demo')");
worker_pid($node);
my $code = qr/^(\w+) is your code$/;

# Which gateways make codes here.
my %local = (shop => 0, here => 1, omni => 1, cpaas => 1);

# What is queued to a phone, and further columns and their values as SQL.
sub otp_for
{
	my ($gateway, $phone, %columns) = @_;
	my @names = sort keys %columns;
	return ask('INSERT INTO sms_outbox (' . join(', ', qw(kind gateway phone content), @names) . ') VALUES ('
			. join(', ', "'otp'", "'$gateway'", "'$phone'", "'{OTP} is your code'", @columns{@names})
			. ') RETURNING id');
}

# The requests that have come for a phone, the newest first.
sub requests_for { my ($phone) = @_; return reverse grep { ($_->{phone} // '') eq $phone } requests($simulator); }

# The code that came last to a phone; undef if none has.
sub code_of
{
	my ($phone) = @_;
	my ($last) = requests_for($phone);
	return eval { SmsTest::control('GET', $simulator, "otp?phone=$phone") } if $last->{path} =~ /AutoGenCode/;
	my $text = $last->{body}{Content} // $last->{body}{text};
	return defined $text ? ($text =~ $code)[0] : $last->{body}{list_param}{pin};
}

# Checks codes one after the other in one session; returns the answers, as "f f t".
sub check
{
	my ($gateway, $phone, @codes) = @_;
	return join ' ', split /\n/, ask(join ';', map { "SELECT sms_check_otp('$phone', '$_', '$gateway')" } @codes);
}

sub status { my ($id) = @_; return "SELECT gateway, status FROM sms_outbox WHERE id = $id"; }

# Five guesses, none of which is right.
my @guesses = map { "wrong$_" } 1 .. 5;

# Commands for pgbench.
my $scripts = 0;
sub pgbench
{
	my ($sql, $sessions, $times) = @_;
	my $file = $node->basedir . '/pgbench' . ++$scripts . '.sql';
	append_to_file($file, $sql);
	return ('pgbench', '-n', '-c', $sessions, '-j', '2', '-t', $times, '-f', $file, '-h', $node->host,
		'-p', $node->port, 'postgres');
}

subtest 'the option is there where it means something' => sub {
	like(error_of("ALTER SERVER here OPTIONS (SET otp 'nobody')"), qr/It is none of provider, local\./, 'values');
	like(error_of("ALTER SERVER $_ OPTIONS (ADD otp 'local')"), qr/HV00D: invalid option "otp".*HINT:  Valid options/s,
		"not on $_, whose codes are made here anyway")
		for 'omni', 'cpaas';
	isnt(error_of("SELECT sms_send_otp('0901000001', gateway => 'here', options => '{\"otp\": \"provider\"}')"), '',
		'not of one message');
};

subtest 'sent at once: as a text, with all that texts carry' => sub {
	ask("ALTER SERVER here OPTIONS (ADD callback_url 'https://example.com/r?t={token}', ADD sandbox 'true')");
	my ($status, $id) = split /\|/, ask("SELECT status, request_id FROM sms_send_otp('0901000002', '{OTP} is your code',
		ttl => '17 seconds', options => '{\"campaign_id\": \"tet\", \"send_date\": \"2030-01-01 08:00\"}')");
	is($status, 'sent', 'sent, for a time that eSMS would not take');
	my ($request) = requests_for('84901000002');
	my $body = $request->{body};
	like($request->{path}, qr/SendMultipleMessage_V4_post_json/, 'as a text');
	like(delete $body->{Content}, $code, 'with the code');
	like(delete $body->{CallbackUrl}, qr{^https://example\.com/r\?t=}, 'CallbackUrl');
	is_deeply($body, { ApiKey => 'demo', SecretKey => 'demo', Phone => '84901000002', SmsType => '2',
			Brandname => 'MYSHOP', IsUnicode => '0', Sandbox => '1', campaignid => 'tet', RequestId => $id,
			SendDate => '2030-01-01 08:00:00' }, 'all else');
	is(check('here', '0901000002', $body->{Phone}), 'f', 'a wrong one');

	is(ask("SELECT status FROM sms_send_otp('0901000003', options => '{\"sms_type\": \"8\", \"length\": 4}')"), 'sent',
		'from a fixed number');
	($request) = requests_for('84901000003');
	$body = $request->{body};
	like($body->{Content}, qr/^\d{4}$/, 'the code alone');
	is("$body->{SmsType} $body->{IsUnicode} $body->{Unicode}", '8 0 0', 'with both spellings of the flag');
	ok(!exists $body->{Brandname}, '… and no brandname');
	like(error_of("SELECT sms_send_otp('0901000003', options => '{\"sms_type\": \"23\"}')"),
		qr/22023: a one-time password that is made here goes as a text, not over Viber/, 'not over Viber');
	ask("ALTER SERVER here OPTIONS (DROP callback_url, DROP sandbox)");
};

subtest 'sandbox: refused where eSMS makes the code, which would arrive' => sub {
	my $options = "options => '{\"sandbox\": true}'";
	like(error_of("SELECT sms_send_otp('0901000004', gateway => 'shop', $options)"), qr/22023: .*sandbox/,
		'of a message');
	is(ask("SELECT status FROM sms_send_otp('0901000004', gateway => 'here', $options)"), 'sent',
		'carried where it is made here');
	is((requests_for('84901000004'))[0]{body}{Sandbox}, '1', '… as it is with texts');
	ask("ALTER SERVER shop OPTIONS (ADD sandbox 'true')");
	like(error_of("INSERT INTO sms_outbox (kind, gateway, phone) VALUES ('otp', 'shop', '0901000004')"),
		qr/22023: one-time passwords that eSMS makes have no sandbox.*otp 'local'/s, 'of the server, and what to do');
	ask("ALTER SERVER shop OPTIONS (DROP sandbox)");
};

subtest 'through the outbox, followed like a text, checked without the network' => sub {
	ask("ALTER SERVER here OPTIONS (SET poll_delivery 'true')");
	my $id = otp_for('here', '0901000005',
		options => "'{\"digits_only\": false, \"length\": 10, \"campaign_id\": \"x\"}'");
	becomes("SELECT status, content, poll_at IS NOT NULL FROM sms_outbox WHERE id = $id", 'sent||t',
		'sent, the text is gone, and its status is going to be asked for');
	is(ask("SELECT sms_check_status($id)"), 'delivered', '… which eSMS knows');
	my ($request) = requests_for('84901000005');
	is("$request->{body}{campaignid} $request->{body}{RequestId}",
		'x ' . ask("SELECT request_id FROM sms_outbox WHERE id = $id"), 'with its options and its RequestId');
	my $right = code_of('84901000005');
	like($right, qr/^[0-9A-Z]{10}$/, 'a code of letters, too');
	unlike(slurp_file($node->logfile), qr/$right/, 'it is in no log');
	is(ask("SELECT (SELECT count(*) FROM sms_outbox o WHERE o::text ~ '$right') +
			(SELECT count(*) FROM sms_gateway_otp o WHERE o::text ~ '$right')"), '0', '… and in no table');
	forget($simulator);
	is(check('here', '+84 90 100 00 05', 'wrong', ' ' . lc($right) . ' ', $right), 'f t f', 'wrong, right, used up');
	is(scalar(requests($simulator)), 0, 'nobody was asked');
	ask("ALTER SERVER here OPTIONS (SET poll_delivery 'false')");
};

subtest 'the server is altered: a code is checked where it was made' => sub {
	ask("SELECT sms_send_otp('0901000006', '{OTP} is your code', gateway => 'shop');
		SELECT sms_send_otp('0901000007', '{OTP} is your code', gateway => 'here')");
	my ($provided, $made) = map { code_of($_) } '84901000006', '84901000007';
	ask("ALTER SERVER shop OPTIONS (ADD otp 'local'); ALTER SERVER here OPTIONS (SET otp 'provider')");
	is(check('shop', '0901000006', 'wrong', $provided, $provided), 'f t f', 'from provider to local');
	is(check('here', '0901000007', 'wrong', $made, $made), 'f t f', '… and back');
	ask("SELECT sms_send_otp('0901000006', '{OTP} is your code', gateway => 'shop')");
	is(check('shop', '0901000006', $provided, code_of('84901000006')), 'f t', 'a new one is made by the new rule');
	ask("ALTER SERVER shop OPTIONS (DROP otp); ALTER SERVER here OPTIONS (SET otp 'local')");
};

my $series = 10; # for phones that are new

# A code is asked of one gateway and sent by another; whoever makes it, it is found through both.
for my $way ([ 'shop', 'here' ], [ 'here', 'shop' ], [ 'here', 'cpaas' ], [ 'cpaas', 'here' ])
{
	my ($asked, $fallback) = @$way;
	subtest "failed over from $asked to $fallback" => sub {
		my @phones = map { sprintf '09020%02d%03d', $series, $_ } 1 .. 4;
		my $msisdns = join ', ', map { "'84" . substr($_, 1) . "'" } @phones;
		$series++;
		ask("ALTER SERVER $asked OPTIONS (ADD fallback '$fallback')");
		fault($simulator, fault => 'http', value => 400, count => 4);
		ask("SELECT sms_pause('$fallback', 'test')");
		my $ids = join ', ', map { otp_for($asked, $_) } @phones;
		becomes("SELECT count(*) FROM sms_outbox WHERE id IN ($ids) AND gateway = '$fallback' AND status = 'queued'", 4,
			'it moves');
		is(ask("SELECT count(*) FROM sms_gateway_otp WHERE phone IN ($msisdns)"), 0,
			'… and what was not sent is no code');
		no_faults($simulator);
		ask("SELECT sms_resume('$fallback')");
		becomes("SELECT count(*) FROM sms_outbox WHERE id IN ($ids) AND gateway = '$fallback'
			AND status IN ('sent', 'delivered')", 4, 'the other sends it');
		my @right = map { code_of('84' . substr $_, 1) } @phones;
		is(check($asked, $phones[0], 'wrong', $right[0], $right[0]), 'f t f', 'right through the one that was asked');
		is(check($fallback, $phones[1], 'wrong', $right[1], $right[1]), 'f t f', '… and through the one that sent it');
		is(check($asked, $phones[1], $right[1]), 'f', '… once');
		check($_, $phones[2], 'wrong', 'wrong') for $asked, $fallback;
		is(check($fallback, $phones[2], 'wrong', $right[2]), 'f f', 'five tries in all, not of each');
		is(check('omni', $phones[3], $right[3]), 'f', 'through a third it is not');
		ask("ALTER SERVER $asked OPTIONS (DROP fallback)");
	};
}

# What may become of a message with a code.  Each returns the codes that its phones have then (undef: none), made by
# the last attempt.
my %fates = (
	'sent' => sub { return 'sent'; },
	'sent at the second try' => sub { fault($simulator, fault => 'http', value => 503, count => 2); return 'sent'; },
	'failed for good' => sub { fault($simulator, fault => 'http', value => 400); return 'failed'; },
	'failing' => sub { fault($simulator, fault => 'http', value => 503); return 'queued'; },
	'uncertain' => sub { fault($simulator, fault => 'close'); return 'uncertain'; },
	'uncertain, and sms_retry' => sub { fault($simulator, fault => 'close', count => 2); return 'uncertain'; },
	'canceled' => sub { return 'canceled'; },
);
for my $gateway (sort keys %local)
{
	subtest "$gateway: five tries and single use, whatever becomes of the message" => sub {
		for my $fate (sort keys %fates)
		{
			my @phones = map { sprintf '09031%02d0%02d', $series, $_ } 1, 2;
			my @msisdns = map { '84' . substr $_, 1 } @phones;
			my $expected = $fates{$fate}->();
			my @ids = map { otp_for($gateway, $_, $fate eq 'canceled' ? (send_after => "now() + interval '1 h'") : ()) }
				@phones;
			my $those = 'FROM sms_outbox WHERE id IN (' . join(', ', @ids) . ')';
			$series++;
			ask("SELECT sms_cancel(id) $those") if $fate eq 'canceled';
			becomes("SELECT count(*) $those AND attempts > 0", 2, 'they fail, and wait') if $fate eq 'failing';
			becomes("SELECT string_agg(DISTINCT status::text, ' ') $those",
				$expected eq 'sent' ? qr/^(sent|delivered)/ : $expected, $fate);
			no_faults($simulator) if $expected ne 'queued';
			if ($fate =~ /sms_retry/)
			{
				my $old = code_of($msisdns[0]);
				ask("SELECT sms_retry(id) $those");
				becomes("SELECT count(*) $those AND sent_at IS NOT NULL", 2, 'sent');
				is(check($gateway, $phones[0], $old), $old eq code_of($msisdns[0]) ? 't' : 'f', 'the last code counts');
			}
			my @right = $fate eq 'canceled' ? ('000000') x 2 : map { code_of($_) // '000000' } @msisdns;
			if ($fate =~ /sent|uncertain/)
			{
				my $one_less = $fate =~ /sms_retry/ ? 1 : 0;
				is(check($gateway, $phones[0], @guesses[$one_less .. 4], $right[0]),
					join(' ', ('f') x (6 - $one_less)), 'five wrong tries, and the right code is none');
				is(check($gateway, $phones[1], @guesses[0 .. 3], $right[1], $right[1]), 'f f f f t f',
					'four, and it is, once');
			}
			else
			{
				is(check($gateway, $phones[1], $right[1]), $fate eq 'failing' && !$local{$gateway} ? '' : 'f',
					'what nobody has got is not right');
			}
			ask("SELECT sms_cancel(id) $those") if $expected eq 'queued';
			no_faults($simulator);
			ask("SELECT sms_resume('$gateway')");
		}
	};
}

subtest 'fifty sessions with the right code: one is told so' => sub {
	ask('CREATE SEQUENCE successes');
	for my $gateway (sort keys %local)
	{
		my $phone = sprintf '09041000%02d', $series++;
		my $id = otp_for($gateway, $phone);
		becomes(status($id), qr/^$gateway\|(sent|delivered)$/, "$gateway: sent");
		my $right = code_of('84' . substr $phone, 1);
		ask("SELECT setval('successes', 100)");
		my $check = "sms_check_otp('$phone', '$right', '$gateway')";
		system_log(pgbench("SELECT CASE WHEN $check THEN nextval('successes') END;\n", 50 / patience(), 2));
		is(ask('SELECT last_value FROM successes'), 101, "$gateway: one success");
	}
};

subtest 'one phone, however it is written' => sub {
	my @spellings = ('0905000001', '84905000001', '+84 905 000 001', '0084905000001', '84-905.000.001');
	ask("ALTER SERVER here OPTIONS (SET otp_per_phone '5/hour')");
	ask("SELECT sms_send_otp('$_', '{OTP} is your code')") for @spellings;
	like(error_of("SELECT sms_send_otp('$_')"), qr/53400: the limit otp_per_phone/, "a sixth, to $_") for @spellings;
	like(error_of("INSERT INTO sms_outbox (kind, phone) VALUES ('otp', '$spellings[2]')"), qr/53400/,
		'… by the outbox');
	my $right = code_of('84905000001');
	is(ask(join ';', map { "SELECT sms_check_otp('$_', 'wrong')" } @spellings), join("\n", ('f') x 5), 'five tries');
	is(check('here', $spellings[0], $right), 'f', '… are five');
	ask("ALTER SERVER here OPTIONS (SET otp_per_phone 'off')");
};

subtest 'after a crash the code that may have arrived is the one that counts' => sub {
	fault($simulator, fault => 'hang');
	my $id = otp_for('here', '0906000001');
	becomes(sub { scalar(() = requests_for('84906000001')) }, 1, 'it is being sent');
	my $right = code_of('84906000001');
	kill 'KILL', worker_pid($node);
	wait_until(sub { eval { ask('SELECT true') } });
	no_faults($simulator);
	worker_pid($node);
	becomes(status($id), 'here|uncertain', 'then nobody knows');
	is(ask("SELECT count(*) FROM sms_gateway_otp WHERE phone = '84906000001'"), 1, 'no other code was made');
	is(check('here', '0906000001', 'wrong', $right), 'f t', 'it is right');
};

subtest 'sent again though it may have gone: another code is another message' => sub {
	ask("ALTER SERVER here OPTIONS (ADD on_uncertain 'resend')");
	fault($simulator, fault => 'close', count => 2);
	my $id = otp_for('here', '0906000002');
	becomes(status($id), qr/^here\|(sent|delivered)$/, 'sent');
	no_faults($simulator);
	my @requests = requests_for('84906000002');
	my %ids = map { $_->{body}{RequestId} => 1 } @requests;
	is(scalar(@requests), 3, 'at the third try');
	is(scalar(keys %ids), 3, 'each with a RequestId of its own, or eSMS would take the first for it');
	is(check('here', '0906000002', code_of('84906000002')), 't', 'the last code is right');
	ask("ALTER SERVER here OPTIONS (DROP on_uncertain)");
};

$node->stop;
done_testing();
