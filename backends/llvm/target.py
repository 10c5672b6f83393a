"""The processor to generate code for, and LLVM itself, which is loaded only when it must work.

Loading llvmlite's library takes 30 to 170 ms, more than anything else that a first call does. So
what LLVM says of this machine is kept in the object cache, and a process that finds its objects
there never loads LLVM.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, get_args

from ...ir.errors import ArgumentError, UnsupportedError
from .cache import current, key_of
from .forks import lock_held_over_forks
from .isa import Feature, Isa
from .machine import has_tiles, identity_here

if TYPE_CHECKING:
    from llvmlite.binding import Target as LlvmTarget
    from llvmlite.binding import TargetMachine

#: Held wherever LLVM is used: it has one global lock of its own, and its objects have owners.
LOCK = lock_held_over_forks()

#: The processors, by LLVM's names, that code can be written for; "aarch64" is what all of them have
#: (LLVM's "generic"). LLVM takes any name, prints a warning for one that it does not know and ends
#: the process for one without 64 bits.
_PROCESSORS = {
    "x86_64": (
        *("x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"),
        *("nehalem", "westmere", "sandybridge", "ivybridge", "haswell", "broadwell", "skylake"),
        *("skylake-avx512", "cascadelake", "cooperlake", "icelake-client", "icelake-server"),
        *("tigerlake", "rocketlake", "alderlake", "sapphirerapids", "emeraldrapids"),
        *("graniterapids", "znver1", "znver2", "znver3", "znver4", "znver5"),
    ),
    "aarch64": (
        *("aarch64", "cortex-a72", "cortex-a76", "neoverse-n1", "neoverse-n2", "neoverse-v1"),
        *("neoverse-v2", "apple-m1", "apple-m2", "apple-m3", "apple-m4"),
    ),
}

#: What systems call an architecture -> what LLVM does.
_ARCHITECTURES = {"arm64": "aarch64", "amd64": "x86_64"}


@dataclass(frozen=True, slots=True)
class Target:
    """What code is generated for, in LLVM's words.

    `isa`: what the code generator may choose by. `llvm`: the versions of what generates.
    """

    triple: str
    cpu: str
    features: str
    isa: Isa
    llvm: str

    def machine(self) -> TargetMachine:
        """The code generator: position-independent code that need not be near what it calls.

        One for all code: to make it, and what it learns of the processor, takes a millisecond. Use
        it under LOCK.
        """
        return _machine(self.triple, self.cpu, self.features)


@cache
def _machine(triple: str, cpu: str, features: str) -> TargetMachine:
    target: LlvmTarget = llvm().Target.from_triple(triple)
    return target.create_target_machine(cpu, features, opt=2, reloc="pic", codemodel="default")


@cache
def llvm() -> Any:
    """`llvmlite.binding`, ready to generate code for this machine. Call it under LOCK."""
    import llvmlite.binding as binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding


@cache
def host() -> Target:
    """This machine."""
    with LOCK:  # also held while llvmlite is imported, which a child could not go on with
        identity = identity_here()
        key = key_of("host", *_FEATURES, *identity) if identity else None
        if key is not None:
            record = current().load(key)
            fields = record.decode().split("\n") if record is not None else []
            if len(fields) == 6:
                triple, cpu, features, bits, offers, versions = fields
                isa = Isa(int(bits), frozenset(f for f in _FEATURES if f in offers.split()))
                return Target(triple, cpu, features, isa, versions)
        binding = llvm()
        found = _probed(
            binding.get_process_triple(),
            binding.get_host_cpu_name(),
            binding.get_host_cpu_features().flatten(),
        )
        if has_tiles() and found.isa.bits == 512:
            there = {name for name, flag in _TILES.items() if f"+{flag}" in found.features}
            found = replace(found, isa=replace(found.isa, features=found.isa.features | there))
        if key is not None:
            offers = " ".join(sorted(found.isa.features))
            fields = [found.triple, found.cpu, found.features, str(found.isa.bits), offers]
            fields.append(found.llvm)
            current().store(key, "\n".join(fields).encode())
        return found


@cache
def named(cpu: str) -> Target:
    """A processor by LLVM's name: "x86-64-v3", "znver4", "neoverse-n1".

    One of another architecture than this machine's is taken to run the same system.

    Raises:
        ArgumentError: it is not one of those that are known.
        UnsupportedError: LLVM was built without the architecture.
    """
    here = host()
    own, dash, system = here.triple.partition("-")
    named_as = _ARCHITECTURES.get(own, own)
    order = sorted(_PROCESSORS, key=lambda architecture: architecture != named_as)
    for architecture in order:
        if cpu in _PROCESSORS[architecture]:
            break
    else:
        if cpu == here.cpu:
            return here
        known = [f"{', '.join(_PROCESSORS[architecture])}" for architecture in order]
        raise ArgumentError(
            f"there is no processor {cpu!r}",
            deduced=(f"this machine is {here.cpu} ({here.triple})",),
            hint=f"one of {'; '.join(known)}",
        )
    triple = here.triple if architecture == named_as else f"{architecture}{dash}{system}"
    with LOCK:
        if architecture != named_as:
            _load_generator(triple)
        return _probed(triple, "generic" if cpu == "aarch64" else cpu, "")


def is_native(target: Target) -> bool:
    """Whether this machine has the architecture."""
    return target.triple == host().triple


def _load_generator(triple: str) -> None:
    """Readies LLVM for another architecture than this machine's."""
    binding = llvm()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    try:
        binding.Target.from_triple(triple)
    except RuntimeError:
        raise UnsupportedError(
            f"this LLVM writes no code for {triple}", deduced=(f"it is {_versions()}",)
        ) from None


def _probed(triple: str, cpu: str, features: str) -> Target:
    """A Target whose instruction set is read off the code that LLVM makes for it."""
    if triple.startswith("x86_64"):
        features = f"{features},{_TUNING}" if features else _TUNING
    target = Target(triple, cpu, features, Isa(128), _versions())
    assembly = _assembly(_PROBE, target)
    bits = 512 if "%zmm" in assembly else 256 if "%ymm" in assembly else 128
    offers: set[Feature] = set()
    if bits == 512 or triple.startswith("aarch64"):
        offers.add("many")
    if triple.startswith("aarch64") and "sdot" in _assembly(_PROBE_DOT, target):
        offers.add("dot")
    if triple.startswith("x86_64"):
        offers.add("pmadd")
        lanes = bits // 32
        name = {128: "sse2.pmadd.wd", 256: "avx2.pmadd.wd", 512: "avx512.pmaddw.d.512"}[bits]
        text = _PROBE_FEATURES.format(name=name, n=lanes, m=2 * lanes, h=lanes // 2)
        assembly = _assembly(text, target)
        if "vpdpwssd" in assembly:
            offers.add("vnni")
        # Intel's multiply pairs of bf16 in the time of four multiply-adds of f32.
        if "vcvtneps2bf16" in assembly and bits == 512 and cpu.startswith("znver"):
            offers.add("bf16")
        if "vnni" in offers or bits == 128:
            offers.add("digits")
        # With AVX-512, AMD's processors multiply i64 in one step, Intel's in three.
        if "vpmadd52luq" in assembly and not (bits == 512 and cpu.startswith("znver")):
            offers.add("ifma")
    return replace(target, isa=Isa(bits, frozenset(offers)))


#: Arithmetic on small integers is what a width adds last: AVX-512BW, and AVX2, which every
#: processor that has it came with FMA and F16C.
_PROBE = """
define void @probe(ptr %x) {
  %a = load <32 x i16>, ptr %x, align 2
  %b = add <32 x i16> %a, %a
  store <32 x i16> %b, ptr %x, align 2
  ret void
}"""

#: What LLVM makes one instruction of where there is one.
_PROBE_FEATURES = """
declare <{n} x i32> @llvm.x86.{name}(<{m} x i16>, <{m} x i16>)

define <{n} x i32> @dot(<{m} x i16> %a, <{m} x i16> %b, <{n} x i32> %c) {{
  %p = call <{n} x i32> @llvm.x86.{name}(<{m} x i16> %a, <{m} x i16> %b)
  %s = add <{n} x i32> %p, %c
  ret <{n} x i32> %s
}}

define <{h} x i64> @wide(<{h} x i64> %a, <{h} x i64> %b, <{h} x i64> %c) {{
  %x = lshr <{h} x i64> %a, splat (i64 40)
  %y = lshr <{h} x i64> %b, splat (i64 40)
  %p = mul <{h} x i64> %x, %y
  %s = add <{h} x i64> %p, %c
  ret <{h} x i64> %s
}}

define <{n} x bfloat> @half(<{n} x float> %a) {{
  %h = fptrunc <{n} x float> %a to <{n} x bfloat>
  ret <{n} x bfloat> %h
}}"""

_PROBE_DOT = """
declare i32 @llvm.vector.reduce.add.v16i32(<16 x i32>)

define i32 @dot(<16 x i8> %a, <16 x i8> %b) {
  %x = sext <16 x i8> %a to <16 x i32>
  %y = sext <16 x i8> %b to <16 x i32>
  %p = mul <16 x i32> %x, %y
  %s = call i32 @llvm.vector.reduce.add.v16i32(<16 x i32> %p)
  ret i32 %s
}"""

#: LLVM would rather make two instructions of vpdpwssd, to shorten chains of sums; there are none.
_TUNING = "+fast-dpwssd"

_FEATURES: tuple[Feature, ...] = get_args(Feature)

#: What LLVM calls those of AMX.
_TILES: dict[Feature, str] = {"tiles": "amx-int8", "bf16_tiles": "amx-bf16"}


def _assembly(text: str, target: Target) -> str:
    binding = llvm()
    with (
        binding.create_context() as context,
        binding.parse_assembly(text, context) as module,
    ):
        assembly: str = target.machine().emit_assembly(module)
    return assembly


def _versions() -> str:
    """The versions of what generates code."""
    import llvmlite

    return f"llvmlite {llvmlite.__version__}, LLVM {llvm().llvm_version_info}"
