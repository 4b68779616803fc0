# Whose server takes a message that has not chosen it: a fallback, one made under an old name, the default.
use strict;
use warnings;
use FindBin;
use JSON::PP;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;

# Messages go to servers, which have owners, by names, which have none.
my $simulator = simulator();
my $theirs = simulator();
my $node = server('owners');
ask("CREATE EXTENSION sms_gateway; CREATE ROLE tenant LOGIN; GRANT INSERT, SELECT ON sms_outbox TO tenant;
	CREATE ROLE gwo LOGIN; CREATE ROLE ops LOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER esms, interits TO gwo, ops");

# A role makes a server of a name for everybody, at an address of his own.
sub squat
{
	my ($role, $name, %options) = @_;
	my $wrapper = $options{wrapper} // 'esms';
	my $more = $wrapper eq 'esms' ? "brandname 'X', otp 'local'" : "sender 'X'";
	my $credentials = $wrapper eq 'esms' ? "api_key 'demo', secret_key 'demo'" : "api_key 'demo'";
	$more .= ", fallback '$options{fallback}'" if $options{fallback};
	as_role($role, "BEGIN; CREATE SERVER $name FOREIGN DATA WRAPPER $wrapper OPTIONS (base_url '$theirs->{url}', $more);
		CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS ($credentials);
		GRANT USAGE ON FOREIGN SERVER $name TO PUBLIC; COMMIT");
	return;
}

# A superuser makes one.
sub make
{
	my ($name, $options) = @_;
	ask("BEGIN; CREATE SERVER $name FOREIGN DATA WRAPPER esms
			OPTIONS (base_url '$simulator->{url}', brandname 'X', $options);
		CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS (api_key 'demo', secret_key 'demo');
		GRANT USAGE ON FOREIGN SERVER $name TO PUBLIC; COMMIT");
	return;
}

# A text of tenant's, queued; returns its id.
sub queue_for
{
	my ($gateway, $content, %columns) = @_;
	my @names = sort keys %columns;
	return as_role('tenant', 'INSERT INTO sms_outbox (' . join(', ', qw(gateway phone content), @names)
			. ') VALUES (' . join(', ', "'$gateway'", "'0901234567'", "'$content'", @columns{@names})
			. ') RETURNING id');
}

# Messages are due, and sent by whom it is: the worker, who may not look for a while, or sms_drain.
my $due = 'UPDATE sms_outbox SET next_attempt_at = now(), send_after = now()';
sub send_due { my ($which) = @_; ask("$due WHERE id IN ($which) AND status = 'queued'; CALL sms_drain()"); return; }

# What became of a message.
sub fate { my ($id) = @_; return "SELECT gateway, status, result_code, result_message FROM sms_outbox WHERE id = $id"; }

my $stranger = qr/gateway "\w+" belongs to role "gwo", whom the message has not chosen/;

subtest 'a fallback that somebody else has made takes nothing over' => sub {
	make('pri', "fallback 'backup', otp 'local'");
	squat('gwo', 'backup');
	fault($simulator, fault => 'http', value => 400, match => '/MainService');
	for my $message ([ 'secret' ], [ 'secret {OTP}', kind => "'otp'" ])
	{
		my $id = queue_for('pri', @$message);
		becomes(fate($id), qr/^pri\|failed\|400\|.*not moved to "backup", $stranger/, $message->[0]);
	}
	my $id = queue_for('pri', 'drained', send_after => "now() + interval '1 hour'");
	send_due($id);
	becomes(fate($id), qr/^pri\|failed\|400\|.*not moved to "backup", $stranger/, 'sms_drain');
	is(scalar(requests($theirs)), 0, 'nothing has gone there');

	as_role('gwo', 'DROP SERVER backup CASCADE');
	squat('ops', 'backup');
	ask("ALTER SERVER pri OWNER TO postgres; ALTER SERVER backup OWNER TO tenant");
	$id = queue_for('pri', 'to mine');
	becomes(fate($id), qr/^backup\|sent/, "the role's own does");
	ask('ALTER SERVER backup OWNER TO ops; ALTER SERVER pri OWNER TO ops');
	$id = queue_for('pri', 'to his');
	becomes(fate($id), qr/^backup\|sent/, 'and one of the owner whose gateway was chosen');
	no_faults($simulator);
	ask('DROP SERVER pri CASCADE; DROP SERVER backup CASCADE; DELETE FROM sms_outbox');
	forget($theirs);
};

subtest 'nor does a server that is made under the name of one that was dropped' => sub {
	make('pri', "otp 'local'");
	my %later = (send_after => "now() + interval '1 hour'");
	my $id = queue_for('pri', 'secret', %later);
	my $code = queue_for('pri', 'secret {OTP}', kind => "'otp'", %later);
	ask('DROP SERVER pri CASCADE');
	squat('gwo', 'other_name');
	as_role('gwo', 'ALTER SERVER other_name RENAME TO pri');
	ask("$due WHERE status = 'queued'");
	becomes(fate($_), qr/^pri\|queued\|held\|$stranger/, 'it is held') for $id, $code;
	send_due("$id, $code");
	like(ask(fate($id)), qr/^pri\|queued\|held\|$stranger/, 'by sms_drain, too');
	as_role('tenant', "SELECT sms_retry($id)");
	becomes("SELECT next_attempt_at > now() FROM sms_outbox WHERE id = $id", 't', '… after sms_retry, too');
	as_role('gwo', 'REVOKE USAGE ON FOREIGN SERVER pri FROM PUBLIC');
	send_due("$id, $code");
	like(ask(fate($_)), qr/^pri\|queued\|held\|$stranger/, 'nor does he fail it') for $id, $code;
	is(scalar(requests($theirs)), 0, 'nothing has gone there');
	as_role('gwo', 'DROP SERVER pri CASCADE');
	make('pri', "otp 'local'");
	send_due("$id, $code");
	becomes(fate($_), qr/^pri\|sent/, 'it goes when there is a trusted one again') for $id, $code;
	ask('DROP SERVER pri CASCADE; DELETE FROM sms_outbox');
};

subtest 'a message that has chosen a server goes through it while it belongs to the same role' => sub {
	my @later = (send_after => "now() + interval '1 hour'");
	squat('ops', 'chosen');
	my $id = queue_for('chosen', 'now');
	becomes(fate($id), qr/^chosen\|sent/, 'it is named');
	my ($made_again, $given, $older, $named) = map { queue_for('chosen', $_, @later) } 1 .. 4;
	as_role('ops', 'DROP SERVER chosen CASCADE');
	squat('ops', 'chosen');
	send_due($made_again);
	becomes(fate($made_again), qr/^chosen\|sent/, 'made anew by its owner');
	ask("UPDATE sms_outbox SET details = NULL WHERE id = $older");
	send_due($older);
	becomes(fate($older), qr/^chosen\|queued\|held\|gateway "chosen" belongs to role "ops"/,
		'a row of 0.1.0, which does not say whom it has chosen, is held');
	ask("UPDATE sms_outbox SET gateway = 'chosen' WHERE id = $older");
	send_due($older);
	becomes(fate($older), qr/^chosen\|sent/, '… until it is named again');
	ask('ALTER SERVER chosen OWNER TO gwo');
	send_due($given);
	becomes(fate($given), qr/^chosen\|queued\|held\|$stranger/, 'ALTER SERVER OWNER TO another');
	ask('ALTER ROLE ops RENAME TO ops2; ALTER ROLE gwo RENAME TO ops');
	send_due($given);
	becomes("SELECT next_attempt_at > now(), result_message FROM sms_outbox WHERE id = $given",
		qr/^t\|gateway "chosen" belongs to role "ops", whom/, 'who takes his name is not he');
	ask('ALTER ROLE ops RENAME TO gwo; ALTER ROLE ops2 RENAME TO ops; ALTER SERVER chosen OWNER TO postgres');
	send_due("$given, $named");
	becomes(fate($_), qr/^chosen\|sent/, "a superuser's is taken") for $given, $named;
	ask('DROP SERVER chosen CASCADE; DELETE FROM sms_outbox');
};

subtest 'sms_gateway.default_gateway names nobody' => sub {
	forget($theirs);
	squat('gwo', 'standard');
	ask("ALTER DATABASE postgres SET sms_gateway.default_gateway = 'standard'");
	for my $sql ("INSERT INTO sms_outbox (phone, content) VALUES ('0901234567', 'secret')",
		"SELECT sms_send('0901234567', 'secret')", "SELECT sms_send_otp('0901234567')",
		"SELECT sms_check_otp('0901234567', '123456')")
	{
		like(error_of($sql, role => 'tenant'),
			qr/42501: gateway "standard" belongs to role "gwo", and is not taken by default.*default_gateway/s, $sql);
	}
	is(scalar(requests($theirs)), 0, 'nothing has gone there');
	is(as_role('gwo', "SELECT gateway FROM sms_send('0901234567', 'x')"), 'standard', 'its owner is sent through it');
	ask('ALTER SERVER standard OWNER TO postgres');
	is(as_role('tenant', "SELECT gateway FROM sms_send('0901234567', 'x')"), 'standard',
		'all are when it is a superuser\'s');
	ask('ALTER DATABASE postgres RESET sms_gateway.default_gateway; DROP SERVER standard CASCADE');
};

subtest 'a one-time password that the owner of the first gateway has seen does not count' => sub {
	for my $wrapper (qw(esms interits))
	{
		forget($_) for $simulator, $theirs;
		squat('gwo', 'first', wrapper => $wrapper, fallback => 'second');
		make('second', "otp 'local'");
		fault($theirs, fault => 'http', value => 400);
		my $id = queue_for('first', '{OTP} is it', kind => "'otp'");
		becomes(fate($id), qr/^second\|sent/, "$wrapper: a trusted one takes over");
		my ($seen, $sent) = map { encode_json($_->{body}) =~ /(\d{6}) is it/ ? $1 : undef }
			(requests($theirs))[0], (requests($simulator))[-1];
		isnt($seen, $sent, 'with another code');
		is(as_role('tenant', "SELECT sms_check_otp('0901234567', '$seen', '$_')"), 'f', "the first one is wrong, by $_")
			for 'first', 'second';
		is(as_role('tenant', "SELECT sms_check_otp('0901234567', '$sent', 'first')"), 't', 'the last one is right');
		no_faults($theirs);
		ask('DROP SERVER first CASCADE; DROP SERVER second CASCADE; DELETE FROM sms_outbox');
	}
};

subtest 'nor does who sent a one-time password say that it is right, if he is another now' => sub {
	forget($_) for $simulator, $theirs;
	make('first', "otp 'local', fallback 'second'");
	make('second', "sandbox 'false'");
	fault($simulator, fault => 'http', value => 400, match => '/MainService.svc/json/SendMultipleMessage', count => 1);
	my $id = queue_for('first', '{OTP} is your code', kind => "'otp'");
	becomes(fate($id), qr/^second\|sent/, 'a code that the provider made');
	ask('DROP SERVER second CASCADE');
	squat('gwo', 'second');
	like(error_of("SELECT sms_check_otp('0901234567', '123456', 'first')", role => 'tenant'), qr/42501: $stranger/,
		'he is not asked');
	is(scalar(requests($theirs)), 0, '… and hears of nothing');
	ask('DROP SERVER first CASCADE; DROP SERVER second CASCADE; DELETE FROM sms_outbox');
};

$node->stop;
done_testing();
