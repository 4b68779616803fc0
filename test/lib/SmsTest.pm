package SmsTest;

# What the TAP tests share: a server with the extension, the simulated gateways, questions to the server, and assertions
# that wait for no longer than they must.  SMS_SETTINGS names a file with the settings under which a server finds the
# extension (test/run makes it); without it, the installed one is used.
#
# Time: everything is waited for in bounded loops, and the bounds grow with patience().  A test sleeps only where the
# passing of time itself is tested, and says so at the end of the line ("# time itself: …", which test/lib/checks.sh
# looks for).

use strict;
use warnings;
use Digest::SHA qw(hmac_sha256);
use Exporter 'import';
use File::Basename qw(dirname);
use HTTP::Tiny;
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Symbol qw(gensym);
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(
	server ask ask_on as_role error_of worker_pid finish hidden
	gateways queue_text status_of in_flight median_ms
	simulator fault hang no_faults forget stats requests times_received
	becomes stays wait_until took patience slowness memory
	preloadable turn_to);

my $http = HTTP::Tiny->new(timeout => 20);

#
# The server
#

my $current;    # the node that was started last; ask() and the like ask this one

# Takes a name and options, returns a running server, which becomes the current one.  Options: preload (default 1),
# settings (text), initdb (options), streaming, install_path (of another version), from (a file with the settings of
# that one).
sub server
{
	my ($name, %options) = @_;
	my $other = $options{install_path};
	my $node = PostgreSQL::Test::Cluster->new($name, $other ? (install_path => $other) : ());
	my $from = $options{from} // $ENV{SMS_SETTINGS};
	my $preload = $options{preload} // 1;
	$node->init(extra => $options{initdb} // [ '--encoding=UTF8', '--locale=C.UTF-8' ],
		allows_streaming => $options{streaming} // 0);
	my $settings = $from ? slurp_file($from) : "shared_preload_libraries = 'sms_gateway'\n";
	$settings =~ s/^shared_preload_libraries.*\n//m if !$preload;
	$node->append_conf('postgresql.conf', $settings);
	# The framework turns fsync off; claims are about durability, so it is on here.
	$node->append_conf('postgresql.conf', "fsync = on\nsms_gateway.retry_initial = 100ms\n") if $preload;
	$node->append_conf('postgresql.conf', $options{settings} // '');
	$node->start;
	return $current = $node;
}

# Takes SQL and a database ('postgres'), returns what the current node answers: rows as lines, columns between bars.
sub ask { my ($sql, $database) = @_; return ask_on($current, $sql, $database); }

# The same of another node.
sub ask_on { my ($node, $sql, $database) = @_; return scalar $node->safe_psql($database // 'postgres', $sql); }

# Takes a role, SQL and options (database), returns what the current node answers to this role.
sub as_role
{
	my ($role, $sql, %options) = @_;
	return scalar $current->safe_psql($options{database} // 'postgres', $sql, extra_params => [ '-U', $role ]);
}

# Takes SQL that has to fail and options (database, role), returns its error with SQLSTATE; '' if it did not fail.
sub error_of
{
	my ($sql, %options) = @_;
	my $error;
	my $status = $current->psql($options{database} // 'postgres', "\\set VERBOSITY verbose\n$sql", stderr => \$error,
		extra_params => $options{role} ? [ '-U', $options{role} ] : []);
	return $status == 0 ? '' : $error || "psql ended with status $status";
}

# Takes a node and a database, returns the process id of its worker, once it is there ('' if none comes); a server that
# restarts is waited for.
sub worker_pid
{
	my ($node, $database) = @_;
	$database //= 'postgres';
	my $sql = "SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'sms_gateway worker' AND datname = '$database'";
	my $pid = '';
	wait_until(sub { ($pid = eval { ask_on($node, $sql, $database) } // '') ne '' });
	return $pid;
}

# Takes a node, seconds and a database, waits until no message is due, at most so long; returns whether none is.
sub finish
{
	my ($node, $seconds, $database) = @_;
	$seconds *= patience();
	return ask_on($node, "SELECT sms_wait(interval '$seconds s')", $database) eq 't';
}

# Takes a phone, returns what stands for it in the counters of the current node's database 'postgres'.
sub hidden
{
	my ($phone) = @_;
	my $secret = ask("SELECT encode(secret, 'hex') FROM sms_gateway_identity");
	return substr(unpack('H*', hmac_sha256("phone\0$phone\0", pack('H*', $secret))), 0, 32);
}

#
# Gateways and messages
#

# Takes a node, a simulator and options; creates the extension and a gateway of each provider in $options{database}.
# $options{shop}, {omni} and {cpaas} are added to their OPTIONS.  Without $options{poll} the providers are not asked
# what became of messages: tests count requests, and a slow machine would see some more.
sub gateways
{
	my ($node, $simulator, %options) = @_;
	my $url = $simulator->{url};
	my %server = (shop => [ 'esms', "brandname 'MYSHOP'", "api_key 'demo', secret_key 'demo'" ],
		omni => [ 'etelecom', "routerule '1,3'", "username 'demo', password 'demo'" ],
		cpaas => [ 'interits', "sender 'MYSHOP'", "api_key 'demo'" ]);
	my $sql = "CREATE EXTENSION IF NOT EXISTS sms_gateway;\n";
	for my $name (sort keys %server)
	{
		my ($wrapper, $own, $secret) = @{ $server{$name} };
		my $more = ($options{poll} ? '' : ", poll_delivery 'false'") . ($options{$name} ? ", $options{$name}" : '');
		$sql .= "CREATE SERVER $name FOREIGN DATA WRAPPER $wrapper OPTIONS (base_url '$url', $own$more);\n";
		$sql .= "CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS ($secret);\n";
	}
	$node->safe_psql($options{database} // 'postgres', $sql);
	return;
}

# Takes a gateway, a text and further columns (their values as SQL; database => where, if not in 'postgres'), puts the
# text into the current node's outbox; returns the id of its row.
sub queue_text
{
	my ($gateway, $content, %columns) = @_;
	my $database = delete $columns{database};
	my @names = sort keys %columns;
	$content =~ s/'/''/g;
	my $columns = join ', ', qw(gateway phone content), @names;
	my $values = join ', ', "'$gateway'", "'0901234567'", "'$content'", @columns{@names};
	return ask("INSERT INTO sms_outbox ($columns) VALUES ($values) RETURNING id", $database);
}

# Takes a text and a database, returns the status of the messages that have it.
sub status_of
{
	my ($content, $database) = @_;
	$content =~ s/'/''/g;
	return ask("SELECT status FROM sms_outbox WHERE content = '$content'", $database);
}

# Takes a gateway and a database, returns how many messages are on their way through it.
sub in_flight
{
	my ($gateway, $database) = @_;
	return ask("SELECT in_flight FROM sms_gateways WHERE name = '$gateway'", $database);
}

# Takes a node, a gateway and a database, returns how long a message takes from its INSERT to its answer: the median of
# ten, in ms.
sub median_ms
{
	my ($node, $gateway, $database) = @_;
	my @took;
	for my $i (1 .. 10)
	{
		ask_on($node, "INSERT INTO sms_outbox (gateway, phone, content)
			VALUES ('$gateway', '0901234567', 'timed $i')", $database);
		sleep 0.1 * patience();
		push @took, ask_on($node, "SELECT coalesce(extract(epoch FROM sent_at - created_at) * 1000, 1e6)
			FROM sms_outbox WHERE content = 'timed $i'", $database);
	}
	return (sort { $a <=> $b } @took)[5];
}

#
# The simulated gateways
#

# Takes the simulator's arguments, returns it running: its url, process and stdin.  It ends with this process, or with
# ->{process}->kill_kill.
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

# Takes a method, a simulator, a path of its control interface and what goes into JSON there; returns its answer.
sub control
{
	my ($method, $simulator, $path, $content) = @_;
	my $answer = $http->request($method, "$simulator->{url}/simulator/$path",
		defined $content ? { content => encode_json($content) } : {});
	die "simulator: $answer->{status} $answer->{content}" unless $answer->{success};
	return $answer->{content};
}

# Takes a simulator and a fault (fault => its name, value, text, match, count, share): answers are faulty from now on.
sub fault { my ($simulator, %fault) = @_; control('POST', $simulator, 'fault', \%fault); return; }

# Takes a simulator and more of a fault: from now on requests are taken and never answered.
sub hang { my ($simulator, %fault) = @_; fault($simulator, fault => 'hang', %fault); return; }

# Takes a simulator: nothing is faulty any more.
sub no_faults { my ($simulator) = @_; control('DELETE', $simulator, 'fault'); return; }

# Takes a simulator, which forgets the requests it has had.
sub forget { my ($simulator) = @_; control('DELETE', $simulator, 'requests'); return; }

# Takes a simulator, returns its counters; {requests} is how many it has had.
sub stats { my ($simulator) = @_; return decode_json(control('GET', $simulator, 'stats')); }

# Takes a simulator, returns the requests it has had: of each its path, body, content, phone, request_id and time.
sub requests { my ($simulator) = @_; return @{ decode_json(control('GET', $simulator, 'requests')) }; }

# Takes a simulator and a text, returns in how many requests it arrived.
sub times_received
{
	my ($simulator, $content) = @_;
	return scalar grep { ($_->{content} // '') eq $content } requests($simulator);
}

#
# Time
#

# What becomes() and stays() look at: the value of a sub, or of SQL in the current node or $options{node}.
sub value_of
{
	my ($what, %options) = @_;
	return scalar(ref $what eq 'CODE' ? $what->() : ask_on($options{node} // $current, $what, $options{database}));
}

# Whether a value is as expected: the same string, or one that a regular expression matches.
sub agrees
{
	my ($got, $expected) = @_;
	return defined $got && (ref $expected eq 'Regexp' ? $got =~ $expected : $got eq $expected);
}

# The assertion itself, with the report of is() or like().
sub judge
{
	my ($got, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 2;
	return ref $expected eq 'Regexp' ? like($got, $expected, $name) : is($got, $expected, $name);
}

# Takes SQL or a sub, an expected string or qr//, a name and options (seconds: 30, times patience(); node; database):
# asserts that the value is as expected before the time is over.  Returns whether it was.
sub becomes
{
	my ($what, $expected, $name, %options) = @_;
	my $got;
	wait_until(sub { agrees($got = value_of($what, %options), $expected) }, $options{seconds});
	return judge($got, $expected, $name);
}

# Takes SQL or a sub, an expected string or qr//, seconds, a name and options (node, database): asserts that the value
# is as expected during all this time.  Returns whether it was.
sub stays
{
	my ($what, $expected, $seconds, $name, %options) = @_;
	my $end = time + $seconds;
	my $got;
	while (agrees($got = value_of($what, %options), $expected) && time < $end)
	{
		sleep 0.05;
	}
	return judge($got, $expected, $name);
}

# Takes a sub and seconds (30, times patience()), waits until the sub returns something true; returns whether it did.
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

# Takes a sub, returns how many seconds it takes.
sub took { my ($sub) = @_; my $start = time; $sub->(); return time - $start; }

# Memcheck is slow, and keeps notes of every byte.
my $memcheck = ($ENV{INSTRUMENTED} // '') eq 'valgrind';

# Returns how many times longer things are waited for.
sub patience { return $memcheck ? 10 : 1; }

# Returns how many times longer one thing may take that is timed.
sub slowness { return $memcheck ? 100 : 1; }

# Takes the MB that a process may usually have, returns those it may have here.
sub memory { my ($mb) = @_; return $memcheck ? 3 * $mb + 300 : $mb; }

#
# Programs that meet what a machine seldom does
#

# Takes the name of a C file beside this one, builds a library for LD_PRELOAD from it; returns the library's path.
sub preloadable
{
	my ($name) = @_;
	my $library = PostgreSQL::Test::Utils::tempdir() . "/$name.so";
	my @options = qw(-std=gnu11 -O2 -Wall -Wextra -shared -fPIC);
	system_or_bail('gcc', @options, '-o', $library, dirname(__FILE__) . "/$name.c", '-ldl');
	return $library;
}

#
# More than one server
#

# Takes a node, which becomes the current one: ask() and the like ask it from now on.
sub turn_to { ($current) = @_; return; }

1;
