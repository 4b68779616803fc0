# Nothing secret is ever in the server's log, in pg_stat_activity or in a NOTIFY, however much is logged.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my %secret = ('API key' => 'kEy0123456789abcdef', 'secret key' => 'sEcReTkEy+/=abc', 'user name' => 'uSeRnAmE77', password => 'pAsSwOrD!&?x');
my $simulator = simulator('--key', $secret{'API key'}, '--secret', $secret{'secret key'}, '--username', $secret{'user name'}, '--password', $secret{password});

# Everything is logged but what this test itself types.
my $node = server('secrets', settings => "log_min_messages = debug5\nlog_statement = all\nlog_min_duration_statement = 0\nlog_parameter_max_length = -1
log_error_verbosity = verbose\ndebug_print_parse = on\ndebug_print_plan = on\nlog_lock_waits = on\nsms_gateway.log_http = on\n");
$ENV{PGOPTIONS} = '-c log_statement=none -c log_min_duration_statement=-1 -c log_min_error_statement=panic -c debug_print_parse=off -c debug_print_plan=off';
sub ask { my ($sql) = @_; return scalar_of($node, $sql); }
gateways($node, $simulator, poll => 1, shop => "otp_per_phone 'off', callback_url 'https://hooks.example/esms?token={token}'",
	omni => "template_code 'TPL', otp_param 'pin', otp_per_phone 'off'", cpaas => "otp_per_phone 'off', notify 'final'");
ask("ALTER USER MAPPING FOR PUBLIC SERVER shop OPTIONS (SET api_key '$secret{'API key'}', SET secret_key '$secret{'secret key'}');
	ALTER USER MAPPING FOR PUBLIC SERVER omni OPTIONS (SET username '$secret{'user name'}', SET password '$secret{password}');
	ALTER USER MAPPING FOR PUBLIC SERVER cpaas OPTIONS (SET api_key '$secret{'API key'}')");
worker_pid($node);
my $size = -s $node->logfile;

# What the log has of it, a line each: a log at DEBUG5 is too long to be shown.
sub not_logged { my ($log, $pattern, $name) = @_; is(join("\n", $log =~ /^(.*(?:$pattern).*)$/mg), '', $name); return; }

# --- every kind of call, in a session and by the worker, with every kind of end
my $phone = '0907654321';
my $text = 'pRiVaTe text for one';
my @codes;
my $n = 0;
my @faults = ([], [ fault => 'body', text => qq({"CodeResult": "99", "CountRegenerate": 0, "ErrorMessage": "bad key $secret{'API key'} or $secret{'secret key'}", "code": "9$secret{'user name'}", "message": "$secret{password}"}) ], [ fault => 'hang' ], [ fault => 'close' ], [ fault => 'http', value => 500 ], [ fault => 'http', value => 401 ], [ fault => 'garbage' ],
	[ fault => 'redirect', text => "http://$secret{'API key'}.example/?ApiKey=$secret{'API key'}", match => '/MainService' ], [ fault => 'huge', value => 2 ]);
ask("ALTER SERVER $_ OPTIONS (ADD timeout '300ms', ADD max_attempts '1')") for qw(shop omni cpaas);
for my $fault (@faults)
{
	fault($simulator, @$fault) if @$fault;
	for my $gateway (qw(shop omni cpaas))
	{
		ask("SELECT sms_send_otp('$phone', gateway => '$gateway')");
		push @codes, SmsTest::control('GET', $simulator, 'otp?phone=84907654321') if $gateway eq 'shop' && !@$fault;
		$node->psql('postgres', "SELECT sms_check_otp('$phone', '13572468', '$gateway')");
		$node->psql('postgres', "SELECT sms_balance('$gateway')");
		ask("SELECT sms_resume('$gateway')");
	}
	ask("SELECT sms_send('$phone', '$text', '$_'), sms_send('$phone', '$text', '$_', 'request-$_-" . $n++ . "')") for qw(shop cpaas);
	ask("SELECT sms_omni_send('$phone', 'TPL', '{\"name\": \"$text\"}', gateway => 'omni')");
	ask("INSERT INTO sms_outbox (gateway, phone, content) SELECT g, '$phone', '$text' FROM unnest('{shop,cpaas}'::name[]) g;
		INSERT INTO sms_outbox (gateway, kind, phone, content) SELECT g, 'otp', '$phone', '{OTP} is your code' FROM unnest('{shop,omni,cpaas}'::name[]) g");
	wait_until(sub { ask("SELECT count(*) FROM sms_outbox WHERE status = 'queued' AND attempts = 0 AND gateway NOT IN (SELECT name FROM sms_gateways WHERE state = 'paused')") eq '0' }, 5);
	no_faults($simulator);
	ask("SELECT sms_resume(name) FROM sms_gateways");
}
ask("SELECT sms_check_status(id) FROM sms_outbox WHERE status = 'sent' AND gateway <> 'cpaas'");
$node->psql('postgres', "SELECT sms_delivery_report('shop', '{\"SMSID\": \"x\", \"SendStatus\": 5, \"token\": \"forged-token-text\"}')");

# --- what went over the wire is known here, and is nowhere in the log
my @got = requests($simulator);
for my $request (@got)
{
	my $body = $request->{body} // {};
	push @codes, $body->{list_param}{pin} if ref $body->{list_param} && $body->{list_param}{pin};
	push @codes, $1 if ($body->{text} // '') =~ /^(\d{6})\b/;
}
@codes = grep { defined && /^\d{4,}$/ } @codes;
cmp_ok(scalar @codes, '>', 10, scalar(@got) . ' requests were made, ' . scalar(@codes) . ' one-time passwords among them');
my $log = substr(slurp_file($node->logfile), $size);
like($log, qr/HTTP request, as libcurl tells it\n.*DETAIL:  .*Trying 127\.0\.0\.1/, 'libcurl tells of connections');
like($log, qr/> POST \/MainService\S* HTTP/, '… and of requests');
like($log, qr/> GET \S+\?\*\*\* HTTP/, '… without their queries');
like($log, qr/> API-KEY: \*\*\*/i, '… nor the values of headers');
for my $name (sort keys %secret)
{
	my $escaped = $secret{$name} =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger;
	not_logged($log, qr/\Q$secret{$name}\E|\Q$escaped\E/i, "no $name in the log");
}
not_logged($log, qr/pRiVaTe/i, 'no text');
not_logged($log, qr/9?07654321/, 'no phone number');
is(join(',', grep { $log =~ /(?<!\d)$_(?!\d)/ } @codes), '', 'no one-time password');
not_logged($log, qr/13572468|forged-token-text/, 'nor one that was only tried, nor a token');

# --- what can be seen of the worker
is(ask("SELECT count(*) FROM pg_stat_activity WHERE query ~* 'private|07654321|sEcReT|kEy0123' AND pid <> pg_backend_pid()"), 0, 'nothing in pg_stat_activity');
is(ask("SELECT count(*) FROM sms_outbox o WHERE o::text ~ CASE gateway WHEN 'omni' THEN 'pAsSwOrD|uSeRnAmE' ELSE 'kEy0123|sEcReT' END"), 0, 'no credentials on rows, though gateways told them');
is(ask("SELECT count(*) FROM sms_outbox WHERE kind = 'otp' AND status IN ('sent', 'failed') AND content IS NOT NULL"), 0, 'no texts of one-time passwords on rows that ended');

# --- who may have it logged
ask("CREATE ROLE plain LOGIN");
my ($rc, $out, $err);
($rc, $out, $err) = $node->psql('postgres', 'SET sms_gateway.log_http = on', extra_params => [ '-U', 'plain' ]) if delete $ENV{PGOPTIONS};
like($err, qr/permission denied to set parameter "sms_gateway.log_http"/, 'only superusers may have requests logged');

$node->stop;
done_testing();
