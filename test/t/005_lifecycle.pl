# What happens to databases around the outbox: dropped, renamed, copied, restored.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = simulator();
my $node = server('lifecycle');

# A message of a database with gateways whose request hangs.
sub hanging_request
{
	my ($database) = @_;
	ok(worker_pid($node, $database), 'a database with a worker');
	hang($simulator);
	queue_text('shop', 'hangs', database => $database);
	becomes(sub { in_flight('shop', $database) > 0 }, 1, 'a request hangs', seconds => 10);
	return;
}

# A database "victim" in which a request hangs, and a command that must not wait for it.
sub command_beside_hanging_request
{
	my ($command) = @_;
	ask('CREATE DATABASE victim');
	gateways($node, $simulator, database => 'victim');
	hanging_request('victim');
	cmp_ok(took(sub { ask($command) }), '<', 2 * patience(), "$command takes no time");
	no_faults($simulator);
	return;
}

for my $command ('DROP DATABASE victim', 'DROP DATABASE victim WITH (FORCE)')
{
	subtest "$command while a request hangs" => sub { command_beside_hanging_request($command); };
}

subtest 'ALTER DATABASE … RENAME while a request hangs' => sub {
	command_beside_hanging_request('ALTER DATABASE victim RENAME TO renamed');
	ok(worker_pid($node, 'renamed'), 'the worker comes back under the new name');
	becomes(sub { status_of('hangs', 'renamed') }, 'sent', 'and sends what was on its way', seconds => 10);
	ask('DROP DATABASE renamed');
};

subtest 'CREATE DATABASE … TEMPLATE while a request hangs: the copy sends nothing' => sub {
	command_beside_hanging_request('CREATE DATABASE copy TEMPLATE victim');
	forget($simulator);
	like(error_of("SELECT sms_send('0901234567', 'x', 'shop')", database => 'copy'), qr/copies send no messages/,
		'sms_send refuses to send from a TEMPLATE copy');
	like(error_of('CALL sms_drain()', database => 'copy'), qr/copies send no messages/, 'so does sms_drain');
	queue_text('shop', 'from the copy', database => 'copy');
	becomes(sub { status_of('hangs', 'victim') }, 'sent', 'the original goes on', seconds => 15);
	stays("SELECT string_agg(DISTINCT status::text, ',') FROM sms_outbox", 'queued', 2, 'the copy holds its messages',
		database => 'copy');
	is(times_received($simulator, 'from the copy'), 0, 'and nothing of it was sent');
	ask('DROP DATABASE copy');
	is(error_of('CREATE DATABASE copy TEMPLATE victim', database => 'victim'), '',
		'a session may copy the database that it is in: the worker makes room');
	ask('DROP DATABASE copy');
	ask('DROP DATABASE victim');
};

subtest 'DROP EXTENSION while a request hangs, and again' => sub {
	gateways($node, $simulator);
	hanging_request('postgres');
	cmp_ok(took(sub { ask('DROP EXTENSION sms_gateway CASCADE') }), '<', 2 * patience(),
		'DROP EXTENSION takes no time');
	no_faults($simulator);
	becomes("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sms_gateway worker'", '0', 'its worker goes',
		seconds => 10);
	gateways($node, $simulator);
	queue_text('shop', 'after');
	becomes(sub { status_of('after') }, 'sent', 'a new one works', seconds => 15);
};

subtest 'a dump, restored into another database, sends nothing' => sub {
	ask("SELECT sms_pause('shop', 'dump')");
	queue_text('shop', 'dumped');
	my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
	$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], 'pg_dump');
	ask('CREATE DATABASE restored');
	$node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('restored') ],
		'restored');
	is(ask("SELECT string_agg(content || ' ' || status, ', ' ORDER BY id) FROM sms_outbox", 'restored'),
		'after sent, dumped queued', 'the rows are as they were');
	forget($simulator);
	ask("DELETE FROM sms_gateway_state", 'restored');
	queue_text('shop', 'new in the restored', database => 'restored');
	ask("SELECT sms_resume('shop')");
	becomes("SELECT count(*) FROM sms_outbox WHERE status = 'sent'", '2', 'the original sends', seconds => 15);
	stays(sub { join ',', map { $_->{content} } requests($simulator) }, 'dumped', 2, 'the restored one does not');
	like(error_of("SELECT sms_send('0901234567', 'x', 'shop')", database => 'restored'),
		qr/this database is a copy.*\n.*\n.*sms_adopt_outbox/, 'nor does sms_send there, and says what to do');
};

subtest 'the restored database is adopted by its owner, and sends' => sub {
	my $new = sub { status_of('new in the restored', 'restored') };
	my $dumped = sub { status_of('dumped', 'restored') };
	ask("CREATE ROLE stranger LOGIN; GRANT EXECUTE ON FUNCTION sms_adopt_outbox(sms_status[]) TO stranger", 'restored');
	isnt(error_of('SELECT sms_adopt_outbox()', database => 'restored', role => 'stranger'), '',
		'only the owner may adopt');
	my $before = () = requests($simulator);
	is(ask("SELECT sms_adopt_outbox('{sent}')", 'restored'), 1, 'adopted: what was sent, to be followed');
	becomes($new, 'sent', 'now it sends what is new there', seconds => 15);
	is($dumped->(), 'queued', "… but not the original's");
	is(ask("SELECT sms_adopt_outbox()", 'restored'), 1, '… until that is adopted as well');
	becomes($dumped, 'sent', '… and sent', seconds => 15);
	my @after = requests($simulator);
	is(join(',', sort map { $_->{content} } grep { $_->{path} =~ /SendMultiple/ } @after[ $before .. $#after ]),
		'dumped,new in the restored', '… each once');
	is(ask("SELECT result_code FROM sms_outbox WHERE content = 'dumped'", 'restored'), '124',
		'… with its request_id, which eSMS knew already: nobody got a second text');
	ask('DROP DATABASE restored WITH (FORCE)');
};

$node->stop;
done_testing();
