# What an answer does to its gateway and to the others: pauses, rests, limits, fallbacks, fairness.
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
my $node = server('gateways');
sub ask { my ($sql) = @_; return scalar_of($node, $sql); }
sub status_of { my ($content) = @_; return ask("SELECT status, result_code FROM sms_outbox WHERE content = '$content'"); }
gateways($node, $simulator, shop => "timeout '1s'", cpaas => "timeout '1s'", omni => "timeout '1s'");
worker_pid($node);

# --- each class of answer, on a gateway where a repeat is safe and on one where it is not
my @cases = (
	# fault, eSMS, Interits
	[ [ fault => 'close' ], 'sent|124', 'uncertain|broken' ],
	[ [ fault => 'hang' ], 'sent|124', 'uncertain|timeout' ],
	[ [ fault => 'http', value => 500 ], 'sent|124', 'uncertain|500' ],
	[ [ fault => 'http', value => 504 ], 'sent|124', 'uncertain|504' ],
	[ [ fault => 'http', value => 503 ], 'sent|124', 'sent|200' ],
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
		ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('$gateway', '0901234567', '$gateway $name')");
		wait_until(sub { status_of("$gateway $name") =~ /^(sent|failed|uncertain)/ }, 10);
		is(status_of("$gateway $name"), $gateway eq 'shop' ? $esms : $interits, "$gateway: $name");
		no_faults($simulator);
	}
}
my $peak = slurp_file('/proc/' . worker_pid($node) . '/status');
$peak =~ /VmHWM:\s+(\d+)/;
cmp_ok($1, '<', memory(150) * 1024, 'the worker never had 150 MB');

# --- on_uncertain 'resend'
ask("ALTER SERVER cpaas OPTIONS (ADD on_uncertain 'resend')");
fault($simulator, fault => 'close', count => 1);
ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('cpaas', '0901234567', 'rather twice')");
ok(wait_until(sub { status_of('rather twice') eq 'sent|200' }, 10), 'a gateway may say that twice is better than never');
ask("ALTER SERVER cpaas OPTIONS (DROP on_uncertain)");

# --- a gateway that refuses everybody pauses, and loses nothing
fault($simulator, fault => 'code', text => '103', match => '/MainService');
ask("INSERT INTO sms_outbox (gateway, phone, content) SELECT 'shop', '0901234567', 'no balance ' || i FROM generate_series(1, 100) i");
ok(wait_until(sub { ask("SELECT state FROM sms_gateways WHERE name = 'shop'") eq 'paused' }, 5), 'a gateway without balance pauses');
like(ask("SELECT reason FROM sms_gateways WHERE name = 'shop'"), qr/^103/, 'and says why');
ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('cpaas', '0901234567', 'unaffected')");
ok(wait_until(sub { status_of('unaffected') eq 'sent|200' }, 2), 'the others go on');
my $asked = stats($simulator)->{requests};
sleep 2;
cmp_ok(stats($simulator)->{requests} - $asked, '<=', 1, 'it is left alone meanwhile');
is(ask("SELECT max(attempts), count(*) FROM sms_outbox WHERE content LIKE 'no balance %' AND status = 'queued'"), '0|100', 'no message lost an attempt');
no_faults($simulator);
ok(wait_until(sub { ask("SELECT count(*) FROM sms_outbox WHERE content LIKE 'no balance %' AND status = 'sent'") eq '100' }, 20), 'it resumes by itself');
is(ask("SELECT state FROM sms_gateways WHERE name = 'shop'"), 'active', 'and is active');

# --- throttled: it rests as long as it asks for, and no attempt is lost
forget($simulator);
fault($simulator, fault => 'retry_after', value => 2, count => 1);
my $start = time;
ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'slow down')");
ok(wait_until(sub { status_of('slow down') eq 'sent|100' || status_of('slow down') eq 'sent|124' }, 10), 'a throttled message goes later');
cmp_ok(time - $start, '>=', 1.9, 'after the time the gateway asked for');
is(ask("SELECT attempts FROM sms_outbox WHERE content = 'slow down'"), '1', 'with one attempt');

# --- fallback: only what certainly failed, and once through the chain
ask("ALTER SERVER shop OPTIONS (ADD fallback 'cpaas')");
ask("ALTER SERVER cpaas OPTIONS (ADD fallback 'shop')");
fault($simulator, fault => 'code', text => '104', match => '/MainService', count => 1);
ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'falls back')");
ok(wait_until(sub { status_of('falls back') eq 'sent|200' }, 10), 'another gateway takes over');
is(ask("SELECT gateway, details->'failed_over'->0->>'gateway', details->'failed_over'->0->>'result_code' FROM sms_outbox WHERE content = 'falls back'"),
	'cpaas|shop|104', 'and the row tells both');
fault($simulator, fault => 'http', value => 400);
ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'fails everywhere')");
ok(wait_until(sub { status_of('fails everywhere') eq 'failed|400' }, 10), 'it fails when all have failed');
is(ask("SELECT jsonb_array_length(details->'failed_over') FROM sms_outbox WHERE content = 'fails everywhere'"), '1', 'each was asked once');
no_faults($simulator);
fault($simulator, fault => 'close', match => '/api/vendor', count => 1);
ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('cpaas', '0901234567', 'uncertain stays')");
ok(wait_until(sub { status_of('uncertain stays') =~ /uncertain/ }, 10), 'an uncertain message does not fall back');
no_faults($simulator);
ask("ALTER SERVER shop OPTIONS (DROP fallback); ALTER SERVER cpaas OPTIONS (DROP fallback)");

# --- a rate limit holds, without bursts, also across a restart of the worker
my $rate = 40;
ask("ALTER SERVER shop OPTIONS (ADD rate_limit '$rate')");
forget($simulator);
ask("INSERT INTO sms_outbox (gateway, phone, content) SELECT 'shop', '0901234567', 'limited ' || i FROM generate_series(1, 700) i");
sleep 4;
ask("SELECT pg_terminate_backend(" . worker_pid($node) . ")");
sleep 8.5;
ask("SELECT sms_pause('shop', 'enough')");
sleep 0.5;
my @times = sort { $a <=> $b } map { $_->{time} } requests($simulator);
my $most = 0;
for my $i (0 .. $#times)
{
	my $n = grep { $_ >= $times[$i] && $_ < $times[$i] + 1 } @times;
	$most = $n if $n > $most;
}
cmp_ok($most, '<=', $rate + 4 * patience(), "never more than a second's worth in any second, also around the restart");
# The fastest five seconds: a machine that stalls makes others slower, but none faster.
my @steady = grep { $_ > $times[-1] - 7 } @times;
my $measured = 0;
for my $i (0 .. $#steady)
{
	my ($end) = grep { $steady[$_] >= $steady[$i] + 5 } $i .. $#steady or last;
	my $rate_here = ($end - $i) / ($steady[$end] - $steady[$i]);
	$measured = $rate_here if $rate_here > $measured;
}
cmp_ok(abs($measured / $rate - 1), '<', 0.02 * patience(), sprintf('%.2f a second for %d allowed', $measured, $rate));
ask("ALTER SERVER shop OPTIONS (DROP rate_limit)");
ask("SELECT sms_resume('shop')");
finish($node, 30);

# --- a gateway that hangs, with 500 urgent messages, holds up nobody
fault($simulator, fault => 'hang', match => '/api/Omni');
ask("INSERT INTO sms_outbox (gateway, kind, phone, template_code, priority) SELECT 'omni', 'omni', '0901234567', 'T', 9 FROM generate_series(1, 500)");
sleep 0.5;
cmp_ok(median_ms($node, 'cpaas'), '<', 30 * slowness(), 'the median beside a hanging gateway is below 30 ms');
no_faults($simulator);
ask("SELECT sms_pause('omni', 'enough of it'); DELETE FROM sms_outbox WHERE gateway = 'omni'");

# --- bulk does not hold up an urgent message of the same gateway
fault($simulator, fault => 'latency', value => 100);
ask("INSERT INTO sms_outbox (gateway, phone, content) SELECT 'shop', '0901234567', 'bulk ' || i FROM generate_series(1, 5000) i");
sleep 1;
ask("INSERT INTO sms_outbox (gateway, phone, content, priority) VALUES ('shop', '0901234567', 'urgent', 10)");
ok(wait_until(sub { status_of('urgent') eq 'sent|100' }, 5), 'an urgent message');
cmp_ok(ask("SELECT extract(epoch FROM sent_at - created_at) * 1000 FROM sms_outbox WHERE content = 'urgent'"), '<', 400 * slowness(), 'waits for a round of the bulk, not for all of it');
cmp_ok(ask("SELECT count(*) FROM sms_outbox WHERE content LIKE 'bulk %' AND status = 'queued'"), '>', 0, '(of which there was still some)');
no_faults($simulator);
finish($node, 30);

# --- messages of a server that is gone are held, at no cost, until there is one again
ask("SELECT sms_pause('shop', 'test')");
ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'orphaned')");
my $create = "CREATE SERVER shop FOREIGN DATA WRAPPER esms OPTIONS (base_url '$simulator->{url}', brandname 'MYSHOP');
	CREATE USER MAPPING FOR PUBLIC SERVER shop OPTIONS (api_key 'demo', secret_key 'demo')";
ask("BEGIN; SELECT sms_resume('shop'); DROP SERVER shop CASCADE; COMMIT");
sub ticks { my @stat = split ' ', slurp_file('/proc/' . worker_pid($node) . '/stat'); return $stat[13] + $stat[14]; }
my $before = ticks();
sleep 3;
cmp_ok(ticks() - $before, '<', 30, 'the worker does not spin');
is(status_of('orphaned'), 'queued|', 'the message waits');
ask($create);
ok(wait_until(sub { status_of('orphaned') eq 'sent|100' }, 12), 'and goes through the new server');

# --- sms_drain does not wait for a paused gateway; a claimed message goes back when its gateway is paused
ask("ALTER SERVER shop OPTIONS (ADD max_in_flight '1')");
fault($simulator, fault => 'latency', value => 1500 * patience());
ask("INSERT INTO sms_outbox (gateway, phone, content) SELECT 'shop', '0901234567', 'paused ' || i FROM generate_series(1, 3) i");
ok(wait_until(sub { ask("SELECT in_flight FROM sms_gateways WHERE name = 'shop'") > 1 }, 5), 'one is sent, another claimed');
ask("SELECT sms_pause('shop', 'test')");
ok(wait_until(sub { ask("SELECT in_flight FROM sms_gateways WHERE name = 'shop'") eq '1' }, 1), 'the claimed one goes back at once');
$start = time;
$node->safe_psql('postgres', 'CALL sms_drain()');
cmp_ok(time - $start, '<', 5 * patience(), 'sms_drain returns');
is(ask("SELECT string_agg(status::text, ',' ORDER BY id) FROM sms_outbox WHERE content LIKE 'paused %'"), 'sent,queued,queued', 'and one was sent');
is(ask("SELECT bool_and(sms_cancel(id)) FROM sms_outbox WHERE content LIKE 'paused %' AND status = 'queued'"), 't', 'the others can be canceled');
no_faults($simulator);
ask("ALTER SERVER shop OPTIONS (DROP max_in_flight); SELECT sms_resume('shop')");

# --- a gateway out of reach is not hammered, and nothing is lost when it comes back
my $gone = simulator();
ask("ALTER SERVER shop OPTIONS (SET base_url '$gone->{url}')");
$gone->{process}->kill_kill;
ask("INSERT INTO sms_outbox (gateway, phone, content) SELECT 'shop', '0901234567', 'unreachable ' || i FROM generate_series(1, 200) i");
sleep 1;
is(ask("SELECT count(*) FROM sms_outbox WHERE content LIKE 'unreachable %' AND status = 'queued'"), '200', 'all wait');
is(ask("SELECT DISTINCT result_code FROM sms_outbox WHERE content LIKE 'unreachable %' AND attempts > 0"), 'connect', 'the rows say why');
ask("ALTER SERVER shop OPTIONS (SET base_url '$simulator->{url}')");
ok(wait_until(sub { ask("SELECT count(*) FROM sms_outbox WHERE content LIKE 'unreachable %' AND status = 'sent'") eq '200' }, 30), 'and go when it is back');

$node->stop;
done_testing();
