"""What does "file.py:name" or "package.module:name" mean?"""

from __future__ import annotations

import ast
import hashlib
import platform
import re
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from mlipbench.core.model import ModelSpec
from mlipbench.errors import BadInput, NotApplicable, unknown
from mlipbench.files.hashes import sha256_of

DOTTED_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def spec_of(text: str, *, name: str | None = None) -> ModelSpec:
    """Return the spec of the calculator factory a user named; nothing of it is imported or run.

    Args:
        text: "file.py:name" or "package.module:name".
        name: for leaderboards; made from the text when not given.

    Returns:
        Its identity is the file's sha256, or the distribution that holds the module and its version.

    Raises:
        BadInput: there is no such file or name in it, or no name is given.
        NotApplicable: the module is not installed.
    """
    place, factory = _split(text)
    if _is_file(place):
        path = Path(place).expanduser().resolve()
        _check_file(path, factory)
        options = {"factory": f"{path}:{factory}"}
        return ModelSpec(
            name=name or f"{path.stem}-{factory}", kind="ase", identity=f"sha256:{sha256_of(path)}", options=options
        )
    identity = _identity(place)
    source = _source(place)
    if source is not None:
        _check_file(source, factory)
    options = {"factory": text}
    return ModelSpec(name=name or factory, kind="ase", identity=identity, options=options)


def check_unchanged(text: str, identity: str) -> None:
    """Refuse a factory's file that is not the one a spec was made from; other factories are not checked.

    Raises:
        BadInput: it was edited since.
    """
    place, _ = _split(text)
    if _is_file(place) and identity.startswith("sha256:"):
        path = Path(place).expanduser()
        if identity != f"sha256:{sha256_of(path)}":
            raise BadInput(f"{path} was edited while the run was under way; run again.")


def find(text: str) -> Any:
    """Import the file or module and return what the name stands for. This runs the user's code.

    Raises:
        BadInput: there is no such file or name.
        ModuleNotFoundError: a module is not installed.
    """
    place, factory = _split(text)
    if _is_file(place):
        path = Path(place).expanduser().resolve()
        _check_file(path, factory)
        module = _import_file(path)
    else:
        module = _import_module(place)
    if not hasattr(module, factory):
        raise unknown("name", factory, [x for x in vars(module) if not x.startswith("_")], where=place)
    return getattr(module, factory)


def _split(text: str) -> tuple[str, str]:
    """Return the file or module, and the name in it."""
    place, colon, factory = text.rpartition(":")
    if text.endswith(".py") and not (colon and factory.isidentifier()):
        path = Path(text).expanduser()
        known = sorted(_names(path)[1])
        says = f"It defines {', '.join(known)}" if known else "It defines no function or class"
        raise BadInput(f"{text}: the name of the calculator's factory is missing; write '{text}:name'. {says}.")
    if not colon or not factory.isidentifier() or not (_is_file(place) or DOTTED_NAME.fullmatch(place)):
        raise BadInput(f"'{text}' names no calculator factory; write 'file.py:name' or 'package.module:name'.")
    return place, factory


def _is_file(place: str) -> bool:
    """Tell a file from a module."""
    return place.endswith(".py") or "/" in place or "\\" in place


def _names(path: Path) -> tuple[set[str], set[str], bool]:
    """Return all names a file binds at its top, those of functions and classes, and whether there may be more."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    except (SyntaxError, ValueError) as error:
        raise BadInput(f"{path} is not valid Python: {error}.") from error
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    defined = {node.name for node in tree.body if isinstance(node, definitions) and not node.name.startswith("_")}
    bound = set(defined)
    for node in ast.walk(tree):
        if isinstance(node, definitions):
            bound.add(node.name)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
    return bound, defined, "*" in bound


def _check_file(path: Path, factory: str) -> None:
    """Refuse a file that is missing, is no Python, or does not bind the name."""
    bound, defined, may_hold_more = _names(path)
    if factory not in bound and not may_hold_more:
        raise unknown("name", factory, defined, where=str(path))


def _import_module(place: str) -> Any:
    """Import a module; a package that is there without the module is a misspelling."""
    try:
        return import_module(place)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if "." in missing and f"{place}.".startswith(f"{missing}."):
            raise BadInput(f"there is no module '{missing}'. Check the spelling of '{place}'.") from error
        raise


def _import_file(path: Path) -> Any:
    """Run a file as a module of its own; the same content is run once per process."""
    name = f"_mlipbench_{path.stem}_{sha256_of(path)[:16]}"
    if name not in sys.modules:
        spec = spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise BadInput(f"{path} cannot be imported; a Python file ends in .py.")
        module = module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and pickles look their module up
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _identity(module: str) -> str:
    """Return what decides a module's answers, without importing it.

    That is its distribution and version, or the sha256 of its source when no distribution holds it. Code installed
    in place keeps its version while it is edited.
    """
    top = module.partition(".")[0]
    spec = None if top in sys.builtin_module_names else find_spec(top)
    if spec is None or top in sys.stdlib_module_names:
        if top in sys.stdlib_module_names:
            return f"python=={platform.python_version()}"
        raise NotApplicable(
            f"the module '{top}' of '{module}' is not installed. Check the spelling, or give 'file.py:name'."
        )
    distributions = sorted(_distributions().get(top, ()))
    if distributions:
        return f"{distributions[0]}=={version(distributions[0])}"
    return f"sha256:{_source_hash(spec)}"


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Return which distributions hold each top-level module; asking takes a good part of a second."""
    return packages_distributions()


def _source(module: str) -> Path | None:
    """Return the source file of an installed module, without importing it; None for compiled and other strange ones."""
    top, *inner = module.split(".")
    spec = None if top in sys.builtin_module_names else find_spec(top)
    if spec is None or not inner:
        return (
            Path(spec.origin) if spec is not None and spec.origin is not None and spec.origin.endswith(".py") else None
        )
    for folder in spec.submodule_search_locations or ():
        for path in (Path(folder, *inner).with_suffix(".py"), Path(folder, *inner, "__init__.py")):
            if path.is_file():
                return path
    return None


def _source_hash(spec: ModuleSpec) -> str:
    """Return the sha256 of a module's source file, or of all source files of a package."""
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    if not folders and spec.origin is not None:
        files = [Path(spec.origin)]
    return hashlib.sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()
