# TLS: whom we believe, and that nothing leaves where we do not.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
sub openssl { system_or_bail('openssl', @_); return; }
openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', "$dir/ca.key", '-out', "$dir/ca.crt", '-days', '2', '-subj', '/CN=Test CA');

# A certificate of our CA for a name, valid for a day from so many days ago.
system_or_bail('gcc', '-std=gnu11', '-O2', '-shared', '-fPIC', '-o', "$dir/clockshift.so", "$FindBin::RealBin/../lib/clockshift.c");
sub certificate
{
	my ($name, $subject, $days_ago) = @_;
	append_to_file("$dir/$name.cnf", "subjectAltName = $subject\n");
	openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', "$dir/$name.key", '-out', "$dir/$name.csr", '-subj', '/CN=gateway');
	append_to_file("$dir/$name.shift", pack('q', -86400 * $days_ago));
	{
		local %ENV = (%ENV, LD_PRELOAD => "$dir/clockshift.so", CLOCKSHIFT_FILE => "$dir/$name.shift");
		openssl('x509', '-req', '-in', "$dir/$name.csr", '-CA', "$dir/ca.crt", '-CAkey', "$dir/ca.key", '-CAcreateserial', '-out', "$dir/$name.crt",
			'-extfile', "$dir/$name.cnf", '-days', '1');
	}
	return simulator('--tls-cert', "$dir/$name.crt", '--tls-key', "$dir/$name.key");
}
my $node = server('tls');
sub ask { my ($sql) = @_; return scalar_of($node, $sql); }
ask('CREATE EXTENSION sms_gateway');
sub gateway
{
	my ($name, $url, $more) = @_;
	ask("CREATE SERVER $name FOREIGN DATA WRAPPER esms OPTIONS (brandname 'B', base_url '$url'" . ($more // '') . ");
		CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS (api_key 'demo', secret_key 'demo')");
	return ask("SELECT status, result_code, result_message FROM sms_send('0901234567', 'over TLS', '$name')");
}
my $ca = ", ca_file '$dir/ca.crt'";

my $good = certificate('good', 'IP:127.0.0.1', 0);
like(gateway('good', $good->{url}, $ca), qr/^sent\|100\|/, 'a certificate of a CA that we were told');
my $unknown = gateway('unknown', $good->{url});
like($unknown, qr/^failed\|tls\|.*(certificate|issuer)/i, 'a CA that the system does not know: failed, for certain');
my $wrong = certificate('wrong', 'DNS:other.example', 0);
like(gateway('wrong', $wrong->{url}, $ca), qr/^failed\|tls\|/, "another server's certificate");
my $expired = certificate('expired', 'IP:127.0.0.1', 10);
like(gateway('expired', $expired->{url}, $ca), qr/^failed\|tls\|.*expired/i, 'an expired certificate');
my $plain = simulator();
like(gateway('plain', $plain->{url} =~ s/http:/https:/r, $ca), qr/^failed\|tls\|/, 'no TLS at all');
is(stats($plain)->{requests}, 0, '… which heard nothing');
like(gateway('tls_as_http', $good->{url} =~ s/https:/http:/r), qr/^(uncertain|failed)\|/, 'plain http to a TLS port');

# --- the worker: certain failures are tried again, and pass when the certificate is right
worker_pid($node);
ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('expired', '0901234567', 'waits for a certificate')");
ok(wait_until(sub { ask("SELECT status, result_code FROM sms_outbox WHERE attempts > 0") eq 'queued|tls' }), 'from the outbox: tried again');
ask("ALTER SERVER expired OPTIONS (SET base_url '$good->{url}')");
ok(wait_until(sub { ask("SELECT status FROM sms_outbox") eq 'sent' }, 20), '… until it passes');

# --- a proxy is used if it is an option, and never from the environment
my ($rc, $out, $err) = $node->psql('postgres', "ALTER SERVER good OPTIONS (ADD proxy 'http://127.0.0.1:1')");
like(ask("SELECT status, result_code FROM sms_send('0901234567', 'x', 'good')"), qr/^failed\|connect/, 'a proxy that is not there');
ask("CREATE ROLE plain LOGIN; ALTER SERVER good OWNER TO CURRENT_USER; GRANT USAGE ON FOREIGN DATA WRAPPER esms TO plain");
for my $option ("proxy 'http://127.0.0.1:1'", "ssl_cert '/etc/ssl/x'", "ssl_key '/etc/ssl/x'", "ca_file '/etc/ssl/x'", "allow_http 'true'")
{
	($rc, $out, $err) = $node->psql('postgres', "CREATE SERVER mine FOREIGN DATA WRAPPER esms OPTIONS (brandname 'B', $option)", extra_params => [ '-U', 'plain' ]);
	like($err, qr/permission denied to set option/, "only for superusers: $option");
}

$node->stop;
done_testing();
