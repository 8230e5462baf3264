#!@busybox@/bin/busybox sh
# PID 1 of a Debian guest until it becomes systemd. A nixos-container's root begins nearly empty: this fills /etc and /var from
# the system's seed once, puts the shared /usr in its place, and hands over.
busybox=@busybox@/bin/busybox
system=${0%/init}

if [ ! -e /etc/.seeded ]; then
    $busybox tar -xpf "$system/seed.tar" -C / || exit 71
    $busybox touch /etc/.seeded
fi
# Data has a life of its own: it may lie on a mount that outlives this root, and then it is never overwritten.
if [ -e "$system/data.tar" ] && [ -z "$($busybox ls -A "$($busybox cat "$system/data-dir")" 2>/dev/null)" ]; then
    $busybox tar -xpf "$system/data.tar" -C / || exit 71
fi

$busybox mkdir -p /usr
$busybox mount --bind @usr@/usr /usr || exit 71
for link in bin sbin lib lib64; do
    $busybox ln -sfn "usr/$link" "/$link"
done

# Names of the other services, kept by the agent.
if [ -e /run/host/nixmox/hosts ]; then
    $busybox ln -sfn /run/host/nixmox/hosts /etc/hosts
fi

# Some hosts' container@ templates leave the network to the guest.
if [ -e /sys/class/net/host0 ] && [ -n "$LOCAL_ADDRESS" ]; then
    $busybox ip link set lo up
    $busybox ip link set host0 name eth0
    $busybox ip link set eth0 up
    $busybox ip addr add "$LOCAL_ADDRESS" dev eth0
    if [ -n "$HOST_ADDRESS" ]; then
        $busybox ip route add "$HOST_ADDRESS" dev eth0
        $busybox ip route add default via "$HOST_ADDRESS"
    fi
fi
exec /usr/lib/systemd/systemd
