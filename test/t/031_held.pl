# Where nothing is sent from a database, sms_gateways says so, and why: no gateway is called active then.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use SmsTest;
use Test::More;

my $simulator = simulator();
my $held = "SELECT state, reason FROM sms_gateways WHERE name = 'shop'";
my $node = server('held');
gateways($node, $simulator);
ask('CREATE ROLE watcher LOGIN IN ROLE pg_monitor');

# Sets a setting, as of now.
sub set
{
	my ($name, $value) = @_;
	ask("ALTER SYSTEM SET $name = $value");
	ask('SELECT pg_reload_conf()');
	return;
}

subtest 'a worker serves it' => sub {
	becomes($held, 'active|', 'active');
	is(as_role('watcher', "$held"), 'active|', 'a monitor sees it');
};

subtest 'switched off' => sub {
	my $listener = $node->background_psql('postgres', on_error_stop => 0);
	$listener->query_safe('LISTEN sms_gateway');
	my $log = -s $node->logfile;
	my $told = '';
	my $hear = sub { $told .= $listener->query('SELECT 1'); return $told };

	my $before = ask('SELECT clock_timestamp()');
	set('sms_gateway.enabled', 'off');
	becomes($held, 'held|sms_gateway.enabled is off', 'held');
	is(ask("SELECT since > '$before' AND since < now() FROM sms_gateways WHERE name = 'shop'"), 't', 'since then');
	becomes($hear, qr/"event":"outbox","state":"held","reason":"sms_gateway.enabled is off"/, 'who listens is told');
	ask('SELECT pg_reload_conf()');
	set('sms_gateway.enabled', 'on');
	becomes($held, 'active|', 'and active again');
	becomes($hear, qr/"event":"outbox","state":"active"/, 'who listens is told');
	is(scalar(() = $told =~ /"event"/g), 2, '… no more than that');
	is(ask("SELECT since FROM sms_gateways WHERE name = 'shop'"), '', 'since: no time');
	my @lines = slurp_file($node->logfile, $log) =~ /LOG:  the outbox is (?:held|drained again): /g;
	is(scalar(@lines), 2, 'a line in the log each');
	$listener->quit;
};

subtest 'a start: a worker that is on its way is not missed' => sub {
	$node->restart;
	stays("SELECT DISTINCT state FROM sms_gateways", 'active', 2, 'never held');
};

subtest 'a version that is not served' => sub {
	my $version = ask("SELECT extversion FROM pg_extension WHERE extname = 'sms_gateway'");
	ask("UPDATE pg_extension SET extversion = '0.0.9' WHERE extname = 'sms_gateway'");
	becomes($held, qr/^held\|the library of version \S+ does not serve version 0.0.9; see ALTER EXTENSION/, 'held');
	ask("UPDATE pg_extension SET extversion = '$version' WHERE extname = 'sms_gateway'");
	unlike(ask($held), qr/does not serve/, 'and served again');
};

subtest 'a copy' => sub {
	ask('CREATE DATABASE copy TEMPLATE postgres', 'template1');
	becomes($held, 'held|this database is a copy; see sms_adopt_outbox', 'held', database => 'copy');
	ask('DROP DATABASE copy');
};

# One for the launcher, one for that of logical replication.
subtest 'no process is free for a worker' => sub {
	ask("ALTER SYSTEM SET max_worker_processes = 2");
	$node->restart;
	becomes($held, qr/^held\|.*max_worker_processes.*CALL sms_drain\(\) sends/, 'held');
	is(ask("SELECT now() - since > '2 s' AND since > pg_postmaster_start_time() FROM sms_gateways WHERE name = 'shop'"),
		't', 'since it waits, which is said after a while');
	queue_text('shop', 'drained');
	ask('CALL sms_drain()');
	is(status_of('drained'), 'sent', 'sms_drain sends');
	ask("ALTER SYSTEM RESET max_worker_processes");
};

subtest 'a database that sms_gateway.databases leaves out' => sub {
	ask("ALTER SYSTEM SET sms_gateway.databases = 'other'");
	$node->restart;
	becomes($held, 'held|no worker serves this database: sms_gateway.databases leaves it out; CALL sms_drain() sends',
		'held');
	is(ask("SELECT since IS NOT NULL FROM sms_gateways WHERE name = 'shop'"), 't', 'since a time');
	ask("ALTER SYSTEM SET sms_gateway.databases = 'other, postgres'");
	$node->restart;
	becomes($held, 'active|', 'and active again');
};
$node->stop;

subtest 'a server that does not preload the library' => sub {
	my $bare = server('bare', preload => 0);
	gateways($bare, $simulator);
	is(ask($held), 'held|sms_gateway is not in shared_preload_libraries; CALL sms_drain() sends', 'held');
	is(ask("SELECT since = pg_postmaster_start_time() FROM sms_gateways WHERE name = 'shop'"), 't', 'since the start');
	queue_text('shop', 'bare');
	ask('CALL sms_drain()');
	is(status_of('bare'), 'sent', 'sms_drain sends');
	$bare->stop;
};

done_testing();
