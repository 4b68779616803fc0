# Crashes at any moment: nothing is lost, and nothing goes twice.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $each = $ENV{SMS_CRASH_MESSAGES} // 3000;
my $kills = $ENV{SMS_CRASH_KILLS} // 5;
my $simulator = simulator();
my $node = server('crash', settings => "restart_after_crash = on\n");

# shop is idempotent by its RequestId, cpaas is not
gateways($node, $simulator, shop => "max_in_flight '100'", cpaas => "max_in_flight '100'");
fault($simulator, fault => 'latency', value => 60);

# Empties the outbox and queues as many messages for each of the two gateways.
sub load
{
	ask("SELECT sms_pause(g, 'loading') FROM unnest('{shop,cpaas}'::name[]) g");
	ask("TRUNCATE sms_outbox");
	forget($simulator);
	ask("INSERT INTO sms_outbox (gateway, phone, content)
		SELECT g, '0901234567', g || ' ' || i FROM generate_series(1, $each) i, unnest('{shop,cpaas}'::name[]) g");
	ask("SELECT sms_resume(g) FROM unnest('{shop,cpaas}'::name[]) g");
	return;
}

# The same, and comes back in the middle: some have arrived, many have not.
sub load_and_start
{
	load();
	becomes(sub { stats($simulator)->{requests} > $each / 10 }, 1, 'messages are on their way');
	return;
}

# What each message became, against what arrived.
sub account
{
	my ($what) = @_;
	my %received;
	for my $request (requests($simulator))
	{
		# a repeat that eSMS knows by its RequestId is refused, and sends nothing
		next if $request->{request_id} && $received{ $request->{content} };
		$received{ $request->{content} }++;
	}
	is(scalar(grep { $_ > 1 } values %received), 0, 'no message went twice');
	my %rows = map { split /\|/ } split /\n/, ask("SELECT content, status FROM sms_outbox");
	is(scalar keys %rows, 2 * $each, 'every row is there');
	is(scalar(grep { $rows{$_} eq 'sent' && !$received{$_} } keys %rows), 0, 'what is called sent has arrived');
	my %status;
	$status{$_}++ for values %rows;
	diag("$what: " . join ', ', map { "$_ $status{$_}" } sort keys %status);
	is(scalar(grep { !/^(sent|uncertain)$/ } keys %status), 0, 'all are sent or uncertain');
	is(ask("SELECT count(*) FROM sms_outbox WHERE gateway = 'shop' AND status <> 'sent'"), '0',
		'the idempotent gateway has sent all');
	is(ask("SELECT count(*) FROM sms_outbox WHERE status = 'uncertain' AND result_code IS DISTINCT FROM 'crash'"), '0',
		'only a crash made any uncertain');
	is(ask("SELECT count(*) FROM sms_gateway_lease"), '0', 'no lease is left');
	return;
}

subtest 'kill -9 of the worker, again and again' => sub {
	ok(worker_pid($node), 'the worker runs');
	load();
	for my $i (1 .. $kills)
	{
		my $pid = worker_pid($node);
		sleep 0.15 + 0.1 * $i;    # time itself: each kill comes at another moment of the work
		kill 'KILL', $pid;
		ok(wait_until(sub { !kill 0, $pid }), "kill $i");
		ok(wait_until(sub { eval { ask('SELECT true') } }), '… from which the server recovers');
	}
	ok(finish($node, 60), 'all is done in the end');
	account('kill -9 of the worker');
};

subtest 'the whole server stops at once' => sub {
	load_and_start();
	$node->stop('immediate');
	$node->start;
	ok(finish($node, 60), 'all is done in the end');
	account('immediate shutdown');
};

subtest 'the postmaster is killed' => sub {
	load_and_start();
	my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
	$node->kill9;
	# Its children end by themselves; until they have, and init has seen it, no other can start.
	ok(wait_until(sub { !kill(0, $postmaster) && $node->start(fail_ok => 1) }, 30), 'a new postmaster starts');
	ok(finish($node, 60), 'all is done in the end');
	account('kill -9 of the postmaster');
};

subtest 'an ordinary restart, with messages on their way' => sub {
	load_and_start();
	$node->restart;
	ok(finish($node, 60), 'all is done in the end');
	account('fast shutdown');
	is(ask("SELECT count(*) FROM sms_outbox WHERE status = 'uncertain'"), 0,
		'a fast shutdown lets what is under way come to its end: nothing is in doubt');
};

subtest 'told to end twice in a moment, as the postmaster tells a process and then its group' => sub {
	load_and_start();
	my $pid = worker_pid($node);
	kill 'TERM', $pid;
	sleep 0.005;    # time itself: so that the worker sees two signals, not one
	kill 'TERM', $pid;
	ok(wait_until(sub { !kill 0, $pid }), 'the worker ends');
	ok(finish($node, 60), 'another one does the rest');
	account('two signals');
	is(ask("SELECT count(*) FROM sms_outbox WHERE status = 'uncertain'"), 0, 'nothing is in doubt');
};

subtest 'sms_drain is canceled in the middle, in a server without workers' => sub {
	$node->append_conf('postgresql.conf', "sms_gateway.databases = 'none'");
	$node->restart;
	load();
	for my $ms (50, 75, 100, 125, 150)
	{
		my $timeout = $ms * patience();
		like(error_of("SET statement_timeout = '${timeout}ms'; CALL sms_drain()"), qr/statement timeout/,
			"sms_drain obeys statement_timeout, after $ms ms");
	}
	ask("CALL sms_drain()");
	account('canceled sms_drain');
	is(ask("SELECT count(*) FROM sms_outbox WHERE status = 'uncertain'"), 0,
		'one cancel lets what is under way come to its end: nothing is in doubt');
};

subtest "past the provider's 24 hours a repeat is not safe any more" => sub {
	ask("SELECT sms_pause('shop', 'test'); TRUNCATE sms_outbox;
		INSERT INTO sms_outbox (gateway, phone, content)
			VALUES ('shop', '0901234567', 'old'), ('shop', '0901234567', 'young');
		UPDATE sms_outbox SET unsure_since = now()
			- CASE content WHEN 'old' THEN interval '24 hours' ELSE interval '23 hours' END;
		SELECT sms_resume('shop')");
	ask("CALL sms_drain()");
	is(ask("SELECT string_agg(content || ' ' || status, ', ' ORDER BY content) FROM sms_outbox"),
		'old uncertain, young sent', 'a message whose first attempt is 24 hours old is not repeated');
	is(ask("SELECT sms_resolve(id, 'sent') FROM sms_outbox WHERE content = 'old'"), 't', 'but can be resolved');
	is(status_of('old'), 'sent', 'by hand');
};

$node->stop;
done_testing();
