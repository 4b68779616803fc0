# What is in doubt is settled by asking eSMS what its account has sent: found, it is what the list says; else it stays.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use JSON::PP;
use SmsTest;
use Test::More;

my $simulator = simulator();
my $node = server('settle');
gateways($node, $simulator, poll => 1, shop => "oaid '4097', max_attempts '1'");
worker_pid($node);

sub control { my ($what, %how) = @_; SmsTest::control('POST', $simulator, $what, \%how); return; }
sub column { my ($id, $column) = @_; return ask("SELECT $column FROM sms_outbox WHERE id = $id"); }
sub status { my ($id) = @_; return column($id, 'status'); }
sub lists { return grep { $_->{path} =~ /GetSmsSentData/ } requests($simulator); }

# Texts that eSMS takes, or not, without our knowing; returns their ids.
sub doubtful
{
	my ($content, %how) = @_;
	my ($n, $columns, $values) = ($how{n} // 1, $how{columns} // '', $how{values} // '');
	my @fault = (match => $how{path} // '/MainService.svc/json/SendMultiple', count => -1);
	fault($simulator, fault => 'garbage', @fault);
	my @ids = split /\n/, ask("INSERT INTO sms_outbox (gateway, phone, content $columns)
		SELECT 'shop', '09012' || lpad(i::text, 5, '0'), '$content ' || i $values FROM generate_series(1, $n) i
		RETURNING id");
	drain();
	becomes("SELECT count(*) FROM sms_outbox WHERE id >= $ids[0] AND status = 'uncertain'", $n,
		"$n in doubt: $content");
	no_faults($simulator);
	return @ids;
}

# With a worker, or else by sms_drain.
my $works = 1;
sub drain { ask('CALL sms_drain()') if !$works; return; }
sub work
{
	($works) = @_;
	ask("ALTER SYSTEM SET sms_gateway.databases = '" . ($works ? 'postgres' : 'template1') . "'");
	$node->reload;
	becomes("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sms_gateway worker' AND datname = 'postgres'",
		$works, $works ? 'with a worker' : 'without a worker');
	return;
}

# Makes messages due to be looked for, and has that done; returns how many lists were asked for before.
sub look_now
{
	my (@ids) = @_;
	my $before = lists();
	ask("UPDATE sms_outbox SET poll_at = now() WHERE id IN (" . join(',', @ids) . ")");
	drain();
	return $before;
}

control('delivery', outcome => 'pending');

# These are looked for in the last subtest.
my (@had, $own, $lost, $otp);
subtest 'what is in doubt is looked for 15 s later' => sub {
	@had = doubtful('had', n => 3);
	($own) = doubtful('own id', columns => ', request_id', values => ", 'order-' || i");
	($lost) = doubtful('lost');
	($otp) = doubtful('{OTP} code', columns => ', kind', values => ", 'otp'",
		path => '/MainService.svc/json/SendMessageAutoGenCode');
	is(column($had[0], 'extract(epoch FROM poll_at - ended_at)::int'), 15, 'so its row says');
	is(column($otp, 'poll_at IS NULL'), 't', 'not a one-time password of eSMS, which carries no RequestId');
	ask("UPDATE sms_outbox SET poll_at = now() + interval '1 hour' WHERE poll_at IS NOT NULL");
};

subtest 'the list knows the end: delivered, or refused' => sub {
	work(0);
	control('delivery', outcome => 'delivered');
	my ($delivered) = doubtful('arrived');
	look_now($delivered);
	becomes(sub { column($delivered, "status || ' ' || (delivered_at IS NOT NULL)") }, 'delivered true', 'delivered');
	control('delivery', outcome => 'refused');
	my ($refused) = doubtful('refused');
	look_now($refused);
	becomes(sub { column($refused, "status || ' ' || (sent_at IS NULL)") }, 'failed true', 'refused: it has failed');
	control('delivery', outcome => 'pending');
};

subtest 'Zalo, then SMS: its SMS is looked for, by its own RequestId' => sub {
	fault($simulator, fault => 'garbage', match => '/MainService.svc/json/Multi');
	my $id = ask(q{INSERT INTO sms_outbox (kind, gateway, phone, template_code, list_param, content)
		VALUES ('omni', 'shop', '0901234567', 'ZT', '["a"]', 'behind Zalo') RETURNING id});
	drain();
	is(status($id), 'uncertain', 'in doubt');
	no_faults($simulator);
	look_now($id);
	is(column($id, "status || ' ' || (details->'legs'->1 ? 'smsid')"), 'sent true', 'sent, and the leg is known');
};

subtest 'many pages, others\' messages between them' => sub {
	control('sent', foreign => 450);
	my @ids = doubtful('page', n => 4);
	my $before = look_now(@ids);
	becomes("SELECT count(*) FROM sms_outbox WHERE id >= $ids[0] AND status = 'sent'", 4, 'found behind 450 others\'');
	my @pages = map { $_->{body}{Page} } lists();
	is_deeply([ @pages[ $before .. $#pages ] ], [ 1, 2, 3 ], 'three pages');
	control('sent');
};

subtest 'another phone, or another attempt, is another message' => sub {
	my ($id) = doubtful('moved');
	ask("UPDATE sms_outbox SET phone = '84987654321' WHERE id = $id");
	look_now($id);
	becomes(sub { column($id, 'poll_at > now()') }, 't', 'looked for');
	is(status($id), 'uncertain', 'a message to another phone is not this one');
	ask("UPDATE sms_outbox SET phone = '84901200001', details = '{\"resent\": 1}' WHERE id = $id");
	look_now($id);
	becomes(sub { column($id, 'poll_at > now()') }, 't', 'looked for');
	is(status($id), 'uncertain', 'nor is an earlier attempt, which was refused');
};

subtest 'answers that tell nothing leave the message, and the gateway' => sub {
	my ($id) = doubtful('unanswered');
	my $list = '/MainService.svc/json/GetSmsSentData';
	for my $case ([ 'its credentials are refused', fault => 'code', text => '101' ], [ 'garbage', fault => 'garbage' ],
		[ 'nothing', fault => 'empty' ], [ 'an error of the server', fault => 'http', value => 500 ],
		[ 'no list', fault => 'body', text => '{"CodeResult":"100","SentData":{"a":[1]}}' ],
		[ 'no entries', fault => 'body', text => '{"CodeResult":"100","SentData":[null,1,"x",[],{"ReferenceId":[]}]}' ],
		[ 'too much', fault => 'huge', value => 3 ])
	{
		my ($name, @fault) = @$case;
		fault($simulator, @fault, match => $list);
		my $before = look_now($id);
		becomes(sub { column($id, 'poll_at > now()') }, 't', "$name: looked for again later");
		is(status($id), 'uncertain', '… in doubt as before');
		is(scalar(lists()), $before + 1, '… asked once');
		no_faults($simulator);
	}
	is(ask("SELECT count(*) FROM sms_gateway_state"), 0, 'the gateway is as it was');
};

subtest 'a list without end does, and messages go meanwhile' => sub {
	control('sent', endless => JSON::PP::true, missing => 'endless');
	my ($id) = doubtful('endless');
	ask("UPDATE sms_outbox SET poll_at = now() WHERE id = $id");
	my $before = lists();
	work(1);
	becomes(sub { lists() - $before > 5 ? 1 : 0 }, 1, 'pages and pages');
	my $text = queue_text('shop', 'meanwhile');
	becomes(sub { status($text) }, 'sent', 'a message goes');
	becomes(sub { column($id, 'poll_at > now()') }, 't', '… until enough', seconds => 60);
	my @pages = map { $_->{body}{Page} } lists();
	is((sort { $b <=> $a } @pages)[0], 50, '… after 50 pages');
	control('sent');
	work(0);
};

subtest 'a gateway that is not to be asked; a role without credentials' => sub {
	ask("ALTER SERVER shop OPTIONS (ADD poll_delivery 'false')");
	my ($id) = doubtful('not asked');
	is(column($id, 'poll_at IS NULL'), 't', 'poll_delivery false: nobody asks');
	my $before = look_now($id);
	becomes(sub { column($id, 'poll_at IS NULL') }, 't', '… even if it is due');
	is(scalar(lists()), $before, '… and nobody was asked');
	ask("ALTER SERVER shop OPTIONS (SET poll_delivery 'true')");
	my ($gone) = doubtful('gone');
	ask("UPDATE sms_outbox SET created_by = 'gone', creator = 0 WHERE id = $gone");
	ask("UPDATE sms_outbox SET poll_at = now() WHERE id IN ($id, $gone)");
	drain();
	is(status($id), 'sent', 'it is asked again when it may be');
	is(column($gone, "status || ' ' || (poll_at > now())"), 'uncertain true',
		'who is gone has no credentials: later, perhaps');
};

subtest 'a row that somebody holds costs itself alone; each account has a list of its own' => sub {
	my ($mine, $held, $theirs) = doubtful('of accounts', n => 3);
	ask("CREATE ROLE other; GRANT USAGE ON FOREIGN SERVER shop TO other;
		CREATE USER MAPPING FOR other SERVER shop OPTIONS (api_key 'other', secret_key 'wrong');
		UPDATE sms_outbox SET created_by = 'other', creator = 'other'::regrole WHERE id = $theirs;
		UPDATE sms_outbox SET poll_at = now() WHERE id IN ($mine, $held, $theirs)");
	my $holder = $node->background_psql('postgres');
	$holder->query_safe("BEGIN; SELECT 1 FROM sms_outbox WHERE id = $held FOR UPDATE");
	$node->safe_psql('postgres', "SET statement_timeout = '60s'; CALL sms_drain()");
	is(status($mine) . status($held), 'sentuncertain', 'the others are settled');
	becomes(sub { drain(); column($theirs, "status || ' ' || (poll_at > now())") }, 'uncertain true',
		'those of another account are looked for with its credentials, which are refused');
	$holder->query_safe('COMMIT');
	$holder->quit;
	my %keys = map { $_->{body}{ApiKey} => 1 } lists();
	is_deeply([ sort keys %keys ], [ 'demo', 'other' ], 'each account was asked');
	look_now($held);
	becomes(sub { drain(); status($held) }, 'sent', 'what was held, too, in its time');
};

subtest 'by itself: what eSMS has is settled, what it has not stays' => sub {
	control('sent', missing => 'lost');
	my $before = lists();
	ask("UPDATE sms_outbox SET poll_at = now() WHERE id < $otp");
	work(1);
	becomes("SELECT string_agg(status::text, ' ' ORDER BY id) FROM sms_outbox WHERE id <= $otp",
		'sent sent sent sent uncertain uncertain', 'what is in the list was sent', seconds => 30);
	my %body = %{ (lists())[-1]{body} };
	is_deeply([ @body{qw(SmsType Page PageSize)} ], [ '2', 1, 200 ], 'one list, a page of 200');
	like($body{$_}, qr/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/, "$_ is a time") for qw(From To);
	is(ask("SELECT count(*) FROM sms_outbox WHERE id <= $own AND smsid IS NOT NULL AND price = 850
		AND unsure_since IS NULL AND sent_at IS NOT NULL AND poll_at > now()
		AND details->>'delivery_message' ~ 'list of what was sent'"), 4,
		'… has its SMSID and price, and is asked about from now on');
	is(column($lost, 'poll_at > now()'), 't', 'what the list has not is looked for again');
	control('delivery', outcome => 'delivered');
	is(ask("SELECT sms_check_status($own)"), 'delivered', 'what was found is followed like any other');
	cmp_ok(lists() - $before, '<', 10, 'few questions for all');
};

$node->stop;
done_testing();
