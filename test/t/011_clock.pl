# Clocks that jump: an hour forward, an hour back, while messages wait, retry and are on their way.
# A preloaded library shifts the wall clock of the server and all its processes; the monotonic one goes on, as it
# does when an administrator or a virtual machine sets the clock.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $shift = PostgreSQL::Test::Utils::tempdir() . '/shift';
append_to_file($shift, pack('q', 0));

# Sets the server's clock to so many seconds after the right time.
sub jump
{
	my ($seconds) = @_;
	# The file is mapped by every process: it is written in place.
	open my $file, '+<', $shift or die "$shift: $!";
	print $file pack('q', $seconds);
	close $file;
	return;
}

my $simulator = simulator();
my $node;
{
	# This test itself, the simulator too, keep the right time.
	local %ENV = (%ENV, LD_PRELOAD => preloadable('clockshift'), CLOCKSHIFT_FILE => $shift);
	$node = server('clock', settings => "autovacuum = off\nrestart_after_crash = on\n");
}
gateways($node, $simulator);
worker_pid($node);

# How many hours the server's clock is ahead.
sub hours
{
	my $right = gmtime() . ' UTC';
	return ask("SELECT round(extract(epoch FROM clock_timestamp() - '$right'::timestamptz) / 3600)");
}

sub is_sent { my ($content, $name) = @_; return becomes(sub { status_of($content) }, 'sent', $name, seconds => 5); }

# The next two requests to the gateway "shop" get an answer after which a message is tried again.
sub fail_twice { fault($simulator, fault => 'http', value => 503, count => 2, match => '/MainService'); return; }

# Sends a message that stays on its way through the gateway "cpaas" for so long.
sub stays_on_its_way
{
	my ($content, $ms) = @_;
	fault($simulator, fault => 'latency', value => $ms * patience(), match => '/api/vendor');
	queue_text('cpaas', $content);
	becomes(sub { times_received($simulator, $content) }, 1, "the message \"$content\" is on its way");
	return;
}

my $waits;

subtest 'while the clock is right' => sub {
	is(hours(), 0, 'the right time');
	queue_text('shop', 'before');
	is_sent('before', 'a message');
};

subtest 'forward by an hour' => sub {
	jump(3600);
	is(hours(), 1, 'the clock is an hour ahead');
	queue_text('shop', 'ahead');
	is_sent('ahead', 'a message goes');
	fail_twice();
	queue_text('shop', 'retried ahead');
	is_sent('retried ahead', 'one that is retried goes');
};

subtest 'back by an hour, while one message waits and one is on its way' => sub {
	ask("SELECT sms_pause('shop', 'over the jump')");
	$waits = queue_text('shop', 'waits over the jump');
	stays_on_its_way('flies', 1500);
	jump(0);
	is(hours(), 0, 'the clock is set back, with one message on its way and one waiting');
	is_sent('flies', 'what was on its way arrives');
	no_faults($simulator);

	ask("SELECT sms_resume('shop')");
	queue_text('shop', 'behind');
	is_sent('behind', 'a new message goes at once');
	fail_twice();
	queue_text('shop', 'retried behind');
	is_sent('retried behind', 'one that is retried, too');
	no_faults($simulator);
};

subtest 'a message queued in the future waits for its time, unless somebody decides otherwise' => sub {
	is(status_of('waits over the jump'), 'queued',
		'the one queued in the future waits for its time: it is not lost');
	is(ask("SELECT sms_cancel($waits)"), 't', '… can be canceled');
	is(ask("SELECT sms_retry($waits)"), 't', '… and queued anew');
	is_sent('waits over the jump', '… and goes');
};

subtest 'a crash after the clock went back: what had been sent is settled, and no message goes twice' => sub {
	jump(3600);
	queue_text('shop', "crash $_") for 1 .. 5;
	becomes("SELECT count(*) FROM sms_outbox WHERE content LIKE 'crash%' AND status = 'sent'", 5,
		'messages go, an hour ahead once more');
	stays_on_its_way('doubtful', 2000);
	jump(0);
	my $victim = worker_pid($node);
	kill 'KILL', $victim;
	ok(wait_until(sub { !kill(0, $victim) && $node->psql('postgres', 'SELECT 1') == 0 }, 20),
		'the server recovers from a crash');
	becomes(sub { status_of('doubtful') }, 'uncertain',
		'the one in doubt is held, though its lease is of the future', seconds => 20);

	my %times;
	$times{ $_->{content} }++ for requests($simulator);
	delete $times{$_} for 'retried ahead', 'retried behind';
	is(join(',', grep { $times{$_} > 1 } sort keys %times), '', 'nothing went twice');
};

$node->stop;
done_testing();
