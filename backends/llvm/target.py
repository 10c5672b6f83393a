"""The processor to generate code for, and LLVM itself, which is loaded only when it must work.

Loading llvmlite's library takes 30 to 170 ms, more than anything else that a first call does. So
what LLVM says of this machine is kept in the object cache, and a process that finds its objects
there never loads LLVM.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from ...ir.errors import ArgumentError
from .cache import current, key_of
from .forks import lock_held_over_forks
from .machine import identity_here

if TYPE_CHECKING:
    from llvmlite.binding import Target as LlvmTarget
    from llvmlite.binding import TargetMachine

#: Held wherever LLVM is used: it has one global lock of its own, and its objects have owners.
LOCK = lock_held_over_forks()

#: The processors, by LLVM's names, that code can be written for. LLVM takes any name, prints a
#: warning for one that it does not know and ends the process for one without 64 bits.
_PROCESSORS = {
    "x86_64": (
        *("x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"),
        *("nehalem", "westmere", "sandybridge", "ivybridge", "haswell", "broadwell", "skylake"),
        *("skylake-avx512", "cascadelake", "cooperlake", "icelake-client", "icelake-server"),
        *("tigerlake", "rocketlake", "alderlake", "sapphirerapids", "emeraldrapids"),
        *("graniterapids", "znver1", "znver2", "znver3", "znver4", "znver5"),
    ),
    "aarch64": (
        *("generic", "cortex-a72", "cortex-a76", "neoverse-n1", "neoverse-n2", "neoverse-v1"),
        *("neoverse-v2", "apple-m1", "apple-m2", "apple-m3", "apple-m4"),
    ),
}


@dataclass(frozen=True, slots=True)
class Target:
    """What code is generated for, in LLVM's words.

    `vector_bits`: the width of the widest vector registers. `llvm`: the versions of what generates.
    """

    triple: str
    cpu: str
    features: str
    vector_bits: int
    llvm: str

    def machine(self) -> TargetMachine:
        """A new code generator: position-independent code that need not be near what it calls."""
        target: LlvmTarget = llvm().Target.from_triple(self.triple)
        return target.create_target_machine(
            self.cpu, self.features, opt=2, reloc="pic", codemodel="default"
        )


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
        key = key_of("host", *identity) if identity else None
        if key is not None:
            record = current().load(key)
            fields = record.decode().split("\n") if record is not None else []
            if len(fields) == 5:
                triple, cpu, features, bits, versions = fields
                return Target(triple, cpu, features, int(bits), versions)
        binding = llvm()
        found = _probed(
            binding.get_process_triple(),
            binding.get_host_cpu_name(),
            binding.get_host_cpu_features().flatten(),
        )
        if key is not None:
            fields = [found.triple, found.cpu, found.features, str(found.vector_bits), found.llvm]
            current().store(key, "\n".join(fields).encode())
        return found


@cache
def named(cpu: str) -> Target:
    """A processor of this machine's architecture, by LLVM's name: "x86-64-v3", "znver4".

    Raises:
        ArgumentError: it is not one of those that are known.
    """
    here = host()
    known = _PROCESSORS.get(here.triple.split("-")[0], ())
    if cpu not in (*known, here.cpu):
        raise ArgumentError(
            f"there is no processor {cpu!r}",
            deduced=(f"this machine is {here.cpu} ({here.triple})",),
            hint=f"one of {', '.join(known)}" if known else f"only {here.cpu}",
        )
    with LOCK:
        return _probed(here.triple, cpu, "")


def _probed(triple: str, cpu: str, features: str) -> Target:
    """A Target whose vector width is read off the code that LLVM makes for it.

    Arithmetic on small integers is what a width adds last: AVX-512BW, and AVX2, which every
    processor that has it came with FMA and F16C.
    """
    import llvmlite

    binding = llvm()
    versions = f"llvmlite {llvmlite.__version__}, LLVM {binding.llvm_version_info}"
    target = Target(triple, cpu, features, 128, versions)
    text = """
define void @probe(ptr %x) {
  %a = load <32 x i16>, ptr %x, align 2
  %b = add <32 x i16> %a, %a
  store <32 x i16> %b, ptr %x, align 2
  ret void
}"""
    with (
        binding.create_context() as context,
        binding.parse_assembly(text, context) as module,
        target.machine() as machine,
    ):
        assembly = machine.emit_assembly(module)
    bits = 512 if "%zmm" in assembly else 256 if "%ymm" in assembly else 128
    return Target(triple, cpu, features, bits, versions)
