# Holds one testbed: its mounts, its cgroup and the processes in it. First process of a PID namespace, in a mount namespace of its own.
# $1: name, $2: lower layers, $3: where nspawn's console goes, $4: where reports go.
# Reads orders from standard input: `boot` starts the host. When the owner dies or closes the pipe, this ends, and with it everything.
name=$1 lower=$2 console=$3

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/bed
mount -t tmpfs -o size=90%,mode=755 tmpfs /run/bed
mkdir -p /run/bed/upper /run/bed/work /run/bed/root
mount -t overlay overlay -o "lowerdir=$lower,upperdir=/run/bed/upper,workdir=/run/bed/work" /run/bed/root

# A cgroup v2 tree, whatever the machine has mounted.
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p "/sys/fs/cgroup/$name/holder"
echo 0 > "/sys/fs/cgroup/$name/holder/cgroup.procs"

# One boot after the other until the host is powered off: 133 is nspawn's exit status for "the guest asked for a reboot".
host() {
    while :; do
        count=$((${count:-0} + 1))
        code=0
        mkdir "/sys/fs/cgroup/$name/$1-$count"
        sh -c 'echo 0 > "$0/cgroup.procs"; exec "$@"' "/sys/fs/cgroup/$name/$1-$count" \
            systemd-nspawn --quiet --keep-unit --register=no --capability=all --private-network --boot \
            --directory=/run/bed/root --machine="$name" < /dev/null >> "$console" 2>&1 || code=$?
        [ "$code" = 133 ] || break
    done
    echo "off $code"
}

export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_SECCOMP=0
echo mounted
boots=0
while read -r order; do
    case $order in
        boot)
            boots=$((boots + 1))
            host "$boots" &
            ;;
    esac
done
