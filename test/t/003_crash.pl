# Crashes at any moment: nothing is lost, and nothing goes twice.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $each = $ENV{SMS_CRASH_MESSAGES} // 3000;
my $kills = $ENV{SMS_CRASH_KILLS} // 5;
my $simulator = simulator();
my $node = server('crash', settings => "restart_after_crash = on\n");
sub ask { my ($sql) = @_; return scalar_of($node, $sql); }
sub up { return $node->poll_query_until('postgres', 'SELECT true'); }

# shop is idempotent by its RequestId, cpaas is not
gateways($node, $simulator, shop => "max_in_flight '100'", cpaas => "max_in_flight '100'");
ok(worker_pid($node), 'the worker runs');

# What each message became, against what arrived.  $twice: messages accepted twice.
sub account
{
	my ($what, $total) = @_;
	my (%received, $twice, $missing);
	for my $request (requests($simulator))
	{
		# a repeat that eSMS knows by its RequestId is refused, and sends nothing
		next if $request->{request_id} && $received{ $request->{content} };
		$received{ $request->{content} }++;
	}
	$twice = grep { $_ > 1 } values %received;
	is($twice, 0, "$what: no message went twice");
	my %rows = map { split /\|/ } split /\n/, ask("SELECT content, status FROM sms_outbox");
	is(scalar keys %rows, $total, "$what: every row is there");
	$missing = grep { $rows{$_} eq 'sent' && !$received{$_} } keys %rows;
	is($missing, 0, "$what: what is called sent has arrived");
	my %status;
	$status{$_}++ for values %rows;
	diag("$what: " . join(', ', map { "$_ $status{$_}" } sort keys %status));
	is(scalar(grep { !/^(sent|uncertain)$/ } keys %status), 0, "$what: all are sent or uncertain");
	is(ask("SELECT count(*) FROM sms_outbox WHERE gateway = 'shop' AND status <> 'sent'"), '0',
		"$what: the idempotent gateway has sent all");
	is(ask("SELECT count(*) FROM sms_outbox WHERE status = 'uncertain' AND result_code IS DISTINCT FROM 'crash'"), '0',
		"$what: only a crash made any uncertain");
	is(ask("SELECT count(*) FROM sms_gateway_lease"), '0', "$what: no lease is left");
	return;
}

sub queue
{
	ask("SELECT sms_pause(g, 'loading') FROM unnest('{shop,cpaas}'::name[]) g");
	ask("TRUNCATE sms_outbox");
	forget($simulator);
	ask("INSERT INTO sms_outbox (gateway, phone, content)
		SELECT g, '0901234567', g || ' ' || i FROM generate_series(1, $each) i, unnest('{shop,cpaas}'::name[]) g");
	ask("SELECT sms_resume(g) FROM unnest('{shop,cpaas}'::name[]) g");
	return;
}

# --- kill -9 of the worker, again and again
fault($simulator, fault => 'latency', value => 60);
queue();
for my $i (1 .. $kills)
{
	my $pid = worker_pid($node);
	sleep 0.15 + 0.1 * $i;
	kill 'KILL', $pid;
	sleep 0.1;
	ok(up(), "the server recovers from kill $i");
}
ok(finish($node, 60), 'all is done in the end');
account('kill -9 of the worker', 2 * $each);

# --- the whole server stops at once
queue();
sleep 0.4;
$node->stop('immediate');
$node->start;
ok(finish($node, 60), 'all is done in the end');
account('immediate shutdown', 2 * $each);

# --- the postmaster is killed
queue();
sleep 0.4;
my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
$node->kill9;
# Its children end by themselves; until they have, and init has seen it, no other can start.
ok(wait_until(sub { !kill(0, $postmaster) && $node->start(fail_ok => 1) }, 30), 'a new postmaster starts');
ok(finish($node, 60), 'all is done in the end');
account('kill -9 of the postmaster', 2 * $each);

# --- an ordinary restart, with messages on their way
queue();
sleep 0.4;
$node->restart;
ok(finish($node, 60), 'all is done in the end');
account('fast shutdown', 2 * $each);
is(ask("SELECT count(*) FROM sms_outbox WHERE status = 'uncertain'"), 0, 'a fast shutdown lets what is under way come to its end: nothing is in doubt');

# --- sms_drain is canceled in the middle, at one time and another, in a server without workers
$node->append_conf('postgresql.conf', "sms_gateway.databases = 'none'");
$node->restart;
queue();
my ($out, $err);
for my $ms (50, 75, 100, 125, 150)
{
	$node->psql('postgres', "SET statement_timeout = '" . $ms * patience() . "ms'; CALL sms_drain()", stderr => \$err);
	like($err, qr/statement timeout/, "sms_drain obeys statement_timeout, after $ms ms");
}
$node->safe_psql('postgres', "CALL sms_drain()");
account('canceled sms_drain', 2 * $each);

# --- past the provider's 24 hours a repeat is not safe any more
ask("SELECT sms_pause('shop', 'test'); TRUNCATE sms_outbox;
	INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'old'), ('shop', '0901234567', 'young');
	UPDATE sms_outbox SET unsure_since = now() - CASE content WHEN 'old' THEN interval '24 hours' ELSE interval '23 hours' END;
	SELECT sms_resume('shop')");
$node->safe_psql('postgres', "CALL sms_drain()");
is(ask("SELECT string_agg(content || ' ' || status, ', ' ORDER BY content) FROM sms_outbox"), 'old uncertain, young sent',
	'a message whose first attempt is 24 hours old is not repeated');
is(ask("SELECT sms_resolve(id, 'sent') FROM sms_outbox WHERE content = 'old'"), 't', 'but can be resolved');
is(ask("SELECT status FROM sms_outbox WHERE content = 'old'"), 'sent', 'by hand');

$node->stop;
done_testing();
