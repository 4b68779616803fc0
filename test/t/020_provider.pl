# A provider is one file and one line: a fourth one, invented (test/provider/saola.c), is put into a copy of the sources
# and added to src/provider/list.h; nothing else is touched.  It is built, installed, and used in every way.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use IO::Socket::INET;
use JSON::PP;
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'an instrumented server has the extension installed, not staged' if $ENV{INSTRUMENTED};

my $root = "$FindBin::RealBin/../..";
my $copy = PostgreSQL::Test::Utils::tempdir();
my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
my $received = "$copy/received";    # each request that Saola has had, as a line of JSON

#
# The sources with it
#

# Takes a target of make and its arguments, makes it in the copy.
sub make { return system_or_bail('make', '-s', '-C', $copy, "PG_CONFIG=$pg_config", 'COPT_WARNINGS=-Werror', @_); }

subtest 'one file and one line' => sub {
	my $sources = 'Makefile sms_gateway.control sql src test/unit';
	system_or_bail('sh', '-c', "cd '$root' && tar -cf - --exclude='*.o' $sources | tar -xf - -C '$copy'");
	system_or_bail('cp', "$root/test/provider/saola.c", "$copy/src/provider/");
	my $list = slurp_file("$copy/src/provider/list.h");
	ok($list =~ s/^(PROVIDER\(interits,.*\n)/$1PROVIDER(saola, "Saola SMS, an invented provider's")\n/m, 'a line more');
	unlink "$copy/src/provider/list.h";
	append_to_file("$copy/src/provider/list.h", $list);
	make('-j2', 'all');
	make('install', "DESTDIR=$copy/stage");
	pass('the extension is built without a warning, and installed');
	make('unit');
	pass('what is asked of every provider holds for this one');
};

#
# Saola itself
#

# What it answers to a request; a text can tell what.
sub answer_of
{
	my ($method, $path, $key, $body) = @_;
	return (401, { result => 'bad_key', reason => "not a key: $key" }) if $key ne 'k3y-of-saola';
	return (200, { result => 'ok', balance => '1500.5' }) if $path eq '/v1/account';
	return (200, { result => 'ok', id => $1, state => 'delivered', telcoid => 2 })
		if $method eq 'GET' && $path =~ m{^/v1/messages\?id=(.*)};
	return (404, {}) if $path ne '/v1/messages';
	return (200, { result => $1, reason => 'as told' }) if $body->{text} =~ /^answer (\w+)/;
	return (200, { result => 'ok', id => "S-$body->{to}" });
}

# Reads a request and answers it.
sub serve_one
{
	my ($client) = @_;
	my ($method, $path) = (<$client> // '') =~ /^(\w+) (\S+)/ or return;
	my ($key, $length, $content) = ('', 0, '');
	while (defined(my $line = <$client>))
	{
		last if $line eq "\r\n";
		$key = $1 if $line =~ /^X-Api-Key: (\S+)/i;
		$length = $1 if $line =~ /^Content-Length: (\d+)/i;
	}
	read $client, $content, $length if $length;
	my $body = $content eq '' ? {} : decode_json($content);
	append_to_file($received, encode_json({ method => $method, path => $path, body => $body }) . "\n");
	my ($status, $answer) = answer_of($method, $path, $key, $body);
	$answer = encode_json($answer);
	print $client "HTTP/1.1 $status As it is\r\nContent-Type: application/json\r\nConnection: close\r\n",
		'Content-Length: ', length $answer, "\r\n\r\n$answer";
	return;
}

my $listener = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1', ReuseAddr => 1) or die "listen: $!";
my $url = 'http://127.0.0.1:' . $listener->sockport;
my $saola = fork // die "fork: $!";
if ($saola == 0)
{
	while (my $client = $listener->accept) { serve_one($client); }
	require POSIX;
	POSIX::_exit(0);    # this is not the end of the test
}

END
{
	my $status = $?;
	kill 'KILL', $saola if $saola;
	$? = $status;
}

sub received { return map { decode_json($_) } split /\n/, -e $received ? slurp_file($received) : ''; }

#
# A server with it
#

# Settings with which a server takes the extension from the copy's stage.
my $settings = "$copy/settings";
system_or_bail('bash', '-c', "cd '$root' && . test/lib/common.sh && PG_CONFIG='$pg_config'
	stage_settings '$copy/stage' >'$settings'");
my $node = server('provider', from => $settings);
ask('CREATE EXTENSION sms_gateway');

subtest 'its wrapper is there, and hints name it' => sub {
	is(ask("SELECT obj_description(oid, 'pg_foreign_data_wrapper') FROM pg_foreign_data_wrapper
		WHERE fdwname = 'saola'"),
		"Saola SMS, an invented provider's; a gateway is a server of this wrapper", 'a wrapper with a comment');
	like(ask("SELECT obj_description('saola_validator(text[], oid)'::regprocedure, 'pg_proc')"), qr/wrapper saola/,
		'a validator with a comment');
	is(ask("SELECT has_function_privilege('pg_monitor', 'saola_validator(text[], oid)', 'EXECUTE')"), 'f',
		'… that nobody else calls');
	like(error_of("SELECT sms_send('0901234567', 'x')"), qr/HINT: .*\bsaola\b/, 'who has no gateway is told of it');
	like(error_of("SELECT sms_send('0901234567', 'x', 'nowhere')"), qr/HINT: .*\bsaola\b/,
		'so is who names one that is not there');
	like(error_of("CREATE SERVER x FOREIGN DATA WRAPPER saola OPTIONS (colour 'red')"),
		qr/HINT: .*sender, unicode, base_url/, 'its options are told');
	like(error_of("CREATE SERVER x FOREIGN DATA WRAPPER saola OPTIONS (key 'k')"), qr/is a secret/,
		'its key is a secret');
	like(error_of("CREATE SERVER x FOREIGN DATA WRAPPER saola OPTIONS (unicode 'perhaps')"),
		qr/none of auto, true, false/,
		'values are checked');
};

subtest 'a server of it is a gateway' => sub {
	ask("CREATE SERVER \"Sao la\" FOREIGN DATA WRAPPER saola OPTIONS (base_url '$url')");
	ask(q{CREATE USER MAPPING FOR PUBLIC SERVER "Sao la" OPTIONS (key 'k3y-of-saola')});
	is(ask('SELECT name, provider, state FROM sms_gateways'), 'Sao la|saola|active', 'sms_gateways lists it');
	like(error_of("SELECT sms_send('0901234567', 'x')"),
		qr/needs the option "sender"\n.*Set it with ALTER SERVER "Sao la" OPTIONS \(ADD sender 'value'\)\./,
		'an option that is missing is named, with the statement that sets it');
	ask(qq{DROP SERVER "Sao la" CASCADE;
		CREATE SERVER saola FOREIGN DATA WRAPPER saola
			OPTIONS (base_url '$url', sender 'MYSHOP', poll_delivery 'false');
		CREATE USER MAPPING FOR PUBLIC SERVER saola OPTIONS (key 'k3y-of-saola')});
	like(error_of("SELECT sms_omni_send('0901234567', 'T', gateway => 'saola')"), qr/0A000: .*\(saola\) cannot send/,
		'what it does not offer is refused');
};

subtest 'sending now' => sub {
	is(ask(q{SELECT gateway, status, smsid, result_code FROM sms_send('0901234567', 'Chữ', request_id => 'r-1')}),
		'saola|sent|S-84901234567|ok', 'a text, by the only gateway there is');
	my ($last) = reverse received();
	my $ref = delete $last->{body}{ref};
	like($ref, qr/^sgw-\w{24}-0$/, 'the request_id, as the role has it');
	is_deeply($last->{body}, { to => '84901234567', from => 'MYSHOP', text => "Ch\x{1EEF}", alphabet => 'ucs2' },
		'… as the provider wants it');
	is(ask("SELECT status, result_code, result_message FROM sms_send('0901234567', 'answer bad_number')"),
		'failed|bad_number|as told', 'a refusal');
	is(ask('SELECT sms_balance()'), '1500.5', 'the balance');
	ask("SELECT sms_send_otp('0901234567', 'Your code: {OTP}')");
	($last) = reverse received();
	my ($code) = $last->{body}{text} =~ /^Your code: (\d{6})$/;
	ok($code, 'a one-time password is made here');
	is(ask("SELECT sms_check_otp('0901234567', '$code')"), 't', '… and checked here');
};

subtest 'the outbox' => sub {
	ok(worker_pid($node), 'a worker');
	my $id = queue_text('saola', 'from the outbox');
	becomes("SELECT status, result_code, smsid FROM sms_outbox WHERE id = $id", 'sent|ok|S-84901234567', 'sent');
	is((grep { ($_->{body}{text} // '') eq 'from the outbox' } received()), 1, '… once');
	is(ask("SELECT sms_check_status($id)"), 'delivered', 'the provider is asked');
	is(ask("SELECT details->>'telco', details->>'delivery_code' FROM sms_outbox WHERE id = $id"), 'MobiFone|delivered',
		'… and tells more');
	$id = ask("INSERT INTO sms_outbox (gateway, phone, content)
		VALUES ('saola', '0901234568', 'reported') RETURNING id");
	becomes("SELECT status FROM sms_outbox WHERE id = $id", 'sent', 'another');
	is(ask(qq{SELECT sms_delivery_report('saola', '{"id": "S-84901234568", "state": "lost"}')}), $id, 'a callback');
	is(ask("SELECT status FROM sms_outbox WHERE id = $id"), 'undelivered', '… is read');
};

subtest 'what its answers mean' => sub {
	queue_text('saola', 'answer bad_number');
	becomes(sub { status_of('answer bad_number') }, 'failed', 'a code that it does not know is a refusal for good');
	queue_text('saola', 'answer busy');
	becomes("SELECT attempts > 1, status FROM sms_outbox WHERE content = 'answer busy'", 't|queued',
		'one that is worth another try is tried again');
	ask("SELECT sms_cancel(id) FROM sms_outbox WHERE content = 'answer busy'");
	queue_text('saola', 'answer no_credit');
	becomes("SELECT state, reason ~ 'no_credit' FROM sms_gateways", 'paused|t',
		'one by which nothing can pass pauses it');
	ask("SELECT sms_cancel(id) FROM sms_outbox WHERE content = 'answer no_credit'; SELECT sms_resume('saola')");
	ask("ALTER USER MAPPING FOR PUBLIC SERVER saola OPTIONS (SET key 'wrong-key')");
	is(ask("SELECT status, result_code, result_message, http_status FROM sms_send('0901234567', 'x')"),
		'failed|bad_key|not a key: ***|401', 'a key that it tells back is hidden');
};

$node->stop;
done_testing();
