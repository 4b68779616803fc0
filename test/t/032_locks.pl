# Whoever locks a table of the extension, in whatever mode: sending goes on, or, where it needs that table, goes on as
# soon as the lock ends, with nothing lost, doubled or in doubt; and the log says who is in the way, not each second.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use Test::More;
use Time::HiRes qw(time);

my $simulator = simulator();
my $node = server('locks');
gateways($node, $simulator);
my $serial = 0;

# What a round reads or writes: a mode that conflicts with that stops it.
my %stops = (
	sms_outbox => [ 'SHARE', 'EXCLUSIVE', 'ACCESS EXCLUSIVE' ],
	sms_gateway_lease => [ 'SHARE', 'EXCLUSIVE', 'ACCESS EXCLUSIVE' ],
	sms_gateway_identity => ['ACCESS EXCLUSIVE']);

# A transaction in a session of its own, which stays open.
sub open_transaction
{
	my ($sql) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_safe("BEGIN; $sql");
	return $session;
}

# How often the log says something since a place.
sub told
{
	my ($from, $pattern) = @_;
	my $n = () = PostgreSQL::Test::Utils::slurp_file($node->logfile, $from) =~ /$pattern/g;
	return $n;
}

# Queues a message while a lock is held, if that may be, and asserts that it is sent soon.
sub goes_on
{
	my ($name) = @_;
	my $text = 'message ' . ++$serial;
	my $seconds = took(sub {
		queue_text('shop', $text);
		wait_until(sub { status_of($text) eq 'sent' }, 10);
	});
	cmp_ok($seconds, '<', 1 * slowness(), "$name: sent within 1 s");
	return;
}

# Locks a table that a round needs, while messages are on their way.
sub goes_on_after
{
	my ($table, $mode) = @_;
	my $text = 'message ' . ++$serial;
	fault($simulator, fault => 'latency', value => 300);
	queue_text('shop', "$text, $_") for 1, 2;
	wait_until(sub { times_received($simulator, "$text, 2") });
	my $from = -s $node->logfile;
	my $open = open_transaction("LOCK TABLE $table IN $mode MODE");
	my $pid = $open->query_safe('SELECT pg_backend_pid()');
	$pid =~ s/\D//g;
	no_faults($simulator);
	wait_until(sub { told($from, "$table|\"$table\"") }, 3);
	sleep 3;    # time itself: a line a second would be seen
	cmp_ok(told($from, 'WARNING|ERROR|FATAL'), '<=', 2, "$table, $mode: the log says it, and not each second");
	is(told($from, "ERROR:  table \"$table\" is locked by process $pid"), 1, "$table, $mode: and who is in the way");
	$open->query_safe('ROLLBACK');
	$open->quit;
	my $seconds = took(sub {
		wait_until(sub { ask("SELECT count(*) FROM sms_outbox
			WHERE content LIKE '$text,%' AND status = 'sent'") == 2 }, 10);
	});
	cmp_ok($seconds, '<', 1.2 * slowness(), "$table, $mode: recorded as soon as it ends");
	is(times_received($simulator, "$text, 2"), 1, "$table, $mode: sent once");
	return;
}

my @tables = split /\n/, ask("SELECT c.relname FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
	WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'e' AND c.relkind IN ('r', 'p') AND d.refobjid =
		(SELECT oid FROM pg_extension WHERE extname = 'sms_gateway') ORDER BY 1");
cmp_ok(scalar @tables, '>', 5, 'tables are found');

for my $table (@tables)
{
	subtest $table => sub {
		for my $mode ('ROW EXCLUSIVE', 'SHARE', 'EXCLUSIVE', 'ACCESS EXCLUSIVE')
		{
			if (grep { $_ eq $mode } @{ $stops{$table} // [] })
			{
				goes_on_after($table, $mode);
				next;
			}
			my $open = open_transaction("LOCK TABLE $table IN $mode MODE");
			goes_on("$table, $mode") for 1 .. 3;
			$open->query_safe('ROLLBACK');
			$open->quit;
		}
		my $open = open_transaction("SELECT FROM $table FOR UPDATE");
		goes_on("$table, its rows") for 1 .. 3;
		$open->query_safe('ROLLBACK');
		$open->quit;
	};
}
is(ask("SELECT count(*) FROM sms_outbox WHERE status <> 'sent'"), '0', 'nothing is lost or in doubt');

$node->stop;
done_testing();
