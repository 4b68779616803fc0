# The wire: connections that end while they rest, streams that end before their time, TLS and none, HTTP/1.1 and HTTP/2.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $dir = PostgreSQL::Test::Utils::tempdir();
my @tls = ('--tls-cert', "$dir/tls.crt", '--tls-key', "$dir/tls.key");
my $ca = "ca_file '$dir/tls.crt'";

system_or_bail(qw(openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=gateway -addext),
	'subjectAltName = IP:127.0.0.1', '-keyout', "$dir/tls.key", '-out', "$dir/tls.crt");

my $node = server('wire');
my $worker;

# How many connections of a process a server has closed and it has not.
sub close_waits
{
	my ($pid) = @_;
	my %of_process = map { (readlink($_) // '') =~ /^socket:\[(\d+)\]/ ? ($1 => 1) : () } glob "/proc/$pid/fd/*";
	my @lines = split /\n/, slurp_file("/proc/$pid/net/tcp");
	return scalar grep { my @f = split; $f[3] eq '08' && $of_process{ $f[9] } } @lines;
}

# A program for node, started: the url that it prints.
my @servers;
sub node_program
{
	my ($name, @arguments) = @_;
	my ($in, $out) = ('', '');
	my $process = IPC::Run::start([ 'node', "$FindBin::RealBin/../lib/$name.js", @arguments ], \$in, '>', \$out);
	push @servers, $process;
	wait_until(sub { $process->pump_nb; $out =~ /\n/ }) or die 'node does not start';
	return $out =~ s/\n.*//rs;
}

# A server of HTTP/2 that behaves in a way (h2.js tells which there are): its url.
sub http2_server { my ($mode) = @_; return node_program('h2', "$dir/tls.key", "$dir/tls.crt", $mode); }

# What such a server has seen.
sub http2_stats
{
	my ($url) = @_;
	my ($said) = run_command([ 'curl', '-sk', "$url/stats" ]);
	return decode_json($said);
}

# How many sockets a process has open.
sub sockets
{
	my ($pid) = @_;
	return scalar grep { (readlink($_) // '') =~ /^socket:/ } glob "/proc/$pid/fd/*";
}

# Puts so many messages into the outbox; returns the last one's id.
sub many
{
	my ($gateway, $n) = @_;
	my ($columns, $values) = $gateway eq 'omni' ? ('kind, template_code', "'omni', 'T'") : ('content', "'text ' || i");
	return ask("WITH new AS (INSERT INTO sms_outbox (gateway, phone, $columns)
			SELECT '$gateway', '0901234567', $values FROM generate_series(1, $n) i RETURNING id)
		SELECT max(id) FROM new");
}

# Seconds after which servers close a connection that rests, and for which it rests: the usual ones, on demand.
my ($keep, $rest) = $ENV{SMS_LONG_REST} ? (5, 8) : (1, 3);

# Many messages at once through a gateway whose server closes connections that rest; then, when it has, as many again.
sub burst_and_rest
{
	my ($gateway, $what) = @_;
	my $burst = sub { my ($text) = @_; many($gateway, 64); ok(finish($node, 30), "$what: $text is answered"); };
	$burst->('a burst');
	sleep $rest;    # time itself: the server closes its connections
	is(close_waits($worker), 0, "$what: no connection stays half closed");
	my $one = many($gateway, 1);
	becomes("SELECT status, attempts FROM sms_outbox WHERE id = $one", 'sent|1', "$what: one message, one attempt",
		seconds => 5);
	cmp_ok(ask("SELECT extract(epoch FROM sent_at - created_at) FROM sms_outbox WHERE id = $one"), '<',
		0.2 * slowness(), "$what: … at once");
	$burst->('another burst');
	is(ask("SELECT count(*) FROM sms_outbox WHERE gateway = '$gateway' AND (status <> 'sent' OR attempts <> 1)"), 0,
		"$what: one attempt each");
	return;
}

subtest 'a connection that was closed while it rested costs no attempt' => sub {
	my %simulators = (TLS => simulator(@tls, '--keep-alive', $keep), plain => simulator('--keep-alive', $keep));
	gateways($node, $simulators{TLS}, map { $_ => $ca } qw(shop omni cpaas));
	$worker = worker_pid($node);
	for my $kind (qw(TLS plain))
	{
		ask("ALTER SERVER $_ OPTIONS (SET base_url '$simulators{$kind}{url}')") for qw(shop omni);
		burst_and_rest('shop', "$kind, repeats are safe");
		ask('DELETE FROM sms_outbox');
		burst_and_rest('omni', "$kind, repeats are not safe");
		ask('DELETE FROM sms_outbox');
	}
};

subtest 'nor does it cost sms_send one' => sub {
	my $simulator = simulator(@tls, qw(--keep-alive 1));
	my %send = (shop => "sms_send('0901234567', 'in a session', 'shop')",
		omni => "sms_omni_send('0901234567', 'T', gateway => 'omni')");
	for my $gateway (qw(shop omni))
	{
		ask("ALTER SERVER $gateway OPTIONS (SET base_url '$simulator->{url}')");
		my $send = "SELECT status FROM $send{$gateway}";
		my $took;
		my $said;
		$took = took(sub { $said = ask("$send; SELECT pg_sleep(2.5); $send") });
		is($said =~ s/\n+/ /gr, 'sent sent', "$gateway: sent, and sent");
		cmp_ok($took, '<', 2.5 + 1 * slowness(), "$gateway: … at once");
	}
};

subtest 'what a server of HTTP/2 did not process is not in doubt' => sub {
	plan skip_all => 'needs node' if !grep { -x "$_/node" } split /:/, $ENV{PATH};
	for my $mode (qw(plain goaway refuse early))
	{
		my %url = map { $_ => http2_server($mode) } qw(shop omni);
		ask("ALTER SERVER $_ OPTIONS (SET base_url '$url{$_}')") for qw(shop omni);
		many($_, 500) for qw(shop omni);
		becomes('SELECT gateway, status, count(*) FROM sms_outbox GROUP BY 1, 2 ORDER BY 1',
			"omni|sent|500\nshop|sent|500", "$mode: all are sent", seconds => 60);
		# A server that refuses and closes much more than real ones do may use up libcurl's own repeats, and of an
		# answer that comes together with its stream's end libcurl may drop the end.
		my $patient = $mode eq 'plain' ? '' : " AND gateway = 'omni'";
		is(ask("SELECT max(attempts) FROM sms_outbox WHERE true$patient"), 1, "$mode: each in one attempt");
		my ($shop, $omni) = map { http2_stats($url{$_}) } qw(shop omni);
		cmp_ok($shop->{2}, '>=', 500, "$mode: HTTP/2 where repeats are safe");
		is("$omni->{1} $omni->{2}", '500 0', "$mode: HTTP/1.1 where they are not, and each once");
		ask('DELETE FROM sms_outbox');
	}
};

subtest 'many requests at once over HTTP/2 share connections' => sub {
	plan skip_all => 'needs node' if !grep { -x "$_/node" } split /:/, $ENV{PATH};
	my $url = http2_server('slow');
	ask("ALTER SERVER shop OPTIONS (SET base_url '$url', ADD max_in_flight '1000')");
	many('shop', 1000);
	becomes('SELECT status, max(attempts), count(*) FROM sms_outbox GROUP BY 1', 'sent|1|1000', 'all are sent',
		seconds => 60);
	my $stats = http2_stats($url);
	cmp_ok($stats->{connections} - 1, '<=', 10, "… over $stats->{connections} connections, one of them the test's");
	cmp_ok($stats->{streams}, '==', 1000, '… and 1000 streams');
	cmp_ok($stats->{most}, '>=', 700, "… $stats->{most} of them at once");
	ask("ALTER SERVER shop OPTIONS (DROP max_in_flight); DELETE FROM sms_outbox");
};

subtest 'a connection that nobody uses is closed in the end' => sub {
	my $simulator = simulator(@tls);
	ask("ALTER SERVER $_ OPTIONS (SET base_url '$simulator->{url}')") for qw(shop omni);
	my $before = sockets($worker);
	many($_, 20) for qw(shop omni);
	becomes('SELECT status, count(*) FROM sms_outbox GROUP BY 1', 'sent|40', 'messages are sent');
	becomes(sub { sockets($worker) <= $before }, 1, 'after a while no socket is open any more', seconds => 60);
	many($_, 20) for qw(shop omni);
	becomes('SELECT status, max(attempts), count(*) FROM sms_outbox GROUP BY 1', 'sent|1|80', 'and more are sent');
	ask('DELETE FROM sms_outbox');
};

subtest 'a proxy may want credentials, which are secrets, and says clearly what it does not like' => sub {
	my $simulator = simulator(@tls);
	my $proxy = node_program('proxy', 'me:pass word');
	my $send = "SELECT status, result_code, result_message FROM sms_send('0901234567', 'x', 'shop')";
	ask("ALTER SERVER shop OPTIONS (SET base_url '$simulator->{url}', ADD proxy '$proxy')");
	like(ask($send), qr/^failed\|proxy\|the proxy wants other credentials: proxy_user/, 'without them');
	my $one = many('shop', 1);
	becomes("SELECT state FROM sms_gateways WHERE name = 'shop'", 'paused', "it is the gateway's trouble");
	is(ask("SELECT status, attempts FROM sms_outbox WHERE id = $one"), 'queued|0', "… not the message's");
	ask("ALTER USER MAPPING FOR PUBLIC SERVER shop OPTIONS (ADD proxy_user 'me', ADD proxy_password 'pass word')");
	like(ask($send), qr/^sent\|100/, 'with them');
	ask("SELECT sms_resume('shop')");
	becomes("SELECT status FROM sms_outbox WHERE id = $one", 'sent', 'and the worker sends');
	ask("ALTER SERVER shop OPTIONS (SET base_url 'https://127.0.0.1:1')");
	like(ask($send), qr/^failed\|proxy\|the proxy does not let requests pass/, 'a server that it does not allow');
	like(error_of("ALTER SERVER shop OPTIONS (ADD proxy_password 'x')"), qr/"proxy_password" is a secret/,
		'servers can be read by everybody');
	ask('CREATE ROLE tenant LOGIN; GRANT USAGE ON FOREIGN SERVER shop TO tenant');
	like(error_of("CREATE USER MAPPING FOR tenant SERVER shop OPTIONS (proxy_user 'x')", role => 'tenant'),
		qr/permission denied to set option "proxy_user"/, 'for superusers, as the proxy is');
	ask("ALTER SERVER shop OPTIONS (DROP proxy); DELETE FROM sms_outbox");
};

subtest 'a want of file descriptors is nobody\'s attempt' => sub {
	my $simulator = simulator();
	fault($simulator, fault => 'latency', value => 200);
	ask("ALTER SERVER shop OPTIONS (SET base_url '$simulator->{url}')");
	ask("SELECT pg_terminate_backend($worker)");
	becomes(sub { my $new = worker_pid($node); $new ne '' && $new != $worker ? 1 : 0 }, 1, 'a new worker');
	$worker = worker_pid($node);
	my $one = many('shop', 1);
	becomes("SELECT status FROM sms_outbox WHERE id = $one", 'sent', '… sends');
	my @open = glob "/proc/$worker/fd/*";
	my $limit = @open + 8;
	my $log = -s $node->logfile;
	system_or_bail('prlimit', "--pid=$worker", "--nofile=$limit:$limit");
	many('shop', 64);
	becomes('SELECT status, max(attempts), count(*) FROM sms_outbox GROUP BY 1', 'sent|1|65',
		'with 8 descriptors, 64 messages: one attempt each');
	like(slurp_file($node->logfile, $log), qr/out of file descriptors: \d+ messages? at once/, 'the log says so');
	ask('DELETE FROM sms_outbox');
};

$node->stop;
$_->kill_kill for @servers;
done_testing();
