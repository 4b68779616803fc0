# Everyday trouble: what somebody locks, publishes, fills or lets fail costs that one, and sending goes on.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use IPC::Run ();
use SmsTest;
use Test::More;
use Time::HiRes qw(time);

my $simulator = simulator();
my $node = server('trouble', settings => "max_prepared_transactions = 5\nwal_level = logical\n");
gateways($node, $simulator, cpaas => "fallback 'shop'");
my $serial = 0;
my $log_from = 0;

# Begins a transaction in a session of its own, which stays open; returns the session.
sub open_transaction
{
	my ($sql) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_safe("BEGIN; $sql");
	return $session;
}

# Ends such a transaction.
sub end_transaction { my ($session) = @_; $session->query_safe('ROLLBACK'); $session->quit; return; }

# Asserts that messages of a healthy gateway arrive within a second each, several times, for some seconds.
sub goes_on
{
	my ($name, $seconds) = @_;
	my $worst = 0;
	my $end = time + ($seconds // 2);
	do
	{
		my $text = 'healthy ' . ++$serial;
		$worst = (sort { $b <=> $a } $worst, took(sub {
			queue_text('shop', $text);
			wait_until(sub { status_of($text) eq 'sent' }, 10);
		}))[0];
	} while (time < $end);
	cmp_ok($worst, '<', 1 * slowness(), "$name: a message is sent within 1 s");
	return;
}

# Begins to count warnings.
sub mark { $log_from = -s $node->logfile; return; }

# How often the log says something since then.
sub told
{
	my ($pattern) = @_;
	my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile, $log_from);
	my $n = () = $log =~ /$pattern/g;
	return $n;
}

# The worker looks at what is kept for a time only at once, not in a minute.
sub restart { mark(); $node->restart; worker_pid($node); return; }

# The same without a restart: sessions stay open.
sub new_worker
{
	my $old = worker_pid($node);
	ask("SELECT pg_terminate_backend($old)");
	wait_until(sub { worker_pid($node) ne $old });
	return;
}

subtest 'a publication of all tables: change data capture' => sub {
	ask("CREATE PUBLICATION everything FOR ALL TABLES");
	ask("INSERT INTO sms_gateway_otp (expires_at, gateway, sent_by, phone, salt, hash)
		SELECT now() - interval '1 day', 'omni', 'omni', '84901234567', '', '' FROM generate_series(1, 1500)");
	restart();
	goes_on('published');
	becomes("SELECT count(*) FROM sms_gateway_otp", '0', 'old one-time passwords are deleted');
	ask("DROP PUBLICATION everything");
};

subtest 'a check of a one-time password that stays open beyond the life of the code' => sub {
	ask("INSERT INTO sms_gateway_otp (expires_at, gateway, sent_by, phone, salt, hash)
		SELECT now() - interval '1 day', 'omni', 'omni', '84901234567', '', '' FROM generate_series(1, 3)");
	my $open = open_transaction("DELETE FROM sms_gateway_otp WHERE id = (SELECT min(id) FROM sms_gateway_otp)");
	mark();
	new_worker();
	becomes("SELECT count(*) FROM sms_gateway_otp", '1', 'the others go');
	goes_on('one is held');
	is(told('could not delete'), 0, 'that is no trouble');
	end_transaction($open);
};

subtest 'retention, and what keeps it from deleting' => sub {
	ask("CREATE TABLE notes (message bigint REFERENCES sms_outbox);
		INSERT INTO notes SELECT id FROM sms_outbox WHERE content LIKE 'healthy%' ORDER BY id LIMIT 1;
		CREATE FUNCTION no_delete() RETURNS trigger LANGUAGE plpgsql AS \$\$
			BEGIN IF OLD.content = 'healthy 2' THEN RAISE 'not this one'; END IF; RETURN OLD; END \$\$;
		CREATE TRIGGER no_delete AFTER DELETE ON sms_outbox FOR EACH ROW EXECUTE FUNCTION no_delete()");
	ask("UPDATE sms_outbox SET ended_at = now() - interval '2 days'");
	my $open = open_transaction("SELECT id FROM sms_outbox WHERE content = 'healthy 3' FOR UPDATE");
	mark();
	$node->append_conf('postgresql.conf', "sms_gateway.retention = '1d'");
	$node->reload;
	new_worker();
	goes_on('rows that cannot be deleted', 4);
	becomes("SELECT count(*) FROM sms_outbox WHERE ended_at < now() - interval '1 day'", '3',
		'all are deleted but those three');
	is(told('WARNING:  could not delete old messages in database "postgres": .*foreign key'), 1,
		'one warning for the key');
	is(told('WARNING:  could not delete old messages in database "postgres": not this one'), 1,
		'and one for the trigger');
	end_transaction($open);
	ask("DROP TABLE notes; DROP TRIGGER no_delete ON sms_outbox");
	$node->append_conf('postgresql.conf', "sms_gateway.retention = 0");
	$node->reload;
};

subtest 'a kept report that somebody holds' => sub {
	my $open = open_transaction("INSERT INTO sms_gateway_callback (gateway, reference, report)
		VALUES ('shop', 'later', '{\"SMSID\": \"later\", \"SendStatus\": \"5\"}')");
	ask("INSERT INTO sms_gateway_callback (gateway, reference, report)
		SELECT 'shop', 'r' || i, '{}' FROM generate_series(1, 3) i");
	my $holds = open_transaction("SELECT FROM sms_gateway_callback FOR UPDATE");
	goes_on('held reports');
	end_transaction($_) for $open, $holds;
};

subtest 'messages that somebody holds when they are answered' => sub {
	mark();
	fault($simulator, fault => 'latency', value => 700, match => '/api/vendor');
	ask("INSERT INTO sms_outbox (gateway, phone, content)
		SELECT 'cpaas', '0901234567', 'held ' || i FROM generate_series(1, 10) i");
	becomes(sub { in_flight('cpaas') }, '10', 'they are under way');
	my $open = open_transaction("SELECT id FROM sms_outbox WHERE content LIKE 'held%' FOR UPDATE");
	goes_on('held', 4);
	is(ask("SELECT count(*) FROM sms_outbox WHERE content LIKE 'held%' AND status = 'queued'"), '10', 'they wait');
	end_transaction($open);
	becomes("SELECT count(*) FROM sms_outbox WHERE content LIKE 'held%' AND status = 'sent'", '10',
		'and are recorded when they are free', seconds => 8);
	is(times_received($simulator, 'held 1'), 1, 'each sent once');
	no_faults($simulator);
	is(told('ERROR|WARNING'), 0, 'that is no trouble');
};

subtest 'a trigger that fails as if the worker were told to stop, and one that meets a lock' => sub {
	mark();
	ask("CREATE TABLE tally (n int); INSERT INTO tally VALUES (0);
		CREATE FUNCTION troubled() RETURNS trigger LANGUAGE plpgsql AS \$\$
		BEGIN
			IF NEW.content = 'canceled' THEN RAISE 'as if' USING ERRCODE = '57014'; END IF;
			IF NEW.content = 'shut down' THEN RAISE 'as if' USING ERRCODE = '57P01'; END IF;
			IF NEW.content = 'counted' THEN UPDATE tally SET n = n + 1; END IF;
			RETURN NULL;
		END \$\$;
		CREATE TRIGGER troubled AFTER UPDATE ON sms_outbox FOR EACH ROW EXECUTE FUNCTION troubled()");
	my $open = open_transaction("UPDATE tally SET n = n");
	queue_text('shop', $_) for 'canceled', 'shut down', 'counted';
	goes_on('failing triggers', 3);
	becomes(sub { status_of('canceled') }, 'sent', 'a 57014 of a trigger is passed over');
	is(status_of('shut down'), 'sent', 'a 57P01 too');
	is(status_of('counted'), 'queued', 'a lock is waited for');
	end_transaction($open);
	becomes("SELECT status, n FROM sms_outbox, tally WHERE content = 'counted'", 'sent|1',
		'and costs the trigger nothing', seconds => 8);
	ask("DROP TRIGGER troubled ON sms_outbox");
};

subtest 'a fallback that has a message with this request_id' => sub {
	queue_text('shop', 'first', request_id => "'order-1'");
	becomes(sub { status_of('first') }, 'sent', 'one is there');
	mark();
	fault($simulator, fault => 'http', value => 400, match => '/api/vendor');
	queue_text('cpaas', 'second', request_id => "'order-1'");
	goes_on('a clash');
	becomes("SELECT gateway, status FROM sms_outbox WHERE content = 'second'", 'cpaas|failed', 'it ends where it is');
	like(ask("SELECT result_message FROM sms_outbox WHERE content = 'second'"), qr/not moved to "shop", which has/,
		'and says so');
	no_faults($simulator);
	is(told('ERROR'), 0, 'no error');
};

subtest 'a message in doubt that somebody holds after a crash' => sub {
	hang($simulator, match => '/api/vendor');
	queue_text('cpaas', $_) for 'doubt 1', 'doubt 2';
	becomes(sub { in_flight('cpaas') }, '2', 'two are under way');
	ask("BEGIN; SELECT id FROM sms_outbox WHERE content = 'doubt 1' FOR UPDATE; PREPARE TRANSACTION 'held'");
	$node->stop('immediate');
	no_faults($simulator);
	forget($simulator);
	$node->start;
	worker_pid($node);
	goes_on('one in doubt is held', 3);
	becomes(sub { status_of('doubt 2') }, 'uncertain', 'the other is settled at once');
	is(status_of('doubt 1'), 'queued', 'the one is not');
	ask("ROLLBACK PREPARED 'held'");
	becomes(sub { status_of('doubt 1') }, 'uncertain', 'it is settled later, by itself', seconds => 8);
	is(times_received($simulator, 'doubt 1'), 0, 'and was never claimed');
	becomes("SELECT count(*) FROM sms_gateway_lease", '0', 'no lease is left');
};

subtest 'an open sms_pause while the gateway refuses us' => sub {
	ask("ALTER SERVER cpaas OPTIONS (DROP fallback)");
	mark();
	my $open = open_transaction("SELECT sms_pause('cpaas', 'mine')");
	fault($simulator, fault => 'http', value => 401, match => '/api/vendor');
	queue_text('cpaas', 'refused');
	becomes(sub { told('gateway "cpaas" is paused') }, '1', 'the gateway refuses');
	goes_on('a pause cannot be written', 4);
	is(told('WARNING:  could not write down a pause in database "postgres"'), 1, 'one warning says so');
	end_transaction($open);
	becomes("SELECT state FROM sms_gateways WHERE name = 'cpaas'", 'paused', 'it is written later', seconds => 15);
	no_faults($simulator);
	ask("SELECT sms_resume('cpaas')");
	becomes(sub { status_of('refused') }, 'sent', 'and the message goes in the end');
};

# Nothing can be written into the queue of NOTIFY, as when it is full.
subtest 'no room for NOTIFY' => sub {
	mark();
	my $dir = $node->data_dir . '/pg_notify';
	my $listener = $node->background_psql('postgres', on_error_stop => 0);
	$listener->query_safe('LISTEN sms_gateway');
	ask("SELECT pg_notify('filler', repeat('x', 7000)) FROM generate_series(1, 3)");
	chmod 0500, $dir;
	unlink glob "$dir/*";
	error_of("SELECT pg_notify('filler', i || repeat('x', 7000)) FROM generate_series(1, 50) i");
	like(error_of("SELECT pg_notify('filler', i || repeat('x', 7000)) FROM generate_series(1, 50) i"), qr/ERROR/,
		'NOTIFY fails');
	fault($simulator, fault => 'http', value => 400, match => '/api/vendor');
	ask("INSERT INTO sms_outbox (gateway, phone, content)
		SELECT 'cpaas', '0901234567', 'untold ' || i FROM generate_series(1, 200) i");
	becomes("SELECT count(*) FROM sms_outbox WHERE content LIKE 'untold%' AND status = 'failed'", '200',
		'failures are recorded', seconds => 10);
	goes_on('events cannot be told', 4);
	is(told('WARNING:  could not tell events in database "postgres"'), 1, 'one warning says so');
	chmod 0700, $dir;
	no_faults($simulator);
	my %seen;
	becomes(sub { $seen{$_}++ for $listener->query('SELECT 1') =~ /"id": ?(\d+)/g; scalar keys %seen }, '200',
		'they are told later');
	$listener->quit;
};

subtest 'the time of the end' => sub {
	is(ask("SELECT count(*) FROM sms_outbox WHERE (status = 'queued') <> (ended_at IS NULL)"), '0',
		'what is not queued has one');
	queue_text('shop', 'ends');
	becomes(sub { status_of('ends') }, 'sent', 'sent');
	is(ask("SELECT ended_at BETWEEN sent_at AND now() FROM sms_outbox WHERE content = 'ends'"), 't', 'that is its end');
	queue_text('shop', 'ends late', expires_at => "(SELECT now() + interval '1 ms' FROM pg_sleep(0.01))");
	becomes(sub { status_of('ends late') }, 'expired', 'expired');
	is(ask("SELECT sms_retry(id) FROM sms_outbox WHERE content = 'ends late'"), 't', 'tried again');
	becomes("SELECT status, ended_at >= sent_at FROM sms_outbox WHERE content = 'ends late'", 'sent|t', 'it ends anew');
	ask("INSERT INTO sms_outbox (gateway, phone, content, request_id, created_by, created_at, status, sent_at, origin)
		VALUES ('shop', '84901234567', 'restored', 'sgw-1', current_user, now(), 'sent', '2026-01-01', 1)");
	is(ask("SELECT ended_at = sent_at FROM sms_outbox WHERE content = 'restored'"), 't', 'a restored row has one too');
};

subtest 'retention goes by the end, and idle as fast as busy' => sub {
	ask("SET session_replication_role = replica;
		INSERT INTO sms_outbox (gateway, phone, content, request_id, created_by, created_at, status, ended_at, origin)
		SELECT 'shop', '84901234567', 'old', 'sgw-' || i, current_user, now() - interval '3 days', 'sent',
			now() - interval '2 days', 1 FROM generate_series(1, 50000) i;
		UPDATE sms_outbox SET created_at = now() - interval '3 days' WHERE content = 'ends'");
	like(error_of("ALTER SYSTEM SET sms_gateway.retention = 30"), qr/at least one hour/, '30 is refused');
	$node->append_conf('postgresql.conf', "sms_gateway.retention = '1d'");
	$node->reload;
	cmp_ok(took(sub { becomes("SELECT count(*) FROM sms_outbox WHERE content = 'old'", '0', 'all that is old goes') }),
		'<', 17 * slowness(), '50000 in a few seconds, after at most 10 s');
	is(status_of('ends'), 'sent', 'what ended lately stays');
	$node->append_conf('postgresql.conf', "sms_gateway.retention = 0");
	$node->reload;
};

subtest 'send_after -infinity; sms_wait under repeatable read' => sub {
	queue_text('shop', 'long ago', send_after => "'-infinity'");
	becomes(sub { status_of('long ago') }, 'sent', 'it is sent', seconds => 3);
	fault($simulator, fault => 'latency', value => 500);
	queue_text('shop', 'waited for');
	my $seconds = took(sub {
		is(ask("SET default_transaction_isolation = 'repeatable read'; SELECT sms_wait('10 s')"), 't', 'all is sent');
	});
	cmp_ok($seconds, '<', 5 * slowness(), 'and that is seen when it is');
	no_faults($simulator);
};

subtest 'tables of the extension that somebody has locked' => sub {
	ask("INSERT INTO sms_gateway_callback (gateway, reference, report) VALUES ('shop', 'locked', '{}')");
	my $open = open_transaction("LOCK TABLE sms_gateway_callback, sms_gateway_state,
		sms_gateway_otp, sms_gateway_usage");
	new_worker();
	stays("SELECT count(*) FROM sms_outbox WHERE status = 'queued'", '0', 0, 'nothing waits');
	queue_text('shop', 'unknown pauses');
	stays(sub { status_of('unknown pauses') }, 'queued', 1, 'nothing is sent before pauses are known');
	$open->query_safe('ROLLBACK');
	becomes(sub { status_of('unknown pauses') }, 'sent', 'then it is', seconds => 2);
	$open->query_safe('BEGIN; LOCK TABLE sms_gateway_callback, sms_gateway_state, sms_gateway_otp, sms_gateway_usage');
	goes_on('locked tables', 4);
	end_transaction($open);
};

subtest 'a message queued while a trigger waits' => sub {
	ask("CREATE FUNCTION sleeps() RETURNS trigger LANGUAGE plpgsql AS \$\$
			BEGIN IF NEW.content LIKE 'sleeps%' THEN PERFORM pg_sleep(0.1); END IF; RETURN NULL; END \$\$;
		CREATE TRIGGER sleeps AFTER UPDATE ON sms_outbox FOR EACH ROW EXECUTE FUNCTION sleeps()");
	for my $i (1 .. 3)
	{
		queue_text('shop', "sleeps $i");
		wait_until(sub { times_received($simulator, "sleeps $i") == 1 });
		queue_text('shop', "meanwhile $i");
		cmp_ok(took(sub { wait_until(sub { status_of("meanwhile $i") eq 'sent' }, 10) }), '<', 1.5 * slowness(),
			'it is sent right after that');
	}
	ask("DROP TRIGGER sleeps ON sms_outbox");
};

# What triggers of users do, by the message's text.
my %ways = (
	'class 40001' => "RAISE 'no' USING ERRCODE = '40001'",
	'class 40P01' => "RAISE 'no' USING ERRCODE = '40P01'",
	'class 55P03' => "RAISE 'no' USING ERRCODE = '55P03'",
	'class 57014' => "RAISE 'no' USING ERRCODE = '57014'",
	'class 57P01' => "RAISE 'no' USING ERRCODE = '57P01'",
	'class 53100' => "RAISE 'no' USING ERRCODE = '53100'",
	'class XX000' => "RAISE 'no' USING ERRCODE = 'XX000'",
	'divides' => "PERFORM 1 / (n - n) FROM tally",
	'recurses' => "UPDATE sms_outbox SET price = 1 WHERE id = NEW.id",
	'violates' => "INSERT INTO refers VALUES (0)",
	'locks' => "LOCK TABLE tally IN ACCESS EXCLUSIVE MODE",
	'sleeps' => "PERFORM pg_sleep(10)",
	'for ever' => "LOOP NULL; END LOOP");
my @try_again = ('class 40001', 'class 40P01', 'class 55P03', 'locks');

subtest 'triggers that fail in every way when a message is recorded, or expires' => sub {
	my $ways = join "\n", map { "IF NEW.content LIKE '%$_' THEN $ways{$_}; END IF;" } sort keys %ways;
	ask("CREATE TABLE IF NOT EXISTS tally (n int); CREATE TABLE refers (message bigint REFERENCES sms_outbox);
		CREATE FUNCTION fails_every_way() RETURNS trigger LANGUAGE plpgsql AS \$\$
			BEGIN $ways RETURN NULL; END \$\$;
		CREATE TRIGGER fails_every_way AFTER UPDATE ON sms_outbox FOR EACH ROW EXECUTE FUNCTION fails_every_way()");
	my $open = open_transaction("LOCK TABLE tally IN ROW EXCLUSIVE MODE");
	mark();
	queue_text('shop', "$_ record $_") for sort keys %ways;
	ask("SELECT sms_pause('cpaas', 'so that messages expire')");
	queue_text('cpaas', "expiry $_", expires_at => "now() + '1 s'") for sort keys %ways;
	goes_on('triggers that fail', 5);
	my $later = join ', ', map { "'$_ record $_'" } @try_again;
	becomes("SELECT count(*) FROM sms_outbox WHERE content LIKE '% record %' AND status <> 'sent'
		AND content NOT IN ($later)", '0', 'outcomes are recorded');
	becomes("SELECT count(*) FROM sms_outbox WHERE content LIKE 'expiry %' AND status <> 'expired'", '0',
		'messages expire');
	ask("SELECT sms_resume('cpaas')");
	cmp_ok(told('WARNING:  triggers on sms_outbox failed for message \d+, .*: it takes longer than \d+ ms'), '>=', 4,
		'who takes too long is told');
	end_transaction($open);
	ask("DROP TRIGGER fails_every_way ON sms_outbox");
	becomes("SELECT count(*) FROM sms_outbox WHERE content LIKE '% record %' AND status <> 'sent'", '0',
		'and what was tried again is recorded', seconds => 8);
	is(times_received($simulator, 'locks record locks'), 1, 'each is sent once');
	ask("DROP TABLE refers; DROP FUNCTION fails_every_way");
};

subtest 'a trigger that drops its own function' => sub {
	ask("CREATE FUNCTION drops() RETURNS trigger LANGUAGE plpgsql AS \$\$
			BEGIN DROP FUNCTION drops() CASCADE; RETURN NULL; END \$\$;
		CREATE TRIGGER drops AFTER UPDATE ON sms_outbox FOR EACH ROW EXECUTE FUNCTION drops()");
	goes_on('a trigger that goes', 1);
	ask("DROP FUNCTION IF EXISTS drops() CASCADE");
};

subtest 'a trigger that sleeps for each message' => sub {
	ask("CREATE FUNCTION always() RETURNS trigger LANGUAGE plpgsql AS \$\$
			BEGIN PERFORM pg_sleep(10); RETURN NULL; END \$\$;
		CREATE TRIGGER always AFTER UPDATE ON sms_outbox FOR EACH ROW EXECUTE FUNCTION always()");
	ask("INSERT INTO sms_outbox (gateway, phone, content)
		SELECT 'cpaas', '0901234567', 'slow ' || i FROM generate_series(1, 50) i");
	goes_on('always', 4);
	becomes("SELECT count(*) FROM sms_outbox WHERE content LIKE 'slow %' AND status = 'sent'", '50',
		'all are recorded');
	ask("DROP TRIGGER always ON sms_outbox");
};

subtest 'a row that the owner lets nobody change' => sub {
	queue_text('shop', 'checked', send_after => "now() + '1 s'");
	ask("ALTER TABLE sms_outbox ADD COLUMN mine int GENERATED ALWAYS AS (CASE WHEN content = 'generated'
			AND status <> 'queued' THEN 1 / (attempts - attempts) END) STORED,
		ADD CONSTRAINT mine CHECK (content <> 'checked' OR status = 'queued')");
	queue_text('shop', 'generated');
	goes_on('a CHECK and a generated column', 4);
	is(ask("SELECT string_agg(status::text, ' ') FROM sms_outbox WHERE content IN ('checked', 'generated')"),
		'queued queued', 'those two wait');
	ask("ALTER TABLE sms_outbox DROP CONSTRAINT mine, DROP COLUMN mine");
	becomes("SELECT string_agg(status::text, ' ') FROM sms_outbox WHERE content IN ('checked', 'generated')",
		'sent sent', 'until they may', seconds => 20);
	is(times_received($simulator, 'generated'), 1, 'and are sent once');
};

subtest 'retention beside a DELETE trigger that sleeps, and a foreign key whose check waits' => sub {
	ask("CREATE FUNCTION sleeps_long() RETURNS trigger LANGUAGE plpgsql AS \$\$
			BEGIN IF OLD.content = 'slow 1' THEN PERFORM pg_sleep(10); END IF; RETURN OLD; END \$\$;
		CREATE TRIGGER sleeps_long AFTER DELETE ON sms_outbox FOR EACH ROW EXECUTE FUNCTION sleeps_long();
		CREATE TABLE refers (message bigint REFERENCES sms_outbox ON DELETE CASCADE);
		INSERT INTO refers SELECT id FROM sms_outbox WHERE content = 'slow 2'");
	ask("UPDATE sms_outbox SET ended_at = now() - interval '2 days' WHERE content LIKE 'slow %'");
	my $open = open_transaction("SELECT FROM refers FOR UPDATE");
	mark();
	$node->append_conf('postgresql.conf', "sms_gateway.retention = '1d'");
	$node->reload;
	new_worker();
	goes_on('retention', 6);
	becomes("SELECT string_agg(content, ' ' ORDER BY id) FROM sms_outbox WHERE content LIKE 'slow %'", 'slow 1 slow 2',
		'all are deleted but those two');
	is(told('WARNING:  could not delete old messages in database "postgres": it takes longer than 200 ms'), 1,
		'one warning says why');
	end_transaction($open);
	ask("DROP TABLE refers; DROP TRIGGER sleeps_long ON sms_outbox");
	$node->append_conf('postgresql.conf', "sms_gateway.retention = 0");
	$node->reload;
};

subtest 'trouble in a session that drains is a warning' => sub {
	$node->append_conf('postgresql.conf', "sms_gateway.databases = 'nothing'\nsms_gateway.retention = '1d'");
	$node->restart;
	becomes("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sms_gateway worker'", '0', 'no worker runs');
	queue_text('shop', 'drained');
	ask("CREATE TABLE notes (message bigint REFERENCES sms_outbox);
		INSERT INTO notes SELECT id FROM sms_outbox WHERE content = 'ends';
		UPDATE sms_outbox SET ended_at = now() - interval '2 days' WHERE content = 'ends'");
	my $said;
	is($node->psql('postgres', "CALL sms_drain()", stderr => \$said), 0, 'it succeeds');
	like($said, qr/WARNING:  could not delete old messages in database "postgres": .*foreign key/, 'and says so');
	is(status_of('drained'), 'sent', 'the message is sent');
};

$node->stop;

# It catches what cancels it, each time.
subtest 'a fast stop ends a worker whose transaction waits' => sub {
	my $stops = server('stops');
	gateways($stops, $simulator);
	ask("CREATE FUNCTION sleeps() RETURNS trigger LANGUAGE plpgsql AS \$\$
			BEGIN
				WHILE NEW.content LIKE 'sleeps%' LOOP
					BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END;
				END LOOP;
				RETURN NULL;
			END \$\$;
		CREATE TRIGGER sleeps AFTER UPDATE ON sms_outbox FOR EACH ROW EXECUTE FUNCTION sleeps()");
	queue_text('shop', 'sleeps');
	becomes("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", '1', 'a trigger waits');
	cmp_ok(took(sub { $stops->stop('fast') }), '<', 5 * slowness(), 'the server stops within 5 s');
};

# streaming: without any walsender allowed, nobody waits for a standby.
subtest 'a fast stop beside a synchronous standby that is gone: nothing goes twice, nothing is lost' => sub {
	my $alone = server('alone', streaming => 1);
	my $gone = sub {
		$alone->append_conf('postgresql.conf', "synchronous_standby_names = '$_[0]'");
		$alone->reload;
		becomes('SHOW synchronous_standby_names', $_[0], "synchronous standby: '$_[0]'");
	};
	my $load = sub {
		my ($text) = @_;
		ask("SET synchronous_commit = local;
			INSERT INTO sms_outbox (gateway, phone, content) SELECT 'cpaas', '0901234567', '$text ' || i
			FROM generate_series(1, 30) i");
	};
	my $waits = "SELECT count(*) FROM pg_stat_activity
		WHERE backend_type = 'sms_gateway worker' AND wait_event = 'SyncRep'";
	my $arrived = sub { my ($text) = @_; return scalar grep { $_->{content} =~ /^$text/ } requests($simulator) };
	gateways($alone, $simulator, cpaas => "max_in_flight '10'");
	worker_pid($alone);

	$gone->('gone');
	$load->('claim');
	becomes($waits, '1', 'the claim waits for the standby');
	is($arrived->('claim'), 0, '… and nothing is sent before that');
	cmp_ok(took(sub { $alone->stop('fast') }), '<', 5 * slowness(), 'the server stops within 5 s');
	is($arrived->('claim'), 0, 'a wait that is cut short is no leave to send');
	$alone->start;
	becomes($waits, '1', 'the next worker waits, too');
	cmp_ok(took(sub { $alone->stop('immediate') }), '<', 5 * slowness(), 'an immediate stop');
	$alone->start;
	$gone->('');
	becomes("SELECT count(*) FROM sms_outbox WHERE status = 'queued'", '0', 'all is done when none is waited for');
	my $sent = ask("SELECT count(*) FROM sms_outbox WHERE status = 'sent'");
	is($arrived->('claim'), $sent, "what arrived is sent ($sent of 30), and nothing twice");
	is(ask("SELECT count(*) FROM sms_outbox WHERE status = 'uncertain'"), 30 - $sent, 'the rest is in doubt');

	fault($simulator, fault => 'latency', value => 1500, match => '/api/vendor');
	$load->('record');
	becomes(sub { $arrived->('record') }, '10', 'ten are under way');
	$gone->('gone');
	becomes($waits, '1', 'the record waits for the standby');
	cmp_ok(took(sub { $alone->stop('fast') }), '<', 5 * slowness(), 'the server stops within 5 s');
	$alone->start;
	$gone->('');
	no_faults($simulator);
	becomes("SELECT count(*) FROM sms_outbox WHERE status = 'queued'", '0', 'all is done in the end');
	my %times;
	$times{ $_->{content} }++ for grep { $_->{content} =~ /^record/ } requests($simulator);
	is(scalar(grep { $_ > 1 } values %times), 0, 'nothing went twice');
	my %rows = map { split /\|/ } split /\n/,
		ask("SELECT content, status FROM sms_outbox WHERE content LIKE 'record%'");
	is(scalar(grep { $rows{$_} eq 'sent' && !$times{$_} } keys %rows), 0, 'what is called sent has arrived');
	diag(ask("SELECT split_part(content, ' ', 1), status, count(*) FROM sms_outbox GROUP BY 1, 2 ORDER BY 1, 2"));
	$alone->stop;
};

done_testing();
