# What an answer does to its gateway and to the others: pauses, rests, limits, fallbacks, fairness.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $simulator = simulator();
my $node = server('gateways');
gateways($node, $simulator, shop => "timeout '1s'", cpaas => "timeout '1s'", omni => "timeout '1s'");
worker_pid($node);

# What became of a text: its status and the provider's code.
sub outcome
{
	my ($content) = @_;
	return ask("SELECT status, result_code FROM sms_outbox WHERE content = '$content'");
}

# Queues so many texts for shop: "$name 1", "$name 2" and so on.
sub queue_many
{
	my ($name, $count) = @_;
	ask("INSERT INTO sms_outbox (gateway, phone, content)
		SELECT 'shop', '0901234567', '$name ' || i FROM generate_series(1, $count) i");
	return;
}

# SQL: how many of these have a status.
sub count_of
{
	my ($name, $status) = @_;
	return "SELECT count(*) FROM sms_outbox WHERE content LIKE '$name %' AND status = '$status'";
}

# The processor time that the worker has had, in 1/100 s.
sub ticks
{
	my @stat = split ' ', slurp_file('/proc/' . worker_pid($node) . '/stat');
	return $stat[13] + $stat[14];
}

subtest 'each class of answer, on a gateway where a repeat is safe and on one where it is not' => sub {
	my @cases = (
		# fault, eSMS, Interits
		[ [ fault => 'close' ], 'sent|124', 'uncertain|broken' ],
		[ [ fault => 'hang' ], 'sent|124', 'uncertain|timeout' ],
		[ [ fault => 'http', value => 500 ], 'sent|124', 'uncertain|500' ],
		[ [ fault => 'http', value => 504 ], 'sent|124', 'uncertain|504' ],
		[ [ fault => 'http', value => 503 ], 'sent|100', 'sent|200' ],
		[ [ fault => 'garbage' ], 'sent|124', 'uncertain|200' ],
		[ [ fault => 'truncate' ], 'sent|124', 'uncertain|broken' ],
		[ [ fault => 'huge', value => 200 ], 'sent|124', 'uncertain|too_large' ],
		[ [ fault => 'http', value => 400 ], 'failed|400', 'failed|400' ],
		[ [ fault => 'refuse' ], 'sent|100', 'uncertain|broken' ],
	);
	for my $case (@cases)
	{
		my ($fault, $esms, $interits) = @$case;
		my %fault = @$fault;
		my $name = join ' ', values %fault;
		for my $gateway ('shop', 'cpaas')
		{
			forget($simulator);
			fault($simulator, %fault, count => 1);
			queue_text($gateway, "$gateway $name");
			wait_until(sub { status_of("$gateway $name") =~ /^(sent|failed|uncertain)$/ }, 10);
			is(outcome("$gateway $name"), $gateway eq 'shop' ? $esms : $interits, "$gateway: $name");
			no_faults($simulator);
		}
	}
	my ($peak) = slurp_file('/proc/' . worker_pid($node) . '/status') =~ /VmHWM:\s+(\d+)/;
	cmp_ok($peak, '<', memory(150) * 1024, 'the worker never had 150 MB');
};

subtest "on_uncertain 'resend'" => sub {
	ask("ALTER SERVER cpaas OPTIONS (ADD on_uncertain 'resend')");
	fault($simulator, fault => 'close', count => 1);
	queue_text('cpaas', 'rather twice');
	becomes(sub { outcome('rather twice') }, 'sent|200', 'a gateway may say that twice is better than never',
		seconds => 10);
	ask("ALTER SERVER cpaas OPTIONS (DROP on_uncertain)");
};

subtest 'a gateway that refuses everybody pauses, and loses nothing' => sub {
	my $state = "SELECT state FROM sms_gateways WHERE name = 'shop'";
	fault($simulator, fault => 'code', text => '103', match => '/MainService');
	queue_many('no balance', 100);
	becomes($state, 'paused', 'a gateway without balance pauses', seconds => 5);
	like(ask("SELECT reason FROM sms_gateways WHERE name = 'shop'"), qr/^103/, 'and says why');
	queue_text('cpaas', 'unaffected');
	becomes(sub { outcome('unaffected') }, 'sent|200', 'the others go on', seconds => 2);
	my $asked = stats($simulator)->{requests};
	stays(sub { stats($simulator)->{requests} - $asked }, qr/^[01]$/, 2, 'it is left alone meanwhile');
	is(ask("SELECT max(attempts), count(*) FROM sms_outbox WHERE content LIKE 'no balance %' AND status = 'queued'"),
		'0|100', 'no message lost an attempt');
	no_faults($simulator);
	becomes(count_of('no balance', 'sent'), '100', 'it resumes by itself', seconds => 20);
	my @requests = grep { $_->{content} =~ /^no balance/ } requests($simulator);
	my %ids = map { $_->{body}{RequestId} => 1 } @requests;
	cmp_ok(scalar @requests, '>', 100, 'some were refused');
	is(scalar keys %ids, scalar @requests, '… and have gone with another RequestId then');
	is(ask($state), 'active', 'and is active');
};

subtest 'a throttled gateway rests as long as it asks for, and no attempt is lost' => sub {
	fault($simulator, fault => 'retry_after', value => 2, count => 1);
	my $seconds = took(sub {
		queue_text('shop', 'slow down');
		becomes(sub { outcome('slow down') }, 'sent|100', 'a throttled message goes later', seconds => 10);
	});
	cmp_ok($seconds, '>=', 1.9, 'after the time the gateway asked for');
	is(ask("SELECT attempts FROM sms_outbox WHERE content = 'slow down'"), '1', 'with one attempt');
};

subtest 'fallback: only what certainly failed, and once through the chain' => sub {
	ask("ALTER SERVER shop OPTIONS (ADD fallback 'cpaas')");
	ask("ALTER SERVER cpaas OPTIONS (ADD fallback 'shop')");
	fault($simulator, fault => 'code', text => '104', match => '/MainService', count => 1);
	queue_text('shop', 'falls back');
	becomes(sub { outcome('falls back') }, 'sent|200', 'another gateway takes over', seconds => 10);
	is(ask("SELECT gateway, details->'failed_over'->0->>'gateway', details->'failed_over'->0->>'result_code'
			FROM sms_outbox WHERE content = 'falls back'"), 'cpaas|shop|104', 'and the row tells both');
	fault($simulator, fault => 'http', value => 400);
	queue_text('shop', 'fails everywhere');
	becomes(sub { outcome('fails everywhere') }, 'failed|400', 'it fails when all have failed', seconds => 10);
	is(ask("SELECT jsonb_array_length(details->'failed_over') FROM sms_outbox WHERE content = 'fails everywhere'"), '1',
		'each was asked once');
	no_faults($simulator);
	fault($simulator, fault => 'close', match => '/api/vendor', count => 1);
	queue_text('cpaas', 'uncertain stays');
	becomes(sub { status_of('uncertain stays') }, 'uncertain', 'an uncertain message does not fall back',
		seconds => 10);
	no_faults($simulator);
	ask("ALTER SERVER shop OPTIONS (DROP fallback); ALTER SERVER cpaas OPTIONS (DROP fallback)");
};

subtest 'a rate limit holds, without bursts, also across a restart of the worker' => sub {
	my $rate = 40;
	ask("ALTER SERVER shop OPTIONS (ADD rate_limit '$rate')");
	forget($simulator);
	queue_many('limited', 700);
	sleep 4;    # time itself: a rate is measured
	ask("SELECT pg_terminate_backend(" . worker_pid($node) . ")");
	sleep 8.5;    # time itself: the rate after the restart
	ask("SELECT sms_pause('shop', 'enough')");
	becomes(sub { in_flight('shop') }, '0', 'all that is on its way has arrived');
	my @times = sort { $a <=> $b } map { $_->{time} } requests($simulator);
	my $most = 0;
	for my $i (0 .. $#times)
	{
		my $n = grep { $_ >= $times[$i] && $_ < $times[$i] + 1 } @times;
		$most = $n if $n > $most;
	}
	cmp_ok($most, '<=', $rate + 4 * patience(),
		"never more than a second's worth in any second, also around the restart");
	# The fastest five seconds: a machine that stalls makes others slower, but none faster.
	my @steady = grep { $_ > $times[-1] - 7 } @times;
	my $measured = 0;
	for my $i (0 .. $#steady)
	{
		my ($end) = grep { $steady[$_] >= $steady[$i] + 5 } $i .. $#steady or last;
		my $rate_here = ($end - $i) / ($steady[$end] - $steady[$i]);
		$measured = $rate_here if $rate_here > $measured;
	}
	cmp_ok(abs($measured / $rate - 1), '<', 0.02 * patience(),
		sprintf('%.2f a second for %d allowed', $measured, $rate));
	ask("ALTER SERVER shop OPTIONS (DROP rate_limit)");
	ask("SELECT sms_resume('shop')");
	finish($node, 30);
};

subtest 'a gateway that hangs, with 500 urgent messages, holds up nobody' => sub {
	hang($simulator, match => '/api/Omni');
	ask("INSERT INTO sms_outbox (gateway, kind, phone, template_code, priority)
		SELECT 'omni', 'omni', '0901234567', 'T', 9 FROM generate_series(1, 500)");
	becomes(sub { in_flight('omni') > 0 }, 1, 'it hangs');
	cmp_ok(median_ms($node, 'cpaas'), '<', 30 * slowness(), 'the median beside a hanging gateway is below 30 ms');
	no_faults($simulator);
	ask("SELECT sms_pause('omni', 'enough of it'); DELETE FROM sms_outbox WHERE gateway = 'omni'");
};

subtest 'bulk does not hold up an urgent message of the same gateway' => sub {
	fault($simulator, fault => 'latency', value => 100);
	queue_many('bulk', 5000);
	becomes("SELECT count(*) > 0 FROM sms_outbox WHERE content LIKE 'bulk %' AND status = 'sent'", 't',
		'bulk is being sent');
	queue_text('shop', 'urgent', priority => 10);
	becomes(sub { outcome('urgent') }, 'sent|100', 'an urgent message', seconds => 5);
	cmp_ok(ask("SELECT extract(epoch FROM sent_at - created_at) * 1000 FROM sms_outbox WHERE content = 'urgent'"), '<',
		400 * slowness(), 'waits for a round of the bulk, not for all of it');
	cmp_ok(ask(count_of('bulk', 'queued')), '>', 0, '(of which there was still some)');
	no_faults($simulator);
	finish($node, 30);
};

subtest 'messages of a server that is gone are held, at no cost, until there is one again' => sub {
	ask("SELECT sms_pause('shop', 'test')");
	queue_text('shop', 'orphaned');
	ask("BEGIN; SELECT sms_resume('shop'); DROP SERVER shop CASCADE; COMMIT");
	my $before = ticks();
	sleep 3;    # time itself: so long the worker has nothing to do
	cmp_ok(ticks() - $before, '<', 30, 'the worker does not spin');
	is(outcome('orphaned'), 'queued|', 'the message waits');
	ask("CREATE SERVER shop FOREIGN DATA WRAPPER esms OPTIONS (base_url '$simulator->{url}', brandname 'MYSHOP');
		CREATE USER MAPPING FOR PUBLIC SERVER shop OPTIONS (api_key 'demo', secret_key 'demo')");
	becomes(sub { outcome('orphaned') }, 'sent|100', 'and goes through the new server', seconds => 12);
};

subtest 'sms_drain does not wait for a paused gateway, whose claimed messages go back' => sub {
	ask("ALTER SERVER shop OPTIONS (ADD max_in_flight '1')");
	fault($simulator, fault => 'latency', value => 1500 * patience());
	queue_many('paused', 3);
	becomes(sub { in_flight('shop') > 1 }, 1, 'one is sent, another claimed', seconds => 5);
	ask("SELECT sms_pause('shop', 'test')");
	becomes(sub { in_flight('shop') }, '1', 'the claimed one goes back at once', seconds => 1);
	cmp_ok(took(sub { ask('CALL sms_drain()') }), '<', 5 * patience(), 'sms_drain returns');
	is(ask("SELECT string_agg(status::text, ',' ORDER BY id) FROM sms_outbox WHERE content LIKE 'paused %'"),
		'sent,queued,queued', 'and one was sent');
	is(ask("SELECT bool_and(sms_cancel(id)) FROM sms_outbox WHERE content LIKE 'paused %' AND status = 'queued'"), 't',
		'the others can be canceled');
	no_faults($simulator);
	ask("ALTER SERVER shop OPTIONS (DROP max_in_flight); SELECT sms_resume('shop')");
};

subtest 'a gateway out of reach is not hammered, and nothing is lost when it comes back' => sub {
	my $gone = simulator();
	ask("ALTER SERVER shop OPTIONS (SET base_url '$gone->{url}')");
	$gone->{process}->kill_kill;
	queue_many('unreachable', 200);
	stays(count_of('unreachable', 'queued'), '200', 1, 'all wait');
	is(ask("SELECT DISTINCT result_code FROM sms_outbox WHERE content LIKE 'unreachable %' AND attempts > 0"),
		'connect', 'the rows say why');
	ask("ALTER SERVER shop OPTIONS (SET base_url '$simulator->{url}')");
	becomes(count_of('unreachable', 'sent'), '200', 'and go when it is back', seconds => 30);
};

$node->stop;
done_testing();
