machine.start()
machine.wait_for_unit("nixmox-agent.service")
print(machine.succeed("nixmoxctl --version; uname -a; cat /sys/fs/cgroup/cgroup.controllers"))
