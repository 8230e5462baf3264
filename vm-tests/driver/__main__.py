"""Runs a scenario on a machine in QEMU, or makes a snapshot that scenarios begin from.

    python3 driver run      --kernel K --initrd I --disk D --programs P --folder F [--snapshot S] SCENARIO
    python3 driver snapshot --kernel K --initrd I --disk D --programs P --folder F [--snapshot S] --name N --target T SCRIPT
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
import traceback
import unittest
from collections.abc import Iterator
from pathlib import Path

from machine import Machine
from qemu import Image, remove


@contextlib.contextmanager
def subtest(name: str) -> Iterator[None]:
    """Names a part of a scenario."""
    print(f"subtest: {name}", flush=True)
    begin = time.monotonic()
    try:
        yield
    except BaseException:
        print(f"subtest failed: {name}", flush=True)
        raise
    print(f"(finished subtest: {name}, in {time.monotonic() - begin:.2f} seconds)", flush=True)


def run(script: Path, machine: Machine) -> None:
    """Runs a script with what NixOS's driver has for it."""
    there = {
        "machine": machine,
        "start_all": machine.start,
        "subtest": subtest,
        "t": unittest.TestCase(),
    }
    exec(compile(script.read_text(), str(script), "exec"), there)


def main() -> int:
    parser = argparse.ArgumentParser(prog="driver")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "snapshot"):
        command = commands.add_parser(name)
        for option in ("kernel", "initrd", "disk", "programs", "folder"):
            command.add_argument(f"--{option}", type=Path, required=True)
        command.add_argument("--snapshot")
        command.add_argument("script", type=Path)
        if name == "snapshot":
            command.add_argument("--name", required=True)
            command.add_argument("--target", type=Path, required=True)
    arguments = parser.parse_args()

    image = Image(arguments.kernel, arguments.initrd, arguments.disk, arguments.programs)
    machine = Machine("machine", image, arguments.folder, arguments.snapshot)
    random.seed(0)
    try:
        run(arguments.script, machine)
        if arguments.command == "snapshot":
            machine.take_snapshot(arguments.name, arguments.target)
    except Exception:
        traceback.print_exc()
        print(f"console of {machine.name}:\n{machine.console_tail()}", flush=True)
        return 1
    finally:
        if machine.is_up():
            machine.crash()
        remove(arguments.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
