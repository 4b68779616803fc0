# Zalo, then SMS (eSMS): each channel, a leg, has a RequestId, an SMSID and reports of its own; the message ends by them
# together.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use JSON::PP;
use SmsTest;
use Test::More;

my $simulator = simulator();
my $node = server('legs');
gateways($node, $simulator, poll => 1, shop => "oaid '4097', callback_url 'https://shop.example/hook', sandbox 'true'");
worker_pid($node);

sub outcome { my ($outcome) = @_; SmsTest::control('POST', $simulator, 'delivery', { outcome => $outcome }); return; }
sub column { my ($id, $column) = @_; return ask("SELECT $column FROM sms_outbox WHERE id = $id"); }
sub status { my ($id) = @_; return column($id, 'status'); }
sub leg { my ($id, $leg, $field) = @_; return column($id, "details->'legs'->$leg->>'$field'"); }
sub legs { my ($id) = @_; return column($id, "jsonb_path_query_array(details, '\$.legs[*].status')"); }

# Messages that were sent over Zalo, then SMS, all at once; returns their ids.
sub queue
{
	my ($n, $status) = @_;
	my @ids = split /\n/, ask(qq{
		INSERT INTO sms_outbox (kind, gateway, phone, template_code, list_param, content, routerule)
		SELECT 'omni', 'shop', '0901234567', 'ZT', '["a"]', 'Behind Zalo ' || i, '{1,3}' FROM generate_series(1, $n) i
		RETURNING id});
	becomes("SELECT count(*) FROM sms_outbox WHERE id >= $ids[0] AND status = '" . ($status // 'sent') . "'", $n,
		"$n went over Zalo, then SMS");
	return @ids;
}
sub body_of
{
	my ($id) = @_;
	my $content = column($id, 'content');
	return (grep { $_->{path} =~ /Multi/ && $_->{body}{Data}[1]{Content} eq $content } requests($simulator))[-1]{body};
}

my %common = (TotalReceiver => '1', TotalSent => '1', phonenumber => '84901234567');
my %type = (zalo => '25', sms => '2');
my %result = ('+' => [ 5, 1, 0 ], '-' => [ 5, 0, 1 ], '.' => [ 7, 0, 0 ]);

# What eSMS calls back with about a leg: its outcome (+, -, or . for pending), and the ids.
sub report
{
	my ($outcome, %ids) = @_;
	my ($status, $success, $failure) = @{ $result{$outcome} };
	my $json = JSON::PP->new->ascii->encode({ %common, SendStatus => $status, SendSuccess => $success,
		SendFailed => $failure, %ids });
	return "SELECT sms_delivery_report('shop', '$json')";
}

outcome('pending');

subtest 'each leg goes with what is its own, in the order that eSMS has' => sub {
	my ($id) = queue(1);
	my $body = body_of($id);
	my ($zalo, $sms) = @{ $body->{Data} };
	my $wire = column($id, 'request_id');
	is_deeply($body->{Channels}, [ 'zalo', 'sms' ], 'both channels, in this order');
	is_deeply([ map { $_->{RequestId} } $zalo, $sms ], [ $wire, "$wire.a" ], 'two RequestIds');
	is_deeply([ map { $_->{Sandbox} } $zalo, $sms ], [ '1', '1' ], 'two Sandboxes');
	is_deeply([ map { $_->{CallbackUrl} } $zalo, $sms ], [ ('https://shop.example/hook') x 2 ], 'two CallbackUrls');
	is(column($id, "details->'legs'"), qq{[{"status": "sent", "channel": "zalo", "request_id": "$wire"}, }
		. qq{{"status": "sent", "channel": "sms", "request_id": "$wire.a"}]}, 'details.legs tells them');
	like(error_of("INSERT INTO sms_outbox (kind, gateway, phone, template_code, content, routerule)
		VALUES ('omni', 'shop', '0901234567', 'ZT', 'x', '{3,1}')"), qr/over Zalo first/, 'another order is refused');
};

subtest 'reports in every order: two of one leg, contradictions, and all of them again' => sub {
	my @kinds = map { my $leg = $_; map { [ $leg, $_ ] } '+', '-', '.' } 'zalo', 'sms';
	my @sequences = ([]);
	for (1 .. 3) { @sequences = map { my $head = $_; map { [ @$head, $_ ] } @kinds } @sequences; }
	my @ids = queue(scalar @sequences);
	my %wire = map { split /\|/ } split /\n/, ask("SELECT id, request_id FROM sms_outbox");
	my ($sql, @expected) = ('');
	for my $i (0 .. $#ids)
	{
		# A leg's first end stays.  The message is delivered when a leg is, and undelivered when both have failed.
		my (%end, $message);
		for my $report (@{ $sequences[$i] }, @{ $sequences[$i] })
		{
			my ($leg, $outcome) = @$report;
			$end{$leg} //= $outcome if $outcome ne '.';
			$message //= 'delivered' if ($end{$leg} // '') eq '+';
			$message //= 'undelivered' if join('', map { $end{$_} // '' } 'zalo', 'sms') eq '--';
			my $request_id = $wire{ $ids[$i] } . ($leg eq 'sms' ? '.a' : '');
			$sql .= report($outcome, RequestId => $request_id, SMSID => "$leg-$ids[$i]") . ";\n";
		}
		push @expected, $message // 'sent';
	}
	$node->safe_psql('postgres', "BEGIN; $sql COMMIT");
	my @got = split /\n/, ask("SELECT status FROM sms_outbox WHERE id >= $ids[0] ORDER BY id");
	my @wrong = grep { $got[$_] ne $expected[$_] } 0 .. $#ids;
	is(join("\n", map { join('', map { "@$_ " } @{ $sequences[$_] }) . "-> $got[$_], not $expected[$_]" } @wrong), '',
		scalar(@ids) . ' sequences end as they should');
	is(ask("SELECT count(*) FROM sms_outbox WHERE id >= $ids[0]
		AND (delivered_at IS NOT NULL) <> (status = 'delivered')"), 0, 'delivered_at is of those that were');
};

subtest 'what a leg is told by, and what is told of it' => sub {
	my ($id) = queue(1);
	my ($wire, $smsid) = split /\|/, column($id, 'request_id, smsid');
	is(ask(report('-', RequestId => $wire, SMSID => $smsid, TypeId => 25, TotalPrice => '200', error_info => '-118',
		switchsmsid => "S-$id")), $id, 'Zalo fails, and says which SMSID took over');
	is(status($id), 'sent', '… the message is open');
	is(column($id, "details->'legs'->1->>'smsid' || ' ' || (details->'legs'->1->>'presumed')"), "S-$id true",
		'… presumably that of the SMS');
	is(ask(report('.', SMSID => "S-$id", TotalPrice => '850')), $id, 'which is known by it alone');
	is(ask(report('+', SMSID => "S-$id", TypeId => 2, TotalPrice => '850')), $id, 'and arrives');
	is(column($id, 'status, price'), 'delivered|1050', '… so the message did, at the price of both');
	is(legs($id), '["undelivered", "delivered"]', '… and each leg has its end');
	is_deeply([ map { leg($id, 0, $_) } qw(code message smsid price) ], [ 5, '-118', $smsid, 200 ],
		'… in its own words');
	isnt(leg($id, 1, 'at'), '', '… and its time');
	is(leg($id, 1, 'presumed'), '', 'what a report has confirmed is presumed no more');
	is(ask(report('-', RequestId => "$wire.a", SMSID => "S-$id")), $id, 'a later report to the contrary');
	is(status($id) . legs($id), 'delivered["undelivered", "delivered"]', '… takes nothing back');

	my ($alone) = queue(1);
	my $its = column($alone, 'smsid');
	is(ask(report('-', SMSID => $its)), $alone, 'the answer\'s SMSID alone');
	is(status($alone) . legs($alone), 'sent["undelivered", "sent"]', '… is presumably of the first leg');
	is(ask(report('-', SMSID => $its, RequestId => column($alone, 'request_id') . '.a')), $alone, 'it was the other');
	is(status($alone) . legs($alone), 'sent["sent", "undelivered"]', '… and one leg is open still');

	my ($one) = queue(1);
	my $same = column($one, 'smsid');
	ask(report('-', SMSID => $same, TypeId => $type{zalo}));
	is(status($one), 'sent', 'both legs under one SMSID, told apart by TypeId: the first fails');
	ask(report('-', SMSID => $same, TypeId => $type{sms}));
	is(status($one), 'undelivered', '… and the second');

	my ($early) = queue(1);
	is(ask(report('+', SMSID => "early-$early")), '', 'a report of an SMSID that nobody knows yet');
	ask(report('-', RequestId => column($early, 'request_id'), SMSID => "Z-$early", switchsmsid => "early-$early"));
	is(status($early), 'delivered', '… counts when it is known whose it is');
	is(ask(report('+', RequestId => column($early, 'request_id') =~ s/-\d+$/-999999/r)), '', 'a report of no message');
};

subtest 'two reports at once: the second one knows what the first has written' => sub {
	my ($both, $end) = queue(2);
	my ($wire, $other) = map { column($_, 'request_id') } $both, $end;
	for my $case ([ $both, report('-', RequestId => $wire), report('-', RequestId => "$wire.a"), 'undelivered' ],
		[ $end, report('+', RequestId => $other), report('-', RequestId => "$other.a"), 'delivered' ])
	{
		my ($id, $first, $second, $expected) = @$case;
		my $one = $node->background_psql('postgres');
		my $two = $node->background_psql('postgres');
		$one->query_safe("BEGIN; $first");
		$two->query_until(qr/begun/, "\\echo begun\n$second;\n");
		becomes("SELECT count(*) FROM pg_locks WHERE NOT granted", 1, 'one waits for the other');
		$one->query_safe('COMMIT');
		$two->quit;
		$one->quit;
		is(status($id), $expected, "… $expected");
	}
	my $text = queue_text('shop', 'a text');
	becomes("SELECT status FROM sms_outbox WHERE id = $text", 'sent', 'a text, too');
	my %ids = (RequestId => column($text, 'request_id'));
	my $one = $node->background_psql('postgres');
	my $two = $node->background_psql('postgres');
	$one->query_safe('BEGIN; ' . report('+', %ids));
	$two->query_until(qr/begun/, "\\echo begun\n" . report('-', %ids) . ";\n");
	becomes("SELECT count(*) FROM pg_locks WHERE NOT granted", 1, 'one waits for the other');
	$one->query_safe('COMMIT');
	$two->quit;
	$one->quit;
	is(column($text, 'status, delivered_at IS NOT NULL'), 'delivered|t', '… an end stays');
};

subtest 'a report that overtakes the answer, and a message in doubt' => sub {
	fault($simulator, fault => 'latency', value => 1000 * patience(), match => '/MainService.svc/json/Multi');
	my $id = ask(q{INSERT INTO sms_outbox (kind, gateway, phone, template_code, list_param, content)
		VALUES ('omni', 'shop', '0901234567', 'ZT', '["a"]', 'overtaken') RETURNING id});
	becomes(sub { scalar grep { $_->{path} =~ /Multi/ && $_->{body}{Data}[1]{Content} eq 'overtaken' }
		requests($simulator) }, 1, 'it is on its way');
	my $wire = column($id, 'request_id');
	is(ask(report('-', RequestId => $wire)) . ask(report('-', RequestId => "$wire.a")), '', 'both reports come first');
	becomes(sub { status($id) }, 'undelivered', '… and count when the answer is there');
	no_faults($simulator);

	ask("ALTER SERVER shop OPTIONS (ADD max_attempts '1')");
	fault($simulator, fault => 'close', match => '/MainService.svc/json/Multi');
	my ($unsure) = queue(1, 'uncertain');
	ask(report('-', RequestId => column($unsure, 'request_id')));
	is(status($unsure), 'sent', 'a leg that failed: the provider has the message');
	no_faults($simulator);
	ask("ALTER SERVER shop OPTIONS (DROP max_attempts)");
};

subtest 'after a certain refusal both RequestIds are new; a duplicate that is none of ours proves nothing' => sub {
	fault($simulator, fault => 'code', text => '146', count => 1, match => '/MainService.svc/json/Multi');
	my ($id) = queue(1, 'failed');
	ask("SELECT sms_retry($id)");
	becomes(sub { status($id) }, 'sent', 'a message that was refused is sent again');
	my @tries = grep { $_->{path} =~ /Multi/ } requests($simulator);
	my $wire = column($id, 'request_id');
	is_deeply([ map { $_->{RequestId} } @{ $tries[-1]{body}{Data} } ], [ "$wire.2", "$wire.c" ], 'both are new');
	is(leg($id, 1, 'request_id'), "$wire.c", '… and details.legs has them');
	is(ask(report('+', RequestId => "$wire.c")), $id, '… by which reports are known');
	is(status($id), 'delivered', '… and count');
	no_faults($simulator);
	fault($simulator, fault => 'code', text => '124', count => 1, match => '/MainService.svc/json/Multi');
	queue(1, 'uncertain');
	no_faults($simulator);
};

subtest 'asking: the last leg that is open and has an id' => sub {
	my ($id) = queue(1);
	my ($wire, $smsid) = split /\|/, column($id, 'request_id, smsid');
	outcome('undelivered');
	is(ask("SELECT sms_check_status($id)"), 'sent', 'the answer\'s id has failed: a leg has, the message has not');
	is(legs($id), '["undelivered", "sent"]', '… presumably the first');
	is(ask("SELECT sms_check_status($id)"), 'sent', 'of the other no id is known: nobody is asked');
	ask(report('.', RequestId => "$wire.a", SMSID => "sms-of-$id"));
	ask("UPDATE sms_outbox SET poll_at = now() WHERE id = $id");
	$node->restart;
	worker_pid($node);
	becomes(sub { status($id) }, 'undelivered', 'the worker asks for that, when it is known');
	my @asked = grep { $_ eq $smsid || $_ eq "sms-of-$id" }
		map { $_->{body}{RefId} } grep { $_->{path} =~ /GetSendStatus/ } requests($simulator);
	is_deeply(\@asked, [ $smsid, "sms-of-$id" ], '… each leg was asked about once');
};

subtest 'a database in another encoding; sms_drain' => sub {
	ask("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
	ask("ALTER SYSTEM SET sms_gateway.databases = 'postgres'");
	$node->reload;
	gateways($node, $simulator, database => 'latin', shop => "oaid '4097'");
	my $id = ask(q{INSERT INTO sms_outbox (kind, gateway, phone, template_code, list_param, content)
		VALUES ('omni', 'shop', '0901234567', 'ZT', '["a"]', 'drained') RETURNING id}, 'latin');
	$node->safe_psql('latin', "CALL sms_drain()");
	my $wire = ask("SELECT request_id FROM sms_outbox WHERE id = $id", 'latin');
	ask(report('-', RequestId => $wire, error_info => "kh\x{f4}ng"), 'latin');
	ask(report('-', RequestId => "$wire.a"), 'latin');
	is(ask("SELECT status, details->'legs'->0->>'message' = U&'kh\\00F4ng' FROM sms_outbox WHERE id = $id", 'latin'),
		'undelivered|t', 'both legs have failed, in their words');
};

$node->stop;
done_testing();
