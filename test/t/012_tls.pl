# TLS: whom we believe, and that nothing leaves where we do not.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $clockshift = preloadable('clockshift');

sub openssl { system_or_bail('openssl', @_); return; }

openssl(qw(req -x509 -newkey rsa:2048 -nodes -days 2 -subj), '/CN=Test CA', '-keyout', "$dir/ca.key",
	'-out', "$dir/ca.crt");

# A simulator with a certificate of our CA for a name, valid for a day from so many days ago.
sub simulator_with_certificate
{
	my ($name, $subject, $days_ago) = @_;
	my $file = "$dir/$name";
	append_to_file("$file.cnf", "subjectAltName = $subject\n");
	openssl(qw(req -newkey rsa:2048 -nodes -subj /CN=gateway -keyout), "$file.key", '-out', "$file.csr");
	append_to_file("$file.shift", pack('q', -86400 * $days_ago));
	{
		local %ENV = (%ENV, LD_PRELOAD => $clockshift, CLOCKSHIFT_FILE => "$file.shift");
		openssl(qw(x509 -req -days 1 -in), "$file.csr", '-extfile', "$file.cnf", '-CA', "$dir/ca.crt",
			'-CAkey', "$dir/ca.key", '-CAcreateserial', '-out', "$file.crt");
	}
	return simulator('--tls-cert', "$file.crt", '--tls-key', "$file.key");
}

my $node;
{
	# A proxy of the server's environment, where nobody listens: no message below would arrive through it.
	local %ENV = (%ENV, map { $_ => 'http://127.0.0.1:1' } qw(http_proxy https_proxy HTTPS_PROXY all_proxy ALL_PROXY));
	$node = server('tls');
}
ask('CREATE EXTENSION sms_gateway');
my $ca = "ca_file '$dir/ca.crt'";

# What comes of a message through a new gateway.
sub sent_through
{
	my ($name, $url, @more) = @_;
	my $options = join ', ', "brandname 'B'", "base_url '$url'", @more;
	ask("CREATE SERVER $name FOREIGN DATA WRAPPER esms OPTIONS ($options);
		CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS (api_key 'demo', secret_key 'demo')");
	return ask("SELECT status, result_code, result_message FROM sms_send('0901234567', 'over TLS', '$name')");
}

my $good = simulator_with_certificate('good', 'IP:127.0.0.1', 0);

subtest 'a certificate counts if it is of a CA we know, for this server and of today' => sub {
	like(sent_through('good', $good->{url}, $ca), qr/^sent\|100\|/, 'a certificate of a CA that we were told');
	like(sent_through('unknown', $good->{url}), qr/^failed\|tls\|.*(certificate|issuer)/i,
		'a CA that the system does not know: failed, for certain');
	my $wrong = simulator_with_certificate('wrong', 'DNS:other.example', 0);
	like(sent_through('wrong', $wrong->{url}, $ca), qr/^failed\|tls\|/, "another server's certificate");
	my $expired = simulator_with_certificate('expired', 'IP:127.0.0.1', 10);
	like(sent_through('expired', $expired->{url}, $ca), qr/^failed\|tls\|.*expired/i, 'an expired certificate');
};

subtest 'a gateway with TLS is not asked without, nor one without TLS with it' => sub {
	my $plain = simulator();
	like(sent_through('plain', $plain->{url} =~ s/http:/https:/r, $ca), qr/^failed\|tls\|/, 'no TLS at all');
	is(stats($plain)->{requests}, 0, '… which heard nothing');
	like(sent_through('tls_as_http', $good->{url} =~ s/https:/http:/r), qr/^(uncertain|failed)\|/,
		'plain http to a TLS port');
};

subtest 'the worker tries such failures again, until the certificate is right' => sub {
	worker_pid($node);
	queue_text('expired', 'waits for a certificate');
	becomes('SELECT status, result_code FROM sms_outbox WHERE attempts > 0', 'queued|tls',
		'from the outbox: tried again');
	ask("ALTER SERVER expired OPTIONS (SET base_url '$good->{url}')");
	becomes('SELECT status FROM sms_outbox', 'sent', '… until it passes', seconds => 20);
};

subtest 'a proxy is used if it is an option, and never from the environment' => sub {
	my $send = "SELECT status, result_code FROM sms_send('0901234567', 'x', 'good')";
	is(ask($send), 'sent|100', "one in the server's environment is not used");
	ask("ALTER SERVER good OPTIONS (ADD proxy 'http://127.0.0.1:1')");
	like(ask($send), qr/^failed\|connect/, 'a proxy that is not there');
};

subtest 'options that name files and proxies are for superusers' => sub {
	ask('CREATE ROLE plain LOGIN; ALTER SERVER good OWNER TO CURRENT_USER;
		GRANT USAGE ON FOREIGN DATA WRAPPER esms TO plain');
	for my $option ("proxy 'http://127.0.0.1:1'", "ssl_cert '/etc/ssl/x'", "ssl_key '/etc/ssl/x'",
		"ca_file '/etc/ssl/x'", "allow_http 'true'")
	{
		like(error_of("CREATE SERVER mine FOREIGN DATA WRAPPER esms OPTIONS (brandname 'B', $option)",
			role => 'plain'), qr/permission denied to set option/, "only for superusers: $option");
	}
};

$node->stop;
done_testing();
