# What is in doubt after a crash is what had started and was not answered: the note of starts, and when it says nothing.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use File::Copy qw(copy move);
use IO::Socket::INET;
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $simulator = simulator();
my $node = server('starts', settings => "restart_after_crash = on\n", streaming => 1);
gateways($node, $simulator, shop => "max_in_flight '50'", cpaas => "max_in_flight '50'");
my $note = note_of('postgres');

# The path of a database's note.
sub note_of
{
	my ($database) = @_;
	my $oid = ask("SELECT oid FROM pg_database WHERE datname = '$database'");
	return $node->data_dir . "/pg_stat_tmp/sms_gateway.$oid.starts";
}

sub kill_worker
{
	my $pid = worker_pid($node);
	kill 'KILL', $pid;
	ok(wait_until(sub { !kill 0, $pid }), 'the worker is killed');
	ok(wait_until(sub { eval { ask('SELECT true') } }), '… from which the server recovers');
	return;
}

# Stops the server at once, does something, and starts it again.
sub crash_and
{
	my ($do) = @_;
	$node->stop('immediate');
	$do->();
	$node->start;
	return;
}

#
# With 50 in flight and 10 priorities
#

# Queues messages of ten priorities for both gateways, crashes in the midst of them, and returns how many were in doubt
# although the gateway had never read them.
sub in_doubt_unread
{
	my ($crash) = @_;
	ask("SELECT sms_pause(g, 'test') FROM unnest('{shop,cpaas}'::name[]) g");
	ask('TRUNCATE sms_outbox');
	forget($simulator);
	ask("INSERT INTO sms_outbox (gateway, phone, content, priority)
		SELECT g, '0901234567', g || ' ' || i, i % 10
			FROM generate_series(1, 2000) i, unnest('{shop,cpaas}'::name[]) g");
	ask("SELECT sms_resume(g) FROM unnest('{shop,cpaas}'::name[]) g");
	becomes(sub { stats($simulator)->{requests} > 400 }, 1, 'messages are on their way');
	$crash->();
	ok(finish($node, 60), 'all is done in the end');
	my (%read, %rows);
	$read{ $_->{content} }++ for requests($simulator);
	is(ask("SELECT count(*) FROM sms_outbox WHERE status NOT IN ('sent', 'uncertain')"), 0, 'nothing is lost');
	is(scalar(grep { /^cpaas/ && $read{$_} > 1 } keys %read), 0, 'nothing went twice without a RequestId');
	my @cpaas = split /\n/, ask("SELECT content FROM sms_outbox WHERE status = 'uncertain'");
	my @shop = split /\n/, ask("SELECT content FROM sms_outbox WHERE gateway = 'shop' AND attempts > 1");
	cmp_ok(@cpaas + @shop, '>', 0, '(the crash came while some were under way)');
	my $unread = scalar(grep { !$read{$_} } @cpaas) + scalar(grep { ($read{$_} // 0) < 2 } @shop);
	diag(@cpaas . ' and ' . @shop . " in doubt, $unread of which the gateway had not read");
	return $unread;
}

subtest 'kill -9 of the worker, 50 in flight, 10 priorities' => sub {
	fault($simulator, fault => 'latency', value => 40);
	for my $i (1 .. 2)
	{
		cmp_ok(in_doubt_unread(\&kill_worker), '<=', 2, 'what the gateway had not read is not in doubt');
	}
};

subtest 'the whole server stops at once' => sub {
	cmp_ok(in_doubt_unread(sub { crash_and(sub { }) }), '<=', 2, 'what the gateway had not read is not in doubt');
	no_faults($simulator);
};

#
# What had been answered
#

subtest 'answers that had come, and could not be recorded yet' => sub {
	ask('TRUNCATE sms_outbox');
	forget($simulator);
	fault($simulator, fault => 'latency', value => 500);
	ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('cpaas', '0901234567', 'Chao ban'),
		('cpaas', '0901234567', 'Chao em'), ('shop', '0901234567', 'Chao anh')");
	becomes(sub { stats($simulator)->{requests} }, 3, 'three are with their gateways');
	my $holder = $node->background_psql('postgres');
	$holder->query_safe('BEGIN; SELECT id FROM sms_outbox FOR UPDATE');
	sleep 1;      # time itself: the answers come, and nobody tells that
	is(ask("SELECT count(*) FROM sms_outbox WHERE status = 'sent'"), 0, 'their rows are locked when the answers come');
	my $before = ask('SELECT clock_timestamp()');
	kill_worker();
	eval { $holder->quit };
	becomes("SELECT string_agg(status::text, ' ') FROM sms_outbox", 'sent sent sent', 'all three are sent');
	is(ask("SELECT count(*) FROM sms_outbox WHERE attempts = 1 AND sent_at < '$before' AND http_status = 200
		AND unsure_since IS NULL AND coalesce(smsid, id_omni_mess, referent_id) IS NOT NULL"), 3,
		'… as of when they were answered, with the ids that their providers gave them');
	is(stats($simulator)->{requests}, 3, '… and were not sent again');
	is(ask('SELECT count(*) FROM sms_gateway_lease'), 0, 'no lease is left');
	no_faults($simulator);
};

#
# A gateway whose machine takes few connections: some messages start, and the others wait for a connection
#

my ($deaf, $port);

# How many connections to that gateway are in a state of the kernel's (1: established, 2: connecting).
sub connections
{
	my ($state) = @_;
	my $pattern = sprintf '^\s*\d+: \S+ [0-9A-F]+:%04X 0%d ', $port, $state;
	return scalar grep { /$pattern/ } split /\n/, slurp_file('/proc/net/tcp');
}

# Has ten messages for such a gateway under way, with something that begins to send if that is needed; returns how many
# of them have started.
my $round = 0;
sub start_some
{
	my ($begin) = @_;
	ask('TRUNCATE sms_outbox');
	$deaf = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or die $!;
	$port = $deaf->sockport;
	$round++;
	ask("CREATE SERVER deaf$round FOREIGN DATA WRAPPER interits OPTIONS (base_url 'http://127.0.0.1:$port',
			sender 'MYSHOP', connect_timeout '60s', timeout '60s', poll_delivery 'false');
		CREATE USER MAPPING FOR PUBLIC SERVER deaf$round OPTIONS (api_key 'demo')");
	ask("INSERT INTO sms_outbox (gateway, phone, content)
		SELECT 'deaf$round', '0901234567', 'deaf ' || i FROM generate_series(1, 10) i");
	$begin->() if $begin;
	becomes(sub { connections(1) + connections(2) }, 10, 'ten messages want a connection');
	return connections(1);
}

# What is known of them afterwards.
my $doubts = "SELECT count(*) FILTER (WHERE status = 'uncertain' AND result_code = 'crash')
	|| ' in doubt, ' || count(*) FILTER (WHERE status = 'queued' AND attempts = 0 AND unsure_since IS NULL)
	|| ' wait' FROM sms_outbox";

sub only_started_in_doubt
{
	my ($started, $name) = @_;
	cmp_ok($started, '<', 10, "$started of 10 had started");
	becomes($doubts, "$started in doubt, " . (10 - $started) . ' wait', $name);
	return;
}

subtest 'who waits for a connection has not started' => sub {
	my $started = start_some();
	kill_worker();
	only_started_in_doubt($started, 'kill -9 of the worker');
	$started = start_some();
	crash_and(sub { });
	only_started_in_doubt($started, 'the whole server stops at once');
};

subtest 'a note that does not hold says nothing' => sub {
	my $edit = sub {
		my ($place, $bytes) = @_;
		open my $file, '+<:raw', $note or die "$note: $!";
		seek $file, $place, 0 or die $!;
		print $file $bytes or die $!;
		close $file or die $!;
	};
	my %damage = (
		'another boot of the machine' => sub { $edit->(8, '00000000-0000-0000-0000-000000000000'); },
		'no note' => sub { unlink $note or die $!; },
		'an empty one' => sub { truncate $note, 0 or die $!; },
		'one cut off' => sub { truncate $note, 5000 or die $!; },
		'zeros for slots' => sub { $edit->(4096, "\0" x ((-s $note) - 4096)); },
		'noise for slots' => sub { $edit->(4096, join '', map { chr int rand 256 } 4097 .. (-s $note)); },
		'a copy, as a clone has it' => sub { copy($note, "$note.copy") && move("$note.copy", $note) or die $!; },
	);
	for my $what (sort keys %damage)
	{
		start_some();
		crash_and($damage{$what});
		becomes($doubts, '10 in doubt, 0 wait', $what);
	}
	start_some();
	$node->stop('immediate');
	append_to_file($node->data_dir . '/standby.signal', '');
	$node->start;
	$node->promote;
	becomes($doubts, '10 in doubt, 0 wait', 'a new timeline');
};

subtest 'sms_drain keeps the note as well' => sub {
	$node->append_conf('postgresql.conf', "sms_gateway.databases = 'none'");
	$node->restart;
	my $drain = $node->background_psql('postgres', on_error_stop => 0);
	my $started = start_some(sub { $drain->query_until(qr/begins/, "\\echo begins\nCALL sms_drain();\n"); });
	$node->stop('immediate');
	eval { $drain->quit };
	$node->start;
	error_of("SET statement_timeout = '2s'; CALL sms_drain()");
	is(ask("SELECT count(*) FROM sms_outbox WHERE status = 'uncertain'"), $started,
		'only what had started is in doubt');
	$node->append_conf('postgresql.conf', "sms_gateway.databases = ''");
	$node->restart;
};

#
# The file
#

subtest 'where the file is, and is not' => sub {
	ask('TRUNCATE sms_outbox');
	queue_text('shop', 'Chao ban');
	becomes(sub { status_of('Chao ban') }, 'sent', 'a message is sent');
	is(sprintf('%o', (stat $note)[2] & 07777), '600', 'the note is the server\'s alone');
	$node->backup('base');
	my ($name) = $note =~ m{([^/]+)$};
	ok(!-e $node->backup_dir . "/base/pg_stat_tmp/$name", 'a base backup does not take it along');
	ask('CREATE DATABASE other');
	gateways($node, $simulator, database => 'other');
	my $other = note_of('other');
	queue_text('shop', 'Chao em', database => 'other');
	becomes(sub { -e $other ? 'there' : 'gone' }, 'there', 'each database has its own');
	becomes(sub { status_of('Chao em', 'other') }, 'sent', '… and sends');
	ask('DROP EXTENSION sms_gateway CASCADE', 'other');
	becomes(sub { -e $other ? 'there' : 'gone' }, 'gone', 'without the extension there is none');
	append_to_file($other, 'left over');
	ask('DROP DATABASE other');
	$node->restart;
	becomes(sub { -e $other ? 'there' : 'gone' }, 'gone', 'what a database has left that is no more is removed');
};

subtest 'who holds pg_database holds up no engine' => sub {
	$node->append_conf('postgresql.conf', "sms_gateway.databases = 'none'");
	$node->restart;
	my ($session, $holder) = map { $node->background_psql('postgres', on_error_stop => 0) } 1, 2;
	my $pid = $session->query('SELECT pg_backend_pid()');
	my $open = sub { return scalar(() = glob "/proc/$pid/fd/*"); };
	my $drain = sub { $session->query_safe('CALL sms_drain()') for 1 .. 10; return $open->(); };
	my $before = $drain->();
	my $stale = $node->data_dir . '/pg_stat_tmp/sms_gateway.99999.starts';
	$holder->query_safe('BEGIN; LOCK TABLE pg_database');
	append_to_file($stale, 'of a database that is no more');
	is(eval { $drain->() } // $@, $before, 'sms_drain() works, and leaves no file open');
	$holder->query('ROLLBACK');
	$drain->();
	ok(!-e $stale, 'what is left of a database that is no more goes the next time');
	$_->quit for $session, $holder;
	$node->append_conf('postgresql.conf', "sms_gateway.databases = ''");
	$node->restart;
};

subtest 'no file can be made' => sub {
	my $dir = $node->data_dir . '/pg_stat_tmp';
	$node->stop;
	unlink $note;
	chmod 0500, $dir or die $!;
	my $log = -s $node->logfile;
	$node->start;
	my $started = start_some();
	like(slurp_file($node->logfile, $log), qr/WARNING:  could not keep a note in pg_stat_tmp.*Permission denied/,
		'that is a warning');
	is(scalar(() = slurp_file($node->logfile, $log) =~ /could not keep a note/g), 1, '… one');
	crash_and(sub { chmod 0700, $dir or die $!; });
	becomes($doubts, '10 in doubt, 0 wait', 'and then all that was claimed is in doubt');
};
$node->stop;

subtest 'the disk is full' => sub {
	my $full = PostgreSQL::Test::Utils::tempdir() . '/full';
	append_to_file($full, '');
	local %ENV = (%ENV, LD_PRELOAD => preloadable('fulldisk'), FULLDISK_FILE => $full,
		FULLDISK_PART => '/pg_stat_tmp/');
	$node = server('full');
	gateways($node, $simulator);
	ask("INSERT INTO sms_outbox (gateway, phone, content)
		SELECT 'shop', '0901234567', 'a ' || i FROM generate_series(1, 500) i");
	becomes(sub { slurp_file($node->logfile) }, qr/could not keep a note in pg_stat_tmp.*No space left on device/,
		'there is no room for the note');
	becomes("SELECT count(*) FROM sms_outbox WHERE status = 'sent'", 500, '… and messages are sent without it');
	unlike(slurp_file($node->logfile), qr/terminated by signal/, '… by a worker that lives');
	$node->stop;
};

done_testing();
