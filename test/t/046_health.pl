# sms_health: whatever keeps messages from being sent is a row of it, with its cause and what to do.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use SmsTest;
use Test::More;

my $simulator = simulator();
my $node = server('health', settings => "sms_gateway.retry_max = '1s'");
gateways($node, $simulator);
ask(q(
	CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
	CREATE ROLE app LOGIN;
	CREATE ROLE stranger LOGIN;
	GRANT USAGE ON FOREIGN SERVER shop TO app;
	GRANT INSERT, SELECT ON sms_outbox TO app));

# What is wrong, as "component name level problem", and every row of that has a remedy.
my $problems = q(SELECT concat_ws(' ', component, name, level, problem) FROM sms_health
	WHERE level <> 'ok' ORDER BY component, name);

# Takes SQL that makes trouble, what sms_health is to say of it, a name, and SQL that ends the trouble.
sub trouble
{
	my ($sql, $told, $name, $end) = @_;
	subtest $name => sub {
		ask($sql);
		becomes($problems, $told, 'told');
		is(ask("SELECT count(*) FROM sms_health WHERE (level = 'ok') <> (problem IS NULL)
			OR (problem IS NULL) <> (remedy IS NULL)"), 0, 'each problem has a remedy');
		ask($end);
		becomes($problems, '', 'and ends');
	};
	return;
}

# Takes a setting and a value (undef: its default), returns SQL that sets it as of now.
sub setting
{
	my ($name, $value) = @_;
	return "ALTER SYSTEM " . (defined $value ? "SET $name = $value" : "RESET $name") . ";\nSELECT pg_reload_conf();";
}

my $version = ask("SELECT extversion FROM pg_extension WHERE extname = 'sms_gateway'");
becomes($problems, '', 'all is well');
is(ask("SELECT string_agg(DISTINCT level, ',') FROM sms_health"), 'ok', 'every check is ok');

trouble(setting('sms_gateway.enabled', 'off'), 'server enabled critical sms_gateway.enabled is off', 'switched off',
	setting('sms_gateway.enabled'));
trouble(setting('sms_gateway.databases', "'other'"), qr/^server worker critical .*sms_gateway.databases leaves it out/,
	'a database that is left out', setting('sms_gateway.databases'));
trouble("SELECT sms_pause('shop', 'for a while')", 'gateway shop warning paused: for a while', 'paused by somebody',
	"SELECT sms_resume('shop')");
trouble("ALTER USER MAPPING FOR PUBLIC SERVER shop OPTIONS (SET api_key 'wrong');
	INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'wrong password')",
	qr/^gateway shop critical paused: .*101/, 'a wrong password',
	"ALTER USER MAPPING FOR PUBLIC SERVER shop OPTIONS (SET api_key 'demo')");
trouble("ALTER SERVER cpaas OPTIONS (SET base_url 'http://127.0.0.1:1');
	INSERT INTO sms_outbox (gateway, phone, content)
	SELECT 'cpaas', '0901234567', 'nobody there' FROM generate_series(1, 5)",
	qr/^gateway cpaas critical unreachable: /, 'a gateway that is not there',
	"ALTER SERVER cpaas OPTIONS (SET base_url '$simulator->{url}')");
trouble("DROP USER MAPPING FOR PUBLIC SERVER omni",
	qr/^credentials omni critical there is no user mapping/, 'no credentials',
	"CREATE USER MAPPING FOR PUBLIC SERVER omni OPTIONS (username 'demo', password 'demo')");
trouble("ALTER SERVER shop OPTIONS (daily_budget '2')", '', 'a budget that nobody has used',
	"INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'one')");
trouble("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'two')",
	'limit daily_budget of shop critical 2 of 2 used', 'a budget that is used up',
	"ALTER SERVER shop OPTIONS (DROP daily_budget)");
trouble("SELECT sms_pause('shop', 'for a while');
	CREATE SERVER gone FOREIGN DATA WRAPPER esms OPTIONS (brandname 'GONE');
	CREATE USER MAPPING FOR PUBLIC SERVER gone OPTIONS (api_key 'demo', secret_key 'demo');
	SELECT sms_pause('gone', 'for a while');
	INSERT INTO sms_outbox (gateway, phone, content) VALUES ('gone', '0901234567', 'late');
	DROP SERVER gone CASCADE;
	SELECT sms_resume('shop')",
	qr/^gateway gone critical messages wait for it, and there is no such server/, 'a server that is dropped',
	"SELECT sms_cancel(id) FROM sms_outbox WHERE gateway = 'gone'");

subtest 'a message that is late, and one in doubt' => sub {
	ask("SELECT sms_pause('omni', 'for a while')");
	ask("ALTER SERVER omni OPTIONS (ADD template_code 'TPL')");
	ask("INSERT INTO sms_outbox (gateway, kind, phone, list_param) VALUES ('omni', 'omni', '0901234567', '{}')");
	ask("UPDATE sms_outbox SET next_attempt_at = now() - interval '5 min' WHERE status = 'queued'");
	becomes($problems, qr/^queue omni warning a message is due for 00:05:/m, 'late');
	hang($simulator);
	ask("ALTER SERVER omni OPTIONS (ADD timeout '500ms')");
	ask("SELECT sms_resume('omni')");
	becomes($problems, qr/^messages in doubt warning 1 may or may not have gone/m, 'in doubt');
	no_faults($simulator);
	ask("SELECT sms_resolve(id, 'failed') FROM sms_outbox WHERE status = 'uncertain'");
	becomes($problems, '', 'and ends');
};

trouble("CREATE ROLE leaver; GRANT USAGE ON FOREIGN SERVER shop TO leaver; GRANT INSERT ON sms_outbox TO leaver;
	SELECT sms_pause('shop', 'x'); SET ROLE leaver;
	INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'left');
	RESET ROLE; DROP OWNED BY leaver; DROP ROLE leaver; SELECT sms_resume('shop')",
	qr/^messages held critical 1 of the queued .* then called "leaver", does not exist/,
	'a message of a role that is gone',
	"SELECT sms_cancel(id) FROM sms_outbox WHERE content = 'left'");

subtest 'who queues messages that nothing sends is told, once a session' => sub {
	my $insert = "INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'waits')";
	ask(setting('sms_gateway.enabled', 'off'));
	becomes($problems, qr/enabled/, 'nothing is sent');
	my ($status, $out, $told) = $node->psql('postgres', "$insert; $insert;", extra_params => [ '-U', 'app' ]);
	is(scalar(() = $told =~ /NOTICE:  the message waits: sms_gateway.enabled is off/g), 1, 'one NOTICE');
	ask(setting('sms_gateway.enabled'));
	becomes($problems, '', 'and ends');
	($status, $out, $told) = $node->psql('postgres', $insert);
	is($told, '', 'none where messages flow');
};

subtest 'who sees what' => sub {
	ask("SELECT sms_pause('omni', 'private'), sms_pause('shop', 'for all')");
	is(as_role('watcher', $problems), "gateway omni warning paused: private\ngateway shop warning paused: for all",
		'a monitor: all');
	is(as_role('app', $problems), 'gateway shop warning paused: for all', 'a sender: its gateways');
	is(as_role('stranger', $problems), 'gateway none critical there is no gateway that you may use', 'others: none');
	is(as_role('app', "SELECT string_agg(DISTINCT component, ',') FROM sms_health"), 'gateway,server', 'nor the rest');
	ask("SELECT sms_resume('omni'), sms_resume('shop')");
};

subtest 'a copy' => sub {
	ask('CREATE DATABASE copy TEMPLATE postgres', 'template1');
	becomes($problems, 'server copy critical this database is a copy; see sms_adopt_outbox', 'told',
		database => 'copy');
	ask('DROP DATABASE copy');
};

trouble("UPDATE pg_extension SET extversion = '0.0.9' WHERE extname = 'sms_gateway'",
	qr/^server version critical the library of version \S+ does not serve version 0.0.9/, 'another version',
	"UPDATE pg_extension SET extversion = '$version' WHERE extname = 'sms_gateway'");

subtest 'no process for a worker' => sub {
	ask('ALTER SYSTEM SET max_worker_processes = 2');
	$node->restart;
	becomes($problems, qr/^server processes warning .*\nserver worker critical .*max_worker_processes/, 'told');
	ask('ALTER SYSTEM RESET max_worker_processes');
	$node->restart;
	becomes($problems, '', 'and ends');
};
$node->stop;

subtest 'a server that does not preload the library' => sub {
	my $bare = server('bare', preload => 0);
	gateways($bare, $simulator);
	is(ask($problems), 'server worker critical sms_gateway is not in shared_preload_libraries; CALL sms_drain() sends',
		'told');
	$bare->stop;
};

done_testing();
