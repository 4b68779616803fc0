# Gateways that repeat in every field of every answer what they were asked: it goes no further.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my %secret = ('API key' => 'kEy/"012345+ü', 'secret key' => 'sEcReTkEy+/=abc', 'user name' => 'uSeRnAmE77',
	password => 'pAsSwOrD!&?x');
my $simulator = simulator();
my $node = server('echoes', settings => "log_min_messages = debug5\nsms_gateway.log_http = on\n");
# Everything is logged but what this test itself types.
$ENV{PGOPTIONS} = join ' ', map { "-c $_" } qw(log_statement=none log_min_duration_statement=-1
	log_min_error_statement=panic);
gateways($node, $simulator, poll => 1,
	shop => "otp 'local', otp_per_phone 'off', callback_url 'https://hooks.example/esms?token={token}',
		max_attempts '1'",
	omni => "template_code 'TPL', otp_param 'pin', otp_per_phone 'off', max_attempts '1'",
	cpaas => "otp_per_phone 'off', max_attempts '1'");
ask("ALTER USER MAPPING FOR PUBLIC SERVER shop
		OPTIONS (SET api_key '$secret{'API key'}', SET secret_key '$secret{'secret key'}');
	ALTER USER MAPPING FOR PUBLIC SERVER omni
		OPTIONS (SET username '$secret{'user name'}', SET password '$secret{password}');
	ALTER USER MAPPING FOR PUBLIC SERVER cpaas OPTIONS (SET api_key '$secret{'secret key'}')");
worker_pid($node);
my $typed = -s $node->logfile;    # the secrets themselves were typed before this
my $text = 'pRiVaTe "text" cho bạn/em';

# All that a secret can look like.
sub looks_like
{
	my @all = map {
		my $text = $_;
		utf8::encode($text) if utf8::is_utf8($text);
		my $upper = $text =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger;
		my $json = $text =~ s/(["\/])/\\$1/gr;
		map { quotemeta } $text, $upper, $upper =~ s/(%..)/lc $1/ger, $json, $json =~ s/\\\//\//gr;
	} @_;
	return join '|', @all;
}
my $secrets = looks_like(values %secret);

my @codes;

# Sends everything, through gateways that tell this code.
sub send_everything
{
	my ($code) = @_;
	fault($simulator, fault => 'echo', text => $code);
	my @told;
	for my $gateway (qw(shop omni cpaas))
	{
		my ($out, $err);
		for my $sql ("SELECT sms_send_otp('0907654321', gateway => '$gateway')",
			"SELECT sms_check_otp('0907654321', '13572468', '$gateway')", "SELECT sms_balance('$gateway')",
			$gateway eq 'omni' ? "SELECT sms_omni_send('0907654321', 'TPL', '{\"name\": \"x\"}', gateway => 'omni')"
			: "SELECT sms_send('0907654321', '$text', '$gateway')")
		{
			$node->psql('postgres', $sql, stdout => \$out, stderr => \$err);
			push @told, $out, $err;
		}
	}
	ask("INSERT INTO sms_outbox (gateway, phone, content)
			SELECT g, '0907654321', '$text' FROM unnest('{shop,cpaas}'::name[]) g;
		INSERT INTO sms_outbox (gateway, kind, phone, content)
			SELECT g, 'otp', '0907654321', '{OTP} is your code' FROM unnest('{shop,omni,cpaas}'::name[]) g");
	becomes("SELECT count(*) FROM sms_outbox WHERE status = 'queued' AND attempts = 0
		AND gateway NOT IN (SELECT name FROM sms_gateways WHERE state = 'paused')", 0,
		"all was tried, with code '$code'");
	for my $request (requests($simulator))
	{
		my $body = $request->{body} // {};
		push @codes, $body->{list_param}{pin} if ref $body->{list_param} && $body->{list_param}{pin};
		push @codes, $1 if ($body->{text} // $body->{Content} // '') =~ /^(\d{6})\b/;
	}
	forget($simulator);
	no_faults($simulator);
	my $reasons = ask('SELECT reason FROM sms_gateways WHERE reason IS NOT NULL');
	ask('SELECT sms_resume(name) FROM sms_gateways');
	return (join("\n", @told), $reasons);
}

subtest 'rows, answers of functions, reasons' => sub {
	my ($told, $reasons) = ('', '');
	for my $code ('777', '101', '100', '')
	{
		my @new = send_everything($code);
		$told .= $new[0];
		$reasons .= "$new[1]\n";
	}
	cmp_ok(scalar @codes, '>', 8, scalar(@codes) . ' one-time passwords went');
	my $code = join '|', map { "(?<!\\d)$_(?!\\d)" } @codes;
	like($told, qr/\*\*\*/, 'what functions tell has something hidden');
	is(join("\n", $told =~ /((?:$secrets))/ig), '', '… every secret');
	is(join("\n", $told =~ /((?:$code))/g), '', '… and every code');
	my $rows = ask("SELECT result_code, result_message, smsid, id_omni_mess, referent_id, details FROM sms_outbox");
	like($rows, qr/\*\*\*/, 'rows have something hidden');
	is(join("\n", $rows =~ /((?:$secrets))/ig), '', '… every secret');
	is(join("\n", $rows =~ /((?:$code))/g), '', '… and every code');
	is(join("\n", $rows =~ /(pRiVaTe.*|9?07654321)/ig), '', '… and text and phone');
	like($reasons, qr/^101: api_key or secret_key is wrong$/m, 'a reason is the code and words of ours');
	unlike($reasons, qr/\*\*\*/, '… and nothing of an answer');
};

subtest 'the log, at DEBUG5' => sub {
	my $log = slurp_file($node->logfile, $typed);
	my $code = join '|', map { "(?<!\\d)$_(?!\\d)" } @codes;
	is(join("\n", $log =~ /^(.*(?:$secrets).*)$/img), '', 'no secret');
	is(join("\n", $log =~ /(pRiVaTe.*|(?<![0-9])(?:84|0)907654321)/ig), '', 'no text, no phone');
	is(join("\n", $log =~ /((?:$code))/g), '', 'no code');
	unlike($log, qr/is paused: [^\n]*\*\*\*/, 'warnings have nothing of an answer');
};

subtest 'ids that hold a code by chance are kept, others not' => sub {
	fault($simulator, fault => 'body', match => '/MainService',
		text => '{"CodeResult": "100", "SMSID": "ab-1234-84907654321"}');
	is(ask("SELECT (sms_send('0907654321', '1234', 'shop')).smsid"), 'ab-1234-84907654321',
		'by it its delivery is asked for');
	no_faults($simulator);
	fault($simulator, fault => 'body', match => '/MainService',
		text => qq({"CodeResult": "100", "SMSID": "x-$secret{'secret key'}"}));
	is(ask("SELECT status, smsid FROM sms_send('0907654321', 'any', 'shop')"), 'sent|',
		'one with a secret names nothing');
	no_faults($simulator);
};

subtest 'names and words in every encoding, by the worker and by sms_drain' => sub {
	my %names = (LATIN1 => [ 'bücher', 'käse' ], EUC_JP => [ '本', '魚' ], SQL_ASCII => [ 'bücher', 'käse' ]);
	for my $encoding (sort keys %names)
	{
		my $database = lc "in_$encoding";
		my ($first, $second) = @{ $names{$encoding} };
		my $client = $encoding eq 'SQL_ASCII' ? '' : "SET client_encoding = 'UTF8';";
		ask("CREATE DATABASE $database TEMPLATE template0 ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C'");
		my $servers = join '', map {
			qq(CREATE SERVER "$_" FOREIGN DATA WRAPPER esms OPTIONS (base_url '$simulator->{url}', brandname 'X',
				poll_delivery 'false', max_attempts '1');
			CREATE USER MAPPING FOR PUBLIC SERVER "$_" OPTIONS (api_key 'demo', secret_key 'demo');)
		} $first, $second;
		ask(qq($client CREATE EXTENSION sms_gateway; $servers
			ALTER SERVER "$first" OPTIONS (ADD fallback '$second')), $database);
		my $error = 'lỗi ü 本 물 ' . 'é' x 300;
		utf8::decode($error);
		fault($simulator, fault => 'body', count => 1,
			text => qq({"CodeResult": "777", "CountRegenerate": 0, "ErrorMessage": "$error"}));
		ask(qq($client INSERT INTO sms_outbox (gateway, phone, content) VALUES ('$first', '0901234567', 'x')),
			$database);
		ask('CALL sms_drain()', $database) if $encoding eq 'LATIN1';
		becomes('SELECT status FROM sms_outbox', 'sent', "$encoding: sent", database => $database);
		my $failed = "details -> 'failed_over' -> 0";
		is(ask("$client SELECT gateway, $failed ->> 'gateway' FROM sms_outbox", $database),
			"$second|$first", '… through the fallback, and the row says after whom');
		like(ask("$client SELECT $failed ->> 'result_message' FROM sms_outbox", $database),
			$encoding eq 'LATIN1' ? qr/^l\?i ü \? \? (?:é)*$/ : qr/^l\S+i \S+ 本 \S+ \S*$/, '… and in which words');
		no_faults($simulator);
	}
};

$node->stop;
done_testing();
