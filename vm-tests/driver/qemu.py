"""One QEMU process: its disk, its snapshots, its console and the port of its root shell.

Owns what is QEMU's. What is said through the shell is `machine`'s.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MEMORY_MEBIBYTES = 2048
PROCESSORS = 2
# On a busy host the kernel finds that its timer ticks too seldom to be one, and panics. One that is emulated needs no check.
TIMERS = "no_timer_check"
# Longest time for QEMU itself to do something: not the guest, which takes its time.
QEMU_LIMIT = 120.0


@dataclass(frozen=True)
class Image:
    """What a machine is made of, all of it files that are never written to."""

    kernel: Path
    initrd: Path
    # A qcow2 image. Machines write to an overlay of it, or to a copy where it carries snapshots.
    disk: Path
    # A file system with what is to be tested; the same size in every run, for a snapshot knows the size.
    programs: Path


class Qemu:
    """A QEMU process. Without KVM: `/dev/kvm` may exist and not work, and a test must not depend on which."""

    def __init__(self, image: Image, folder: Path, disk: Path, snapshot: str | None) -> None:
        self.console = folder / "console"
        self._monitor_path = folder / "monitor"
        shell_path = folder / "shell"
        for path in (self._monitor_path, shell_path):
            path.unlink(missing_ok=True)
        # Writes are flushed when the guest asks for it and not before: a killed QEMU is a power cut.
        drive = f"file={disk},format=qcow2,if=virtio,cache=writeback,discard=unmap"
        command = [
            "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max",
            "-m", str(MEMORY_MEBIBYTES), "-smp", str(PROCESSORS), "-display", "none", "-nic", "none",
            "-kernel", str(image.kernel), "-initrd", str(image.initrd),
            "-append", f"console=ttyS0 root=/dev/vda rw quiet systemd.show_status=no panic=-1 {TIMERS}",
            "-drive", drive,
            "-drive", f"file={image.programs},format=raw,if=virtio,readonly=on",
            "-device", "virtio-serial", "-chardev", f"socket,id=shell,path={shell_path},server=on,wait=off",
            "-device", "virtconsole,chardev=shell",
            "-chardev", f"file,id=console,path={self.console},append=off", "-serial", "chardev:console",
            "-monitor", f"unix:{self._monitor_path},server=on,wait=off",
        ]
        if snapshot is not None:
            command += ["-loadvm", snapshot]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._monitor = self._connect(self._monitor_path)
        self._read_prompt()
        self.shell = self._connect(shell_path)

    def _connect(self, path: Path) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + QEMU_LIMIT
        while True:
            try:
                connection.connect(str(path))
                return connection
            except OSError:
                if self._process.poll() is not None:
                    raise RuntimeError(f"qemu ended with {self._process.returncode}") from None
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def _read_prompt(self) -> str:
        self._monitor.settimeout(QEMU_LIMIT)
        text = b""
        while not text.endswith(b"(qemu) "):
            chunk = self._monitor.recv(4096)
            if not chunk:
                raise RuntimeError("qemu closed its monitor")
            text += chunk
        return text.decode(errors="replace")

    def monitor(self, command: str) -> str:
        """Runs a command of QEMU's monitor and returns what it printed."""
        self._monitor.sendall(command.encode() + b"\n")
        answer = self._read_prompt()
        if "Error" in answer:
            raise RuntimeError(f"qemu: {command}: {answer}")
        return answer

    def runs(self) -> bool:
        """Returns whether the machine is on."""
        return self._process.poll() is None

    def wait(self, limit: float) -> None:
        """Waits until the machine has switched itself off."""
        self._process.wait(limit)

    def kill(self) -> None:
        """Cuts the power."""
        self._process.kill()
        self._process.wait()

    def console_tail(self) -> str:
        """Returns the last lines of the serial console."""
        text = self.console.read_text(errors="replace") if self.console.exists() else ""
        return "\n".join(text.splitlines()[-40:])


def writable_disk(image: Image, folder: Path) -> Path:
    """Returns a disk that a machine may write to: a copy, for only that keeps snapshots."""
    disk = folder / "disk.qcow2"
    shutil.copyfile(image.disk, disk)
    return disk


def read_disk(disk: Path, image: Path, folder: str, target: Path) -> None:
    """Copies a folder of a disk to `target`, by way of a raw image whose journal is replayed, as the next boot would."""
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(disk), str(image)], check=True)
    # 0: clean; 1: repaired, which the replay counts as.
    check = subprocess.run(["e2fsck", "-p", str(image)], stdout=subprocess.DEVNULL, check=False)
    if check.returncode > 1:
        raise RuntimeError(f"e2fsck: the file system is damaged ({check.returncode})")
    dump = ["debugfs", "-R", f"rdump {folder} {target}", str(image)]
    subprocess.run(dump, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    image.unlink()


def wait_for(condition: Callable[[], bool], what: str, limit: float, pause: float = 0.2) -> None:
    """Waits until a condition holds; fails with `what` it waited for."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {limit:.0f} s")
        time.sleep(pause)


def remove(folder: Path) -> None:
    """Removes a folder that may be gone."""
    if os.path.lexists(folder):
        shutil.rmtree(folder)
