# Who sees what: monitors, members of the server's predefined roles, and roles that are renamed, dropped and made anew.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use SmsTest;
use Test::More;

my $simulator = simulator();
my $node = server('who');
gateways($node, $simulator);
ask('CREATE ROLE app LOGIN; GRANT USAGE ON FOREIGN SERVER shop, cpaas TO app; GRANT SELECT, INSERT ON sms_outbox TO app;
	CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
	CREATE ROLE reader LOGIN IN ROLE pg_read_all_data;
	CREATE ROLE writer LOGIN IN ROLE pg_write_all_data;
	CREATE ROLE keeper LOGIN IN ROLE pg_read_all_data, pg_write_all_data');

my $others = queue_text('shop', 'a secret of mine', request_id => "'order 0901234567'");
becomes(sub { status_of('a secret of mine') }, 'sent', 'a message is sent');
ask("SELECT sms_send_otp('0901234567', gateway => 'cpaas')");

subtest 'monitors: all messages, and nothing that is in them' => sub {
	is(as_role('watcher', "SELECT status, request_id IS NULL FROM sms_outbox_monitor WHERE id = $others"), 'sent|t',
		'what became of a message, without what its user called it');
	unlike(as_role('watcher', 'SELECT m::text FROM sms_outbox_monitor m'), qr/0?901234567|secret/, 'no phone, no text');
	like(error_of('SELECT id FROM sms_outbox', role => 'watcher'), qr/42501/, 'the table is not theirs');
	ask('GRANT pg_monitor TO app');
	is(as_role('app', 'BEGIN; DECLARE c CURSOR FOR SELECT phone, content FROM sms_outbox; SET LOCAL ROLE pg_monitor;
		FETCH ALL FROM c'), '', 'a cursor that is fetched as pg_monitor shows no more');
	ask('GRANT CREATE ON SCHEMA public TO app');
	as_role('app', 'CREATE VIEW peep AS SELECT phone, content FROM sms_outbox; GRANT SELECT ON peep TO pg_monitor');
	is(as_role('watcher', 'SELECT * FROM peep'), '', '… nor does a view of the sender that a monitor reads');
	as_role('app', 'DROP VIEW peep');
	ask('REVOKE pg_monitor FROM app');
};

# What each command on each table and view of the extension does for the current role: a count, or an error's code.
ask(q{CREATE FUNCTION tries(commands text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	relation regclass;
	command text;
	outcome text;
	n bigint;
BEGIN
	FOR relation IN SELECT c.oid FROM pg_depend d
		JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
		WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND c.relkind IN ('r', 'v') ORDER BY c.relname
	LOOP
		FOREACH command IN ARRAY commands LOOP
			BEGIN
				EXECUTE format(command, relation, (SELECT attname FROM pg_attribute WHERE attrelid = relation
					AND attnum > 0 AND attidentity = '' ORDER BY attnum LIMIT 1));
				GET DIAGNOSTICS n = ROW_COUNT;
				outcome := n;
				RAISE EXCEPTION USING ERRCODE = 'XX999';
			EXCEPTION WHEN OTHERS THEN
				outcome := CASE WHEN SQLSTATE = 'XX999' THEN outcome ELSE SQLSTATE END;
			END;
			RETURN NEXT concat_ws(' ', relation, split_part(command, ' ', 1), outcome);
		END LOOP;
	END LOOP;
END $$});

# What a role gets by commands, but for those lines that are as expected.
sub tries
{
	my ($role, $expected, @commands) = @_;
	my $tries = as_role($role, "SELECT tries(ARRAY['" . join("', '", @commands) . "'])");
	my @lines = split /\n/, $tries;
	return @lines < 8 * @commands ? 'too few tables' : join "\n", grep { !/$expected/ } @lines;
}

subtest 'pg_read_all_data and pg_write_all_data: nothing of what is internal, nobody else\'s messages' => sub {
	# A row in each table.
	ask(q{SELECT sms_pause('omni', 'tired'); SELECT sms_check_otp('0901234567', '000', 'cpaas');
		SELECT sms_delivery_report('shop', '{"SMSID": "nobody-s", "SendStatus": "5"}');
		INSERT INTO sms_gateway_lease (ids) VALUES ('{0}');
		INSERT INTO sms_gateway_refused SELECT 'shop', 10, 1, 'why', now(), 'infinity';
		INSERT INTO sms_gateway_templates (gateway, credentials, brandname, role, templates)
			VALUES ('shop', 0, '', 10, '[]')});
	is(tries(ask('SELECT current_user'), qr/ SELECT [1-9]/, 'SELECT * FROM %s'), '', 'there is something in each');
	is(ask("SELECT count(*) FROM pg_class c JOIN pg_depend d ON c.oid = d.objid AND d.classid = 'pg_class'::regclass
		WHERE d.deptype = 'e' AND relkind = 'r' AND relname LIKE 'sms%' AND NOT relrowsecurity"), '0',
		'each table has row-level security');
	my @change = ('INSERT INTO %s DEFAULT VALUES', 'UPDATE %s SET %I = DEFAULT', 'DELETE FROM %s', 'TRUNCATE %s');
	my $seen = qr/^sms_(?:outbox_monitor|gateways|health) SELECT \d+/;
	is(tries('reader', qr/^(sms_gateway_\w+|sms_outbox) SELECT 0|$seen/, 'SELECT * FROM %s'), '',
		'who reads all data reads no row but what monitors see');
	is(tries('reader', qr/ (42501|55000|42809)$/, @change, 'SELECT * FROM %s FOR UPDATE', 'LOCK %s IN ROW SHARE MODE'),
		'', '… and changes and locks nothing');
	my $changed = qr/ (UPDATE|DELETE) 0$|INSERT 42501$|TRUNCATE (42501|42809)$| 55000$/;
	is(tries('writer', $changed, @change), '', 'who writes all data changes nothing');
	my $nothing = qr/ SELECT 0$|$seen| 42809$|$changed/;
	is(tries('keeper', $nothing, 'SELECT * FROM %s', 'SELECT * FROM %s FOR UPDATE', 'UPDATE %s SET %I = %2$I', @change),
		'', '… nor does who does both');
	for my $table (qw(sms_outbox sms_gateway_otp sms_gateway_identity))
	{
		is(as_role('reader', "COPY $table TO STDOUT"), '', "COPY $table TO finds nothing");
		like(error_of("COPY $table FROM STDIN", role => 'writer'), qr/0A000|42501/, '… COPY FROM takes nothing');
	}
	like(error_of('SET row_security = off; SELECT FROM sms_gateway_otp', role => 'reader'), qr/42501/,
		'row_security = off shows no more');
};

subtest 'pg_signal_backend: not the worker and the launcher' => sub {
	ask('CREATE ROLE signaler LOGIN IN ROLE pg_signal_backend');
	my %pids = (worker => worker_pid($node),
		launcher => ask("SELECT pid FROM pg_stat_activity WHERE backend_type = 'sms_gateway launcher'"));
	for my $which (sort keys %pids)
	{
		like(error_of("SELECT $_($pids{$which})", role => 'signaler'), qr/42501/, "$_ of the $which")
			for qw(pg_cancel_backend pg_terminate_backend);
	}
};

# Makes roles that may send.
sub senders
{
	ask("CREATE ROLE $_ LOGIN; GRANT USAGE ON FOREIGN SERVER shop TO $_; GRANT SELECT, INSERT ON sms_outbox TO $_")
		for @_;
	return;
}

# Queues a text as a role, with a request_id; returns the row's id.
sub queue_as
{
	my ($role, $content, $request_id) = @_;
	return as_role($role, "INSERT INTO sms_outbox (gateway, phone, content, request_id)
		VALUES ('shop', '0901234567', '$content', '$request_id') RETURNING id");
}

# The error of queueing such a text as a role.
sub refused
{
	my ($role, $request_id) = @_;
	return error_of("INSERT INTO sms_outbox (gateway, phone, content, request_id)
		VALUES ('shop', '0901234567', 'x', '$request_id')", role => $role);
}

subtest 'a role that is renamed keeps what is its own' => sub {
	ask("ALTER SERVER shop OPTIONS (ADD per_role '3/hour')");
	senders('anne');
	ask("SELECT sms_pause('shop', 'test')");
	my $sent = queue_as('anne', 'of anne', 'a-1');
	my $canceled = queue_as('anne', 'taken back', 'a-2');
	ask('ALTER ROLE anne RENAME TO "Ann O""Hara"');
	is(as_role('Ann O"Hara', 'SELECT count(*) FROM sms_outbox'), '2', 'it sees its messages');
	is(as_role('Ann O"Hara', "SELECT sms_cancel($canceled)"), 't', '… and takes one back');
	like(refused('Ann O"Hara', 'a-1'), qr/23505/, '… whose request_ids are known');
	queue_as('Ann O"Hara', 'the third', 'a-3');
	like(refused('Ann O"Hara', 'a-4'), qr/53400/, '… and counted on');
	ask("SELECT sms_resume('shop')");
	becomes("SELECT status FROM sms_outbox WHERE id = $sent", 'sent', 'they are sent');
};

subtest 'a role that is made anew under an old name inherits nothing' => sub {
	senders('bob');
	queue_as('bob', "old $_", "b-$_") for 1 .. 2;
	becomes("SELECT count(*) FROM sms_outbox WHERE created_by = 'bob' AND status = 'sent'", '2', 'of two sent');
	ask("SELECT sms_pause('shop', 'test')");
	my $queued = queue_as('bob', 'old 3', 'b-3');
	ask('DROP OWNED BY bob; DROP ROLE bob');
	senders('bob');
	is(as_role('bob', 'SELECT count(*) FROM sms_outbox'), '0', '… it sees none');
	like(error_of("SELECT $_", role => 'bob'), qr/42704: there is no message/, "… and $_ knows none")
		for "sms_cancel($queued)", "sms_retry($queued)", "sms_check_status($queued)";
	isnt(queue_as('bob', "new $_", "b-$_"), '', '… its request_ids are its own') for 1 .. 3;
	ask("SELECT sms_resume('shop')");
	becomes("SELECT count(*) FROM sms_outbox WHERE content ^@ 'new ' AND status = 'sent'", '3', '… and its limit');
	becomes("SELECT status, result_message FROM sms_outbox WHERE id = $queued",
		qr/^(queued|failed)\|the role that queued it, then called "bob", does not exist/, 'what was queued stays');
	is(times_received($simulator, 'old 3'), 0, '… for certain');
	ask("ALTER SERVER shop OPTIONS (DROP per_role)");
};

subtest 'what others call their messages, and hold, is not learnt and not waited for' => sub {
	senders('carl', 'dora');
	my $session = $node->background_psql('postgres', on_error_stop => 0, extra_params => [ '-U', 'carl' ]);
	$session->query_safe("BEGIN; INSERT INTO sms_outbox (gateway, phone, content, request_id)
		VALUES ('shop', '0901234567', 'of carl', 'order-42')");
	isnt(queue_as('dora', 'of dora', 'order-42'), '', 'an uncommitted order-42 of another\'s holds up nobody');
	$session->query_safe('COMMIT');
	$session->quit;
	becomes("SELECT count(*) FROM sms_outbox WHERE request_id = 'order-42' AND status = 'sent'", '2', 'both are sent');
	is(as_role($_, "SELECT status FROM sms_send('0901234567', 'now', 'shop', 'order-43')"), 'sent', 'and by sms_send')
		for qw(carl dora);
	my @requests = grep { ($_->{content} // '') =~ /^(of carl|of dora|now)$/ } requests($simulator);
	my %ids = map { $_->{request_id} => 1 } @requests;
	is(keys %ids, 4, '… under ids of their own');
	my $his = ask("SELECT id FROM sms_outbox WHERE content = 'of carl'");
	for my $function (qw(sms_cancel sms_retry sms_check_status))
	{
		my ($one, $other) = map { error_of("SELECT $function($_)", role => 'dora') =~ s/\b$_\b//gr } $his, 4711;
		like($one, qr/42704/, "$function says of another's message …");
		is($one =~ s/psql:\S+//gr, $other =~ s/psql:\S+//gr, '… what it says of none');
	}
	my $holder = $node->background_psql('postgres');
	$holder->query_safe("BEGIN; SELECT FROM sms_outbox WHERE id = $his FOR UPDATE");
	like(error_of("SET statement_timeout = '5s'; SELECT sms_cancel($his)", role => 'dora'), qr/42704/,
		'… at once, though somebody holds it');
	$holder->quit;
	is(ask("SELECT sms_cancel($his)"), 'f', 'the owner of the table may manage all');
};

subtest 'elsewhere oids mean nothing' => sub {
	my ($carl, $dora) = map { ask("SELECT '$_'::regrole::oid") } qw(carl dora);
	my $dump = $node->basedir . '/dump.sql';
	ask('CREATE DATABASE moved');
	$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'a dump');
	$node->command_ok([ 'psql', '-qXf', $dump, $node->connstr('moved') ], '… is loaded');
	ask("UPDATE sms_gateway_identity SET system_identifier = 1 WHERE instance <> sms_gateway_origin();
		UPDATE sms_outbox SET creator = creator::bigint + 1000000 WHERE creator = $dora;
		UPDATE sms_outbox SET creator = $dora WHERE creator = $carl", 'moved');
	is(as_role('dora', 'SELECT count(*) FROM sms_outbox', database => 'moved'), '0',
		"who has another's oid sees none of his messages");
	my $his = ask("SELECT id FROM sms_outbox WHERE content = 'of carl'");
	like(error_of("SELECT sms_cancel($his)", role => 'dora', database => 'moved'), qr/42704/, '… and manages none');
	# Hers are in the way of the oid that his are to have.
	ask("UPDATE sms_outbox SET creator = $carl WHERE created_by = 'dora'; SELECT sms_adopt_outbox()", 'moved');
	is(ask("SELECT DISTINCT creator = created_by::regrole FROM sms_outbox WHERE created_by IN ('carl', 'dora')",
		'moved'), 't', 'sms_adopt_outbox() gives them to the roles of these names');
	is(ask("SELECT DISTINCT creator FROM sms_outbox WHERE created_by = 'bob'", 'moved'), '0',
		"… and those of a name that two roles have had to nobody");
};

$node->stop;
done_testing();
