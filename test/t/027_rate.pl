# A gateway is sent as much as it takes, whatever it refuses beyond that; and at once, when somebody resumes it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $simulator = simulator();
my $node = server('rate', settings => "max_prepared_transactions = 5\n");
gateways($node, $simulator);
worker_pid($node);

# Queues so many texts for a gateway: "$name 1", "$name 2" and so on.
sub queue_many
{
	my ($gateway, $name, $count) = @_;
	ask("INSERT INTO sms_outbox (gateway, phone, content)
		SELECT '$gateway', '0901234567', '$name ' || i FROM generate_series(1, $count) i");
	return;
}

# SQL: how many of these have a status.
sub count_of
{
	my ($name, $status) = @_;
	return "SELECT count(*) FROM sms_outbox WHERE content LIKE '$name %' AND status = '$status'";
}

# SQL: what sms_gateways says of a gateway.
sub state_of { my ($gateway) = @_; return "SELECT state FROM sms_gateways WHERE name = '$gateway'"; }

# How many of these a second were sent, but for the first second of $options{seconds}, and the share of requests that
# were refused meanwhile.
sub rate_of
{
	my ($name, %options) = @_;
	my $before = stats($simulator);
	my $start = ask('SELECT clock_timestamp()');
	sleep $options{seconds};    # time itself: a rate is measured
	my $after = stats($simulator);
	my $rate = ask("SELECT count(*) / $options{seconds}.0 FROM sms_outbox WHERE content LIKE '$name %'
		AND sent_at BETWEEN '$start' AND '$start'::timestamptz + interval '$options{seconds} s'");
	my $share = ($after->{refused} - $before->{refused}) / ($after->{requests} - $before->{requests} || 1);
	note sprintf '%s: %.1f a second, %.0f %% of the requests refused', $name, $rate, 100 * $share;
	return ($rate, $share);
}

subtest 'a gateway that takes 500 a second and answers 429 beyond is driven at that' => sub {
	fault($simulator, fault => 'rate', value => 500, burst => 10);
	queue_many('cpaas', 'five hundred', 3500);
	becomes(state_of('cpaas'), 'resting', 'it rests');
	is(ask("SELECT reason ~ '^429' AND since <= now() FROM sms_gateways WHERE name = 'cpaas'"), 't',
		'… which says why');
	my ($rate, $share) = rate_of('five hundred', seconds => 5);
	cmp_ok($rate, '>', 0.7 * 500, 'most of what it takes');
	cmp_ok($share, '<', 0.3, '… and not much beyond');
	becomes(count_of('five hundred', 'queued'), '0', 'all go', seconds => 20);
	is(ask("SELECT count(*), max(attempts) FROM sms_outbox WHERE content LIKE 'five hundred %' AND status = 'sent'"),
		'3500|1', 'each with one attempt, that counts');
	my $log = slurp_file($node->logfile);
	is(scalar(() = $log =~ /WARNING:  gateway "cpaas" is/g), 1, 'one WARNING');
	is(scalar(() = $log =~ /LOG:  gateway "cpaas" sends again/g), 0, '… and no flapping');
	no_faults($simulator);
	ask("SELECT sms_resume('cpaas')");
	becomes(state_of('cpaas'), 'active', 'sms_resume: it is active');
};

subtest 'one that takes one at a time, and less' => sub {
	fault($simulator, fault => 'rate', value => 500, burst => 1);
	queue_many('cpaas', 'apart', 5000);
	rate_of('apart', seconds => 1);
	my ($rate, $share) = rate_of('apart', seconds => 4);
	diag sprintf '%.0f of 500 a second', $rate;
	# 500 that must be 2 ms apart are as many as a quiet machine can keep apart; before, it was 8.
	cmp_ok($rate, '>', 0.1 * 500, 'as much of what it takes as a busy machine keeps apart');
	no_faults($simulator);
	fault($simulator, fault => 'rate', value => 50, burst => 10);
	rate_of('apart', seconds => 2);
	($rate, $share) = rate_of('apart', seconds => 4);
	cmp_ok($rate, '>', 0.7 * 50, 'a limit that falls is obeyed');
	cmp_ok($share, '<', 0.4, '… soon');
	no_faults($simulator);
	fault($simulator, fault => 'rate', value => 1000, burst => 10);
	($rate, $share) = rate_of('apart', seconds => 4);
	cmp_ok($rate, '>', 52, 'one that rises is found');
	no_faults($simulator);
	ask("SELECT sms_resume('cpaas')");
	becomes(count_of('apart', 'queued'), '0', 'sms_resume: it is not held to a rate any more', seconds => 10);
};

# Pauses a gateway and queues so many texts for it, which wait for an hour until they are tried again.
sub wait_long
{
	my ($gateway, $name, $count) = @_;
	ask("SELECT sms_pause('$gateway', 'test')");
	queue_many($gateway, $name, $count);
	ask("UPDATE sms_outbox SET attempts = 3, next_attempt_at = now() + interval '1 hour'
		WHERE content LIKE '$name %'");
	return;
}

subtest 'sms_resume: messages that wait to be tried again are tried now' => sub {
	wait_long('shop', 'resumed', 3000);
	my $later = queue_text('shop', 'not before', send_after => "now() + interval '2 hours'");
	my $holder = $node->background_psql('postgres', on_error_stop => 1);
	$holder->query_safe("BEGIN; SELECT id FROM sms_outbox WHERE content = 'resumed 7' FOR UPDATE");
	is(ask("SELECT sms_resume('shop')"), 't', 'it was paused');
	is(ask(state_of('shop')), 'active', 'it is active');
	becomes(count_of('resumed', 'queued'), '1', 'all go but for the one that somebody holds', seconds => 20);
	$holder->query_safe('COMMIT');
	$holder->quit;
	is(ask("SELECT sms_retry(id) FROM sms_outbox WHERE content = 'resumed 7'"), 't', 'sms_retry: that too');
	becomes(count_of('resumed', 'sent'), '3000', '… goes');
	is(ask("SELECT DISTINCT attempts FROM sms_outbox WHERE content LIKE 'resumed %'"), '4', 'attempts are counted on');
	is(ask("SELECT status, next_attempt_at = send_after, sms_retry(id) FROM sms_outbox WHERE id = $later"),
		'queued|t|f', 'what waits for its time goes on waiting');
	becomes("SELECT count(*) FROM sms_gateway_state WHERE gateway = 'shop'", '0', 'nothing is left of it');
	is(ask("SELECT sms_resume('shop')"), 'f', 'an active one was not paused');
};

subtest 'a changed server or user mapping is tried now, by two-phase commit too' => sub {
	my @changes = (
		"ALTER SERVER shop OPTIONS (ADD timeout '20s')",
		"ALTER USER MAPPING FOR PUBLIC SERVER shop OPTIONS (SET secret_key 'demo')",
		"BEGIN; ALTER SERVER shop OPTIONS (SET timeout '21s'); PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'");
	for my $i (0 .. $#changes)
	{
		queue_text('shop', "before $i");
		becomes(sub { status_of("before $i") }, 'sent', 'the gateway is known');
		queue_text('shop', "changed $i", send_after => "now() + interval '2 s'");
		ask("UPDATE sms_outbox SET next_attempt_at = now() + interval '1 hour' WHERE content = 'changed $i'");
		sleep 2;    # time itself: its send_after passes
		ask($changes[$i]);
		becomes(sub { status_of("changed $i") }, 'sent', $changes[$i], seconds => 10);
	}
	fault($simulator, fault => 'http', value => 401);
	queue_text('cpaas', 'refused');
	becomes(state_of('cpaas'), 'paused', 'a gateway that refuses is paused');
	no_faults($simulator);
	ask("UPDATE sms_gateway_state SET next_probe_at = now() + interval '1 hour' WHERE gateway = 'cpaas'");
	$node->restart;
	worker_pid($node);
	stays(sub { status_of('refused') }, 'queued', 2, 'it is tried in an hour');
	ask("ALTER USER MAPPING FOR PUBLIC SERVER cpaas OPTIONS (SET api_key 'demo')");
	becomes(sub { status_of('refused') }, 'sent', 'a changed mapping: now', seconds => 10);
	ask("CREATE ROLE teller LOGIN; GRANT USAGE ON FOREIGN SERVER cpaas TO teller;
		GRANT INSERT, SELECT ON sms_outbox TO teller;
		DROP USER MAPPING FOR PUBLIC SERVER cpaas; CREATE USER MAPPING FOR teller SERVER cpaas OPTIONS (api_key 'demo');
		SELECT sms_pause('cpaas', 'test')");
	as_role('teller', "INSERT INTO sms_outbox (gateway, phone, content) VALUES ('cpaas', '0901234567', 'without')");
	ask("DROP USER MAPPING FOR teller SERVER cpaas; SELECT sms_resume('cpaas')");
	becomes("SELECT result_code FROM sms_outbox WHERE content = 'without'", 'held', 'without a mapping it is held');
	ask("CREATE USER MAPPING FOR PUBLIC SERVER cpaas OPTIONS (api_key 'demo')");
	becomes(sub { status_of('without') }, 'sent', 'a new mapping: now', seconds => 10);
};

subtest 'a text that a firewall refuses is its own trouble' => sub {
	no_faults($simulator);
	forget($simulator);
	# The simulator matches paths: what goes to one gateway's path alone is refused while others are sent.
	my @firewall = (fault => 'http', value => 403, text => 'Forbidden', match => '/api/vendor');
	fault($simulator, @firewall, phrase => 'DROP TABLE');
	my $log_from = length slurp_file($node->logfile);
	queue_text('cpaas', 'DROP TABLE students', priority => 5);
	becomes("SELECT result_code || ' ' || (attempts > 1)::text FROM sms_outbox WHERE content = 'DROP TABLE students'",
		'403 true', 'it is tried again by itself');
	is(ask(state_of('cpaas')), 'active', 'the gateway is not paused');
	queue_many('cpaas', 'harmless', 20);
	becomes(count_of('harmless', 'sent'), '20', 'others go');
	unlike(substr(slurp_file($node->logfile), $log_from), qr/gateway "cpaas" is paused/, '… and no pause is told');
	ask("ALTER SERVER cpaas OPTIONS (ADD max_attempts '3')");
	becomes(sub { status_of('DROP TABLE students') }, 'failed', 'it fails by itself');

	no_faults($simulator);
	fault($simulator, @firewall);
	queue_many('cpaas', 'blocked', 30);
	becomes(state_of('cpaas'), 'paused', 'several that are refused: the gateway is paused');
	is(ask("SELECT count(*) FROM sms_outbox WHERE content LIKE 'blocked %' AND status = 'failed'"), '0', 'none fails');
	no_faults($simulator);
	fault($simulator, @firewall, phrase => 'blocked 1');
	becomes(state_of('cpaas'), 'active', 'a probe with another message passes', seconds => 40);
	becomes(sub { ask(count_of('blocked', 'sent')) >= 19 }, 1, '… and the others go', seconds => 20);
};

$node->stop;
done_testing();
