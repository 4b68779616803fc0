# Clocks that jump: an hour forward, an hour back, while messages wait, retry and are on their way.
# A preloaded library shifts the wall clock of the server and all its processes; the monotonic one goes on, as it
# does when an administrator or a virtual machine sets the clock.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use SmsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $dir = PostgreSQL::Test::Utils::tempdir();
my $shift = "$dir/shift";
sub jump { my ($seconds) = @_; open my $file, '+<', $shift or die; print $file pack('q', $seconds); close $file; return; }
append_to_file($shift, pack('q', 0));
system_or_bail('gcc', '-std=gnu11', '-O2', '-Wall', '-Wextra', '-shared', '-fPIC', '-o', "$dir/clockshift.so", "$FindBin::RealBin/../lib/clockshift.c");
my $simulator = simulator();
my $node;
{
	local %ENV = (%ENV, LD_PRELOAD => "$dir/clockshift.so", CLOCKSHIFT_FILE => $shift);
	$node = server('clock', settings => "autovacuum = off\nrestart_after_crash = on\n");
}
sub ask { my ($sql) = @_; return scalar_of($node, $sql); }
sub queue { my ($content, $more) = @_; return ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0901234567', '$content') RETURNING id"); }
sub is_sent { my ($id) = @_; return ask("SELECT status FROM sms_outbox WHERE id = $id") eq 'sent'; }
sub hours { return ask("SELECT round(extract(epoch FROM clock_timestamp() - '" . gmtime() . " UTC'::timestamptz) / 3600)"); }
gateways($node, $simulator);
worker_pid($node);
is(hours(), 0, 'the right time');
ok(wait_until(sub { is_sent(queue('before')) || 1 }), 'a message');

# --- forward
jump(3600);
is(hours(), 1, 'the clock is an hour ahead');
my $ahead = queue('ahead');
ok(wait_until(sub { is_sent($ahead) }, 5), 'a message goes');
fault($simulator, fault => 'http', value => 503, count => 2, match => '/MainService');
my $retried = queue('retried ahead');
ok(wait_until(sub { is_sent($retried) }, 5), 'one that is retried goes');
ask("SELECT sms_pause('shop', 'over the jump')");
my $waits = queue('waits over the jump');

# --- back, while one is on its way
fault($simulator, fault => 'latency', value => 1500 * patience(), match => '/api/vendor');
my $flies = ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('cpaas', '0901234567', 'flies') RETURNING id");
sleep 0.5;
jump(0);
is(hours(), 0, 'the clock is set back, with one message on its way and one waiting');
ok(wait_until(sub { is_sent($flies) }, 5), 'what was on its way arrives');
no_faults($simulator);
ask("SELECT sms_resume('shop')");
my $behind = queue('behind');
ok(wait_until(sub { is_sent($behind) }, 5), 'a new message goes at once');
fault($simulator, fault => 'http', value => 503, count => 2, match => '/MainService');
my $again = queue('retried behind');
ok(wait_until(sub { is_sent($again) }, 5), 'one that is retried, too');
no_faults($simulator);
ok(!is_sent($waits), 'the one queued in the future waits for its time: it is not lost');
is(ask("SELECT sms_cancel($waits)"), 't', '… can be canceled');
is(ask("SELECT sms_retry($waits)"), 't', '… and queued anew');
ok(wait_until(sub { is_sent($waits) }, 5), '… and goes');

# --- a crash after the clock went back: what had been sent is settled, and no message goes twice
jump(3600);
queue("crash $_") for 1 .. 5;
wait_until(sub { ask("SELECT count(*) FROM sms_outbox WHERE content LIKE 'crash%' AND status = 'sent'") == 5 });
fault($simulator, fault => 'latency', value => 2000 * patience(), match => '/api/vendor');
my $doubtful = ask("INSERT INTO sms_outbox (gateway, phone, content) VALUES ('cpaas', '0901234567', 'doubtful') RETURNING id");
sleep 0.7;
jump(0);
my $victim = worker_pid($node);
kill 'KILL', $victim;
ok(wait_until(sub { !kill(0, $victim) && $node->psql('postgres', 'SELECT 1') == 0 }, 20), 'the server recovers from a crash');
ok(wait_until(sub { ask("SELECT status FROM sms_outbox WHERE id = $doubtful") eq 'uncertain' }, 20), 'the one in doubt is held, though its lease is of the future');
my %times;
$times{ $_->{content} }++ for requests($simulator);
delete $times{$_} for 'retried ahead', 'retried behind';
is(join(',', grep { $times{$_} > 1 } sort keys %times), '', 'nothing went twice');

$node->stop;
done_testing();
