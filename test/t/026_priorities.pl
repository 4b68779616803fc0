# Many priorities, as many as there are: they cost nobody but their own messages anything.  And a gateway that is alone.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use SmsTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $simulator = simulator();
my $hanging = simulator();
my $node = server('priorities', settings => "sms_gateway.max_in_flight = 100\nautovacuum = off\n");
gateways($node, $simulator, cpaas => "max_in_flight '1'");
ask("CREATE SERVER other FOREIGN DATA WRAPPER interits OPTIONS (base_url '$simulator->{url}', sender 'MYSHOP',
		poll_delivery 'false');
	CREATE USER MAPPING FOR PUBLIC SERVER other OPTIONS (api_key 'demo')");
worker_pid($node);
my $serial = 0;

# Queues a text of each priority there is (65,536), due at a time (SQL).
sub queue_all_priorities
{
	my ($gateway, $name, $due) = @_;
	ask("INSERT INTO sms_outbox (gateway, phone, content, priority, send_after)
		SELECT '$gateway', '0901234567', '$name', i, $due FROM generate_series(-32768, 32767) i");
	return;
}

# The seconds that a message of a gateway takes until it is sent; the median and the worst of five.
sub seconds_to_send
{
	my ($gateway, %columns) = @_;
	my @took;
	for (1 .. 5)
	{
		my $text = 'healthy ' . ++$serial;
		queue_text($gateway, $text, %columns);
		wait_until(sub { status_of($text) eq 'sent' }, 10);
		push @took, ask("SELECT coalesce(extract(epoch FROM sent_at - created_at), 1000) FROM sms_outbox
			WHERE content = '$text'");
	}
	@took = sort { $a <=> $b } @took;
	return ($took[2], $took[4]);
}

sub is_soon
{
	my ($name, $gateway, %columns) = @_;
	my ($median, $worst) = seconds_to_send($gateway, %columns);
	cmp_ok($median, '<', 0.1 * slowness(), "$name: a message is sent within 0.1 s");
	cmp_ok($worst, '<', 1 * slowness(), '… and never takes 1 s');
	return;
}

# Messages a second: so many of a gateway, from their INSERT until none waits.
sub drain_rate
{
	my ($gateway, $count) = @_;
	my $any = "SELECT EXISTS (SELECT FROM sms_outbox
		WHERE gateway = '$gateway' AND status = 'queued' AND next_attempt_at < 'infinity')";
	my $seconds = took(sub {
		ask("INSERT INTO sms_outbox (gateway, phone, content)
			SELECT '$gateway', '0901234567', 'drained' FROM generate_series(1, $count)");
		wait_until(sub { ask($any) eq 'f' }, 60);
	});
	return $count / $seconds;
}

# The worker's time on a processor so far, in hundredths of a second, and its own memory in kB.
sub ticks { my @stat = split ' ', slurp_file('/proc/' . worker_pid($node) . '/stat'); return $stat[13] + $stat[14]; }
sub private_kb { return slurp_file('/proc/' . worker_pid($node) . '/status') =~ /RssAnon:\s+(\d+)/ ? $1 : -1; }

sub is_idle
{
	my ($name) = @_;
	my $before = ticks();
	sleep 6;    # time itself: one look that nobody asked for is among these
	cmp_ok(ticks() - $before, '<', 30 * slowness(), "$name: the worker is idle");
	return;
}

subtest 'all priorities for later, on the same gateway and on another' => sub {
	drain_rate('shop', 2000);
	my @without = map { drain_rate('shop', 4000) } 1 .. 3;
	my $memory = private_kb();
	queue_all_priorities($_, 'later', "'infinity'") for 'shop', 'other';
	is_soon('right after', 'shop');
	is_soon('a gateway without', 'cpaas');
	my @with = map { drain_rate('shop', 4000) } 1 .. 3;
	my $ratio = (sort { $a <=> $b } @with)[1] / (sort { $a <=> $b } @without)[1];
	note(sprintf 'drain rate with / without: %.2f (%.0f/s / %.0f/s)', $ratio, $with[1], $without[1]);
	cmp_ok($ratio, '>', 0.5, 'the others are drained about as fast as without');
	is_idle('later');
	cmp_ok(private_kb() - $memory, '<', memory(8 * 1024), 'its memory has not grown');
	cmp_ok(took(sub { finish($node, 10) }), '<', 1 * slowness(), 'sms_wait does not look at each');
};

# Calls sms_resume, and waits until the worker has done what that asks for; returns for how many hundredths of a second
# it was at work.
sub work_to_resume
{
	my ($gateway) = @_;
	my $before = ticks();
	ask("SELECT sms_resume('$gateway')");
	becomes("SELECT count(*) FROM sms_gateway_state WHERE gateway = '$gateway'", '0', "sms_resume('$gateway') is done");
	return ticks() - $before;
}

subtest 'tried now: what is for later is not looked at by priority' => sub {
	cmp_ok(work_to_resume('shop'), '<', 15 * slowness(), 'never');
	ask("UPDATE sms_outbox SET (send_after, next_attempt_at) = (now() + interval '1 h', now() + interval '1 h')
		WHERE gateway = 'other'");
	cmp_ok(work_to_resume('other'), '<', 50 * slowness(), 'in an hour, all at once');
	cmp_ok(work_to_resume('shop'), '<', 15 * slowness(), 'nor what another has for later');
	is(ask("SELECT count(*) FROM sms_outbox WHERE status = 'queued'"), '131072', 'nothing is sent before its time');
};

subtest 'one of them becomes due' => sub {
	queue_text('shop', 'on time', priority => '-77', send_after => "now() + interval '1 s'");
	becomes(sub { status_of('on time') }, 'sent', 'it is sent', seconds => 5);
	cmp_ok(ask("SELECT extract(epoch FROM sent_at - send_after) FROM sms_outbox WHERE content = 'on time'"), '<',
		0.3 * slowness(), '… on time');
	ask("UPDATE sms_outbox SET next_attempt_at = now() WHERE content = 'later' AND gateway = 'shop' AND priority = 5");
	becomes("SELECT status FROM sms_outbox WHERE content = 'later' AND gateway = 'shop' AND priority = 5", 'sent',
		'what nobody tells of is found by itself', seconds => 10);
};

subtest 'after a restart' => sub {
	ask("SELECT sms_pause('shop', 'not yet')");
	queue_text('shop', "waits $_", priority => $_) for -32768, 0, 32767;
	$node->restart;
	worker_pid($node);
	is_soon('begun anew', 'other', priority => -32768);
	ask("SELECT sms_resume('shop')");
	becomes("SELECT count(*) FROM sms_outbox WHERE content LIKE 'waits%' AND status = 'sent'", '3', 'all are found',
		seconds => 3);
	ask("DELETE FROM sms_outbox WHERE content = 'later'");
};

subtest 'thousands of priorities at once go in their order' => sub {
	forget($simulator);
	ask("INSERT INTO sms_outbox (gateway, phone, content, priority)
		SELECT 'cpaas', '0901234567', 'order ' || i, i FROM generate_series(-1500, 1500) i");
	becomes("SELECT count(*) FROM sms_outbox WHERE content LIKE 'order%' AND status = 'sent'", '3001', 'all are sent',
		seconds => 60);
	my @order = map { $_->{content} =~ /^order (-?\d+)/ ? $1 : () } requests($simulator);
	is(scalar(grep { $order[$_] > $order[ $_ - 1 ] } 1 .. $#order), 0, 'the highest priority first');
};

subtest 'each queued by itself, some for later among them' => sub {
	forget($simulator);
	ask("SELECT sms_pause('cpaas', 'not yet')");
	ask("DO \$\$ BEGIN FOR i IN 1 .. 2500 LOOP
			INSERT INTO sms_outbox (gateway, phone, content, priority, send_after)
			VALUES ('cpaas', '0901234567', 'single ' || i % 500, i % 500,
				CASE i % 2 WHEN 0 THEN 'infinity' ELSE now() END);
			COMMIT;
		END LOOP; END \$\$");
	$node->restart;
	worker_pid($node);
	ask("SELECT sms_resume('cpaas')");
	becomes("SELECT count(*) FROM sms_outbox WHERE content LIKE 'single%' AND status = 'sent'", '1250', 'all are sent',
		seconds => 60);
	my @order = map { $_->{content} =~ /^single (\d+)/ ? $1 : () } requests($simulator);
	cmp_ok(scalar(grep { $order[$_] > $order[ $_ - 1 ] } 1 .. $#order), '<=', 2, 'the highest priority first');
};

subtest 'all priorities due now' => sub {
	ask("ALTER SERVER cpaas OPTIONS (SET max_in_flight '64')");
	queue_all_priorities('cpaas', 'now', 'now()');
	is_soon('another gateway', 'shop');
	is_soon('the gateway itself, highest priority', 'cpaas', priority => 32767);
	my $at = ask("SELECT count(*) FROM sms_outbox WHERE content = 'now' AND status = 'sent'");
	my $lowest = ask("SELECT min(priority) FROM sms_outbox WHERE content = 'now' AND status = 'sent'");
	cmp_ok($lowest, '>', 32767 - $at - 1000, 'they go in their order, more or less');
	cmp_ok($at, '>', 100, 'and they go');
	ask("DELETE FROM sms_outbox WHERE content = 'now' AND status = 'queued'");
	is_soon('gone', 'shop');
};

# Some alone, some more than a page of one time and priority; and some that are for later.
subtest 'tried now: all that wait to be tried again' => sub {
	my $count = sub {
		return ask("SELECT count(*) FROM sms_outbox WHERE content = '$_[0]'
			AND (next_attempt_at <= now() OR status = 'sent')");
	};
	ask("SELECT sms_pause('cpaas', 'not yet')");
	ask("INSERT INTO sms_outbox (gateway, phone, content, priority)
			SELECT 'cpaas', '0901234567', 'again', i % 3 FROM generate_series(1, 5000) i;
		INSERT INTO sms_outbox (gateway, phone, content, send_after)
			SELECT 'cpaas', '0901234567', 'tonight', now() + interval '10 min' FROM generate_series(1, 1200) i;
		UPDATE sms_outbox SET next_attempt_at = now() + (5 + id % 20) * interval '1 min'
			WHERE content = 'again' AND id % 2 = 0;
		UPDATE sms_outbox SET next_attempt_at = now() + (5 + 10 * random()) * interval '1 min'
			WHERE content = 'again' AND id % 2 = 1");
	is($count->('again'), '0', 'they wait');
	ask("SELECT sms_resume('cpaas')");
	is_soon('meanwhile', 'shop');
	becomes(sub { $count->('again') }, '5000', 'all are due');
	is($count->('tonight'), '0', 'but for those that are for later');
	ask("DELETE FROM sms_outbox WHERE gateway = 'cpaas' AND status = 'queued'");
};

subtest 'a gateway that is alone has all slots, and gives way' => sub {
	ask("ALTER SERVER cpaas OPTIONS (SET base_url '$hanging->{url}', SET max_in_flight '500', ADD timeout '30s')");
	hang($hanging);
	forget($hanging);
	ask("INSERT INTO sms_outbox (gateway, phone, content)
		SELECT 'cpaas', '0901234567', 'alone' FROM generate_series(1, 1000)");
	becomes(sub { stats($hanging)->{requests} }, '100', 'all of them');
	stays(sub { stats($hanging)->{requests} }, '100', 0.5, '… and no more');
	is_soon('all hang', 'shop');
	cmp_ok(drain_rate('other', 500), '>', 100 / slowness(), 'and another has more than one');
};

$node->stop;
done_testing();
