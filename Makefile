# sms_gateway: "make demo" shows it, "make test" tests it; both install what is
# missing.  "make && make install" is the usual PGXS way, for the server whose
# pg_config is first on the path or named with PG_CONFIG=….

EXTENSION = sms_gateway
EXTENSION_VERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" sms_gateway.control)
MODULE_big = sms_gateway

# Each folder of src is a floor: see src/README.md.  The pure ones know neither PostgreSQL nor libcurl; unit tests link them alone.
PURE = $(wildcard src/text/*.c src/provider/*.c) src/net/pace.c src/net/progress.c src/net/trace.c src/net/url.c
# Not HEADERS, which PGXS installs.
OUR_HEADERS = $(wildcard src/*/*.h)
OBJS = $(patsubst %.c,%.o,$(wildcard src/*.c src/*/*.c))

# The extension's script is joined from its parts, a file a subject; older versions stand as they were shipped.
SQL_PARTS = types providers identity outbox engine guard send follow account texts manage gateways health created
SCRIPT = sql/$(EXTENSION)--$(EXTENSION_VERSION).sql
DATA_built = $(SCRIPT)
DATA = $(filter-out $(SCRIPT),$(wildcard sql/sms_gateway--*.sql))
REGRESS = $(notdir $(basename $(filter-out sql/sms_gateway--%,$(wildcard sql/*.sql))))
ISOLATION = $(notdir $(basename $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --outputdir=test/output_iso

PG_CONFIG ?= pg_config
PG_CPPFLAGS = -D_GNU_SOURCE -Isrc -DSMS_GATEWAY_VERSION='"$(EXTENSION_VERSION)"' -isystem $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)
# -fno-semantic-interposition, -Bsymbolic: other extensions may have functions of the same names.
PG_CFLAGS = -Wall -Wextra -Wno-declaration-after-statement -fno-semantic-interposition $(COPT_WARNINGS)
# PostgreSQL was configured with gcc, and some of its flags are unknown to clang.
ifneq ($(findstring clang,$(CC)),)
PG_CFLAGS += -Wno-ignored-optimization-argument -Wno-unknown-warning-option -Wno-unused-command-line-argument
endif
SHLIB_LINK = -lcurl -ljson-c -lrt -Wl,-Bsymbolic
# Bitcode for the JIT compiler would only slow the build: nothing here is inlined into queries.
override with_llvm = no

EXTRA_CLEAN = test/fuzz/found $(FUZZ_TARGETS:%=test/fuzz/fuzz_%) test/output_iso test/simulator/simulator test/unit/run_unit \
	$(wildcard src/*.bc src/*/*.bc) results regression.diffs regression.out

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(wildcard $(PGXS)),)
include $(PGXS)
else
all install installcheck clean:
	@echo "No PostgreSQL server headers: install postgresql-server-dev-NN, or name PG_CONFIG=…; 'make demo' and 'make test' do it by themselves." >&2; exit 1
endif

$(OBJS): $(OUR_HEADERS) sms_gateway.control

$(SCRIPT): $(wildcard sql/extension/*) src/provider/list.h sms_gateway.control
	sql/extension/join $(SQL_PARTS) >$@

simulator: test/simulator/simulator
test/simulator/simulator: test/simulator/simulator.c $(PURE) $(OUR_HEADERS)
	$(CC) -std=gnu11 -O2 -g -Wall -Wextra $(COPT_WARNINGS) -D_GNU_SOURCE -Isrc -o $@ $< src/text/json.c src/text/phone.c src/text/text.c -lmicrohttpd -ljson-c -lm -pthread

# The picture of src's floors, from its includes; "make test" sees that it is up to date.
floors:
	test/floors --svg >src/floors.svg

# Says how many tests passed, or which failed and why.
unit: test/unit/run_unit
	@log=$$(mktemp); \
	if test/unit/run_unit >$$log 2>&1; then echo "$$(grep -c '^ok ' $$log) unit tests passed"; rm $$log; \
	else grep -vE '^(ok |# ok|1\.\.)' $$log; rm $$log; exit 1; fi
test/unit/run_unit: $(wildcard test/unit/*.c) $(PURE) $(OUR_HEADERS)
	$(CC) -std=gnu11 -O1 -g -Wall -Wextra $(COPT_WARNINGS) -D_GNU_SOURCE -fsanitize=address,undefined -Isrc -o $@ \
		test/unit/*.c $(PURE) -lcmocka -ljson-c -lm

FUZZ_TARGETS = answers requests reports texts phones json dates options scrub
FUZZ_SECONDS ?= 600
test/fuzz/fuzz_%: test/fuzz/fuzz.c $(PURE) $(OUR_HEADERS)
	clang -std=gnu11 -O1 -g -Wall -Wextra $(COPT_WARNINGS) -D_GNU_SOURCE -DTARGET=$* -Wno-unused-function \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -Isrc -o $@ $< $(PURE) -ljson-c -lm
fuzz-build: $(FUZZ_TARGETS:%=test/fuzz/fuzz_%)
# Each target for FUZZ_SECONDS, beginning with the corpus in the repository; what it finds stays in test/fuzz/found.
fuzz:
	@test/setup test
	@$(MAKE) -s fuzz-run
fuzz-run: fuzz-build
	@mkdir -p test/fuzz/found
	@for target in $(FUZZ_TARGETS); do \
		new=$$(mktemp -d); test/fuzz/fuzz_$$target -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -rss_limit_mb=1024 \
			-artifact_prefix=test/fuzz/found/$$target- $$new test/fuzz/corpus/$$target >$$new.log 2>&1 || { tail -40 $$new.log; exit 1; }; \
		echo "$$target: $$(sed -n 's/^Done \([0-9]*\) runs.*/\1 runs/p' $$new.log)"; rm -rf $$new $$new.log; done

demo:
	@test/setup demo
	@test/demo
test:
	@test/setup test
	@test/run

# The server's tests under a PostgreSQL that finds misuse of memory.
test-asan test-valgrind:
	@test/setup test
	@test/instrumented $(@:test-%=%)

# On every supported version of PostgreSQL, in chroots.
test-matrix:
	@test/matrix

bench:
	@test/setup demo
	@test/bench/run

# Beside an earlier revision, in turns: make bench-compare BASE=v0.1.0
bench-compare:
	@test/setup demo
	@test/bench/compare

# What limits cost an INSERT.
bench-limits:
	@test/setup demo
	@test/bench/limits

# Many databases, few processes, idle ones.
bench-databases:
	@test/setup demo
	@test/bench/databases

soak:
	@test/setup test
	@SMS_SOAK_MESSAGES=1000000 SMS_CRASH_MESSAGES=20000 SMS_CRASH_KILLS=25 SMS_PROMOTIONS=10 SMS_DATABASES=135 \
		SMS_LONG_REST=1 TESTS="crash soak promotion operations wire addresses" test/run

.PHONY: demo test test-asan test-valgrind test-matrix bench bench-compare bench-databases bench-limits soak simulator unit floors fuzz fuzz-build fuzz-run
