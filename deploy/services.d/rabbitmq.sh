# shellcheck shell=bash disable=SC2154 # deploy/services sets what is not set here
# RabbitMQ for one folder. Uses $here, $dir, $node, $amqp_port, $amqp_password, $dist_port and $epmd_port.

# The package's own scripts. The ones in the PATH switch to the system's user and settings. The answer is a path
# inside the root folder that HOOKLINE_SERVICES_RABBITMQ names, if it is set.
rabbitmq_sbin() {
  local root=${HOOKLINE_SERVICES_RABBITMQ-} found
  found=$(printf '%s\n' "$root"/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin | sort -V | tail -n 1)
  [[ -x $found/rabbitmq-server ]] && echo "${found#"$root"}"
}

# Runs a command in that root folder, with /proc, our folder and that of temporary files (tests have certificates there)
# mounted for this command alone: no mount outlives it.
rabbitmq_within() {
  within_root=()
  [[ -n ${HOOKLINE_SERVICES_RABBITMQ-} ]] || return 0
  # On one line: /bin/sh of rabbitmqctl's script does not know how bash quotes a line break.
  # shellcheck disable=SC2016 # the inner shell expands its own arguments
  local enter='root=$0; for f in /proc "$1" "$2"; do mkdir -p "$root$f" && mount --rbind "$f" "$root$f" || exit; done;'
  # shellcheck disable=SC2016
  enter+=' shift 2; exec chroot "$root" "$@"'
  within_root=(unshare --mount --propagation private sh -c "$enter"
    "$HOOKLINE_SERVICES_RABBITMQ" "$(realpath "${TMPDIR:-/tmp}")" "$dir")
}

# What the server and rabbitmqctl must agree on, and nothing from the caller's environment.
rabbitmq_environment() {
  local home=$dir/rabbitmq
  environment=(
    PATH="$PATH" LANG=C.UTF-8 HOME="$home" # the home holds the cookie that lets rabbitmqctl in
    ERL_EPMD_PORT="$epmd_port" ERL_EPMD_ADDRESS=127.0.0.1
    RABBITMQ_NODENAME="$node" RABBITMQ_CONF_ENV_FILE=/dev/null
    RABBITMQ_MNESIA_BASE="$home/mnesia" RABBITMQ_LOG_BASE="$home/log"
    RABBITMQ_ENABLED_PLUGINS_FILE="$home/enabled_plugins"
    RABBITMQ_CTL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
  )
}

rabbitmq_write_files() {
  local home=$dir/rabbitmq
  umask 077
  mkdir -p "$home"
  echo '[].' >"$home/enabled_plugins"
  cp "$here/rabbitmq/advanced.config" "$home/advanced.config"
  if [[ ! -e $home/.erlang.cookie ]]; then
    secret >"$home/.erlang.cookie"
    chmod 400 "$home/.erlang.cookie" # Erlang refuses any other mode
  fi
  # The user is made at the first boot: quicker than rabbitmqctl, which takes a second or two for each call.
  cat >"$home/rabbitmq.conf" <<CONF
default_user = hookline
default_pass = $amqp_password
default_user_tags.administrator = true
disk_free_limit.absolute = 50MB
CONF
  {
    echo '#!/bin/sh'
    printf 'exec env -i'
    printf ' %q' "${environment[@]}" "${within_root[@]}" "$sbin/rabbitmqctl"
    printf ' "$@"\n'
  } >"$dir/rabbitmqctl"
  {
    echo '#!/bin/sh'
    echo '# Evaluates its argument in the server, as Erlang, and prints the value. rabbitmqctl boots a virtual machine for that.'
    # shellcheck disable=SC2016 # the script expands its own argument
    printf 'answer=$(printf "%%s\\n" "$1" | env -i'
    printf ' %q' "${environment[@]}" "${within_root[@]}" erl_call -n "$node" -timeout 60
    echo ' -h "hookline-eval-$$" -e) || exit' # two with one name do not connect
    # erl_call succeeds also where the expression fails.
    # shellcheck disable=SC2016
    echo 'case $answer in "{ok,"*) answer=${answer#"{ok, "}; echo "${answer%\}}" ;; *) echo "$answer" >&2; exit 1 ;; esac'
  } >"$dir/rabbitmq-eval"
  chmod 700 "$dir/rabbitmqctl" "$dir/rabbitmq-eval"
}

rabbitmq_start() {
  local sbin home=$dir/rabbitmq
  local -a environment within_root
  sbin=$(rabbitmq_sbin) || die "RabbitMQ is not installed; run: deploy/services install"
  # Its own name server: a shared one would outlive us, and listens on every address.
  rabbitmq_adopt_epmd
  if gone "$dir/epmd.pid"; then
    keep_or_move epmd_port
    daemon "$dir/epmd.pid" "$dir/log/epmd.log" env -i PATH="$PATH" epmd -address 127.0.0.1 -port "$epmd_port"
  fi
  gone "$dir/rabbitmq.pid" || return 0
  keep_or_move amqp_port
  keep_or_move dist_port
  rabbitmq_environment
  rabbitmq_within
  (rabbitmq_write_files)
  rm -f "$home/pid"
  # RabbitMQ has no setting for this. Another root folder has no such library.
  local -a careless=()
  if [[ ${HOOKLINE_SERVICES_FSYNC-} == off && -z ${HOOKLINE_SERVICES_RABBITMQ-} ]]; then
    careless=(LD_PRELOAD="$(eatmydata_library)")
  fi
  # RUNNING_UNDER_SYSTEMD makes the script become the Erlang VM instead of waiting for it as its parent.
  # Schedulers stay unbound: bound ones suit a machine that runs nothing else.
  daemon "$dir/rabbitmq.pid" "$dir/log/rabbitmq.log" env -i "${environment[@]}" "${careless[@]}" \
    RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$amqp_port" RABBITMQ_DIST_PORT="$dist_port" \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}' \
    RABBITMQ_CONFIG_FILE="$home/rabbitmq.conf" RABBITMQ_ADVANCED_CONFIG_FILE="$home/advanced.config" \
    RABBITMQ_SCHEDULER_BIND_TYPE=u RABBITMQ_PID_FILE="$home/pid" RABBITMQ_LOGS=- RUNNING_UNDER_SYSTEMD=true \
    "${within_root[@]}" "$sbin/rabbitmq-server"
}

# An AMQP header is answered with a frame of type 1 (connection.start).
rabbitmq_answers() {
  local first
  # shellcheck disable=SC2016 # the inner shell expands its own arguments
  first=$(timeout 3 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1" && printf "AMQP\0\0\11\1" >&3 && head -c 1 <&3 | od -An -tx1' \
    - "$amqp_port" 2>/dev/null) || return 1
  [[ ${first// /} == 01 ]]
}

# RabbitMQ's word for its pid: a package whose script stays as the VM's parent is then no problem.
rabbitmq_note_pid() {
  local pid
  pid=$(<"$dir/rabbitmq/pid")
  record "$pid" "$dir/rabbitmq.pid"
}

# RabbitMQ and rabbitmqctl start another name server when ours has died. Its environment names our folder.
rabbitmq_adopt_epmd() {
  local process name
  gone "$dir/epmd.pid" || return 0
  for process in /proc/[0-9]*; do
    { read -r name <"$process/comm"; } 2>/dev/null || continue
    if [[ $name == epmd ]] && grep -qzxF "HOME=$dir/rabbitmq" "$process/environ" 2>/dev/null; then
      record "${process#/proc/}" "$dir/epmd.pid" || true
    fi
  done
}

rabbitmq_stop() {
  # One that has not come up has nothing to write, and may be deaf to SIGTERM until it has.
  local seconds=5
  if ! gone "$dir/rabbitmq.pid" && rabbitmq_answers; then seconds=30; fi
  end "$dir/rabbitmq.pid" TERM "$seconds"
  rabbitmq_adopt_epmd
  end "$dir/epmd.pid" TERM 5
}
