# The primary dies under load, and its standby is promoted: what was committed is sent, and nothing twice.
# SMS_PROMOTIONS says how often, each time with the one that was promoted before.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $promotions = $ENV{SMS_PROMOTIONS} // 1;
my $simulator = simulator();
my $primary = server('primary', streaming => 1);
gateways($primary, $simulator, shop => "max_in_flight '200'", cpaas => "max_in_flight '200'");
my $dir = PostgreSQL::Test::Utils::tempdir();

for my $round (1 .. $promotions)
{
	$primary->backup("base$round");
	my $standby = PostgreSQL::Test::Cluster->new("standby$round");
	$standby->init_from_backup($primary, "base$round", has_streaming => 1);
	$standby->append_conf('postgresql.conf', "synchronous_standby_names = ''");
	$standby->start;
	my ($out, $err);
	$standby->psql('postgres', "SELECT sms_send('0901234567', 'x', 'shop')", stderr => \$err);
	like($err, qr/standby sends no messages/, 'a standby refuses to send');
	is(scalar_of($standby, "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'sms_gateway%'"), 0, '… and has neither launcher nor worker');
	# From here on a commit is one only if the standby has it.
	$primary->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf()");

	# Sessions that commit one message after the other, and note each that was committed.
	forget($simulator);
	fault($simulator, fault => 'latency', value => 20);
	my @writers;
	for my $writer (1 .. 4)
	{
		my $script = "$dir/$round-$writer.sql";
		my $gateway = $writer % 2 ? 'shop' : 'cpaas';
		append_to_file($script, join '', map { "INSERT INTO sms_outbox (gateway, phone, content) VALUES ('$gateway', '0901234567', '$gateway $round-$writer-$_') RETURNING content;\n" } 1 .. 20000);
		push @writers, IPC::Run::start([ $primary->installed_command('psql'), '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $primary->connstr('postgres'), '-f', $script ],
			'>', "$dir/$round-$writer.out", '2>', '/dev/null');
	}
	sleep 1.5 * patience();
	my $pid = slurp_file($primary->data_dir . '/postmaster.pid') =~ /^(\d+)/ ? $1 : die;
	kill 'KILL', $pid;
	$standby->promote;
	$_->finish for @writers;
	# What the postmaster left behind ends by itself, but is not to be waited for in silence.
	ok(wait_until(sub { !kill(0, $pid) || !-e "/proc/$pid" }, 10), 'the primary is dead');
	$primary->{_pid} = undef;

	my @committed = map { split /\n/, slurp_file("$dir/$round-$_.out") } 1 .. 4;
	cmp_ok(scalar @committed, '>', 100, scalar(@committed) . ' messages were committed before it died');
	no_faults($simulator);
	ok(wait_until(sub { scalar_of($standby, "SELECT count(*) FROM sms_outbox WHERE status = 'queued'") eq '0' }, 60), 'the promoted standby finishes');
	my %status = map { split /\|/ } split /\n/, scalar_of($standby, "SELECT content, status FROM sms_outbox WHERE content LIKE '% $round-%'");
	is(scalar(grep { !defined $status{$_} } @committed), 0, 'none is lost');
	is(scalar(grep { /^shop/ && $status{$_} ne 'sent' } @committed), 0, 'all of the gateway that knows repeats are sent');
	is(scalar(grep { /^cpaas/ && $status{$_} !~ /^(sent|uncertain)$/ } @committed), 0, 'all of the other are sent, or in doubt');

	# What the gateways acted on: eSMS refuses a RequestId that it knows.
	my %received;
	my %request_id;
	for my $request (grep { ($_->{content} // '') =~ / $round-/ } requests($simulator))
	{
		next if $request->{content} =~ /^shop/ && $request_id{ $request->{request_id} }++;
		$received{ $request->{content} }++;
	}
	is(join(', ', map { "$_ ($status{$_})" } grep { $received{$_} > 1 } sort keys %received), '', 'none went twice');
	is(scalar(grep { $status{$_} eq 'sent' && !$received{$_} } @committed), 0, 'what is said to be sent was');
	note(scalar(grep { $_ eq 'uncertain' } values %status) . ' in doubt');
	$primary = $standby;
}

$primary->stop;
done_testing();
