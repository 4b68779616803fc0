# The other calls of eSMS: advertising, Zalo ZNS, Zalo and then SMS, Viber.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use Test::More;

my $simulator = simulator();
my $node = server('more');
gateways($node, $simulator, shop => "oaid '4097', daily_budget '100'");
worker_pid($node);

sub refused { my ($sql, $error, $name) = @_; like(error_of($sql), $error, $name); return; }
sub last_request { my ($last) = reverse requests($simulator); return $last; }

subtest 'an advertisement goes to 30 to 5,000 receivers in one request, by a gateway that is named' => sub {
	my $many = "array_agg('09012' || lpad(i::text, 5, '0'))";
	is(ask("SELECT r.status, r.smsid <> '' FROM (SELECT $many AS phones FROM generate_series(1, 30) i) p,
		sms_send_bulk(p.phones, 'Sale!', gateway => 'shop') r"), 'sent|t', 'an advertisement');
	my $request = last_request();
	like($request->{path}, qr{/SendMultipleSMSBrandname_json/$}, '… by its own call');
	my $body = $request->{body};
	is_deeply([ scalar @{ $body->{Phones} }, @$body{qw(SmsType Brandname Content)} ], [ 30, '1', 'MYSHOP', 'Sale!' ],
		'… to all');
	is(ask("SELECT used FROM sms_gateway_usage WHERE subject = 'day'"), 30,
		'… each receiver counts towards the budget');
	refused("SELECT sms_send_bulk($many, 'Sale!', gateway => 'shop') FROM generate_series(1, 29) i",
		qr/22023: 29 receivers/, '29 are too few');
	refused("SELECT sms_send_bulk($many, 'Sale!', gateway => 'shop') FROM generate_series(1, 80) i",
		qr/53400: the limit daily_budget/, '80 are beyond the budget');
	is(ask("SELECT gateway FROM sms_send_bulk(ARRAY['0901234567'], 'by default elsewhere')"), 'cpaas',
		'nobody advertises by default');
};

subtest 'Zalo ZNS' => sub {
	is(ask(q{SELECT status FROM sms_omni_send('0901234567', 'ZT1', '{"otp": "123", "n": 5}', gateway => 'shop')}),
		'sent', 'Zalo');
	my $request = last_request();
	like($request->{path}, qr{/SendZaloMessage_V5_post/$}, '… by its own call');
	is_deeply([ @{ $request->{body} }{qw(OAID TempID TempData)} ],
		[ '4097', 'ZT1', [ { key => 'n', value => '5' }, { key => 'otp', value => '123' } ] ],
		"… with the template's variables");
};

subtest 'Zalo, then SMS' => sub {
	is(ask(q{SELECT status FROM sms_omni_send('0901234567', 'ZT1', '["first", "second"]', ARRAY['1','3'], 'shop',
		'{"sms_content": "Chữ"}')}), 'sent', 'Zalo, then SMS');
	my $request = last_request();
	like($request->{path}, qr{/MultiChannelMessage/$}, '… by its own call');
	is_deeply($request->{body}{Channels}, [ 'zalo', 'sms' ], '… in this order');
	my ($zalo, $sms) = @{ $request->{body}{Data} };
	is_deeply([ $zalo->{Params}, @$sms{qw(IsUnicode Brandname)} ], [ [ 'first', 'second' ], '1', 'MYSHOP' ],
		'… each with its own');

	my $id = ask(q{INSERT INTO sms_outbox (kind, gateway, phone, template_code, list_param, content, routerule)
		VALUES ('omni', 'shop', '0901234567', 'ZT2', '["a"]', 'From the outbox', '{1,3}') RETURNING id});
	becomes("SELECT status FROM sms_outbox WHERE id = $id", 'sent', 'from the outbox, the text in its column');
	my $body = last_request()->{body};
	is_deeply([ $body->{Channels}, $body->{Data}[1]{Content} ], [ [ 'zalo', 'sms' ], 'From the outbox' ],
		'… in the provider\'s order');
};

subtest 'what eSMS cannot send by Zalo and SMS is refused' => sub {
	refused(q{SELECT sms_omni_send('0901234567', 'ZT1', '{"a": 1, "b": 2}', ARRAY['1','3'], 'shop',
		'{"sms_content": "x"}')}, qr/takes the template's values by their order/, 'an object of two has no order');
	refused("SELECT sms_omni_send('0901234567', 'ZT1', '{}', ARRAY['1','3'], 'shop')", qr/needs a text/,
		'an SMS needs a text');
	refused("SELECT sms_omni_send('0901234567', 'ZT1', '{}', ARRAY['3','1'], 'shop')", qr/over Zalo first/,
		'nor the SMS first');
	refused(q{SELECT sms_omni_send('0901234567', 'ZT1', '["a"]', ARRAY['1','3'], 'shop',
		'{"sms_content": "x", "send_date": "2030-01-01"}')}, qr/22023.*option "send_date" has no place in a Zalo/,
		'an option that is not carried');
	refused("SELECT sms_omni_send('0901234567', 'ZT1', '{}', ARRAY['2'], 'shop')", qr/no automatic calls/,
		'eSMS does not call');
	ask('ALTER SERVER shop OPTIONS (DROP oaid)');
	refused("SELECT sms_omni_send('0901234567', 'ZT1', '{}', gateway => 'shop')", qr/0A000/,
		'without an oaid, no Zalo');
};

subtest 'Viber' => sub {
	is(ask(q{SELECT status FROM sms_send('0901234567', 'Hello', gateway => 'shop',
		options => '{"sms_type": "23", "viber_url": "https://shop.example", "viber_label": "Buy"}')}), 'sent', 'Viber');
	my $request = last_request();
	like($request->{path}, qr{/Send_Multiple_Sms_OTT/$}, '… by its own call');
	is_deeply([ @{ $request->{body} }{qw(Phones SmsType OttUrl OttLabel)} ],
		[ ['84901234567'], '23', 'https://shop.example', 'Buy' ], '… with a button');
};

$node->stop;
done_testing();
