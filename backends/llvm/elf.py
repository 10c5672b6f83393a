"""Links a relocatable object (ELF, x86-64), without LLVM: the image of it that is loaded.

What a linker and a loader do, for the little that a kernel's object contains: place the sections,
resolve the symbols, apply the relocations (System V ABI, AMD64 supplement, section 4.4), make the
memory executable. A tenth of the time that it takes to load LLVM. An object that needs more than
this (writable data, thread-local storage, other relocations) is `Unfit`: LLVM's own linker, the
slower way, takes it.
"""

from __future__ import annotations

import platform
import struct
import sys
from dataclasses import dataclass

from .image import Code, Resolve, packed
from .image import load as load_image

_SHF_WRITE, _SHF_ALLOC, _SHF_TLS = 0x1, 0x2, 0x400
_SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS = 2, 4, 8
_SHN_UNDEF, _SHN_ABS, _SHN_RESERVED = 0, 0xFFF1, 0xFF00

_R_64, _R_PC32, _R_PLT32, _R_PC64 = 1, 2, 4, 24
_FROM_TABLE = (9, 41, 42)  # GOTPCREL, GOTPCRELX, REX_GOTPCRELX
#: `jmp *0(%rip)`, then the address to jump to: how near code calls what may be anywhere.
_STUB = bytes.fromhex("ff2500000000")
_STUB_SIZE = 16


class Unfit(Exception):
    """This object needs more than this loader does."""


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
        Unfit: as `flat`.
        UnsupportedError: as `image.load`.
    """
    return load_image(flat(image, name), resolve)


def flat(image: bytes, name: str) -> bytes:
    """The image (image.py) of an object: linked, but for where it will lie and what it calls.

    Raises:
        Unfit: the object needs more than this linker does, or is no object at all.
    """
    try:
        return _flat(image, name)
    except (struct.error, IndexError, ValueError) as error:
        raise Unfit(f"not a whole object: {error}") from None


def _flat(image: bytes, name: str) -> bytes:
    sections = _sections(image)
    places, size = _place(sections)
    symbols = _symbols(image, sections)
    relocations = list(_relocations(image, sections, places))
    # After the sections: the addresses that code reads from a table, then the stubs.
    table_at = _aligned(size, _STUB_SIZE)
    table = {r.symbol: 0 for r in relocations if r.type in _FROM_TABLE}
    table = {symbol: table_at + 8 * row for row, symbol in enumerate(table)}
    stubs_at = _aligned(table_at + 8 * len(table), _STUB_SIZE)
    called = {
        r.symbol: 0 for r in relocations if r.type == _R_PLT32 and _is_outside(symbols[r.symbol])
    }
    stubs = {symbol: stubs_at + _STUB_SIZE * row for row, symbol in enumerate(called)}
    memory = bytearray(stubs_at + _STUB_SIZE * len(stubs))
    for number, place in places.items():
        section = sections[number]
        memory[place : place + section.size] = image[section.offset :][: section.size]

    fixes: list[tuple[int, str | None]] = []

    def write(place: int, symbol: _Symbol, addend: int = 0) -> None:
        """Puts an address there, which is known when the image is loaded."""
        if _is_outside(symbol):
            fixes.append((place, symbol.name))
        elif symbol.section != _SHN_ABS:
            fixes.append((place, None))
        value = 0 if _is_outside(symbol) else _value(symbol, places)
        struct.pack_into("<Q", memory, place, (value + addend) % 2**64)

    for number, place in table.items():
        write(place, symbols[number])
    for number, place in stubs.items():
        memory[place : place + len(_STUB)] = _STUB
        write(place + len(_STUB), symbols[number])
    for relocation in relocations:
        symbol = symbols[relocation.symbol]
        if relocation.type == _R_64:
            write(relocation.place, symbol, relocation.addend)
        elif relocation.type in _FROM_TABLE:
            _apply(memory, relocation, table[relocation.symbol])
        elif relocation.type == _R_PLT32 and relocation.symbol in stubs:
            _apply(memory, relocation, stubs[relocation.symbol])
        elif _is_outside(symbol) or symbol.section == _SHN_ABS:
            raise Unfit(f"{symbol.name!r} may lie too far away")
        else:
            _apply(memory, relocation, _value(symbol, places))
    for defined in symbols:
        if defined.name == name and not _is_outside(defined):
            return packed(bytes(memory), _value(defined, places), fixes)
    raise Unfit(f"it defines no {name}")


def _value(symbol: _Symbol, places: dict[int, int]) -> int:
    """Where a symbol of the object is, from the start of the memory; what it is, if absolute."""
    if symbol.section == _SHN_ABS:
        return symbol.value
    if symbol.section not in places:
        raise Unfit(f"{symbol.name!r} is in no section that is loaded")
    return places[symbol.section] + symbol.value


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
class _Relocation:
    """What to write at `place` (from the start of the memory)."""

    place: int
    type: int
    symbol: int
    addend: int


def _relocations(
    image: bytes, sections: list[_Section], places: dict[int, int]
) -> list[_Relocation]:
    found: list[_Relocation] = []
    for section in sections:
        if section.type != _SHT_RELA or section.info not in places:
            continue
        target = sections[section.info]
        for at in range(section.offset, section.offset + section.size, 24):
            offset, info, addend = struct.unpack_from("<QQq", image, at)
            if offset + 4 > target.size:
                raise Unfit("a relocation outside its section")
            place = places[section.info] + offset
            found.append(_Relocation(place, info & 0xFFFFFFFF, info >> 32, addend))
    return found


def _apply(memory: bytearray, relocation: _Relocation, target: int) -> None:
    """Writes S + A - P, in the ABI's letters."""
    distance = target + relocation.addend - relocation.place
    if relocation.type == _R_PC64:
        struct.pack_into("<q", memory, relocation.place, distance)
    elif relocation.type in (_R_PC32, _R_PLT32, *_FROM_TABLE):
        if not -(2**31) <= distance < 2**31:
            raise Unfit("a relocation reaches too far")
        struct.pack_into("<i", memory, relocation.place, distance)
    else:
        raise Unfit(f"relocation type {relocation.type}")


def _text(image: bytes, at: int) -> str:
    return image[at : image.index(b"\0", at)].decode()


def _aligned(position: int, alignment: int) -> int:
    return position + -position % max(alignment, 1)
