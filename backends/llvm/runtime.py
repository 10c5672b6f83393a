"""From LLVM IR text to code that can be called.

    text -> module, verified -> a few passes -> object -> memory

einloom's own IR has been tiled, vectorised and cleaned before it becomes text; what LLVM adds is
registers, scheduling and encoding, so its passes are few. Objects are kept on disk (cache.py), and
the code of the latest in memory; code that something still refers to stays in any case.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from contextlib import suppress
from functools import cache
from itertools import count
from typing import Any, Literal, overload

from ...ir.errors import InternalError, UnsupportedError
from . import elf
from .cache import current, key_of
from .target import LOCK, Target, host, llvm

#: What is done to a module; part of every object's key.
_PIPELINE = "sroa, simplifycfg; codegen 2, pic, small"

#: How many functions stay in memory that nothing refers to, the least recently asked for left.
LOADED_BOUND = 512

_loaded: OrderedDict[str, elf.Code] = OrderedDict()


def load(text: str, name: str) -> elf.Code:
    """The function `name` of an IR text, in memory; the same object again as long as it is there.

    Raises:
        UnsupportedError: this machine has no function that the text declares, or does not let a
            process make code while it runs.
        InternalError: LLVM refuses the text.
    """
    target = host()
    key = key_of(
        *("object", target.llvm, target.triple, target.cpu, target.features),
        *(_PIPELINE, name, text),
    )
    found = _known(key)
    if found is None:
        with LOCK:
            found = _known(key)  # another thread may have been quicker
            if found is None:
                image = current().load(key)
                if image is None:
                    image = emit(text, target, "object")
                    current().store(key, image)
                found = _linked(image, name)
                while len(_loaded) >= LOADED_BOUND:
                    _loaded.popitem(last=False)
                _loaded[key] = found
    return found


def _known(key: str) -> elf.Code | None:
    found = _loaded.get(key)
    if found is not None:
        with suppress(KeyError):  # another thread may have let go of it
            _loaded.move_to_end(key)
    return found


@overload
def emit(text: str, target: Target, form: Literal["object"]) -> bytes: ...
@overload
def emit(text: str, target: Target, form: Literal["assembly", "optimised"]) -> str: ...
def emit(
    text: str, target: Target, form: Literal["object", "assembly", "optimised"]
) -> bytes | str:
    """The object code, the assembly, or the IR after LLVM's passes, of an IR text.

    Raises:
        InternalError: LLVM refuses the text.
    """
    with LOCK, target.machine() as machine, llvm().create_context() as context:
        try:
            with llvm().parse_assembly(_complete(text, target, machine), context) as module:
                module.verify()
                _optimise(module, machine)
                if form == "object":
                    return bytes(machine.emit_object(module))
                return machine.emit_assembly(module) if form == "assembly" else str(module)
        except RuntimeError as error:
            raise InternalError(
                "LLVM refuses the code that einloom generated",
                deduced=(*str(error).strip().split("\n"), f"by {target.llvm} for {target.cpu}"),
                hint="this is a defect in einloom; please report it",
            ) from None


def complete(text: str, target: Target) -> str:
    """An IR text that says what it is for, so that any of LLVM's tools takes it as it is."""
    with LOCK, target.machine() as machine:
        return _complete(text, target, machine)


def _complete(text: str, target: Target, machine: Any) -> str:
    layout = machine.target_data
    return f'target datalayout = "{layout}"\ntarget triple = "{target.triple}"\n\n{text}'


def _optimise(module: Any, machine: Any) -> None:
    with (
        llvm().create_pipeline_tuning_options(speed_level=2) as options,
        llvm().create_pass_builder(machine, options) as builder,
        llvm().create_new_module_pass_manager() as passes,
    ):
        passes.add_sroa_pass()
        passes.add_simplify_cfg_pass()
        passes.run(module, builder)


def _linked(image: bytes, name: str) -> elf.Code:
    if elf.works_here():
        try:
            return elf.load(image, name, address_of)
        except elf.Unfit:
            pass
    return link_with_llvm(image, name)


_libraries_linked = count()


def link_with_llvm(image: bytes, name: str) -> elf.Code:
    """What `elf.load` does, by LLVM: for any object and system, at the price of loading LLVM.

    Raises:
        UnsupportedError: as `load`.
    """
    with LOCK:
        library = llvm().JITLibraryBuilder().add_object_img(image).add_current_process()
        try:
            tracker = library.export_symbol(name).link(
                _lljit(), f"{name}.{next(_libraries_linked)}"
            )
        except RuntimeError as error:
            raise UnsupportedError(f"native code cannot be linked: {error}") from None
    return elf.Code(tracker[name], tracker)


@cache
def _lljit() -> Any:
    """LLVM's linker, one for the process. What it has linked is freed with the `Code`."""
    return llvm().create_lljit_compiler(suppress_errors=True)


@cache
def _libraries() -> tuple[ctypes.CDLL, ...]:
    """Where functions are looked for: the process, C's mathematics, the compiler's own helpers."""
    found: list[ctypes.CDLL] = []
    for name in (None, "libm.so.6", "libgcc_s.so.1"):
        try:
            found.append(ctypes.CDLL(name))
        except OSError:
            continue
    return tuple(found)


def address_of(symbol: str) -> int | None:
    """The address of a function or variable of this process; None if there is none."""
    for library in _libraries():
        try:
            return ctypes.addressof(ctypes.c_char.in_dll(library, symbol))
        except ValueError:
            continue
    return None
