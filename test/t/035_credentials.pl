# Credentials that a gateway refuses are the trouble of the role whose they are: the others' messages go on.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $simulator = simulator();
my $node = server('credentials');
gateways($node, $simulator);
ask("CREATE ROLE $_ LOGIN;
	GRANT INSERT ON sms_outbox TO $_;
	GRANT USAGE ON FOREIGN SERVER shop, cpaas TO $_;
	CREATE USER MAPPING FOR $_ SERVER shop OPTIONS (api_key 'demo', secret_key 'demo');
	CREATE USER MAPPING FOR $_ SERVER cpaas OPTIONS (api_key 'demo')") for qw(tenant other);
worker_pid($node);

# Queues so many texts as a role: "$name 1", "$name 2" and so on.
sub queue_as
{
	my ($role, $gateway, $name, $count) = @_;
	as_role($role, "INSERT INTO sms_outbox (gateway, phone, content)
		SELECT '$gateway', '0901234567', '$name ' || i FROM generate_series(1, $count) i");
	return;
}

# The worst of so many messages of a role, one after the other: seconds until each is sent.
sub slowest
{
	my ($role, $gateway, $name, $count) = @_;
	my $slowest = 0;
	for my $i (1 .. $count)
	{
		queue_as($role, $gateway, "$name $i", 1);
		wait_until(sub { status_of("$name $i 1") eq 'sent' });
		my $seconds = ask("SELECT coalesce(extract(epoch FROM sent_at - created_at), 1000) FROM sms_outbox
			WHERE content = '$name $i 1'");
		$slowest = $seconds if $seconds > $slowest;
	}
	return $slowest;
}

# SQL: how many of these have a status; what sms_gateways says of a gateway.
sub count_of { return "SELECT count(*) FROM sms_outbox WHERE content LIKE '$_[0] %' AND status = '$_[1]'"; }
sub state_of { return "SELECT state FROM sms_gateways WHERE name = '$_[0]'"; }

# How often the log has said this.
sub said { my ($what) = @_; return scalar(() = slurp_file($node->logfile) =~ /$what/g); }

# How many requests have come that had credentials refused, or any.
sub requests_now { return stats($simulator)->{requests}; }

# What a tenant's wrong credentials do to a gateway.
sub set_secret
{
	my ($role, $secret) = @_;
	ask("ALTER USER MAPPING FOR $role SERVER shop OPTIONS (SET secret_key '$secret')");
	return;
}

subtest 'a tenant\'s wrong mapping: his messages wait, those of others go on' => sub {
	set_secret('tenant', 'wrong');
	queue_as('tenant', 'shop', 'refused', 300);
	becomes(sub { said('WARNING:  gateway "shop" refuses the credentials of role "tenant": 101') }, 1, 'a WARNING');
	my $slowest = slowest('other', 'shop', 'beside', 10);
	note "another role's message: $slowest s";
	cmp_ok($slowest, '<', 0.5 * slowness(), 'a role with credentials of its own');
	queue_text('shop', "of PUBLIC's");
	becomes(sub { status_of("of PUBLIC's") }, 'sent', "and PUBLIC's", seconds => 2);
	is(ask("SELECT state, reason FROM sms_gateways WHERE name = 'shop'"),
		'active|the credentials of role "tenant" are refused: 101: api_key or secret_key is wrong',
		'the gateway is active, and names the role');
	is(ask("SELECT sum(attempts) FROM sms_outbox WHERE content LIKE 'refused %'"), '0', 'no attempt is spent');
	becomes("SELECT count(*) FROM sms_outbox WHERE content LIKE 'refused %' AND next_attempt_at > now()
		AND result_code IN ('101', 'held')", '300', 'all wait, and say why');
	my $before = requests_now();
	stays(sub { requests_now() - $before <= 2 }, 1, 8, 'one message is tried now and then');
	is(said('refuses the credentials'), 1, 'there was one WARNING');
	unlike(slurp_file($node->logfile), qr/refuses.*(?<!is )wrong/, '… without the credentials');
};

subtest 'a restart does not forget whose credentials are refused' => sub {
	$node->restart;
	worker_pid($node);
	my $before = requests_now();
	queue_as('tenant', 'shop', 'refused', 50);
	becomes("SELECT count(*) FROM sms_outbox WHERE content LIKE 'refused %' AND result_code IS NULL", '0',
		'the messages wait');
	cmp_ok(requests_now() - $before, '<=', 1, 'one at most was tried');
};

subtest 'behind very many of them' => sub {
	my $before = requests_now();
	queue_as('tenant', 'shop', 'many', 40000);
	my $slowest = slowest('other', 'shop', 'behind many', 5);
	note "another role's message: $slowest s";
	cmp_ok($slowest, '<', 0.5 * slowness(), 'others go before those are put back');
	becomes("SELECT count(*) FROM sms_outbox WHERE content LIKE 'many %' AND result_code IS NULL", '0',
		'which they are');
	cmp_ok(requests_now() - $before, '<=', 5 + 3, '… and one is tried now and then');
	ask("DELETE FROM sms_outbox WHERE content LIKE 'many %'");
};

subtest 'somebody else\'s ALTER USER MAPPING does not make them due' => sub {
	my $before = requests_now();
	my $late = "SELECT count(*) FROM sms_outbox WHERE content LIKE 'refused %' AND next_attempt_at > now() + '5 min'";
	my $waiting = ask($late);
	set_secret('other', 'demo');
	stays(sub { ask($late) >= $waiting && requests_now() - $before <= 2 }, 1, 3, 'they go on waiting');
};

subtest 'ALTER USER MAPPING: all are tried at once' => sub {
	set_secret('tenant', 'demo');
	becomes(count_of('refused', 'sent'), '350', 'they go', seconds => 10);
	becomes("SELECT reason IS NULL FROM sms_gateways WHERE name = 'shop'", 't', 'the role is named no more');
	is(said('LOG:  gateway "shop" is sent messages of role "tenant" again after \d+ s: \d+ requests had failed'), 1,
		'a LOG');
};

subtest 'the account is mended at the provider: a try passes, and all go' => sub {
	fault($simulator, fault => 'code', value => 103, text => '103', phrase => 'unpaid');
	queue_as('tenant', 'shop', 'unpaid', 100);
	becomes(sub { said('refuses the credentials of role "tenant": 103') }, 1, 'a balance used up is the account\'s');
	is(ask(state_of('shop')), 'active', 'the gateway is active');
	no_faults($simulator);
	becomes(count_of('unpaid', 'sent'), '100', 'they go', seconds => 15);
};

subtest 'sms_resume: tried at once; and who listens hears of it' => sub {
	fault($simulator, fault => 'http', value => 401, phrase => 'resumed');
	queue_as('tenant', 'cpaas', 'resumed', 100);
	becomes("SELECT count(*) FROM sms_outbox WHERE content LIKE 'resumed %' AND next_attempt_at > now()
		AND result_code IN ('401', 'held')", '100', 'all wait');
	no_faults($simulator);
	like(ask("LISTEN sms_gateway; SELECT sms_resume('cpaas');
			DO \$\$ BEGIN FOR i IN 1 .. 50 LOOP
				EXIT WHEN NOT EXISTS (SELECT FROM sms_gateway_refused);
				PERFORM pg_sleep(0.1);
			END LOOP; END \$\$; SELECT pg_sleep(0.5)"),
		qr/^t\n.*"credentials", ?"gateway": ?"cpaas", ?"role": ?"tenant", ?"state": ?"accepted"/s, 'an event');
	becomes(count_of('resumed', 'sent'), '100', 'they go', seconds => 3);
};

subtest 'a firewall that refuses all texts of a role' => sub {
	fault($simulator, fault => 'http', value => 403, phrase => 'forbidden');
	queue_as('tenant', 'shop', 'forbidden', 20);
	becomes(sub { said('refuses the credentials of role "tenant": 403') }, 1, 'is his trouble');
	cmp_ok(slowest('other', 'shop', 'allowed', 3), '<', 0.5 * slowness(), 'and not another\'s');
	no_faults($simulator);
	becomes(count_of('forbidden', 'sent'), '20', 'they go', seconds => 15);
};

subtest "PUBLIC's credentials, and the only ones, are the gateway's" => sub {
	ask("CREATE SERVER own FOREIGN DATA WRAPPER interits OPTIONS (base_url '$simulator->{url}', sender 'MYSHOP',
			poll_delivery 'false');
		GRANT USAGE ON FOREIGN SERVER own TO tenant;
		CREATE USER MAPPING FOR tenant SERVER own OPTIONS (api_key 'wrong')");
	queue_as('tenant', 'own', 'alone', 10);
	becomes(state_of('own'), 'paused', 'the only ones');
	fault($simulator, fault => 'http', value => 401, phrase => 'public');
	queue_text('cpaas', 'public');
	becomes(state_of('cpaas'), 'paused', "PUBLIC's");
	no_faults($simulator);
	becomes(sub { status_of('public') }, 'sent', 'as before', seconds => 15);
	ask("DELETE FROM sms_outbox WHERE gateway = 'own'");
};

$node->stop;
done_testing();
