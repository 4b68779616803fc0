# Counters of limits and of one-time passwords: exact, durable, and sound for PostgreSQL's own checks, whatever is done
# to their table meanwhile.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SmsTest;
use Test::More;
use Time::HiRes qw(time);

my $simulator = simulator();
my $node = server('counters', streaming => 1, settings => "wal_consistency_checking = 'all'\n"
		. "max_prepared_transactions = 5\nmax_connections = 60\nsynchronous_commit = local\n");
gateways($node, $simulator, shop => "otp_per_phone 'off', fallback 'cpaas'", cpaas => "otp_per_phone 'off'");
ask("CREATE EXTENSION amcheck; SELECT sms_pause('shop', 'counters')");
worker_pid($node);
my $into = "INSERT INTO sms_outbox (gateway, phone, content)";
my $scripts = 0;

# Sets limits of the gateway shop, in place of those that it has.
sub limits
{
	my ($set) = @_;
	my $has = ask("SELECT string_agg('DROP ' || split_part(o, '=', 1), ', ')
		FROM pg_foreign_server, unnest(srvoptions) o
		WHERE srvname = 'shop' AND o ~ '^(per_phone|per_role|daily_budget)='");
	my $options = join ', ', grep { $_ ne '' } $has, $set;
	ask("ALTER SERVER shop OPTIONS ($options)") if $options ne '';
	ask("DELETE FROM sms_gateway_usage; DELETE FROM sms_outbox");
	return;
}

# What a counter of shop has counted.
sub used
{
	my ($subject) = @_;
	$subject =~ s/^phone \K(.*)/hidden($1)/e;
	return "SELECT coalesce(sum(used), 0) FROM sms_gateway_usage WHERE gateway = 'shop' AND subject = '$subject'";
}

# A session of its own, in which SQL may fail.
sub session { return $node->background_psql('postgres', on_error_stop => 0); }

# Starts sessions of pgbench that run a script for some seconds, or so often each.
sub bench
{
	my ($sql, $sessions, @how) = @_;
	my $file = $node->basedir . '/script' . ++$scripts;
	append_to_file($file, $sql);
	return IPC::Run::start([ $node->installed_command('pgbench'), '-n', '-c', $sessions, '-j', 2, @how, '-f', $file,
			'-h', $node->host, '-p', $node->port, 'postgres' ], '>', '/dev/null', '2>', \my $errors);
}

# Table and indexes as PostgreSQL's own checks see them; they wait until nobody sees an old state.
sub is_sound
{
	my ($name) = @_;
	is(ask("SELECT string_agg(msg, ', ') FROM verify_heapam('sms_gateway_usage')"), '', "$name: the table is sound");
	is(error_of("SELECT bt_index_check('sms_gateway_usage_pkey', true)"), '', '… every row is in the index');
	is(ask("SELECT count(*) FROM (SELECT FROM sms_gateway_usage GROUP BY gateway, subject HAVING count(*) > 1) d"), '0',
		'… and none is there twice');
	return;
}

my @upheavals = ('VACUUM FULL sms_gateway_usage', 'REINDEX TABLE sms_gateway_usage', 'VACUUM sms_gateway_usage',
	'REINDEX TABLE CONCURRENTLY sms_gateway_usage', 'VACUUM FREEZE sms_gateway_usage');

subtest 'exact, while the table is rewritten and its index built anew' => sub {
	limits("ADD per_role '150/hour', ADD per_phone '3/hour', ADD daily_budget '100'");
	my $one = "\\set n random(100, 999)\n$into VALUES ('shop', '0901234' || :n, 'x');\n";
	my @loads = map { bench($one, 1, '-t', 20) } 1 .. 20;
	for my $round (1 .. 2)
	{
		ask($_) for @upheavals;
	}
	$_->finish for @loads;
	is(ask("SELECT count(*) FROM sms_outbox"), '100', 'a daily budget of 100 lets exactly so many through');
	becomes(used('day'), '100', 'as many are counted');
	becomes("SELECT sum(used) FROM sms_gateway_usage WHERE subject LIKE 'phone %'", '100', 'also for each phone');
	is_sound('after that');
};

subtest 'statements of many new phones, at once, are exact' => sub {
	limits("ADD per_phone '3/hour'");
	my $many = "$into SELECT 'shop', '0905' || lpad(i::text, 6, '0'), 'x' FROM generate_series(1, 400) i;\n";
	bench($many, 5, '-t', 1)->finish;
	is(ask("SELECT count(*) FROM sms_outbox"), 3 * 400, 'three of five go through');
	my $counters = "SELECT used, count(*) FROM sms_gateway_usage WHERE subject LIKE 'phone %' GROUP BY 1";
	becomes($counters, '3|400', 'each phone is counted three times');
	ask("BEGIN; DELETE FROM sms_gateway_usage; $many; ROLLBACK");
	becomes($counters, '3|400', 'who deletes them, queues as many and rolls back has changed nothing');
	is_sound('after that');
};

subtest 'a mixed load with DELETE and TRUNCATE, a crash, and recovery that compares each page' => sub {
	limits("ADD per_phone '1000/hour', ADD per_role '1000000/hour', ADD daily_budget '1000000'");
	my $mix = "\\set n random(100, 400)\n\\set bad random(0, 2)\nBEGIN;\n$into VALUES ('shop', '0901234' || :n, 'x');\n"
		. "SAVEPOINT s;\n$into SELECT 'shop', '0902234' || :n, 'x' FROM generate_series(1, 5);\nROLLBACK TO s;\n"
		. "SELECT CASE WHEN :bad = 0 THEN (SELECT sms_check_otp('0903234' || :n, '1', 'cpaas')) END;\nROLLBACK;\n"
		. "$into VALUES ('shop', '0904234' || :n, 'x');\n";
	my $load = bench($mix, 20, '-T', 30);
	for my $round (1 .. 2)
	{
		for my $upheaval (@upheavals, "DELETE FROM sms_gateway_usage WHERE subject LIKE 'phone %7'",
			'TRUNCATE sms_gateway_usage', 'DELETE FROM sms_gateway_usage')
		{
			my $took = took(sub { ask($upheaval) });
			next if $upheaval !~ /CONCURRENTLY/;
			cmp_ok($took, '<', 4 * slowness(), 'who makes rows and who builds an index do not wait for each other');
		}
	}
	becomes(used('day'), qr/^[1-9]/, 'counting goes on');
	$node->stop('immediate');
	$load->finish;
	$node->start;
	worker_pid($node);
	unlike(slurp_file($node->logfile), qr/inconsistent page/, 'recovery finds each page as it was');
	is_sound('after the crash');
};

subtest 'a standby has the same counters' => sub {
	limits("ADD per_phone '1000/hour', ADD daily_budget '1000000'");
	$node->backup('base');
	my $standby = PostgreSQL::Test::Cluster->new('standby');
	$standby->init_from_backup($node, 'base', has_streaming => 1);
	$standby->start;
	ask("$into SELECT 'shop', '090123' || i, 'x' FROM generate_series(1000, 1299) i");
	error_of("BEGIN; SELECT sms_check_otp('0901231000', 'wrong', 'cpaas'); ROLLBACK") for 1 .. 3;
	$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
	my $all = "SELECT md5(string_agg(u::text, ',' ORDER BY u::text)) FROM sms_gateway_usage u";
	is(ask_on($standby, $all), ask($all), 'to the message, and to the try of a transaction that rolled back');
	unlike(slurp_file($standby->logfile), qr/inconsistent page/, 'each page is as it was');
	$standby->stop;
	ask("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots");
};

subtest 'a rollback gives back at the latest when its session is idle' => sub {
	limits("ADD per_role '100/hour', ADD per_phone '10/hour'");
	my $idle = session();
	$idle->query("BEGIN; $into VALUES ('shop', '0901234567', 'x'); ROLLBACK;");
	becomes(used('phone 84901234567'), '0', 'after ROLLBACK, in a session that does nothing more');
	$idle->query("BEGIN; $into VALUES ('shop', '0901234567', 'x'); SELECT 1/0;");
	$idle->query("ROLLBACK");
	becomes(used('phone 84901234567'), '0', 'after an error and ROLLBACK');
	$idle->query("$into SELECT 'shop', '0901234567', 'x' FROM generate_series(1, 11);");
	becomes(used('phone 84901234567'), '0', 'after a statement that was refused');
	is($idle->query('SELECT 1'), '1', 'the session is as it was');
	$idle->quit;
};

# Has the transaction of a session roll back; is the session then as it was, idle and to be canceled?
sub rolls_back
{
	my ($name, $session, $pid) = @_;
	# Each of these answers, or the test ends by background_psql's time-out.
	$session->query('ROLLBACK');
	becomes("SELECT state, wait_event FROM pg_stat_activity WHERE pid = $pid", 'idle|ClientRead', "$name: it is idle");
	stays("SELECT wait_event FROM pg_stat_activity WHERE pid = $pid", 'ClientRead', 0.3, '… and waits for nobody');
	$session->{stdin} .= "SELECT pg_sleep(100);\n";
	$session->{run}->pump_nb;
	becomes("SELECT state FROM pg_stat_activity WHERE pid = $pid AND wait_event = 'PgSleep'", 'active', '… it answers');
	ask("SELECT pg_cancel_backend($pid)");
	becomes("SELECT state FROM pg_stat_activity WHERE pid = $pid", 'idle', '… and can be canceled');
	return;
}

subtest 'giving back waits for no lock' => sub {
	limits("ADD per_phone '10/hour', ADD per_role '100/hour'");
	ask("$into VALUES ('shop', '0901234567', 'makes the counters')");
	my %holders = (
		'the identity is locked' => 'LOCK TABLE sms_gateway_identity',
		'the counters are locked' => 'LOCK TABLE sms_gateway_usage',
		'all rows are locked' => 'SELECT count(*) FROM (SELECT FROM sms_gateway_usage FOR UPDATE) r',
		'all rows are shared' => 'SELECT count(*) FROM (SELECT FROM sms_gateway_usage FOR SHARE) r',
		'all rows are deleted' => 'DELETE FROM sms_gateway_usage',
	);
	for my $name (sort keys %holders)
	{
		my ($taker, $holder) = (session(), session());
		my $pid = $taker->query('SELECT pg_backend_pid()');
		$taker->query("BEGIN; $into VALUES ('shop', '0901234567', 'rolled back');");
		ask('ANALYZE sms_gateway_identity');    # sessions have to read it again
		$holder->query("BEGIN; $holders{$name}");
		rolls_back($name, $taker, $pid);
		$holder->query('ROLLBACK');
		$taker->query("BEGIN; $into VALUES ('shop', '0901234567', 'rolled back'); ROLLBACK;");
		becomes(used('phone 84901234567'), '1', '… what could not be given back is, with what it takes next');
		$_->quit for $taker, $holder;
	}
};

subtest 'a lock that outlives its session holds up neither terminating a session nor the server' => sub {
	limits("ADD per_phone '10/hour'");
	ask("$into VALUES ('shop', '0901234567', 'makes the counter')");
	my $lock = 'SELECT count(*) FROM (SELECT FROM sms_gateway_usage FOR UPDATE) r';
	my ($idle, $open, $last) = (session(), session(), session());
	my ($idle_pid, $open_pid) = map { scalar $_->query('SELECT pg_backend_pid()') } $idle, $open;
	$_->query("BEGIN; $into VALUES ('shop', '0901234567', 'rolled back');") for $idle, $open, $last;
	ask("BEGIN; $lock; PREPARE TRANSACTION 'x'");
	rolls_back('a prepared transaction has the rows', $idle, $idle_pid);
	is(ask("SELECT pg_terminate_backend($_, 5000)"), 't', 'a session ends') for $idle_pid, $open_pid;
	$_->{run}->finish for $idle, $open;
	is($node->stop('fast', fail_ok => 1), 1, 'the server stops, with another');
	$last->{run}->finish;
	$node->start;
	ask("ROLLBACK PREPARED 'x'");
	worker_pid($node);
	is(ask(used('phone 84901234567')), '4', 'what a session has not given back stays counted');
};

subtest 'a message that is refused is counted nowhere' => sub {
	limits("ADD per_phone '10/hour', ADD per_role '3/hour', ADD daily_budget '1000'");
	ask("$into SELECT 'shop', '0901234567', 'x' FROM generate_series(1, 3)");
	my $open = session();
	$open->query("BEGIN; $into VALUES ('shop', '0901234568', 'x');");
	is(ask(used('phone 84901234568')), '0', 'not for its phone, while the transaction that failed is open');
	$open->quit;
	like(error_of("SELECT sms_send('0901234568', 'x', gateway => 'shop')"), qr/53400: the limit per_role/,
		'sent at once');
	is(ask(used('phone 84901234568')), '0', '… it is counted for its phone neither');
	is(ask(used('day')), '3', '… nor for the day');
};

subtest 'DELETE by hand: nothing is lost, nothing is there twice' => sub {
	limits("ADD per_phone '10/hour'");
	ask("$into SELECT 'shop', '0901234567', 'x' FROM generate_series(1, 3)");
	is(error_of("BEGIN; DELETE FROM sms_gateway_usage; $into VALUES ('shop', '0901234567', 'x');
			$into VALUES ('shop', '0901234567', 'x'); ROLLBACK"), '', 'a transaction deletes, counts and rolls back');
	becomes(used('phone 84901234567'), '3', '… and is as if it had never been');
	is_sound('then');
	is(error_of("BEGIN; DELETE FROM sms_gateway_usage; $into VALUES ('shop', '0901234567', 'x');
			$into VALUES ('shop', '0901234567', 'x'); COMMIT"), '', 'another commits');
	is(ask(used('phone 84901234567')), '2', '… and has counted from 0');
	my $open = session();
	$open->query('BEGIN; DELETE FROM sms_gateway_usage');
	my $waits = bench("$into VALUES ('shop', '0901234567', 'x');\n", 1, '-t', 1);
	becomes("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT%'", '1',
		'who counts what is being deleted waits');
	$open->query('ROLLBACK');
	$open->quit;
	$waits->finish;
	is(ask(used('phone 84901234567')), '3', '… and has counted, when it was not');
};

subtest 'transactions that are SERIALIZABLE do not fail for what they count' => sub {
	limits("ADD per_phone '1000/hour', ADD per_role '1000000/hour'");
	my @sessions = map { session() } 1 .. 2;
	my $begin = 'BEGIN ISOLATION LEVEL SERIALIZABLE';
	$_->query("$begin; $into VALUES ('shop', '090123456' || (random() * 9)::int, 'x');") for @sessions;
	$_->query("$into SELECT 'shop', '0902' || lpad(i::text, 6, '0'), 'x' FROM generate_series(1, 20) i;") for @sessions;
	$_->query("$into VALUES ('shop', '0903234567', 'x'); COMMIT;") for @sessions;
	is(ask('SELECT count(*) FROM sms_outbox'), '44', 'each has committed');
	$_->quit for @sessions;
};

subtest 'two-phase commits keep what they took' => sub {
	limits("ADD per_phone '1000/hour', ADD daily_budget '1000000'");
	ask("BEGIN; $into SELECT 'shop', '0901234567', 'x' FROM generate_series(1, 100); PREPARE TRANSACTION 'two'");
	is(ask(used('phone 84901234567')), '100', 'no more and no less');
	ask("COMMIT PREPARED 'two'");
	is(ask(used('day')), '100', '… also when they are committed');
};

subtest 'many subtransactions cost no more each than few' => sub {
	limits("ADD per_phone '1000/hour', ADD per_role '1000000/hour'");
	my $block = sub {
		my ($n, $from) = @_;
		return took(sub { ask("DO \$\$ BEGIN FOR i IN 1..$n LOOP BEGIN
			$into VALUES ('shop', '09' || ($from + i), 'x'); IF i % 3 = 0 THEN RAISE 'no'; END IF;
			EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END \$\$") });
	};
	$block->(1000, 10000000);
	my ($few, $many) = (took(sub { $block->(2000, 11000000) }), took(sub { $block->(16000, 12000000) }));
	cmp_ok($many, '<', 8 * 2.5 * $few, sprintf 'eight times as many: %.2f s, %.2f s', $few, $many);
	becomes("SELECT sum(used) FROM sms_gateway_usage WHERE subject LIKE 'phone %'",
		ask("SELECT count(*) FROM sms_outbox"),
		'and those that failed are given back');
};

subtest 'tries are counted for every provider, and a code is taken once' => sub {
	limits('');
	ask("SELECT sms_resume('shop')");
	my $send = sub { return sprintf "SELECT status FROM sms_send_otp('%s', '{OTP}', gateway => '%s')", @_; };
	my $check = sub { return ask(sprintf "SELECT sms_check_otp('%s', '%s', '%s')", @_); };
	my $code = sub { my ($phone) = @_; return SmsTest::control('GET', $simulator, "otp?phone=$phone"); };

	# T7
	ask($send->('0911111111', 'shop'));
	my $right = $code->('84911111111');
	is($check->('0911111111', '000', 'shop'), 'f', 'wrong') for 1 .. 5;
	forget($simulator);
	is($check->('0911111111', $right, 'shop'), 'f', 'five wrong tries end a code that eSMS made');
	is(scalar(requests($simulator)), 0, '… and eSMS is not asked any more');
	ask($send->('0911111112', 'shop'));
	$right = $code->('84911111112');
	error_of("BEGIN; SELECT sms_check_otp('0911111112', '000', 'shop'); ROLLBACK") for 1 .. 5;
	is($check->('0911111112', $right, 'shop'), 'f', '… also if they roll back');
	ask($send->('0911111113', 'shop'));
	$right = $code->('84911111113');
	fault($simulator, fault => 'http', value => 503, match => '/MainService');
	error_of("SELECT sms_check_otp('0911111113', '000', 'shop')") for 1 .. 6;
	no_faults($simulator);
	is($check->('0911111113', $right, 'shop'), 't', 'a try that eSMS does not answer is none');
	is($check->('0911111113', $right, 'shop'), 'f', 'a code is taken once');

	# T6
	ask("ALTER SERVER cpaas OPTIONS (SET otp_per_phone '2/hour')");
	fault($simulator, fault => 'http', value => 400, match => '/api/vendor');
	for my $i (1 .. 6)
	{
		isnt(ask($send->('0911111114', 'cpaas')), 'sent', 'a code that is not sent') if $i == 1;
		$check->('0911111114', '0000', 'cpaas') for 1 .. 3;
	}
	no_faults($simulator);
	is(ask("SELECT count(*) FROM sms_gateway_otp WHERE phone = '84911111114'"), '0', '… is not kept');
	is(ask($send->('0911111114', 'cpaas')), 'sent', 'one that is');
	my ($last) = reverse grep { ($_->{phone} // '') eq '84911111114' } requests($simulator);
	is($check->('0911111114', $last->{body}{text}, 'cpaas'), 'f', '… is of no use to a phone that was tried ten times');
	is(ask($send->('0911111115', 'cpaas')), 'sent', 'another phone');
	($last) = reverse grep { ($_->{phone} // '') eq '84911111115' } requests($simulator);
	is($check->('0911111115', $last->{body}{text}, 'cpaas'), 't', '… is free');
};

subtest 'a code that failed over is checked through the gateway that was asked for it' => sub {
	fault($simulator, fault => 'code', text => '104', match => '/MainService');
	my $id = ask("INSERT INTO sms_outbox (kind, gateway, phone, content) VALUES ('otp', 'shop', '0911111116', '{OTP}')
		RETURNING id");
	becomes("SELECT gateway, status FROM sms_outbox WHERE id = $id", 'cpaas|sent', 'sent by the fallback');
	no_faults($simulator);
	my ($last) = reverse grep { ($_->{phone} // '') eq '84911111116' } requests($simulator);
	is(ask("SELECT sms_check_otp('0911111116', '$last->{body}{text}', 'shop')"), 't', 'it is right');
};

subtest 'a fallback and sms_retry are counted' => sub {
	limits("ADD per_phone '3/hour'");
	ask("ALTER SERVER cpaas OPTIONS (ADD per_phone '1/hour')");
	fault($simulator, fault => 'code', text => '104', match => '/MainService');
	ask("$into VALUES ('shop', '0911111119', 'first')");
	becomes("SELECT gateway, status FROM sms_outbox WHERE content = 'first'", 'cpaas|sent', 'the fallback sends one');
	is(ask("SELECT used FROM sms_gateway_usage WHERE gateway = 'cpaas'
		AND subject = 'phone " . hidden('84911111119') . "'"), '1',
		'… and has counted it');
	ask("$into VALUES ('shop', '0911111119', 'second')");
	becomes("SELECT gateway, status FROM sms_outbox WHERE content = 'second'", 'shop|failed', 'it takes no other');
	like(ask("SELECT result_message FROM sms_outbox WHERE content = 'second'"),
		qr/not moved to "cpaas", the limit per_phone of gateway "cpaas" is reached/, '… which says why');
	ask("ALTER SERVER cpaas OPTIONS (DROP per_phone)");
	no_faults($simulator);
	my $second = "SELECT sms_retry(id) FROM sms_outbox WHERE content = 'second'";
	is(ask($second), 't', 'it is tried again');
	becomes("SELECT gateway, status FROM sms_outbox WHERE content = 'second'", 'shop|sent', '… and sent');
	is(ask(used('phone 84911111119')), '3', '… which is counted');
	my $id = ask("$into VALUES ('shop', '0911111120', 'third') RETURNING id");
	becomes("SELECT status FROM sms_outbox WHERE id = $id", 'sent', 'another');
	ask("UPDATE sms_outbox SET status = 'failed' WHERE id = $id; UPDATE sms_gateway_usage SET used = 3");
	like(error_of("SELECT sms_retry($id)"), qr/53400: the limit per_phone/, 'beyond a limit nothing is tried again');
};

subtest 'a check takes as long whether there is a code or not' => sub {
	ask("ALTER SERVER cpaas OPTIONS (SET otp_per_phone 'off')");
	my $usual = sub {
		my ($phone) = @_;
		return ask("SELECT percentile_cont(0.1) WITHIN GROUP (ORDER BY ms) FROM times WHERE phone = '$phone'");
	};
	ask("SELECT sms_send_otp('0911111117', '{OTP}', gateway => 'cpaas'); CREATE TABLE times (phone text, ms float8)");
	# In turns: what else the machine does is shared by both, and what it held up is not counted.
	ask('DO $$ DECLARE t timestamptz; p text; BEGIN
		FOR i IN 1..100 LOOP FOREACH p IN ARRAY ARRAY[\'0911111117\', \'0911111118\'] LOOP
			t := clock_timestamp(); PERFORM sms_check_otp(p, \'wrong\', \'cpaas\');
			INSERT INTO times VALUES (p, extract(epoch FROM clock_timestamp() - t) * 1000);
		END LOOP; END LOOP; END $$');
	my ($with, $without) = map { $usual->($_) } '0911111117', '0911111118';
	cmp_ok(abs($with - $without), '<', 0.5 * $with, sprintf 'with a code %.3f ms, without %.3f ms', $with, $without);
};

subtest 'counters of all kinds are deleted a day after their time' => sub {
	limits("ADD per_phone '1000/hour', ADD per_role '1000000/hour', ADD daily_budget '1000000'");
	ask("$into VALUES ('shop', '0901234567', 'x'); UPDATE sms_gateway_usage SET window_end = now() - interval '25 hours'
		WHERE subject NOT LIKE 'day'");
	$node->restart;    # the worker looks at once, then each minute
	worker_pid($node);
	becomes("SELECT string_agg(subject, ' ') FROM sms_gateway_usage", 'day', 'those of roles, too; what lives stays');
};

$node->stop;
done_testing();
