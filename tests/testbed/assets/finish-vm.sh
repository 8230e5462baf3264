# Makes the disk of a virtual machine. $1: its root file system, $2: the root with the tools, $3: the folder to fill,
# $4: the program of the test driver's shell.
# Runs in mount and PID namespaces of its own.
root=$1 tools=$2 target=$3 shell=$4

install -D -m 755 "$shell" "$root/usr/lib/vm-tests/shell"
cat > "$root/etc/systemd/system/vm-tests-shell.service" <<'EOF'
[Unit]
Description=Root shell for the test driver
DefaultDependencies=no
BindsTo=dev-hvc0.device
After=dev-hvc0.device
Before=shutdown.target
Conflicts=shutdown.target
[Service]
Environment=HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/usr/lib/vm-tests/shell
KillMode=process
EOF
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf /etc/systemd/system/vm-tests-shell.service "$root/etc/systemd/system/multi-user.target.wants/"
# Where a machine has a kernel of its own, writes are really written.
sed -i '/^fsync-metadata/d' "$root/etc/nix/nix.conf"

mkdir -p "$target"
cp "$root"/boot/vmlinuz-* "$target/vmlinuz"
cp "$root"/boot/initrd.img-* "$target/initrd"
rm -rf "$root"/boot/*
for folder in "$tools/proc" "$tools/dev" "$tools/mnt" "$tools/media"; do mkdir -p "$folder"; done
mount --rbind /dev "$tools/dev"
mount --bind "$root" "$tools/mnt"
mount --bind "$target" "$tools/media"
chroot "$tools" mke2fs -q -t ext4 -E lazy_itable_init=0,lazy_journal_init=0,nodiscard -d /mnt /media/disk.raw 4G
chroot "$tools" qemu-img convert -f raw -O qcow2 /media/disk.raw /media/disk.qcow2
rm "$target/disk.raw"
