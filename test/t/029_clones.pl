# Copies of a server's files: which of them send, which hold, and what tells them apart.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = simulator();
my $archive = PostgreSQL::Test::Utils::tempdir();
my $node = server('original', streaming => 1,
	settings => "archive_mode = on\narchive_command = 'cp \"%p\" \"$archive/%f\"'\n");
gateways($node, $simulator, cpaas => "timeout '3s'");
worker_pid($node);
my $state = "SELECT DISTINCT state FROM sms_gateways";
my $reason = "SELECT DISTINCT reason FROM sms_gateways";

# Takes whose backup, its name there and options (name, standby, settings, signal): starts a server from it, which is
# the current one then.
sub from_backup
{
	my ($from, $name, %options) = @_;
	my $server = PostgreSQL::Test::Cluster->new($options{name} // "of_$name");
	$server->init_from_backup($from, $name, has_streaming => $options{standby} // 0);
	$server->append_conf('postgresql.conf', "archive_mode = off\n" . ($options{settings} // ''));
	append_to_file($server->data_dir . "/$options{signal}", '') if $options{signal};
	$server->start;
	turn_to($server);
	return $server;
}

# Takes the current server and a reason, asserts that it sends nothing, and says so with this reason.
sub holds
{
	my ($server, $why) = @_;
	is(ask($state), 'held', 'its gateways are held');
	like(ask($reason), qr/^this server is a copy; see sms_adopt_outbox\. $why/, '… with the reason');
	like(error_of("SELECT sms_send('0901234567', 'x', 'shop')"), qr/55000.*copies send no messages.*$why.*sms_adopt/s,
		'sms_send refuses');
	like(error_of('CALL sms_drain()'), qr/55000.*copies send no messages/, '… and sms_drain');
	becomes(sub { slurp_file($server->logfile) }, qr/WARNING:  the outbox of this database belongs to another server/,
		'… and the log warns');
	is(ask('SELECT held FROM sms_gateway_identity'), 't', '… and keeps in mind that it is held');
	return;
}

# Takes a text and a name, asserts that a new message of the current server is sent.
sub sends
{
	my ($content, $name) = @_;
	queue_text('shop', $content);
	becomes(sub { status_of($content) }, 'sent', $name, seconds => 15);
	return;
}

# What the current server has written down about its place.
sub identity
{
	return ask('SELECT timeline, place, machine, filesystem, file, born, directory, held FROM sms_gateway_identity');
}

subtest 'a copy of the files, started beside the original, holds everything' => sub {
	ask("SELECT sms_pause('shop', 'test')");
	hang($simulator, match => '/api/');
	queue_text('cpaas', 'under way');
	becomes(sub { in_flight('cpaas') }, 1, 'a message is under way');
	queue_text('shop', 'waits');
	queue_text('shop', "waits $_") for 1 .. 3;
	$node->backup('base');
	no_faults($simulator);
	forget($simulator);
	ask("SELECT sms_resume('shop')");
	becomes(sub { status_of('waits') }, 'sent', 'the original goes on');

	my $clone = from_backup($node, 'base', name => 'clone');
	ask('DELETE FROM sms_gateway_state');
	holds($clone, 'The files of this server were copied, or restored');
	queue_text('shop', 'new in the clone');
	stays(sub { times_received($simulator, 'waits') . times_received($simulator, 'new in the clone') }, '10', 2,
		'nothing goes twice');
	my $position = -s $clone->logfile;
	$clone->restart;
	stays(sub { status_of('waits 1') }, 'queued', 2, '… nor after a restart');
	unlike(slurp_file($clone->logfile, $position), qr/WARNING:  the outbox/, '… which warns no more');

	$clone->backup('second');
	my $second = from_backup($clone, 'second', name => 'copy_of_the_copy');
	is(ask($state), 'held', 'a copy of the copy is held too');
	$second->stop;
	my $standby = from_backup($clone, 'second', name => 'standby_of_the_copy', standby => 1);
	is(ask($reason), 'a standby sends no messages', 'a standby says that it is one');
	$standby->promote;
	like(ask($reason), qr/It is a standby of a server that was held itself/, '… and promoted, it is held');
	stays(sub { status_of('waits 1') }, 'queued', 1, '… and sends nothing');
	$standby->stop;
	$clone->stop;
	turn_to($node);
};

subtest 'adopted by its owner, a copy sends; what was under way at the original is in doubt' => sub {
	my $origin = ask('SELECT instance FROM sms_gateway_identity');
	becomes(sub { in_flight('cpaas') }, 0, 'nothing is under way at the original', seconds => 40);
	my $clone = from_backup($node, 'base', name => 'adopted');
	ask('CREATE ROLE stranger LOGIN; GRANT EXECUTE ON FUNCTION sms_adopt_outbox(sms_status[]) TO stranger;
		DELETE FROM sms_gateway_state');
	like(error_of('SELECT sms_adopt_outbox()', role => 'stranger'), qr/42501/, 'who does not own it may not adopt it');
	forget($simulator);
	is(ask('SELECT sms_adopt_outbox()'), 5, 'adopted');
	becomes(sub { status_of('under way') }, 'uncertain', 'what was under way is in doubt');
	is(times_received($simulator, 'under way'), 0, '… and not sent again');
	becomes(sub { status_of('waits 3') }, 'sent', 'what waited is sent');
	becomes($state, 'active', 'its gateways are active');
	isnt(ask('SELECT instance FROM sms_gateway_identity'), $origin, 'its new messages have ids of their own');
	$clone->restart;
	sends('after a restart', 'a restart is no other place');
	$clone->stop;
	turn_to($node);
};

subtest 'what does not move a server' => sub {
	my $identity = identity();
	my $place = $node->data_dir;
	$node->stop;
	rename $place, "$place.elsewhere" or die $!;
	symlink "$place.elsewhere", $place or die $!;
	$node->start;
	sends('renamed', 'a data directory that was renamed sends');
	becomes(\&identity, $identity =~ s/\Q$place/$place.elsewhere/r, '… and knows its new path');
	$node->stop('immediate');
	unlink $place;
	rename "$place.elsewhere", $place or die $!;
	$node->start;
	sends('crashed', '… as it does after a crash');

	becomes(\&identity, $identity, '… and knows its path');
	ask('UPDATE sms_gateway_identity SET file = file + 1');
	sends('other inode numbers', 'inode numbers that change say nothing where the file\'s birth is known');
	becomes(\&identity, $identity, '… and are brought up to date');
	ask('UPDATE sms_gateway_identity SET machine = NULL, filesystem = NULL, file = NULL, born = NULL,
		directory = NULL');
	sends('unknown', 'what is not known says nothing');
	becomes(\&identity, $identity, '… and is learnt');
	ask('UPDATE sms_gateway_identity SET timeline = NULL, machine = 1, born = now()');
	sends('as of 0.1.0', 'a row without a timeline says nothing');
	becomes(\&identity, $identity, '… and is completed');
};

subtest 'signs of another place' => sub {
	my $columns = 'machine, filesystem, file, born, directory';
	ask("CREATE TABLE place AS SELECT $columns FROM sms_gateway_identity");
	# A snapshot of the files that is mounted beside them; of these two, the signs are on another file system.
	my $beside = PostgreSQL::Test::Utils::tempdir() . '/beside';
	mkdir $_ or die $! for $beside, "$beside/global";
	system_or_bail('cp', $node->data_dir . "/$_", "$beside/$_") for qw(PG_VERSION global/pg_control);
	my %sign = ('machine = 1' => 'another machine',
		"born = born + interval '1 s'" => 'files of this server were copied',
		'filesystem = 1' => 'files of this server were copied',
		'file = file + 1, born = NULL' => 'files of this server were copied',
		"directory = '$beside'" => 'a snapshot of those beside it');
	for my $change (sort keys %sign)
	{
	SKIP: {
			my ($column) = $change =~ /^(\w+)/;
			skip "no $column here", 1 if ask("SELECT $column IS NULL FROM place") eq 't';
			ask("UPDATE sms_gateway_identity SET $change");
			like(ask($reason), qr/$sign{$change}/, "$change: it is held");
			queue_text('shop', $change);
			stays(sub { status_of($change) }, 'queued', 0.5, '… and sends nothing');
			ask("UPDATE sms_gateway_identity SET ($columns) = (SELECT $columns FROM place)");
			becomes($reason, qr/^(?!.*copy)/, '… until it is at home again');
			ask('SELECT sms_adopt_outbox()');
			becomes(sub { status_of($change) }, 'sent', '… and sends');
		}
	}
	ask("UPDATE sms_gateway_identity SET directory = '/nowhere'");
	sends('renamed again', 'where nothing is, nothing was copied');
};

subtest 'sms_gateway.place names a place, instead of the signs' => sub {
	my $named = sub {
		my ($name) = @_;
		ask("ALTER SYSTEM SET sms_gateway.place = '$name'");
		ask('SELECT pg_reload_conf()');
		becomes('SHOW sms_gateway.place', $name, "the place is called \"$name\"");
	};
	like(error_of("ALTER SYSTEM SET sms_gateway.place = 'Hà Nội'"), qr/22023.*other than ASCII/s,
		'a name that not every encoding has is refused');
	$named->('hanoi');
	becomes('SELECT place FROM sms_gateway_identity', 'hanoi', 'a server takes a name where it is');
	sends('named', '… and sends');
	$node->backup('named');
	my $moved = from_backup($node, 'named', name => 'moved');
	becomes($state, 'active', 'files that were copied to a place of the same name are at home');
	sends('moved', '… and send');
	$moved->stop;
	my $other = from_backup($node, 'named', name => 'other', settings => "sms_gateway.place = 'unused'\n");
	ask("ALTER SYSTEM SET sms_gateway.place = 'hue'");
	$other->restart;
	holds($other, 'This is place "hue", and the outbox belongs to place "hanoi"');
	ask('SELECT sms_adopt_outbox()');
	sends('of hue', 'adopted, it sends');
	$other->stop;
	turn_to($node);
	$named->('');
	becomes('SELECT place FROM sms_gateway_identity', '', 'a name is given up where it is');
	sends('unnamed', '… and it sends');
};

# Citus' own table is one row.
subtest 'another node of a Citus cluster' => sub {
	my $group = sub { ask("UPDATE pg_dist_local_group SET groupid = $_[0]") };
	ask('SET allow_system_table_mods = on; CREATE TABLE pg_catalog.pg_dist_local_group (groupid int);
		INSERT INTO pg_dist_local_group VALUES (0)');
	sends('coordinator', 'a coordinator sends');
	becomes('SELECT citus_group FROM sms_gateway_identity', 0, '… and knows its group');
	$group->(3);
	sends('joined', 'a server that joins a cluster sends');
	becomes('SELECT citus_group FROM sms_gateway_identity', 3, '… and knows its group');
	$group->(4);
	like(ask($reason), qr/another node of a Citus cluster/, 'another node is a copy');
	queue_text('shop', 'another node');
	stays(sub { status_of('another node') }, 'queued', 1, '… and sends nothing');
	$group->(3);
	ask('SELECT sms_adopt_outbox()');
	becomes(sub { status_of('another node') }, 'sent', 'the node itself does');
	my $lock = $node->background_psql('postgres');
	$lock->query_safe('BEGIN; LOCK TABLE pg_catalog.pg_dist_local_group');
	sends('locked', 'who has locked that table holds nothing up');
	$lock->quit;
	ask('SET allow_system_table_mods = on; DROP TABLE pg_catalog.pg_dist_local_group');
	sends('no Citus', 'without Citus it sends');
};

subtest 'a standby that is promoted goes on, and stays at home after a restart' => sub {
	ask('CREATE DATABASE seldom');
	gateways($node, $simulator, database => 'seldom');
	$node->backup('standby');
	my $standby = from_backup($node, 'standby', name => 'promoted', standby => 1,
		settings => "sms_gateway.databases = 'postgres'\n");
	$standby->promote;
	sends('promoted', 'promoted, it sends');
	becomes('SELECT timeline FROM sms_gateway_identity', 2, '… and is at home on its timeline');
	is(ask('SELECT timeline FROM sms_gateway_identity', 'seldom'), 1, 'where no worker was, nobody wrote that down');
	$standby->restart;
	unlike(ask($reason, 'seldom'), qr/copy/, '… but it is known there too, after a restart');
	queue_text('shop', 'seldom', database => 'seldom');
	ask('CALL sms_drain()', 'seldom');
	is(status_of('seldom', 'seldom'), 'sent', '… and sends');

	$standby->backup('of_promoted');
	my $clone = from_backup($standby, 'of_promoted', name => 'clone_of_promoted');
	is(ask($state, $_), 'held', "a copy of it is held (in $_)") for qw(postgres seldom);
	$clone->stop;
	$standby->stop;
	turn_to($node);
};

subtest 'a backup that was restored holds everything' => sub {
	$node->backup('old');
	fault($simulator, fault => 'latency', value => 500);
	queue_text('shop', 'after the backup');
	ask("SELECT pg_create_restore_point('here')");
	becomes(sub { status_of('after the backup') }, 'sent', 'the original goes on');
	no_faults($simulator);
	queue_text('shop', 'after the point');
	ask('SELECT pg_switch_wal()');
	becomes("SELECT last_archived_wal IS NOT NULL AND last_archived_wal >= (SELECT pg_walfile_name(
		pg_current_wal_lsn() - 1)) FROM pg_stat_archiver", 't', 'all is archived');
	forget($simulator);
	my $restore = "restore_command = 'cp \"$archive/%f\" \"%p\"'\n";
	my $point = $restore . "recovery_target_name = 'here'\n";
	my $why = 'The server was restored from a backup, not promoted';

	my $restored = from_backup($node, 'old', name => 'to_a_point', signal => 'recovery.signal',
		settings => "${point}recovery_target_action = promote\n");
	becomes('SELECT pg_is_in_recovery()', 'f', 'restored to a point');
	holds($restored, $why);
	is(status_of('after the backup'), 'queued', '… with a message that the original sent');
	$restored->restart;
	is(ask($state), 'held', '… after a restart too');
	$restored->stop;

	$restored = from_backup($node, 'old', name => 'paused', signal => 'recovery.signal', settings => $point);
	becomes("SELECT pg_get_wal_replay_pause_state()", 'paused', 'restored to a point, where it waits');
	ask('SELECT pg_promote()');
	holds($restored, $why);
	$restored->stop;

	$restored = from_backup($node, 'old', name => 'to_the_end', signal => 'recovery.signal', settings => $restore);
	becomes('SELECT pg_is_in_recovery()', 'f', 'restored to the end of the archive');
	holds($restored, $why);
	is(join(',', map { $_->{content} } requests($simulator)), '', 'none of them sent anything');
	ask("SELECT sms_adopt_outbox('{queued}')");
	sends('restored and adopted', 'adopted, it sends');
	$restored->stop;
	turn_to($node);
};

# It is in PostgreSQL since 17.
subtest 'pg_createsubscriber sends nothing twice' => sub {
	my $tool = $node->config_data('--bindir') . '/pg_createsubscriber';
	plan skip_all => 'this PostgreSQL has no pg_createsubscriber' if !-x $tool;
	ask("ALTER SYSTEM SET wal_level = 'logical'");
	$node->restart;
	$node->backup('subscriber');
	my $standby = from_backup($node, 'subscriber', name => 'subscriber', standby => 1,
		settings => "hot_standby_feedback = on\n");
	$standby->stop;
	turn_to($node);
	# Messages are queued all the time, and some are under way.
	fault($simulator, fault => 'latency', value => 100);
	my $writer = IPC::Run::start([ $node->installed_command('psql'), '-Xq', '-d', $node->connstr('postgres'), '-c',
			"DO \$\$ BEGIN FOR i IN 1 .. 1500 LOOP
				INSERT INTO sms_outbox (gateway, phone, content) VALUES ('cpaas', '0901234567', 'window ' || i);
				COMMIT; PERFORM pg_sleep(0.015);
			END LOOP; END \$\$" ], '>', '/dev/null', '2>', '/dev/null');
	$standby->command_ok([ $tool, '-D', $standby->data_dir, '-P', $node->connstr('postgres'), '-d', 'postgres',
			'-s', $standby->host, '-p', $standby->port ], 'pg_createsubscriber');
	$standby->start;
	turn_to($standby);
	is(ask($state), 'held', 'the subscriber is held');
	my $writes = "FROM pg_stat_activity WHERE query LIKE 'DO %window%' AND pid <> pg_backend_pid()";
	ask_on($node, "SELECT pg_terminate_backend(pid) $writes");
	$writer->finish;
	becomes("SELECT count(*) $writes", 0, 'nothing more is queued', node => $node);
	no_faults($simulator);
	turn_to($node);
	becomes("SELECT count(*) FROM sms_outbox WHERE status = 'queued'", 0, 'all are sent', seconds => 60);
	my %times;
	$times{ $_->{content} }++ for grep { ($_->{content} // '') =~ /^window/ } requests($simulator);
	cmp_ok(scalar(keys %times), '>', 20, scalar(keys %times) . ' messages were sent');
	is(join(', ', grep { $times{$_} > 1 } sort keys %times), '', 'none of them twice');
	my $rows = "SELECT count(*) FROM sms_outbox WHERE content LIKE 'window%'";
	is(ask_on($node, "SELECT count(*) FROM sms_outbox WHERE status = 'uncertain' AND content LIKE 'window%'"), 0,
		'none is in doubt');
	becomes($rows, ask($rows), 'the subscription works', node => $standby);
	$standby->stop;
	turn_to($node);
};

$node->stop;
done_testing();
