# A long run: the worker's memory does not grow, sessions that send do not either, and nothing is lost.  Short here;
# "make soak" runs it long.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $messages = $ENV{SMS_SOAK_MESSAGES} // 60000 / patience();
my $batch = 10000 / patience();
my $simulator = simulator();
my $node = server('soak', settings => "autovacuum_naptime = 5s\n");
gateways($node, $simulator);

# The anonymous memory of a process, in kB.  Pages of shared buffers that no other process has touched yet also count
# as private in smaps.
sub private_kb
{
	my ($pid) = @_;
	my ($kb) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m;
	return $kb;
}

subtest "the worker's memory does not grow, and nothing is lost" => sub {
	my $worker = worker_pid($node);
	my $before;
	# Some of everything: answers that are wrong, late, repeated.
	fault($simulator, fault => 'garbage', share => 0.01, match => '/MainService');
	fault($simulator, fault => 'http', value => 503, share => 0.01);
	fault($simulator, fault => 'close', share => 0.002, match => '/MainService');
	for (my $sent = 0; $sent < $messages; $sent += $batch)
	{
		ask("INSERT INTO sms_outbox (gateway, phone, content, list_param, kind, template_code, priority)
			SELECT g, '0901234567', CASE g WHEN 'omni' THEN NULL ELSE 'Đơn hàng ' || i END, '{\"a\": \"b\"}',
				CASE g WHEN 'omni' THEN 'omni' ELSE 'text' END, CASE g WHEN 'omni' THEN 'T' END, i % 3
			FROM generate_series(1, $batch / 2) i,
				unnest(ARRAY['shop', CASE i % 2 WHEN 0 THEN 'omni' ELSE 'cpaas' END]::name[]) g");
		ok(finish($node, 120), 'a batch is done') or last;
		$before //= private_kb($worker);
	}
	is(worker_pid($node), $worker, 'one worker did it all');
	my $growth = (private_kb($worker) - $before) / 1024;
	cmp_ok($growth, '<', memory(4), sprintf("the worker's memory grew by %.1f MB after the first $batch", $growth));
	# sms_wait() did not wait for those that wait for another attempt: they are not due.
	becomes("SELECT count(*) FROM sms_outbox WHERE status = 'queued'", '0', 'none waits any more', seconds => 60);
	is(ask("SELECT gateway, status, result_code, result_message, count(*) FROM sms_outbox
			WHERE status <> 'sent' GROUP BY 1, 2, 3, 4"), '', 'all were sent');
	is(ask("SELECT count(*) FROM sms_gateway_lease"), '0', 'no lease is left');
	no_faults($simulator);
};

subtest "a session's memory does not grow" => sub {
	my $calls = int($messages / 6);
	my $anonymous = "SELECT regexp_replace(line, '\\D', '', 'g')::bigint
			FROM regexp_split_to_table(pg_read_file('/proc/self/status', 0, 100000), '\\n') line
			WHERE line ~ '^RssAnon'";
	my $answers = ask("SELECT sms_send('0901234567', 'x', 'shop') IS NULL FROM generate_series(1, 500);
		CREATE TEMP TABLE at_first AS $anonymous;
		SELECT count(sms_send('0901234567', 'x', 'shop')) FROM generate_series(1, $calls);
		SELECT (($anonymous) - (SELECT regexp_replace FROM at_first)) / 1024");
	my $grown = (split /\n/, $answers)[-1];
	cmp_ok($grown, '<', memory(4), "a session's memory grew by $grown MB over $calls calls");
};

$node->stop;
done_testing();
