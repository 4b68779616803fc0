# Requests and answers as the providers' documents have them, by a mock that knows nothing of our code.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HTTP::Tiny;
use IPC::Run ();
use JSON::PP;
use SmsTest;
use Test::More;

my ($in, $url) = ('', '');
my $mock = IPC::Run::start([ 'node', "$FindBin::RealBin/../lib/mock.js" ], \$in, '>', \$url);
wait_until(sub { $mock->pump_nb; $url =~ /\n/ }) or die 'node does not start';
chomp $url;
my $http = HTTP::Tiny->new(timeout => 20);
my $json = JSON::PP->new->canonical->allow_nonref;

my $node = server('documents', settings => "sms_gateway.retry_initial = '1h'\n");
ask('CREATE EXTENSION sms_gateway');
worker_pid($node);

# What a gateway of each provider is made with.
my %made = (
	esms => [ "brandname 'MYSHOP', oaid '4097'", "api_key 'K+1/&=', secret_key 'S%2'" ],
	etelecom => [ "routerule '1,3'", "username 'demo', password 'p\"w'" ],
	interits => [ "sender 'MYSHOP'", "api_key 'the key'" ]);

# Takes a name, a provider and more options, returns the SQL that makes such a gateway.
sub gateway
{
	my ($name, $provider, $more) = @_;
	my ($own, $secret) = @{ $made{$provider} };
	$more = $more ? ", $more" : '';
	return "CREATE SERVER $name FOREIGN DATA WRAPPER $provider
		OPTIONS (base_url '$url', poll_delivery 'false', $own$more);
		CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS ($secret);\n";
}

# Takes rules of mock.js, which answers by them, before earlier ones, from now on.
sub answers
{
	my $content = $json->encode([ map { { status => 200, type => 'application/json', %$_ } } @_ ]);
	utf8::encode($content);
	$http->post("$url/mock/rules", { content => $content })->{success} or die 'the mock does not answer';
	return;
}

# Takes a text, returns the one request that holds it in its URL or body.
sub arrived
{
	my ($text) = @_;
	my @found = grep { index("$_->{url} $_->{body}", $text) >= 0 }
		@{ decode_json($http->get("$url/mock/requests")->{content}) };
	is(scalar @found, 1, "one request has $text");
	return $found[0];
}

# Takes a text that is in a request, its method and URL, and its body: as JSON with all of its types, or undef.
sub arrives
{
	my ($text, $method, $target, $body) = @_;
	my $request = arrived($text);
	is("$request->{method} $request->{url}", "$method $target", '... by its method and URL');
	return $request if !defined $body;
	is($request->{headers}{'content-type'}, 'application/json', '... as JSON');
	my $got = $request->{body};
	utf8::encode($got);
	# Which id a request has is random; that of a leg has a letter behind it.
	$got =~ s/"(RequestId)":\s*"sgw-[a-z0-9]{24}-\d+/"$1":"one/gi;
	is($json->encode(decode_json($got)), $json->encode($body), '... with every field, and no other');
	return $request;
}

my $svc = '/MainService.svc/json';
my %keys = (ApiKey => 'K+1/&=', SecretKey => 'S%2');
my $secrets = 'ApiKey=K%2B1%2F%26%3D&SecretKey=S%252';
my $sms = '{"CodeResult":"100","CountRegenerate":0,"SMSID":"d533459ee42b2b9525ba9eabf6a8156"}';
ask(gateway('shop', 'esms') . gateway('fixed', 'esms', "sms_type '8'") . gateway('omni', 'etelecom')
	. gateway('cpaas', 'interits'));

subtest 'eSMS: texts, at once and from the outbox' => sub {
	answers({ match => 'MainService', body => $sms });
	my $options = q({"sandbox": "true", "campaign_id": "Spring", "send_date": "2030-01-02T03:04:05Z"});
	is(ask("SELECT status, smsid FROM sms_send('0901234567', 'care one', 'shop', 'r-1', '$options')"),
		'sent|d533459ee42b2b9525ba9eabf6a8156', 'customer care');
	queue_text('shop', 'care two', request_id => "'r-2'", options => "'$options'");
	queue_text('fixed', 'fixed "Xin chào"', request_id => "'r-3'");
	ask("SELECT sms_send('+84 90 123 45 67', 'care three', 'shop', 'r-4')");
	ok(finish($node, 20), 'all are sent');
	my %care = (%keys, Phone => '84901234567', SmsType => '2', Brandname => 'MYSHOP', IsUnicode => '0');
	for my $content ('care one', 'care two')
	{
		arrives($content, 'POST', "$svc/SendMultipleMessage_V4_post_json/", { %care, Content => $content,
			Sandbox => '1', campaignid => 'Spring', RequestId => 'one', SendDate => '2030-01-02 10:04:05' });
	}
	arrives('care three', 'POST', "$svc/SendMultipleMessage_V4_post_json/",
		{ %care, Content => 'care three', RequestId => 'one' });
	arrives('Xin chào', 'POST', "$svc/SendMultipleMessage_V4_post_json/", { %keys, Phone => '84901234567',
		Content => 'fixed "Xin chào"', SmsType => '8', IsUnicode => '1', Unicode => '1', RequestId => 'one' });
	is(ask("SELECT DISTINCT status, smsid, result_code, http_status FROM sms_outbox"),
		'sent|d533459ee42b2b9525ba9eabf6a8156|100|200', 'both are sent');
};

subtest 'eSMS: one-time passwords, and their check' => sub {
	my $checked = '{"CodeResult":"100","CountRegenerate":0,"ErrorMessage":"0901888484, Content: Success!"}';
	answers({ match => 'Code=654321', body => $checked },
		{ match => 'Code=654322', body => '{"CodeResult":"171"}' },
		{ match => 'Code=654323', body => '{"CodeResult":"117"}' },
		{ match => 'Code=654324', body => '{"CodeResult":"124"}' }, { match => 'AutoGenCode', body => $sms });
	is(ask(q{SELECT status FROM sms_send_otp('0901234567', 'Mã: {OTP} & "x"', 'shop', ttl => '3 min', length => 4,
		digits_only => false)}), 'sent', 'one is sent');
	arrives('AutoGenCode', 'GET', "$svc/SendMessageAutoGenCode_V4_get?Phone=84901234567&$secrets&TimeAlive=3"
		. '&NumCharOfCode=4&Brandname=MYSHOP&Type=2&message=M%C3%A3%3A%20%7BOTP%7D%20%26%20%22x%22&IsNumber=0');
	is(ask("SELECT sms_check_otp('0901234567', '654321', 'shop')"), 't', '100 is right');
	arrives('654321', 'GET', "$svc/CheckCodeGen_V4_get?$secrets&Phone=84901234567&Code=654321");
	is(ask("SELECT sms_check_otp('0901234567', '65432$_', 'shop')"), 'f', "... wrong") for 2, 3;
	my $used = "SELECT coalesce(sms_check_otp('0901234567', '654324', 'shop')::text, 'unknown')";
	is(ask($used), 'unknown', '... of 124 nothing is known');
};

subtest 'eSMS: advertising, Zalo, Zalo then SMS, Viber' => sub {
	answers({ match => 'MainService', body => $sms });
	my @phones = map { sprintf '849012%05d', $_ } 1 .. 30;
	my $array = join ',', map { "'$_'" } @phones;
	is(ask("SELECT status FROM sms_send_bulk(ARRAY[$array], 'bulk', 'shop', 'b-1')"), 'sent', 'advertising');
	arrives('"bulk"', 'POST', "$svc/SendMultipleSMSBrandname_json/", { %keys, Phones => \@phones, Content => 'bulk',
		SmsType => '1', Brandname => 'MYSHOP', IsUnicode => '0', RequestId => 'one' });
	ask(q{INSERT INTO sms_outbox (kind, gateway, phone, template_code, list_param, content, routerule, request_id)
		VALUES ('omni', 'shop', '0901234567', 'T1', '{"otp": "12", "n": 5}', NULL, '{1}', 'z-1'),
		('omni', 'shop', '0901234567', 'T2', '["12", "b"]', 'Mã 12', '{1,3}', 'z-2')});
	ask(q{SELECT sms_send('0901234567', 'viber.example', 'shop', 'v-1', '{"sms_type": "23",
		"viber_url": "https://shop.example/a", "viber_label": "Buy",
		"viber_image": "https://shop.example/a.png", "sandbox": "true"}')});
	ok(finish($node, 20), 'all are sent');
	my %zalo = (OAID => '4097', SendingMode => '1');
	arrives('"T1"', 'POST', "$svc/SendZaloMessage_V5_post/", { %keys, %zalo, Phone => '84901234567', TempID => 'T1',
		TempData => [ { key => 'n', value => '5' }, { key => 'otp', value => '12' } ], RequestId => 'one' });
	arrives('"T2"', 'POST', "$svc/MultiChannelMessage/", { %keys, Phone => '84901234567', Channels => [ 'zalo', 'sms' ],
		Data => [ { %zalo, TempID => 'T2', Params => [ '12', 'b' ], RequestId => 'one' },
			{ Content => 'Mã 12', IsUnicode => '1', SmsType => '2', Brandname => 'MYSHOP', RequestId => 'one.a' } ] });
	arrives('viber.example', 'POST', "$svc/Send_Multiple_Sms_OTT/", { %keys, Phones => ['84901234567'],
		Content => 'viber.example', SmsType => '23', Brandname => 'MYSHOP', OttLabel => 'Buy',
		OttUrl => 'https://shop.example/a',
		OttImgUrl => 'https://shop.example/a.png', IsSandBox => '1', RequestId => 'one' });
};

subtest 'eSMS: questions' => sub {
	my $templates = '{"BrandnameTemplates":[{"NetworkID":6,"TempContent":"{P1,20} la ma xac minh","TempId":458}],'
		. '"CodeResult":"100"}';
	my $status = '{"CodeResponse":"100","SMSID":"id/1","SendFailed":0,"SendStatus":5,"SendSuccess":1,'
		. '"TotalPrice":850.0000,"TotalReceiver":1,"TotalSent":1}';
	my $receivers = '{"CodeResult":"100","ReceiverList":[{"IsSent":true,"NetworkName":"Viettel","Phone":"0901888484",'
		. '"Retry":0,"SentResult":true}]}';
	answers({ match => 'GetBalance_json', body => '{"Balance":36693,"CodeResponse":"100","UserID":9999}' },
		{ match => 'GetListBrandname',
			body => '{"CodeResponse":"100","ListBrandName":[{"Brandname":"MYSHOP","Type":2}]}' },
		{ match => 'GetTemplate', body => $templates },
		{ match => 'SummaryMultiple', body => '{"CodeResult":"100","TotalPrice":850,"TotalReceiver":1}' },
		{ match => 'GetSendStatus', body => $status }, { match => 'GetSmsReceiverStatus', body => $receivers },
		{ match => 'asked about', body => '{"CodeResult":"100","CountRegenerate":0,"SMSID":"id/1"}' });
	is(ask("SELECT sms_balance('shop')"), '36693', 'balance');
	arrives('GetBalance', 'POST', "$svc/GetBalance_json", {%keys});
	is(ask("SELECT * FROM sms_brandnames('shop')"), 'MYSHOP|2', 'brandnames');
	arrives('GetListBrandname', 'GET', "$svc/GetListBrandname/K%2B1%2F%26%3D/S%252");
	like(ask("SELECT * FROM sms_templates('shop')"), qr/^458\|.*\|\{P1,20\} la ma xac minh$/, 'templates');
	arrives('GetTemplate', 'POST', "$svc/GetTemplate/", { %keys, SmsType => '2', Brandname => 'MYSHOP' });
	is(ask("SELECT sms_price('0901234567', 'a b', 'shop')"), '850', 'price');
	arrives('SummaryMultiple', 'GET', "$svc/SummaryMultipleMessage_V4_get?Phone=84901234567&Content=a%20b&$secrets"
		. '&SmsType=2&BrandName=MYSHOP&IsUnicode=0');
	my $id = queue_text('shop', 'asked about');
	finish($node, 20);
	is(ask("SELECT sms_check_status($id)"), 'delivered', 'status');
	arrives('GetSendStatus', 'GET', "$svc/GetSendStatus?RefId=id%2F1&$secrets");
	is(ask("SELECT price FROM sms_outbox WHERE id = $id"), '850', '... and what it cost');
};

subtest 'eTelecom' => sub {
	# The page prints the key with blanks around it.
	my $sent = '{"status":"1","code":"Success"," idOmniMess ":"ICOMNI' . '0' x 30 . '"}';
	answers({ match => 'GetStatusOmni', body => '{"phonenumber":"84836106872","list_param":"{\"otp\":\"123456\"}",'
		. '"createdatetime":"21/05/2021 14:43:22","status":"SUCCESS","channel":"SMS","templatecode":"T1",'
		. '"errorCode":"","mtcount":"1","telcoid":"1"}' }, { match => 'SendMessage', body => $sent });
	my $id = ask(q{INSERT INTO sms_outbox (kind, gateway, phone, template_code, list_param)
		VALUES ('omni', 'omni', '0901234567', 'T"1', '{"otp": "123456"}') RETURNING id});
	ok(finish($node, 20), 'it is sent');
	my %login = (username => 'demo', password => 'p"w');
	arrives('T\\"1', 'POST', '/api/OmniMessage/SendMessage', { %login, phonenumber => '84901234567',
		routerule => [ '1', '3' ], templatecode => 'T"1', list_param => { otp => '123456' } });
	is(ask("SELECT status, id_omni_mess FROM sms_outbox WHERE id = $id"), 'sent|ICOMNI' . '0' x 30, '... with its id');
	is(ask("SELECT sms_check_status($id)"), 'delivered', 'status');
	arrives('GetStatusOmni', 'POST', '/api/OmniReport/GetStatusOmni', { %login, idOmniMess => 'ICOMNI' . '0' x 30 });
};

subtest 'Interits' => sub {
	answers({ match => 'vendor',
		body => '{"code":0,"data":{"token":"tok"},"message":"string","referentId":"ref"}' });
	queue_text('cpaas', 'to Interits', request_id => "'i-1'", options =>
		q('{"scheduled": "2024-12-20T10:33:44.757+07", "ext": {"a": 1}}'));
	ask("SELECT sms_send('0901234567', 'Xin chào Interits', 'cpaas', 'i-2', '{\"type\": 1}')");
	ok(finish($node, 20), 'it is sent');
	my %body = (destinations => ['84901234567'], from => 'MYSHOP', type => 0, useUnicode => 0);
	my $request = arrives('to Interits', 'POST', '/api/vendor/v1/sms/send-message', { %body, text => 'to Interits',
		requestId => 'one', scheduled => '2024-12-20T03:33:44.757Z', ext => { a => 1 } });
	is_deeply([ @{ $request->{headers} }{qw(accept api-key)} ], [ '*/*', 'the key' ], '... and its headers');
	arrives('chào Interits', 'POST', '/api/vendor/v1/sms/send-message',
		{ %body, text => 'Xin chào Interits', requestId => 'one', useUnicode => 1, type => 1 });
	is(ask("SELECT status, referent_id FROM sms_outbox WHERE request_id = 'i-1'"), 'sent|ref', '... with its id');
};

# What becomes of a message, and of its gateway, by the class of the answer.
my %class = (accepted => 'sent|active', permanent => 'failed|active', gateway => 'queued|paused',
	throttled => 'queued|resting|0', uncertain => 'uncertain|active', transient => 'queued|active|1');

# Takes a provider and cases [class, status, body, options]: each is the answer to a message of a gateway of its own.
sub become
{
	my ($provider, @cases) = @_;
	my ($n, $sql, $insert, @rules) = (0, '', '');
	for my $case (@cases)
	{
		my ($class, $status, $body, $options) = @$case;
		my $name = sprintf '%s_%03d', $provider, ++$n;
		my $columns = $provider eq 'etelecom' ? "kind, template_code) VALUES ('0901234567', '$name', 'omni', '$name'"
			: "kind, content) VALUES ('0901234567', '$name', 'text', '$name'";
		push @rules, { match => $name, status => $status, body => $body };
		$sql .= gateway($name, $provider, $options);
		$insert .= "INSERT INTO sms_outbox (phone, gateway, $columns);\n";
	}
	answers(@rules);
	ask($sql);
	ask($insert);
	becomes("SELECT count(*) FROM sms_outbox WHERE gateway ^@ '${provider}_' AND status = 'queued'
		AND result_code IS NULL AND http_status IS NULL", '0', 'all are answered');
	my %became = map { my ($name, @rest) = split /\|/; ($name => join '|', @rest) } split /\n/, ask("
		SELECT o.gateway, o.status, g.state, o.attempts FROM sms_outbox o JOIN sms_gateways g ON g.name = o.gateway");
	for my $i (1 .. $n)
	{
		my ($class, $status, $body) = @{ $cases[ $i - 1 ] };
		like($became{ sprintf '%s_%03d', $provider, $i }, qr/^\Q$class{$class}\E/, "$status $body: $class");
	}
	return;
}

subtest 'the codes of eSMS' => sub {
	my %codes = (accepted => [qw(100 199)], gateway => [qw(101 140 143 102 103)], throttled => ['160'],
		uncertain => ['124'], permanent => [qw(99 104 107 108 110 115 118 120 146 163 177 201 204 210 300 687
			789 790 791 799 801 802 117 171 555)]);
	my @cases;
	for my $class (sort keys %codes)
	{
		push @cases, map { [ $class, 200, qq({"CodeResult":"$_","CountRegenerate":0,"ErrorMessage":"x"}) ] }
			@{ $codes{$class} };
	}
	become('esms', @cases, [ 'accepted', 200, '{"CodeResult":100,"SMSID":"x"}' ],
		[ 'permanent', 200, '{"CodeResult":"146","ErrorMessage":"Sai template Brandname CSKH","SMSID":"3f5e156"}' ],
		(map { [ 'transient', 200, $_ ] } '{"error":"Invalid request"}', '<html>', '', '{"CodeResult":"1'),
		[ 'transient', 503, '' ], [ 'transient', 500, '' ], [ 'throttled', 429, '' ]);
};

subtest 'the codes of eTelecom' => sub {
	my @permanent = ('-1","code":"PhoneNumber Wrong Format', '-2","code":"Wrong Format Parameter: x',
		q(-6","code":"Can't find template with templatecode: x), q(-8","code":"Can't find any routing for this request),
		q(-9","code":"Can't find any information about channel: X));
	become('etelecom', (map { [ 'permanent', 200, qq({"status":"$_"}) ] } @permanent),
		[ 'accepted', 200, '{"status":"1","code":"Success","idOmniMess":"ICOMNI1"}' ],
		[ 'gateway', 200, '{"status":"-3","code":"You have run out of messages"}' ], [ 'gateway', 401, 'Unauthorized' ],
		[ 'gateway', 401, "Can't access from this IP" ], [ 'uncertain', 500, '' ], [ 'transient', 503, '' ],
		[ 'uncertain', 200, '<html>' ], [ 'throttled', 429, '' ]);
};

subtest 'the codes of Interits' => sub {
	# A firewall refuses one text with 403, 404 or 405: only three messages in a row pause the gateway (027).
	become('interits', (map { [ 'accepted', 200, $_ ] } '{"referentId":"r"}', map { qq({"code":$_}) } 0, 200, 201, 204),
		[ 'permanent', 200, '{"code":7}' ], [ 'uncertain', 200, '{"code":7,"referentId":"r"}' ],
		[ 'uncertain', 200, '{"code":7,"data":{"token":"t"}}' ], [ 'accepted', 200, '{"code":7}', "success_codes '7'" ],
		[ 'permanent', 400, '{"code":400}' ], [ 'gateway', 401, '' ],
		(map { [ 'transient', $_, '' ] } 403, 404, 405), [ 'throttled', 429, '' ],
		(map { [ 'uncertain', $_, '' ], [ 'transient', $_, '', "idempotent 'true'" ] } 500, 502, 504),
		[ 'transient', 503, '' ]);
};

subtest 'numbers of before 2018, and today' => sub {
	my %table = ((map { ("16$_" => "3$_") } 2 .. 9), 120 => 70, 121 => 79, 122 => 77, 126 => 76, 128 => 78, 123 => 83,
		124 => 84, 125 => 85, 127 => 81, 129 => 82, 186 => 56, 188 => 58, 199 => 59);
	my %expected;
	for my $old (keys %table)
	{
		$expected{"0${old}1234567"} = $expected{"+84 $old 123 4567"} = "84$table{$old}1234567";
		$expected{"0$table{$old}1234567"} = "84$table{$old}1234567";
	}
	my $values = join ', ', map { "('shop', '$_', 'number $_', now() + interval '1 day')" } sort keys %expected;
	my %got = map { split /\|/ } split /\n/, ask("INSERT INTO sms_outbox (gateway, phone, content, send_after)
		VALUES $values RETURNING substr(content, 8), phone");
	is_deeply(\%got, \%expected, 'each by the table, and the new ones as they are');
	for my $phone (qw(01601234567 01611234567 01231 01871234567 01981234567 0281234567))
	{
		like(error_of("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '$phone', 'x')"), qr/22023/,
			"$phone is none");
	}
};

subtest 'texts copied from word processors' => sub {
	my %plain = ("\x{201C}a\x{201D} \x{2018}b\x{2019}" => q("a" 'b'), "a\x{2013}b\x{2014}c" => 'a-b-c',
		"a\x{A0}b\x{202F}c" => 'a b c', "Tie\x{302}\x{301}ng Vie\x{323}\x{302}t" => 'Tieng Viet',
		"\x{110}\x{1ED3}ng" => 'Dong', "a\x{2009}b" => 'a b', "\x{201E}a\x{201C}" => '"a"');
	for my $text (sort keys %plain)
	{
		utf8::encode(my $bytes = $text =~ s/'/''/gr);
		is(ask("SELECT sms_unaccent('$bytes')"), $plain{$text}, "... $plain{$text}");
		is(ask("SELECT parts FROM sms_parts('$bytes', vietnamese => true)"), '1', '... one part');
	}
};

$node->stop;
$in = '';
$mock->kill_kill;
done_testing();
