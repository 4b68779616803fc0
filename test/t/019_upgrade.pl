# pg_upgrade with messages queued: from an older version where test/run found one (SMS_OLD_PATH), else from this one.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = simulator();
my $old = server('old', install_path => $ENV{SMS_OLD_PATH}, from => $ENV{SMS_OLD_SETTINGS});
my $version = ask('SHOW server_version');
my $new = PostgreSQL::Test::Cluster->new('new');
my $all = 'SELECT content, status FROM sms_outbox ORDER BY id';
my $one_sent_one_waiting = "sent before|sent\nwaits|queued";

sub has_checksums
{
	my ($node) = @_;
	my ($out) = run_command([ $node->installed_command('pg_controldata'), $node->data_dir ]);
	return $out !~ /^Data page checksum version:\s+0$/m;
}

# Makes a server like the old one, not started.  pg_upgrade wants both with checksums or both without; initdb makes
# them from version 18 on.
sub init_like_old
{
	my ($major) = `initdb --version` =~ / (\d+)/;
	my @checksums = $major >= 18 && !has_checksums($old) ? '--no-data-checksums' : ();
	$new->init(extra => [ '--encoding=UTF8', '--locale=C.UTF-8', @checksums ]);
	$new->append_conf('postgresql.conf',
		$ENV{SMS_SETTINGS} ? slurp_file($ENV{SMS_SETTINGS}) : "shared_preload_libraries = 'sms_gateway'\n");
	$new->append_conf('postgresql.conf', "fsync = on\nsms_gateway.retry_initial = 100ms\n");
	return;
}

subtest 'before' => sub {
	gateways($old, $simulator);
	worker_pid($old);
	queue_text('cpaas', 'sent before');
	finish($old, 10);
	ask("SELECT sms_pause('shop', 'test')");
	queue_text('shop', 'waits');
	is(ask($all), $one_sent_one_waiting, "in $version, one is sent and one waits");
	$old->stop;
};

subtest 'pg_upgrade keeps the rows' => sub {
	init_like_old();
	# It writes its files into the current directory.
	chdir PostgreSQL::Test::Utils::tempdir();
	$new->command_ok([ 'pg_upgrade', '-s', $new->host,
			'-b', $old->config_data('--bindir'), '-d', $old->data_dir, '-p', $old->port,
			'-B', $new->config_data('--bindir'), '-D', $new->data_dir, '-P', $new->port ],
		"pg_upgrade from $version");
	forget($simulator);
	$new->start;
	turn_to($new);
	is(ask($all), $one_sent_one_waiting, 'the rows are as they were');
};

subtest 'what was upgraded takes itself for a copy, and sends nothing' => sub {
	like(error_of("SELECT sms_send('0901234567', 'x', 'shop')"), qr/this database is a copy.*sms_adopt_outbox/s,
		'what was upgraded is a new cluster, takes itself for a copy, and says what to do');
	becomes(sub { slurp_file($new->logfile) }, qr/the outbox of this database belongs to another one/,
		'… in the log too', seconds => 10);
	stays(sub { stats($simulator)->{requests} }, 0, 1, '… and sends nothing');
};

subtest 'adopted, it sends what waited, and goes on from there' => sub {
	is(ask('SELECT sms_adopt_outbox()'), 2, 'adopted, …');
	ask("SELECT sms_resume('shop')");
	becomes(sub { status_of('waits') }, 'sent', '… it sends what waited', seconds => 15);
	is(times_received($simulator, 'waits'), 1, '… once');
	is(times_received($simulator, 'sent before'), 0, '… and not what was sent before');
	queue_text('cpaas', 'afterwards');
	becomes(sub { status_of('afterwards') }, 'sent', 'and goes on from there', seconds => 10);
};

$new->stop;
done_testing();
