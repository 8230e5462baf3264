"""What a scenario may call that runs on our driver alone, and says so: `# Not on NixOS: REASON` in its first lines."""

from pathlib import Path
from typing import Protocol

import both
from both import start_all as start_all
from both import subtest as subtest
from both import t as t

class Machine(both.Machine, Protocol):
    def keep(self) -> None: ...
    def go_back(self) -> None: ...
    def files_on_disk(self, folder: str) -> Path: ...
    def console_text(self) -> str: ...

machine: Machine
