# What becomes of a message after it was sent: polling, asking, callbacks, events, balance.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use HTTP::Tiny;
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $simulator = simulator();
my $node = server('follow');
sub ask { my ($sql) = @_; return scalar_of($node, $sql); }
sub row { my ($id) = @_; return ask("SELECT status, delivered_at IS NOT NULL, price, parts, details->>'telco' FROM sms_outbox WHERE id = $id"); }
gateways($node, $simulator, poll => 1, omni => "template_code 'TPL'", cpaas => "notify 'final'");
worker_pid($node);

sub outcome { SmsTest::control('POST', $simulator, 'delivery', { outcome => $_[0] }); return; }

# Queues a message and waits until it is sent; returns its id.
sub sent
{
	my ($columns, $values) = @_;
	my $id = ask("INSERT INTO sms_outbox ($columns) VALUES ($values) RETURNING id");
	ok(wait_until(sub { ask("SELECT status FROM sms_outbox WHERE id = $id") eq 'sent' }), "message $id is sent");
	return $id;
}
sub text { my ($gateway, $content) = @_; return sent('gateway, phone, content', "'$gateway', '0901234567', '$content'"); }

# --- events: who listens hears of ends, and of no phone and no text
my $listener = $node->background_psql('postgres', on_error_stop => 0);
$listener->query_safe('LISTEN sms_gateway');

# --- asking now
outcome('pending');
is(ask("SELECT sms_check_status(" . text('shop', 'asked too early') . ")"), 'sent', 'asked too early');
outcome('undelivered');
my $now = text('shop', 'asked now');
is(ask("SELECT sms_check_status($now)"), 'undelivered', 'sms_check_status tells');
is(row($now), 'undelivered|f|850|1|Viettel', '… and writes it down, with price and operator');
is(ask("SELECT sms_check_status($now)"), 'undelivered', 'an end is an end: nobody is asked again');
is($node->psql('postgres', 'SELECT sms_check_status(999999)'), 3, 'an unknown message');
outcome('pending');
my $unanswered = text('shop', 'unanswered');
fault($simulator, fault => 'http', value => 500, match => '/MainService');
my ($rc, $out, $err) = $node->psql('postgres', "SELECT sms_check_status($unanswered)");
is($out, 'sent', 'no answer changes nothing');
like($err, qr/WARNING:.*did not say what became/, '… but says so');
no_faults($simulator);

# --- by polling, without a callback; the first question comes after 15 s
my $started = time;
my $polled = text('shop', 'polled');
my $omni = sent('kind, gateway, phone, template_code', "'omni', 'omni', '0901234567', 'TPL'");
is(ask("SELECT extract(epoch FROM poll_at - sent_at)::int FROM sms_outbox WHERE id = $polled"), 15, 'it is asked about after 15 s');
ask("ALTER SERVER cpaas OPTIONS (ADD poll_delivery 'true')");
is(ask("SELECT poll_at IS NULL FROM sms_outbox WHERE id = " . text('cpaas', 'no status call')), 't', 'Interits cannot be asked');
($rc, $out, $err) = $node->psql('postgres', 'SELECT sms_check_status(id) FROM sms_outbox WHERE gateway = \'cpaas\'');
like($err, qr/cannot be asked about a message/, '… nor by hand');

# --- callbacks, in each provider's form
sub report { my ($gateway, %report) = @_; my $json = encode_json(\%report); $json =~ s/'/''/g; return ask("SELECT sms_delivery_report('$gateway', '$json')"); }
sub column { my ($id, $column) = @_; return ask("SELECT $column FROM sms_outbox WHERE id = $id"); }

my $called = text('shop', 'called back');
my %esms = (SMSID => column($called, 'smsid'), RequestId => column($called, 'request_id'), SendFailed => '0', SendStatus => '5',
	SendSuccess => '1', TotalPrice => '850', TotalReceiver => '1', TotalSent => '1', TypeId => '2', telcoid => '1', phonenumber => '84901234567');
is(report('shop', %esms, SendStatus => '7', SendSuccess => '0'), $called, 'a report that it is on its way');
is(row($called), 'sent|f|850|1|Viettel', '… is no end');
is(report('shop', %esms), $called, 'eSMS calls back');
is(row($called), 'delivered|t|850|1|Viettel', '… and the row tells it');
my $delivered_at = column($called, 'delivered_at');
is(report('shop', %esms), $called, 'twice');
is(report('shop', %esms, SendStatus => '4', SendSuccess => '0'), $called, 'and then the contrary');
is(row($called) . column($called, 'delivered_at'), "delivered|t|850|1|Viettel$delivered_at", '… an end stays');
is(column($called, 'poll_at IS NULL'), 't', '… and nobody asks any more');

my $by_smsid = text('shop', 'by SMSID alone');
my %only = (SMSID => column($by_smsid, 'smsid'), SendStatus => 5, SendSuccess => 0, SendFailed => 1, TotalReceiver => 1);
is(report('shop', %only), $by_smsid, 'found by SMSID, numbers for strings');
is(column($by_smsid, 'status'), 'undelivered', '… undelivered');
is(report('shop', %only), $by_smsid, '… known again when it comes twice');
my $own_id = sent('gateway, phone, content, request_id', "'shop', '0901234567', 'own id', 'order-42'");
is(report('shop', send_status => '5', send_success => '1', request_id => 'order-42'), $own_id, 'found by the request_id that a user gave, in snake case');
is(report('shop', %esms, RequestId => 'order-42'), '', 'a report whose ids contradict each other is of nobody');

my $hook = sent('kind, gateway, phone, template_code', "'omni', 'omni', '0901234567', 'TPL'");
is(report('omni', id_omni_mess => column($hook, 'id_omni_mess'), status => 'SUCCESS', mtcount => 2, telcoId => '2'), $hook, 'eTelecom calls back');
is(row($hook), 'delivered|t||2|MobiFone', '… with parts and operator');
is(report('omni', idOmniMess => column($hook, 'id_omni_mess'), status => 'FAIL'), $hook, '… found again after its end');
my $interits = text('cpaas', 'interits');
is(report('cpaas', msisdn => '84901234567', referentId => column($interits, 'referent_id'), status => 3, retryCount => 0), $interits, 'Interits calls back');
is(column($interits, "status || ' ' || (details->>'delivery_code')"), 'undelivered 3', '… its word is kept');

# --- unknown, malformed, early
is(report('shop', %esms, SMSID => 'nobody-knows-me', RequestId => undef), '', 'an unknown id');
is(report('shop', note => 'no status'), '', 'a report that says nothing');
is(ask("SELECT count(*) FROM sms_gateway_report WHERE message IS NULL"), 2, 'the unknown and the contradictory are kept, the empty one is not');
for my $bad ("'nobody', '{}'", "'shop', '[]'", "'shop', NULL", "NULL, '{}'")
{
	isnt($node->psql('postgres', "SELECT sms_delivery_report($bad)"), 0, "refused: $bad");
}
fault($simulator, fault => 'latency', value => 1500 * patience(), match => '/MainService.svc/json/SendMultiple');
my $early = ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'early') RETURNING id");
sleep 0.5;
is(report('shop', %esms, SMSID => '', RequestId => column($early, 'request_id')), '', 'a report that overtakes the answer');
is(column($early, 'status'), 'queued', '… does not touch a message that was not answered');
ok(wait_until(sub { column($early, 'status') eq 'delivered' }), '… and is matched when the answer comes');
no_faults($simulator);
is(ask("SELECT message FROM sms_gateway_report WHERE reference = (SELECT request_id FROM sms_outbox WHERE id = $early)"), $early, '… once');

# --- 124 brings no SMSID; the callback does.  An uncertain message is decided by it.
fault($simulator, fault => 'close', count => 1, match => '/MainService.svc/json/SendMultiple');
my $filled = text('shop', 'no smsid');
is(column($filled, "result_code || ' ' || coalesce(smsid, '-')"), '124 -', 'sent, without SMSID');
is(report('shop', %esms, SMSID => 'late-id', RequestId => column($filled, 'request_id')), $filled, 'the callback comes with it');
is(column($filled, "status || ' ' || smsid"), 'delivered late-id', '… and the row has it');
no_faults($simulator);
fault($simulator, fault => 'close', count => 1, match => '/api/vendor');
my $unsure = ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('cpaas', '0901234567', 'unsure') RETURNING id");
wait_until(sub { column($unsure, 'status') eq 'uncertain' });
is(report('cpaas', requestId => column($unsure, 'request_id'), status => 0), $unsure, 'a callback proves that it had gone');
is(column($unsure, 'status'), 'delivered', '… uncertain no more');

# --- tokens
ask("ALTER SERVER shop OPTIONS (ADD callback_url 'https://shop.example/hook?token={token}')");
my $guarded = text('shop', 'guarded');
my ($wire) = grep { ($_->{content} // '') eq 'guarded' } requests($simulator);
my ($token) = $wire->{body}{CallbackUrl} =~ m{^https://shop\.example/hook\?token=(\d+-[0-9a-v]{26})$};
ok(defined $token, 'the message carries its own token');
my %mine = (%esms, SMSID => column($guarded, 'smsid'), RequestId => column($guarded, 'request_id'));
for my $forged (undef, '', '1-00000000000000000000000000', "$token" . 'x', ($token =~ s/.$/w/r), 'x')
{
	my $json = encode_json({ %mine, defined $forged ? (token => $forged) : () });
	($rc, $out, $err) = $node->psql('postgres', "SELECT sms_delivery_report('shop', '$json')");
	like($err, qr/carries no valid token/, 'refused: token ' . ($forged // 'absent'));
}
is(column($guarded, 'status'), 'sent', '… and nothing happened');
is(report('shop', %mine, token => $token), $guarded, 'with the right one it passes');
is(column($guarded, 'status'), 'delivered', '… and counts');
my $other = text('shop', 'another');
my $mixed = encode_json({ %esms, SMSID => column($other, 'smsid'), RequestId => column($other, 'request_id'), token => $token });
($rc, $out, $err) = $node->psql('postgres', "SELECT sms_delivery_report('shop', '$mixed')");
like($err, qr/carries the token of another message/, "one message's token is none for another");
is(column($other, 'status'), 'sent', '… which stays as it was');
is(ask("SELECT count(*) FROM sms_gateway_report WHERE report::text ~ 'token'"), 0, 'tokens are not kept');
ask("ALTER SERVER shop OPTIONS (DROP callback_url)");

# --- a role that may do nothing else
ask("CREATE ROLE hook LOGIN; GRANT EXECUTE ON FUNCTION sms_delivery_report(name, jsonb) TO hook");
my $by_role = text('shop', 'by role');
my $json = encode_json({ %esms, SMSID => column($by_role, 'smsid'), RequestId => column($by_role, 'request_id') });
is($node->safe_psql('postgres', "SELECT sms_delivery_report('shop', '$json')", extra_params => [ '-U', 'hook' ]), $by_role, 'EXECUTE alone is enough');
isnt($node->psql('postgres', "SELECT 1 FROM sms_outbox", extra_params => [ '-U', 'hook' ]), 0, '… for this and nothing else');
ask("CREATE ROLE nobody LOGIN");
isnt($node->psql('postgres', "SELECT sms_delivery_report('shop', '$json')", extra_params => [ '-U', 'nobody' ]), 0, 'others may not');

# --- through a real web server: GET with query parameters, POST with JSON
{
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
	my $got = text('shop', 'over GET');
	my %query = (%esms, SMSID => column($got, 'smsid'), RequestId => column($got, 'request_id'), error_info => "kh\x{f4}ng & ' \" %");
	my $answer = $http->get("$url/shop?" . $http->www_form_urlencode(\%query));
	is("$answer->{status} $answer->{content}", "200 {\"id\":$got}\n", 'eSMS calls back over HTTP, with query parameters');
	is(column($got, "status || ' ' || (details->>'delivery_message')"), "delivered kh\xc3\xb4ng & ' \" %", '… and is heard, to the letter');
	my $posted = text('cpaas', 'over POST');
	$answer = $http->post("$url/cpaas", { content => encode_json({ referentId => column($posted, 'referent_id'), status => 0, msisdn => '84901234567' }) });
	is("$answer->{status} $answer->{content}", "200 {\"id\":$posted}\n", 'Interits calls back over HTTP, with JSON');
	is(column($posted, 'status'), 'delivered', '… and is heard');
	$answer = $http->post("$url/cpaas", { content => encode_json({ referentId => 'nobody', status => 0 }) });
	is("$answer->{status} $answer->{content}", "200 {\"id\":null}\n", 'a report of nobody');
	is($http->post("$url/cpaas", { content => '[1]' })->{status}, 400, 'no report at all');
	is($http->get("$url/nobody?SMSID=1&SendStatus=5")->{status}, 403, 'no such gateway');
	$web->kill_kill;
}

# --- users' triggers on what is learnt
ask("CREATE TABLE told (id bigint, status text);
	CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN
		IF new.content = 'fails' AND new.status = 'delivered' THEN RAISE 'my trigger fails'; END IF;
		INSERT INTO told VALUES (new.id, new.status); RETURN NULL; END \$\$;
	CREATE TRIGGER tell AFTER UPDATE ON sms_outbox FOR EACH ROW EXECUTE FUNCTION tell()");
my $fails = text('cpaas', 'fails'); # which the worker cannot ask about meanwhile
is(report('cpaas', referentId => column($fails, 'referent_id'), status => 0), $fails, "a trigger of the user's that fails …");
is(column($fails, 'status'), 'delivered', '… does not lose the report');
is(ask("SELECT status FROM told WHERE id = $fails"), 'sent', '… while those that do not fail run');
ask("DROP TRIGGER tell ON sms_outbox");

# --- the balance
is(ask("SELECT sms_balance('shop')"), '36693', 'the balance');
isnt($node->psql('postgres', "SELECT sms_balance('omni')"), 0, 'eTelecom tells none');
fault($simulator, fault => 'code', text => '101', count => 1, match => '/MainService.svc/json/GetBalance');
($rc, $out, $err) = $node->psql('postgres', "SELECT sms_balance('shop') IS NULL");
is($out, 't', 'no answer is NULL');
like($err, qr/WARNING:.*did not say what is left.*\n.*101/, '… with a warning');
no_faults($simulator);
SmsTest::control('POST', $simulator, 'balance', { balance => 500 });
ask("ALTER SERVER shop OPTIONS (ADD min_balance '1000')");
text('shop', 'poor');
ok(wait_until(sub { slurp_file($node->logfile) =~ /WARNING:  the balance of gateway "shop" is low: 500/ }), 'the worker warns of a low balance');
ask("ALTER SERVER shop OPTIONS (DROP min_balance)");

# --- the polled ones, by now
outcome('delivered');
ok(wait_until(sub { column($polled, 'status') eq 'delivered' }, 60), 'delivered, by polling');
is(row($polled), 'delivered|t|850|1|Viettel', '… with price and operator');
cmp_ok(time - $started, '>', 15, '… not before its time');
ok(wait_until(sub { column($omni, 'status') eq 'delivered' }, 60), 'eTelecom, too');
is(row($omni), 'delivered|t||2|Viettel', '… with parts and operator');
ok(wait_until(sub { ask("SELECT count(*) FROM sms_outbox WHERE poll_at IS NOT NULL") == 0 }, 60), 'nobody is asked about any more');

# --- what was told, and what was not
my $events = join "\n", $listener->query('SELECT 1');
$listener->quit;
unlike($events, qr/84901234567|called back/, 'events hold neither phone nor text');
like($events, qr/\{"id":$now,"gateway":"shop","status":"undelivered"/, 'undelivered is told');
like($events, qr/\{"id":$unsure,"gateway":"cpaas","status":"uncertain"/, 'uncertain is told');
like($events, qr/\{"id":$unsure,"gateway":"cpaas","status":"delivered"/, 'delivered is told, where the gateway says notify final');
unlike($events, qr/"id":$called,/, '… and not elsewhere');
like($events, qr/"event":"low_balance"/, 'a low balance is told');

# --- a provider that does not tell the operator
fault($simulator, fault => 'http', value => 404, match => '/MainService.svc/json/GetSmsReceiverStatus');
my @modest = map { text('shop', "modest $_") } 1 .. 5;
ask("UPDATE sms_outbox SET poll_at = now() WHERE id IN (" . join(',', @modest) . ")");
$node->restart;
worker_pid($node);
ok(wait_until(sub { ask("SELECT count(*) FROM sms_outbox WHERE content LIKE 'modest%' AND status = 'delivered'") == 5 }, 10), 'no operator, but the end');
no_faults($simulator);

# --- polling survives a restart, and a gateway that does not answer
outcome('pending');
my $survivor = text('shop', 'survivor');
$node->restart;
worker_pid($node);
ask("UPDATE sms_outbox SET poll_at = now() WHERE id = $survivor");
$node->restart;
worker_pid($node);
ok(wait_until(sub { column($survivor, 'poll_at > now()') eq 't' }), 'asked after a restart, and put off');
outcome('delivered');
fault($simulator, fault => 'hang', match => '/MainService.svc/json/GetSendStatus');
ask("UPDATE sms_outbox SET poll_at = now() WHERE id = $survivor");
ask("ALTER SERVER shop OPTIONS (ADD timeout '1s')");
$node->restart;
worker_pid($node);
sleep 0.5;
my $begin = time;
text('shop', 'meanwhile');
cmp_ok(time - $begin, '<', patience(), 'a question that hangs does not delay sending');
no_faults($simulator);

$node->stop;
done_testing();
