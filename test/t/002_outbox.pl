# The outbox and its worker: each committed message once, in order, with its result.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use IPC::Run ();
use SmsTest;
use Test::More;
use Time::HiRes qw(sleep);

my $simulator = simulator();
my $node = server('outbox');

# How many processes of a kind there are.
sub processes
{
	my ($kind) = @_;
	return "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sms_gateway $kind'";
}

# The texts that arrived, in their order; of requests whose path has $path, if it is given.
sub arrived
{
	my ($path) = @_;
	return join ',', map { $_->{content} } grep { !$path || $_->{path} =~ $path } requests($simulator);
}

subtest 'the worker comes with the extension' => sub {
	becomes(processes('launcher'), '1', 'a launcher runs');
	is(ask("BEGIN; CREATE EXTENSION sms_gateway; ROLLBACK; SELECT 1"), '1', 'an extension that is rolled back');
	stays(processes('worker'), '0', 0.5, 'starts no worker');
	gateways($node, $simulator);
	ok(worker_pid($node), 'a worker starts with CREATE EXTENSION');
};

subtest '200 orders in one statement are 200 requests, each once' => sub {
	ask(q{CREATE TABLE orders (id int PRIMARY KEY, phone text);
		CREATE FUNCTION order_shipped() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO sms_outbox (gateway, phone, content)
				VALUES ('shop', NEW.phone, 'Order ' || NEW.id || ' has shipped');
			RETURN NEW;
		END $$;
		CREATE TRIGGER order_shipped AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION order_shipped();});
	ask("INSERT INTO orders SELECT i, '09' || lpad(i::text, 8, '0') FROM generate_series(1, 200) i");
	ok(finish($node, 20), 'nothing is left to do');
	my %seen;
	$seen{ $_->{content} }++ for requests($simulator);
	is(scalar keys %seen, 200, '200 messages');
	is(stats($simulator)->{requests}, 200, 'in 200 requests');
	is(ask("SELECT status, count(*), count(smsid), count(DISTINCT smsid), min(attempts), max(attempts), count(sent_at)
			FROM sms_outbox GROUP BY 1"),
		'sent|200|200|200|1|1|200', 'every row has its result');
	is(ask("SELECT count(*) FROM sms_gateway_lease"), '0', 'no lease is left');
};

subtest 'what is rolled back is not sent, nor what a savepoint took back' => sub {
	forget($simulator);
	ask("BEGIN; INSERT INTO orders VALUES (1001, '0901234567'); ROLLBACK;");
	ask("BEGIN; SAVEPOINT s; INSERT INTO orders VALUES (1002, '0901234567'); ROLLBACK TO s;
		INSERT INTO orders VALUES (1003, '0901234567'); COMMIT;");
	finish($node, 20);
	is(arrived(), 'Order 1003 has shipped', 'only what was committed');
};

subtest 'a prepared transaction is sent when it is committed' => sub {
	$node->append_conf('postgresql.conf', 'max_prepared_transactions = 5');
	$node->restart;
	forget($simulator);
	ask("BEGIN; INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'prepared');
		PREPARE TRANSACTION 'p'");
	stays(sub { stats($simulator)->{requests} }, 0, 1, 'nothing goes while it is prepared');
	ask("COMMIT PREPARED 'p'");
	becomes(sub { status_of('prepared') }, 'sent', 'it goes after COMMIT PREPARED', seconds => 12);
};

subtest 'soon: on the wire within 20 ms, recorded within 100 ms' => sub {
	my @wire;
	my $recorded = 0;
	for my $i (1 .. 20)
	{
		queue_text('shop', "soon $i");
		sleep 0.1 * patience();    # time itself: after so long the row is looked at
		$recorded++ if status_of("soon $i") eq 'sent';
		push @wire, ask("SELECT extract(epoch FROM sent_at - created_at) * 1000
			FROM sms_outbox WHERE content = 'soon $i'") || 1e9;
	}
	cmp_ok((sort { $a <=> $b } @wire)[10], '<', 20 * slowness(), 'the gateway has answered within 20 ms (the median)');
	cmp_ok($recorded, '>=', 15, 'and the row says so within 100 ms');
};

subtest 'all kinds, through all gateways' => sub {
	ask("INSERT INTO sms_outbox (gateway, kind, phone, content, options)
			VALUES ('shop', 'otp', '0901234567', '{OTP}', '{\"ttl\": \"2min\", \"length\": 4}');
		INSERT INTO sms_outbox (gateway, kind, phone, template_code, list_param, routerule)
			VALUES ('omni', 'omni', '0901234567', 'T', '{\"a\": \"b\"}', '{2,3}');
		INSERT INTO sms_outbox (gateway, phone, content, options)
			VALUES ('cpaas', '0901234567', 'chữ', '{\"ext\": {\"x\": 1}}');");
	finish($node, 20);
	is(ask("SELECT status, smsid <> '', id_omni_mess IS NULL FROM sms_outbox WHERE kind = 'otp'"),
		'sent|t|t', 'a one-time password');
	is(ask("SELECT status, result_code, id_omni_mess LIKE 'ICOMNI%' FROM sms_outbox WHERE kind = 'omni'"),
		'sent|1|t', 'an omni message');
	is(ask("SELECT status, referent_id <> '', details ? 'token' FROM sms_outbox WHERE gateway = 'cpaas'"),
		'sent|t|t', 'an Interits message, with its token');
	my ($omni) = grep { $_->{path} =~ /Omni/ } requests($simulator);
	is_deeply([ $omni->{body}{routerule}, $omni->{body}{list_param} ], [ [ '2', '3' ], { a => 'b' } ],
		'its routing rule and parameters');
};

subtest 'send_after and expires_at' => sub {
	forget($simulator);
	queue_text('shop', 'later', send_after => "now() + interval '1.5s' * " . patience());
	queue_text('shop', 'too late', expires_at => "(SELECT now() + interval '1 ms' FROM pg_sleep(0.01))");
	stays(sub { stats($simulator)->{requests} }, 0, 0.7, 'not before send_after');
	becomes(sub { stats($simulator)->{requests} }, 1, 'but then', seconds => 5);
	is(ask("SELECT status, attempts FROM sms_outbox WHERE content = 'too late'"), 'expired|0', 'not after expires_at');
};

subtest 'a paused gateway; and priority' => sub {
	ask("SELECT sms_pause('shop', 'test')");
	forget($simulator);
	ask("INSERT INTO sms_outbox (gateway, phone, content, priority)
		SELECT 'shop', '0901234567', 'p' || p, p FROM unnest('{0,5,-5,3,9}'::int[]) p");
	queue_text('shop', 'expires while paused', expires_at => "now() + interval '1s'");
	queue_text('cpaas', 'another gateway');
	becomes(sub { stats($simulator)->{requests} }, 1, 'a paused gateway holds up no other', seconds => 5);
	becomes(sub { status_of('expires while paused') }, 'expired', 'a message expires on time even then', seconds => 9);
	is(ask("SELECT state, reason, queued FROM sms_gateways WHERE name = 'shop'"), 'paused|test|5',
		'the view says that it is paused');
	ask("ALTER SERVER shop OPTIONS (ADD max_in_flight '1')");
	ask("SELECT sms_resume('shop')");
	finish($node, 20);
	is(arrived(qr/MainService/), 'p9,p5,p3,p0,p-5', 'the highest priority first');
	ask("ALTER SERVER shop OPTIONS (DROP max_in_flight)");
};

subtest 'retries, with back-off, then failed' => sub {
	fault($simulator, fault => 'http', value => 503, count => 2);
	queue_text('shop', 'twice down');
	becomes(sub { status_of('twice down') }, 'sent', 'a message is tried again', seconds => 10);
	is(ask("SELECT attempts FROM sms_outbox WHERE content = 'twice down'"), '3', 'and counts its attempts');
	ask("ALTER SERVER shop OPTIONS (ADD max_attempts '2')");
	fault($simulator, fault => 'http', value => 503);
	my $id = queue_text('shop', 'always down');
	becomes(sub { status_of('always down') }, 'failed', 'until its attempts are used up', seconds => 10);
	is(ask("SELECT attempts, result_code, http_status FROM sms_outbox WHERE id = $id"), '2|503|503',
		'with the last answer');
	no_faults($simulator);
	is(ask("SELECT sms_retry($id)"), 't', 'sms_retry takes it up again');
	finish($node, 10);
	is(ask("SELECT status, attempts FROM sms_outbox WHERE id = $id"), 'sent|1', 'and it is sent');
	ask("ALTER SERVER shop OPTIONS (DROP max_attempts)");
};

subtest 'a message on its way cannot be canceled' => sub {
	fault($simulator, fault => 'latency', value => 1000 * patience());
	my $id = queue_text('shop', 'on its way');
	becomes(sub { in_flight('shop') }, '1', 'in_flight counts it', seconds => 5);
	is(ask("SELECT sms_cancel($id)"), 'f', 'too late to cancel');
	finish($node, 10);
	is(status_of('on its way'), 'sent', 'it was sent');
	no_faults($simulator);
};

subtest "triggers of the user's work, and a failing one loses nothing" => sub {
	ask(q{CREATE TABLE seen (id bigint, status sms_status);
		CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF NEW.content = 'poison' THEN RAISE 'no'; END IF;
			INSERT INTO seen VALUES (NEW.id, NEW.status);
			RETURN NULL;
		END $$;
		CREATE TRIGGER note AFTER UPDATE ON sms_outbox FOR EACH ROW EXECUTE FUNCTION note();});
	forget($simulator);
	ask("INSERT INTO sms_outbox (gateway, phone, content)
		SELECT 'shop', '0901234567', CASE i WHEN 5 THEN 'poison' ELSE 'fine ' || i END FROM generate_series(1, 20) i");
	finish($node, 10);
	is(ask("SELECT count(*) FROM sms_outbox
			WHERE (content = 'poison' OR content LIKE 'fine %') AND status = 'sent'"), '20', 'all are recorded');
	is(ask("SELECT count(*), count(DISTINCT id) FROM seen"), '19|19', 'the trigger saw the others');
	is(stats($simulator)->{requests}, 20, 'each was sent once');
	ask("DROP TRIGGER note ON sms_outbox");
};

subtest 'a row that somebody locks delays only itself' => sub {
	fault($simulator, fault => 'latency', value => 300 * patience());
	my $locked = queue_text('shop', 'locked');
	becomes(sub { in_flight('shop') }, '1', 'a message is on its way', seconds => 5);
	my $holder = IPC::Run::start([ $node->installed_command('psql'), '-XAtq', '-d', $node->connstr('postgres'), '-c',
			"BEGIN; SELECT id FROM sms_outbox WHERE id = $locked FOR UPDATE;
			SELECT pg_sleep(" . 3 * patience() . "); COMMIT" ], '>', \my $ignored);
	queue_text('shop', 'beside it');
	becomes(sub { status_of('beside it') }, 'sent', 'another message goes on', seconds => 3);
	$holder->finish;
	becomes(sub { status_of('locked') }, 'sent', 'and it is recorded in the end', seconds => 10);
	no_faults($simulator);
};

subtest 'gateways that change while messages wait' => sub {
	ask("SELECT sms_pause('shop', 'test')");
	queue_text('shop', 'brand');
	ask("ALTER SERVER shop OPTIONS (SET brandname 'NEWNAME')");
	ask("SELECT sms_resume('shop')");
	finish($node, 10);
	is((grep { $_->{content} eq 'brand' } requests($simulator))[0]{body}{Brandname}, 'NEWNAME',
		'an altered server counts at the next message');
	ask("SELECT sms_pause('shop', 'test')");
	my $id = queue_text('shop', 'no mapping');
	ask("DROP USER MAPPING FOR PUBLIC SERVER shop; SELECT sms_resume('shop')");
	becomes("SELECT status, result_code, attempts FROM sms_outbox WHERE id = $id", 'queued|held|0',
		'without a user mapping a message is held, and says so', seconds => 5);
	ask("CREATE USER MAPPING FOR PUBLIC SERVER shop OPTIONS (api_key 'demo', secret_key 'demo')");
};

subtest 'without the library preloaded sms_drain does the work' => sub {
	$node->stop;
	$node = server('bare', preload => 0);
	forget($simulator);
	gateways($node, $simulator);
	ask("INSERT INTO sms_outbox (gateway, phone, content)
		SELECT 'shop', '0901234567', 'm' || i FROM generate_series(1, 300) i");
	is(stats($simulator)->{requests}, 0, 'nothing goes by itself');
	ask("CALL sms_drain()");
	is(ask("SELECT status, count(*), count(DISTINCT smsid) FROM sms_outbox GROUP BY 1"), 'sent|300|300',
		'sms_drain sends all');
	is(stats($simulator)->{requests}, 300, 'once');
};

$node->stop;
done_testing();
