# A name whose address changes: followed within a minute, while connections to the old one live.  That takes a minute,
# and a namespace with an /etc/hosts of its own: it runs where SMS_LONG_REST is set.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

BEGIN
{
	my @namespace = qw(unshare -U -m --map-current-user --keep-caps);
	plan skip_all => 'takes a minute: set SMS_LONG_REST' if !$ENV{SMS_LONG_REST};
	plan skip_all => 'needs node' if !grep { -x "$_/node" } split /:/, $ENV{PATH};
	if (!$ENV{SMS_NAMESPACE})
	{
		plan skip_all => 'needs a namespace of its own' if system(@namespace, 'true') != 0;
		$ENV{SMS_NAMESPACE} = 1;
		exec @namespace, $^X, (map { "-I$_" } @INC), $0;
	}
}
use SmsTest;

my $hosts = PostgreSQL::Test::Utils::tempdir() . '/hosts';

# From now on the name has this address.
sub resolves_to
{
	my ($address) = @_;
	open my $file, '>', $hosts or die $!;
	print $file "$address gateway.test\n";
	close $file or die $!;
	return;
}

resolves_to('127.0.0.1');
system_or_bail('mount', '--bind', $hosts, '/etc/hosts');

my $program = <<'JS';
const http = require('http');
const seen = { '127.0.0.1': 0, '127.0.0.2': 0 };
const answer = JSON.stringify({ CodeResult: '100', CountRegenerate: 0, SMSID: 'id-1' });
function serve(address, port, then) {
	const server = http.createServer((request, response) => {
		const asked = request.url === '/stats';
		if (!asked) seen[address]++;
		request.resume();
		request.on('end', () => response.end(asked ? Object.values(seen).join(' ') : answer));
	});
	server.keepAliveTimeout = 600000;
	server.listen(port, address, () => then(server.address().port));
}
serve('127.0.0.1', 0, (port) => serve('127.0.0.2', port, () => console.log(port)));
process.stdin.on('end', () => process.exit()).resume();
JS
my ($in, $out) = ('', '');
my $process = IPC::Run::start([ 'node', '-e', $program ], \$in, '>', \$out);
wait_until(sub { $process->pump_nb; $out =~ /\n/ }) or die 'node does not start';
my $port = $out =~ s/\n.*//rs;

# How many requests have arrived at the two addresses.
sub seen { my ($said) = run_command([ 'curl', '-s', "http://127.0.0.1:$port/stats" ]); return split / /, $said; }

my $node = server('addresses');
gateways($node, { url => "http://127.0.0.1:$port" }, shop => "allow_http 'true'");
ask("ALTER SERVER shop OPTIONS (SET base_url 'http://gateway.test:$port')");

# A message each 0.1 s keeps connections warm.
my $changed;
my $followed;
my $start = time;
while (!$followed && time - $start < 100)
{
	queue_text('shop', 'steady');
	sleep 0.1; # time itself: the pace of ordinary messages
	my ($old, $new) = seen();
	if (!$changed && $old >= 20)
	{
		resolves_to('127.0.0.2');
		$changed = time;
	}
	$followed = time if $changed && $new > 0;
}
ok($followed, 'the new address is used');
my $after = sprintf '%.0f', $followed - $changed;
cmp_ok($after, '<=', 65, "… after $after s");
my ($before) = seen();
queue_text('shop', 'afterwards') for 1 .. 20;
ok(finish($node, 20), 'all are sent');
is((seen())[0], $before, 'the old one no more');
is(ask("SELECT max(attempts) FROM sms_outbox"), 1, 'each in one attempt');
$node->stop;
$process->kill_kill;
done_testing();
