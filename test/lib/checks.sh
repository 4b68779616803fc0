# shellcheck shell=bash
# What is checked without a server: format, warnings, scripts, unit tests, parsers.  Sourced by test/run, in its copy of
# the sources.
# shellcheck disable=SC2034,SC2154	# variables of test/run

if step format "Format"; then
	mapfile -t sources < <(find src test -name '*.[ch]')
	if clang-format --version | grep -q 'version 14\.'; then
		as_user clang-format --dry-run -Werror "${sources[@]}"
		echo "clang-format has nothing to say"
	else
		echo "NOT CHECKED: formats differ between versions of clang-format, and this is not 14"
	fi
	! grep -rnE '[[:space:]]+$' --include='*.[ch]' --include='*.sql' --include='*.pl' --include='*.pm' src sql test ||
		die "There is white space at the end of lines."

	# Databases of any encoding read the script and show the messages.
	! grep -nP '[^\x00-\x7F]' sql/sms_gateway--*.sql sql/extension/* src/provider/list.h sms_gateway.control ||
		die "The extension's script is not ASCII."
	! grep -rnP --include='*.[ch]' '"[^"]*[^\x00-\x7F][^"]*"' src |
		grep -vP '^[^:]*:\d+:\s*(/\*|\*).*\*/$' || die "A text in C is not ASCII."
fi

if step version "One version everywhere"; then
	version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" sms_gateway.control)
	[ "$(grep -c "\"version\": \"$version\"" META.json)" = 2 ] || die "META.json does not say $version twice"
	grep -q "^## $version" CHANGELOG.md || die "CHANGELOG.md does not know $version"
	echo "$version"
fi

if step warnings "Warnings as errors: clang, then gcc"; then
	as_user make -s -j"$(nproc)" PG_CONFIG="$PG_CONFIG" CC=clang COPT_WARNINGS=-Werror all simulator
	as_user make -s PG_CONFIG="$PG_CONFIG" clean >/dev/null
	rm -f test/simulator/simulator
	as_user make -s -j"$(nproc)" PG_CONFIG="$PG_CONFIG" COPT_WARNINGS=-Werror all simulator
	echo "none"
fi

if step house "The house rules of src"; then
	test/floors
	test/floors --svg | diff -q - src/floors.svg >/dev/null ||
		die "src/floors.svg is not what src looks like: make floors draws it anew."
fi

if step cppcheck "cppcheck"; then
	if cppcheck --version | grep -q ' 2\.10'; then
		as_user cppcheck --quiet --error-exitcode=1 --std=c11 --inline-suppr \
			--enable=warning,performance,portability --suppress='*:/usr/*' --suppress=missingInclude \
			-Isrc -D_GNU_SOURCE \
			'-DPG_FUNCTION_INFO_V1(...)=' -DPG_MODULE_MAGIC= '-Dforeach(a,b)=for(a=0;a;)' \
			'-Ddlist_foreach(a,b)=while(1)' '-Ddlist_foreach_modify(a,b)=while(1)' \
			'-Ddlist_reverse_foreach(a,b)=while(1)' src test/simulator test/unit
		echo "has nothing to say"
	else
		echo "NOT CHECKED: versions of cppcheck read PostgreSQL's macros differently, and this is not 2.10"
	fi
fi

if step scripts "Scripts: shellcheck, lines of at most 120 columns, no test that only sleeps"; then
	# Shell scripts are known by their first lines, as most have no suffix, wherever in the tree they are.
	mapfile -t shell < <(grep -rlIE '^#!/bin/(ba)?sh' . | sed 's|^\./||'; printf '%s\n' test/lib/*.sh)
	mapfile -t perl < <(grep -rlI '^#!/usr/bin/perl' test; find test -name '*.pl' -o -name '*.pm')
	if shellcheck --version | grep -q '^version: 0\.9\.'; then
		shellcheck -x "${shell[@]}"
		echo "shellcheck has nothing to say of ${#shell[@]} scripts"
	else
		echo "NOT CHECKED: each version of shellcheck finds something else, and this is not 0.9"
	fi

	# A tab is four columns wide, as clang-format has it.
	perl -CSD -ne '
		chomp(my $line = $_);
		1 while $line =~ s/^(.*?)\t/$1 . " " x (4 - length($1) % 4)/e;
		$wide = print "$ARGV:$.: $_" if length $line > 120;
		close ARGV if eof;
		END { $? = 1 if $wide }' "${shell[@]}" "${perl[@]}" || die "These lines have more than 120 columns."

	# A test that sleeps and hopes is slow where the machine is fast, and fails where it is slow: tests poll, with
	# becomes() and stays().  Where the passing of time is what is tested, the line says so: "# time itself: why".
	! grep -nE '^[^#]*\bsleep\b' test/t/*.pl | grep -vE 'use Time::HiRes|# time itself: .' ||
		die 'These lines sleep, and do not say why ("# time itself: …").'
fi

if step unit "Unit tests"; then
	as_user make -s PG_CONFIG="$PG_CONFIG" COPT_WARNINGS=-Werror unit 2>&1 | tee "$work/unit.log" || {
		# cmocka tells of each test of a group, and of those that failed once more at the group's end.
		mapfile -t failed < <(sed -n 's/^\[  FAILED  \] .*\b\(test_[a-z0-9_]*\)$/unit: \1/p' "$work/unit.log" | sort -u)
		exit 1
	}
fi

if step fuzz "Fuzzing, ${FUZZ_SECONDS:-5} s for each parser"; then
	as_user make -s -j"$(nproc)" PG_CONFIG="$PG_CONFIG" COPT_WARNINGS=-Werror fuzz-build
	as_user make -s PG_CONFIG="$PG_CONFIG" FUZZ_SECONDS="${FUZZ_SECONDS:-5}" fuzz-run || {
		# What was found is kept where "make fuzz" keeps it, and repeats the fault.
		mkdir -p "$project/test/fuzz/found"
		for found in test/fuzz/found/*-*; do
			[ -f "$found" ] || continue
			cp "$found" "$project/test/fuzz/found/"
			parser=$(basename "${found%%-*}")
			failed+=("fuzz: $parser, with $found")
			again="make test/fuzz/fuzz_$parser && test/fuzz/fuzz_$parser $found"
		done
		exit 1
	}
fi
