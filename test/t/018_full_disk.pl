# The disk is full while messages are on their way: what cannot be recorded is not sent again, and nothing is lost.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $dir = PostgreSQL::Test::Utils::tempdir();
system_or_bail('gcc', '-std=gnu11', '-O2', '-shared', '-fPIC', '-o', "$dir/fulldisk.so", "$FindBin::RealBin/../lib/fulldisk.c", '-ldl');
my $full = "$dir/full";
my $simulator = simulator();
my $node;
{
	local %ENV = (%ENV, LD_PRELOAD => "$dir/fulldisk.so", FULLDISK_FILE => $full);
	$node = server('full', settings => "autovacuum = off\n");
}
sub ask { my ($sql) = @_; return scalar_of($node, $sql); }
sub fill { append_to_file($full, ''); return; }
gateways($node, $simulator);
my $worker = worker_pid($node);
my $queue = "INSERT INTO sms_outbox (gateway, phone, content) SELECT g, '0901234567', g || ' ' || i FROM generate_series(1, 1000) i, unnest('{shop,cpaas}'::name[]) g";

# --- full before anything can be queued: the application is told
fill();
my ($rc, $out, $err) = $node->psql('postgres', $queue);
like($err, qr/could not extend file.*No space left on device/, 'on a full disk an INSERT fails');
is(stats($simulator)->{requests}, 0, '… and nothing of it goes');
unlink $full;

# --- full when the answers come: nowhere to write them to (but room for a lease, of which there have been some)
ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'before'); SELECT sms_wait('10s'); DELETE FROM sms_outbox");
forget($simulator);
ask("SELECT sms_pause('shop', 'test'), sms_pause('cpaas', 'test'); $queue");
fault($simulator, fault => 'latency', value => 300);
fill();
ask("SELECT sms_resume('shop'), sms_resume('cpaas')");
sleep 4;
cmp_ok(stats($simulator)->{requests}, '>', 0, 'messages are sent');
like(slurp_file($node->logfile), qr/\[$worker\] (ERROR|WARNING):  .*could not extend file/, 'the worker cannot record, and says so');
cmp_ok(ask("SELECT count(*) FROM sms_outbox WHERE status = 'sent'"), '<', 2000, '(some answers are not recorded)');
is(worker_pid($node), $worker, 'it goes on trying');
cmp_ok(slurp_file("/proc/$worker/status") =~ /^RssAnon:\s+(\d+)/m ? $1 : die, '<', memory(100) * 1024, '… in little memory');
unlink $full;
ok(wait_until(sub { ask("SELECT count(*) FROM sms_outbox WHERE status = 'sent'") eq '2000' }, 60), 'with room again, all is recorded');
my %received;
$received{ $_->{content} }++ for requests($simulator);
is(scalar(keys %received), 2000, 'each was sent');
is(scalar(grep { $_ > 1 } values %received), 0, '… once');
is(ask('SELECT count(*) FROM sms_gateway_lease'), 0, 'no lease is left');

$node->stop;
done_testing();
