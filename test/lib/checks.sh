# What is checked without a server: format, warnings, unit tests, parsers.  Sourced by test/run, in its copy of the sources.

say "Format"
if clang-format --version | grep -q 'version 14\.'; then
	as_user clang-format --dry-run -Werror src/*.[ch] test/*/*.[ch]
	echo "clang-format has nothing to say"
else
	echo "NOT CHECKED: formats differ between versions of clang-format, and this is not 14"
fi
! grep -rnE '[[:space:]]+$' --include='*.[ch]' --include='*.sql' --include='*.pl' --include='*.pm' src sql test ||
	die "There is white space at the end of lines."

# Databases of any encoding read the script and show the messages.
! grep -nP '[^\x00-\x7F]' sql/sms_gateway--*.sql sms_gateway.control || die "The extension's script is not ASCII."
! grep -nP '"[^"]*[^\x00-\x7F][^"]*"' src/*.[ch] | grep -vP '^[^:]*:\d+:\s*(/\*|\*).*\*/$' || die "A text in C is not ASCII."

say "One version everywhere"
version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" sms_gateway.control)
[ -f "sql/sms_gateway--$version.sql" ] || die "sql/sms_gateway--$version.sql is missing"
[ "$(grep -c "\"version\": \"$version\"" META.json)" = 2 ] || die "META.json does not say $version twice"
grep -q "^## $version" CHANGELOG.md || die "CHANGELOG.md does not know $version"
echo "$version"

say "Warnings as errors: clang, then gcc"
as_user make -s -j"$(nproc)" PG_CONFIG="$PG_CONFIG" CC=clang COPT_WARNINGS=-Werror all simulator
as_user make -s PG_CONFIG="$PG_CONFIG" clean >/dev/null
rm -f test/simulator/simulator
as_user make -s -j"$(nproc)" PG_CONFIG="$PG_CONFIG" COPT_WARNINGS=-Werror all simulator
echo "none"

say "cppcheck"
if cppcheck --version | grep -q ' 2\.10'; then
	as_user cppcheck --quiet --error-exitcode=1 --std=c11 --inline-suppr \
		--enable=warning,performance,portability --suppress='*:/usr/*' --suppress=missingInclude \
		--suppressions-list=test/lib/cppcheck.txt -Isrc -D_GNU_SOURCE \
		'-DPG_FUNCTION_INFO_V1(x)=' -DPG_MODULE_MAGIC= '-Dforeach(a,b)=for(a=0;a;)' '-Ddlist_foreach(a,b)=while(1)' \
		'-Ddlist_foreach_modify(a,b)=while(1)' '-Ddlist_reverse_foreach(a,b)=while(1)' src test/simulator test/unit
	echo "has nothing to say"
else
	echo "NOT CHECKED: versions of cppcheck read PostgreSQL's macros differently, and this is not 2.10"
fi

say "Unit tests"
as_user make -s PG_CONFIG="$PG_CONFIG" COPT_WARNINGS=-Werror unit 2>&1

[ -z "${SHORT:-}" ] || return 0
say "Fuzzing, ${FUZZ_SECONDS:-5} s for each parser"
as_user make -s -j"$(nproc)" PG_CONFIG="$PG_CONFIG" COPT_WARNINGS=-Werror fuzz-build
as_user make -s PG_CONFIG="$PG_CONFIG" FUZZ_SECONDS="${FUZZ_SECONDS:-5}" fuzz-run
