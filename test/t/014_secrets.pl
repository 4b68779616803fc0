# Nothing secret is ever in the server's log, in pg_stat_activity or in a NOTIFY, however much is logged.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my %secret = ('API key' => 'kEy0123456789abcdef', 'secret key' => 'sEcReTkEy+/=abc', 'user name' => 'uSeRnAmE77',
	password => 'pAsSwOrD!&?x');
my $simulator = simulator('--key', $secret{'API key'}, '--secret', $secret{'secret key'},
	'--username', $secret{'user name'}, '--password', $secret{password});

# Everything is logged but what this test itself types.
my $node = server('secrets', settings => <<'SETTINGS');
log_min_messages = debug5
log_statement = all
log_min_duration_statement = 0
log_parameter_max_length = -1
log_error_verbosity = verbose
debug_print_parse = on
debug_print_plan = on
log_lock_waits = on
sms_gateway.log_http = on
SETTINGS
$ENV{PGOPTIONS} = join ' ', map { "-c $_" } qw(log_statement=none log_min_duration_statement=-1
	log_min_error_statement=panic debug_print_parse=off debug_print_plan=off);

gateways($node, $simulator, poll => 1,
	shop => "otp_per_phone 'off', callback_url 'https://hooks.example/esms?token={token}'",
	omni => "template_code 'TPL', otp_param 'pin', otp_per_phone 'off'",
	cpaas => "otp_per_phone 'off', notify 'final'");
ask("ALTER USER MAPPING FOR PUBLIC SERVER shop
		OPTIONS (SET api_key '$secret{'API key'}', SET secret_key '$secret{'secret key'}');
	ALTER USER MAPPING FOR PUBLIC SERVER omni
		OPTIONS (SET username '$secret{'user name'}', SET password '$secret{password}');
	ALTER USER MAPPING FOR PUBLIC SERVER cpaas OPTIONS (SET api_key '$secret{'API key'}')");
worker_pid($node);
my $typed = -s $node->logfile;    # the secrets themselves were typed before this

my $phone = '0907654321';
my $text = 'pRiVaTe text for one';
my @codes;                        # the one-time passwords

# One of each call that a session can make, and of each message that the worker can send.
sub call_everything
{
	my ($round) = @_;
	for my $gateway (qw(shop omni cpaas))
	{
		ask("SELECT sms_send_otp('$phone', gateway => '$gateway')");
		# The provider of "shop" makes them itself: no request holds one.
		push @codes, SmsTest::control('GET', $simulator, 'otp?phone=84907654321') if $gateway eq 'shop' && !$round;
		$node->psql('postgres', "SELECT sms_check_otp('$phone', '13572468', '$gateway')");
		$node->psql('postgres', "SELECT sms_balance('$gateway')");
		ask("SELECT sms_resume('$gateway')");
	}
	ask("SELECT sms_send('$phone', '$text', '$_'), sms_send('$phone', '$text', '$_', 'request-$_-$round')")
		for qw(shop cpaas);
	ask("SELECT sms_omni_send('$phone', 'TPL', '{\"name\": \"$text\"}', gateway => 'omni')");
	ask("INSERT INTO sms_outbox (gateway, phone, content)
			SELECT g, '$phone', '$text' FROM unnest('{shop,cpaas}'::name[]) g;
		INSERT INTO sms_outbox (gateway, kind, phone, content)
			SELECT g, 'otp', '$phone', '{OTP} is your code' FROM unnest('{shop,omni,cpaas}'::name[]) g");
	return;
}

subtest 'every kind of call, in a session and by the worker, with every kind of end' => sub {
	my $telltale = qq({"CodeResult": "99", "CountRegenerate": 0, "ErrorMessage": "bad key $secret{'API key'} or )
		. qq($secret{'secret key'}", "code": "9$secret{'user name'}", "message": "$secret{password}"});
	my @faults = ([],
		[ fault => 'body', text => $telltale ],
		[ fault => 'hang' ],
		[ fault => 'close' ],
		[ fault => 'http', value => 500 ],
		[ fault => 'http', value => 401 ],
		[ fault => 'garbage' ],
		[ fault => 'redirect', match => '/MainService',
			text => "http://$secret{'API key'}.example/?ApiKey=$secret{'API key'}" ],
		[ fault => 'huge', value => 2 ]);
	ask("ALTER SERVER $_ OPTIONS (ADD timeout '300ms', ADD max_attempts '1')") for qw(shop omni cpaas);
	for my $round (0 .. $#faults)
	{
		my %fault = @{ $faults[$round] };
		fault($simulator, %fault) if %fault;
		call_everything($round);
		becomes("SELECT count(*) FROM sms_outbox WHERE status = 'queued' AND attempts = 0
			AND gateway NOT IN (SELECT name FROM sms_gateways WHERE state = 'paused')", 0,
			'all was tried: ' . join(' ', $fault{fault} // 'no fault', $fault{value} // ()), seconds => 5);
		no_faults($simulator);
		ask('SELECT sms_resume(name) FROM sms_gateways');
	}
	ask("SELECT sms_check_status(id) FROM sms_outbox WHERE status = 'sent' AND gateway <> 'cpaas'");
	$node->psql('postgres', q{SELECT sms_delivery_report('shop',
		'{"SMSID": "x", "SendStatus": 5, "token": "forged-token-text"}')});

	# What went over the wire is known here.
	my @got = requests($simulator);
	for my $request (@got)
	{
		my $body = $request->{body} // {};
		push @codes, $body->{list_param}{pin} if ref $body->{list_param} && $body->{list_param}{pin};
		push @codes, $1 if ($body->{text} // '') =~ /^(\d{6})\b/;
	}
	@codes = grep { defined && /^\d{4,}$/ } @codes;
	cmp_ok(scalar @codes, '>', 10,
		scalar(@got) . ' requests were made, ' . scalar(@codes) . ' one-time passwords among them');
};

my $log = slurp_file($node->logfile, $typed);

# Nothing in the log is like that; what is, is shown, a line each: a log at DEBUG5 is too long to be shown.
sub not_logged
{
	my ($pattern, $name) = @_;
	is(join("\n", $log =~ /^(.*(?:$pattern).*)$/mg), '', $name);
	return;
}

subtest 'requests are in the log, without what is secret of them' => sub {
	like($log, qr/HTTP request, as libcurl tells it\n.*DETAIL:  .*Trying 127\.0\.0\.1/,
		'libcurl tells of connections');
	like($log, qr/> POST \/MainService\S* HTTP/, '… and of requests');
	like($log, qr/> GET \S+\?\*\*\* HTTP/, '… without their queries');
	like($log, qr/> API-KEY: \*\*\*/i, '… nor the values of headers');
};

subtest 'what is secret went over the wire, and is nowhere in the log' => sub {
	for my $name (sort keys %secret)
	{
		my $escaped = $secret{$name} =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger;
		not_logged(qr/\Q$secret{$name}\E|\Q$escaped\E/i, "no $name in the log");
	}
	not_logged(qr/pRiVaTe/i, 'no text');
	not_logged(qr/9?07654321/, 'no phone number');
	is(join(',', grep { $log =~ /(?<!\d)$_(?!\d)/ } @codes), '', 'no one-time password');
	not_logged(qr/13572468|forged-token-text/, 'nor one that was only tried, nor a token');
};

subtest 'what can be seen of the worker, and on rows' => sub {
	is(ask("SELECT count(*) FROM pg_stat_activity
		WHERE query ~* 'private|07654321|sEcReT|kEy0123' AND pid <> pg_backend_pid()"), 0,
		'nothing in pg_stat_activity');
	is(ask("SELECT count(*) FROM sms_outbox o
		WHERE o::text ~ CASE gateway WHEN 'omni' THEN 'pAsSwOrD|uSeRnAmE' ELSE 'kEy0123|sEcReT' END"), 0,
		'no credentials on rows, though gateways told them');
	is(ask("SELECT count(*) FROM sms_outbox
		WHERE kind = 'otp' AND status IN ('sent', 'failed') AND content IS NOT NULL"), 0,
		'no texts of one-time passwords on rows that ended');
};

subtest 'who may have requests logged' => sub {
	ask('CREATE ROLE plain LOGIN');
	delete local $ENV{PGOPTIONS};    # only a superuser may set those either
	like(error_of('SET sms_gateway.log_http = on', role => 'plain'),
		qr/permission denied to set parameter "sms_gateway.log_http"/,
		'only superusers may have requests logged');
};

$node->stop;
done_testing();
