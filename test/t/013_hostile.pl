# A role that may send through one gateway tries everything else.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = simulator();
my $node = server('hostile');
sub ask { my ($sql) = @_; return scalar_of($node, $sql); }
gateways($node, $simulator);
worker_pid($node);
ask("CREATE ROLE mallory LOGIN; CREATE ROLE alice LOGIN; CREATE ROLE monitor LOGIN; GRANT pg_monitor TO monitor; CREATE ROLE nobody LOGIN;
	GRANT USAGE ON FOREIGN SERVER shop TO mallory, alice; GRANT INSERT, SELECT ON sms_outbox TO mallory, alice;
	ALTER USER MAPPING FOR PUBLIC SERVER omni OPTIONS (SET password 'topsecret'); CREATE SCHEMA evil AUTHORIZATION mallory; GRANT CREATE ON DATABASE postgres TO mallory");

# As a role: what came out, and the error.
sub as { my ($role, $sql) = @_; my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql", extra_params => [ '-U', $role ]); return wantarray ? ($out, $err) : $err; }
sub denied { my ($role, $sql, $name) = @_; like(scalar as($role, $sql), qr/ERROR:  (42501|42704|42809|428C9|55000|55P02)/, $name // $sql); return; }

$node->safe_psql('postgres', "INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901111111', 'private of alice')", extra_params => [ '-U', 'alice' ]);
my $hers = ask('SELECT max(id) FROM sms_outbox');
ok(wait_until(sub { ask("SELECT status FROM sms_outbox WHERE id = $hers") eq 'sent' }), 'alice has sent a message');

# --- what is not his
denied('mallory', $_) for (
	"SELECT sms_send('0901234567', 'x', 'cpaas')", "SELECT sms_balance('omni')", "SELECT sms_omni_send('0901234567', 'T', gateway => 'omni')",
	"INSERT INTO sms_outbox (gateway, phone, content) VALUES ('cpaas', '0901234567', 'x')",
	"SELECT sms_cancel($hers)", "SELECT sms_retry($hers)", "SELECT sms_check_status($hers)", "SELECT sms_resolve($hers, 'sent')",
	"SELECT sms_pause('shop', 'x')", "SELECT sms_resume('shop')", "SELECT sms_adopt_outbox()", "CALL sms_drain()",
	"SELECT sms_delivery_report('shop', '{\"SendStatus\": 5}')",
	"SELECT sms_gateway_claimed(1)", "SELECT sms_gateway_redacts('shop', 'text')", "SELECT sms_outbox_insert()",
	(map { ("SELECT * FROM $_", "DELETE FROM $_", "TRUNCATE $_", "COPY $_ TO STDOUT") }
		qw(sms_gateway_identity sms_gateway_otp sms_gateway_usage sms_gateway_report sms_gateway_lease sms_gateway_state sms_gateways)),
	"UPDATE sms_outbox SET status = 'delivered'", "DELETE FROM sms_outbox", "TRUNCATE sms_outbox", "ALTER TABLE sms_outbox DISABLE ROW LEVEL SECURITY",
	"CREATE TRIGGER t AFTER UPDATE ON sms_outbox FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()", "CREATE POLICY p ON sms_outbox USING (true)",
	"CREATE SERVER mine FOREIGN DATA WRAPPER esms OPTIONS (base_url 'https://evil.example')", "ALTER SERVER shop OPTIONS (SET base_url 'https://evil.example')",
	"DROP SERVER shop CASCADE", "ALTER SERVER shop OWNER TO mallory", "ALTER USER MAPPING FOR PUBLIC SERVER shop OPTIONS (SET api_key 'x')",
	"SET sms_gateway.enabled = off", "SELECT setval('sms_outbox_id_seq', 1)");
denied('nobody', $_) for ("SELECT sms_send('0901234567', 'x', 'shop')", "INSERT INTO sms_outbox (phone, content) VALUES ('0901234567', 'x')", "SELECT * FROM sms_outbox", "SELECT * FROM sms_gateways");
denied('alice', "EXPLAIN ANALYZE UPDATE sms_outbox SET content = 'x'");

# --- other people's rows: row-level security, leaky functions, COPY, joins, cursors
is((as('mallory', 'SELECT count(*) FROM sms_outbox'))[0], 0, "others' rows are not seen");
as('mallory', "CREATE FUNCTION evil.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS \$\$ BEGIN RAISE NOTICE 'leaked %', \$1; RETURN true; END \$\$");
unlike(scalar as('mallory', 'SELECT count(*) FROM sms_outbox WHERE evil.leak(content)'), qr/leaked/, '… nor by a function that leaks');
is((as('mallory', 'COPY sms_outbox TO STDOUT'))[0], '', '… nor by COPY');
unlike(join('', as('mallory', "SELECT * FROM sms_outbox WHERE content::int > 0")), qr/private/, '… nor by an error');
like(scalar as('mallory', "INSERT INTO sms_outbox (gateway, phone, content, request_id) VALUES ('shop', '0901234567', 'x', 'mine') ON CONFLICT (id) DO UPDATE SET content = 'y'"), qr/42501/, 'no UPDATE by ON CONFLICT');

# --- secrets in catalogs and views
unlike(join('', as('mallory', 'SELECT * FROM pg_user_mappings; SELECT * FROM pg_foreign_server; SELECT * FROM information_schema.user_mapping_options')), qr/topsecret/, 'credentials are in no view');
denied('mallory', 'SELECT * FROM pg_user_mapping');

# --- columns that are ours: whatever he writes there
as('mallory', "INSERT INTO sms_outbox (gateway, phone, content, status, attempts, smsid, created_by, created_at, origin, sent_at, price, request_id, next_attempt_at, poll_at, details)
	VALUES ('shop', '0902222222', 'forged', 'delivered', 99, 'forged', 'alice', '2001-01-01', 1, '2001-01-01', 1, 'own-id', '2001-01-01', '2001-01-01', '{\"a\": 1}')");
ok(wait_until(sub { ask("SELECT status FROM sms_outbox WHERE content = 'forged'") eq 'sent' }), 'a row with forged columns …');
is(ask("SELECT created_by, attempts, smsid <> 'forged', created_at > '2020-01-01', price IS NULL, details IS NULL FROM sms_outbox WHERE content = 'forged'"), 'mallory|1|t|t|t|t', '… has none of them');
like(scalar as('mallory', "INSERT INTO sms_outbox (id, gateway, phone, content) VALUES (1, 'shop', '0902222222', 'x')"), qr/428C9/, 'ids are not chosen');
like(scalar as('mallory', "INSERT INTO sms_outbox (gateway, phone, content, request_id) VALUES ('shop', '0902222222', 'x', 'sgw-0-$hers')"), qr/22023/, 'nor are ids like ours');

# --- injection through every text
my $quote = q{'; DROP TABLE sms_outbox; --};
my $escaped = $quote =~ s/'/''/gr;
for my $sql ("SELECT sms_send('$escaped', 'x', 'shop')", "SELECT sms_send('0901234567', '$escaped', 'shop', options => '{\"brandname\": \"\\\\\"$escaped\"}')",
	"SELECT sms_send('0901234567', 'x', '$escaped')", "SELECT sms_send('0901234567', 'x', 'shop', '$escaped')", "SELECT sms_send('0901234567', 'x', 'shop', NULL, '{\"$escaped\": 1}')",
	"SELECT sms_send_otp('0901234567', '{OTP}$escaped', 'shop')", "SELECT sms_check_otp('0901234567', '1$escaped', 'shop')", "SELECT sms_parts('$escaped')", "SELECT sms_unaccent('$escaped')",
	"INSERT INTO sms_outbox (gateway, phone, content, template_code, list_param, request_id) VALUES ('shop', '0901234567', '$escaped', '$escaped', '{\"$escaped\": \"$escaped\"}', '$escaped')")
{
	unlike(scalar as('mallory', $sql), qr/syntax error|42601/, "nothing is executed: $sql");
}
ask("SELECT sms_delivery_report('shop', jsonb_build_object('SMSID', '$escaped', 'SendStatus', '$escaped', 'TotalPrice', '$escaped', 'error_info', '$escaped'))");
is(ask("SELECT count(*) FROM pg_class WHERE relname = 'sms_outbox'"), 1, 'the table is still there');

# --- objects of the same names in a schema in front, operators too
as('mallory', "
	CREATE TABLE evil.sms_outbox (LIKE public.sms_outbox); CREATE TABLE evil.sms_gateway_lease (id bigint, ids bigint[], claimed_at timestamptz);
	CREATE FUNCTION evil.boom() RETURNS boolean LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'hijacked as %', current_user; END \$\$;
	CREATE FUNCTION evil.eq(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT evil.boom()';
	CREATE FUNCTION evil.eq(name, name) RETURNS boolean LANGUAGE sql AS 'SELECT evil.boom()';
	CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT evil.boom()';
	CREATE FUNCTION evil.eq(public.sms_status, public.sms_status) RETURNS boolean LANGUAGE sql AS 'SELECT evil.boom()';
	CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.eq); CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.eq);
	CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq); CREATE OPERATOR evil.= (LEFTARG = public.sms_status, RIGHTARG = public.sms_status, FUNCTION = evil.eq);
	CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT evil.boom() IS NULL; SELECT pg_catalog.now()';
	CREATE FUNCTION evil.count(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'");
ask("ALTER DATABASE postgres SET search_path = evil, public, pg_catalog");
$node->restart;
$ENV{PGOPTIONS} = '-c search_path=public'; # for what this test asks; the worker has the database's
worker_pid($node);
my $hijacked = join '', map { scalar as('alice', $_) } ("SET search_path = evil, public, pg_catalog; SELECT public.sms_wait('5s'); SELECT public.sms_send('0901234567', 'x', 'shop')",
	"SET search_path = evil, public, pg_catalog; INSERT INTO public.sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'in front'); SELECT public.sms_wait('5s')",
	"SET search_path = evil, public, pg_catalog; SELECT public.sms_cancel($hers), public.sms_retry($hers), public.sms_check_status($hers)");
ok(wait_until(sub { ask("SET search_path = public; SELECT status FROM public.sms_outbox WHERE content = 'in front'") eq 'sent' }, 10), 'objects in front do not stop a message');
unlike($hijacked . slurp_file($node->logfile), qr/hijacked as \w/, '… and are not called');
unlike(join('', $node->psql('postgres', 'SET search_path = evil, public, pg_catalog; SELECT * FROM public.sms_gateways')), qr/hijacked as \w/, '… not by the view either');
delete $ENV{PGOPTIONS};
ask("SET search_path = public; ALTER DATABASE postgres RESET search_path");

# --- monitors see what happens, but not to whom
is((as('monitor', 'SELECT count(*) > 2 FROM sms_outbox'))[0], 't', 'a monitor sees all messages');
like((as('monitor', 'SELECT name, queued FROM sms_gateways'))[0], qr/shop\|0/, '… and the gateways');
denied('monitor', "SELECT $_ FROM sms_outbox") for qw(phone content list_param options details result_message *);
ask("GRANT pg_monitor TO mallory");
is((as('mallory', "SELECT count(*) FROM sms_outbox WHERE created_by <> 'mallory'"))[0], 0, "who may read texts does not see others' by being a monitor");

$node->stop;
done_testing();
