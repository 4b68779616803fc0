# The disk is full while messages are on their way: what cannot be recorded is not sent again, and nothing is lost.
# A preloaded library lets no file of a table or an index grow, as long as a certain file exists.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $full = PostgreSQL::Test::Utils::tempdir() . '/full';
my $simulator = simulator();
my $node;
{
	local %ENV = (%ENV, LD_PRELOAD => preloadable('fulldisk'), FULLDISK_FILE => $full);
	$node = server('full', settings => "autovacuum = off\n");
}
gateways($node, $simulator);
my $worker = worker_pid($node);

sub fill_disk { append_to_file($full, ''); return; }
sub empty_disk { unlink $full or die "$full: $!"; return; }

my $queue = "INSERT INTO sms_outbox (gateway, phone, content)
	SELECT g, '0901234567', g || ' ' || i FROM generate_series(1, 1000) i, unnest('{shop,cpaas}'::name[]) g";
my $count_sent = "SELECT count(*) FROM sms_outbox WHERE status = 'sent'";

subtest 'full before anything can be queued: the application is told' => sub {
	fill_disk();
	like(error_of($queue), qr/could not extend file.*No space left on device/, 'on a full disk an INSERT fails');
	is(stats($simulator)->{requests}, 0, '… and nothing of it goes');
	empty_disk();
};

subtest 'full when the answers come: nowhere to write them to' => sub {
	# There is room for a lease, of which there has been one.
	queue_text('shop', 'before');
	finish($node, 10);
	ask('DELETE FROM sms_outbox');
	forget($simulator);
	ask("SELECT sms_pause('shop', 'test'), sms_pause('cpaas', 'test'); $queue");
	# The answers come when the disk is full, not before.
	fault($simulator, fault => 'latency', value => 300);
	fill_disk();
	ask("SELECT sms_resume('shop'), sms_resume('cpaas')");
	becomes(sub { slurp_file($node->logfile) }, qr/\[$worker\] (ERROR|WARNING):  .*could not extend file/,
		'the worker cannot record, and says so');
	cmp_ok(stats($simulator)->{requests}, '>', 0, 'messages are sent');
	cmp_ok(ask($count_sent), '<', 2000, '(some answers are not recorded)');
	stays(sub { worker_pid($node) }, $worker, 4, 'it goes on trying');
	my ($kb) = slurp_file("/proc/$worker/status") =~ /^RssAnon:\s+(\d+)/m or die;
	cmp_ok($kb, '<', memory(100) * 1024, '… in little memory');
};

subtest 'with room again, all is recorded, and was sent once' => sub {
	empty_disk();
	becomes($count_sent, 2000, 'with room again, all is recorded', seconds => 60);
	my %received;
	$received{ $_->{content} }++ for requests($simulator);
	is(scalar(keys %received), 2000, 'each was sent');
	is(scalar(grep { $_ > 1 } values %received), 0, '… once');
	is(ask('SELECT count(*) FROM sms_gateway_lease'), 0, 'no lease is left');
};

$node->stop;
done_testing();
