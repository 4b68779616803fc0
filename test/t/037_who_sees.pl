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
		INSERT INTO sms_gateway_refused SELECT 'shop', 10, 1, 'why', now(), 'infinity'});
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

$node->stop;
done_testing();
