"""What each command of the command line does: from parsed arguments to what it prints or writes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einloom.ir.errors import ArgumentError, EinloomError, PassError

if TYPE_CHECKING:
    from einloom.encrypted import Encrypted
    from einloom.executable import Executable
    from einloom.ir.cascade import Cascade

#: What `compile` writes: the suffix that `Executable.save` goes by, and the backend it comes from.
EMIT = {
    "llvm": (".ll", "llvm"),
    "asm": (".s", "llvm"),
    "obj": (".o", "llvm"),
    "so": (".so", "llvm"),
    "header": (".h", "llvm"),
    "numpy": (".py", "numpy"),
    "python": (".py", "llvm"),
    "slots": (".slots", "ckks"),
}
BINARY = ("obj", "so")


def compile(options: argparse.Namespace) -> None:
    """Writes what was compiled, in the form that is asked for."""
    emit = options.emit or _emit_of(options.output, options.backend)
    suffix, needed = EMIT.get(emit, ("", None))
    backend = options.backend or needed or "llvm"
    if needed not in (None, backend):
        raise ArgumentError(f"--emit {emit} needs --backend {needed}, not {backend}")
    if emit in BINARY and options.output is None and sys.stdout.isatty():
        raise ArgumentError(f"--emit {emit} is binary", hint="give -o FILE, or redirect it")
    _check_target(options.output)
    f = _executable(options, backend)
    if emit == "ir":
        content = f"{f.cascade}\n".encode()
    else:
        content = _saved(f, suffix, options)
    if options.output is None:
        sys.stdout.buffer.write(content)
    else:
        _write(Path(options.output), content)


def _emit_of(output: str | None, backend: str | None) -> str:
    """What to write where the file's name says it, or, for what several write, the backend."""
    suffix = Path(output).suffix if output is not None else ""
    found = [(emit, needed) for emit, (ending, needed) in EMIT.items() if ending == suffix]
    fitting = [(emit, needed) for emit, needed in found if needed == backend]
    return next((emit for emit, _ in (*fitting, *found)), "ir")


def _saved(f: Executable | Encrypted, suffix: str, options: argparse.Namespace) -> bytes:
    """What `f.save` writes for a suffix; a file's own name may end in any way, or there be none."""
    import tempfile

    from einloom.encrypted import Encrypted

    stem = Path(options.output).stem if options.output is not None else f.cascade.name
    with tempfile.TemporaryDirectory(prefix="einloom-") as folder:
        path = Path(folder) / f"{stem}{suffix}"
        if isinstance(f, Encrypted):
            f.save(path)
        else:
            cpu = options.cpu
            f.save(path, cpu=cpu.split(",") if cpu is not None and "," in cpu else cpu)
        return path.read_bytes()


def show(options: argparse.Namespace) -> None:
    """Prints every step of the compilation."""
    for number, step in enumerate(_executable(options, options.backend or "llvm").steps):
        print(f"{step}" if number == 0 else f"\n{step}")


def run(options: argparse.Namespace) -> None:
    """Runs it on arrays from files; prints a summary of each output, or writes them."""
    import numpy as np

    from einloom.encrypted import Encrypted

    _check_target(options.output)
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for given in options.arrays:
        name, equals, source = given.partition("=")
        if equals and name.isidentifier():
            named[name] = _load(source)
        else:
            positional.append(_load(given))
    f = _executable(options, options.backend or "llvm")
    if options.report and options.backend != "ckks":
        raise ArgumentError("--report needs --backend ckks")
    result = f(*positional, **named)
    names = f.cascade.outputs
    outputs = dict(zip(names, result if len(names) > 1 else (result,), strict=True))
    for name, value in outputs.items():
        print(_summary(name, np.asarray(value)))
    if isinstance(f, Encrypted):
        print(f"\n{f.report}" if options.report else f)
    if options.output is not None:
        _save_arrays(Path(options.output), {k: np.asarray(v) for k, v in outputs.items()})


def passes(options: argparse.Namespace) -> None:
    """Prints the passes over the data: as a table with its reasons, as JSON, or as a picture."""
    from einloom.passes.analysis.pass_count import count_passes

    report = count_passes(_cascade(options))
    if options.rank is not None:
        report = report.along(options.rank)
    if options.json:
        print(report.to_json())
    elif options.svg:
        sys.stdout.write(report.to_svg())
    else:
        print(report)


def rewrite(options: argparse.Namespace) -> None:
    """Prints the Cascade after a pipeline; what it was worth, and a check, follow as comments.

    Raises:
        PassError: the check found inputs on which it is another function.
    """
    from einloom.templates import as_pipeline

    before = _cascade(options)
    after = as_pipeline(options.passes).apply(before)
    print(after)
    if options.report:
        from einloom.passes.analysis.comparison import compare

        found = compare(before, after, options.buffer)
        print("\n" + "\n".join(f"# {line}" for line in str(found).split("\n")))
    if options.check:
        from einloom.passes.equality import counterexample

        wrong = counterexample(before, after)
        if wrong is not None:
            raise PassError(f"the cascade is not what it was: {wrong}")
        print("\n# the same values, before and after, on every input that was tried")


def pack(options: argparse.Namespace) -> None:
    """Prints how a product is packed into encrypted slots: layouts, pictures, counts, plans."""
    import json

    from einloom.reports import pack as packed

    _check_target(options.svg)
    found = packed(
        _what(options.what),
        options.slots,
        shapes=_shapes(options.shapes),
        secret=_secret(options.secret),
        **_given(
            options,
            *("semiring", "notation", "name"),
            *("layout", "plan", "keys", "approximate", "levels"),
        ),
    )
    if options.svg is not None:
        _write(Path(options.svg), found.to_svg().encode())
    if options.json:
        print(json.dumps(found.as_dict(), indent=1))
    else:
        print(found.program if options.program else found)


def cache(options: argparse.Namespace) -> None:
    """Prints what is kept on disk, or removes it."""
    from einloom.backends.llvm.cache import current

    if options.action == "clear":
        removed = current().clear()
        print(f"{removed} object{'' if removed == 1 else 's'} removed")
    else:
        print(current().info())


def prebuild(options: argparse.Namespace) -> None:
    """Fills the object cache; prints what is in it then."""
    from einloom import prebuilt
    from einloom.backends.llvm.cache import current

    if options.what is not None:
        if options.shapes is None:
            raise ArgumentError(
                "an EINSUM is compiled ahead for some shapes", hint="give --shapes 8x64,64"
            )
        prebuilt.fill(_what(options.what), _shapes(options.shapes), _listed(options.dtypes))
    elif options.shapes is not None or options.dtypes is not None:
        raise ArgumentError("--shapes and --dtypes are those of an EINSUM")
    else:
        prebuilt.fill_commonest()
    kept = current().info()
    print(kept)
    if kept.failures:
        raise ArgumentError("not all of it could be kept in the object cache")


# ---- what the user gives


def _executable(options: argparse.Namespace, backend: str) -> Executable | Encrypted:
    """The Executable that the arguments describe."""
    from einloom import compiler

    encryption = _given(options, *_ENCRYPTION)
    if options.secret is not None:
        encryption["secret"] = _secret(options.secret)
    if encryption and backend != "ckks":
        given = ", ".join(f"--{name}" for name in encryption)
        raise ArgumentError(f"{given} can be given with --backend ckks alone")
    compiled: Callable[..., Executable | Encrypted] = compiler.compile
    return compiled(
        _what(options.what),
        backend=backend,
        passes=options.passes,
        shapes=_shapes(options.shapes),
        dtypes=_listed(options.dtypes),
        **_given(options, "semiring", "notation", "optimize", "name"),
        **encryption,
    )


#: The options of encryption that are given as they are.
_ENCRYPTION = (
    *("slots", "layout", "plan", "keys", "approximate", "levels"),
    *("engine", "precision", "magnitude", "bound", "seed", "insecure"),
)


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those of the options that are given."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _cascade(options: argparse.Namespace) -> Cascade:
    """The Cascade that the arguments describe, with what they say of shapes and dtypes in it."""
    from einloom.compiler import cascade_of

    return cascade_of(
        _what(options.what),
        shapes=_shapes(options.shapes),
        dtypes=_listed(options.dtypes),
        **_given(options, "semiring", "notation", "name"),
    )


def _what(what: str) -> str | Cascade:
    """Subscripts and cascade text as they are; what a file says; `-` is standard input.

    A file's cascade is read here, so that what it uses is found beside it.
    """
    if what == "-":
        return sys.stdin.read()
    if "{" in what or not (what.endswith(".ein") or os.sep in what):
        return what
    try:
        text = Path(what).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"cannot read {what}: {_reason(error)}") from None
    if "{" not in text:
        return text
    from einloom.frontend.parser import parse_cascade

    return parse_cascade(text, what, os.path.dirname(what))


def _listed(text: str | None) -> str | list[str] | dict[str, str] | None:
    """`f32` as it is, `f32,f64` as a list, `A=f32,B=f64` as a dict."""
    if text is None or not ("," in text or "=" in text):
        return text
    entries = [entry.strip() for entry in text.split(",")]
    if not any("=" in entry for entry in entries):
        return entries
    pairs = [entry.partition("=") for entry in entries]
    if not all(equals for _, equals, _ in pairs):
        raise ArgumentError(f"{text!r} names some inputs and not others")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _secret(text: str | None) -> list[str | int] | None:
    """`0,1` as positions, `A,B` as names."""
    if text is None:
        return None
    entries = [entry.strip() for entry in text.split(",")]
    return [int(entry) if entry.isdecimal() else entry for entry in entries]


def _shapes(text: str | None) -> Any:
    """`8x64,64`, `A=8x64,B=64`; a scalar's shape is empty."""
    if text is None:
        return None
    given = _listed(text)
    if isinstance(given, dict):
        return {name: _shape(shape) for name, shape in given.items()}
    return [_shape(shape) for shape in ([given] if isinstance(given, str) else given or ())]


def _shape(text: str) -> tuple[int, ...]:
    extents = text.split("x") if text else []
    if not all(extent.strip().isdecimal() for extent in extents):
        raise ArgumentError(f"{text!r} is not a shape", hint="write 8x64x32; a scalar's is empty")
    return tuple(map(int, extents))


def _load(source: str) -> Any:
    """The array in `file.npy`, `file.npz` (if there is one) or `file.npz:key`; never a pickle.

    Raises:
        ArgumentError: there is no such file or key, or it holds no plain array.
    """
    import zipfile

    import numpy as np

    path, colon, key = source, "", ""
    if not os.path.exists(path):
        path, colon, key = source.rpartition(":")
    if not colon:
        path = source
    try:
        with open(path, "rb") as file:
            found: Any = np.load(file, allow_pickle=False)
            if not hasattr(found, "files"):
                if colon:
                    raise ArgumentError(f"{path} is one array: there is no {key!r} in it")
                return found
            keys: list[str] = found.files
            if not colon and len(keys) == 1:
                key = keys[0]
            if key not in keys:
                raise ArgumentError(
                    f"{path} holds {', '.join(keys) or 'nothing'}",
                    hint=f"say which: {path}:{keys[0] if keys else 'key'}",
                )
            return found[key]
    except EinloomError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ArgumentError(f"cannot read {source}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


# ---- what the user gets


def _summary(name: str, array: Any) -> str:
    """One line on an array, and its values if they are few."""
    import numpy as np

    from einloom.ir.dtypes import of_numpy

    line = f"{name}[{', '.join(map(str, array.shape))}]: {of_numpy(array.dtype)}"
    if array.size and array.dtype.kind in "biuf":
        line += f"  min {array.min()}  max {array.max()}"
        if array.dtype.kind != "b":
            line += f"  mean {array.mean():.6g}"
    return line + "\n" + np.array2string(array, threshold=32, edgeitems=3)


def _save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes one array as .npy, or all as .npz."""
    import io

    import numpy as np

    content = io.BytesIO()
    if path.suffix == ".npz":
        np.savez(content, allow_pickle=False, **arrays)
    elif len(arrays) == 1:
        np.save(content, next(iter(arrays.values())), allow_pickle=False)
    else:
        raise ArgumentError(f"{len(arrays)} outputs need an .npz file, not {path.name}")
    _write(path, content.getvalue())


def _check_target(output: str | None) -> None:
    """A file can be written there: better told before what it is for is computed.

    Raises:
        ArgumentError: its folder does not exist or lets nothing be written, or it is a folder.
    """
    if output is None:
        return
    path = Path(output).resolve()
    if path.is_dir():
        raise ArgumentError(f"cannot write {output}: it is a folder")
    if not path.parent.is_dir():
        raise ArgumentError(f"cannot write {output}: there is no folder {path.parent}")
    if not path.exists() and not os.access(path.parent, os.W_OK):
        raise ArgumentError(f"cannot write {output}: {path.parent} may not be written to")


def _write(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all; a link keeps pointing there, a device stays one."""
    from einloom.backends.llvm.cache import write_atomically

    path = path.resolve()
    if path.exists() and not path.is_file():
        path.write_bytes(content)  # /dev/null, a pipe
    else:
        write_atomically(path, content)
