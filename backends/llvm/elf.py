"""Loads a relocatable object (ELF, x86-64) into memory, without LLVM.

What a linker and a loader do, for the little that a kernel's object contains: place the sections,
resolve the symbols, apply the relocations (System V ABI, AMD64 supplement, section 4.4), make the
memory executable. A tenth of the time that it takes to load LLVM. An object that needs more than
this (writable data, thread-local storage, other relocations) is `Unfit`: LLVM's own linker, the
slower way, takes it.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...ir.errors import UnsupportedError

#: From the name of a function or variable of the process to its address; None: there is none.
Resolve = Callable[[str], int | None]

_SHF_WRITE, _SHF_ALLOC, _SHF_TLS = 0x1, 0x2, 0x400
_SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS = 2, 4, 8
_SHN_UNDEF, _SHN_ABS, _SHN_RESERVED = 0, 0xFFF1, 0xFF00

_R_64, _R_PC32, _R_PLT32, _R_PC64 = 1, 2, 4, 24
_FROM_TABLE = (9, 41, 42)  # GOTPCREL, GOTPCRELX, REX_GOTPCRELX
#: `jmp *0(%rip)`, then the address to jump to: how near code calls what may be anywhere.
_STUB = bytes.fromhex("ff2500000000")
_STUB_SIZE = 16

_PROT_READ, _PROT_EXEC = 1, 4


class Unfit(Exception):
    """This object needs more than this loader does."""


@dataclass(frozen=True, slots=True)
class Code:
    """A function in memory, for as long as this object lives."""

    address: int
    keeper: Any


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int


@dataclass(frozen=True, slots=True)
class _Symbol:
    name: str
    section: int
    value: int


def works_here() -> bool:
    """Whether this process can run what `load` loads."""
    return sys.platform.startswith("linux") and platform.machine() == "x86_64"


def load(image: bytes, name: str, resolve: Resolve) -> Code:
    """The object in memory, and the address of its function `name`.

    Raises:
        Unfit: the object needs more than this loader does, or is no object at all.
        UnsupportedError: it needs a function that the process does not have, or the system forbids
            to make code while running.
    """
    try:
        return _load(image, name, resolve)
    except (struct.error, IndexError, ValueError) as error:
        raise Unfit(f"not a whole object: {error}") from None
    except OSError as error:
        raise UnsupportedError(f"there is no memory for native code: {error}") from None


def _load(image: bytes, name: str, resolve: Resolve) -> Code:
    from mmap import MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap

    sections = _sections(image)
    places, size = _place(sections)
    symbols = _symbols(image, sections)
    fixes = list(_relocations(image, sections, places))
    # After the sections: the addresses that code reads from a table, then the stubs.
    table_at = _aligned(size, _STUB_SIZE)
    table = {fix.symbol: 0 for fix in fixes if fix.type in _FROM_TABLE}
    table = {symbol: table_at + 8 * number for number, symbol in enumerate(table)}
    stubs_at = _aligned(table_at + 8 * len(table), _STUB_SIZE)
    called = {f.symbol: 0 for f in fixes if f.type == _R_PLT32 and _is_outside(symbols[f.symbol])}
    stubs = {symbol: stubs_at + _STUB_SIZE * number for number, symbol in enumerate(called)}
    total = max(stubs_at + _STUB_SIZE * len(stubs), 1)

    memory = mmap(-1, total, flags=MAP_PRIVATE | MAP_ANONYMOUS, prot=PROT_READ | PROT_WRITE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for number, place in places.items():
        section = sections[number]
        memory[place : place + section.size] = image[section.offset :][: section.size]

    def address(number: int) -> int:
        symbol = symbols[number]
        if symbol.section == _SHN_ABS:
            return symbol.value
        if not _is_outside(symbol):
            if symbol.section not in places:
                raise Unfit(f"{symbol.name!r} is in no section that is loaded")
            return base + places[symbol.section] + symbol.value
        found = resolve(symbol.name)
        if found is None:
            raise UnsupportedError(
                f"native code needs {symbol.name}(), which is nowhere to be found"
            )
        return found

    for symbol, place in table.items():
        struct.pack_into("<Q", memory, place, address(symbol))
    for symbol, place in stubs.items():
        memory[place : place + len(_STUB)] = _STUB
        struct.pack_into("<Q", memory, place + len(_STUB), address(symbol))
    for fix in fixes:
        if fix.type in _FROM_TABLE:
            value = base + table[fix.symbol]
        elif fix.symbol in stubs and fix.type == _R_PLT32:
            value = base + stubs[fix.symbol]
        else:
            value = address(fix.symbol)
        _apply(memory, base, fix, value)
    _make_executable(base, total)
    for number, defined in enumerate(symbols):
        if defined.name == name and not _is_outside(defined):
            return Code(address(number), memory)
    raise Unfit(f"it defines no {name}")


def _sections(image: bytes) -> list[_Section]:
    if image[:7] != b"\x7fELF\x02\x01\x01" or struct.unpack_from("<HH", image, 16) != (1, 62):
        raise Unfit("not a relocatable object for x86-64")
    (start,) = struct.unpack_from("<Q", image, 40)
    size, count, names_index = struct.unpack_from("<HHH", image, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", image, start + size * n) for n in range(count)]
    names = headers[names_index][4]
    sections = [
        _Section(_text(image, names + name), kind, flags, offset, length, link, info, align)
        for name, kind, flags, _, offset, length, link, info, align, _ in headers
    ]
    for section in sections:
        if section.type != _SHT_NOBITS and section.offset + section.size > len(image):
            raise Unfit(f"section {section.name} is cut off")
    return sections


def _place(sections: list[_Section]) -> tuple[dict[int, int], int]:
    """Where each section goes that takes part in running, and the end of the last."""
    places: dict[int, int] = {}
    end = 0
    for number, section in enumerate(sections):
        # Nothing is ever thrown through a kernel: the tables for that are left out.
        if not section.flags & _SHF_ALLOC or not section.size or section.name == ".eh_frame":
            continue
        # `.data.rel.ro` is written to only while it is relocated, like everything here.
        writable = section.flags & _SHF_WRITE and not section.name.startswith(".data.rel.ro")
        if writable or section.flags & _SHF_TLS or section.type == _SHT_NOBITS:
            raise Unfit(f"section {section.name} is variable data")
        places[number] = _aligned(end, section.align)
        end = places[number] + section.size
    return places, end


def _symbols(image: bytes, sections: list[_Section]) -> list[_Symbol]:
    found: list[_Symbol] = []
    for section in sections:
        if section.type == _SHT_SYMTAB:
            names = sections[section.link].offset
            for at in range(section.offset, section.offset + section.size, 24):
                name, section_of, value = struct.unpack_from("<I2xHQ", image, at)
                found.append(_Symbol(_text(image, names + name), section_of, value))
    for symbol in found:
        if symbol.section >= _SHN_RESERVED and symbol.section != _SHN_ABS:
            raise Unfit(f"symbol {symbol.name} is in a section of a special kind")
    return found


def _is_outside(symbol: _Symbol) -> bool:
    return symbol.section == _SHN_UNDEF


@dataclass(frozen=True, slots=True)
class _Fix:
    """A relocation: what to write at `place` (from the start of the memory)."""

    place: int
    type: int
    symbol: int
    addend: int


def _relocations(image: bytes, sections: list[_Section], places: dict[int, int]) -> list[_Fix]:
    fixes: list[_Fix] = []
    for section in sections:
        if section.type != _SHT_RELA or section.info not in places:
            continue
        target = sections[section.info]
        for at in range(section.offset, section.offset + section.size, 24):
            offset, info, addend = struct.unpack_from("<QQq", image, at)
            if offset + 4 > target.size:
                raise Unfit("a relocation outside its section")
            fixes.append(_Fix(places[section.info] + offset, info & 0xFFFFFFFF, info >> 32, addend))
    return fixes


def _apply(memory: Any, base: int, fix: _Fix, value: int) -> None:
    """Writes S + A, or S + A - P, in the ABI's letters."""
    if fix.type == _R_64:
        struct.pack_into("<Q", memory, fix.place, (value + fix.addend) % 2**64)
        return
    distance = value + fix.addend - (base + fix.place)
    if fix.type == _R_PC64:
        struct.pack_into("<q", memory, fix.place, distance)
    elif fix.type in (_R_PC32, _R_PLT32, *_FROM_TABLE):
        if not -(2**31) <= distance < 2**31:
            raise Unfit("a relocation reaches too far")
        struct.pack_into("<i", memory, fix.place, distance)
    else:
        raise Unfit(f"relocation type {fix.type}")


def _make_executable(base: int, size: int) -> None:
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if protect(base, size, _PROT_READ | _PROT_EXEC) != 0:
        raise UnsupportedError("the system does not let this process make code while it runs")


def _text(image: bytes, at: int) -> str:
    return image[at : image.index(b"\0", at)].decode()


def _aligned(position: int, alignment: int) -> int:
    return position + -position % max(alignment, 1)
