# An outbox of version 0.1.0 becomes one of this version.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use SmsTest;
use Test::More;

my $simulator = simulator();
my $node = server('update');
ask('CREATE DATABASE fresh');
ask('CREATE EXTENSION sms_gateway', 'fresh');
ask("CREATE EXTENSION sms_gateway VERSION '0.1.0'; CREATE ROLE mallory LOGIN;
	GRANT CREATE ON SCHEMA public TO mallory");
gateways($node, $simulator);
ask("CREATE SERVER limited FOREIGN DATA WRAPPER esms OPTIONS (base_url '$simulator->{url}', brandname 'MYSHOP',
		per_phone '100/day', per_role '100/day', daily_budget '100');
	CREATE USER MAPPING FOR PUBLIC SERVER limited OPTIONS (api_key 'demo', secret_key 'demo')");

# Rows as 0.1.0 wrote them, in every state; an owner may write whole rows, with their origin.
ask("INSERT INTO sms_outbox (gateway, kind, phone, content, send_after, request_id, created_by, created_at, status,
		attempts, next_attempt_at, origin, unsure_since)
	SELECT 'shop', 'text', '84901234567', 'of 0.1.0: ' || s, now(), 'old-' || s, current_user,
		now() - interval '1 day', s, 1, CASE WHEN s = 'queued' THEN now() END, instance,
		CASE WHEN s = 'uncertain' THEN now() END
	FROM unnest(enum_range(NULL::sms_status)) s, sms_gateway_identity WHERE s <> 'sending';
	UPDATE sms_outbox SET created_by = 'one who left' WHERE status = 'failed';
	INSERT INTO sms_gateway_usage (used, window_end, gateway, subject) SELECT 7, 'infinity', 'shop', 'role ' || x
		FROM unnest('{mallory,one who left}'::text[]) x;
	INSERT INTO sms_gateway_state VALUES ('cpaas', 'tired', true);
	INSERT INTO sms_gateway_usage VALUES (3, now() + interval '1 day', 'shop', 'phone 84901234567'),
		(4, now() + interval '1 day', 'shop', 'role app')");

my $dump = $node->data_dir . '/0.1.0.sql';
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ], 'a dump of 0.1.0');

# The planner remembers whose messages they were.
ask('ANALYZE sms_outbox');
my $samples = "SELECT count(*) FROM pg_stats WHERE tablename = 'sms_outbox' AND attname IN ('phone', 'content')";
is(ask($samples), '2', 'the planner has samples of phones and texts');

subtest 'a library that is newer than the tables says so' => sub {
	like(error_of($_), qr{55000: sms_gateway 0.1.0 in this database is not served}, $_)
		for (q{SELECT sms_delivery_report('shop', '{"SMSID": "1", "SendStatus": "5"}')},
			"SELECT sms_pause('shop', 'x')", 'SELECT sms_cancel(1)', "SELECT sms_send('0901234567', 'x', 'limited')",
			"SELECT sms_send_otp('0901234567', gateway => 'shop')");
};

subtest '... and takes messages, whose gateway has limits or not: their transactions go on' => sub {
	is(ask("INSERT INTO sms_outbox (gateway, kind, phone, content) VALUES ('limited', 'text', '0901234567', 'limited'),
		('cpaas', 'otp', '0901234567', '{OTP}'), ('shop', 'otp', '0901234567', '{OTP}'),
		('shop', 'text', '0901234567', 'x') RETURNING status"), "queued\nqueued\nqueued\nqueued", 'they wait');
	ask("ALTER SERVER shop OPTIONS (ADD check_templates 'refuse')");
	is(ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'x')
		RETURNING status"), 'queued', 'nor are they held against templates');
	ask("ALTER SERVER shop OPTIONS (DROP check_templates)");
	ask("DELETE FROM sms_outbox WHERE kind = 'otp' OR content = 'x'");
};

subtest 'objects that somebody put in front are not called' => sub {
	as_role('mallory', q{CREATE FUNCTION public.evil(sms_status, sms_status) RETURNS boolean LANGUAGE plpgsql
		AS $$ BEGIN RAISE LOG 'evil as %', current_user; RETURN true; END $$;
		CREATE OPERATOR public.= (LEFTARG = sms_status, RIGHTARG = sms_status, FUNCTION = public.evil)});
	ask("ALTER SERVER shop OPTIONS (SET poll_delivery 'true'); ALTER EXTENSION sms_gateway UPDATE");
	unlike(slurp_file($node->logfile), qr/LOG:  evil as \w/, 'the update calls none of them');
	as_role('mallory', 'DROP OPERATOR public.= (sms_status, sms_status);
		DROP FUNCTION public.evil(sms_status, sms_status)');
};

subtest 'everything goes on' => sub {
	is(ask("ANALYZE sms_outbox; $samples"), '0', 'the planner has no samples of phones and texts any more');
	worker_pid($node);
	becomes(sub { status_of('of 0.1.0: queued') }, 'sent', 'what was queued is sent');
	becomes(sub { status_of('limited') }, 'sent', '... before and after the library was replaced');
	becomes(sub { scalar grep { $_->{path} =~ /GetSmsSentData/ } requests($simulator) }, 1,
		'what was in doubt is looked for in what eSMS has sent');
	is(ask("SELECT count(*) FROM sms_outbox WHERE (status = 'queued') <> (ended_at IS NULL)"), '0',
		'the others have ended');
	is(ask("SELECT string_agg(DISTINCT creator || CASE created_by WHEN current_user THEN ' mine' ELSE '' END, ', ')
		FROM sms_outbox"), '0, ' . ask("SELECT current_user::regrole::oid || ' mine'"), 'whose they were, by oid');
	is(ask("SELECT count(*), sum(used) FROM sms_gateway_usage WHERE subject IN ('role one who left',
		'role ' || 'mallory'::regrole::oid)"), '2|14', '… what roles have used is counted on');
	is(ask('SELECT name, state, reason FROM sms_gateways WHERE reason IS NOT NULL'), 'cpaas|paused|tired',
		'pauses are kept');
	is(ask('SELECT used FROM sms_gateway_usage WHERE subject = \'phone ' . hidden('84901234567') . "'"), '3',
		'a phone is counted on, under its hash');
	is(ask("SELECT count(*) FROM sms_gateway_usage WHERE subject ~ '^phone [0-9]{11}\$|^role app\$'"), '1',
		'... which is no name, and roles keep theirs');
};

# What the extension has in a database, in words.
my $members = q{
	SELECT pg_describe_object(classid, objid, 0), obj_description(objid, classid::regclass::name)
		FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' ORDER BY 1;
	SELECT c.relname, a.attnum, a.attname, format_type(atttypid, atttypmod), attnotnull, attacl::text, relacl::text,
			relrowsecurity, reloptions, pg_get_expr(adbin, adrelid), col_description(c.oid, attnum), attstattarget
		FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 LEFT JOIN pg_attrdef d ON adrelid = c.oid
			AND adnum = attnum WHERE c.relname LIKE 'sms%' ORDER BY 1, 2;
	SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
		WHERE conrelid::regclass::text LIKE 'sms%' AND contype <> 'n' ORDER BY 1, 2;
	SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid::regclass::text LIKE 'sms%' ORDER BY 1;
	SELECT pg_get_functiondef(oid), proacl::text FROM pg_proc
		WHERE proname ~ '^(sms_|e?sms|etelecom|interits)' ORDER BY 1;
	SELECT pg_get_viewdef(oid) FROM pg_class WHERE relkind = 'v' AND relname LIKE 'sms%' ORDER BY 1;
	SELECT polname, polrelid::regclass, pg_get_expr(polqual, polrelid) FROM pg_policy ORDER BY 1;
	SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1};

subtest 'an updated database is like a fresh one' => sub {
	is(ask($members), ask($members, 'fresh'), 'in all objects, columns, rights and comments');
};

# The outbox of another database, which belongs to a role that is no superuser; others read it and build on it.
ask("CREATE ROLE keeper LOGIN; CREATE ROLE watcher LOGIN");
ask('CREATE DATABASE kept');
ask("CREATE EXTENSION sms_gateway VERSION '0.1.0'; GRANT SELECT ON sms_gateways TO watcher;
	CREATE VIEW mine AS SELECT name, paused_since FROM sms_gateways;
	DO \$\$ DECLARE c regclass; f regprocedure; BEGIN
		FOR c IN SELECT objid FROM pg_depend JOIN pg_class k ON k.oid = objid WHERE classid = 'pg_class'::regclass
			AND refclassid = 'pg_extension'::regclass AND deptype = 'e' AND relkind IN ('r', 'v')
		LOOP EXECUTE format('ALTER TABLE %s OWNER TO keeper', c); END LOOP;
		FOR f IN SELECT objid FROM pg_depend JOIN pg_proc p ON p.oid = objid WHERE classid = 'pg_proc'::regclass
			AND refclassid = 'pg_extension'::regclass AND deptype = 'e'
		LOOP EXECUTE format('ALTER ROUTINE %s OWNER TO keeper', f); END LOOP; END \$\$;
	INSERT INTO sms_gateway_report (received_at, gateway, reference, report) VALUES (now(), 'shop', '1',
		jsonb_build_object('SMSID', '1', 'more', repeat('x', 20000)))", 'kept');

subtest 'what belongs to no superuser goes on' => sub {
	ask('ALTER EXTENSION sms_gateway UPDATE', 'kept');
	is(ask("SELECT string_agg(oid::regclass::text, ', ') FROM pg_class
		WHERE relname LIKE 'sms%' AND relkind IN ('r', 'v') AND relowner <> 'keeper'::regrole", 'kept'), '',
		'all tables and views are the owner\'s of the outbox');
	is(ask("SELECT string_agg(proname, ', ' ORDER BY proname) FROM pg_proc WHERE proowner <> 'keeper'::regrole
		AND proname LIKE 'sms%' AND NOT has_function_privilege('watcher', oid, 'EXECUTE')", 'kept'), '',
		'and so are the functions that are not for everybody');
	is(ask("SELECT count(*) FROM sms_gateway_callback", 'kept'), '0', 'of a report that is too large nothing is kept');
	gateways($node, $simulator, database => 'kept');
	ask('GRANT USAGE ON FOREIGN SERVER shop TO keeper', 'kept');
	as_role('keeper', "INSERT INTO sms_outbox (gateway, phone, content)
		VALUES ('shop', '84905550001', 'kept')", database => 'kept');
	becomes(sub { ask("SELECT status FROM sms_outbox WHERE content = 'kept'", 'kept') }, 'sent', 'messages flow');
	like(as_role('keeper', "SELECT sms_forget('84905550001')", database => 'kept'), qr/"messages": 1/,
		'sms_forget works');
	is(as_role('keeper', "SELECT count(*) > 0 FROM sms_health", database => 'kept'), 't', 'and so does sms_health');
	is(ask('SELECT count(*) > 0 FROM sms_health LEFT JOIN sms_outbox_monitor ON true', 'kept'), 't',
		'... for monitors, too');
};

subtest 'who read the gateways goes on reading them' => sub {
	is(as_role('watcher', "SELECT name FROM sms_gateways WHERE name = 'shop'", database => 'kept'), 'shop',
		'a GRANT on the view');
	is(ask("SELECT name, paused_since FROM mine WHERE name = 'shop'", 'kept'), 'shop|', 'a view of the view');
};

subtest 'who may only read is told so, by the name of the function' => sub {
	for my $call ('sms_cancel(1)', 'sms_retry(1)', "sms_resolve(1, 'sent')", "sms_pause('shop', 'x')",
		"sms_resume('shop')", 'sms_adopt_outbox()', "sms_forget('84905550001')")
	{
		my ($name) = $call =~ /^(\w+)/;
		my $error = error_of("BEGIN READ ONLY; SELECT $call");
		like($error, qr/25006: cannot execute $name\(\) in a read-only/, $call);
		unlike($error, qr/CONTEXT/, '... with no statement of ours');
	}
};

subtest 'an id is drawn again after DISCARD SEQUENCES' => sub {
	my $insert = "INSERT INTO sms_outbox (id, gateway, phone, content, send_after) OVERRIDING SYSTEM VALUE
		VALUES (1, 'shop', '84901234567', 'discarded', now() + interval '1 day')";
	is(ask("BEGIN; $insert; $insert; DISCARD SEQUENCES; $insert; COMMIT;
		SELECT count(DISTINCT id) FROM sms_outbox WHERE content = 'discarded' AND id > 1"), '3', 'in one transaction');
};

subtest 'messages in doubt are counted by their index' => sub {
	is(ask("SELECT pg_get_expr(indpred, indrelid) FROM pg_index WHERE indexrelid = 'sms_outbox_doubt'::regclass"),
		q{(status = 'uncertain'::sms_status)}, 'which has all of them, and nothing else');
	like(ask("SET enable_seqscan = off; EXPLAIN SELECT ended_at FROM sms_outbox WHERE status = 'uncertain' LIMIT 1001"),
		qr/sms_outbox_doubt/, 'and serves');
};

subtest 'a dump of 0.1.0 is restored as one of this version' => sub {
	ask('CREATE DATABASE restored');
	$node->command_ok([ 'psql', '-qX1', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('restored') ],
		'without an error');
	is(ask('SELECT string_agg(gateway, \',\') FROM sms_gateway_state', 'restored'), 'cpaas', 'pauses are kept');
	is(ask("SELECT string_agg(status::text, ',' ORDER BY id) FROM sms_outbox", 'restored'),
		ask("SELECT string_agg(s::text, ',') FROM unnest(enum_range(NULL::sms_status)) s WHERE s <> 'sending'",
			'postgres'), '... and messages of all states');
	is(ask("SELECT count(*) FROM sms_outbox WHERE (status = 'queued') <> (ended_at IS NULL)", 'restored'), '0',
		'... which have ended, or not');
	ask('SELECT sms_adopt_outbox()', 'restored');
	becomes(sub { status_of('of 0.1.0: queued', 'restored') }, 'uncertain',
		'adopted, it sends what was queued, which eSMS knows from the original');
};

$node->stop;
done_testing();
