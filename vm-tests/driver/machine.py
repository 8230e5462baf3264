"""The `machine` of a scenario: the calls of NixOS's test driver, on a Debian in QEMU.

Names, arguments and meaning are those of the NixOS manual ("Machine objects"), so that a scenario runs on either. What is
not there, no scenario needs yet.
"""

from __future__ import annotations

import base64
import contextlib
import shlex
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from qemu import Image, Qemu, read_disk, remove, wait_for, writable_disk

# As NixOS's driver has it, in seconds.
TIMEOUT = 900
# What a command may be late by: the driver's clock runs on while the guest's stands.
GRACE = 30
# Of a copied file at a time: a line of the shell's.
CHUNK = 48 * 1024
POLL = 0.5


class RequestedAssertionFailed(AssertionError):
    """A command did not end as the scenario says."""


class Machine:
    """A machine, off at first."""

    def __init__(self, name: str, image: Image, folder: Path, snapshot: str | None) -> None:
        self.name = name
        self._image = image
        self._folder = folder
        self._snapshot = snapshot
        self._disk: Path | None = None
        self._qemu: Qemu | None = None
        self._input = b""

    # Power.

    def start(self, allow_reboot: bool = False) -> None:
        """Switches the machine on, unless it is. The first time, where there is a snapshot, it goes on from there.

        A machine here may always reboot: `allow_reboot` is for NixOS's driver."""
        del allow_reboot
        if self.is_up():
            return
        first = self._disk is None
        if self._disk is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._disk = writable_disk(self._image, self._folder)
        self._power_on(self._snapshot if first else None)

    def _power_on(self, snapshot: str | None) -> None:
        assert self._disk is not None
        self._qemu = Qemu(self._image, self._folder, self._disk, snapshot)
        self._input = b""
        if snapshot is None:
            self._wait_for_shell()
        else:
            self._synchronize()
            self._execute(f"date --set=@{time.time():.3f}", 60)

    def is_up(self) -> bool:
        """Returns whether the machine is on."""
        return self._qemu is not None and self._qemu.runs()

    def crash(self) -> None:
        """Cuts the power: what the guest has not flushed to its disk is lost."""
        self._on().kill()

    def shutdown(self) -> None:
        """Shuts the machine down as its administrator would, and waits until it is off."""
        if not self.is_up():
            return
        self._send("0 60 " + base64.b64encode(b"systemctl --no-block poweroff").decode())
        self.wait_for_shutdown()

    def wait_for_shutdown(self) -> None:
        """Waits until the machine has switched itself off."""
        self._on().wait(TIMEOUT)

    def reboot(self) -> None:
        """Reboots as Ctrl-Alt-Delete does, and waits until it is on again."""
        self._on().monitor("sendkey ctrl-alt-delete")
        self._input = b""
        self._wait_for_shell()

    # Commands.

    def execute(
        self, command: str, check_return: bool = True, check_output: bool = True, timeout: int | None = TIMEOUT
    ) -> tuple[int, str]:
        """Runs a command of bash, with `set -euo pipefail`, and returns its exit status and standard output."""
        self.start()
        if not check_return or not check_output:
            command = f"({command}) > /dev/null 2>&1 &"
        return self._execute(command, timeout or TIMEOUT)

    def succeed(self, *commands: str, timeout: int | None = None) -> str:
        """Runs commands that must succeed, and returns what they printed."""
        output = ""
        for command in commands:
            with self.nested(f"must succeed: {command}"):
                status, printed = self.execute(command, timeout=timeout)
                if status != 0:
                    self.log(f"output: {printed}")
                    raise RequestedAssertionFailed(f"command `{command}` failed (exit code {status})")
                output += printed
        return output

    def fail(self, *commands: str, timeout: int | None = None) -> str:
        """Runs commands that must fail, and returns what they printed."""
        output = ""
        for command in commands:
            with self.nested(f"must fail: {command}"):
                status, printed = self.execute(command, timeout=timeout)
                if status == 0:
                    raise RequestedAssertionFailed(f"command `{command}` unexpectedly succeeded")
                output += printed
        return output

    def wait_until_succeeds(self, command: str, timeout: int = TIMEOUT) -> str:
        """Repeats a command until it succeeds, and returns what it printed."""
        return self._repeat(command, timeout, lambda status: status == 0, "waiting for success")

    def wait_until_fails(self, command: str, timeout: int = TIMEOUT) -> str:
        """Repeats a command until it fails, and returns what it printed."""
        return self._repeat(command, timeout, lambda status: status != 0, "waiting for failure")

    def _repeat(self, command: str, timeout: int, good, what: str) -> str:
        with self.nested(f"{what}: {command}"):
            end = time.monotonic() + timeout
            while True:
                status, printed = self.execute(command, timeout=timeout)
                if good(status):
                    return printed
                if time.monotonic() > end:
                    raise RequestedAssertionFailed(f"`{command}`: {what} took {timeout} s; exit code {status}: {printed}")
                time.sleep(POLL)

    # systemd.

    def systemctl(self, q: str, user: str | None = None) -> tuple[int, str]:
        """Runs `systemctl` with these arguments, for the system or for a user's manager."""
        of_user = f"--machine={shlex.quote(user)}@ --user " if user else ""
        return self.execute(f"systemctl {of_user}{q}")

    def get_unit_property(self, unit: str, property: str, user: str | None = None) -> str:
        """Returns a property of a unit. As with NixOS's driver, one of which systemctl prints nothing is a fault: an empty list is."""
        status, line = self.systemctl(f"show --property={shlex.quote(property)} {shlex.quote(unit)}", user)
        if status != 0:
            raise RequestedAssertionFailed(f"retrieving property {property} of unit {unit} failed with exit code {status}")
        name, separator, value = line.partition("\n")[0].partition("=")
        assert separator and name == property, f"property {property} of unit {unit} is no line of its own: {line!r}"
        return value

    def wait_for_unit(self, unit: str, user: str | None = None, timeout: int = TIMEOUT) -> None:
        """Waits until a unit is active; fails when it failed, or is not active and nothing is about to start it."""
        with self.nested(f"waiting for unit {unit}"):
            end = time.monotonic() + timeout
            while True:
                state = self.get_unit_property(unit, "ActiveState", user)
                if state == "active":
                    return
                if state == "failed":
                    raise RequestedAssertionFailed(f'unit "{unit}" reached state "{state}"')
                if state == "inactive" and "No jobs" in self.systemctl("list-jobs --full", user)[1]:
                    if self.get_unit_property(unit, "ActiveState", user) == "inactive":
                        raise RequestedAssertionFailed(f'unit "{unit}" is inactive and there are no pending jobs')
                if time.monotonic() > end:
                    raise RequestedAssertionFailed(f'unit "{unit}" is {state} after {timeout} s')
                time.sleep(POLL)

    def wait_for_open_port(self, port: int, addr: str = "localhost", timeout: int = TIMEOUT) -> None:
        """Waits until somebody listens on a TCP port."""
        self.wait_until_succeeds(f"nc -z {addr} {port}", timeout)

    def wait_for_file(self, filename: str, timeout: int = TIMEOUT) -> None:
        """Waits until a file is there."""
        self.wait_until_succeeds(f"test -e {shlex.quote(filename)}", timeout)

    # Files.

    def copy_from_host(self, source: str, target: str) -> None:
        """Copies a file to the machine."""
        data = Path(source).read_bytes()
        place = shlex.quote(target)
        self.succeed(f'mkdir -p "$(dirname {place})"; : > {place}')
        for begin in range(0, len(data), CHUNK):
            text = base64.b64encode(data[begin : begin + CHUNK]).decode()
            self._must(f"base64 -d >> {place} <<< {text}")

    def copy_from_machine(self, source: str, target_dir: str = "") -> None:
        """Copies a file of the machine to a folder below that of the results."""
        folder = self._folder / "out" / target_dir
        folder.mkdir(parents=True, exist_ok=True)
        text = self._must(f"base64 -w 0 {shlex.quote(source)}")
        (folder / Path(source).name).write_bytes(base64.b64decode(text))

    # What is said of it.

    def log(self, msg: str) -> None:
        """Prints a line for the person who reads the test's output."""
        print(f"{self.name}: {msg}", flush=True)

    @contextlib.contextmanager
    def nested(self, msg: str) -> Iterator[None]:
        """Prints a line, and how long what is done within took."""
        self.log(msg)
        begin = time.monotonic()
        yield
        self.log(f"(finished: {msg.splitlines()[0]}, in {time.monotonic() - begin:.2f} seconds)")

    def console_tail(self) -> str:
        """Returns the last lines of the console."""
        return self._qemu.console_tail() if self._qemu else ""

    # What NixOS's driver has not: for this driver's own work alone.

    def take_snapshot(self, name: str, target: Path) -> None:
        """Writes the disk with a snapshot of the running machine to a file, and switches the machine off."""
        self._must("sync; echo 3 > /proc/sys/vm/drop_caches")
        self._on().monitor(f"savevm {name}")
        self._on().kill()
        assert self._disk is not None
        self._disk.rename(target)

    def keep(self) -> None:
        """Keeps the machine as it is now, memory and disk, for `go_back`."""
        self._must("sync")
        self._on().monitor("savevm kept")

    def go_back(self) -> None:
        """Cuts the power, and goes on from where it was kept."""
        self.crash()
        self._power_on("kept")

    def files_on_disk(self, folder: str) -> Path:
        """Returns a copy of a folder of the machine, which is off, as its next boot will find it."""
        assert self._disk is not None and not self.is_up()
        image, target = self._folder / "disk.raw", self._folder / "found"
        remove(target)
        target.mkdir()
        read_disk(self._disk, image, folder, target)
        return target / Path(folder).name

    def console_text(self) -> str:
        """Returns all that the machine has written to its serial console."""
        return self._on().console.read_text(errors="replace")

    # The shell: a line `ID LIMIT COMMAND` is answered by `ID STATUS OUTPUT`, command and output in base64.

    def _must(self, command: str) -> str:
        status, printed = self.execute(command)
        if status != 0:
            raise RequestedAssertionFailed(f"command `{command[:80]}` failed (exit code {status}): {printed}")
        return printed

    def _execute(self, command: str, timeout: int) -> tuple[int, str]:
        number = time.monotonic_ns()
        # As it is cut by the line that the shell may be told at most, too.
        self._send(f"{number} {timeout} {base64.b64encode(command.encode()).decode()}")
        answer = self._answer(str(number), timeout + GRACE)
        status, _, output = answer.partition(" ")
        return int(status), base64.b64decode(output).decode(errors="replace")

    def _answer(self, number: str, limit: float) -> str:
        end = time.monotonic() + limit
        while True:
            line, separator, rest = self._input.partition(b"\n")
            if separator:
                self._input = rest
                first, _, answer = line.decode(errors="replace").strip().partition(" ")
                if first == number:
                    return answer
                continue
            self._receive(end)

    def _wait_for_shell(self) -> None:
        """Waits until a machine that boots has its shell."""
        self._answer("ready", TIMEOUT)

    def _synchronize(self) -> None:
        """Asks until the shell of a snapshot answers: what is said before its port is open again is lost."""

        def answers() -> bool:
            number = str(time.monotonic_ns())
            self._send(f"{number} 10 {base64.b64encode(b'true').decode()}")
            with contextlib.suppress(TimeoutError):
                self._answer(number, 2)
                return True
            return False

        wait_for(answers, "the shell of the snapshot", 60)

    def _send(self, line: str) -> None:
        self._on().shell.sendall(line.encode() + b"\n")

    def _receive(self, end: float) -> None:
        shell = self._on().shell
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"{self.name} does not answer; its console:\n{self.console_tail()}")
        shell.settimeout(min(left, 5.0))
        try:
            chunk = shell.recv(1 << 16)
        except socket.timeout:
            return
        if not chunk:
            raise RuntimeError(f"{self.name} is off; its console:\n{self.console_tail()}")
        self._input += chunk

    def _on(self) -> Qemu:
        if self._qemu is None:
            raise RuntimeError(f"{self.name} is off")
        return self._qemu
