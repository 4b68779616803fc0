# CALL sms_drain() that is told to end: what is under way comes to its end first. A synchronous standby that is gone.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use IO::Socket::INET;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use SmsTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $simulator = simulator();
my $node = server('drain', settings => "sms_gateway.databases = 'nothing'\n", streaming => 1);
gateways($node, $simulator, cpaas => "max_in_flight '5'");

my $drains = "FROM pg_stat_activity WHERE query ~ '^(CALL|DO)'";

# Queues 20 messages, which a gateway that cannot be asked twice takes five at a time; answers come after some seconds.
sub load
{
	my ($seconds) = @_;
	ask("DELETE FROM sms_outbox; SELECT sms_resume('cpaas')");
	forget($simulator);
	no_faults($simulator);
	fault($simulator, fault => 'latency', value => 1000 * $seconds) if $seconds;
	ask("INSERT INTO sms_outbox (gateway, phone, content)
		SELECT 'cpaas', '0901234567', 'text ' || i FROM generate_series(1, 20) i");
	return;
}

# Commands in a session of their own, begun; wait for it with ended().
sub begin
{
	my @commands = @_;
	my ($out, $err) = ('', '');
	my @psql = ('psql', '-X', '-q', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres'));
	return { process => IPC::Run::start([ @psql, map { ('-c', $_) } @commands ], \undef, \$out, \$err), said => \$err };
}

# Waits for such a session; returns what it complained of.
sub ended { my ($session) = @_; $session->{process}->finish; return ${ $session->{said} }; }

# The messages by status, and how many requests have arrived.
sub account
{
	return ask("SELECT string_agg(status || ' ' || n, ', ' ORDER BY status)
		FROM (SELECT status, count(*) AS n FROM sms_outbox GROUP BY 1) x") . '; ' . requests($simulator);
}

# Asserts that five messages were sent, and the others wait; and that these are not in anybody's hands.
sub in_good_order
{
	my ($what) = @_;
	is(account(), 'queued 15, sent 5; 5', "$what: what was under way is sent and recorded, the others wait");
	is(ask("SELECT count(*) FROM sms_gateway_lease"), '0', "$what: nothing is in doubt");
	is(ask("SELECT max(attempts) FROM sms_outbox"), '1', "$what: one attempt each");
	return;
}

# Drains, in a session of its own, until five requests have arrived.
sub drain_five
{
	my $session = begin(@_ ? @_ : 'CALL sms_drain()');
	wait_until(sub { requests($simulator) == 5 }, 5) or diag 'they do not arrive';
	return $session;
}

subtest 'it ends when nothing is due, whatever is to be asked about later' => sub {
	load(0);
	ask("ALTER SERVER shop OPTIONS (SET poll_delivery 'true'); DELETE FROM sms_outbox;
		INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'asked about')");
	cmp_ok(took(sub { ask('CALL sms_drain()') }), '<', 3, 'it does not wait for the first question about delivery');
	is(ask("SELECT status, poll_at > now() FROM sms_outbox"), 'sent|t', '… which is to be asked');
	ask("UPDATE sms_outbox SET status = 'failed', poll_at = now() - interval '1 minute'");
	cmp_ok(took(sub { ask('CALL sms_drain()') }), '<', 3, 'nor for one that somebody has ended by hand');
	ask("ALTER SERVER shop OPTIONS (SET poll_delivery 'false')");
};

subtest 'one cancel: what is under way comes to its end' => sub {
	my $timeout = 500 * patience();
	load(1.5 * patience());
	my $took = took(sub {
		like(error_of("SET statement_timeout = '${timeout}ms'; CALL sms_drain()"),
			qr/57014.*due to statement timeout/, 'statement_timeout is the error');
	});
	cmp_ok($took, '>', 1.2 * patience(), '… which comes after the answers');
	in_good_order('statement_timeout');

	load(1);
	my $session = drain_five();
	is(ask("SELECT pg_cancel_backend(pid) $drains"), 't', 'canceled');
	like(ended($session), qr/57014.*due to user request/, 'the cancel is the error');
	in_good_order('pg_cancel_backend');

	load(1);
	$session = drain_five();
	$session->{process}->signal('INT');
	like(ended($session), qr/57014.*due to user request/, 'the same by Ctrl-C');
	in_good_order('Ctrl-C');

	load(1);
	$session = drain_five('DO $$ BEGIN CALL sms_drain(); END $$');
	ask("SELECT pg_cancel_backend(pid) $drains");
	like(ended($session), qr/57014.*due to user request/, 'the same inside DO');
	in_good_order('DO');
	no_faults($simulator);
	is(ask('CALL sms_drain()') . account(), 'sent 20; 20', 'the next call does the rest');
};

subtest 'a second cancel, and pg_terminate_backend, end at once' => sub {
	for my $end (qw(pg_cancel_backend pg_terminate_backend))
	{
		load();
		hang($simulator);
		my $session = drain_five();
		if ($end eq 'pg_cancel_backend')
		{
			ask("SELECT pg_cancel_backend(pid) $drains");
			stays("SELECT count(*) $drains", '1', 1, 'one cancel waits for the answers');
		}
		ask("SELECT $end(pid) $drains");
		my $said;
		cmp_ok(took(sub { $said = ended($session) }), '<', 1 * slowness(), "$end: at once");
		like($said, $end eq 'pg_cancel_backend' ? qr/57014.*user request/ : qr/57P01/, '… with its error');
		no_faults($simulator);
		ask('CALL sms_drain()');
		like(account(), qr/^sent 1[0-5], uncertain [5-9]; /, 'then, what was under way is in doubt');
	}
};

subtest 'a call that waits for another one has nothing under way' => sub {
	load(2);
	my $first = drain_five();
	my $timeout = 300 * patience();
	cmp_ok(took(sub { error_of("SET statement_timeout = '${timeout}ms'; CALL sms_drain()") }), '<',
		1.2 * slowness(), 'it ends at once');
	no_faults($simulator);
	ended($first);
	is(account(), 'sent 20; 20', 'the other goes on');
};

subtest 'a row that somebody holds does not hold a canceled call for long' => sub {
	load(1);
	my $session = drain_five();
	my $holder = $node->background_psql('postgres', on_error_stop => 0);
	$holder->query_safe("BEGIN; SELECT id FROM sms_outbox WHERE content = 'text 1' FOR UPDATE");
	ask("SELECT pg_cancel_backend(pid) $drains");
	my $said;
	cmp_ok(took(sub { $said = ended($session) }), '<', 8 * slowness(), 'some seconds after the answer');
	like($said, qr/57014.*due to user request/, '… with the error of the cancel');
	is(account(), 'queued 16, sent 4; 5', 'what can be recorded is');
	$holder->query_safe('ROLLBACK');
	$holder->quit;
	no_faults($simulator);
	ask('CALL sms_drain()');
	is(account(), 'sent 20; 20', 'its answer is not lost, and it is not sent again');
};

subtest 'one cancel: a request that has no connection yet goes back at once' => sub {
	my $silent = IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1');    # never says a word of TLS
	ask("ALTER SERVER cpaas OPTIONS (SET base_url 'https://127.0.0.1:" . $silent->sockport . "')");
	load();
	my $session = begin('CALL sms_drain()');
	becomes(sub { in_flight('cpaas') }, qr/^[1-9]/, 'it connects');
	stays("SELECT count(*) $drains", '1', 0.3, '… and connects');
	ask("SELECT pg_cancel_backend(pid) $drains");
	cmp_ok(took(sub { like(ended($session), qr/57014.*user request/, 'canceled') }), '<', 1 * slowness(), '… at once');
	is(account(), 'queued 20; 0', 'nothing has gone');
	is(ask("SELECT (SELECT count(*) FROM sms_gateway_lease), max(attempts) FROM sms_outbox"), '0|0',
		'nothing is in doubt, and that was no attempt');
	ask("ALTER SERVER cpaas OPTIONS (SET base_url '$simulator->{url}')");
};

# Somebody who locks a table, or a trigger that fails, would cost the call its answers.
subtest 'an error in a round: what is under way is sent and recorded before it is raised' => sub {
	my $holder = $node->background_psql('postgres', on_error_stop => 0);
	for my $table (qw(sms_outbox sms_gateway_lease sms_gateway_identity))
	{
		load(1);
		my $session = drain_five();
		$holder->query_safe("BEGIN; LOCK TABLE $table IN ACCESS EXCLUSIVE MODE");
		stays("SELECT count(*) $drains", '1', 2, "$table is locked, answers come: the call goes on");
		$holder->query_safe('COMMIT');
		like(ended($session), qr/ERROR:  55P03:.*"$table"/, '… and ends with that error');
		in_good_order("$table was locked");
	}

	load();
	ask("CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE deadlock_detected; END';
		CREATE TRIGGER fails BEFORE DELETE OR UPDATE ON sms_gateway_lease EXECUTE FUNCTION fails()");
	my $session = drain_five();
	stays("SELECT count(*) $drains", '1', 1, 'a deadlock, again and again: the call goes on');
	ask('DROP TRIGGER fails ON sms_gateway_lease');
	like(ended($session), qr/ERROR:  40P01:/, '… and ends with that error');
	in_good_order('a deadlock');

	$holder->query_safe("BEGIN; LOCK TABLE sms_gateway_lease IN ACCESS EXCLUSIVE MODE");
	my $took = took(sub { like(error_of('CALL sms_drain()'), qr/55P03/, 'with nothing under way, it is raised') });
	cmp_ok($took, '<', 2 * slowness(), '… at once');
	$holder->query_safe('COMMIT');
	$holder->quit;
	is(error_of('CALL sms_drain()') . account(), 'sent 20; 20', 'the next call does the rest');
};

subtest "a transaction's time is not the network's; a client that goes leaves all in order" => sub {
	my $pg17 = $node->pg_version >= 17;
	load(1);
	is(error_of(($pg17 ? "SET transaction_timeout = '500ms'; " : '') . 'CALL sms_drain()'), '', 'sms_drain succeeds');
	is(account(), 'sent 20; 20', 'with all');

	load(1);
	my $log = -s $node->logfile;
	my $session = drain_five("SET client_connection_check_interval = '100ms'", 'CALL sms_drain()');
	$session->{process}->kill_kill;
	becomes("SELECT count(*) $drains", '0', 'its session ends');
	in_good_order('a client that is gone');
	like(slurp_file($node->logfile, $log), qr/FATAL:  connection to client lost/, 'and says why');
};

subtest 'a synchronous standby that is gone: nothing is sent before its claim is safe' => sub {
	my $standby = sub {
		my ($name) = @_;
		$node->append_conf('postgresql.conf', "synchronous_standby_names = '$name'");
		$node->reload;
		becomes("SHOW synchronous_standby_names", $name, "synchronous standby: '$name'");
	};
	my $timeout = 1000 * patience();
	load();
	$standby->('gone');
	my $took = took(sub {
		like(error_of("SET statement_timeout = '${timeout}ms'; CALL sms_drain()"),
			qr/WARNING.*canceling wait for synchronous replication.*57014.*statement timeout/s,
			'statement_timeout ends the wait, and the call');
	});
	cmp_ok($took, '<', 3 * slowness(), 'at once');
	is(account(), 'queued 20; 0', 'nothing is sent');
	is(ask("SELECT count(*) FROM sms_gateway_lease"), '0', 'nothing is claimed');

	$standby->('');
	fault($simulator, fault => 'latency', value => 1000);
	my $session = drain_five();
	$standby->('gone');
	becomes("SELECT count(*) $drains AND wait_event = 'SyncRep'", '1', 'a record waits for the standby');
	ask("SELECT pg_cancel_backend(pid) $drains");
	cmp_ok(took(sub { like(ended($session), qr/57014.*user request/, 'one cancel ends that') }), '<',
		4 * slowness(), 'at once');
	my ($sent, $left) = account() =~ /^queued (\d+), sent (\d+); /;
	is($sent + $left, 20, 'nothing is in doubt');
	is(scalar(requests($simulator)), $left, 'what has arrived is sent');
	$standby->('');
	no_faults($simulator);
	ask('CALL sms_drain()');
	is(account(), 'sent 20; 20', 'the next call does the rest');
};

$node->stop;
done_testing();
