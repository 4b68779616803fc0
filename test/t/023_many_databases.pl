# Many databases, and databases of every kind: who has a worker, how soon, and what it takes to end one.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = simulator();
my $node = server('databases');

# Takes where the log ended and a pattern: asserts that the server logs it after that, soon.
sub logged
{
	my ($position, $pattern, $name) = @_;
	return becomes(sub { slurp_file($node->logfile, $position) }, $pattern, $name, seconds => 10);
}

subtest 'a gateway is paused by an answer with any characters, in a database with any encoding' => sub {
	for my $encoding (qw(LATIN1 EUC_JP))
	{
		my $database = lc "in_$encoding";
		my $log = -s $node->logfile;
		ask("CREATE DATABASE $database TEMPLATE template0 ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C'");
		gateways($node, $simulator, database => $database);
		my $worker = worker_pid($node, $database);
		fault($simulator, fault => 'body',
			text => '{"CodeResult": "101", "CountRegenerate": 0, "ErrorMessage": "lỗi café 東京"}');
		queue_text('shop', 'refused', database => $database);
		becomes("SELECT state FROM sms_gateways WHERE name = 'shop'", 'paused', "$encoding: the gateway is paused",
			database => $database, seconds => 10);
		is(worker_pid($node, $database), $worker, '… and the worker lives');
		logged($log, qr/gateway "shop" is paused: 101/, '… and the log says so');
		logged($log, qr/CONTEXT:\s+outbox of database "$database"/, '… and of which database');
		no_faults($simulator);
		ask("DROP DATABASE $database");
	}
};

$node->stop;
done_testing();
