# A role that may send through one gateway tries everything else.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = simulator();
my $node = server('hostile');
gateways($node, $simulator);
worker_pid($node);
ask("CREATE ROLE mallory LOGIN; CREATE ROLE alice LOGIN; CREATE ROLE nobody LOGIN;
	CREATE ROLE monitor LOGIN; GRANT pg_monitor TO monitor;
	GRANT USAGE ON FOREIGN SERVER shop TO mallory, alice; GRANT INSERT, SELECT ON sms_outbox TO mallory, alice;
	CREATE SCHEMA evil AUTHORIZATION mallory; GRANT CREATE ON DATABASE postgres TO mallory;
	ALTER USER MAPPING FOR PUBLIC SERVER omni OPTIONS (SET password 'topsecret')");

# Everything that a role sees of statements: rows, errors, notices.
sub seen_by
{
	my ($role, $sql) = @_;
	my (undef, $rows, $messages) =
		$node->psql('postgres', "\\set VERBOSITY verbose\n$sql", extra_params => [ '-U', $role ]);
	return "$rows\n$messages";
}

# None of the statements is allowed to a role: for want of a right, or since no such thing can be done.
sub denied
{
	my ($role, @statements) = @_;
	like(error_of($_, role => $role), qr/ERROR:  (42501|42704|42809|428C9|55000|55P02)/, $_) for @statements;
	return;
}

my $hers;

subtest 'the victim' => sub {
	as_role('alice', "INSERT INTO sms_outbox (gateway, phone, content)
		VALUES ('shop', '0901111111', 'private of alice')");
	$hers = ask('SELECT max(id) FROM sms_outbox');
	becomes("SELECT status FROM sms_outbox WHERE id = $hers", 'sent', 'alice has sent a message');
};

subtest 'what is not his' => sub {
	denied('mallory', split /\n/, <<"SQL");
SELECT sms_send('0901234567', 'x', 'cpaas')
SELECT sms_balance('omni')
SELECT sms_omni_send('0901234567', 'T', gateway => 'omni')
INSERT INTO sms_outbox (gateway, phone, content) VALUES ('cpaas', '0901234567', 'x')
SELECT sms_cancel($hers)
SELECT sms_retry($hers)
SELECT sms_check_status($hers)
SELECT sms_resolve($hers, 'sent')
SELECT sms_pause('shop', 'x')
SELECT sms_resume('shop')
SELECT sms_adopt_outbox()
CALL sms_drain()
SELECT sms_delivery_report('shop', '{"SendStatus": 5}')
SELECT sms_gateway_claimed(1)
SELECT sms_gateway_redacts('shop', 'text')
SELECT sms_outbox_insert()
SQL
	for my $relation (qw(sms_gateway_identity sms_gateway_otp sms_gateway_usage sms_gateway_callback
		sms_gateway_lease sms_gateway_state sms_gateways))
	{
		denied('mallory', "SELECT * FROM $relation", "DELETE FROM $relation", "TRUNCATE $relation",
			"COPY $relation TO STDOUT");
	}
	denied('mallory', split /\n/, <<'SQL');
UPDATE sms_outbox SET status = 'delivered'
DELETE FROM sms_outbox
TRUNCATE sms_outbox
ALTER TABLE sms_outbox DISABLE ROW LEVEL SECURITY
CREATE TRIGGER t AFTER UPDATE ON sms_outbox FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()
CREATE POLICY p ON sms_outbox USING (true)
CREATE SERVER mine FOREIGN DATA WRAPPER esms OPTIONS (base_url 'https://evil.example')
ALTER SERVER shop OPTIONS (SET base_url 'https://evil.example')
DROP SERVER shop CASCADE
ALTER SERVER shop OWNER TO mallory
ALTER USER MAPPING FOR PUBLIC SERVER shop OPTIONS (SET api_key 'x')
SET sms_gateway.enabled = off
SELECT setval('sms_outbox_id_seq', 1)
SQL
	denied('nobody', split /\n/, <<'SQL');
SELECT sms_send('0901234567', 'x', 'shop')
INSERT INTO sms_outbox (phone, content) VALUES ('0901234567', 'x')
SELECT * FROM sms_outbox
SELECT * FROM sms_gateways
SQL
	denied('alice', "EXPLAIN ANALYZE UPDATE sms_outbox SET content = 'x'");
};

subtest "other people's rows: by themselves, by functions that leak, COPY, errors and ON CONFLICT" => sub {
	is(as_role('mallory', 'SELECT count(*) FROM sms_outbox'), 0, "others' rows are not seen");
	as_role('mallory', q{CREATE FUNCTION evil.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001
		AS $$ BEGIN RAISE NOTICE 'leaked %', $1; RETURN true; END $$});
	unlike(seen_by('mallory', 'SELECT count(*) FROM sms_outbox WHERE evil.leak(content)'), qr/leaked/,
		'… nor by a function that leaks');
	is(as_role('mallory', 'COPY sms_outbox TO STDOUT'), '', '… nor by COPY');
	unlike(seen_by('mallory', 'SELECT * FROM sms_outbox WHERE content::int > 0'), qr/private/, '… nor by an error');
	like(error_of("INSERT INTO sms_outbox (gateway, phone, content, request_id)
		VALUES ('shop', '0901234567', 'x', 'mine') ON CONFLICT (id) DO UPDATE SET content = 'y'", role => 'mallory'),
		qr/42501/, 'no UPDATE by ON CONFLICT');
};

subtest 'secrets are in no catalog or view that he may read' => sub {
	unlike(seen_by('mallory', 'SELECT * FROM pg_user_mappings; SELECT * FROM pg_foreign_server;
		SELECT * FROM information_schema.user_mapping_options'), qr/topsecret/, 'credentials are in no view');
	denied('mallory', 'SELECT * FROM pg_user_mapping');
};

subtest 'columns that are ours: whatever he writes there' => sub {
	as_role('mallory', "INSERT INTO sms_outbox (gateway, phone, content, status, attempts, smsid, created_by,
			created_at, origin, sent_at, price, request_id, next_attempt_at, poll_at, details)
		VALUES ('shop', '0902222222', 'forged', 'delivered', 99, 'forged', 'alice',
			'2001-01-01', 1, '2001-01-01', 1, 'own-id', '2001-01-01', '2001-01-01', '{\"a\": 1}')");
	becomes(sub { status_of('forged') }, 'sent', 'a row with forged columns …');
	is(ask("SELECT created_by, attempts, smsid <> 'forged', created_at > '2020-01-01', price IS NULL, details IS NULL
		FROM sms_outbox WHERE content = 'forged'"), 'mallory|1|t|t|t|t', '… has none of them');
	like(error_of("INSERT INTO sms_outbox (id, gateway, phone, content) VALUES (1, 'shop', '0902222222', 'x')",
		role => 'mallory'), qr/428C9/, 'ids are not chosen');
	like(error_of("INSERT INTO sms_outbox (gateway, phone, content, request_id)
		VALUES ('shop', '0902222222', 'x', 'sgw-0-$hers')", role => 'mallory'), qr/22023/, 'nor are ids like ours');
};

subtest 'injection through every text' => sub {
	my $quote = q{'; DROP TABLE sms_outbox; --};
	my $escaped = $quote =~ s/'/''/gr;
	my $columns = 'gateway, phone, content, template_code, list_param, request_id';
	for my $sql ("SELECT sms_send('$escaped', 'x', 'shop')",
		qq(SELECT sms_send('0901234567', '$escaped', 'shop', options => '{"brandname": "\\\\"$escaped"}')),
		"SELECT sms_send('0901234567', 'x', '$escaped')",
		"SELECT sms_send('0901234567', 'x', 'shop', '$escaped')",
		qq(SELECT sms_send('0901234567', 'x', 'shop', NULL, '{"$escaped": 1}')),
		"SELECT sms_send_otp('0901234567', '{OTP}$escaped', 'shop')",
		"SELECT sms_check_otp('0901234567', '1$escaped', 'shop')",
		"SELECT sms_parts('$escaped')",
		"SELECT sms_unaccent('$escaped')",
		"INSERT INTO sms_outbox ($columns) VALUES ('shop', '0901234567', '$escaped', '$escaped', "
			. qq{'{"$escaped": "$escaped"}', '$escaped')})
	{
		unlike(seen_by('mallory', $sql), qr/syntax error|42601/, "nothing is executed: $sql");
	}
	ask("SELECT sms_delivery_report('shop', jsonb_build_object('SMSID', '$escaped', 'SendStatus', '$escaped',
		'TotalPrice', '$escaped', 'error_info', '$escaped'))");
	is(ask("SELECT count(*) FROM pg_class WHERE relname = 'sms_outbox'"), 1, 'the table is still there');
};

subtest 'objects of the same names in a schema in front, operators too' => sub {
	my $in_front = 'SET search_path = evil, public, pg_catalog';
	as_role('mallory', q{
		CREATE TABLE evil.sms_outbox (LIKE public.sms_outbox);
		CREATE TABLE evil.sms_gateway_lease (id bigint, ids bigint[], claimed_at timestamptz);
		CREATE FUNCTION evil.boom() RETURNS boolean LANGUAGE plpgsql
			AS $$ BEGIN RAISE EXCEPTION 'hijacked as %', current_user; END $$;
		CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql
			AS 'SELECT evil.boom() IS NULL; SELECT pg_catalog.now()';
		CREATE FUNCTION evil.count(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
		GRANT USAGE ON SCHEMA evil TO PUBLIC});
	as_role('mallory', "CREATE FUNCTION evil.eq($_, $_) RETURNS boolean LANGUAGE sql AS 'SELECT evil.boom()';
		CREATE OPERATOR evil.= (LEFTARG = $_, RIGHTARG = $_, FUNCTION = evil.eq)")
		for qw(bigint name text public.sms_status);
	like(error_of("$in_front; SELECT 1::bigint = 1::bigint", role => 'alice'), qr/hijacked as alice/,
		'the trap works');
	my $logged = -s $node->logfile;

	ask('ALTER DATABASE postgres SET search_path = evil, public, pg_catalog');
	$node->restart;
	local $ENV{PGOPTIONS} = '-c search_path=public';    # for what this test asks; the worker has the database's
	worker_pid($node);
	my $hijacked = join '', map { seen_by('alice', "$in_front; $_") } (
		"SELECT public.sms_wait('5s'); SELECT public.sms_send('0901234567', 'x', 'shop')",
		"INSERT INTO public.sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'in front');
			SELECT public.sms_wait('5s')",
		"SELECT public.sms_cancel($hers), public.sms_retry($hers), public.sms_check_status($hers)");
	becomes(sub { status_of('in front') }, 'sent', 'objects in front do not stop a message', seconds => 10);
	unlike($hijacked . slurp_file($node->logfile, $logged), qr/hijacked as \w/, '… and are not called');
	unlike(join('', $node->psql('postgres', "$in_front; SELECT * FROM public.sms_gateways")), qr/hijacked as \w/,
		'… not by the view either');
	ask('ALTER DATABASE postgres RESET search_path');
};

subtest 'monitors see what happens, but not to whom' => sub {
	is(as_role('monitor', 'SELECT count(*) > 2 FROM sms_outbox_monitor'), 't', 'a monitor sees all messages');
	like(as_role('monitor', 'SELECT name, queued FROM sms_gateways'), qr/shop\|0/, '… and the gateways');
	denied('monitor', "SELECT $_ FROM sms_outbox") for qw(id phone *);
	like(error_of("SELECT $_ FROM sms_outbox_monitor", role => 'monitor'), qr/42703/, "… not $_")
		for qw(phone content list_param options details result_message);
	ask('GRANT pg_monitor TO mallory');
	is(as_role('mallory', "SELECT count(*) FROM sms_outbox WHERE created_by <> 'mallory'"), 0,
		"who may read texts does not see others' by being a monitor");
};

subtest 'a name that is not found, and then a long answer through another gateway' => sub {
	ask("CREATE SERVER nowhere FOREIGN DATA WRAPPER esms OPTIONS (base_url 'https://no.such.host.invalid',
			brandname 'X', timeout '2s', connect_timeout '500ms', poll_delivery 'false');
		CREATE USER MAPPING FOR PUBLIC SERVER nowhere OPTIONS (api_key 'demo', secret_key 'demo')");
	fault($simulator, fault => 'body', text => '{}', value => 60);
	my $pair = "SELECT status FROM sms_send('0901234567', 'a', 'nowhere');
		SELECT status FROM sms_send('0901234567', 'b', 'shop')";
	is(ask(join ';', ($pair) x 3), join("\n", ("failed\nuncertain") x 3), 'in a session');
	my $worker = worker_pid($node);
	for my $n (1 .. 3)
	{
		ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('nowhere', '0901234567', 'no name $n'),
			('shop', '0901234567', 'long $n')");
		becomes("SELECT count(result_code) FROM sms_outbox WHERE content IN ('no name $n', 'long $n')", '2',
			'in the worker', seconds => 10);
	}
	is(worker_pid($node), $worker, 'which lives');
	no_faults($simulator);
	ask("DELETE FROM sms_outbox WHERE content LIKE 'no name %' OR content LIKE 'long %'; DROP SERVER nowhere CASCADE");
};

$node->stop;
done_testing();
