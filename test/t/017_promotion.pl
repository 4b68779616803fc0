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

my $promotions = $ENV{SMS_PROMOTIONS} // 1;
my $simulator = simulator();
my $primary = server('primary', streaming => 1);
gateways($primary, $simulator, shop => "max_in_flight '200'", cpaas => "max_in_flight '200'");
my $dir = PostgreSQL::Test::Utils::tempdir();

sub standby_of_primary
{
	my ($round) = @_;
	$primary->backup("base$round");
	my $standby = PostgreSQL::Test::Cluster->new("standby$round");
	$standby->init_from_backup($primary, "base$round", has_streaming => 1);
	$standby->append_conf('postgresql.conf', "synchronous_standby_names = ''");
	$standby->start;
	return $standby;
}

# A session that commits one message after the other, and notes each that was committed in a file: both are returned.
sub writer
{
	my ($round, $writer) = @_;
	my ($script, $committed) = map { "$dir/$round-$writer.$_" } qw(sql out);
	my $gateway = $writer % 2 ? 'shop' : 'cpaas';
	append_to_file($script, join '', map {
		"INSERT INTO sms_outbox (gateway, phone, content)
			VALUES ('$gateway', '0901234567', '$gateway $round-$writer-$_') RETURNING content;\n" } 1 .. 20000);
	my $session = IPC::Run::start([ $primary->installed_command('psql'), '-XAtq', '-v', 'ON_ERROR_STOP=1',
			'-d', $primary->connstr('postgres'), '-f', $script ], '>', $committed, '2>', '/dev/null');
	return ($session, $committed);
}

# Kills the primary's postmaster and promotes the standby at once, as in a crash; the writers lose their server.
sub fail_over
{
	my ($standby, @writers) = @_;
	my $pid = slurp_file($primary->data_dir . '/postmaster.pid') =~ /^(\d+)/ ? $1 : die;
	kill 'KILL', $pid;
	$standby->promote;
	$_->finish for @writers;
	# What the postmaster left behind ends by itself, but is not to be waited for in silence.
	ok(wait_until(sub { !kill(0, $pid) || !-e "/proc/$pid" }, 10), 'the primary is dead');
	# The framework would stop it when the test ends.
	$primary->{_pid} = undef;
	return;
}

for my $round (1 .. $promotions)
{
	my $standby = standby_of_primary($round);
	turn_to($standby);

	subtest "standby $round sends nothing while it is one" => sub {
		like(error_of("SELECT sms_send('0901234567', 'x', 'shop')"), qr/standby sends no messages/,
			'a standby refuses to send');
		is(ask("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'sms_gateway%'"), 0,
			'… and has neither launcher nor worker');
	};

	subtest "promoted under load, standby $round sends what was committed, and nothing twice" => sub {
		# From here on a commit is one only if the standby has it.
		ask_on($primary, "ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf()");
		forget($simulator);
		fault($simulator, fault => 'latency', value => 20);
		my (@writers, @files);
		($writers[$_], $files[$_]) = writer($round, $_) for 0 .. 3;
		my $written = "SELECT count(*) FROM sms_outbox WHERE content LIKE '% $round-%'";
		wait_until(sub { ask_on($primary, $written) >= 4000 }, 15);
		fail_over($standby, @writers);

		my @committed = map { split /\n/, slurp_file($_) } @files;
		cmp_ok(scalar @committed, '>', 100, scalar(@committed) . ' messages were committed before it died');
		no_faults($simulator);
		becomes("SELECT count(*) FROM sms_outbox WHERE status = 'queued'", 0, 'the promoted standby finishes',
			seconds => 60);
		my %status = map { split /\|/ }
			split /\n/, ask("SELECT content, status FROM sms_outbox WHERE content LIKE '% $round-%'");
		is(scalar(grep { !defined $status{$_} } @committed), 0, 'none is lost');
		is(scalar(grep { /^shop/ && $status{$_} ne 'sent' } @committed), 0,
			'all of the gateway that knows repeats are sent');
		is(scalar(grep { /^cpaas/ && $status{$_} !~ /^(sent|uncertain)$/ } @committed), 0,
			'all of the other are sent, or in doubt');

		# What the gateways acted on: eSMS refuses a RequestId that it knows.
		my (%received, %request_id);
		for my $request (grep { ($_->{content} // '') =~ / $round-/ } requests($simulator))
		{
			next if $request->{content} =~ /^shop/ && $request_id{ $request->{request_id} }++;
			$received{ $request->{content} }++;
		}
		is(join(', ', map { "$_ ($status{$_})" } grep { $received{$_} > 1 } sort keys %received), '',
			'none went twice');
		is(scalar(grep { $status{$_} eq 'sent' && !$received{$_} } @committed), 0, 'what is said to be sent was');
		note(scalar(grep { $_ eq 'uncertain' } values %status) . ' in doubt');
	};
	$primary = $standby;
}

$primary->stop;
done_testing();
