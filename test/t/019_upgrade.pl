# pg_upgrade with messages queued: from an older version where test/run found one (SMS_OLD_PATH), else from this one.
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
my $message = "INSERT INTO sms_outbox (gateway, phone, content) VALUES";
sub sent { my ($content) = @_; return scalar grep { ($_->{content} // '') eq $content } requests($simulator); }

my $old = server('old', install_path => $ENV{SMS_OLD_PATH}, from => $ENV{SMS_OLD_SETTINGS});
my $version = scalar_of($old, 'SHOW server_version');
gateways($old, $simulator);
worker_pid($old);
$old->safe_psql('postgres', "$message ('cpaas', '0901234567', 'sent before'); SELECT sms_wait('10s')");
$old->safe_psql('postgres', "SELECT sms_pause('shop', 'test'); $message ('shop', '0901234567', 'waits')");
is(scalar_of($old, 'SELECT content, status FROM sms_outbox ORDER BY id'), "sent before|sent\nwaits|queued", "in $version, one is sent and one waits");
$old->stop;

my $new = PostgreSQL::Test::Cluster->new('new');
my $checksums = scalar_of_control($old, 'Data page checksum version') eq '0' && `initdb --version` =~ / (\d+)/ && $1 >= 18 ? ['--no-data-checksums'] : [];
$new->init(extra => [ '--encoding=UTF8', '--locale=C.UTF-8', @$checksums ]);
$new->append_conf('postgresql.conf', $ENV{SMS_SETTINGS} ? slurp_file($ENV{SMS_SETTINGS}) : "shared_preload_libraries = 'sms_gateway'\n");
$new->append_conf('postgresql.conf', "fsync = on\nsms_gateway.retry_initial = 100ms\n");
chdir PostgreSQL::Test::Utils::tempdir();
$new->command_ok([ 'pg_upgrade', '-b', $old->config_data('--bindir'), '-B', $new->config_data('--bindir'), '-d', $old->data_dir, '-D', $new->data_dir,
		'-s', $new->host, '-p', $old->port, '-P', $new->port ], "pg_upgrade from $version");
forget($simulator);
$new->start;
is(scalar_of($new, 'SELECT content, status FROM sms_outbox ORDER BY id'), "sent before|sent\nwaits|queued", 'the rows are as they were');
my $err;
$new->psql('postgres', "SELECT sms_send('0901234567', 'x', 'shop')", stderr => \$err);
like($err, qr/this database is a copy.*sms_adopt_outbox/s, 'what was upgraded is a new cluster, takes itself for a copy, and says what to do');
ok(wait_until(sub { slurp_file($new->logfile) =~ /the outbox of this database belongs to another one/ }, 10), '… in the log too');
sleep 1;
is(stats($simulator)->{requests}, 0, '… and sends nothing');
is(scalar_of($new, "SELECT sms_adopt_outbox()"), 2, 'adopted, …');
$new->safe_psql('postgres', "SELECT sms_resume('shop')");
ok(wait_until(sub { scalar_of($new, "SELECT status FROM sms_outbox WHERE content = 'waits'") eq 'sent' }, 15), '… it sends what waited');
is(sent('waits'), 1, '… once');
is(sent('sent before'), 0, '… and not what was sent before');
$new->safe_psql('postgres', "$message ('cpaas', '0901234567', 'afterwards')");
ok(wait_until(sub { scalar_of($new, "SELECT status FROM sms_outbox WHERE content = 'afterwards'") eq 'sent' }, 10), 'and goes on from there');
$new->stop;
done_testing();

sub scalar_of_control
{
	my ($node, $name) = @_;
	my ($out) = run_command([ $node->installed_command('pg_controldata'), $node->data_dir ]);
	return $out =~ /^\Q$name\E:\s+(\S+)/m ? $1 : '';
}
