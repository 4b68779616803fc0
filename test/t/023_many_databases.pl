# Many databases, and databases of every kind: who has a worker, how soon, and what it takes to end one.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = simulator();
my $node = server('databases', settings => "max_prepared_transactions = 2\n");

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

subtest 'CREATE EXTENSION and INSERT by two-phase commit' => sub {
	ask('CREATE DATABASE two_phase');
	# The launcher has looked there once; from now on only a commit tells.
	stays("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sms_gateway worker' AND datname = 'two_phase'",
		0, 1, 'a database without the extension has no worker');
	ask("BEGIN; CREATE EXTENSION sms_gateway; PREPARE TRANSACTION 'extension'", 'two_phase');
	ask("COMMIT PREPARED 'extension'", 'two_phase');
	ok(worker_pid($node, 'two_phase'), 'COMMIT PREPARED of CREATE EXTENSION starts a worker');
	gateways($node, $simulator, database => 'two_phase');
	my @took;
	for my $i (1 .. 4)
	{
		ask("BEGIN; INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'two $i');
			PREPARE TRANSACTION 'message'", 'two_phase');
		ask("COMMIT PREPARED 'message'", 'two_phase');
		push @took, took(sub { wait_until(sub { status_of("two $i", 'two_phase') eq 'sent' }) });
	}
	cmp_ok((sort { $a <=> $b } @took)[3], '<', 2 * slowness(), 'each message is sent at once after COMMIT PREPARED');
	ask('DROP DATABASE two_phase');
};

subtest 'who may not copy or rename a database does not end its worker' => sub {
	ask('CREATE DATABASE ours; CREATE ROLE maker LOGIN CREATEDB; CREATE ROLE owner LOGIN');
	gateways($node, $simulator, database => 'ours');
	my $worker = worker_pid($node, 'ours');
	like(error_of('CREATE DATABASE stolen TEMPLATE ours', role => 'maker'), qr/42501/, 'a copy is refused');
	ask('ALTER DATABASE ours OWNER TO owner');
	like(error_of('ALTER DATABASE ours RENAME TO theirs', role => 'owner'), qr/42501/, 'an owner without CREATEDB');
	stays(sub { worker_pid($node, 'ours') }, $worker, 1, 'the worker goes on');
	ask('ALTER ROLE owner CREATEDB; ALTER ROLE maker NOCREATEDB');
	ask('GRANT owner TO maker');
	is(error_of('CREATE DATABASE copied TEMPLATE ours', role => 'owner'), '', 'who may copy it has it alone');
	ask('DROP DATABASE copied');
	ask('DROP DATABASE ours');
	ask('DROP ROLE owner, maker');
};

$node->stop;
done_testing();
