"""The command line: `einloom {compile, run, show, passes, rewrite, pack, cache, prebuild}`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence

import einloom
from einloom import commands
from einloom.ir.errors import EinloomError

EPILOG = """\
examples:
  einloom show 'bij,bjk->bik'
  einloom compile 'bij,bjk->bik' --shapes 8x64x32,8x32x16 --emit asm
  einloom compile attention.ein --dtypes f32 -o attention.o
  einloom run 'ij,jk->ik' a.npy b.npy -o c.npy
  einloom passes attention.ein --rank M --svg > passes.svg
  einloom rewrite 'ij,jk,kl->il' -p order --dtypes f32 --report
  einloom pack 'ij,jk->ik' --shapes 4x4,4x4 --slots 8192 --secret 0 --svg slots.svg
  einloom run 'ij,j->i' a.npy v.npy --backend ckks --secret 0 --report
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, or 2 after a user's mistake."""
    options = _parser().parse_args(argv)
    try:
        options.command(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone (`einloom show ... | head`): what is left to flush has no place to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (EinloomError, OSError, MemoryError) as error:
        print(f"einloom: {_in_own_words(error, vars(options))}", file=sys.stderr)
        return 2
    return 0


def _in_own_words(error: BaseException, options: Mapping[str, object]) -> str:
    """What went wrong; in the hint `shapes=` is `--shapes`, if the command has such an option."""
    text, hint, said = (str(error) or "out of memory").rpartition("\n  hint: ")

    def option(match: re.Match[str]) -> str:
        name, true, value = match.groups()
        if name not in options:
            return match[0]
        return f"--{name}" if true or not value else f"--{name} {value}"

    return text + hint + (re.sub(r"\b(\w+)=(True\b)?([\w\"'])?", option, said) if hint else said)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="einloom",
        description="Compile and run einsums.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"einloom {einloom.__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)

    operands = argparse.ArgumentParser(add_help=False)
    operands.add_argument(
        "--shapes", metavar="8x64,64", help="of the operands; A=8x64,B=64 by name"
    )
    operands.add_argument("--dtypes", metavar="f32", help="for all operands, or f32,f64 for each")

    source = "subscripts, cascade text, FILE.ein, or -"
    text = argparse.ArgumentParser(add_help=False, parents=[operands])
    text.add_argument("what", metavar="EINSUM", help=source)
    text.add_argument("--semiring", metavar="NAME", help="such as max_plus")
    text.add_argument("--name", help="what the cascade, and its function in code, is called")
    text.add_argument("--notation", choices=("compact", "named"))

    pipeline = argparse.ArgumentParser(add_help=False)
    pipeline.add_argument(
        "-p",
        "--passes",
        metavar="TEXT",
        help="a pipeline, such as 'squeeze, diagonal, presum, order', which is the default",
    )

    packing = argparse.ArgumentParser(add_help=False)
    group = packing.add_argument_group("packing, for encrypted data")
    group.add_argument("--slots", type=int, help="of a ciphertext, half its ring; default: enough")
    group.add_argument(
        "--secret",
        metavar="0,1",
        help="the inputs that are encrypted, or A,B by name; default: all",
    )
    group.add_argument(
        "--layout", metavar="NAME", help="of encrypted inputs and outputs: row-major or free"
    )
    group.add_argument("--plan", metavar="NAME", help="best (the default) or einhops")
    group.add_argument(
        "--keys", metavar="NAME", help="of rotations: each (the default), few or powers-of-two"
    )
    group.add_argument(
        "--approximate",
        metavar="TEXT",
        help="what stands for a function, such as 'sigmoid on -8..8 degree 7'",
    )
    group.add_argument("--levels", type=int, help="the most that there are; default: enough")

    encryption = argparse.ArgumentParser(add_help=False, parents=[packing])
    group = encryption.add_argument_group("encryption, with --backend ckks")
    group.add_argument("--engine", metavar="NAME", help="simulated (the default) or seal")
    group.add_argument("--precision", type=int, metavar="BITS", help="after the binary point")
    group.add_argument("--magnitude", type=float, metavar="X", help="of the largest input")
    group.add_argument("--bound", type=float, metavar="X", help="of what is computed on the way")
    group.add_argument("--seed", type=int, help="of the simulated noise")
    group.add_argument(
        "--insecure", action="store_true", default=None, help="small rings, for experiments"
    )

    what = argparse.ArgumentParser(add_help=False, parents=[text, pipeline, encryption])
    what.add_argument("--backend", choices=("llvm", "numpy", "ckks"), help="default: llvm")
    what.add_argument("--optimize", metavar="NAME", help="how to order many operands")

    command = subparsers.add_parser("compile", parents=[what], help="write what was compiled")
    command.add_argument(
        "--emit", choices=("ir", *commands.EMIT), help="default: by -o's suffix, or ir"
    )
    command.add_argument(
        "--cpu",
        metavar="NAMES",
        help="LLVM's name of it, or several levels: x86-64-v4,x86-64-v3,x86-64; default: this one",
    )
    command.add_argument("-o", "--output", metavar="FILE", help="default: standard output")
    command.set_defaults(command=commands.compile)

    command = subparsers.add_parser("show", parents=[what], help="print every step")
    command.set_defaults(command=commands.show)

    command = subparsers.add_parser("run", parents=[what], help="run it on .npy and .npz files")
    command.add_argument(
        "arrays", nargs="+", metavar="ARRAY", help="x.npy, x.npz:key; A=x.npy for the input A"
    )
    command.add_argument("-o", "--output", metavar="FILE", help=".npy, or .npz by output name")
    command.add_argument(
        "--report", action="store_true", help="with --backend ckks: what it cost, how far off it is"
    )
    command.set_defaults(command=commands.run)

    command = subparsers.add_parser(
        "passes", parents=[text], help="count the passes over the data, and say why"
    )
    command.add_argument("--rank", metavar="M", help="only those over this rank")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument("--svg", action="store_true", help="as a picture")
    command.set_defaults(command=commands.passes)

    command = subparsers.add_parser(
        "rewrite", parents=[text, pipeline], help="print the cascade after a pipeline"
    )
    command.add_argument(
        "--report",
        action="store_true",
        help="passes, footprint, traffic, operations: before, after",
    )
    command.add_argument(
        "--buffer",
        type=int,
        default=1 << 20,
        metavar="BYTES",
        help="of the buffer that the report's fused traffic goes through; default: 1 MiB",
    )
    command.add_argument(
        "--check", action="store_true", help="compare the values, on random and extreme inputs"
    )
    command.set_defaults(command=commands.rewrite)

    command = subparsers.add_parser(
        "pack", parents=[text, packing], help="pack it into the slots of encrypted vectors"
    )
    form = command.add_mutually_exclusive_group()
    form.add_argument("--program", action="store_true", help="print the SlotProgram instead")
    form.add_argument("--json", action="store_true", help="as JSON")
    command.add_argument("--svg", metavar="FILE", help="write a picture of the slots as well")
    command.set_defaults(command=commands.pack)

    command = subparsers.add_parser("cache", help="the compiled objects that are kept on disk")
    command.add_argument(
        "action",
        nargs="?",
        choices=("info", "clear"),
        default="info",
        help="show, or remove, what is there (default: info)",
    )
    command.set_defaults(command=commands.cache)

    command = subparsers.add_parser(
        "prebuild",
        parents=[operands],
        help="compile ahead of the first call",
        description="Compile into the object cache what later processes call: what is most common, "
        "or one einsum, for some shapes.",
    )
    command.add_argument("what", nargs="?", metavar="EINSUM", help=source)
    command.set_defaults(command=commands.prebuild)
    return parser


if __name__ == "__main__":
    sys.exit(main())
