# shellcheck shell=bash disable=SC2154 # deploy/services sets what is not set here
# Installs the Debian packages without their system-wide daemons: we only want the programs.

# The languages in which tests let PostgreSQL speak: errors are never told apart by their text.
locales=(de_DE ja_JP)

missing_packages() {
  postgres_bin >/dev/null || echo postgresql
  rabbitmq_sbin >/dev/null && command -v epmd >/dev/null || echo rabbitmq-server
  faketime_library >/dev/null || echo faketime
  eatmydata_library >/dev/null || echo libeatmydata1
  command -v node >/dev/null || echo nodejs # generators of clients, which tests run
  command -v npm >/dev/null || echo npm
  [[ -x /usr/sbin/pgbouncer ]] || command -v pgbouncer >/dev/null || echo pgbouncer
  command -v node >/dev/null || echo nodejs
  command -v npm >/dev/null || echo npm
  [[ -e /usr/share/i18n/locales/ja_JP ]] || echo locales
}

# With it the tests shift the wall clock of a process that runs.
faketime_library() { first_readable /usr/lib/*/faketime/libfaketimeMT.so.1; }

# With it a process does not wait for the disk.
eatmydata_library() { first_readable /usr/lib/*/libeatmydata.so; }

first_readable() {
  local found
  for found in "$@"; do
    if [[ -r $found ]]; then
      echo "$found"
      return
    fi
  done
  return 1
}

missing_locales() {
  local name known
  known=$(locale -a)
  for name in "${locales[@]}"; do
    grep -qix "$name.utf-\?8" <<<"$known" || echo "$name"
  done
}

install() {
  local -a missing unmade
  mapfile -t missing < <(missing_packages)
  mapfile -t unmade < <(missing_locales)
  if ((${#missing[@]} + ${#unmade[@]} == 0)); then
    say "PostgreSQL ($(postgres_bin)), RabbitMQ ($(rabbitmq_sbin)) and libfaketime ($(faketime_library)) are installed"
    return
  fi
  command -v apt-get >/dev/null || die "install PostgreSQL 15 or newer, RabbitMQ 3.10 or newer and libfaketime (missing: ${missing[*]})"
  if ((EUID != 0)); then
    sudo -n true 2>/dev/null || die "as root, run: deploy/services install (it installs ${missing[*]}${unmade:+ and makes the locales ${unmade[*]}})"
    exec sudo -n "$here/services" install
  fi

  if ((${#missing[@]} > 0)); then install_packages; fi
  local name
  for name in "${unmade[@]}"; do
    localedef -i "$name" -f UTF-8 "$name.UTF-8"
  done
}

# Uses $missing.
install_packages() {
  export DEBIAN_FRONTEND=noninteractive
  forbid_daemons
  apt-get update -qq >&2 || say "apt-get update failed; trying with the lists that are there"
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
  # The packages also ask for a start at every boot. Only what came just now: another's PostgreSQL stays as it is.
  local name
  for name in "${missing[@]}"; do
    update-rc.d "$name" disable >/dev/null 2>&1 || true
  done
  if [[ " ${missing[*]} " == *" rabbitmq-server "* ]]; then
    # RabbitMQ brings Erlang's name server, which has units of its own.
    systemctl disable epmd.service epmd.socket >/dev/null 2>&1 || true
  fi
  mapfile -t missing < <(missing_packages)
  ((${#missing[@]} == 0)) || die "still missing after apt-get install: ${missing[*]} (PostgreSQL 15 or newer is needed)"
}

# Debian starts a daemon as soon as it is installed unless policy-rc.d says no. What was there is put back.
forbid_daemons() {
  policy=/usr/sbin/policy-rc.d
  if [[ -x $policy ]]; then
    local code=0
    "$policy" rabbitmq-server start >/dev/null 2>&1 || code=$?
    if ((code == 101)); then return; fi # it says no already
  fi
  kept=
  if [[ -e $policy || -L $policy ]]; then
    kept=$(mktemp -u "$policy.hookline-XXXXXX")
    mv "$policy" "$kept"
  fi
  trap restore_policy EXIT
  trap 'exit 130' INT TERM HUP
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
}

restore_policy() {
  rm -f "$policy"
  if [[ -n $kept ]]; then mv "$kept" "$policy"; fi
}
