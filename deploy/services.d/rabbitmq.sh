# shellcheck shell=bash disable=SC2154 # deploy/services sets what is not set here
# RabbitMQ for one folder: a node, or a cluster of three. Uses $here, $dir, $node, $amqp_port, $amqp_password, $dist_port
# and $epmd_port; of the other nodes of a cluster $amqp_port_2, $dist_port_2 and so on.

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
    RABBITMQ_NODENAME="$(rabbitmq_node "${1-}")" RABBITMQ_CONF_ENV_FILE=/dev/null
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
  # Another node of a cluster gets all of this from the first one, which it joins at its first boot.
  cat >"$home/rabbitmq.conf" <<CONF
default_user = hookline
default_pass = $amqp_password
default_user_tags.administrator = true
disk_free_limit.absolute = 50MB
CONF
  cat >"$home/joining.conf" <<CONF
disk_free_limit.absolute = 50MB
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = $node
CONF
  if ((${#others[@]} > 0)); then
    # While a frozen node does not yet count as dead, the others cannot record the new leader of a queue, and
    # a publisher that connects meanwhile gets no confirm. RabbitMQ's default is 60 s.
    printf '%s\n' "net_ticktime = 6" "cluster_partition_handling = pause_minority" |
      tee -a "$home/rabbitmq.conf" >>"$home/joining.conf"
  fi
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
  rabbitmq_start_node ""
}

# rabbitmq_node [SUFFIX]: the name of a node. The suffix of the first one is empty, and of the others -2 and -3.
rabbitmq_node() { echo "${node/@/${1-}@}"; }

rabbitmq_start_node() { # SUFFIX
  local home=$dir/rabbitmq conf=rabbitmq
  local amqp=amqp_port${1/-/_} dist=dist_port${1/-/_}
  gone "$dir/rabbitmq$1.pid" || return 0
  keep_or_move "$amqp"
  keep_or_move "$dist"
  if [[ -n $1 ]]; then
    rabbitmq_environment "$1"
    conf=joining
  else
    rabbitmq_environment
    rabbitmq_within
    (rabbitmq_write_files)
  fi
  rm -f "$home/pid$1"
  # RabbitMQ has no setting for this. Another root folder has no such library.
  local -a careless=()
  if [[ ${HOOKLINE_SERVICES_FSYNC-} == off && -z ${HOOKLINE_SERVICES_RABBITMQ-} ]]; then
    careless=(LD_PRELOAD="$(eatmydata_library)")
  fi
  # RUNNING_UNDER_SYSTEMD makes the script become the Erlang VM instead of waiting for it as its parent.
  # Schedulers stay unbound: bound ones suit a machine that runs nothing else.
  daemon "$dir/rabbitmq$1.pid" "$dir/log/rabbitmq$1.log" env -i "${environment[@]}" "${careless[@]}" \
    RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="${!amqp}" RABBITMQ_DIST_PORT="${!dist}" \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}' \
    RABBITMQ_CONFIG_FILE="$home/$conf.conf" RABBITMQ_ADVANCED_CONFIG_FILE="$home/advanced.config" \
    RABBITMQ_SCHEDULER_BIND_TYPE=u RABBITMQ_PID_FILE="$home/pid$1" RABBITMQ_LOGS=- RUNNING_UNDER_SYSTEMD=true \
    "${within_root[@]}" "$sbin/rabbitmq-server"
}

# The other nodes join the first one, one after the other, once it has booted.
rabbitmq_start_others() {
  local sbin suffix
  local -a environment within_root
  sbin=$(rabbitmq_sbin)
  rabbitmq_within
  for suffix in "${others[@]}"; do
    rabbitmq_start_node "$suffix"
  done
}

# An AMQP header is answered with a frame of type 1 (connection.start).
rabbitmq_answers() { amqp_answers "$amqp_port"; }
rabbitmq-2_answers() { amqp_answers "$amqp_port_2"; }
rabbitmq-3_answers() { amqp_answers "$amqp_port_3"; }

amqp_answers() { # PORT
  local first
  # shellcheck disable=SC2016 # the inner shell expands its own arguments
  first=$(timeout 3 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1" && printf "AMQP\0\0\11\1" >&3 && head -c 1 <&3 | od -An -tx1' \
    - "$1" 2>/dev/null) || return 1
  [[ ${first// /} == 01 ]]
}

# RabbitMQ's own report of its pid: in some packages the start script stays as the VM's parent.
rabbitmq_note_pids() {
  local suffix
  for suffix in "" "${others[@]}"; do
    record "$(<"$dir/rabbitmq/pid$suffix")" "$dir/rabbitmq$suffix.pid"
  done
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
  local seconds suffix waiting=()
  for suffix in "" "${others[@]}"; do
    seconds=5
    if ! gone "$dir/rabbitmq$suffix.pid" && "rabbitmq${suffix}_answers"; then seconds=30; fi
    end "$dir/rabbitmq$suffix.pid" TERM "$seconds" &
    waiting+=($!)
  done
  wait "${waiting[@]}"
  rabbitmq_adopt_epmd
  end "$dir/epmd.pid" TERM 5
}
