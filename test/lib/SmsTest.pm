package SmsTest;

# What the TAP tests share: a server with the extension, the simulated gateways, and
# bounded waits.  SMS_SETTINGS names a file with the settings under which a server
# finds the extension (test/run makes it); without it, the installed one is used.

use strict;
use warnings;
use Exporter 'import';
use HTTP::Tiny;
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Symbol qw(gensym);
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(server simulator fault no_faults forget stats requests gateways wait_until patience slowness memory finish worker_pid scalar_of median_ms);

my $http = HTTP::Tiny->new(timeout => 20);

# A running server; %options: preload (default 1), settings (text), initdb (options), streaming, install_path (of another
# version) and from (a file with the settings for that).
sub server
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name, $options{install_path} ? (install_path => $options{install_path}) : ());
	my $from = $options{from} // $ENV{SMS_SETTINGS};
	$node->init(extra => $options{initdb} // [ '--encoding=UTF8', '--locale=C.UTF-8' ],
		allows_streaming => $options{streaming} // 0);
	my $settings = $from ? slurp_file($from) : "shared_preload_libraries = 'sms_gateway'\n";
	$settings =~ s/^shared_preload_libraries.*\n//m if !($options{preload} // 1);
	$node->append_conf('postgresql.conf', $settings);
	# The framework turns fsync off; claims are about durability, so it is on here.
	$node->append_conf('postgresql.conf', "fsync = on\nsms_gateway.retry_initial = 100ms\n") if $options{preload} // 1;
	$node->append_conf('postgresql.conf', $options{settings} // '');
	$node->start;
	return $node;
}

# Starts the simulator; it ends with this process, or with ->{process}->kill_kill.
sub simulator
{
	my ($out, $in) = ('', gensym);
	my $process = IPC::Run::start([ $ENV{SMS_SIMULATOR} // 'test/simulator/simulator', @_ ],
		'<pipe', $in, '>', \$out);
	for (1 .. 200)
	{
		$process->pump_nb;
		last if $out =~ /\n/;
		sleep 0.02;
	}
	$out =~ m{^(https?:\S+)} or die "the simulator did not start";
	return { url => $1, process => $process, stdin => $in };
}

sub control
{
	my ($method, $simulator, $path, $content) = @_;
	my $answer = $http->request($method, "$simulator->{url}/simulator/$path",
		defined $content ? { content => encode_json($content) } : {});
	die "simulator: $answer->{status} $answer->{content}" unless $answer->{success};
	return $answer->{content};
}

sub fault { my ($simulator, %fault) = @_; control('POST', $simulator, 'fault', \%fault); return; }
sub no_faults { control('DELETE', $_[0], 'fault'); return; }
sub forget { control('DELETE', $_[0], 'requests'); return; }
sub stats { return decode_json(control('GET', $_[0], 'stats')); }
sub requests { return @{ decode_json(control('GET', $_[0], 'requests')) }; }

# Creates the extension and a gateway of each provider; $options{shop} etc. are added.  Without $options{poll} the
# providers are not asked what became of messages: tests count requests, and a slow machine would see some more.
sub gateways
{
	my ($node, $simulator, %options) = @_;
	my $database = $options{database} // 'postgres';
	my %server = (shop => [ 'esms', "brandname 'MYSHOP'", "api_key 'demo', secret_key 'demo'" ],
		omni => [ 'etelecom', "routerule '1,3'", "username 'demo', password 'demo'" ],
		cpaas => [ 'interits', "sender 'MYSHOP'", "api_key 'demo'" ]);
	my $sql = "CREATE EXTENSION IF NOT EXISTS sms_gateway;\n";
	for my $name (sort keys %server)
	{
		my ($wrapper, $own, $secret) = @{ $server{$name} };
		my $more = ($options{poll} ? '' : ", poll_delivery 'false'") . ($options{$name} ? ", $options{$name}" : '');
		$sql .= "CREATE SERVER $name FOREIGN DATA WRAPPER $wrapper OPTIONS (base_url '$simulator->{url}', $own$more);\n";
		$sql .= "CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS ($secret);\n";
	}
	$node->safe_psql($database, $sql);
	return;
}

# Memcheck is slow, and keeps notes of every byte: how much longer things are waited for, how much longer one thing
# may take that is timed, and how many MB a process may have that may usually have so many.
my $memcheck = ($ENV{INSTRUMENTED} // '') eq 'valgrind';
sub patience { return $memcheck ? 10 : 1; }
sub slowness { return $memcheck ? 100 : 1; }
sub memory { my ($mb) = @_; return $memcheck ? 3 * $mb + 300 : $mb; }

# Waits until a condition holds, at most $seconds (30); returns whether it did.
sub wait_until
{
	my ($condition, $seconds) = @_;
	my $end = time + ($seconds // 30) * patience();
	while (time < $end)
	{
		return 1 if $condition->();
		sleep 0.02;
	}
	return 0;
}

# Waits until no message is due, at most $seconds; returns whether none is.
sub finish
{
	my ($node, $seconds, $database) = @_;
	return scalar_of($node, "SELECT sms_wait(interval '1s' * " . $seconds * patience() . ")", $database) eq 't';
}

sub scalar_of { my ($node, $sql, $database) = @_; return $node->safe_psql($database // 'postgres', $sql); }

# How long a message through a gateway takes from its INSERT to its answer: the median of ten, in ms.
sub median_ms
{
	my ($node, $gateway, $database) = @_;
	my @took;
	for my $i (1 .. 10)
	{
		scalar_of($node, "INSERT INTO sms_outbox (gateway, phone, content) VALUES ('$gateway', '0901234567', 'timed $i')", $database);
		sleep 0.1 * patience();
		push @took, scalar_of($node, "SELECT coalesce(extract(epoch FROM sent_at - created_at) * 1000, 1e6) FROM sms_outbox WHERE content = 'timed $i'", $database);
	}
	return (sort { $a <=> $b } @took)[5];
}

# The process of the worker of a database, once it is there; a server that restarts is waited for.
sub worker_pid
{
	my ($node, $database) = @_;
	my $pid = '';
	$database //= 'postgres';
	wait_until(sub {
		$pid = eval { scalar_of($node, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'sms_gateway worker' AND datname = '$database'") } // '';
		$pid ne '';
	});
	return $pid;
}

1;
