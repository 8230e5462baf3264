# Makes the overlay layer whose store holds the homelab's systems.
# $1: the host's root, $2: the guests' root, $3: the guests' init, with placeholders, $4: the folder to fill.
# Runs in mount and PID namespaces of its own; what it mounts ends with it. What it leaves when it fails is removed from outside, where
# none of its mounts is seen: a removal in here could reach the machine's /dev.
root=$1 guest=$2 init=$3 target=$4

bed=$target.bed
mkdir -p "$bed/upper" "$bed/work" "$bed/root"
mount -t overlay overlay -o "lowerdir=$root,upperdir=$bed/upper,workdir=$bed/work" "$bed/root"
mount -t proc proc "$bed/root/proc"
mount --rbind /dev "$bed/root/dev"
mount -t tmpfs -o size=90% tmpfs "$bed/root/tmp"
stage=$bed/root/tmp

# Adds /tmp/$1 to the store, under that name, and prints its store path.
add() { chroot "$bed/root" nix-store --add "/tmp/$1"; }
roots=$bed/root/nix/var/nix/gcroots/testbed
mkdir -p "$roots" "$bed/root/etc/testbed"

# Shared by all guests, and by path only: nothing scans an added path for references, so a root keeps each.
mkdir -p "$stage/debian-usr"
cp -a "$guest/usr" "$stage/debian-usr/usr"
usr=$(add debian-usr)
rm -rf "$stage/debian-usr"
mkdir -p "$stage/busybox/bin"
cp "$root/usr/bin/busybox" "$stage/busybox/bin/busybox"
busybox=$(add busybox)
ln -s "$usr" "$roots/debian-usr"
ln -s "$busybox" "$roots/busybox"
echo "$busybox" > "$bed/root/etc/testbed/busybox"
sed -e "s|@busybox@|$busybox|g" -e "s|@usr@|$usr|g" "$init" > "$stage/guest-init"

# Begins the system $1: the guests' /etc and /var without what is the machine's own or another service's.
begin() {
    system=$stage/nixos-system-$1
    seed=$stage/seed
    rm -rf "$seed"
    mkdir -p "$system" "$seed"
    cp -a "$guest/etc" "$guest/var" "$seed/"
    # nspawn binds over the first three; a machine ID is made at the first boot.
    rm -rf "$seed"/etc/localtime "$seed"/etc/resolv.conf "$seed"/etc/hostname "$seed"/etc/machine-id "$seed"/etc/hosts
    rm -rf "$seed"/var/cache/* "$seed"/var/log/* "$seed"/var/lib/apt "$seed"/var/lib/dpkg "$seed"/var/lib/ucf "$seed"/var/lib/postgresql
    touch "$seed/etc/.updated" "$seed/var/.updated"
    rm -f "$seed"/etc/systemd/system/*.wants/*
    [ "$1" = postgres ] || rm -rf "$seed/etc/postgresql"
    printf '127.0.0.1 localhost\n::1 localhost\n' > "$seed/etc/hosts"
    for unit in console-getty.service getty.target systemd-timesyncd.service systemd-networkd.service systemd-networkd-wait-online.service \
        systemd-resolved.service e2scrub_reap.service; do
        ln -sf /dev/null "$seed/etc/systemd/system/$unit"
    done
}

# Enables the unit $1 of the seed or of the packages.
enable() {
    mkdir -p "$seed/etc/systemd/system/multi-user.target.wants"
    from=/usr/lib/systemd/system/$1
    [ ! -e "$seed/etc/systemd/system/$1" ] || from=/etc/systemd/system/$1
    ln -s "$from" "$seed/etc/systemd/system/multi-user.target.wants/$1"
}

# Packs the seed of the system $1 and puts it into the store.
finish() {
    tar -C "$seed" --numeric-owner -cf "$system/seed.tar" etc var
    install -m 755 "$stage/guest-init" "$system/init"
    path=$(add "nixos-system-$1")
    ln -s "$path" "$roots/$1"
    echo "$1 $path" >> "$bed/root/etc/testbed/systems"
    rm -rf "$system"
}

# --- postgres: listens for the other services; the superuser's password comes as a credential.
begin postgres
cat > "$seed/etc/postgresql/17/main/conf.d/homelab.conf" <<'EOF'
listen_addresses = '*'
jit = off
EOF
echo 'host all all 10.0.0.0/8 scram-sha-256' >> "$seed/etc/postgresql/17/main/pg_hba.conf"
install -d -m 2775 -o 100 -g 102 "$seed/var/log/postgresql"
cat > "$seed/etc/systemd/system/postgres-password.service" <<'EOF'
[Unit]
Description=Set the password of the database superuser
After=postgresql.service
Requires=postgresql.service
[Service]
Type=oneshot
RemainAfterExit=yes
User=postgres
LoadCredential=postgres-password
ExecStart=/bin/sh -c "printf \"ALTER ROLE postgres PASSWORD '%%s'\" \"$(cat $CREDENTIALS_DIRECTORY/postgres-password)\" | psql -q -v ON_ERROR_STOP=1"
EOF
enable postgresql.service
enable postgres-password.service
tar -C "$guest" --numeric-owner -cf "$system/data.tar" var/lib/postgresql
echo /var/lib/postgresql > "$system/data-dir"
finish postgres

# --- miniflux-db: a job that makes the role and the database, and ends with the exit status of its work.
begin miniflux-db
cat > "$seed/etc/systemd/system/miniflux-db.service" <<'EOF'
[Unit]
Description=Create the role and the database of Miniflux
SuccessAction=exit
SuccessActionExitStatus=0
FailureAction=exit
FailureActionExitStatus=1
[Service]
Type=exec
LoadCredential=postgres-password
LoadCredential=miniflux-password
ExecStart=/bin/sh /etc/miniflux-db.sh
EOF
cat > "$seed/etc/miniflux-db.sh" <<'EOF'
# The container's own start is over before its work: a container that ends while it starts counts as a failed start.
systemctl is-system-running --wait > /dev/null
set -eu
PGPASSWORD=$(cat "$CREDENTIALS_DIRECTORY/postgres-password")
export PGPASSWORD
password=$(cat "$CREDENTIALS_DIRECTORY/miniflux-password")
run() { psql -h postgres -U postgres -q -v ON_ERROR_STOP=1 -v password="$password" -f -; }
echo "SELECT 'CREATE ROLE miniflux LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'miniflux') \gexec" | run
echo "ALTER ROLE miniflux PASSWORD :'password'" | run
echo "SELECT 'CREATE DATABASE miniflux OWNER miniflux' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'miniflux') \gexec" | run
echo "database miniflux is ready"
EOF
enable miniflux-db.service
finish miniflux-db

# --- miniflux: finds its database by the service's name; the password comes as a credential.
begin miniflux
cat > "$seed/etc/miniflux/miniflux.conf" <<'EOF'
LISTEN_ADDR=0.0.0.0:8080
RUN_MIGRATIONS=1
CREATE_ADMIN=1
ADMIN_USERNAME=admin
ADMIN_PASSWORD=test1234
EOF
mkdir -p "$seed/etc/systemd/system/miniflux.service.d"
cat > "$seed/etc/systemd/system/miniflux.service.d/homelab.conf" <<'EOF'
[Service]
LoadCredential=miniflux-password
ExecStart=
ExecStart=/bin/sh -c 'export DATABASE_URL="host=postgres dbname=miniflux user=miniflux sslmode=disable password=$(cat $CREDENTIALS_DIRECTORY/miniflux-password)"; exec /usr/bin/miniflux -c /etc/miniflux/miniflux.conf'
RestartSec=1
EOF
enable miniflux.service
finish miniflux

# --- caddy: the page on port 80.
begin caddy
printf '{\n\tadmin off\n\tauto_https off\n}\n:80 {\n\treverse_proxy miniflux:8080\n}\n' > "$seed/etc/caddy/Caddyfile"
enable caddy.service
finish caddy

umount "$bed/root/tmp"
umount -R "$bed/root/dev"
umount "$bed/root/proc"
umount "$bed/root"
rmdir "$target"
mv "$bed/upper" "$target"
rm -rf --one-file-system "$bed"
