# Callbacks as the providers send them, through a real nginx and the functions of README.md, called as PostgREST does.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HTTP::Tiny;
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Utils;
use SmsTest;
use Test::More;

my $simulator = simulator();
my $node = server('callbacks');
gateways($node, $simulator, shop => "callback_url 'https://api.shop.example/sms/esms/{token}'");
my $readme = slurp_file("$FindBin::RealBin/../../README.md");
my ($functions) = $readme =~ /^(CREATE ROLE authenticator LOGIN.*?)^```$/ms;
my ($location) = $readme =~ /^```nginx\n(.*?)^```$/ms;
ask($functions);

# Queues a text and waits until it is sent; returns its id.
sub text
{
	my ($gateway, $content) = @_;
	my $id = queue_text($gateway, $content);
	finish($node, 20);
	return $id;
}

# Takes a message's id, returns a column of it.
sub column { my ($id, $column) = @_; return ask("SELECT $column FROM sms_outbox WHERE id = $id"); }

# Takes a text, returns the address that eSMS was given for it.
sub address_of
{
	my ($content) = @_;
	my ($sent) = grep { ($_->{content} // '') eq $content } requests($simulator);
	return $sent->{body}{CallbackUrl} =~ s{^https://api.shop.example}{}r;
}

subtest 'as PostgREST calls them' => sub {
	my $id = text('shop', 'by hand');
	my ($token) = address_of('by hand') =~ m{/sms/esms/([\w.-]+)$};
	ok($token, 'the address has the token in its path, and no query');
	my $query = 'SMSID=' . column($id, 'smsid') . "&SendStatus=5&SendSuccess=1&SendFailed=0&TotalReceiver=1"
		. "&NewOne=%F0%9F%98%80&odd&=x&a=b=c%2&token=$token";
	like(error_of("BEGIN READ ONLY; SET LOCAL ROLE webhook; SELECT hooks.esms('$query')"),
		qr/25006: a delivery report.*\n.*HINT:  PostgREST answers GET in one/, 'a GET runs read-only');
	is(ask("BEGIN; SET LOCAL ROLE webhook; SELECT hooks.esms('$query'); COMMIT"), $id, 'a POST of a text');
	is(column($id, 'status'), 'delivered', '... counts, whatever else it has');
	like(error_of("SELECT hooks.esms('" . $query =~ s/token=./token=_/r . "')"), qr/42501/, 'a wrong token');
};

subtest 'through nginx' => sub {
	my ($nginx) = grep { -x } map { "$_/nginx" } qw(/usr/sbin /usr/local/sbin), split /:/, $ENV{PATH};
	plan skip_all => 'needs nginx' if !$nginx;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my ($front, $back) = map { PostgreSQL::Test::Cluster::get_free_port() } 1 .. 2;
	# In PostgREST's place: a POST of text/plain calls the function with one text, as the role without a login.
	my $program = <<'JS';
const http = require('http');
const { execFileSync } = require('child_process');
http.createServer((request, response) => {
	let body = '';
	request.on('data', (data) => { body += data; });
	request.on('end', () => {
		const good = request.method === 'POST' && request.headers['content-type'] === 'text/plain';
		const sql = 'BEGIN; SET LOCAL ROLE webhook; SELECT hooks.' + request.url.replace('/rpc/', '')
			+ "(:'body'); COMMIT;";
		try {
			if (!good) throw new Error('no POST of a text');
			response.end(execFileSync('psql', ['-XAtq', '-v', 'ON_ERROR_STOP=1', '-v', 'body=' + body],
				{ input: sql }));
		} catch (error) { response.statusCode = 403; response.end(); }
	});
}).listen(process.env.BACK, '127.0.0.1');
process.stdin.on('end', () => process.exit()).resume();
JS
	plan skip_all => 'needs node' if !grep { -x "$_/node" } split /:/, $ENV{PATH};
	my $in = '';
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres', BACK => $back);
	my $rest = IPC::Run::start([ 'node', '-e', $program ], \$in);
	append_to_file("$dir/nginx.conf", "daemon off; master_process off; pid $dir/pid; error_log $dir/error.log;
		events {} http { access_log off; " . join(' ', map { "${_}_temp_path $dir/$_;" }
			qw(client_body proxy fastcgi uwsgi scgi)) . " server { listen 127.0.0.1:$front;\n"
			. $location =~ s/127\.0\.0\.1:3000/127.0.0.1:$back/r . '} }');
	my $web = IPC::Run::start([ $nginx, '-e', "$dir/error.log", '-c', "$dir/nginx.conf" ]);
	my $http = HTTP::Tiny->new(timeout => 10);
	wait_until(sub { $http->get("http://127.0.0.1:$front/")->{status} != 599 });
	my $id = text('shop', 'over nginx');
	my $info = '%257B%2522error%2522%253A%2522kh%25C3%25B4ng%2522%257D';
	my $url = "http://127.0.0.1:$front" . address_of('over nginx');
	my $query = 'SMSID=' . column($id, 'smsid') . "&SendStatus=5&SendSuccess=1&SendFailed=0&TotalReceiver=1&TypeId=2"
		. "&telcoid=1&phonenumber=84901234567&switchsmsid=&error_info=%22$info%22____2025-04-01+10%3A00";
	wait_until(sub { $http->get("$url?$query")->{status} == 200 });
	is(column($id, "status || ' ' || (details->>'telco')"), 'delivered Viettel', 'a callback by GET lands');
	is(column($id, "details->>'delivery_message'"), qq({"error":"kh\xc3\xb4ng"}), '... without the wrapping');
	is($http->get("${url}x?$query")->{status}, 403, 'another token is refused');
	is($http->post("$url?$query")->{status}, 403, 'and so is a POST');
	$_->kill_kill for $web, $rest;
};

subtest 'other spellings' => sub {
	my $report = sub {
		my ($gateway, %fields) = @_;
		return ask("SELECT sms_delivery_report('$gateway', '" . encode_json(\%fields) . "')");
	};
	my $id = text('cpaas', 'by Interits');
	is($report->('cpaas', msisdn => '84901234567', referentId => column($id, 'referent_id'), status => 7,
			retryCount => 0),
		$id, 'Interits: a status that is not 0');
	is(column($id, "status || ' ' || (details->>'delivery_code')"), 'undelivered 7', '... is undelivered, and kept');
	for my $key ('idOmniMess', 'id_omni_mess')
	{
		my $omni = ask("INSERT INTO sms_outbox (gateway, kind, phone, template_code)
			VALUES ('omni', 'omni', '0901234567', 'TPL') RETURNING id");
		finish($node, 20);
		is($report->('omni', $key => column($omni, 'id_omni_mess'), status => 'SUCCESS', telco_id => '1',
			channel => 'sms'), $omni, "eTelecom: $key");
		is(column($omni, 'status'), 'delivered', '... is heard');
	}
};

done_testing();
