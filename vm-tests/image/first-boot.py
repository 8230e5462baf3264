# The first boot of a machine: what every scenario begins after.
machine.start()
machine.wait_for_unit("multi-user.target")
machine.succeed("systemctl is-system-running --wait || { systemctl --failed >&2; exit 1; }")
