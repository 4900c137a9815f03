# shellcheck shell=bash disable=SC2154 # deploy/services sets what is not set here
# PostgreSQL for one folder. Uses $dir, $postgres_port, $postgres_password and $postgres_admin_password.

# The folder that HOOKLINE_SERVICES_POSTGRES names, or that of the newest installed PostgreSQL, from 15 on.
postgres_bin() {
  local found=${HOOKLINE_SERVICES_POSTGRES-}/postgres
  if [[ -z ${HOOKLINE_SERVICES_POSTGRES-} ]]; then
    found=$(printf '%s\n' /usr/lib/postgresql/*/bin/postgres | awk -F/ '$5 >= 15' | sort -t/ -k5,5n | tail -n 1)
  fi
  [[ -x $found ]] && dirname "$found"
}

# PostgreSQL refuses to run as root.
postgres_user() {
  if getent passwd postgres >/dev/null; then echo postgres; else echo nobody; fi
}
as_postgres() {
  if ((EUID == 0)); then
    setpriv --reuid="$(postgres_user)" --regid="$(id -g "$(postgres_user)")" --init-groups -- "$@"
  else
    "$@"
  fi
}

postgres_data() { readlink -f "$dir/postgres"; }

# The folder for its data: in $dir, or, where PostgreSQL's user cannot get there (below a home folder, say),
# a folder of its own that $dir/postgres points to.
postgres_make_home() {
  local home=$dir/postgres
  if [[ -L $home && ! -d $home ]]; then rm "$home"; fi # the folder was in /tmp, and that has been emptied
  if [[ -d $home ]]; then return; fi
  mkdir -m 700 "$home"
  ((EUID == 0)) || return 0
  chown "$(postgres_user)": "$home"
  if ! as_postgres test -w "$home"; then
    rmdir "$home"
    ln -s "$(mktemp -d "${TMPDIR:-/tmp}/hookline-postgres-XXXXXX")" "$home"
    chown "$(postgres_user)": "$(postgres_data)"
  fi
}

# Whole or not at all: an initdb that was interrupted leaves only data.new. Run it in a shell of its own, with -e.
postgres_init() {
  local home
  home=$(postgres_data)
  rm -rf "$home/data.new"
  # Hookline's user is an ordinary one, as in production; PostgreSQL's own superuser is there for tests.
  (umask 077 && echo "$postgres_admin_password" >"$home/password")
  if ((EUID == 0)); then chown "$(postgres_user)": "$home/password"; fi
  as_postgres "$bin/initdb" -D "$home/data.new" --username=postgres --pwfile="$home/password" \
    --auth=scram-sha-256 --encoding=UTF8 --locale=C
  rm "$home/password"
  as_postgres "$bin/postgres" --single -D "$home/data.new" postgres <<SQL
CREATE ROLE hookline LOGIN CREATEDB PASSWORD '$postgres_password';
CREATE DATABASE hookline OWNER hookline;
SQL
  mv "$home/data.new" "$home/data"
}

# Children of a server that was killed outlive it for a moment and hold its shared memory.
postgres_no_orphans() {
  local cwd
  for cwd in /proc/[0-9]*/cwd; do
    if [[ $(readlink "$cwd" 2>/dev/null) == "$1" ]]; then return 1; fi
  done
}

postgres_start() {
  gone "$dir/postgres.pid" || return 0
  local bin home sockets
  bin=$(postgres_bin) || die "PostgreSQL 15 or newer is not installed; run: deploy/services install"
  as_postgres test -x "$bin/postgres" || die "the user $(postgres_user) cannot run $bin/postgres: make the folder readable"
  postgres_make_home
  home=$(postgres_data)
  if [[ ! -d $home/data ]]; then
    (set -e && postgres_init) >>"$dir/log/postgres.log" 2>&1 &
    wait $! || {
      show_log "$dir/log/postgres.log"
      exit 1
    }
  fi
  local version
  version=$(<"$home/data/PG_VERSION")
  if [[ $("$bin/postgres" --version) != "postgres (PostgreSQL) $version".* ]]; then
    bin=/usr/lib/postgresql/$version/bin
    [[ -x $bin/postgres ]] || die "the data in $dir is PostgreSQL $version's, which is not installed; deploy/services clean removes it"
  fi
  within 15 postgres_no_orphans "$home/data" || die "processes of an earlier PostgreSQL still use $home/data"
  # Without a process in its folder the lock files are a dead server's, whatever process has their pid now.
  rm -f "$home/data/postmaster.pid" "$home"/.s.PGSQL.*
  keep_or_move postgres_port
  sockets=$home # a socket's whole path may be 107 bytes long
  if ((${#home} + 20 > 107)); then sockets=; fi
  # One line of settings each time it starts, so that a folder from last month has today's.
  local -a run=("$bin/postgres" -D "$home/data" -p "$postgres_port"
    -c listen_addresses=127.0.0.1 -c unix_socket_directories="$sockets"
    -c max_connections=300 -c shared_buffers=128MB -c fsync="${HOOKLINE_SERVICES_FSYNC:-on}" -c synchronous_commit=on
    -c timezone=UTC -c log_timezone=UTC -c logging_collector=off)
  if [[ -n $(postgres_clock) ]]; then
    # A new folder has the true time. Timeouts are true in any case: they go by the monotonic clock.
    if [[ ! -s $(postgres_clock) ]]; then echo "+0" >"$(postgres_clock)"; fi
    chmod 644 "$(postgres_clock)"
    # For PostgreSQL alone: what another user has run under libfaketime leaves semaphores that it cannot open.
    run=(env LD_PRELOAD="$(faketime_library)" FAKETIME_TIMESTAMP_FILE="$(postgres_clock)" FAKETIME_NO_CACHE=1
      DONT_FAKE_MONOTONIC=1 "${run[@]}")
  fi
  if ((EUID == 0)); then
    run=(setpriv --reuid="$(postgres_user)" --regid="$(id -g "$(postgres_user)")" --init-groups -- "${run[@]}")
  fi
  daemon "$dir/postgres.pid" "$dir/log/postgres.log" env -i PATH="$PATH" LANG=C "${run[@]}"
}

# postgres_clock: the file with the seconds that its clock is ahead, such as -3600, where HOOKLINE_SERVICES_CLOCK=file asks
# for one and libfaketime is installed. It may be changed while PostgreSQL runs.
postgres_clock() {
  if [[ ${HOOKLINE_SERVICES_CLOCK-} == file ]] && faketime_library >/dev/null; then
    echo "$(postgres_data)/clock"
  fi
}

postgres_answers() {
  local bin
  bin=$(postgres_bin)
  PGPASSWORD=$postgres_password PGCONNECT_TIMEOUT=3 timeout 5 "$bin/psql" -XqAt -h 127.0.0.1 -p "$postgres_port" \
    -U hookline -d hookline -c 'SELECT 1' >/dev/null 2>&1
}

# SIGINT is what `pg_ctl stop -m fast` sends: sessions are cut off, the data is written, and it ends.
postgres_stop() { end "$dir/postgres.pid" INT 30; }

postgres_remove_data() {
  if [[ -L $dir/postgres ]]; then rm -rf "$(postgres_data)"; fi
}
