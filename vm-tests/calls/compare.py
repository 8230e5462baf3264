"""Holds our driver against what scenarios may call: names and parameters. Their types mypy compares, by `driver_offers.py`; to
it, parameters of a method may have other names, and a scenario that gives them by name would work on one driver alone.

    python3 compare.py both.pyi ours.pyi driver/machine.py driver/__main__.py
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path


def methods(tree: ast.Module) -> dict[str, str]:
    """Returns the public methods of a module's `Machine`, each with its parameters, and `=` behind those that have a default."""
    (machine,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Machine"]
    functions = [node for node in machine.body if isinstance(node, ast.FunctionDef)]
    return {function.name: parameters(function.args) for function in functions if not function.name.startswith("_")}


def parameters(args: ast.arguments) -> str:
    first_default = len(args.args) - len(args.defaults)
    words = [arg.arg + "=" * (number >= first_default) for number, arg in enumerate(args.args)]
    if args.vararg:
        words.append("*" + args.vararg.arg)
    words += [arg.arg + "=" * (default is not None) for arg, default in zip(args.kwonlyargs, args.kw_defaults)]
    return ", ".join(words)


def declared(tree: ast.Module) -> set[str]:
    """Returns the names that a stub has for every scenario."""
    return {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}


def given(tree: ast.Module) -> set[str]:
    """Returns the names that our driver runs a scenario with: the keys of `there`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            if [target.id for target in node.targets if isinstance(target, ast.Name)] == ["there"]:
                return {key.value for key in node.value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    return set()


def main() -> int:
    both, ours, machine, start = [ast.parse(Path(path).read_text()) for path in sys.argv[1:]]
    faults = []
    there = methods(machine)
    for name, asked in {**methods(both), **methods(ours)}.items():
        if there.get(name) != asked:
            faults.append(f"Machine.{name}: the stub has ({asked}), our driver ({there.get(name, 'no such method')})")
    if declared(both) != given(start):
        faults.append(f"names: the stub has {sorted(declared(both))}, our driver {sorted(given(start))}")
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
