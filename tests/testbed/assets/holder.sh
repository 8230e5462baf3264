# Holds one testbed: its mounts, its cgroup and the processes in it. First process of a PID namespace, in a mount namespace of its own.
# $1: name, $2: lower layers, $3: where nspawn's console goes, $4: a folder on the disk that is removed in the end.
# Reads orders from standard input: `boot` starts the host. When the owner dies or closes the pipe, this ends, and with it everything.
name=$1 lower=$2 console=$3

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/bed
mount -t tmpfs -o size=90%,mode=755 tmpfs /run/bed
mkdir -p /run/bed/upper /run/bed/work /run/bed/root
mount -t overlay overlay -o "lowerdir=$lower,upperdir=/run/bed/upper,workdir=/run/bed/work" /run/bed/root

# Overlayfs cannot be mounted with mapped users, which containers with users of their own need; so what they see of the host's file
# system lies on one that can. The store's one big path is made of links to the cache's files: it costs no space and, like every store
# path, is never written to. It must not be a mount of its own, since nspawn cannot map a store with mounts in it.
nix=$4/nix
mkdir -p "$nix/store"
cd /run/bed/root/nix
find . -mindepth 1 -maxdepth 1 ! -name store -exec cp -a -t "$nix" {} +
find ./store -mindepth 1 -maxdepth 1 ! -name '*-debian-usr' -exec cp -a -t "$nix/store" {} +
cd /
for path in "${lower%%:*}"/nix/store/*-debian-usr; do
    [ ! -e "$path" ] || cp -a --link "$path" "$nix/store/"
done
mount --bind "$nix" /run/bed/root/nix

# tmpfs can be mapped since Linux 6.3.
plain=/run/bed/plain
case $(uname -r) in
    [1-5].* | 6.[0-2].*) plain=$4/plain ;;
esac
mkdir -p "$plain/srv" /run/bed/root/srv /run/bed/root/var/lib/nixos-containers
mkdir -m 700 "$plain/containers"
mount --bind "$plain/srv" /run/bed/root/srv
mount --bind "$plain/containers" /run/bed/root/var/lib/nixos-containers

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
