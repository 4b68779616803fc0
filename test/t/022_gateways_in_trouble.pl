# A gateway's trouble is the gateway's: what it takes from the others, how it is tried again, what is told of it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $simulator = simulator();
my $hanging = simulator();
my $node = server('trouble', settings => "restart_after_crash = on\nsms_gateway.max_in_flight = 100\n");
gateways($node, $simulator, shop => "timeout '30s'", cpaas => "timeout '30s', max_in_flight '50'",
	omni => "timeout '30s'");
worker_pid($node);

# Queues so many texts for a gateway: "$name 1", "$name 2" and so on; options: priority (SQL).
sub queue_many
{
	my ($gateway, $name, $count, %options) = @_;
	my $priority = $options{priority} // 0;
	ask("INSERT INTO sms_outbox (gateway, phone, content, priority)
		SELECT '$gateway', '0901234567', '$name ' || i, $priority FROM generate_series(1, $count) i");
	return;
}

# SQL: how many of these have a status.
sub count_of
{
	my ($name, $status) = @_;
	return "SELECT count(*) FROM sms_outbox WHERE content LIKE '$name %' AND status = '$status'";
}

# The seconds that a new message of a gateway takes until it is sent.
sub seconds_to_send
{
	my ($gateway, $content) = @_;
	queue_text($gateway, $content);
	wait_until(sub { status_of($content) eq 'sent' });
	return ask("SELECT coalesce(extract(epoch FROM sent_at - created_at), 1000) FROM sms_outbox
		WHERE content = '$content'");
}

subtest 'ten priorities claim no more together than the gateway has room for' => sub {
	hang($simulator, match => '/api/vendor');
	queue_many('cpaas', 'urgency', 1000, priority => 'i % 10');
	becomes(sub { scalar grep { /^urgency/ } map { $_->{content} // '' } requests($simulator) }, 50, '50 are read');
	kill 9, worker_pid($node);
	no_faults($simulator);
	becomes(sub { eval { ask(count_of('urgency', 'queued')) } // '' }, '0', 'the next worker goes on', seconds => 60);
	my $in_doubt = ask(count_of('urgency', 'uncertain'));
	cmp_ok($in_doubt, '>=', 50, 'what the gateway had read is in doubt');
	cmp_ok($in_doubt, '<=', 52, "… and hardly any other");
};

subtest 'gateways that hang leave slots to the others' => sub {
	hang($hanging);
	for my $i (1 .. 8)
	{
		ask("CREATE SERVER hung$i FOREIGN DATA WRAPPER interits OPTIONS (base_url '$hanging->{url}', sender 'MYSHOP',
				timeout '30s', poll_delivery 'false');
			CREATE USER MAPPING FOR PUBLIC SERVER hung$i OPTIONS (api_key 'demo')");
		queue_many("hung$i", "hung$i", 200);
	}
	becomes("SELECT sum(in_flight) > 70 FROM sms_gateways WHERE name LIKE 'hung%'", 't', 'they take all they can');
	cmp_ok(seconds_to_send('cpaas', 'known before'), '<', 1 * slowness(), 'a gateway that is known sends at once');
	ask("CREATE SERVER new FOREIGN DATA WRAPPER interits OPTIONS (base_url '$simulator->{url}', sender 'MYSHOP',
			poll_delivery 'false');
		CREATE USER MAPPING FOR PUBLIC SERVER new OPTIONS (api_key 'demo')");
	cmp_ok(seconds_to_send('new', 'not known before'), '<', 1 * slowness(), '… and one that is not known yet too');
	ask("DELETE FROM sms_outbox WHERE gateway LIKE 'hung%'");
	ask("SELECT sms_pause('hung$_', 'enough')") for 1 .. 8;
};

# SQL: what sms_gateways says of a gateway.
sub state_of { my ($gateway) = @_; return "SELECT state FROM sms_gateways WHERE name = '$gateway'"; }

subtest 'a gateway that hangs is unreachable: one message is tried, the others wait' => sub {
	no_faults($hanging);
	forget($hanging);
	ask("CREATE SERVER slow FOREIGN DATA WRAPPER interits OPTIONS (base_url '$hanging->{url}', sender 'MYSHOP',
			timeout '1s', max_in_flight '20', poll_delivery 'false');
		CREATE USER MAPPING FOR PUBLIC SERVER slow OPTIONS (api_key 'demo')");
	hang($hanging);
	queue_many('slow', 'slow', 500);
	becomes(state_of('slow'), 'unreachable', 'it is unreachable');
	is(ask("SELECT reason ~ '^timeout' AND since <= now() AND next_probe_at IS NOT NULL FROM sms_gateways
			WHERE name = 'slow'"), 't', '… which says why, since when, and when it is tried again');
	my $since = ask("SELECT since FROM sms_gateways WHERE name = 'slow'");
	sleep 5;    # time itself: probes come and fail
	cmp_ok(ask(count_of('slow', 'uncertain')), '<=', 2 * 20, 'no more than twice max_in_flight are uncertain');
	is(ask("SELECT since FROM sms_gateways WHERE name = 'slow'"), $since, 'the state began when it began');
	no_faults($hanging);
	becomes(state_of('slow'), 'active', 'it is active when a probe passes', seconds => 30);
	becomes(count_of('slow', 'queued'), '0', 'and the others go', seconds => 30);
	my $log = slurp_file($node->logfile);
	is(scalar(() = $log =~ /WARNING:  gateway "slow" is unreachable/g), 1, 'one WARNING tells of it');
	is(scalar(() = $log =~ /LOG:  gateway "slow" sends again after \d+ s: \d+ requests of this process had failed/g), 1,
		'… and one LOG of its end');
};

subtest 'a paused gateway is left alone after a restart' => sub {
	fault($hanging, fault => 'http', value => 401);
	queue_many('slow', 'refused', 100);
	becomes(state_of('slow'), 'paused', 'it is paused');
	$node->restart;
	forget($hanging);
	my $before = stats($hanging)->{requests};
	worker_pid($node);
	stays(sub { stats($hanging)->{requests} - $before <= 2 }, 1, 10, 'two requests in ten seconds at most');
	no_faults($hanging);
	becomes(count_of('refused', 'queued'), '0', 'and it goes on by itself', seconds => 30);
};

subtest 'what listens hears when trouble begins and ends' => sub {
	fault($hanging, fault => 'http', value => 401);
	my $wait_for = sub {
		my ($state) = @_;
		return "DO \$\$ BEGIN FOR i IN 1 .. 200 LOOP
				EXIT WHEN (SELECT state FROM sms_gateways WHERE name = 'slow') = '$state';
				PERFORM pg_sleep(0.1);
			END LOOP; END \$\$; SELECT pg_sleep(0.5);\n";
	};
	my $heard = ask("LISTEN sms_gateway;
		INSERT INTO sms_outbox (gateway, phone, content)
			VALUES ('slow', '0901234567', 'heard');" . $wait_for->('paused'));
	like($heard, qr/"event": ?"gateway", ?"gateway": ?"slow", ?"state": ?"paused", ?"reason": ?"401/, 'its beginning');
	no_faults($hanging);
	like(ask("LISTEN sms_gateway;" . $wait_for->('active')), qr/"gateway": ?"slow", ?"state": ?"active"/,
		'… and its end');
};

subtest 'Retry-After rests for retry_max at most, and says so' => sub {
	ask("ALTER SYSTEM SET sms_gateway.retry_max = '3s'");
	ask('SELECT pg_reload_conf()');
	fault($hanging, fault => 'retry_after', value => 86400, count => 1);
	queue_text('slow', 'for a day');
	becomes(state_of('slow'), 'resting', 'it rests');
	becomes(sub { status_of('for a day') }, 'sent', 'for seconds, not for a day', seconds => 10);
	fault($hanging, fault => 'http', value => 401);
	ask("ALTER SYSTEM RESET sms_gateway.retry_max");
	ask('SELECT pg_reload_conf()');
	queue_text('slow', 'resumed');
	becomes(state_of('slow'), 'paused', 'it is paused');
	no_faults($hanging);
	ask("SELECT sms_resume('slow')");
	becomes(sub { status_of('resumed') }, 'sent', 'sms_resume: at once', seconds => 2);
};

subtest 'messages of a server that is not there stand in sms_gateways, and the log says it once' => sub {
	ask("SELECT sms_pause('new', 'test')");
	queue_text('new', 'left behind');
	ask("DROP SERVER new CASCADE");
	is(ask("SELECT provider IS NULL, state, queued FROM sms_gateways WHERE name = 'new'"), 't|missing|1', 'a row');
	ask("DELETE FROM sms_gateway_state WHERE gateway = 'new'");
	becomes(sub { slurp_file($node->logfile) =~ /messages wait for gateway "new"/ ? 1 : 0 }, 1, 'a WARNING',
		seconds => 15);
	ask("DELETE FROM sms_outbox WHERE gateway = 'new'");
};

subtest 'switched off, gateways are held and the worker idle, rate limits or not' => sub {
	ask("ALTER SERVER cpaas OPTIONS (ADD rate_limit '5')");
	queue_many('cpaas', 'limited', 50);
	becomes(sub { ask(count_of('limited', 'sent')) > 2 }, 1, 'some are sent');
	ask('ALTER SYSTEM SET sms_gateway.enabled = off');
	ask('SELECT pg_reload_conf()');
	becomes(state_of('cpaas'), 'held', 'the gateway is held');
	my $ticks = sub { my @stat = split ' ', slurp_file('/proc/' . worker_pid($node) . '/stat'); $stat[13] + $stat[14] };
	my $before = $ticks->();
	sleep 3;    # time itself: so long the worker has nothing to do
	cmp_ok($ticks->() - $before, '<', 30 * slowness(), 'the worker does not spin');
	ask('ALTER SYSTEM RESET sms_gateway.enabled');
	ask('SELECT pg_reload_conf()');
	becomes(sub { ask(count_of('limited', 'queued')) < 40 }, 1, 'and it goes on');
};

$node->stop;
done_testing();
