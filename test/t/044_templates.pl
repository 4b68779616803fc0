# What the provider knows, before it costs money: brandnames, templates, prices; texts held against templates.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use SmsTest;
use Test::More;
use Time::HiRes qw(time);

my $simulator = simulator();
my $node = server('templates', settings => "sms_gateway.log_http = on\n");
gateways($node, $simulator);
ask('CREATE ROLE app LOGIN; CREATE ROLE stranger LOGIN; GRANT USAGE ON FOREIGN SERVER shop TO app;
	GRANT SELECT, INSERT ON sms_outbox TO app');

my $fits = '123456 la ma xac minh MYSHOP';
my $misses = '123456 la ma xac nhan MYSHOP';

# Sends a text as app; returns what psql says of it.
sub warned
{
	my ($text) = @_;
	my $error;
	$node->psql('postgres', "SELECT sms_send('0901234567', '$text', 'shop')", stderr => \$error,
		extra_params => [ '-U', 'app' ]);
	return $error;
}

subtest 'what is asked, as the documents have it' => sub {
	is(as_role('app', 'SELECT * FROM sms_brandnames()'), 'MYSHOP|2', 'brandnames');
	is(as_role('app', "SELECT * FROM sms_templates('shop')"),
		"458|6|{P1,20} la ma xac minh {P2,10}\n459|1|Don hang {P1,12} da giao", 'templates');
	is(as_role('app', "SELECT sms_price('0901234567', 'Xin ch\xc3\xa0o & ?', 'shop')"), '850', 'a price');
	my %asked = map { $_->{path} => $_->{body} } requests($simulator);
	is_deeply($asked{'/MainService.svc/json/GetTemplate/'},
		{ ApiKey => 'demo', SecretKey => 'demo', SmsType => '2', Brandname => 'MYSHOP' }, 'GetTemplate');
	is_deeply($asked{'/MainService.svc/json/SummaryMultipleMessage_V4_get'},
		{ Phone => '84901234567', Content => "Xin ch\x{e0}o & ?", ApiKey => 'demo', SecretKey => 'demo', SmsType => '2',
			BrandName => 'MYSHOP', IsUnicode => '1' }, 'SummaryMultipleMessage_V4_get');
	ok(exists $asked{'/MainService.svc/json/GetListBrandname/demo/demo'}, 'GetListBrandname');
};

subtest 'no text, no list and no secret is told to who may not use the gateway' => sub {
	for my $call ("sms_brandnames('shop')", "sms_templates('shop')", "sms_price('0901234567', 'x', 'shop')")
	{
		like(error_of("SELECT $call", role => 'stranger'), qr/42501/, "$call without USAGE");
		like(error_of("SELECT " . $call =~ s/shop/omni/r), qr/0A000/, "$call where there is no such call");
	}
	like(error_of('TABLE sms_gateway_templates', role => 'app'), qr/42501/, 'what is kept is the extension\'s');
	ask('CREATE ROLE reads_all LOGIN; GRANT pg_read_all_data TO reads_all');
	is(as_role('reads_all', 'SELECT count(*) FROM sms_gateway_templates'), '0', '... from pg_read_all_data too');
	ask("ALTER USER MAPPING FOR PUBLIC SERVER shop
		OPTIONS (SET api_key 's3cret/key?&', SET secret_key 'an0ther+s3cret')");
	my $error;
	my $logged = -s $node->logfile;
	$node->psql('postgres', "SELECT * FROM $_", stderr => \$error)
		for ("sms_brandnames('shop')", "sms_templates('shop', refresh => true)",
			"sms_price('0901234567', 'x', 'shop')");
	my ($path) = grep { /GetListBrandname/ } map { $_->{path} } reverse requests($simulator);
	like($path, qr{/GetListBrandname/s3cret(?:/|%2F)key}, 'the credentials are one segment of the path each');
	unlike(slurp_file($node->logfile, $logged) . $error, qr/s3cret/, 'and in no log and no error');
	like($error, qr/WARNING:  gateway "shop" did not tell it\n.*101: Authorize Failed/, 'what is refused is a warning');
	ask("ALTER USER MAPPING FOR PUBLIC SERVER shop OPTIONS (SET api_key 'demo', SET secret_key 'demo')");
};

subtest 'a text is held against the templates' => sub {
	ask('DELETE FROM sms_gateway_templates');
	ask("ALTER SERVER shop OPTIONS (ADD check_templates 'refuse')");
	is(warned('nothing is known yet'), '', 'where none were read nothing is refused');
	ask("SELECT * FROM sms_templates('shop')");
	is(warned($fits), '', 'a text that fits');
	my $refused = qr/22023: the text fits no template of brandname "MYSHOP"
DETAIL:  The nearest is template 458. Behind 17 characters it goes on with "minh ?", the text with "nhan MYSHOP"./;
	like(error_of("SELECT sms_send('0901234567', '$misses', 'shop')", role => 'app'), $refused, 'sms_send');
	like(error_of("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', '$misses')",
		role => 'app'), $refused, 'INSERT');
	unlike(slurp_file($node->logfile), qr/DETAIL:.*nhan MYSHOP/, 'the log has nothing of the text');
	is(error_of("SELECT sms_send_otp('0901234567', '{OTP} la ma xac minh X', 'shop')"), '', 'a one-time password');
	like(error_of("SELECT sms_send_otp('0901234568', 'Ma la {OTP}', 'shop')"), qr/22023/, '... that fits none');
	is(error_of("SELECT sms_send('0901234567', '$misses', 'shop', options => '{\"sms_type\": \"8\"}')"), '',
		'a fixed number has no templates');
	is(error_of("SELECT sms_send('0901234567', '$misses', 'shop', options => '{\"brandname\": \"OTHER\"}')"), '',
		'of another brandname none are known');
	ask("ALTER SERVER shop OPTIONS (SET check_templates 'warn')");
	like(warned($misses), qr/^(?:psql:.*: )?WARNING:  the text fits no template/, 'a warning');
	ask("ALTER SERVER shop OPTIONS (SET check_templates 'off')");
	is(warned($misses), '', 'off');
	like(error_of("ALTER SERVER shop OPTIONS (SET check_templates 'maybe')"), qr/22023/, 'no other value');
};

subtest 'what is kept' => sub {
	my $asked = sub { return scalar grep { $_->{path} =~ /GetTemplate/ } requests($simulator) };
	my $before = $asked->();
	ask("SELECT * FROM sms_templates('shop')");
	is($asked->(), $before, 'a list of today is not asked for again');
	ask("SELECT * FROM sms_templates('shop', refresh => true)") for 1 .. 3;
	is($asked->(), $before + 3, '... but with refresh');
	is(ask('SELECT count(*) FROM sms_gateway_templates'), '1', 'the last list is kept alone');
	ask("UPDATE sms_gateway_templates SET fetched_at = now() - interval '25 hours'");
	like(error_of("BEGIN READ ONLY; SELECT * FROM sms_templates('shop')"), qr/25006/, 'not in a read-only transaction');
	ask("SELECT * FROM sms_templates('shop')");
	is($asked->(), $before + 4, 'a list of yesterday is');
	ask("CREATE USER MAPPING FOR app SERVER shop OPTIONS (api_key 'other', secret_key 'other')");
	ask("ALTER SERVER shop OPTIONS (SET check_templates 'refuse')");
	is(error_of("BEGIN; INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', '$misses');
		ROLLBACK", role => 'app'), '', 'an account of its own has templates of its own');
	ask('DROP USER MAPPING FOR app SERVER shop');
	my $blocker = $node->background_psql('postgres');
	$blocker->query_safe('BEGIN; LOCK sms_gateway_templates IN ROW EXCLUSIVE MODE;
		SELECT * FROM sms_gateway_templates FOR UPDATE');
	is(error_of("SET lock_timeout = '2s'; SELECT * FROM sms_templates('shop', refresh => true)"), '',
		'nobody waits for who holds a list');
	$blocker->query_safe('ROLLBACK');
	$blocker->quit;
};

subtest 'many templates' => sub {
	ask("UPDATE sms_gateway_templates SET templates = (SELECT jsonb_agg(jsonb_build_object('template_id', n, 'content',
		'{P1,20}a{P2,20}a{P3,20}a{P4,20}a{P5,20} la so ' || n)) FROM generate_series(1, 65536) n)");
	my $text = ('a' x 100) . ' la so x';
	my $start = time;
	like(error_of("SELECT sms_send('0901234567', '$text', 'shop')"), qr/22023/, '65,536 templates');
	my $took = time - $start;
	note sprintf '%.2f s', $took;
	cmp_ok($took, '<', 10 * patience(), '... are bounded');
	like(error_of("SET statement_timeout = '20ms'; SELECT sms_send('0901234567', '$text', 'shop')"), qr/57014/,
		'... and can be canceled');
};

done_testing();
