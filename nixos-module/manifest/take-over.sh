# Copies the folder of a manifest that was written by hand, and writes into it which option it comes from.
#
# usage: take-over.sh FOLDER FILE OPTION TARGET
set -eu
folder=$1 file=$2 option=$3 target=$4

cp -r "$folder" "$target"
chmod -R u+w "$target"
[ "$file" = nixmox.toml ] || mv "$target/$file" "$target/nixmox.toml"

manifest=$target/nixmox.toml
header='^[[:space:]]*\[[[:space:]]*stack[[:space:]]*\]'
if ! grep -Eq "$header" "$manifest"; then
    echo "$option.file: $file has no line [stack], below which to write the stack's owner" >&2
    exit 1
fi
sed -E -i "/$header/a owner = \"$option\"" "$manifest"
