# The outbox and its worker: each committed message once, in order, with its result.
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
my $node = server('outbox');
sub ask { my ($sql, $database) = @_; return scalar_of($node, $sql, $database); }

# --- the worker comes with the extension
is(ask("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sms_gateway launcher'"), '1', 'a launcher runs');
is(ask("BEGIN; CREATE EXTENSION sms_gateway; ROLLBACK; SELECT 1"), '1', 'an extension that is rolled back');
sleep 0.5;
is(ask("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sms_gateway worker'"), '0', 'starts no worker');
gateways($node, $simulator);
ok(worker_pid($node), 'a worker starts with CREATE EXTENSION');

# --- 200 orders in one statement: 200 requests, each once
ask(q{CREATE TABLE orders (id int PRIMARY KEY, phone text);
	CREATE FUNCTION order_shipped() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', NEW.phone, 'Order ' || NEW.id || ' has shipped');
		RETURN NEW;
	END $$;
	CREATE TRIGGER order_shipped AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION order_shipped();});
ask("INSERT INTO orders SELECT i, '09' || lpad(i::text, 8, '0') FROM generate_series(1, 200) i");
ok(finish($node, 20), 'nothing is left to do');
my %seen;
$seen{ $_->{content} }++ for requests($simulator);
is(scalar keys %seen, 200, '200 messages');
is(stats($simulator)->{requests}, 200, 'in 200 requests');
is(ask("SELECT status, count(*), count(smsid), count(DISTINCT smsid), min(attempts), max(attempts), count(sent_at) FROM sms_outbox GROUP BY 1"),
	'sent|200|200|200|1|1|200', 'every row has its result');
is(ask("SELECT count(*) FROM sms_gateway_lease"), '0', 'no lease is left');

# --- what is rolled back is not sent, nor what a savepoint took back
forget($simulator);
ask("BEGIN; INSERT INTO orders VALUES (1001, '0901234567'); ROLLBACK;");
ask("BEGIN; SAVEPOINT s; INSERT INTO orders VALUES (1002, '0901234567'); ROLLBACK TO s; INSERT INTO orders VALUES (1003, '0901234567'); COMMIT;");
finish($node, 20);
is(join(',', map { $_->{content} } requests($simulator)), 'Order 1003 has shipped', 'only what was committed');

# --- a prepared transaction is sent when it is committed
$node->append_conf('postgresql.conf', 'max_prepared_transactions = 5');
$node->restart;
forget($simulator);
ask("BEGIN; INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'prepared'); PREPARE TRANSACTION 'p'");
sleep 1;
is(stats($simulator)->{requests}, 0, 'nothing goes while it is prepared');
ask("COMMIT PREPARED 'p'");
ok(wait_until(sub { ask("SELECT count(*) FROM sms_outbox WHERE content = 'prepared' AND status = 'sent'") eq '1' }, 12), 'it goes after COMMIT PREPARED');

# --- soon: on the wire within 20 ms, recorded within 100 ms (the median of 20)
my (@wire, @recorded);
for my $i (1 .. 20)
{
	ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'soon $i')");
	sleep 0.1 * patience();
	push @recorded, ask("SELECT status FROM sms_outbox WHERE content = 'soon $i'") eq 'sent' ? 1 : 0;
	push @wire, ask("SELECT extract(epoch FROM sent_at - created_at) * 1000 FROM sms_outbox WHERE content = 'soon $i'") || 1e9;
}
cmp_ok((sort { $a <=> $b } @wire)[10], '<', 20 * slowness(), 'the gateway has answered within 20 ms');
cmp_ok(scalar(grep { $_ } @recorded), '>=', 15, 'and the row says so within 100 ms');

# --- all kinds, through all gateways
ask("INSERT INTO sms_outbox (gateway, kind, phone, content, options) VALUES ('shop', 'otp', '0901234567', '{OTP}', '{\"ttl\": \"2min\", \"length\": 4}');
	INSERT INTO sms_outbox (gateway, kind, phone, template_code, list_param, routerule) VALUES ('omni', 'omni', '0901234567', 'T', '{\"a\": \"b\"}', '{2,3}');
	INSERT INTO sms_outbox (gateway, phone, content, options) VALUES ('cpaas', '0901234567', 'chữ', '{\"ext\": {\"x\": 1}}');");
finish($node, 20);
is(ask("SELECT status, smsid <> '', id_omni_mess IS NULL FROM sms_outbox WHERE kind = 'otp'"), 'sent|t|t', 'a one-time password');
is(ask("SELECT status, result_code, id_omni_mess LIKE 'ICOMNI%' FROM sms_outbox WHERE kind = 'omni'"), 'sent|1|t', 'an omni message');
is(ask("SELECT status, referent_id <> '', details ? 'token' FROM sms_outbox WHERE gateway = 'cpaas'"), 'sent|t|t', 'an Interits message, with its token');
my @got = requests($simulator);
my ($omni) = grep { $_->{path} =~ /Omni/ } @got;
is_deeply([ $omni->{body}{routerule}, $omni->{body}{list_param} ], [ [ '2', '3' ], { a => 'b' } ], 'its routing rule and parameters');

# --- scheduling: send_after, expires_at, priority
forget($simulator);
ask("INSERT INTO sms_outbox (gateway, phone, content, send_after) VALUES ('shop', '0901234567', 'later', now() + interval '1.5s' * " . patience() . ")");
ask("INSERT INTO sms_outbox (gateway, phone, content, expires_at) VALUES ('shop', '0901234567', 'too late', now() - interval '1s')");
sleep 0.7;
is(stats($simulator)->{requests}, 0, 'not before send_after');
ok(wait_until(sub { stats($simulator)->{requests} == 1 }, 5), 'but then');
is(ask("SELECT status, attempts FROM sms_outbox WHERE content = 'too late'"), 'expired|0', 'not after expires_at');
ask("SELECT sms_pause('shop', 'test')");
forget($simulator);
ask("INSERT INTO sms_outbox (gateway, phone, content, priority) SELECT 'shop', '0901234567', 'p' || p, p FROM unnest('{0,5,-5,3,9}'::int[]) p");
ask("INSERT INTO sms_outbox (gateway, phone, content, expires_at) VALUES ('shop', '0901234567', 'expires while paused', now() + interval '1s')");
ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('cpaas', '0901234567', 'another gateway')");
ok(wait_until(sub { stats($simulator)->{requests} == 1 }, 5), 'a paused gateway holds up no other');
ok(wait_until(sub { ask("SELECT status FROM sms_outbox WHERE content = 'expires while paused'") eq 'expired' }, 9), 'a message expires on time even then');
is(ask("SELECT state, reason, queued FROM sms_gateways WHERE name = 'shop'"), 'paused|test|5', 'the view says that it is paused');
ask("ALTER SERVER shop OPTIONS (ADD max_in_flight '1')");
ask("SELECT sms_resume('shop')");
finish($node, 20);
is(join(',', map { $_->{content} } grep { $_->{path} =~ /MainService/ } requests($simulator)), 'p9,p5,p3,p0,p-5', 'the highest priority first');
ask("ALTER SERVER shop OPTIONS (DROP max_in_flight)");

# --- retries, with back-off, then failed
forget($simulator);
fault($simulator, fault => 'http', value => 503, count => 2);
ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'twice down')");
ok(wait_until(sub { ask("SELECT status FROM sms_outbox WHERE content = 'twice down'") eq 'sent' }, 10), 'a message is tried again');
is(ask("SELECT attempts FROM sms_outbox WHERE content = 'twice down'"), '3', 'and counts its attempts');
ask("ALTER SERVER shop OPTIONS (ADD max_attempts '2')");
fault($simulator, fault => 'http', value => 503);
ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'always down')");
ok(wait_until(sub { ask("SELECT status FROM sms_outbox WHERE content = 'always down'") eq 'failed' }, 10), 'until its attempts are used up');
is(ask("SELECT attempts, result_code, http_status FROM sms_outbox WHERE content = 'always down'"), '2|503|503', 'with the last answer');
no_faults($simulator);
is(ask("SELECT sms_retry(id) FROM sms_outbox WHERE content = 'always down'"), 't', 'sms_retry takes it up again');
finish($node, 10);
is(ask("SELECT status, attempts FROM sms_outbox WHERE content = 'always down'"), 'sent|1', 'and it is sent');
ask("ALTER SERVER shop OPTIONS (DROP max_attempts)");

# --- a message on its way cannot be canceled; one that waits can
fault($simulator, fault => 'latency', value => 1000 * patience());
my $id = ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'on its way') RETURNING id");
ok(wait_until(sub { ask("SELECT in_flight FROM sms_gateways WHERE name = 'shop'") eq '1' }, 5), 'in_flight counts it');
is(ask("SELECT sms_cancel($id)"), 'f', 'too late to cancel');
finish($node, 10);
is(ask("SELECT status FROM sms_outbox WHERE id = $id"), 'sent', 'it was sent');
no_faults($simulator);

# --- triggers of the user's: they work, and a failing one loses nothing
ask(q{CREATE TABLE seen (id bigint, status sms_status);
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.content = 'poison' THEN RAISE 'no'; END IF;
		INSERT INTO seen VALUES (NEW.id, NEW.status);
		RETURN NULL;
	END $$;
	CREATE TRIGGER note AFTER UPDATE ON sms_outbox FOR EACH ROW EXECUTE FUNCTION note();});
forget($simulator);
ask("INSERT INTO sms_outbox (gateway, phone, content) SELECT 'shop', '0901234567', CASE i WHEN 5 THEN 'poison' ELSE 'fine ' || i END FROM generate_series(1, 20) i");
finish($node, 10);
is(ask("SELECT count(*) FROM sms_outbox WHERE (content = 'poison' OR content LIKE 'fine %') AND status = 'sent'"), '20', 'all are recorded');
is(ask("SELECT count(*), count(DISTINCT id) FROM seen"), '19|19', 'the trigger saw the others');
is(stats($simulator)->{requests}, 20, 'each was sent once');
ask("DROP TRIGGER note ON sms_outbox");

# --- a row that somebody locks delays only itself
fault($simulator, fault => 'latency', value => 300 * patience());
my $locked = ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'locked') RETURNING id");
wait_until(sub { ask("SELECT in_flight FROM sms_gateways WHERE name = 'shop'") eq '1' }, 5);
my $holder = IPC::Run::start([ $node->installed_command('psql'), '-XAtq', '-d', $node->connstr('postgres'), '-c',
		"BEGIN; SELECT id FROM sms_outbox WHERE id = $locked FOR UPDATE; SELECT pg_sleep(" . 3 * patience() . "); COMMIT" ], '>', \my $ignored);
ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'beside it')");
ok(wait_until(sub { ask("SELECT status FROM sms_outbox WHERE content = 'beside it'") eq 'sent' }, 3), 'another message goes on');
$holder->finish;
ok(wait_until(sub { ask("SELECT status FROM sms_outbox WHERE id = $locked") eq 'sent' }, 10), 'and it is recorded in the end');
no_faults($simulator);

# --- gateways that change while messages wait
ask("SELECT sms_pause('shop', 'test')");
ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'brand')");
ask("ALTER SERVER shop OPTIONS (SET brandname 'NEWNAME')");
ask("SELECT sms_resume('shop')");
finish($node, 10);
is((grep { $_->{content} eq 'brand' } requests($simulator))[0]{body}{Brandname}, 'NEWNAME', 'an altered server counts at the next message');
ask("SELECT sms_pause('shop', 'test')");
ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'no mapping')");
ask("DROP USER MAPPING FOR PUBLIC SERVER shop; SELECT sms_resume('shop')");
ok(wait_until(sub { ask("SELECT status, result_code, attempts FROM sms_outbox WHERE content = 'no mapping'") eq 'queued|held|0' }, 5),
	'without a user mapping a message is held, and says so');
ask("CREATE USER MAPPING FOR PUBLIC SERVER shop OPTIONS (api_key 'demo', secret_key 'demo')");

# --- without the library preloaded: sms_drain does the work
my $bare = server('bare', preload => 0);
forget($simulator);
gateways($bare, $simulator);
$bare->safe_psql('postgres', "INSERT INTO sms_outbox (gateway, phone, content) SELECT 'shop', '0901234567', 'm' || i FROM generate_series(1, 300) i");
is(stats($simulator)->{requests}, 0, 'nothing goes by itself');
$bare->safe_psql('postgres', "CALL sms_drain()");
is($bare->safe_psql('postgres', "SELECT status, count(*), count(DISTINCT smsid) FROM sms_outbox GROUP BY 1"), 'sent|300|300', 'sms_drain sends all');
is(stats($simulator)->{requests}, 300, 'once');
$bare->stop;

$node->stop;
done_testing();
