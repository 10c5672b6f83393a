"""Code for several x86-64 processors in one module, and an entry that chooses by CPUID.

The levels are those of the x86-64 psABI (section 3.1.1, "Processor Architecture"): sets of
instructions, each with what the level below it has. What CPUID and XGETBV (Intel SDM, volume 2)
say is looked at in the first call; from then on the entry is one load and one jump.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

#: Where a processor says what it has: a register of a leaf of CPUID, or XCR0, which says what the
#: system saves of a thread's registers. Each is read before the conditions on it are looked at.
_WORDS = {"leaf1": (1, "ecx"), "leaf7": (7, "ebx"), "extended": (0x8000_0001, "ecx")}
_REGISTERS = ("eax", "ebx", "ecx", "edx")

#: level -> (word, bits that must be set), in the order in which they can be asked for: XGETBV needs
#: OSXSAVE (leaf 1, bit 27).
_NEEDS: dict[str, tuple[tuple[str, tuple[int, ...]], ...]] = {
    "x86-64": (),
    # SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT; LAHF
    "x86-64-v2": (("leaf1", (0, 9, 13, 19, 20, 23)), ("extended", (0,))),
    # FMA, MOVBE, OSXSAVE, AVX, F16C; SSE and AVX registers; BMI1, AVX2, BMI2; LZCNT
    "x86-64-v3": (
        ("leaf1", (12, 22, 27, 28, 29)),
        ("xcr0", (1, 2)),
        ("leaf7", (3, 5, 8)),
        ("extended", (5,)),
    ),
    # masks and the wide registers; AVX-512 F, DQ, CD, BW, VL
    "x86-64-v4": (("xcr0", (5, 6, 7)), ("leaf7", (16, 17, 28, 30, 31))),
}

#: The levels from the least to the most.
LEVELS = tuple(_NEEDS)

#: What the entry returns where the processor has not what the least of the variants needs.
NO_PROCESSOR = 4


def variant_name(entry: str, level: str) -> str:
    """The name of the variant for a level: one that a linker sees, and no shared object exports."""
    return f"{entry}.{level.replace('-', '_')}"


def combined(texts: Mapping[str, str], entry: str) -> str:
    """One IR text of the texts for some levels, each of which defines `entry`, and the choice."""
    shared: dict[str, None] = {}
    bodies: list[str] = []
    for level, text in texts.items():
        once, body = _apart(_variant(text, level, entry))
        shared |= dict.fromkeys(once)
        bodies.append(body)
    order = sorted(texts, key=LEVELS.index, reverse=True)
    return "\n\n".join(["\n".join(shared), *bodies, _choice(order, entry)])


def _variant(text: str, level: str, entry: str) -> str:
    """The text with all that it defines marked with the level, for a processor of that level."""
    mark = level.replace("-", "_")
    defined = re.findall(r"^(?:define [^@\n]*)?@([\w.$-]+)(?=\(| =)", text, re.MULTILINE)
    names = {name: f"{name}.{mark}" for name in defined}
    names[entry] = variant_name(entry, level)
    text = re.sub(r"@([\w.$-]+)", lambda m: f"@{names.get(m[1], m[1])}", text)
    number = LEVELS.index(level)
    text = re.sub(r"(?<=[ )])#(\d+)(?= [={])", rf"#{number}\1", text)
    lines = text.split("\n")
    for at, line in enumerate(lines):
        if line.startswith("define "):
            hidden = re.sub(r"^define (?!internal )", "define hidden ", line)
            lines[at] = f'{hidden.removesuffix("{")}"target-cpu"="{level}" {{'
    return "\n".join(lines)


def _apart(text: str) -> tuple[list[str], str]:
    """What a module may say once only: declarations and metadata; and all the rest."""
    lines = text.split("\n")
    once = [line for line in lines if line.startswith(("declare ", "!"))]
    rest = [line for line in lines if not line.startswith(("declare ", "!"))]
    return once, "\n".join(rest).strip()


def _choice(levels: list[str], entry: str) -> str:
    """The entry; and what it calls first, which looks for the variant to call from then on.

    Threads that look at the same time find the same.
    """
    chosen = "null"
    lines: list[str] = []
    for level in reversed(levels):
        number = LEVELS.index(level)
        lines += [
            f"  %has{number} = icmp uge i32 %level, {number}",
            f"  %best{number} = select i1 %has{number}, ptr @{variant_name(entry, level)}, "
            f"ptr {chosen}",
        ]
        chosen = f"%best{number}"
    search = "\n".join(lines)
    return f"""\
@{entry}.chosen = internal global ptr @{entry}.choose, align 8

define i32 @{entry}(ptr %params, ptr %data) nounwind {{
  %chosen = load atomic ptr, ptr @{entry}.chosen monotonic, align 8
  %status = musttail call i32 %chosen(ptr %params, ptr %data)
  ret i32 %status
}}

define internal i32 @{entry}.choose(ptr %params, ptr %data) nounwind {{
  %level = call i32 @{entry}.level()
{search}
  %none = icmp eq ptr {chosen}, null
  br i1 %none, label %unfit, label %found
unfit:
  ret i32 {NO_PROCESSOR}
found:
  store atomic ptr {chosen}, ptr @{entry}.chosen monotonic, align 8
  %status = musttail call i32 {chosen}(ptr %params, ptr %data)
  ret i32 %status
}}

{_level(entry)}"""


def _level(entry: str) -> str:
    """A function that returns the number of this processor's level."""
    lines = [f"define internal i32 @{entry}.level() nounwind {{", *_cpuid("most", 0, "eax")]
    for word, (leaf, register) in _WORDS.items():
        lines += _cpuid(word, leaf, register)
    lines += [
        "  %leaf7.there = icmp uge i32 %most, 7",  # of a leaf past the last some give the last
        "  %leaf7.known = select i1 %leaf7.there, i32 %leaf7, i32 0",
    ]
    asked = 0
    for number, (level, needs) in enumerate(_NEEDS.items()):
        for word, bits in needs:
            value = {"leaf7": "%leaf7.known", "xcr0": f"%xcr0.{asked}"}.get(word, f"%{word}")
            if word == "xcr0":
                places = "={eax},={edx},{ecx}"
                lines += [
                    f'  {value}.all = call {{ i32, i32 }} asm "xgetbv", "{places}"(i32 0)',
                    f"  {value} = extractvalue {{ i32, i32 }} {value}.all, 0",
                ]
            mask = sum(1 << bit for bit in bits)
            lines += [
                f"  %has{asked} = and i32 {value}, {mask}",
                f"  %all{asked} = icmp eq i32 %has{asked}, {mask}",
                f"  br i1 %all{asked}, label %more{asked}, label %less{asked}",
                f"less{asked}: ; not {level}",
                f"  ret i32 {number - 1}",
                f"more{asked}:",
            ]
            asked += 1
    return "\n".join([*lines, f"  ret i32 {len(_NEEDS) - 1}", "}", ""])


def _cpuid(name: str, leaf: int, register: str) -> list[str]:
    """What a register holds after CPUID of a leaf (and of its part 0)."""
    four = "{ i32, i32, i32, i32 }"
    places = ",".join(f"={{{place}}}" for place in _REGISTERS)
    return [
        f'  %{name}.all = call {four} asm "cpuid", "{places},{{eax}},{{ecx}}"(i32 {leaf}, i32 0)',
        f"  %{name} = extractvalue {four} %{name}.all, {_REGISTERS.index(register)}",
    ]
