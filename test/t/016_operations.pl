# What administrators do to a server with an outbox: settings, updates, replicas, clones, too few workers.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = simulator();

# A message as SQL, for where it has to be one of several statements.
sub insert_of
{
	my ($content) = @_;
	return "INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', '$content')";
}

# Asserts that a message gets a status.
sub gets
{
	my ($content, $status, $name, %options) = @_;
	my $database = delete $options{database};
	return becomes(sub { status_of($content, $database) }, $status, $name, %options);
}

subtest 'without preloading, CREATE EXTENSION says what follows from it' => sub {
	my $bare = server('bare', preload => 0);
	$bare->psql('postgres', 'CREATE EXTENSION sms_gateway', stderr => \my $warning);
	like($warning, qr/WARNING:  no background worker will send.*shared_preload_libraries.*sms_drain/s,
		'without preloading, CREATE EXTENSION warns');
	$bare->stop;
};

my $node = server('operations', streaming => 1,
	settings => "max_worker_processes = 4\nmax_prepared_transactions = 2\nwal_level = logical\n");

subtest 'settings of a database that would stop a worker which took them' => sub {
	ask('CREATE DATABASE odd');
	gateways($node, $simulator, database => 'odd');
	worker_pid($node, 'odd');
	my %setting = (
		array_nulls => 'off',
		bytea_output => 'escape',
		check_function_bodies => 'off',
		client_min_messages => 'error',
		datestyle => "'German, DMY'",
		default_tablespace => "''",
		default_transaction_deferrable => 'on',
		default_transaction_isolation => "'serializable'",
		default_transaction_read_only => 'on',
		enable_indexscan => 'off',
		idle_in_transaction_session_timeout => '1',
		intervalstyle => 'iso_8601',
		lock_timeout => '1',
		quote_all_identifiers => 'on',
		row_security => 'off',
		search_path => "''",
		session_replication_role => 'replica',
		statement_timeout => '1',
		synchronous_commit => 'off',
		temp_tablespaces => "''",
		timezone => "'Asia/Ho_Chi_Minh'");
	ask(join '', map { "ALTER DATABASE odd SET $_ = $setting{$_};" } sort keys %setting);
	ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'odd' AND pid <> pg_backend_pid()");
	{
		# Sessions of this test could not work with some of them.
		local $ENV{PGOPTIONS} = '-c statement_timeout=0 -c search_path=public -c session_replication_role=origin';
		worker_pid($node, 'odd');
		ask('SET default_transaction_read_only = off; ' . insert_of('odd settings'), 'odd');
		gets('odd settings', 'sent',
			'in a database that is read-only by default, and odd in twenty other ways, messages are sent',
			seconds => 15, database => 'odd');
		is(ask("SELECT status FROM sms_send('0901234567', 'reads only', 'shop')", 'odd'), 'sent',
			'… by sms_send too, in a transaction that only reads');
	}
	ask('DROP DATABASE odd WITH (FORCE)');
};

# Two launchers (one is of logical replication), two workers, and no process for a third.
subtest 'max_worker_processes: who has no process waits for one that is busy, and the log says so' => sub {
	gateways($node, $simulator);
	worker_pid($node);
	ask("CREATE DATABASE $_") for qw(second third);
	gateways($node, $simulator, database => $_) for qw(second third);
	# A request that is under way is not left behind.
	hang($simulator);
	queue_text('shop', 'hangs', database => $_) for qw(second third);
	becomes(sub { in_flight('shop', 'second') + in_flight('shop', 'third') }, 2, 'both processes are busy');
	queue_text('shop', 'no room');
	my $warning = qr/WARNING:  no background worker is free for the outbox of database "postgres"\n/;
	my $hint = qr/HINT:  Raise max_worker_processes/;
	ok(wait_until(sub { slurp_file($node->logfile) =~ /$warning.*$hint/s }, 15), 'the log says that one waits');
	no_faults($simulator);
	ask("DROP DATABASE second WITH (FORCE)");
	gets('no room', 'sent', 'it sends when there is room', seconds => 15);
	ask("DROP DATABASE third WITH (FORCE)");
};

subtest 'DROP EXTENSION that is rolled back' => sub {
	ask(insert_of('before a rollback') . '; BEGIN; DROP EXTENSION sms_gateway CASCADE; ROLLBACK');
	gets('before a rollback', 'sent', 'DROP EXTENSION that is rolled back changes nothing', seconds => 10);
};

subtest 'a role that is dropped before its message was sent' => sub {
	ask("CREATE ROLE leaver LOGIN; GRANT USAGE ON FOREIGN SERVER shop TO leaver;
		GRANT INSERT, SELECT ON sms_outbox TO leaver; SELECT sms_pause('shop', 'test')");
	as_role('leaver', insert_of('of one who left'));
	ask("DROP OWNED BY leaver; DROP ROLE leaver; SELECT sms_resume('shop')");
	my $its_row = "FROM sms_outbox WHERE content = 'of one who left'";
	becomes("SELECT status, result_code, attempts $its_row", qr/^(queued\|held|failed\|refused)\|0$/,
		'a message whose role is gone is not sent, and says so', seconds => 10);
	is(times_received($simulator, 'of one who left'), 0, '… for certain');
	like(ask("SELECT result_message $its_row"), qr/queued it, then called "leaver", does not exist/, '… and why');
	ask("DELETE $its_row");
};

# Where the server looks for the extension's scripts.
sub script_directory
{
	my ($sharedir) = `pg_config --sharedir` =~ /(.+)/;
	my $settings = $ENV{SMS_SETTINGS} ? slurp_file($ENV{SMS_SETTINGS}) : '';
	return $settings =~ /extension_destdir = '(.*)'/ ? "$1$sharedir/extension"
		: $settings =~ /extension_control_path = '([^:]*)/ ? "$1/extension"
		: "$sharedir/extension";
}

subtest 'ALTER EXTENSION UPDATE beside a live worker' => sub {
	my $version = ask("SELECT extversion FROM pg_extension WHERE extname = 'sms_gateway'");
	my @scripts = map { script_directory() . "/sms_gateway--$_.sql" } "$version--next", "next--$version";
	append_to_file($_, "SELECT 1;\n") for @scripts;

	fault($simulator, fault => 'latency', value => 3000);
	ask("INSERT INTO sms_outbox (gateway, phone, content)
		SELECT 'cpaas', '0901234567', 'under way ' || i FROM generate_series(1, 20) i");
	becomes(sub { scalar grep { ($_->{content} // '') =~ /^under way/ } requests($simulator) }, 20,
		'messages are under way');
	cmp_ok(took(sub { ask("ALTER EXTENSION sms_gateway UPDATE TO 'next'") }), '<', 5 * patience(),
		'ALTER EXTENSION UPDATE waits for what is under way, and no longer');
	is(ask("SELECT DISTINCT status FROM sms_outbox WHERE content LIKE 'under way %'"), 'sent',
		'… so that nothing is in doubt');
	no_faults($simulator);

	queue_text('shop', 'in a version that is not ours');
	my $complaint = qr/sms_gateway next in this database is not served by the library of version/;
	ok(wait_until(sub { slurp_file($node->logfile) =~ $complaint }, 10),
		'a version that the library does not know is held, and the log says so');
	like(error_of('CALL sms_drain()'), qr/not served by the library/, '… by sms_drain too');
	is(status_of('in a version that is not ours'), 'queued', 'its messages wait');
	ask("ALTER EXTENSION sms_gateway UPDATE TO '$version'");
	gets('in a version that is not ours', 'sent', '… until the extension is updated, and not for a next message',
		seconds => 5);
	unlink @scripts;
};

subtest 'a logical subscriber keeps what it gets, and sends its own' => sub {
	my $subscriber = server('subscriber', settings => "wal_level = logical\n");
	gateways($subscriber, $simulator);
	turn_to($node);
	ask('CREATE PUBLICATION p FOR TABLE sms_outbox');
	my $publisher = $node->connstr('postgres') =~ s/'//gr;
	ask_on($subscriber, "CREATE SUBSCRIPTION s CONNECTION '$publisher' PUBLICATION p WITH (copy_data = false)");

	ask("SELECT sms_pause('shop', 'test')");
	queue_text('shop', 'replicated');
	queue_text('cpaas', 'replicated to cpaas');
	becomes("SELECT count(*) FROM sms_outbox WHERE content LIKE 'replicated%'", 2,
		'a logical subscriber has the rows', seconds => 20, node => $subscriber);
	ask_on($subscriber, 'CALL sms_drain()');
	stays("SELECT status FROM sms_outbox WHERE content = 'replicated'", 'queued', 6, '… and holds them',
		node => $subscriber);
	is(times_received($simulator, 'replicated'), 0, '… unsent');

	ask("SELECT sms_resume('shop')");
	gets('replicated', 'sent', 'the publisher sends them', seconds => 10);
	is(times_received($simulator, 'replicated to cpaas'), 1, '… once');
	ask_on($subscriber, "SELECT setval('sms_outbox_id_seq', 100000); " . insert_of('of the subscriber'));
	becomes("SELECT status FROM sms_outbox WHERE content = 'of the subscriber'", 'sent', 'its own it sends',
		seconds => 10, node => $subscriber);
	ask_on($subscriber, 'DROP SUBSCRIPTION s');
	$subscriber->stop;
	ask('DROP PUBLICATION p');
};

subtest 'a clone of the files, started beside the original as the documentation says' => sub {
	ask("SELECT sms_pause('shop', 'test')");
	queue_text('shop', 'cloned');
	$node->backup('clone');
	my $clone = PostgreSQL::Test::Cluster->new('clone');
	$clone->init_from_backup($node, 'clone');
	$clone->append_conf('postgresql.conf', 'sms_gateway.enabled = off');
	$clone->start;
	turn_to($clone);
	ask('DELETE FROM sms_gateway_state');
	queue_text('shop', 'new in the clone');
	like(error_of("SELECT sms_send('0901234567', 'x', 'shop')"), qr/sending messages is switched off/,
		'a clone that is switched off refuses sms_send');
	like(error_of('CALL sms_drain()'), qr/sending messages is switched off/, '… and sms_drain');
	stays("SELECT string_agg(DISTINCT status::text, ',') FROM sms_outbox
		WHERE content IN ('cloned', 'new in the clone')", 'queued', 6, '… and holds its messages');
	is(times_received($simulator, 'cloned') + times_received($simulator, 'new in the clone'), 0, '… unsent');
	$clone->stop;
	turn_to($node);
};

# "make soak" has more of them than there is room for at once.
subtest 'databases that come and go, each with a worker of its own' => sub {
	my $databases = $ENV{SMS_DATABASES} // 5;
	my $served = 0;
	for (1 .. $databases)
	{
		ask('CREATE DATABASE passing');
		ask('SET client_min_messages = error; CREATE EXTENSION sms_gateway', 'passing');
		$served++ if worker_pid($node, 'passing') ne '';
		ask('DROP DATABASE passing');
	}
	is($served, $databases, "$databases databases, one after the other, had a worker");
};

$node->stop;
done_testing();
