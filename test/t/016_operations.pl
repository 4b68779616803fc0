# What administrators do to a server with an outbox: settings, updates, replicas, clones, too few workers.
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
my $message = "INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567',";
my ($rc, $out, $err);
sub sent { my ($content) = @_; return scalar grep { ($_->{content} // '') eq $content } requests($simulator); }

# --- without preloading: CREATE EXTENSION says what follows from it
my $bare = server('bare', preload => 0);
$bare->psql('postgres', 'CREATE EXTENSION sms_gateway', stderr => \$err);
like($err, qr/WARNING:  no background worker will send.*shared_preload_libraries.*sms_drain/s, 'without preloading, CREATE EXTENSION warns');
$bare->stop;

# --- settings of the database that would stop a worker which took them
my $node = server('operations', settings => "max_worker_processes = 4\nmax_prepared_transactions = 2\nwal_level = logical\n", streaming => 1);
sub ask { my ($sql, $database) = @_; return scalar_of($node, $sql, $database); }
sub status_of { my ($content, $database) = @_; return ask("SELECT status FROM sms_outbox WHERE content = '$content'", $database); }
sub gets { my ($content, $status, $seconds, $database) = @_; return wait_until(sub { status_of($content, $database) eq $status }, $seconds); }
ask('CREATE DATABASE odd');
gateways($node, $simulator, database => 'odd');
worker_pid($node, 'odd');
my %setting = (default_transaction_read_only => 'on', default_transaction_isolation => "'serializable'", default_transaction_deferrable => 'on', statement_timeout => '1',
	lock_timeout => '1', idle_in_transaction_session_timeout => '1', synchronous_commit => 'off', search_path => "''", session_replication_role => 'replica',
	row_security => 'off', enable_indexscan => 'off', client_min_messages => 'error', datestyle => "'German, DMY'", intervalstyle => 'iso_8601', timezone => "'Asia/Ho_Chi_Minh'",
	bytea_output => 'escape', check_function_bodies => 'off', default_tablespace => "''", temp_tablespaces => "''", quote_all_identifiers => 'on', array_nulls => 'off');
ask(join '', map { "ALTER DATABASE odd SET $_ = $setting{$_};" } sort keys %setting);
ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'odd' AND pid <> pg_backend_pid()");
worker_pid($node, 'odd');
{
	local $ENV{PGOPTIONS} = '-c statement_timeout=0 -c search_path=public -c session_replication_role=origin';
	ask("SET default_transaction_read_only = off; $message 'odd settings')", 'odd');
	ok(gets('odd settings', 'sent', 15, 'odd'), 'in a database that is read-only by default, and odd in twenty other ways, messages are sent');
	is(ask("SELECT status FROM sms_send('0901234567', 'reads only', 'shop')", 'odd'), 'sent', '… by sms_send too, in a transaction that only reads');
}
ask('DROP DATABASE odd WITH (FORCE)');

# --- max_worker_processes: two launchers (one is of logical replication), two workers, and no room for a third
gateways($node, $simulator);
my $first = worker_pid($node);
ask('CREATE DATABASE second');
ask('CREATE DATABASE third');
gateways($node, $simulator, database => $_) for qw(second third);
ok(wait_until(sub { slurp_file($node->logfile) =~ /WARNING:  no background worker is free for the outbox of database \d+\n.*HINT:  Raise max_worker_processes/ }, 10), 'where there is no room for a worker, the log says so');
ask("$message 'no room')", $_) for qw(second third);
ok(wait_until(sub { (grep { status_of('no room', $_) eq 'sent' } qw(second third)) == 1 }, 10), 'one of two databases has a worker');
my ($lucky) = grep { status_of('no room', $_) eq 'sent' } qw(second third);
my $waiting = $lucky eq 'second' ? 'third' : 'second';
ask("DROP DATABASE $lucky WITH (FORCE)");
ok(gets('no room', 'sent', 15, $waiting), 'the other gets one when there is room');
ask("DROP DATABASE $waiting WITH (FORCE)");

# --- DROP EXTENSION and DROP ROLE that are rolled back, a role that is dropped
ask("BEGIN; $message 'before a rollback'); COMMIT; BEGIN; DROP EXTENSION sms_gateway CASCADE; ROLLBACK");
ok(gets('before a rollback', 'sent', 10), 'DROP EXTENSION that is rolled back changes nothing');
ask("CREATE ROLE leaver LOGIN; GRANT USAGE ON FOREIGN SERVER shop TO leaver; GRANT INSERT, SELECT ON sms_outbox TO leaver; SELECT sms_pause('shop', 'test')");
$node->safe_psql('postgres', "$message 'of one who left')", extra_params => [ '-U', 'leaver' ]);
ask("DROP OWNED BY leaver; DROP ROLE leaver; SELECT sms_resume('shop')");
ok(wait_until(sub { ask("SELECT status, result_code, attempts FROM sms_outbox WHERE content = 'of one who left'") =~ /^(queued\|held|failed\|refused)\|0$/ }, 10), 'a message whose role is gone is not sent, and says so');
is(sent('of one who left'), 0, '… for certain');
like(ask("SELECT result_message FROM sms_outbox WHERE content = 'of one who left'"), qr/role "leaver" does not exist/, '… and why');
ask("DELETE FROM sms_outbox WHERE content = 'of one who left'");

# --- ALTER EXTENSION UPDATE beside a live worker
my ($sharedir) = `pg_config --sharedir` =~ /(.+)/;
my $settings = $ENV{SMS_SETTINGS} ? slurp_file($ENV{SMS_SETTINGS}) : '';
my $scripts = $settings =~ /extension_destdir = '(.*)'/ ? "$1$sharedir/extension" : $settings =~ /extension_control_path = '([^:]*)/ ? "$1/extension" : "$sharedir/extension";
my $version = ask("SELECT extversion FROM pg_extension WHERE extname = 'sms_gateway'");
append_to_file("$scripts/sms_gateway--$_.sql", "SELECT 1;\n") for ("$version--next", "next--$version");
fault($simulator, fault => 'latency', value => 3000);
ask("INSERT INTO sms_outbox (gateway, phone, content) SELECT 'cpaas', '0901234567', 'under way ' || i FROM generate_series(1, 20) i");
sleep 0.3;
my $start = time;
ask("ALTER EXTENSION sms_gateway UPDATE TO 'next'");
cmp_ok(time - $start, '<', 5 * patience(), 'ALTER EXTENSION UPDATE waits for what is under way, and no longer');
is(ask("SELECT DISTINCT status FROM sms_outbox WHERE content LIKE 'under way %'"), 'sent', '… so that nothing is in doubt');
no_faults($simulator);
ask("$message 'in a version that is not ours')");
ok(wait_until(sub { slurp_file($node->logfile) =~ /sms_gateway next in this database is not served by the library of version/ }, 10), "a version that the library does not know is held, and the log says so");
$node->psql('postgres', 'CALL sms_drain()', stderr => \$err);
like($err, qr/not served by the library/, '… by sms_drain too');
is(status_of('in a version that is not ours'), 'queued', 'its messages wait');
ask("ALTER EXTENSION sms_gateway UPDATE TO '$version'");
ok(gets('in a version that is not ours', 'sent', 5), '… until the extension is updated, and not for a next message');
unlink "$scripts/sms_gateway--$_.sql" for ("$version--next", "next--$version");

# --- a logical subscriber keeps what it gets, and sends its own
my $subscriber = server('subscriber', settings => "wal_level = logical\n");
gateways($subscriber, $simulator);
ask('CREATE PUBLICATION p FOR TABLE sms_outbox');
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '" . ($node->connstr('postgres') =~ s{'}{}gr) . "' PUBLICATION p WITH (copy_data = false)");
ask("SELECT sms_pause('shop', 'test'); $message 'replicated'); INSERT INTO sms_outbox (gateway, phone, content) VALUES ('cpaas', '0901234567', 'replicated to cpaas')");
ok(wait_until(sub { scalar_of($subscriber, "SELECT count(*) FROM sms_outbox WHERE content LIKE 'replicated%'") eq '2' }, 20), 'a logical subscriber has the rows');
$subscriber->safe_psql('postgres', 'CALL sms_drain()');
sleep 6;
is(scalar_of($subscriber, "SELECT status FROM sms_outbox WHERE content = 'replicated'"), 'queued', '… and holds them');
is(sent('replicated'), 0, '… unsent');
ask("SELECT sms_resume('shop')");
ok(gets('replicated', 'sent', 10), 'the publisher sends them');
is(sent('replicated to cpaas'), 1, '… once');
$subscriber->safe_psql('postgres', "SELECT setval('sms_outbox_id_seq', 100000); $message 'of the subscriber')");
ok(wait_until(sub { scalar_of($subscriber, "SELECT status FROM sms_outbox WHERE content = 'of the subscriber'") eq 'sent' }, 10), 'its own it sends');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION s');
$subscriber->stop;
ask('DROP PUBLICATION p');

# --- a clone of the files, started beside the original as the documentation says
ask("SELECT sms_pause('shop', 'test'); $message 'cloned')");
$node->backup('clone');
my $clone = PostgreSQL::Test::Cluster->new('clone');
$clone->init_from_backup($node, 'clone');
$clone->append_conf('postgresql.conf', 'sms_gateway.enabled = off');
$clone->start;
$clone->safe_psql('postgres', "DELETE FROM sms_gateway_state; $message 'new in the clone')");
$clone->psql('postgres', "SELECT sms_send('0901234567', 'x', 'shop')", stderr => \$err);
like($err, qr/sending messages is switched off/, 'a clone that is switched off refuses sms_send');
$clone->psql('postgres', 'CALL sms_drain()', stderr => \$err);
like($err, qr/sending messages is switched off/, '… and sms_drain');
sleep 6;
is(scalar_of($clone, "SELECT string_agg(DISTINCT status::text, ',') FROM sms_outbox WHERE content IN ('cloned', 'new in the clone')"), 'queued', '… and holds its messages');
is(sent('cloned') + sent('new in the clone'), 0, '… unsent');
$clone->stop;

# --- databases that come and go, each with a worker of its own ("make soak": more than there is room for at once)
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

$node->stop;
done_testing();
