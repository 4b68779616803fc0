# What one role can cost the others: how long values may be, ids, default gateways, reports, volume.
use strict;
use warnings;
use FindBin;
use JSON::PP;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $simulator = simulator();
my $node = server('bounds');
gateways($node, $simulator, omni => "template_code 'TPL'");
my $worker = worker_pid($node);
ask("CREATE ROLE tenant LOGIN; CREATE ROLE other LOGIN; CREATE ROLE editor LOGIN;
	GRANT USAGE ON FOREIGN SERVER shop, omni TO tenant, other, editor;
	GRANT INSERT, SELECT ON sms_outbox TO tenant, other; GRANT INSERT, SELECT, UPDATE ON sms_outbox TO editor");

# The memory of a process, and the most it ever had, in MB.
sub peak_mb { my ($pid) = @_; return slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+)/m ? $1 / 1024 : 0; }

my %long = (
	phone => "repeat('9', 1000000)", content => "repeat('x', 1000000)", template_code => "repeat('x', 1000000)",
	list_param => "jsonb_build_object('a', repeat('x', 1000000))", routerule => "array_fill('1'::text, '{100000}')",
	options => "jsonb_build_object('campaign_id', repeat('x', 1000000))", request_id => "repeat('x', 1000000)",
	kind => "repeat('x', 1000000)");

subtest 'no column takes what is too long, whichever kind the message has' => sub {
	for my $column (sort keys %long)
	{
		for my $kind (qw(text otp omni))
		{
			my %row = (gateway => "'shop'", phone => "'0901234567'", content => "'x {OTP}'", kind => "'$kind'",
				$column => $long{$column});
			my @names = sort keys %row;
			like(error_of('INSERT INTO sms_outbox (' . join(', ', @names) . ') VALUES ('
				. join(', ', @row{@names}) . ')', role => 'tenant'), qr/22023: $column is longer than \d+ bytes/,
				"$column of kind $kind");
		}
	}
	my $big = 'x' x 70000;
	like(error_of("COPY sms_outbox (gateway, phone, content, list_param) FROM STDIN;\n"
		. "shop\t0901234567\tx\t{\"a\": \"$big\"}\n\\.\n"), qr/22023: list_param is longer/, 'COPY');
};

subtest 'nor is anything changed to such' => sub {
	as_role('editor', "INSERT INTO sms_outbox (gateway, phone, content, send_after)
		VALUES ('shop', '0901234567', 'edited', now() + interval '1 day')");
	for my $column (sort(keys %long), 'details', 'smsid')
	{
		my $value = $long{$column} // ($column eq 'smsid' ? $long{phone} : $long{options});
		like(error_of("UPDATE sms_outbox SET $column = $value", role => 'editor'),
			qr/22023: $column is longer than \d+ bytes/, $column);
	}
	as_role('editor', "UPDATE sms_outbox SET content = 'edited again'");
	is(ask("SELECT count(*) FROM sms_outbox WHERE content = 'edited again'"), 1, 'other changes pass');
	ask('DELETE FROM sms_outbox');
};

subtest 'nor does a call' => sub {
	my %call = (
		phone => "sms_send(repeat('9', 1000000), 'x', 'shop')",
		content => "sms_send('0901234567', repeat('x', 1000000), 'shop')",
		request_id => "sms_send('0901234567', 'x', 'shop', repeat('x', 1000000))",
		options => "sms_send('0901234567', 'x', 'shop', NULL, $long{options})",
		phones => "sms_send_bulk(array_fill('0901234567'::text, '{200000}'), 'x', 'shop')",
		template_code => "sms_omni_send('0901234567', repeat('x', 1000000), gateway => 'omni')",
		list_param => "sms_omni_send('0901234567', 'T', $long{list_param}, gateway => 'omni')",
		routerule => "sms_omni_send('0901234567', 'T', routerule => $long{routerule}, gateway => 'omni')",
		code => "sms_check_otp('0901234567', repeat('1', 1000000), 'shop')");
	like(error_of("SELECT $call{$_}", role => 'tenant'), qr/22023: $_ is longer than \d+ bytes/, $_)
		for sort keys %call;
	like(error_of("SELECT sms_send_otp('0901234567', repeat('x', 1000000), 'shop')", role => 'tenant'),
		qr/22023: content is longer/, 'of a one-time password');
	like(error_of("SELECT sms_delivery_report('shop', jsonb_build_object('SendStatus', '5', 'a', repeat('x', 20000)))"),
		qr/22023: a delivery report is longer than 16384 bytes/, 'nor does a delivery report');
};

subtest 'a row that was restored with more than the worker reads' => sub {
	my $before = peak_mb($worker);
	ask("INSERT INTO sms_outbox (gateway, phone, content, list_param, created_by, created_at, next_attempt_at,
			origin, request_id)
		SELECT 'shop', '84901234567', 'restored', jsonb_build_object('a', repeat('x', 10000000)), 'tenant', now(),
			now(), instance, 'restored-' || n FROM sms_gateway_identity, generate_series(1, 10) n");
	as_role('other', "INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', 'beside')");
	becomes(sub { status_of('beside') }, 'sent', "another's message goes");
	becomes("SELECT DISTINCT status, result_code, result_message FROM sms_outbox WHERE content = 'restored'",
		'failed|refused|list_param is too long', 'these do not');
	cmp_ok(peak_mb($worker) - $before, '<', memory(50), '… and are not unpacked');
	ask("DELETE FROM sms_outbox");
};

subtest 'ids are given here, whoever writes one' => sub {
	my $columns = "sms_outbox (id, gateway, phone, content, send_after) OVERRIDING SYSTEM VALUE";
	my $next = ask("SELECT last_value FROM sms_outbox_id_seq");
	for my $id ($next + 2, $next + 3, 1, -1, '9223372036854775807')
	{
		as_role('tenant', "INSERT INTO $columns VALUES ($id, 'shop', '0901234567', 'squatter', 'infinity')");
	}
	is(ask("SELECT count(*) FROM sms_outbox WHERE content = 'squatter' AND id BETWEEN $next + 1 AND $next + 10"), 5,
		'ids of his own are replaced');
	as_role('other', "INSERT INTO sms_outbox (gateway, phone, content, send_after)
		SELECT 'shop', '0901234567', 'mine', 'infinity' FROM generate_series(1, 20)") for 1, 2;
	is(ask("SELECT count(*) FROM sms_outbox WHERE content = 'mine'"), 40, "others' INSERTs pass");
	is(ask("SELECT max(id) - min(id) FROM sms_outbox WHERE content = 'mine'"), 39, '… without gaps');
	ask("DISCARD ALL; INSERT INTO sms_outbox (gateway, phone, content, send_after)
		VALUES ('shop', '0901234567', 'after DISCARD', 'infinity')");
	is(ask("COPY sms_outbox (id, gateway, phone, content, send_after) FROM STDIN;\n"
		. "77\tshop\t0901234567\tcopied\tinfinity\n\\.\nSELECT id > $next FROM sms_outbox WHERE content = 'copied'"),
		't', 'COPY with ids');
	ask("DELETE FROM sms_outbox");
};

subtest 'a gateway is taken by default only from those who may be trusted with everything' => sub {
	my $url = $simulator->{url};
	ask("CREATE ROLE maker LOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER interits TO maker;
		REVOKE USAGE ON FOREIGN SERVER shop, omni FROM other");
	as_role('maker', "CREATE SERVER trap FOREIGN DATA WRAPPER interits OPTIONS (base_url '$url', sender 'X');
		CREATE USER MAPPING FOR PUBLIC SERVER trap OPTIONS (api_key 'demo');
		GRANT USAGE ON FOREIGN SERVER trap TO PUBLIC");
	for my $sql ("INSERT INTO sms_outbox (phone, content) VALUES ('0901234567', 'secret')",
		"INSERT INTO sms_outbox (kind, phone) VALUES ('otp', '0901234567')",
		"SELECT sms_send('0901234567', 'secret')", "SELECT sms_send_otp('0901234567')",
		"SELECT sms_check_otp('0901234567', '123456')")
	{
		like(error_of($sql, role => 'other'), qr/42P08: no gateway is taken by default.*trap/s, $sql);
	}
	is(as_role('tenant', "SELECT gateway FROM sms_send('0901234567', 'mine')"), 'shop',
		'who has a trusted one is sent through that');
	is(as_role('maker', "SELECT gateway FROM sms_send('0901234567', 'mine')"), 'trap', 'its maker through his own');
	is(as_role('other', "SELECT gateway FROM sms_send('0901234567', 'meant', 'trap')"), 'trap',
		'and anybody who names it');
	ask("DROP SERVER trap CASCADE; GRANT USAGE ON FOREIGN SERVER shop, omni TO other");
};

subtest 'base_url: nothing that swallows the path' => sub {
	for my $url ('http://127.0.0.1:6612/admin/restart#', 'http://127.0.0.1/a?', 'http://127.0.0.1/a?b=',
		'http://127.0.0.1/a b', "http://127.0.0.1/a\nb", 'http://@127.0.0.1/', 'http://u:p@127.0.0.1/',
		'http://127.0.0.1\@x.example')
	{
		like(error_of("CREATE SERVER bad FOREIGN DATA WRAPPER esms OPTIONS (base_url '$url')"), qr/22023/,
			"CREATE: $url");
		like(error_of("ALTER SERVER shop OPTIONS (SET base_url '$url')"), qr/22023/, "ALTER: $url");
	}
	# As an earlier version took it.
	ask("CREATE SERVER old FOREIGN DATA WRAPPER esms OPTIONS (brandname 'X');
		CREATE USER MAPPING FOR PUBLIC SERVER old OPTIONS (api_key 'demo', secret_key 'demo');
		UPDATE pg_foreign_server SET srvoptions = '{base_url=$simulator->{url}/admin/restart#,brandname=X}'
		 WHERE srvname = 'old'");
	like(error_of("SELECT sms_send('0901234567', 'x', 'old')"),
		qr/gateway "old" has an invalid value for option "base_url".*It holds a fragment/s,
		'one that is there already');
	ask('DROP SERVER old CASCADE');
};

subtest 'the SMS behind a Zalo message is a text as any other' => sub {
	ask("ALTER SERVER shop OPTIONS (ADD oaid '1', ADD redact 'true', ADD max_parts '2')");
	my $omni = sub {
		my ($text) = @_;
		return "INSERT INTO sms_outbox (kind, gateway, phone, template_code, list_param, options)
			VALUES ('omni', 'shop', '0901234567', 'TPL', '[\"a\"]', '{\"sms_content\": \"$text\"}')";
	};
	like(error_of($omni->('x' x 400)), qr/22023: the text is too long/, 'max_parts counts it');
	like(error_of("SELECT sms_omni_send('0901234567', 'TPL', '[\"a\"]', gateway => 'shop',
		options => '{\"sms_content\": \"" . 'x' x 400 . "\"}')"), qr/22023: the text is too long/, '… in a call, too');
	my $id = ask($omni->('behind Zalo') . ' RETURNING id');
	becomes("SELECT status, content, options, parts FROM sms_outbox WHERE id = $id", 'sent||{}|1',
		'it is blanked when sent');
	is(scalar(grep { encode_json($_->{body}) =~ /behind Zalo/ } requests($simulator)), 1, '… as it was sent');
	like(error_of("INSERT INTO sms_outbox (kind, gateway, phone, content, template_code, list_param, options)
		VALUES ('omni', 'shop', '0901234567', 'a', 'TPL', '[\"a\"]', '{\"sms_content\": \"b\"}')"),
		qr/22023: option "sms_content" has no place in a message with a text in content/, 'it is given once');
	ask("ALTER SERVER shop OPTIONS (DROP oaid, DROP redact, DROP max_parts)");
};

subtest 'a fallback that takes nothing over' => sub {
	my $notice = sub { my (undef, undef, $told) = $node->psql('postgres', $_[0]); return $told; };
	like($notice->("ALTER SERVER cpaas OPTIONS (ADD fallback 'nowhere')"), qr/NOTICE.*fallback "nowhere" is no gateway/,
		'one that is not there is told');
	is($notice->("ALTER SERVER cpaas OPTIONS (SET fallback 'omni')"), '', '… one that is is not');
	fault($simulator, fault => 'http', value => 400, match => '/api/vendor');
	my $why = sub {
		my ($fallback) = @_;
		$notice->("ALTER SERVER cpaas OPTIONS (SET fallback '$fallback')");
		my $id = queue_text('cpaas', "to $fallback");
		becomes("SELECT gateway, status FROM sms_outbox WHERE id = $id", 'cpaas|failed', "not moved to $fallback");
		return ask("SELECT result_message FROM sms_outbox WHERE id = $id");
	};
	like($why->('nowhere'), qr/not moved to "nowhere", gateway "nowhere" does not exist/, 'no gateway');
	like($why->('omni'), qr/not moved to "omni", which sends no messages of kind "text"/, 'of another kind');
	unlike($why->('cpaas'), qr/not moved/, 'the gateway itself');
	no_faults($simulator);
	ask("ALTER SERVER cpaas OPTIONS (DROP fallback)");
};

subtest 'what sms_gateways says' => sub {
	ask("CREATE SERVER bare FOREIGN DATA WRAPPER esms OPTIONS (base_url 'http://127.0.0.1:1', brandname 'X')");
	my $row = "SELECT state, reason FROM sms_gateways WHERE name = 'bare'";
	is(ask($row), 'held|no role has a user mapping for it', 'of a gateway that nobody has a user mapping for');
	ask("CREATE USER MAPPING FOR PUBLIC SERVER bare OPTIONS (api_key 'demo', secret_key 'demo')");
	is(ask($row), 'active|', '… and when somebody has');
	queue_text('bare', "bare $_") for 1 .. 8;
	becomes($row, qr/^unreachable\|connect/, 'unreachable, with the reason');
	ask("ALTER SERVER bare OPTIONS (SET base_url 'https://no.such.host.invalid')");
	becomes($row, qr/^unreachable\|resolve/, '… which is another after ALTER SERVER');
	ask("DELETE FROM sms_outbox; DROP SERVER bare CASCADE");
};

# The time of a processor that a process has taken, in s; others use this machine, too.
sub cpu { my ($pid) = @_; return (split ' ', slurp_file("/proc/$pid/schedstat"))[0] / 1e9; }

# Queues many texts at once, returns how much of it the worker takes until they are sent.
sub cost
{
	my ($many, $what) = @_;
	my $began = cpu($worker);
	ask("INSERT INTO sms_outbox (gateway, phone, content)
		SELECT 'shop', '0901234567', '$what' FROM generate_series(1, $many)");
	becomes("SELECT count(*) FROM sms_outbox WHERE content = '$what' AND status = 'sent'", $many,
		"$what: all are sent");
	return cpu($worker) - $began;
}

# The least of two.
sub least { my ($many, $what) = @_; return (sort { $a <=> $b } map { cost($many, "$what, $_") } 1, 2)[0]; }

sub unknown { return ask('SELECT count(*) FROM sms_gateway_callback WHERE message IS NULL'); }

subtest 'reports of messages that nobody knows cost the others nothing' => sub {
	my $many = 2000 / slowness();
	my $request_id = ask("SELECT request_id FROM sms_send('0901234567', 'x', 'shop')");
	ask("SELECT sms_delivery_report('shop', jsonb_build_object('RequestId', '$_', 'SendStatus', '4'))")
		for $request_id, (requests($simulator))[-1]{body}{RequestId};
	is(unknown(), 0, 'of a message of sms_send() none is kept');
	ask("SELECT sms_delivery_report('shop', jsonb_build_object('SMSID', 'nobody', 'SendStatus', '5', 'SendSuccess', '1',
		'other', repeat('x', 10000), 'error_info', repeat('y', 5000)))");
	is(ask("SELECT length(report::text) < 1000 FROM sms_gateway_callback"), 't', 'only what is read of one is kept');

	cost(500, 'warm');
	my $before = least($many, 'before');
	my $unknown = 0;
	for my $more (500, 99500)
	{
		ask("INSERT INTO sms_gateway_callback (gateway, reference, report)
			SELECT 'shop', 'nobody-' || $unknown || '-' || n,
				jsonb_build_object('delivery', 'delivered', 'smsid', 'nobody-' || n)
			FROM generate_series(1, $more) n");
		my $as_they_come = cost($many, "as $more come");
		becomes('SELECT count(*) FROM sms_gateway_callback WHERE NOT looked', 0, 'each is looked at …', seconds => 60);
		my $after = least($many, "with $more");
		$unknown += $more;
		note(sprintf('%.3f s before, %.3f s as %d come, %.3f s with them', $before, $as_they_come, $more, $after));
		cmp_ok($after, '<', $before * 1.5, '… and then others cost the worker what they did before');
	}
	my $xmin = ask("SELECT max(xmin::text::bigint) FROM sms_gateway_callback");
	cost(100, 'last');
	is(ask("SELECT max(xmin::text::bigint) FROM sms_gateway_callback"), $xmin, '… and none is touched again');
	ask('TRUNCATE sms_gateway_callback; DELETE FROM sms_outbox');
};

subtest 'very many messages of one role' => sub {
	ask("GRANT USAGE ON FOREIGN SERVER cpaas TO other; ALTER SERVER shop OPTIONS (ADD rate_limit '100')");
	as_role('tenant', "INSERT INTO sms_outbox (gateway, phone, content)
		SELECT 'shop', '0901234567', 'flood' FROM generate_series(1, 20000)");
	becomes("SELECT count(*) > 0 FROM sms_outbox WHERE content = 'flood' AND status = 'sent'", 't', 'they go');
	as_role('other', "INSERT INTO sms_outbox (gateway, phone, content, priority) VALUES
		('shop', '0901234567', 'behind', 0), ('shop', '0901234567', 'before', 1), ('cpaas', '0901234567', 'aside', 0)");
	for my $which (qw(aside before))
	{
		becomes(sub { status_of($which) }, 'sent', "another's, $which");
		cmp_ok(ask("SELECT extract(epoch FROM sent_at - created_at) FROM sms_outbox WHERE content = '$which'"), '<',
			1 * slowness(), '… within a second');
	}
	is(status_of('behind'), 'queued', 'one of the same gateway and priority waits, as SECURITY.md says');
	ask("ALTER SERVER shop OPTIONS (DROP rate_limit); DELETE FROM sms_outbox WHERE content <> 'behind'");
	becomes(sub { status_of('behind') }, 'sent', '… and goes in its turn');
};

$node->stop;
done_testing();
