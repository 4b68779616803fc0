# What happens to databases around the outbox: dropped, renamed, copied, restored.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $simulator = simulator();
my $node = server('lifecycle');
sub ask { my ($sql, $database) = @_; return scalar_of($node, $sql, $database); }
sub hang { fault($simulator, fault => 'hang'); return; }
sub in_flight
{
	my ($database) = @_;
	return wait_until(sub { ask("SELECT sum(in_flight) > 0 FROM sms_gateways", $database) eq 't' }, 10);
}

# --- DROP and RENAME while a request hangs
for my $command ('DROP DATABASE victim', 'DROP DATABASE victim WITH (FORCE)', 'ALTER DATABASE victim RENAME TO renamed',
	'CREATE DATABASE copy TEMPLATE victim')
{
	$node->safe_psql('postgres', 'CREATE DATABASE victim');
	gateways($node, $simulator, database => 'victim');
	ok(worker_pid($node, 'victim'), 'a database with a worker');
	hang();
	ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'hangs')", 'victim');
	ok(in_flight('victim'), 'a request hangs');
	my $start = time;
	ask($command);
	cmp_ok(time - $start, '<', 2 * patience(), "$command takes no time");
	no_faults($simulator);
	if ($command =~ /RENAME/)
	{
		ok(worker_pid($node, 'renamed'), 'the worker comes back under the new name');
		ok(wait_until(sub { ask("SELECT status FROM sms_outbox", 'renamed') eq 'sent' }, 10), 'and sends what was on its way');
		ask('DROP DATABASE renamed');
	}
	if ($command =~ /TEMPLATE/)
	{
		forget($simulator);
		my ($out, $err);
		$node->psql('copy', "SELECT sms_send('0901234567', 'x', 'shop')", stderr => \$err);
		like($err, qr/copies send no messages/, 'sms_send refuses to send from a TEMPLATE copy');
		$node->psql('copy', 'CALL sms_drain()', stderr => \$err);
		like($err, qr/copies send no messages/, 'so does sms_drain');
		ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'from the copy')", 'copy');
		ok(wait_until(sub { ask("SELECT status FROM sms_outbox", 'victim') eq 'sent' }, 15), 'the original goes on');
		sleep 2;
		is(ask("SELECT string_agg(DISTINCT status::text, ',') FROM sms_outbox", 'copy'), 'queued', 'the copy holds its messages');
		is(scalar(grep { $_->{content} eq 'from the copy' } requests($simulator)), 0, 'and nothing of it was sent');
		ask('DROP DATABASE copy');
		ask('DROP DATABASE victim');
	}
}

# --- DROP EXTENSION while a request hangs, and again
gateways($node, $simulator);
ok(worker_pid($node), 'a worker');
hang();
ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'hangs')");
in_flight('postgres');
my $start = time;
ask('DROP EXTENSION sms_gateway CASCADE');
cmp_ok(time - $start, '<', 2 * patience(), 'DROP EXTENSION takes no time');
no_faults($simulator);
ok(wait_until(sub { ask("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sms_gateway worker'") eq '0' }, 10), 'its worker goes');
gateways($node, $simulator);
ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'after')");
ok(wait_until(sub { ask("SELECT status FROM sms_outbox") eq 'sent' }, 15), 'a new one works');

# --- a dump, restored into another database, sends nothing
ask("SELECT sms_pause('shop', 'dump'); INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'dumped')");
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], 'pg_dump');
ask('CREATE DATABASE restored');
$node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('restored') ], 'restored');
is(ask("SELECT string_agg(content || ' ' || status, ', ' ORDER BY id) FROM sms_outbox", 'restored'), 'after sent, dumped queued', 'the rows are as they were');
forget($simulator);
ask("DELETE FROM sms_gateway_state", 'restored');
ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'new in the restored')", 'restored');
ask("SELECT sms_resume('shop')");
ok(wait_until(sub { ask("SELECT count(*) FROM sms_outbox WHERE status = 'sent'") eq '2' }, 15), 'the original sends');
sleep 2;
is(join(',', map { $_->{content} } requests($simulator)), 'dumped', 'the restored one does not');
my ($rc, $stdout, $stderr) = $node->psql('restored', "SELECT sms_send('0901234567', 'x', 'shop')");
like($stderr, qr/this database is a copy.*\n.*\n.*sms_adopt_outbox/, 'nor does sms_send there, and says what to do');
ask("CREATE ROLE stranger LOGIN; GRANT EXECUTE ON FUNCTION sms_adopt_outbox(sms_status[]) TO stranger", 'restored');
isnt($node->psql('restored', 'SELECT sms_adopt_outbox()', extra_params => [ '-U', 'stranger' ]), 0, 'only the owner may adopt');
my $before = () = requests($simulator);
is(ask("SELECT sms_adopt_outbox('{sent}')", 'restored'), 1, 'adopted: what was sent, to be followed');
ok(wait_until(sub { ask("SELECT status FROM sms_outbox WHERE content = 'new in the restored'", 'restored') eq 'sent' }, 15), 'now it sends what is new there');
is(ask("SELECT status FROM sms_outbox WHERE content = 'dumped'", 'restored'), 'queued', "… but not the original's");
is(ask("SELECT sms_adopt_outbox()", 'restored'), 1, '… until that is adopted as well');
ok(wait_until(sub { ask("SELECT status FROM sms_outbox WHERE content = 'dumped'", 'restored') eq 'sent' }, 15), '… and sent');
my @after = requests($simulator);
is(join(',', sort map { $_->{content} } grep { $_->{path} =~ /SendMultiple/ } @after[ $before .. $#after ]), 'dumped,new in the restored', '… each once');
is(ask("SELECT result_code FROM sms_outbox WHERE content = 'dumped'", 'restored'), '124', '… with its request_id, which eSMS knew already: nobody got a second text');
ask('DROP DATABASE restored WITH (FORCE)');

$node->stop;
done_testing();
