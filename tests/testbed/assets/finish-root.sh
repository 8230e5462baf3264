# Finishes the host's root file system. $1 is its folder.
root=$1

echo testbed > "$root/etc/hostname"
printf '127.0.0.1 localhost testbed\n::1 localhost\n' > "$root/etc/hosts"

# A fixed machine ID: an empty one makes systemd treat every boot as the first and enable all units by preset.
echo 6e69786d6f787465737462656400beef > "$root/etc/machine-id"

# Persistent, so that a test reads the journal of the boot before; unlimited, so that a busy test loses no line.
mkdir -p "$root/var/log/journal" "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=persistent\nRateLimitBurst=0\nSystemMaxUse=200M\n' > "$root/etc/systemd/journald.conf.d/testbed.conf"

# Nothing waits for a terminal, a clock or the network here.
for unit in console-getty.service getty.target systemd-timesyncd.service systemd-networkd.service \
    systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# Prometheus is a program that one test runs; as a service it would start with every host.
for unit in prometheus.service prometheus-node-exporter.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# Nix for root and, through its daemon, for users; without the network.
cat > "$root/etc/nix/nix.conf" <<'EOF'
experimental-features = nix-command flakes
build-users-group = nixbld
sandbox = false
substituters =
flake-registry =
fsync-metadata = false
EOF
mkdir -p "$root/nix/store" "$root/nix/var/nix"

# Nothing to catch up with at the first boot: the linker's cache and the hardware database are as the packages left them.
touch "$root/etc/.updated" "$root/var/.updated"
