# Users' own triggers on the outbox: whom they run as, what they can break, what they cannot.
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
my $node = server('triggers');
sub ask { my ($sql) = @_; return scalar_of($node, $sql); }
sub as { my ($role, $sql) = @_; return $node->psql('postgres', $sql, extra_params => [ '-U', $role ]); }
gateways($node, $simulator);
worker_pid($node);
ask("CREATE ROLE app LOGIN; CREATE ROLE other LOGIN; CREATE ROLE tricky LOGIN;
	GRANT INSERT, SELECT ON sms_outbox TO app, other; GRANT USAGE ON FOREIGN SERVER shop TO app, other;
	GRANT CREATE ON SCHEMA public TO tricky; GRANT TRIGGER, SELECT ON sms_outbox TO tricky;
	CREATE TABLE seen (what text, id bigint, status text, who name, super bool, path text); GRANT INSERT ON seen TO PUBLIC");

# --- a role with the right to make triggers tries to become a superuser
sub trigger
{
	my ($name, $when, $body, $kind) = @_;
	return "CREATE FUNCTION $name() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN $body; RETURN new; END \$\$;
		CREATE " . ($kind // '') . " TRIGGER $name $when FOR EACH ROW EXECUTE FUNCTION $name();";
}
sub note_down { my ($what) = @_; return "INSERT INTO public.seen SELECT '$what', new.id, new.status, current_user, rolsuper, current_setting('search_path') FROM pg_roles WHERE rolname = current_user"; }
is(as('tricky', trigger('before_it', 'BEFORE UPDATE ON sms_outbox', note_down('before'))), 0, 'a BEFORE trigger');
is(as('tricky', trigger('after_it', 'AFTER UPDATE ON sms_outbox', note_down('after'))), 0, 'an AFTER trigger');
is(as('tricky', trigger('later', 'AFTER UPDATE ON sms_outbox DEFERRABLE INITIALLY DEFERRED', note_down('deferred'), 'CONSTRAINT')), 0, 'a deferred one');
is(as('tricky', trigger('sets', 'AFTER UPDATE ON sms_outbox', "SET synchronous_commit = off; SET search_path = nowhere; SET lock_timeout = 1; SET enable_seqscan = on")), 0, 'one that SETs');

sub seen { my ($id) = @_; return ask("SELECT string_agg(what || ' ' || status || ' ' || who || ' ' || super, ', ' ORDER BY what) FROM seen WHERE id = $id"); }
sub sent
{
	my ($role, $content, $more) = @_;
	$node->safe_psql('postgres', "INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', '$content')", extra_params => [ '-U', $role ]);
	my $id = ask("SELECT id FROM sms_outbox WHERE content = '$content'");
	ok(wait_until(sub { ask("SELECT status FROM sms_outbox WHERE id = $id") eq 'sent' }), "$content: sent");
	return $id;
}
my $of_app = sent('app', 'of app');
is(seen($of_app), 'after sent app false, before sent app false, deferred sent app false', "triggers run as the row's creator, not as the superuser who owns the table");
is(ask("SELECT DISTINCT path FROM seen WHERE id = $of_app"), '"$user", public', '… with the search_path of any session');
my $of_other = sent('other', 'of another');
is(seen($of_other), 'after sent other false, before sent other false, deferred sent other false', "another's as another");

# both creators in one batch
ask("SELECT sms_pause('shop', 'batch')");
for my $role ('app', 'other')
{
	$node->safe_psql('postgres', "INSERT INTO sms_outbox (gateway, phone, content) SELECT 'shop', '0901234567', 'batch' FROM generate_series(1, 50)", extra_params => [ '-U', $role ]);
}
ask("SELECT sms_resume('shop')");
ok(wait_until(sub { ask("SELECT count(*) FROM sms_outbox WHERE content = 'batch' AND status = 'sent'") == 100 }), 'a batch of two creators');
is(ask("SELECT count(*), bool_or(s.super), bool_and(s.who = o.created_by) FROM seen s JOIN sms_outbox o USING (id) WHERE o.content = 'batch'"), '300|f|t', '… each row as its own');

# --- superusers' rows: only superusers' triggers run
my $of_superuser = sent($node->safe_psql('postgres', 'SELECT current_user'), 'of the superuser');
is(seen($of_superuser), '', "a superuser's row runs nobody else's trigger");
like(slurp_file($node->logfile), qr/WARNING:  triggers on sms_outbox are passed over for messages of role/, '… and the log says so');

# --- ends of other kinds, and users' own calls
ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('cpaas', '0901234567', 'unused')");
ask("SELECT sms_pause('shop', 'wait')");
$node->safe_psql('postgres', "INSERT INTO sms_outbox (gateway, phone, content, expires_at) VALUES ('shop', '0901234567', 'expires', now() + interval '0.3s')", extra_params => [ '-U', 'app' ]);
my $expired = ask("SELECT id FROM sms_outbox WHERE content = 'expires'");
ok(wait_until(sub { ask("SELECT status FROM sms_outbox WHERE id = $expired") eq 'expired' }), 'a message expires');
is(seen($expired), 'after expired app false, before expired app false, deferred expired app false', '… as its creator');
$node->safe_psql('postgres', "INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'canceled')", extra_params => [ '-U', 'app' ]);
my $canceled = ask("SELECT id FROM sms_outbox WHERE content = 'canceled'");
is($node->safe_psql('postgres', "SELECT sms_cancel($canceled)", extra_params => [ '-U', 'app' ]), 't', 'a user cancels');
is(seen($canceled), 'after canceled app false, before canceled app false, deferred canceled app false', '… as that user');
ask("SELECT sms_resume('shop')");
ask("CREATE ROLE hook LOGIN; GRANT EXECUTE ON FUNCTION sms_delivery_report(name, jsonb) TO hook");
my $smsid = ask("SELECT smsid FROM sms_outbox WHERE id = $of_app");
is($node->safe_psql('postgres', "SELECT sms_delivery_report('shop', '{\"SMSID\": \"$smsid\", \"SendStatus\": \"4\"}')", extra_params => [ '-U', 'hook' ]), $of_app, 'a callback');
is(ask("SELECT count(*), bool_or(super) FROM seen WHERE id = $of_app AND status = 'undelivered'"), '3|f', "… runs triggers as the row's creator");

# --- a role that is dropped leaves its rows
ask("DROP TRIGGER before_it ON sms_outbox; DROP TRIGGER later ON sms_outbox");
ask("SELECT sms_pause('shop', 'wait')");
$node->safe_psql('postgres', "INSERT INTO sms_outbox (gateway, phone, content, expires_at) VALUES ('shop', '0901234567', 'ownerless', now() + interval '1s')", extra_params => [ '-U', 'other' ]);
ask("DROP OWNED BY other; DROP ROLE other");
ok(wait_until(sub { ask("SELECT status FROM sms_outbox WHERE content = 'ownerless'") eq 'expired' }), "a message of a role that is no more still ends");
ask("SELECT sms_resume('shop')");

# --- a trigger that fails, one that deletes the row, one that is slow
ask("DROP TRIGGER after_it ON sms_outbox; DROP TRIGGER sets ON sms_outbox");
is(as('tricky', trigger('fails', 'AFTER UPDATE ON sms_outbox', "IF new.content = 'fails' THEN RAISE 'on purpose'; END IF")), 0, 'a trigger that fails');
my $fails = sent('app', 'fails');
my $fine = sent('app', 'fine');
like(slurp_file($node->logfile), qr/WARNING:  could not record message $fails: on purpose/, '… is told in the log');

# --- where the owner is no superuser, triggers run as the owner
ask("DROP TRIGGER fails ON sms_outbox; CREATE ROLE keeper LOGIN; GRANT ALL ON SCHEMA public TO keeper;
	ALTER TABLE sms_outbox OWNER TO keeper; ALTER TABLE sms_gateway_lease OWNER TO keeper; ALTER TABLE sms_gateway_state OWNER TO keeper;
	ALTER TABLE sms_gateway_report OWNER TO keeper; ALTER TABLE sms_gateway_otp OWNER TO keeper; ALTER TABLE sms_gateway_usage OWNER TO keeper;
	ALTER TABLE sms_gateway_identity OWNER TO keeper;
	GRANT EXECUTE ON FUNCTION sms_gateway_claimed(bigint) TO keeper");
is(as('tricky', trigger('once_more', 'AFTER UPDATE ON sms_outbox', note_down('owned'))), 0, 'another owner');
my $owned = sent('app', 'owned');
is(seen($owned), 'owned sent keeper false', '… is whom they run as');

$node->stop;
done_testing();
