# A gateway is sent as much as it takes, whatever it refuses beyond that, and as soon as an operator says that it is well.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $simulator = simulator();
my $node = server('rate');
gateways($node, $simulator);
worker_pid($node);

# Queues so many texts for a gateway: "$name 1", "$name 2" and so on.
sub queue_many
{
	my ($gateway, $name, $count) = @_;
	ask("INSERT INTO sms_outbox (gateway, phone, content)
		SELECT '$gateway', '0901234567', '$name ' || i FROM generate_series(1, $count) i");
	return;
}

# SQL: how many of these have a status.
sub count_of
{
	my ($name, $status) = @_;
	return "SELECT count(*) FROM sms_outbox WHERE content LIKE '$name %' AND status = '$status'";
}

# SQL: what sms_gateways says of a gateway.
sub state_of { my ($gateway) = @_; return "SELECT state FROM sms_gateways WHERE name = '$gateway'"; }

# How many of these a second were sent, but for the first second of $options{seconds}, and the share of requests that
# were refused meanwhile.
sub rate_of
{
	my ($name, %options) = @_;
	my $before = stats($simulator);
	my $start = ask('SELECT clock_timestamp()');
	sleep $options{seconds};    # time itself: a rate is measured
	my $after = stats($simulator);
	my $rate = ask("SELECT count(*) / $options{seconds}.0 FROM sms_outbox WHERE content LIKE '$name %'
		AND sent_at BETWEEN '$start' AND '$start'::timestamptz + interval '$options{seconds} s'");
	my $share = ($after->{refused} - $before->{refused}) / ($after->{requests} - $before->{requests} || 1);
	note sprintf '%s: %.1f a second, %.0f %% of the requests refused', $name, $rate, 100 * $share;
	return ($rate, $share);
}

subtest 'a gateway that takes 500 a second and answers 429 beyond is driven at that' => sub {
	fault($simulator, fault => 'rate', value => 500, burst => 10);
	queue_many('cpaas', 'five hundred', 6000);
	becomes(state_of('cpaas'), 'resting', 'it rests');
	is(ask("SELECT reason ~ '^429' AND since <= now() FROM sms_gateways WHERE name = 'cpaas'"), 't', '… which says why');
	my ($rate, $share) = rate_of('five hundred', seconds => 6);
	cmp_ok($rate, '>', 0.7 * 500, 'most of what it takes');
	cmp_ok($share, '<', 0.25, '… and not much beyond');
	becomes(count_of('five hundred', 'queued'), '0', 'all go', seconds => 20);
	is(ask("SELECT count(*), max(attempts) FROM sms_outbox WHERE content LIKE 'five hundred %' AND status = 'sent'"),
		'6000|1', 'each with one attempt, that counts');
	my $log = slurp_file($node->logfile);
	is(scalar(() = $log =~ /WARNING:  gateway "cpaas" is/g), 1, 'one WARNING');
	is(scalar(() = $log =~ /LOG:  gateway "cpaas" sends again/g), 0, '… and no flapping');
	no_faults($simulator);
	ask("SELECT sms_resume('cpaas')");
	becomes(state_of('cpaas'), 'active', 'sms_resume: it is active');
};

subtest 'one that takes one at a time, and less' => sub {
	fault($simulator, fault => 'rate', value => 500, burst => 1);
	queue_many('cpaas', 'apart', 10000);
	rate_of('apart', seconds => 1);
	my ($rate, $share) = rate_of('apart', seconds => 5);
	cmp_ok($rate, '>', 0.6 * 500, 'most of what it takes');
	no_faults($simulator);
	fault($simulator, fault => 'rate', value => 50, burst => 10);
	rate_of('apart', seconds => 2);
	($rate, $share) = rate_of('apart', seconds => 4);
	cmp_ok($rate, '>', 0.7 * 50, 'a limit that falls is obeyed');
	cmp_ok($share, '<', 0.4, '… soon');
	no_faults($simulator);
	fault($simulator, fault => 'rate', value => 1000, burst => 10);
	rate_of('apart', seconds => 5);
	becomes(count_of('apart', 'queued'), '0', 'one that rises is found', seconds => 20);
	ask("SELECT sms_resume('cpaas')");
};

$node->stop;
done_testing();
