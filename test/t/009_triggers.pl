# Users' own triggers on the outbox: whom they run as, what they can break, what they cannot.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = simulator();
my $node = server('triggers');
gateways($node, $simulator);
worker_pid($node);
ask("CREATE ROLE app LOGIN; CREATE ROLE other LOGIN; CREATE ROLE tricky LOGIN;
	GRANT INSERT, SELECT ON sms_outbox TO app, other; GRANT USAGE ON FOREIGN SERVER shop TO app, other;
	GRANT CREATE ON SCHEMA public TO tricky; GRANT TRIGGER, SELECT ON sms_outbox TO tricky;
	CREATE TABLE seen (what text, id bigint, status text, who name, super bool, path text);
	GRANT INSERT ON seen TO PUBLIC");

# A role with the right to make triggers, and no other, makes one.
sub tricky_makes
{
	my ($trigger, $when, $body, $name, $kind) = @_;
	$kind //= '';
	is(error_of("CREATE FUNCTION $trigger() RETURNS trigger LANGUAGE plpgsql
			AS \$\$ BEGIN $body; RETURN new; END \$\$;
		CREATE $kind TRIGGER $trigger $when FOR EACH ROW EXECUTE FUNCTION $trigger()", role => 'tricky'), '', $name);
	return;
}

# What such a trigger does: it notes down as whom it runs, and whether that is a superuser.
sub note_down
{
	my ($what) = @_;
	return "INSERT INTO public.seen
		SELECT '$what', new.id, new.status, current_user, rolsuper, current_setting('search_path')
		FROM pg_roles WHERE rolname = current_user";
}

# What the triggers noted down about a message.
sub seen
{
	my ($id) = @_;
	return ask("SELECT string_agg(what || ' ' || status || ' ' || who || ' ' || super, ', ' ORDER BY what)
		FROM seen WHERE id = $id");
}

# Queues a message as a role; after $expires_in (an interval) it is not sent any more.
sub queue
{
	my ($role, $content, $expires_in) = @_;
	my $expires_at = $expires_in ? "now() + interval '$expires_in'" : 'NULL';
	as_role($role, "INSERT INTO sms_outbox (gateway, phone, content, expires_at)
		VALUES ('shop', '0901234567', '$content', $expires_at)");
	return ask("SELECT id FROM sms_outbox WHERE content = '$content'");
}

sub sent
{
	my ($role, $content) = @_;
	my $id = queue($role, $content);
	becomes("SELECT status FROM sms_outbox WHERE id = $id", 'sent', "$content: sent");
	return $id;
}

my $of_app;

subtest 'a role with the right to make triggers does not become a superuser' => sub {
	tricky_makes('before_it', 'BEFORE UPDATE ON sms_outbox', note_down('before'), 'a BEFORE trigger');
	tricky_makes('after_it', 'AFTER UPDATE ON sms_outbox', note_down('after'), 'an AFTER trigger');
	tricky_makes('later', 'AFTER UPDATE ON sms_outbox DEFERRABLE INITIALLY DEFERRED', note_down('deferred'),
		'a deferred one', 'CONSTRAINT');
	tricky_makes('sets', 'AFTER UPDATE ON sms_outbox', 'SET synchronous_commit = off;
		SET search_path = nowhere; SET lock_timeout = 1; SET enable_seqscan = on', 'one that SETs');

	$of_app = sent('app', 'of app');
	is(seen($of_app), 'after sent app false, deferred sent app false',
		"triggers run as the row's creator, not as the superuser who owns the table, and none BEFORE the row");
	is(ask("SELECT DISTINCT path FROM seen WHERE id = $of_app"), '"$user", public',
		'… with the search_path of any session');
	my $of_other = sent('other', 'of another');
	is(seen($of_other), 'after sent other false, deferred sent other false',
		"another's as another");
};

subtest 'in a batch with rows of two creators, each row runs triggers as its own' => sub {
	ask("SELECT sms_pause('shop', 'batch')");
	as_role($_, "INSERT INTO sms_outbox (gateway, phone, content)
		SELECT 'shop', '0901234567', 'batch' FROM generate_series(1, 50)") for qw(app other);
	ask("SELECT sms_resume('shop')");
	becomes("SELECT count(*) FROM sms_outbox WHERE content = 'batch' AND status = 'sent'", '100',
		'a batch of two creators');
	is(ask("SELECT count(*), bool_or(s.super), bool_and(s.who = o.created_by)
		FROM seen s JOIN sms_outbox o USING (id) WHERE o.content = 'batch'"), '200|f|t', '… each row as its own');
};

subtest "on superusers' rows only superusers' triggers run" => sub {
	my $of_superuser = sent(ask('SELECT current_user'), 'of the superuser');
	is(seen($of_superuser), '', "a superuser's row runs nobody else's trigger");
	like(slurp_file($node->logfile), qr/WARNING:  skipping triggers on "sms_outbox" for messages of role/,
		'… and the log says so');
};

subtest "a superuser's message that cannot be changed is not said to be" => sub {
	ask("SELECT sms_pause('shop', 'wait')");
	my $id = queue(ask('SELECT current_user'), 'stays queued');
	ask("ALTER TABLE sms_outbox ADD CONSTRAINT stays CHECK (id <> $id OR status <> 'canceled')");
	like(error_of("SELECT sms_cancel($id)"), qr/23514/, "the constraint's error is the caller's");
	is(ask("SELECT status FROM sms_outbox WHERE id = $id"), 'queued', 'and nothing has changed');
	ask("ALTER TABLE sms_outbox DROP CONSTRAINT stays");
	is(ask("BEGIN; SET LOCAL session_replication_role = 'replica'; SELECT sms_cancel($id);
		SELECT current_setting('session_replication_role'); COMMIT"), "t\nreplica", 'settings of the caller stay');
	ask("SELECT sms_resume('shop')");
};

subtest 'the same holds for other ends, and for what users call themselves' => sub {
	ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('cpaas', '0901234567', 'unused')");
	ask("SELECT sms_pause('shop', 'wait')");
	my $expired = queue('app', 'expires', '0.3s');
	becomes("SELECT status FROM sms_outbox WHERE id = $expired", 'expired', 'a message expires');
	is(seen($expired), 'after expired app false, deferred expired app false',
		'… as its creator');

	my $canceled = queue('app', 'canceled');
	is(as_role('app', "SELECT sms_cancel($canceled)"), 't', 'a user cancels');
	is(seen($canceled), 'after canceled app false, deferred canceled app false',
		'… as that user');
	ask("SELECT sms_resume('shop')");

	ask("CREATE ROLE hook LOGIN; GRANT EXECUTE ON FUNCTION sms_delivery_report(name, jsonb) TO hook");
	my $smsid = ask("SELECT smsid FROM sms_outbox WHERE id = $of_app");
	my $report = qq({"SMSID": "$smsid", "SendStatus": "4"});
	is(as_role('hook', "SELECT sms_delivery_report('shop', '$report')"), $of_app, 'a callback');
	is(ask("SELECT count(*), bool_or(super) FROM seen WHERE id = $of_app AND status = 'undelivered'"), '2|f',
		"… runs triggers as the row's creator");
};

subtest 'a role that is dropped leaves its rows, and they still end' => sub {
	ask("DROP TRIGGER before_it ON sms_outbox; DROP TRIGGER later ON sms_outbox");
	ask("SELECT sms_pause('shop', 'wait')");
	queue('other', 'ownerless', '1s');
	ask("DROP OWNED BY other; DROP ROLE other");
	becomes("SELECT status FROM sms_outbox WHERE content = 'ownerless'", 'expired',
		'a message of a role that is no more still ends');
	ask("SELECT sms_resume('shop')");
};

subtest 'a trigger that fails neither stops its message nor others' => sub {
	ask("DROP TRIGGER after_it ON sms_outbox; DROP TRIGGER sets ON sms_outbox");
	tricky_makes('fails', 'AFTER UPDATE ON sms_outbox', "IF new.content = 'fails' THEN RAISE 'on purpose'; END IF",
		'a trigger that fails');
	my $fails = sent('app', 'fails');
	sent('app', 'fine');
	my $told = qr/triggers on sms_outbox failed for message $fails, which is recorded without them: on purpose/;
	my $where = qr/PL\/pgSQL function (public\.)?\w+\(\) line 1 at RAISE/;
	like(slurp_file($node->logfile), qr/WARNING:  $told\n.*DETAIL:  $where/,
		'… is told in the log, with its function');
	is(status_of('fails'), 'sent', '… as it is: the outcome is recorded');
};

subtest 'what a trigger leaves for the commit does not run as whoever commits' => sub {
	ask("DROP TRIGGER IF EXISTS fails ON sms_outbox");
	# It notes as whom it runs, when the commit runs it.
	as_role('tricky', "CREATE FUNCTION told() RETURNS text LANGUAGE sql VOLATILE
		AS \$\$ INSERT INTO public.seen VALUES ('kept', 0, '', current_user) RETURNING who::text \$\$;
		CREATE TABLE mine (n int); GRANT INSERT ON mine TO PUBLIC;
		CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql
		AS \$\$ BEGIN PERFORM public.told(); RETURN NULL; END \$\$;
		CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON mine DEFERRABLE INITIALLY IMMEDIATE
			FOR EACH ROW EXECUTE FUNCTION at_commit()");
	my %leaves = (
		'a cursor' => "EXECUTE 'DECLARE later CURSOR WITH HOLD FOR SELECT public.told()'",
		'a constraint' => 'SET CONSTRAINTS ALL DEFERRED; INSERT INTO public.mine VALUES (1)',
	);
	for my $what (sort keys %leaves)
	{
		tricky_makes('leaves', 'AFTER UPDATE ON sms_outbox', $leaves{$what}, "a trigger that leaves $what");
		sent('app', "by the worker: $what");
		ask("SELECT sms_pause('shop', 'wait')");
		queue('app', "canceled by a superuser: $what");
		error_of("SELECT sms_cancel(id) FROM sms_outbox WHERE content = 'canceled by a superuser: $what'");
		ask("SELECT sms_resume('shop')");
		ask('DROP TRIGGER leaves ON sms_outbox; DROP FUNCTION leaves()');
	}
	is(ask("SELECT count(*) FROM seen WHERE what = 'kept' AND who <> 'app'"), '0', 'never as another role');
	ask("DROP TABLE mine");
};

subtest 'a trigger does not give the lock of the engine away' => sub {
	my $worker = worker_pid($node);
	tricky_makes('unlocks', 'AFTER UPDATE ON sms_outbox', 'PERFORM pg_advisory_unlock_all()',
		'a trigger that unlocks all');
	sent('app', $_) for 'unlocks', 'unlocks again';
	is(ask("SELECT string_agg(DISTINCT pid::text, ' ') FROM pg_locks
		WHERE locktype = 'advisory' AND classid = x'736D7367'::int AND mode = 'ExclusiveLock' AND granted"), $worker,
		'the worker has it still');
	ask('DROP TRIGGER unlocks ON sms_outbox');
};

subtest 'a trigger that cannot be stopped ends the worker, and is not called again' => sub {
	tricky_makes('deaf', 'AFTER UPDATE ON sms_outbox', "IF new.content = 'deaf' THEN
		LOOP BEGIN PERFORM pg_sleep(10); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END IF",
		'a trigger that catches its cancel');
	my $deaf = queue('app', 'deaf');
	my $after = queue('app', 'after it');
	becomes("SELECT string_agg(status::text, ' ') FROM sms_outbox WHERE id IN ($deaf, $after)", 'sent sent',
		'messages go on', seconds => 20);
	my $times = grep { $_->{content} eq 'deaf' } requests($simulator);
	is($times, 1, '… and each once');
	like(slurp_file($node->logfile), qr/WARNING:  triggers on sms_outbox are passed over until/,
		'… and the log says so');
	ask('DROP TRIGGER deaf ON sms_outbox');
	$node->restart;
	worker_pid($node);
};

subtest 'retention deletes with triggers as the creator, or without' => sub {
	ask("CREATE ROLE other LOGIN; GRANT INSERT, SELECT ON sms_outbox TO other;
		GRANT USAGE ON FOREIGN SERVER shop TO other");
	my %ids = map { $_ => sent($_, "old of $_") } qw(app other), ask('SELECT current_user');
	ask("GRANT INSERT ON seen TO tricky");
	as_role('tricky', q{CREATE FUNCTION deletes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO public.seen SELECT 'deleted', old.id, old.status, current_user, rolsuper FROM pg_roles
			WHERE rolname = current_user; RETURN NULL; END $$;
		CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
		CREATE TRIGGER deletes AFTER DELETE ON sms_outbox FOR EACH ROW EXECUTE FUNCTION deletes();
		CREATE TRIGGER keeps BEFORE DELETE ON sms_outbox FOR EACH ROW EXECUTE FUNCTION keeps()});
	my $all = join ', ', values %ids;
	my $age = "BEGIN; SET LOCAL session_replication_role = 'replica';
		UPDATE sms_outbox SET ended_at = now() - interval '3 hours' WHERE id IN ($all); COMMIT";
	ask($age);
	ask("CREATE TABLE refers (id bigint REFERENCES sms_outbox (id))");
	$node->append_conf('postgresql.conf', "sms_gateway.retention = '1h'");
	$node->reload;
	my $who = "SELECT string_agg(who || ' ' || super, ', ' ORDER BY who) FROM seen WHERE what = 'deleted'";
	becomes($who, 'app false, other false', "as each row's creator", seconds => 15);
	is(ask("SELECT count(*) FROM sms_outbox WHERE id IN ($all)"), '1', '… none BEFORE the row');
	like(slurp_file($node->logfile), qr/WARNING:  messages of superusers, or of roles that are gone, are not deleted/,
		"a superuser's stays while a table refers to messages");
	ask("DROP TABLE refers");
	becomes("SELECT count(*) FROM sms_outbox WHERE id IN ($all)", '0', '… and then goes', seconds => 30);
	is(ask($who), 'app false, other false', '… without triggers');
	ask("DROP TRIGGER deletes ON sms_outbox; DROP TRIGGER keeps ON sms_outbox; DROP OWNED BY other; DROP ROLE other");
};

subtest 'a trigger on a table that refers to messages does not run as who queued one' => sub {
	my $me = ask('SELECT current_user');
	my ($mine, $theirs) = (sent($me, 'referred to'), sent('app', 'referred to by app'));
	ask("GRANT REFERENCES ON sms_outbox TO tricky; REVOKE TRIGGER ON sms_outbox FROM tricky");
	as_role('tricky', q{CREATE FUNCTION boom() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO public.seen SELECT 'cascaded', 0, TG_OP, current_user, rolsuper FROM pg_roles
				WHERE rolname = current_user; RETURN NULL; END $$;
		CREATE TABLE first (sms bigint PRIMARY KEY REFERENCES sms_outbox ON DELETE CASCADE);
		CREATE TABLE second (sms bigint REFERENCES first ON DELETE CASCADE);
		CREATE TABLE third (sms bigint REFERENCES sms_outbox ON DELETE SET NULL);
		CREATE TRIGGER boom AFTER DELETE ON second FOR EACH ROW EXECUTE FUNCTION boom();
		CREATE TRIGGER boom AFTER UPDATE ON third FOR EACH ROW EXECUTE FUNCTION boom()}
		. "; INSERT INTO first VALUES ($mine), ($theirs); INSERT INTO second SELECT sms FROM first;
			INSERT INTO third SELECT sms FROM first");
	ask("BEGIN; SET LOCAL session_replication_role = 'replica';
		UPDATE sms_outbox SET ended_at = now() - interval '3 hours' WHERE id IN ($mine, $theirs); COMMIT");
	becomes("SELECT count(*) FROM sms_outbox WHERE id IN ($mine, $theirs)", '0', 'they are deleted', seconds => 30);
	# Newer servers run them as the table's owner.
	like(ask("SELECT string_agg(DISTINCT who || ' ' || super, ', ') FROM seen WHERE what = 'cascaded'"),
		qr/^(pg_stat_scan_tables|tricky) false$/, '… and triggers of other tables run as a role that may do nothing');
	is(ask('SELECT count(*) FROM seen WHERE what = \'cascaded\''), '4', '… all of them');
	as_role('tricky', 'DROP TABLE second; DROP TABLE first; DROP TABLE third');
	ask("GRANT TRIGGER ON sms_outbox TO tricky; REVOKE REFERENCES ON sms_outbox FROM tricky");
};

# What the owner of a table that refers to messages has called when one is deleted: it runs as that owner, leaves what
# would run at commit, and changes where the next trigger finds its functions.
my %refers = (
	'a CHECK' => 'sms bigint REFERENCES sms_outbox ON DELETE SET NULL CHECK (leaves(sms) IS DISTINCT FROM 0)',
	'a domain' => 'sms checked REFERENCES sms_outbox ON DELETE SET NULL',
	'a generated column' => 'sms bigint REFERENCES sms_outbox ON DELETE SET NULL,
		made bigint GENERATED ALWAYS AS (looks(sms)) STORED',
	'an index' => 'sms bigint REFERENCES sms_outbox ON DELETE SET NULL, EXCLUDE (looks(sms) WITH =)',
	'a default' => 'sms bigint DEFAULT leaves(NULL) REFERENCES sms_outbox ON DELETE SET DEFAULT',
	'a cast' => 'sms wrapped REFERENCES sms_outbox',
);

# Queues a message for each such table, as a superuser or app, and puts a row that refers to it there.
sub referred_to
{
	my ($role) = @_;
	my @ways = sort keys %refers;
	my $values = join ', ', map { "('shop', '0901234567', 'refers $_')" } 0 .. $#ways;
	as_role($role, "INSERT INTO sms_outbox (gateway, phone, content) VALUES $values");
	becomes("SELECT count(*) FROM sms_outbox WHERE content LIKE 'refers %' AND status = 'sent'", '6', 'sent');
	# One that refers with a cast, and no action, cannot go: the cast is called for another.
	ask(join ';', 'TRUNCATE seen', map {
		my $sms = $ways[$_] eq 'a cast'
			? "ROW((SELECT max(id) FROM sms_outbox WHERE content = 'stays'))::appown.wrapped"
			: "(SELECT id FROM sms_outbox WHERE content = 'refers $_')";
		"TRUNCATE appown.t$_; INSERT INTO appown.t$_ VALUES ($sms)" } 0 .. $#ways);
	ask('TRUNCATE seen');
	return;
}

subtest 'nor does its owner become a superuser by what the table itself calls' => sub {
	my $me = ask('SELECT current_user');
	ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234568', 'stays')");
	ask(q{CREATE ROLE appown LOGIN; CREATE SCHEMA appown AUTHORIZATION appown; GRANT USAGE ON SCHEMA appown TO PUBLIC;
		GRANT REFERENCES ON sms_outbox TO appown, app; GRANT SELECT ON seen TO PUBLIC;
		CREATE FUNCTION public.note(bigint) RETURNS void LANGUAGE sql AS
			$$ INSERT INTO public.seen VALUES ('audited', $1, '', current_user) $$;
		CREATE FUNCTION audits() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN PERFORM note(old.id); RETURN NULL; END $$;
		CREATE TRIGGER z AFTER DELETE ON sms_outbox FOR EACH ROW EXECUTE FUNCTION audits()});
	my $refused = "SELECT string_agg(DISTINCT status || ' ' || who, ', ') FROM seen WHERE what = 'refused'";
	my $all = join ', ', map { "t$_ appown" } 0 .. 5;
	my $note = 'SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user';
	as_role('appown', qq{SET search_path = appown, public; CREATE TABLE sink (x int);
		CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN
			INSERT INTO public.seen SELECT 'evil', 0, '', r.* FROM ($note) r; RETURN NULL; END \$\$;
		CREATE CONSTRAINT TRIGGER later AFTER INSERT ON sink DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
			EXECUTE FUNCTION evil();
		CREATE FUNCTION note(bigint) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN
			INSERT INTO public.seen SELECT 'evil', 0, '', r.* FROM ($note) r; END \$\$;
		CREATE FUNCTION leaves(bigint) RETURNS bigint LANGUAGE plpgsql AS \$\$ DECLARE stack text; BEGIN
			IF \$1 IS NOT NULL OR current_user <> 'appown' THEN RETURN \$1; END IF;
			PERFORM set_config('search_path', 'appown, public', false);
			BEGIN
				SET CONSTRAINTS ALL DEFERRED; INSERT INTO appown.sink VALUES (1);
			EXCEPTION WHEN insufficient_privilege THEN
				GET DIAGNOSTICS stack = PG_CONTEXT;
				INSERT INTO public.seen VALUES ('refused', 0, substring(stack from '"(t[0-9])"'), current_user);
			END; RETURN NULL; END \$\$;
		CREATE FUNCTION looks(bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS
			\$\$ BEGIN RETURN appown.leaves(\$1); END \$\$;
		CREATE DOMAIN checked AS bigint CHECK (leaves(VALUE) IS DISTINCT FROM 0);
		CREATE TYPE wrapped AS (id bigint);
		CREATE FUNCTION unwrap(wrapped) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS \$\$ BEGIN
			PERFORM appown.looks(nullif(\$1.id, \$1.id)); RETURN \$1.id; END \$\$;
		CREATE CAST (wrapped AS bigint) WITH FUNCTION unwrap(wrapped) AS IMPLICIT;}
		. join ';', map { my $way = (sort keys %refers)[$_]; "CREATE TABLE t$_ ($refers{$way})" } 0 .. 5);
	is(ask("SELECT count(*) FROM pg_tables WHERE schemaname = 'appown' AND tablename ~ '^t[0-9]'"), '6',
		'tables that refer to messages');
	for my $role ($me, 'app')
	{
		referred_to($role);
		ask("BEGIN; SET LOCAL session_replication_role = 'replica';
			UPDATE sms_outbox SET ended_at = now() - interval '3 hours' WHERE content LIKE 'refers %'; COMMIT");
		becomes("SELECT count(*) FROM sms_outbox WHERE content LIKE 'refers %'", '0', "retention, of $role",
			seconds => 30);
		is(ask("SELECT count(*) FROM seen WHERE what = 'evil' AND who NOT IN ('appown', 'pg_stat_scan_tables')"), '0',
			'… nothing ran as another role');
		is(ask($refused), $all, '… what they left was refused');
	}
	referred_to($me);
	ask("SELECT sms_forget('0901234567')");
	is(ask("SELECT count(*) FROM sms_outbox WHERE content LIKE 'refers %'"), '0', 'sms_forget of a superuser');
	is(ask("SELECT count(*) FROM seen WHERE what = 'evil' AND who NOT IN ('appown', 'pg_stat_scan_tables')"), '0',
		'… nothing ran as another role');
	is(ask($refused), $all, '… what they left was refused');
	ask("TRUNCATE seen; DROP OWNED BY appown CASCADE; DROP ROLE appown");
};

subtest "tables of a superuser, and of whoever queued, leave a message's triggers to run as who queued it" => sub {
	as_role('app', "INSERT INTO sms_outbox (gateway, phone, content)
		VALUES ('shop', '0901234569', 'trusted')");
	becomes("SELECT status FROM sms_outbox WHERE content = 'trusted'", 'sent', 'a message is sent');
	ask("CREATE TABLE of_app (sms bigint REFERENCES sms_outbox ON DELETE CASCADE); ALTER TABLE of_app OWNER TO app;
		CREATE TABLE of_superuser (sms bigint REFERENCES sms_outbox ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED);
		INSERT INTO of_app SELECT id FROM sms_outbox WHERE content = 'trusted';
		INSERT INTO of_superuser SELECT sms FROM of_app");
	ask("SELECT sms_forget('0901234569')");
	is(ask("SELECT string_agg(what || ' ' || who, ', ') FROM seen"), 'audited app', 'so it is');
	is(ask('SELECT (SELECT count(*) FROM of_app), (SELECT count(*) FROM of_superuser WHERE sms IS NULL)'), '0|1',
		'… and the tables have changed');
	ask('DROP TABLE of_app; DROP TABLE of_superuser; DROP TRIGGER z ON sms_outbox; DROP FUNCTION audits;
		DROP FUNCTION note; REVOKE REFERENCES ON sms_outbox FROM app; REVOKE SELECT ON seen FROM PUBLIC');
};

subtest 'where the owner is no superuser, triggers run as the owner' => sub {
	ask("CREATE ROLE keeper LOGIN; GRANT ALL ON SCHEMA public TO keeper");
	ask("ALTER TABLE $_ OWNER TO keeper") for qw(sms_outbox sms_gateway_lease sms_gateway_state sms_gateway_callback
		sms_gateway_otp sms_gateway_usage sms_gateway_identity);
	ask("GRANT EXECUTE ON FUNCTION sms_gateway_claimed(bigint)
		TO keeper");
	tricky_makes('once_more', 'AFTER UPDATE ON sms_outbox', note_down('owned'), 'another owner');
	my $owned = sent('app', 'owned');
	is(seen($owned), 'owned sent keeper false', '… is whom they run as');
};

$node->stop;
done_testing();
