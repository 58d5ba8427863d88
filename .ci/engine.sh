# A Docker engine of our own, for .ci/run to source: its data, its socket and its state in one folder, no network.

install_engine() {
    local wanted=()
    command -v dockerd >/dev/null || wanted+=(docker.io)
    command -v runsc >/dev/null || wanted+=(runsc)
    # For the tests that use an engine by ssh.
    command -v sshd >/dev/null || [ -x /usr/sbin/sshd ] || wanted+=(openssh-server)
    command -v ssh >/dev/null || wanted+=(openssh-client)
    # For the tool that checks bundles.
    command -v npm >/dev/null || wanted+=(npm)
    # For the test of what a web page can reach.
    command -v chromium >/dev/null || wanted+=(chromium)
    command -v debootstrap >/dev/null || wanted+=(debootstrap)
    mountpoint -q /sys/fs/cgroup || command -v cgroupfs-mount >/dev/null || wanted+=(cgroupfs-mount)
    "${PYTHON:-python3}" -c 'import ensurepip' 2>/dev/null || wanted+=(python3-venv)
    if [ "${#wanted[@]}" -gt 0 ]; then
        apt_get update
        apt_get install "${wanted[@]}"
    fi
    # Debian 13 and later keep the client apart.
    command -v docker >/dev/null || apt_get install docker-cli
    # Without systemd nobody has mounted them.
    mountpoint -q /sys/fs/cgroup || cgroupfs-mount
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" --yes --no-install-recommends >/dev/null
}

# start_engine FOLDER STORAGE-DRIVER: returns when it answers; fails when it ended instead.
start_engine() {
    engine_folder=$1
    # Where no KVM and no network can be had, and cgroups are the machine's own: what gVisor can do everywhere.
    cat >"$1/daemon.json" <<END
{"runtimes": {"runsc": {"path": "$(command -v runsc)", "runtimeArgs": ["--platform=ptrace", "--network=none", "--ignore-cgroups"]}}}
END
    dockerd --config-file "$1/daemon.json" --host "unix://$1/docker.sock" --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/docker.pid" \
        --containerd-namespace "$(basename "$1")" --containerd-plugins-namespace "$(basename "$1")-plugins" \
        --storage-driver "$2" --iptables=false --ip-masq=false --bridge=none >"$1/engine.log" 2>&1 &
    engine_pid=$!
    until docker version >/dev/null 2>&1; do
        if ! kill -0 "$engine_pid" 2>/dev/null; then
            echo "dockerd with $2 ended: $(tail -n 1 "$1/engine.log")"
            rm -rf "$1/data" "$1/exec"
            engine_pid=
            return 1
        fi
        sleep 0.2
    done
    echo "dockerd $(docker version --format '{{.Server.Version}}') with $2"
}

# Its containers and its own containerd end with it. What it left mounted would keep the folder from being removed.
stop_engine() {
    if [ -n "${engine_pid:-}" ]; then
        kill "$engine_pid" 2>/dev/null || true
        wait "$engine_pid" 2>/dev/null || true
        engine_pid=
    fi
    if [ -n "${engine_folder:-}" ]; then
        awk -v folder="$engine_folder/" 'index($2, folder) == 1 { print $2 }' /proc/mounts | sort -r |
            while read -r mount; do umount --lazy "$mount" || true; done
    fi
}
