# Many databases, and databases of every kind: who has a worker, how soon, and what it takes to end one.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = simulator();
my $node = server('databases', settings => "max_prepared_transactions = 2\n");

# Takes where the log ended and a pattern: asserts that the server logs it after that, soon.
sub logged
{
	my ($position, $pattern, $name) = @_;
	return becomes(sub { slurp_file($node->logfile, $position) }, $pattern, $name, seconds => 10);
}

subtest 'a gateway is paused by an answer with any characters, in a database with any encoding' => sub {
	for my $encoding (qw(LATIN1 EUC_JP))
	{
		my $database = lc "in_$encoding";
		my $log = -s $node->logfile;
		ask("CREATE DATABASE $database TEMPLATE template0 ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C'");
		gateways($node, $simulator, database => $database);
		my $worker = worker_pid($node, $database);
		fault($simulator, fault => 'body',
			text => '{"CodeResult": "101", "CountRegenerate": 0, "ErrorMessage": "lỗi café 東京"}');
		queue_text('shop', 'refused', database => $database);
		becomes("SELECT state FROM sms_gateways WHERE name = 'shop'", 'paused', "$encoding: the gateway is paused",
			database => $database, seconds => 10);
		is(worker_pid($node, $database), $worker, '… and the worker lives');
		logged($log, qr/gateway "shop" is paused: 101/, '… and the log says so');
		logged($log, qr/CONTEXT:\s+outbox of database "$database"/, '… and of which database');
		no_faults($simulator);
		ask("DROP DATABASE $database");
	}
};

subtest 'CREATE EXTENSION and INSERT by two-phase commit' => sub {
	ask('CREATE DATABASE two_phase');
	# The launcher has looked there once; from now on only a commit tells.
	stays("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sms_gateway worker' AND datname = 'two_phase'",
		0, 1, 'a database without the extension has no worker');
	ask("BEGIN; CREATE EXTENSION sms_gateway; PREPARE TRANSACTION 'extension'", 'two_phase');
	ask("COMMIT PREPARED 'extension'", 'two_phase');
	ok(worker_pid($node, 'two_phase'), 'COMMIT PREPARED of CREATE EXTENSION starts a worker');
	gateways($node, $simulator, database => 'two_phase');
	my @took;
	for my $i (1 .. 4)
	{
		ask("BEGIN; INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'two $i');
			PREPARE TRANSACTION 'message'", 'two_phase');
		ask("COMMIT PREPARED 'message'", 'two_phase');
		push @took, took(sub { wait_until(sub { status_of("two $i", 'two_phase') eq 'sent' }) });
	}
	cmp_ok((sort { $a <=> $b } @took)[3], '<', 2 * slowness(), 'each message is sent at once after COMMIT PREPARED');
	ask('DROP DATABASE two_phase');
};

subtest 'who may not copy or rename a database does not end its worker' => sub {
	ask('CREATE DATABASE ours; CREATE ROLE maker LOGIN CREATEDB; CREATE ROLE owner LOGIN');
	gateways($node, $simulator, database => 'ours');
	my $worker = worker_pid($node, 'ours');
	like(error_of('CREATE DATABASE stolen TEMPLATE ours', role => 'maker'), qr/42501/, 'a copy is refused');
	ask('ALTER DATABASE ours OWNER TO owner');
	like(error_of('ALTER DATABASE ours RENAME TO theirs', role => 'owner'), qr/42501/, 'an owner without CREATEDB');
	stays(sub { worker_pid($node, 'ours') }, $worker, 1, 'the worker goes on');
	ask('ALTER ROLE owner CREATEDB; ALTER ROLE maker NOCREATEDB');
	ask('GRANT owner TO maker');
	is(error_of('CREATE DATABASE copied TEMPLATE ours', role => 'owner'), '', 'who may copy it has it alone');
	ask('DROP DATABASE copied');
	ask('DROP DATABASE ours');
	ask('DROP ROLE owner, maker');
};

$node->stop;

#
# More databases than processes
#

my @many = map { "d$_" } 1 .. 8;
my $few = server('few', settings => "max_worker_processes = 16\nsms_gateway.enabled = off\n");

# Takes settings, restarts the server with them, or has it read them; returns where its log ended.
sub change_settings
{
	my ($how, %settings) = @_;
	my $log = -s $few->logfile;
	$few->append_conf('postgresql.conf', "$_ = $settings{$_}") for sort keys %settings;
	$few->$how;
	return $log;
}
sub restart_with { return change_settings('restart', @_); }
sub reload_with { return change_settings('reload', @_); }

# What the log says after a position.
sub log_after { return slurp_file($few->logfile, $_[0]); }

# The databases that have a worker.
sub served
{
	return ask("SELECT coalesce(string_agg(datname, ',' ORDER BY datname), '') FROM pg_stat_activity
		WHERE backend_type = 'sms_gateway worker'");
}

# How many of a text the databases have that are in a status.
sub count_of
{
	my ($content, $status, @databases) = @_;
	my $n = 0;
	$n += ask("SELECT count(*) FROM sms_outbox WHERE content = '$content' AND status = '$status'", $_) for @databases;
	return $n;
}

for my $database (@many)
{
	ask("CREATE DATABASE $database");
	gateways($few, $simulator, database => $database, cpaas => "rate_limit '5'");
}

subtest 'after a restart, workers start several at once' => sub {
	queue_text('shop', 'restarted', database => $_) for @many;
	restart_with('sms_gateway.enabled' => 'on');
	# One a second, it took eight.
	my $took = took(sub { wait_until(sub { count_of('restarted', 'sent', @many) == @many }, 30) });
	cmp_ok($took, '<', 6 * slowness(), 'the last of eight databases has sent');
};

subtest 'few processes: databases take turns' => sub {
	# Two launchers (one is of logical replication), two workers.
	restart_with('sms_gateway.enabled' => 'off', max_worker_processes => 4);
	queue_text('shop', 'in turn', database => $_) for @many;
	reload_with('sms_gateway.enabled' => 'on');
	becomes(sub { count_of('in turn', 'sent', @many) }, 8, 'eight databases with two workers send', seconds => 20);

	my @took;
	for my $database (@many)
	{
		queue_text('shop', 'next', database => $database);
		push @took, took(sub { wait_until(sub { status_of('next', $database) eq 'sent' }) });
	}
	cmp_ok((sort { $a <=> $b } @took)[7], '<', 3 * slowness(), 'a commit brings the worker, wherever it is');

	queue_text('shop', 'later', database => $_, send_after => "now() + interval '4 s'") for @many;
	becomes(sub { count_of('later', 'sent', @many) }, 8, 'a worker that has gone comes when a message is due',
		seconds => 20);
	my $in_time = "SELECT sent_at - send_after < interval '5 s' FROM sms_outbox WHERE content = 'later'";
	is(ask($in_time, $_), 't', '... in time') for @many;
};

subtest 'few processes: the busy hand over' => sub {
	# Both workers have work for minutes, five messages a second.
	ask("INSERT INTO sms_outbox (gateway, phone, content)
		SELECT 'cpaas', '0901234567', 'busy ' || i FROM generate_series(1, 1000) i", $_) for qw(d1 d2);
	becomes(sub { ask("SELECT count(*) > 0 FROM sms_outbox WHERE content LIKE 'busy%' AND status = 'sent'", $_) }, 't',
		"$_ is busy") for qw(d1 d2);
	queue_text('shop', 'beside the busy', database => $_) for qw(d3 d4);
	becomes(sub { count_of('beside the busy', 'sent', qw(d3 d4)) }, 2, 'those who wait get their turn', seconds => 15);
	my $sent = sub { ask("SELECT count(*) FROM sms_outbox WHERE content LIKE 'busy%' AND status = 'sent'", $_[0]) };
	my ($one, $two) = map { $sent->($_) } qw(d1 d2);
	becomes(sub { $sent->('d1') > $one && $sent->('d2') > $two ? 1 : 0 }, 1, 'the busy go on', seconds => 20);
	is(count_of("$_", 'uncertain', qw(d1 d2)), 0, 'nothing is in doubt') for map { "busy $_" } 1 .. 3;
	is(ask("SELECT count(*) FROM sms_outbox WHERE status NOT IN ('queued', 'sent')", $_), 0, "$_: nothing is in doubt")
		for qw(d1 d2);
	my %received;
	$received{ $_->{content} }++ for grep { ($_->{content} // '') =~ /^busy/ } requests($simulator);
	is(scalar(grep { $_ > 2 } values %received), 0, 'nothing went twice from one database');
	ask("DELETE FROM sms_outbox WHERE content LIKE 'busy%'", $_) for qw(d1 d2);
};

subtest 'sms_gateway.databases: exact names, obeyed at reload' => sub {
	restart_with(max_worker_processes => 16);
	ask($_) for 'CREATE DATABASE "Shop, Ltd"', 'CREATE DATABASE "shop"';
	gateways($few, $simulator, database => $_) for 'Shop, Ltd', 'shop';
	becomes(\&served, 'Shop, Ltd,d1,d2,d3,d4,d5,d6,d7,d8,shop', 'without a list all are served');

	hang($simulator);
	queue_text('shop', 'under way', database => 'd1');
	becomes(sub { in_flight('shop', 'd1') > 0 }, 1, 'd1 is sending');
	my $log = reload_with('sms_gateway.databases' => q('d2, "Shop, Ltd", Shop, nobody'));
	no_faults($simulator);
	becomes(\&served, 'Shop, Ltd,d2', 'the others end at reload');
	is(status_of('under way', 'd1') =~ /^(queued|sent)$/, 1, 'nothing is in doubt');
	becomes(sub { log_after($log) }, qr/WARNING:  database "Shop" of sms_gateway.databases does not exist/,
		'a name that does not exist is told, in the case that was written');
	like(log_after($log), qr/WARNING:  database "nobody" of sms_gateway.databases does not exist/, '... each');
	$log = reload_with();
	queue_text('shop', 'not on the list', database => 'd1');
	queue_text('shop', 'on the list', database => 'Shop, Ltd');
	becomes(sub { status_of('on the list', 'Shop, Ltd') }, 'sent', 'a name with a comma is served');
	stays(sub { status_of('not on the list', 'd1') }, 'queued', 1, 'who is not on the list is not');
	unlike(log_after($log), qr/does not exist/, 'a missing name is told once');

	$log = reload_with('sms_gateway.databases' => "'d2,'");
	becomes(sub { log_after($log) }, qr/invalid value for parameter "sms_gateway.databases".*It is no list of names/s,
		'what is no list is refused');
	stays(\&served, 'Shop, Ltd,d2', 1, '... and changes nothing');
	like(error_of(q(ALTER SYSTEM SET sms_gateway.databases = 'a,,b')), qr/22023/, 'ALTER SYSTEM refuses it too');
	$log = restart_with();
	like(log_after($log), qr/WARNING:  sms_gateway.databases is no list of names: no outbox is drained/,
		'at start it is told');
	stays(\&served, '', 2, '... and is not "all"');
	reload_with('sms_gateway.databases' => "''");
	becomes(\&served, 'Shop, Ltd,d1,d2,d3,d4,d5,d6,d7,d8,shop', 'all are served again');
	becomes(sub { status_of('not on the list', 'd1') }, 'sent', '... and send');
	ask("DROP DATABASE $_") for '"Shop, Ltd"', 'shop';
};

subtest 'ALTER DATABASE ... ALLOW_CONNECTIONS' => sub {
	ask('ALTER DATABASE d1 ALLOW_CONNECTIONS false');
	becomes(\&served, 'd2,d3,d4,d5,d6,d7,d8', 'without connections there is no worker');
	ask('BEGIN; ALTER DATABASE d1 ALLOW_CONNECTIONS true; ROLLBACK');
	stays(\&served, 'd2,d3,d4,d5,d6,d7,d8', 1, 'a rollback changes nothing');
	ask('ALTER DATABASE d1 ALLOW_CONNECTIONS true');
	becomes(\&served, join(',', @many), 'it comes back with them', seconds => 5);
};

subtest 'a lock on one database holds up no other' => sub {
	my $holder = $few->background_psql('postgres');
	$holder->query_safe('BEGIN; ALTER DATABASE d1 RENAME TO renamed');
	ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'sms_gateway worker'");
	becomes(\&served, 'd2,d3,d4,d5,d6,d7,d8', 'all others have a worker again', seconds => 5);
	$holder->query_safe('ROLLBACK; BEGIN; LOCK TABLE pg_database IN SHARE ROW EXCLUSIVE MODE');
	becomes(\&served, join(',', @many), '... and that one when it is free', seconds => 15);
	ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'sms_gateway worker'");
	becomes(\&served, join(',', @many), 'nor does a lock on pg_database', seconds => 5);
	$holder->query_safe('ROLLBACK');
	$holder->quit;
};

subtest 'a worker that fails at each start' => sub {
	my $log = -s $few->logfile;
	my $version = $few->data_dir . '/base/' . ask("SELECT oid FROM pg_database WHERE datname = 'd3'") . '/PG_VERSION';
	my $end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE backend_type = 'sms_gateway worker' AND datname = 'd3'";
	rename $version, "$version.away" or die $!;
	ask($end);
	my $failed = 'database "d3" has no worker: it ended 3 times in a row';
	becomes(sub { log_after($log) }, qr/WARNING:  the outbox of $failed/, 'is told after three times', seconds => 15);
	my $failures = () = log_after($log) =~ /FATAL:  .* is not a valid data directory/g;
	cmp_ok($failures, '<=', 4, '... with a growing rest');
	is(served(), 'd1,d2,d4,d5,d6,d7,d8', 'nobody else is concerned');
	rename "$version.away", $version or die $!;
	becomes(\&served, join(',', @many), 'it comes when it can', seconds => 20);
	is(scalar(() = log_after($log) =~ /has no worker/g), 1, 'told once');
};

subtest 'more databases than sms_gateway.max_databases' => sub {
	my $log = restart_with('sms_gateway.max_databases' => 6);
	my $warning = qr/WARNING:  2 databases have an outbox that is not drained: sms_gateway.max_databases is 6\n/;
	becomes(sub { log_after($log) }, qr/$warning.*DETAIL:  Without a worker: "d\d", "d\d"/, 'who has no room is told');
	my ($first, $second) = log_after($log) =~ /2 databases.*\n.*Without a worker: "(d\d)", "(d\d)"/;
	is(scalar(() = log_after($log) =~ /Without a worker:/g), 1, '... once');
	queue_text('shop', 'no room', database => $_) for $first, $second;
	stays(sub { count_of('no room', 'queued', $first, $second) }, 2, 1, 'they wait');
	my ($other) = grep { $_ ne $first && $_ ne $second } @many;
	ask("DROP DATABASE $other");
	becomes(sub { count_of('no room', 'sent', $first, $second) }, 1, 'a place that is free is taken', seconds => 10);
};

subtest 'at rest, nobody wakes often' => sub {
	my @pids = split /\n/, ask("SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'sms_gateway%'");
	my $switches = sub { my $n = 0; $n += slurp_file("/proc/$_/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m ? $1 : 0
			for @pids; return $n; };
	sleep 6;	# time itself: the first look after a start comes sooner
	my $before = $switches->();
	sleep 12;	# time itself: wake-ups are counted
	my $rate = ($switches->() - $before) / 12 / @pids;
	cmp_ok($rate, '<', 0.3 * slowness(), sprintf '%.2f wake-ups a second of each process', $rate);
};

$few->stop;
done_testing();
