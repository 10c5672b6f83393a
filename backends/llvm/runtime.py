"""From LLVM IR text to code that can be called.

    text -> module, verified -> a few passes -> object -> image -> memory

einloom's own IR has been tiled, vectorised and cleaned before it becomes text; what LLVM adds is
registers, scheduling and encoding, so its passes are few. Images are kept on disk (cache.py), and
the code of the latest in memory (loaded.py); code that something still refers to stays in any case.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from itertools import count
from typing import Any, Literal, overload

from ...ir.errors import InternalError, UnsupportedError
from . import elf
from .cache import current, key_of
from .image import MAGIC, PIPELINE, Code, address_of
from .image import load as load_image
from .loaded import in_memory, remember
from .target import LOCK, Target, host, llvm


def load(text: str, name: str) -> Code:
    """The function `name` of an IR text, in memory; the same object again as long as it is there.

    Raises:
        UnsupportedError: this machine has no function that the text declares, or does not let a
            process make code while it runs.
        InternalError: LLVM refuses the text.
    """
    target = host()
    key = key_of(
        *("object", target.llvm, target.triple, target.cpu, target.features),
        *(PIPELINE, name, text),
    )
    found = in_memory(key)
    if found is None:
        with LOCK:
            found = in_memory(key)  # another thread may have been quicker
            if found is None:
                image = current().load(key)
                if image is None:
                    image = _linkable(emit(text, target, "object"), name)
                    current().store(key, image)
                found = _linked(image, name)
                remember(key, found)
    return found


def _linkable(image: bytes, name: str) -> bytes:
    """An object's image; the object itself where only LLVM can link it."""
    if elf.works_here():
        with suppress(elf.Unfit):
            return elf.flat(image, name)
    return image


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
    with LOCK, llvm().create_context() as context:
        machine = target.machine()
        try:
            with llvm().parse_assembly(_complete(text, target), context) as module:
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
    with LOCK:
        return _complete(text, target)


def _complete(text: str, target: Target) -> str:
    layout = target.machine().target_data
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


def _linked(image: bytes, name: str) -> Code:
    if image.startswith(MAGIC):
        return load_image(image, address_of)
    return link_with_llvm(image, name)


_libraries_linked = count()


def link_with_llvm(image: bytes, name: str) -> Code:
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
    return Code(tracker[name], tracker)


@cache
def _lljit() -> Any:
    """LLVM's linker, one for the process. What it has linked is freed with the `Code`."""
    return llvm().create_lljit_compiler(suppress_errors=True)
