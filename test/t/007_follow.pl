# What becomes of a message after it was sent: polling, asking, callbacks, events, balance.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HTTP::Tiny;
use IPC::Run ();
use JSON::PP;
use SmsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $simulator = simulator();
my $node = server('follow');
gateways($node, $simulator, poll => 1, omni => "template_code 'TPL'", cpaas => "notify 'final'");
worker_pid($node);

# What the providers say of messages from now on: pending, delivered or undelivered.
sub outcome
{
	my ($outcome) = @_;
	SmsTest::control('POST', $simulator, 'delivery', { outcome => $outcome });
	return;
}

# Columns of a message.
sub column { my ($id, $column) = @_; return ask("SELECT $column FROM sms_outbox WHERE id = $id"); }
sub row { my ($id) = @_; return column($id, "status, delivered_at IS NOT NULL, price, parts, details->>'telco'"); }

# A text, or eTelecom's message, that was sent; returns its id.
sub sent { my ($id) = @_; becomes(sub { column($id, 'status') }, 'sent', "message $id is sent"); return $id; }
sub text { return sent(queue_text(@_)); }
sub omni
{
	return sent(ask("INSERT INTO sms_outbox (kind, gateway, phone, template_code)
		VALUES ('omni', 'omni', '0901234567', 'TPL') RETURNING id"));
}

# A callback that a gateway's provider makes; returns the id of its message.
sub report
{
	my ($gateway, %report) = @_;
	my $json = encode_json(\%report) =~ s/'/''/gr;
	return ask("SELECT sms_delivery_report('$gateway', '$json')");
}

# What eSMS calls back with, but for the ids; and with the ids of a message.
my %esms = (SendFailed => '0', SendStatus => '5', SendSuccess => '1', TotalPrice => '850', TotalReceiver => '1',
	TotalSent => '1', TypeId => '2', telcoid => '1', phonenumber => '84901234567');
sub esms_of { my ($id) = @_; return (%esms, SMSID => column($id, 'smsid'), RequestId => column($id, 'request_id')); }

# What SQL warns of, beside its result.
sub warned
{
	my ($sql) = @_;
	$node->psql('postgres', $sql, stdout => \my $result, stderr => \my $warning);
	return ($result, $warning);
}

# Asks about a message now, by a worker that is new.
sub poll_now
{
	my (@ids) = @_;
	ask("UPDATE sms_outbox SET poll_at = now() WHERE id IN (" . join(',', @ids) . ")");
	$node->restart;
	worker_pid($node);
	return;
}

# Who listens hears of ends.  What it has heard is looked at when there has been one of each kind.
my $listener = $node->background_psql('postgres', on_error_stop => 0);
$listener->query_safe('LISTEN sms_gateway');

my $undelivered;
subtest 'asking now' => sub {
	outcome('pending');
	is(ask("SELECT sms_check_status(" . text('shop', 'asked too early') . ")"), 'sent', 'asked too early');
	outcome('undelivered');
	$undelivered = text('shop', 'asked now');
	is(ask("SELECT sms_check_status($undelivered)"), 'undelivered', 'sms_check_status tells');
	is(row($undelivered), 'undelivered|f|850|1|Viettel', '… and writes it down, with price and operator');
	is(ask("SELECT sms_check_status($undelivered)"), 'undelivered', 'an end is an end: nobody is asked again');
	like(error_of('SELECT sms_check_status(999999)'), qr/ERROR/, 'an unknown message');
	outcome('pending');
	my $unanswered = text('shop', 'unanswered');
	fault($simulator, fault => 'http', value => 500, match => '/MainService');
	my ($status, $warning) = warned("SELECT sms_check_status($unanswered)");
	is($status, 'sent', 'no answer changes nothing');
	like($warning, qr/WARNING:.*did not say what became/, '… but says so');
	no_faults($simulator);
};

# These two are asked about while the next subtests run.
my $started = time;
my ($polled_text, $polled_omni);
subtest 'polling, without a callback: the first question comes after 15 s' => sub {
	$polled_text = text('shop', 'polled');
	$polled_omni = omni();
	is(column($polled_text, 'extract(epoch FROM poll_at - sent_at)::int'), 15, 'it is asked about after 15 s');
};

subtest 'Interits cannot be asked' => sub {
	ask("ALTER SERVER cpaas OPTIONS (ADD poll_delivery 'true')");
	my $id = text('cpaas', 'no status call');
	is(column($id, 'poll_at IS NULL'), 't', 'not by the worker');
	like(error_of("SELECT sms_check_status($id)"), qr/cannot be asked about a message/, '… nor by hand');
};

my $called;
subtest 'callbacks of eSMS' => sub {
	$called = text('shop', 'called back');
	my %its = esms_of($called);
	is(report('shop', %its, SendStatus => '7', SendSuccess => '0'), $called, 'a report that it is on its way');
	is(row($called), 'sent|f|850|1|Viettel', '… is no end');
	is(report('shop', %its), $called, 'eSMS calls back');
	is(row($called), 'delivered|t|850|1|Viettel', '… and the row tells it');
	my $delivered_at = column($called, 'delivered_at');
	is(report('shop', %its), $called, 'twice');
	is(report('shop', %its, SendStatus => '4', SendSuccess => '0'), $called, 'and then the contrary');
	is(row($called) . column($called, 'delivered_at'), "delivered|t|850|1|Viettel$delivered_at", '… an end stays');
	is(column($called, 'poll_at IS NULL'), 't', '… and nobody asks any more');

	my $by_smsid = text('shop', 'by SMSID alone');
	my %only = (SMSID => column($by_smsid, 'smsid'), SendStatus => 5, SendSuccess => 0, SendFailed => 1,
		TotalReceiver => 1);
	is(report('shop', %only), $by_smsid, 'found by SMSID, numbers for strings');
	is(column($by_smsid, 'status'), 'undelivered', '… undelivered');
	is(report('shop', %only), $by_smsid, '… known again when it comes twice');

	my $own_id = text('shop', 'own id', request_id => "'order-42'");
	my $on_wire = (requests($simulator))[-1]{body}{RequestId};
	like($on_wire, qr/^sgw-\w{24}-$own_id$/, 'the request_id that a user gave goes as one of ours');
	is(report('shop', send_status => '5', send_success => '1', request_id => $on_wire), $own_id,
		'… and is found by it, in snake case');
	is(report('shop', send_status => '5', send_success => '1', request_id => 'order-42'), $own_id,
		'… as by what 0.1.0 sent');
	is(report('shop', %its, RequestId => $on_wire), '', 'a report whose ids contradict each other is of nobody');
};

subtest 'callbacks of eTelecom and Interits' => sub {
	my $omni = omni();
	my $reference = column($omni, 'id_omni_mess');
	is(report('omni', id_omni_mess => $reference, status => 'SUCCESS', mtcount => 2, telcoId => '2'), $omni,
		'eTelecom calls back');
	is(row($omni), 'delivered|t||2|MobiFone', '… with parts and operator');
	is(report('omni', idOmniMess => $reference, status => 'FAIL'), $omni, '… found again after its end');

	my $interits = text('cpaas', 'interits');
	is(report('cpaas', msisdn => '84901234567', referentId => column($interits, 'referent_id'), status => 3,
			retryCount => 0), $interits, 'Interits calls back');
	is(column($interits, "status || ' ' || (details->>'delivery_code')"), 'undelivered 3', '… its word is kept');
};

subtest 'callbacks that are unknown or malformed' => sub {
	is(report('shop', %esms, SMSID => 'nobody-knows-me', RequestId => undef), '', 'an unknown id');
	is(report('shop', note => 'no status'), '', 'a report that says nothing');
	is(ask("SELECT count(*) FROM sms_gateway_callback WHERE message IS NULL"), 2,
		'the unknown and the contradictory are kept, the empty one is not');
	for my $bad ("'nobody', '{}'", "'shop', '[]'", "'shop', NULL", "NULL, '{}'")
	{
		isnt(error_of("SELECT sms_delivery_report($bad)"), '', "refused: $bad");
	}
};

subtest 'a callback in a read-only transaction' => sub {
	like(error_of(q{BEGIN READ ONLY; SELECT sms_delivery_report('shop', '{"SMSID": "x", "SendStatus": "5"}')}),
		qr/25006.*PostgREST/s, 'is refused, with a hint');
};

subtest 'a callback that overtakes the answer' => sub {
	fault($simulator, fault => 'latency', value => 1500 * patience(), match => '/MainService.svc/json/SendMultiple');
	my $early = queue_text('shop', 'early');
	becomes(sub { column($early, 'request_id IS NOT NULL') . times_received($simulator, 'early') }, 't1',
		'a message is on its way');
	is(report('shop', %esms, SMSID => '', RequestId => column($early, 'request_id')), '', 'its report comes first');
	is(column($early, 'status'), 'queued', '… does not touch a message that was not answered');
	becomes(sub { column($early, 'status') }, 'delivered', '… and is matched when the answer comes');
	no_faults($simulator);
	is(ask("SELECT message FROM sms_gateway_callback
			WHERE reference = (SELECT request_id FROM sms_outbox WHERE id = $early)"), $early, '… once');
};

my $unsure;
subtest 'a callback brings what the answer did not' => sub {
	fault($simulator, fault => 'close', count => 1, match => '/MainService.svc/json/SendMultiple');
	my $filled = text('shop', 'no smsid');
	is(column($filled, "result_code || ' ' || coalesce(smsid, '-')"), '124 -', 'sent, without SMSID');
	is(report('shop', %esms, SMSID => 'late-id', RequestId => column($filled, 'request_id')), $filled,
		'the callback comes with it');
	is(column($filled, "status || ' ' || smsid"), 'delivered late-id', '… and the row has it');
	no_faults($simulator);
	fault($simulator, fault => 'close', count => 1, match => '/api/vendor');
	$unsure = queue_text('cpaas', 'unsure');
	becomes(sub { column($unsure, 'status') }, 'uncertain', 'a message is in doubt');
	is(report('cpaas', requestId => column($unsure, 'request_id'), status => 0), $unsure,
		'a callback proves that it had gone');
	is(column($unsure, 'status'), 'delivered', '… uncertain no more');
	no_faults($simulator);
};

subtest "a callback must carry its message's own token, if the gateway's callback_url asks for one" => sub {
	ask("ALTER SERVER shop OPTIONS (ADD callback_url 'https://shop.example/hook?token={token}')");
	my $guarded = text('shop', 'guarded');
	my ($wire) = grep { ($_->{content} // '') eq 'guarded' } requests($simulator);
	my ($token) = $wire->{body}{CallbackUrl} =~ m{^https://shop\.example/hook\?token=(\d+-[0-9a-v]{26})$};
	ok(defined $token, 'the message carries its own token');
	my %mine = esms_of($guarded);
	for my $forged (undef, '', '1-00000000000000000000000000', "$token" . 'x', ($token =~ s/.$/w/r), 'x')
	{
		my $json = encode_json({ %mine, defined $forged ? (token => $forged) : () });
		like(error_of("SELECT sms_delivery_report('shop', '$json')"), qr/carries no valid token/,
			'refused: token ' . ($forged // 'absent'));
	}
	is(column($guarded, 'status'), 'sent', '… and nothing happened');
	is(report('shop', %mine, token => $token), $guarded, 'with the right one it passes');
	is(column($guarded, 'status'), 'delivered', '… and counts');
	my $other = text('shop', 'another');
	my $mixed = encode_json({ esms_of($other), token => $token });
	like(error_of("SELECT sms_delivery_report('shop', '$mixed')"), qr/carries the token of another message/,
		"one message's token is none for another");
	is(column($other, 'status'), 'sent', '… which stays as it was');
	is(ask("SELECT count(*) FROM sms_gateway_callback WHERE report::text ~ 'token'"), 0, 'tokens are not kept');
	ask("ALTER SERVER shop OPTIONS (DROP callback_url)");
};

subtest 'a role that may report, and nothing else' => sub {
	ask("CREATE ROLE hook LOGIN; GRANT EXECUTE ON FUNCTION sms_delivery_report(name, jsonb) TO hook");
	my $by_role = text('shop', 'by role');
	my $call = "SELECT sms_delivery_report('shop', '" . encode_json({ esms_of($by_role) }) . "')";
	is(as_role('hook', $call), $by_role, 'EXECUTE alone is enough');
	isnt(error_of("SELECT 1 FROM sms_outbox", role => 'hook'), '', '… for this and nothing else');
	ask("CREATE ROLE nobody LOGIN");
	isnt(error_of($call, role => 'nobody'), '', 'others may not');
};

subtest 'through a real web server: GET with query parameters, POST with JSON' => sub {
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	mkdir "$dir/cgi-bin";
	symlink "$FindBin::RealBin/../lib/delivery_report.cgi", "$dir/cgi-bin/delivery_report.cgi";
	my $web = do
	{
		local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGUSER => 'hook', PGDATABASE => 'postgres',
			PATH => $node->config_data('--bindir') . ':/usr/bin:/bin');
		IPC::Run::start([ 'busybox', 'httpd', '-f', '-p', "127.0.0.1:$port", '-h', $dir ]);
	};
	my $http = HTTP::Tiny->new(timeout => 10);
	my $url = "http://127.0.0.1:$port/cgi-bin/delivery_report.cgi";
	wait_until(sub { $http->get($url)->{status} != 599 });
	my $post = sub {
		my ($content) = @_;
		my $answer = $http->post("$url/cpaas", { content => $content });
		return "$answer->{status} $answer->{content}";
	};
	my $got = text('shop', 'over GET');
	my %query = (esms_of($got), error_info => "kh\x{f4}ng & ' \" %");
	my $answer = $http->get("$url/shop?" . $http->www_form_urlencode(\%query));
	is("$answer->{status} $answer->{content}", "200 {\"id\":$got}\n",
		'eSMS calls back over HTTP, with query parameters');
	is(column($got, "status || ' ' || (details->>'delivery_message')"), "delivered kh\xc3\xb4ng & ' \" %",
		'… and is heard, to the letter');
	my $posted = text('cpaas', 'over POST');
	my $reference = column($posted, 'referent_id');
	is($post->(encode_json({ referentId => $reference, status => 0, msisdn => '84901234567' })),
		"200 {\"id\":$posted}\n", 'Interits calls back over HTTP, with JSON');
	is(column($posted, 'status'), 'delivered', '… and is heard');
	is($post->(encode_json({ referentId => 'nobody', status => 0 })), "200 {\"id\":null}\n", 'a report of nobody');
	like($post->('[1]'), qr/^400 /, 'no report at all');
	is($http->get("$url/nobody?SMSID=1&SendStatus=5")->{status}, 403, 'no such gateway');
	$web->kill_kill;
};

subtest "a user's trigger on what is learnt" => sub {
	ask("CREATE TABLE told (id bigint, status text);
		CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN
			IF new.content = 'fails' AND new.status = 'delivered' THEN RAISE 'my trigger fails'; END IF;
			INSERT INTO told VALUES (new.id, new.status); RETURN NULL; END \$\$;
		CREATE TRIGGER tell AFTER UPDATE ON sms_outbox FOR EACH ROW EXECUTE FUNCTION tell()");
	my $fails = text('cpaas', 'fails');    # which the worker cannot ask about meanwhile
	is(report('cpaas', referentId => column($fails, 'referent_id'), status => 0), $fails,
		"a trigger of the user's that fails …");
	is(column($fails, 'status'), 'delivered', '… does not lose the report');
	is(ask("SELECT status FROM told WHERE id = $fails"), 'sent', '… while those that do not fail run');
	ask("DROP TRIGGER tell ON sms_outbox");
};

subtest 'the balance' => sub {
	is(ask("SELECT sms_balance('shop')"), '36693', 'the balance');
	isnt(error_of("SELECT sms_balance('omni')"), '', 'eTelecom tells none');
	fault($simulator, fault => 'code', text => '101', count => 1, match => '/MainService.svc/json/GetBalance');
	my ($unknown, $warning) = warned("SELECT sms_balance('shop') IS NULL");
	is($unknown, 't', 'no answer is NULL');
	like($warning, qr/WARNING:.*did not say what is left.*\n.*101/, '… with a warning');
	no_faults($simulator);
	SmsTest::control('POST', $simulator, 'balance', { balance => 500 });
	ask("ALTER SERVER shop OPTIONS (ADD min_balance '1000')");
	text('shop', 'poor');
	ok(wait_until(sub { slurp_file($node->logfile) =~ /WARNING:  the balance of gateway "shop" is low: 500/ }),
		'the worker warns of a low balance');
	ask("ALTER SERVER shop OPTIONS (DROP min_balance)");
};

subtest 'the polled ones, by now' => sub {
	outcome('delivered');
	becomes(sub { column($polled_text, 'status') }, 'delivered', 'delivered, by polling', seconds => 60);
	is(row($polled_text), 'delivered|t|850|1|Viettel', '… with price and operator');
	cmp_ok(time - $started, '>', 15, '… not before its time');
	becomes(sub { column($polled_omni, 'status') }, 'delivered', 'eTelecom, too', seconds => 60);
	is(row($polled_omni), 'delivered|t||2|Viettel', '… with parts and operator');
	becomes("SELECT count(*) FROM sms_outbox WHERE poll_at IS NOT NULL", '0', 'nobody is asked about any more',
		seconds => 60);
};

subtest 'events: what was told, and what was not' => sub {
	my $events = join "\n", $listener->query('SELECT 1');
	$listener->quit;
	unlike($events, qr/84901234567|called back/, 'events hold neither phone nor text');
	like($events, qr/\{"id":$undelivered,"gateway":"shop","status":"undelivered"/, 'undelivered is told');
	like($events, qr/\{"id":$unsure,"gateway":"cpaas","status":"uncertain"/, 'uncertain is told');
	like($events, qr/\{"id":$unsure,"gateway":"cpaas","status":"delivered"/,
		'delivered is told, where the gateway says notify final');
	unlike($events, qr/"id":$called,/, '… and not elsewhere');
	like($events, qr/"event":"low_balance"/, 'a low balance is told');
};

subtest 'a provider that does not tell the operator' => sub {
	fault($simulator, fault => 'http', value => 404, match => '/MainService.svc/json/GetSmsReceiverStatus');
	poll_now(map { text('shop', "modest $_") } 1 .. 5);
	becomes("SELECT count(*) FROM sms_outbox WHERE content LIKE 'modest%' AND status = 'delivered'", '5',
		'no operator, but the end', seconds => 10);
	no_faults($simulator);
};

subtest 'polling survives a restart, and a gateway that does not answer' => sub {
	outcome('pending');
	my $survivor = text('shop', 'survivor');
	$node->restart;
	worker_pid($node);
	poll_now($survivor);
	becomes(sub { column($survivor, 'poll_at > now()') }, 't', 'asked after a restart, and put off');
	outcome('delivered');
	hang($simulator, match => '/MainService.svc/json/GetSendStatus');
	ask("ALTER SERVER shop OPTIONS (ADD timeout '1s')");
	forget($simulator);
	poll_now($survivor);
	becomes(sub { scalar grep { $_->{path} =~ /GetSendStatus/ } requests($simulator) }, qr/^[1-9]/, 'a question hangs');
	cmp_ok(took(sub { text('shop', 'meanwhile') }), '<', patience(), 'it does not delay sending');
	no_faults($simulator);
};

subtest 'an answer of any size about a message or the account' => sub {
	my $id = text('shop', 'asked about at length');
	my %long = (CodeResponse => '100', CodeResult => '100', SendStatus => 5, SendSuccess => 1, SendFailed => 0,
		TotalReceiver => 1, TotalPrice => 850, Balance => 5);
	my $worker = worker_pid($node);
	ask("ALTER SERVER shop OPTIONS (ADD min_balance '10')");
	fault($simulator, fault => 'body', text => encode_json(\%long), value => 600);
	becomes(sub { column($id, 'status') }, 'delivered', 'the worker reads it', seconds => 40);
	no_faults($simulator);
	ask("ALTER SERVER shop OPTIONS (DROP min_balance)");
	is(worker_pid($node), $worker, 'and lives');
};

$node->stop;
done_testing();
