# The examples of README.md and README.vi.md run as they stand, from top to bottom.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use SmsTest;
use Test::More;

my $simulator = simulator();

for my $name ('README.md', 'README.vi.md')
{
	my $node = server($name =~ s/\W/_/gr);
	my $readme = slurp_file("$FindBin::RealBin/../../$name");
	my $sql = join '', $readme =~ /^```sql\n(.*?)^```$/gms;

	# Nothing leaves this machine, and the credentials are the simulator's.
	$sql =~ s/(FOREIGN DATA WRAPPER \w+ OPTIONS \()/$1base_url '$simulator->{url}', /g;
	$sql =~ s/'\x{E2}\x{80}\x{A6}'/'demo'/g;

	subtest $name => sub {
		my $stderr;
		is($node->psql('postgres', $sql, stderr => \$stderr), 0, 'no example fails') or diag($stderr);
		ok(finish($node, 20), 'all that was queued is sent');
		is(ask("SELECT count(*) FROM sms_outbox WHERE status NOT IN ('sent', 'delivered')"), '0',
			'... by the gateways');
		is(ask("SELECT count(*) FROM sms_outbox WHERE content ~ ' 42 '"), '2', 'the trigger queues a message');
		as_role('app', "INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'by app')");
		is(as_role('app', 'SELECT content FROM sms_outbox'), 'by app',
			'the role of the examples can queue, and sees its own');
		ask("INSERT INTO orders VALUES (44, '0901234567'); GRANT SELECT, UPDATE ON orders TO app;
			REVOKE USAGE ON FOREIGN SERVER shop FROM app; REVOKE INSERT ON sms_outbox FROM app");
		as_role('app', "UPDATE orders SET state = 'shipped' WHERE id = 44");
		is(ask("SELECT count(*) FROM sms_outbox WHERE content ~ ' 44 '"), '1', '... or needs no right on either');
	};
	$node->stop;
}

done_testing();
