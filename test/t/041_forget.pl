# What is stored of a phone: erased on demand, by itself after a time, and seen by nobody who need not.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SmsTest;
use Test::More;

my $simulator = simulator();
my $node = server('forget');
gateways($node, $simulator, shop => "per_phone '100/hour'", cpaas => "countries 'all'");
ask("CREATE ROLE app LOGIN; GRANT INSERT, SELECT ON sms_outbox TO app; GRANT USAGE ON FOREIGN SERVER shop TO app;
	GRANT EXECUTE ON FUNCTION sms_forget TO app");
worker_pid($node);
my $into = "INSERT INTO sms_outbox (gateway, phone, content)";

# In how many rows of the extension's tables a text is found; the secret of the identity tells nothing.
sub found
{
	my ($text) = @_;
	my $tables = ask("SELECT string_agg(format('SELECT t::text AS row FROM %s t', c.oid::regclass), ' UNION ALL ')
		FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.deptype = 'e' WHERE c.relkind = 'r'");
	return "SELECT count(*) FROM ($tables) r WHERE row LIKE '%$text%'";
}

# What sms_forget() says of a phone, as a list of what is not 0.
sub forgets
{
	my ($phone) = @_;
	return ask("SELECT coalesce(string_agg(key || ' ' || value, ', ' ORDER BY key), '')
		FROM jsonb_each(sms_forget('$phone')) WHERE value <> '0'");
}

subtest 'everything of a phone goes, in whatever spelling, and nothing of others' => sub {
	ask("$into VALUES ('shop', '0901234567', 'first'), ('shop', '+84 901-234.567', 'second'),
		('shop', '0901234568', 'of another');
		SELECT sms_send_otp('84901234567', gateway => 'cpaas'), sms_check_otp('0901234567', 'wrong', 'cpaas')");
	ok(finish($node, 20), 'messages are sent');
	my ($smsid) = ask("SELECT smsid FROM sms_outbox WHERE content = 'first'");
	ask(qq{INSERT INTO sms_gateway_callback (gateway, reference, report)
			VALUES ('shop', '4711', '{"as 0.1.0 kept it": "0901234567"}');
		SELECT sms_delivery_report('shop', '{"SMSID": "$smsid", "SendStatus": "5"}'),
		sms_delivery_report('shop', '{"SMSID": "90123456789", "SendStatus": "5"}');
		SELECT sms_pause('omni', 'complaints of +84901234567, of 0901234568')});
	is(forgets('0901 234 567'), 'codes 1, counters 3, messages 2, reasons 1, reports 2', 'it says what there was');
	is(ask(found('901234567[^0-9]') =~ s/LIKE '%(.*)%'/~ '$1'/r), '0', 'no table has the number any more');
	is(ask("SELECT string_agg(content, ',') FROM sms_outbox"), 'of another', 'another phone keeps its message');
	is(ask("SELECT reason FROM sms_gateways WHERE name = 'omni'"), 'complaints of (forgotten), of 0901234568',
		'a pause keeps its reason otherwise');
	is(ask("SELECT count(*) FROM sms_gateway_callback WHERE reference = '90123456789'"), '1',
		'digits in a longer number are none of it');
	is(forgets('0901234567'), '', 'the second time there is nothing');
	ask("SELECT sms_resume('omni')");
};

subtest 'old numbers, foreign ones, and what is none' => sub {
	ask("$into VALUES ('shop', '01661234567', 'converted'), ('cpaas', '+66812345678', 'foreign'),
		('cpaas', '+66812345679', 'foreign')");
	ok(finish($node, 20), 'messages are sent');
	# Rows as 0.1.0 wrote them, which knew no ranges.
	ask("INSERT INTO sms_outbox (gateway, phone, content, send_after, request_id, created_by, created_at, status,
			ended_at, origin)
		SELECT 'shop', p, 'of 0.1.0', now(), 'old-' || p, current_user, now(), 'sent', now(), instance
		FROM unnest('{841661234567,84361234567,84901239}'::text[]) p, sms_gateway_identity");
	is(forgets('0361234567'), 'counters 1, messages 3', 'today\'s number has also what it was');
	is(forgets('+66812345678'), 'messages 1', 'a foreign number');
	is(forgets('66812345679'), 'messages 1', '… as the outbox has it');
	is(forgets('84901239'), 'messages 1', 'what could not be sent today');
	like(error_of("SELECT sms_forget('$_')"), qr/22023: invalid phone number/, "\"$_\" is refused")
		for '901234567', 'nobody', '', '84901239', '5';
	ask("CREATE SERVER thai FOREIGN DATA WRAPPER interits OPTIONS (sender 'X', country_code '66')");
	like(error_of("SELECT sms_forget('0901234567')"), qr/22023: .*different country codes/s,
		'a number that could be two is refused');
	is(forgets('+84901234567'), '', '… with its country code it is one');
	ask('DROP SERVER thai');
};

subtest 'what is on its way is refused; what waits is taken back' => sub {
	hang($simulator);
	my $id = queue_text('shop', 'under way');
	becomes(sub { in_flight('shop') }, '1', 'a message is on its way');
	queue_text('shop', 'later', send_after => "now() + interval '1 hour'");
	my $error = error_of("SELECT sms_forget('0901234567')");
	like($error, qr/55006: 1 message to this phone is on its way.*message $id.*sms_wait/s,
		'it is refused, with a hint');
	is(ask("SELECT count(*) FROM sms_outbox WHERE phone = '84901234567'"), '2', '… and nothing is erased');
	no_faults($simulator);
	ask("ALTER SERVER shop OPTIONS (ADD timeout '1s')");
	$node->restart('immediate');
	becomes(sub { ask("SELECT count(*) FROM sms_gateway_lease") }, '0', 'after a crash, doubts are settled');
	forget($simulator);
	like(forgets('0901234567'), qr/messages 2/, 'then it is erased, what waits too');
	is(scalar(grep { $_->{content} eq 'later' } requests($simulator)), 0, '… and is never sent');
};

subtest 'for the owner of the outbox alone' => sub {
	as_role('app', "$into VALUES ('shop', '0901234567', 'of app')");
	like(error_of("SELECT sms_forget('0901234567')", role => 'app'), qr/42501: must be owner of table sms_outbox/,
		'not for who queued a message, whatever he was granted');
	like(error_of("SELECT sms_forget('nobody')", role => 'app'), qr/42501/, '… who learns nothing of numbers either');
	ok(finish($node, 20), 'the message is sent');
	ask("CREATE ROLE dba LOGIN; ALTER TABLE sms_outbox OWNER TO dba;
		GRANT EXECUTE ON FUNCTION sms_forget TO dba");
	like(error_of("SELECT sms_forget('0901234567')", role => 'dba'), qr/42501: .*must own table sms_gateway_callback/,
		'an owner of the outbox who does not see all rows of the other tables is told so');
	ask("ALTER TABLE $_ OWNER TO dba") for map { "sms_gateway_$_" } qw(callback otp usage state refused lease identity);
	is(as_role('dba', "SELECT sms_forget('0901234567') -> 'messages'"), '1', '... and erases when he owns them');
	ask('REASSIGN OWNED BY dba TO CURRENT_USER');
};

subtest 'triggers and foreign keys of users' => sub {
	ask(q{CREATE TABLE deleted (id bigint, by name); GRANT INSERT ON deleted TO PUBLIC;
		CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN INSERT INTO deleted VALUES (OLD.id, current_user); RETURN NULL; END $$;
		CREATE TRIGGER note AFTER DELETE ON sms_outbox FOR EACH ROW EXECUTE FUNCTION note();
		CREATE TABLE mine (id bigint REFERENCES sms_outbox)});
	as_role('app', "$into VALUES ('shop', '0901234567', 'of app')");
	ok(finish($node, 20), 'a message is sent');
	ask("INSERT INTO mine SELECT id FROM sms_outbox");
	like(error_of("SELECT sms_forget('0901234567')"), qr/23503/, 'a foreign key is told');
	ask('DROP TABLE mine');
	like(forgets('0901234567'), qr/messages 1/, 'the message is erased');
	is(ask('SELECT string_agg(by, \',\') FROM deleted'), 'app', 'its trigger ran as who had queued it');
	ask('DROP TRIGGER note ON sms_outbox');
};

subtest 'an index of the owner\'s is used' => sub {
	ask("SELECT sms_pause('shop', 'x');
		$into SELECT 'shop', '09' || (10000000 + i), 'many' FROM generate_series(1, 300) i;
		CREATE INDEX mine ON sms_outbox (phone)");
	like(forgets('0910000001'), qr/messages 1/, 'a message is erased');
	becomes("SELECT idx_scan > 0 FROM pg_stat_user_indexes WHERE indexrelname = 'mine'", 't', '… found by it');
	ask("DROP INDEX mine; DELETE FROM sms_outbox; SELECT sms_resume('shop')");
};

subtest 'counters do not say whose they are, and the log does not name who has reached a limit' => sub {
	ask("DELETE FROM sms_gateway_usage; ALTER SERVER shop OPTIONS (SET per_phone '2/hour');
		$into SELECT 'shop', '0907654321', 'counted' FROM generate_series(1, 2)");
	is(ask("SELECT string_agg(subject || ' ' || used, ',') FROM sms_gateway_usage"),
		'phone ' . hidden('84907654321') . ' 2', 'a keyed hash counts');
	my $quiet = "SET log_min_error_statement = 'panic'; SET log_statement = 'none'";
	my $from = -s $node->logfile;
	my $error = error_of("$quiet; PREPARE q (text) AS $into VALUES ('shop', \$1, 'one too many');
		EXECUTE q('0907654321')");
	like($error, qr/53400.*as 84907654321/s, 'who sends is told the number');
	like(error_of("$quiet; SELECT sms_send('0907654321x', 'x', 'shop')"),
		qr/22023.*0907654321x/s, '… also one that is none');
	my $log = slurp_file($node->logfile, $from);
	like($log, qr/It allows 2 messages to one phone in 3600 seconds/, 'the log tells of the limit');
	unlike($log, qr/7654321/, '… but not of the number');
	ask("ALTER SERVER shop OPTIONS (DROP per_phone)");
};

subtest 'a template copy counts, hidden, and can erase' => sub {
	ask("DELETE FROM sms_outbox; ALTER SERVER shop OPTIONS (ADD per_phone '2/hour')");
	queue_text('shop', 'waits', send_after => "now() + interval '1 hour'");
	ask('CREATE DATABASE copy TEMPLATE postgres');
	is(ask("$into VALUES ('shop', '0907654322', 'in the copy') RETURNING status", 'copy'), 'queued',
		'a copy takes messages with a limit');
	is(ask("SELECT count(*) FROM sms_gateway_usage WHERE subject = 'phone " . hidden('84907654322') . "'", 'copy'), '1',
		'… and counts them under the key that it has');
	is(ask("SELECT sms_forget('0901234567') -> 'messages'", 'copy'), '1', 'what it has brought is erased there');
	ask('DROP DATABASE copy');
};

subtest 'in LATIN1, with sms_drain, beside who holds a message' => sub {
	ask('ALTER SERVER shop OPTIONS (DROP per_phone)');
	ask("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'");
	gateways($node, $simulator, database => 'latin');
	my $id = ask("$into VALUES ('shop', '0901234567', chr(233)) RETURNING id", 'latin');
	ask('CALL sms_drain()', 'latin');
	my $open = $node->background_psql('latin', on_error_stop => 0);
	$open->query("BEGIN; SELECT FROM sms_outbox WHERE id = $id FOR UPDATE");
	like(error_of("SET lock_timeout = '100ms'; SELECT sms_forget('0901234567')", database => 'latin'), qr/55P03/,
		'it waits for who holds a message, as long as it may');
	$open->query('ROLLBACK');
	$open->quit;
	is(ask("SELECT sms_forget('+84.901.234.567') -> 'messages'", 'latin'), '1', '… and erases it then');
	ask('DROP DATABASE latin');
};

subtest 'what has a phone ends by itself' => sub {
	ask("DELETE FROM sms_outbox; DELETE FROM sms_gateway_usage;
		SET session_replication_role = replica;
		INSERT INTO sms_outbox (gateway, phone, content, request_id, created_by, created_at, status, ended_at, origin)
		SELECT 'shop', '84901234567', s || ' ' || d, 'old-' || s || d, current_user, now(), s::sms_status,
			now() - make_interval(days => d), 1
		FROM unnest('{sent,delivered,undelivered,failed,expired,canceled,uncertain}'::text[]) s,
			unnest('{1,3,31}'::int[]) d;
		INSERT INTO sms_gateway_callback (gateway, reference, report, received_at)
			VALUES ('shop', 'unknown', '{\"Phone\": \"84901234567\"}', now() - interval '8 days');
		INSERT INTO sms_gateway_otp (expires_at, gateway, sent_by, phone) VALUES (now(), 'shop', 'shop', '84901234567');
		INSERT INTO sms_gateway_usage VALUES (1, now() - interval '25 hours', 0, 0, 'shop', 'phone x')");
	$node->append_conf('postgresql.conf', "sms_gateway.retention = '2d'");
	$node->restart;
	becomes("SELECT string_agg(content, ',') FROM sms_outbox WHERE ended_at < now() - interval '2 days'",
		'uncertain 3', 'messages after the retention, uncertain ones after 30 days');
	is(ask('SELECT count(*) FROM sms_outbox'), '8', '… and none before');
	becomes("SELECT (SELECT count(*) FROM sms_gateway_callback WHERE reference = 'unknown')
		+ (SELECT count(*) FROM sms_gateway_otp) + (SELECT count(*) FROM sms_gateway_usage)", '0',
		'reports, codes and counters after their time');
};

subtest 'the planner keeps no phone, and no text' => sub {
	ask('ANALYZE sms_outbox, sms_gateway_callback, sms_gateway_otp');
	is(ask("SELECT count(*) FROM pg_stats WHERE tablename ~ '^sms_' AND attname IN ('phone', 'content', 'list_param',
		'options', 'result_message', 'details', 'report')"), '0', 'it has no samples of them');
	cmp_ok(ask("SELECT count(*) FROM pg_stats WHERE tablename = 'sms_outbox'"), '>', 5, '… but of the rest');
};

$node->stop;
done_testing();
