# shellcheck shell=bash
# What the scripts of demo and test share.  Sourced by bash, from the project's root.

set -euo pipefail

say() { if [ -t 1 ]; then printf '\033[1m== %s\033[0m\n' "$*"; else printf '== %s\n' "$*"; fi; }
die() { printf '%s\n' "$*" >&2; exit 1; }

# Debian's client package alone brings pg_config and PGXS, without a header.
is_whole() {
	[ -x "$("$1" --bindir 2>/dev/null)/initdb" ] && [ -f "$("$1" --pgxs)" ] &&
		[ -f "$("$1" --includedir-server)/postgres.h" ]
}

# The pg_configs that Debian's packages have installed.
installed_pg_configs() {
	local candidate
	for candidate in /usr/lib/postgresql/*/bin/pg_config; do
		[ ! -x "$candidate" ] || echo "$candidate"
	done
}

# The pg_config to build with: $PG_CONFIG, else of the newest server that is installed whole.
find_pg_config() {
	local candidate
	for candidate in ${PG_CONFIG:-} $(installed_pg_configs | sort -rV); do
		if is_whole "$candidate"; then
			echo "$candidate"
			return
		fi
		[ "$candidate" != "${PG_CONFIG:-}" ] || return 1
	done
	return 1
}

major_version() { "$1" --version | grep -o '[0-9]*' | head -1; }

# The pg_config of the oldest server that is older than $PG_CONFIG's and supported, if there is one.
find_older_pg_config() {
	local candidate major
	for candidate in $(installed_pg_configs | sort -V); do
		major=$(major_version "$candidate")
		if [ "$major" -ge 15 ] && [ "$major" -lt "$(major_version "$PG_CONFIG")" ] && is_whole "$candidate"; then
			echo "$candidate"
			return
		fi
	done
}

# A directory of our own.  PostgreSQL does not run as root: root hands everything to "postgres".
make_work() {
	work=$(mktemp -d /tmp/sms_gateway.XXXXXX)
	if [ "$(id -u)" = 0 ]; then
		user=postgres
		chown "$user" "$work"
	else
		user=$(id -un)
	fi
}

as_user() {
	if [ "$(id -u)" = 0 ]; then
		# No terminal, no home: nothing of root's reaches the server.
		runuser -u "$user" -- env -u XDG_RUNTIME_DIR HOME="$work" "$@"
	else
		"$@"
	fi
}

# Copies the sources to $work/src, without what was built, and goes there.
copy_sources() {
	mkdir "$work/src"
	tar -cf - --exclude=.git --exclude='*.o' --exclude='*.so' --exclude=tmp_check \
		--exclude=test/simulator/simulator --exclude=test/unit/run_unit . | tar -xf - -C "$work/src"
	[ "$(id -u)" != 0 ] || chown -R "$user" "$work/src"
	cd "$work/src"
}

# Builds, and installs below $work/stage instead of into the system.  An instrumented server is ours alone: into that.
stage() {
	as_user make -s -j"$(nproc)" PG_CONFIG="$PG_CONFIG" all simulator
	if [ -n "${INSTRUMENTED:-}" ]; then
		make -s PG_CONFIG="$PG_CONFIG" install >/dev/null
		# A test adds a version there.
		[ "$(id -u)" != 0 ] || chown -R "$user" "$("$PG_CONFIG" --sharedir)/extension"
	else
		as_user make -s PG_CONFIG="$PG_CONFIG" install DESTDIR="$work/stage" >/dev/null
	fi
}

# Builds a copy of the sources in $work/$1 for the server of pg_config $2, and installs it below $work/$1/stage; the
# rest goes to make.
stage_copy() {
	local copy=$work/$1 config=$2
	shift 2
	as_user cp -r "$work/src" "$copy"
	as_user make -s -C "$copy" PG_CONFIG="$config" clean >/dev/null
	as_user make -s -C "$copy" -j"$(nproc)" PG_CONFIG="$config" "$@" all
	as_user make -s -C "$copy" PG_CONFIG="$config" install DESTDIR="$copy/stage" >/dev/null
}

# Settings with which a server takes the extension from $1, where it was installed.
stage_settings() {
	local stage=$1 libdir sharedir
	libdir=$("$PG_CONFIG" --pkglibdir)
	sharedir=$("$PG_CONFIG" --sharedir)
	if [ -z "${INSTRUMENTED:-}" ]; then
		if "$PG_CONFIG" --version | grep -qE 'PostgreSQL 1[5-7]'; then
			echo "extension_destdir = '$stage'"	# Debian's
		else
			echo "extension_control_path = '$stage$sharedir:\$system'"
		fi
		echo "dynamic_library_path = '$stage$libdir:\$libdir'"
	fi
	echo "shared_preload_libraries = 'sms_gateway'"
}

# Makes $work/memcheck/bin, where the programs of $1 are, with the server under memcheck; its suppressions are in
# $MEMCHECK_SUPPRESSIONS.
memcheck_bin() {
	local dir=$work/memcheck program
	export MEMCHECK_BIN=$1 MEMCHECK_LOGS=$dir/logs
	export PG_TEST_TIMEOUT_DEFAULT=1800	# s, for PostgreSQL's test modules
	as_user mkdir -p "$dir/bin" "$dir/logs"
	as_user ln -s "$1"/* "$dir/bin/"
	for program in postgres pg_ctl; do
		as_user cp --remove-destination test/lib/memcheck "$dir/bin/$program"
	done
}

# What memcheck found, in the logs of a directory: every misuse, and memory that was lost on a way through our code
# ($work/src/src; a process as a whole is on a way through its main function).  What a memory context has goes with it.
memcheck_findings() {
	perl -0777 -ne 'for (/FOUND-BEGIN(.*?)FOUND-END/sg) {
		print if !/definitely lost/ || (m{/src/src/(?!worker/)} && !m{/mcxt[.]c:});
	}' "$1"/*.log
}
