"""An Encrypted executable: a Cascade packed into slots, run on encrypted data."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from einloom.arguments import declared, extents_known, gathered, names_of, numbers
from einloom.backends.ckks import store
from einloom.backends.ckks.engine import Engine
from einloom.backends.ckks.foresight import largest, parameters_for
from einloom.backends.ckks.params import Parameters
from einloom.backends.ckks.report import EngineName, Exact, Report, Run, engine_of
from einloom.backends.ckks.run import ProgramClient, ProgramServer
from einloom.compilation import Template
from einloom.dispatch import keep
from einloom.encryption import Encryption, pack_cascade
from einloom.ir.cascade import Cascade
from einloom.ir.errors import ArgumentError, SlotError, UnsupportedError
from einloom.ir.layouts import Array
from einloom.ir.sizes import infer_sizes
from einloom.parties import Client, Keys, Server, Setting, Stored, check_real, read_keys
from einloom.passes.base import Pipeline, Step
from einloom.passes.fhe.choice import Packed
from einloom.passes.fhe.intervals import ranges
from einloom.specialisation import Shape


class Encrypted:
    """A Cascade compiled for encrypted data; call it with arrays.

    `f(*arrays)` takes the inputs in the order of `f.cascade.inputs`, or by name; it encrypts the
    secret ones, runs the program, decrypts, and returns the output, f64 or c128, or a tuple of
    them. `f.client()` and `f.server(keys)` are the two sides apart. `f.packed` is the plan,
    `f.source` the SlotProgram's text, `f.report` what the last call cost and how far off it was.
    Without shapes it is packed anew for those of each call.
    """

    backend = "ckks"

    def __init__(
        self,
        template: Template,
        pipeline: Pipeline,
        encryption: Encryption,
        shapes: Sequence[Shape] | None = None,
    ) -> None:
        self.pipeline, self.encryption = pipeline, encryption
        self._template, self._fixed = template, shapes is not None
        self._made: dict[tuple[Shape, ...], _Made] = {}
        self._report: Report | None = None
        self._shown = None if shapes is None else self._packed_for(tuple(shapes))

    # ---- calling

    def __call__(self, *arrays: Any, **named: Any) -> Any:
        if self._fixed:
            found = self._show()
        else:
            found = self._shown = self._packed_for(self._shapes(arrays, named))
        magnitude = self.encryption.magnitude
        limit = math.inf if magnitude is None else magnitude
        made, done = found.run(gathered(found.shapes, arrays, named, limit))
        self._report = done.report
        outputs = tuple(
            (done.outputs[name] if name in done.outputs else made[name])[()]
            for name in found.cascade.outputs
        )
        return outputs[0] if len(outputs) == 1 else outputs

    def client(self, secret_key: str | PathLike[str] | None = None) -> Client:
        """The side with the secret key: a new one, or that which `save_secret_key` wrote.

        Raises:
            ArgumentError: the shapes are not known yet; the file holds no key of these parameters.
            OSError: the file cannot be read.
        """
        setting = self._show().setting
        inner = None if secret_key is None else setting.engine.load_client(Path(secret_key))
        return Client(setting, ProgramClient(setting.program, setting.engine, inner))

    def server(self, keys: Keys | Stored) -> Server:
        """The side that computes, from a client's `keys()`, their bytes or their file.

        Raises:
            ArgumentError: the shapes are not known yet; the keys are of other parameters, or lack
                what the program needs.
            OSError: the file cannot be read.
        """
        setting = self._show().setting
        evaluator = setting.engine.evaluator(read_keys(setting, keys))
        return Server(setting, ProgramServer(setting.program, evaluator))

    def _shapes(self, arrays: Sequence[Any], named: Mapping[str, Any]) -> tuple[Shape, ...]:
        """The shapes of a call's arrays, in the order of the inputs."""
        if not named:
            return tuple(numbers(str(n), array).shape for n, array in enumerate(arrays))
        names = [decl.name for decl in self._template(None, None).inputs]
        given = gathered(dict.fromkeys(names), arrays, named)
        return tuple(array.shape for array in given.values())

    def _packed_for(self, shapes: tuple[Shape, ...]) -> _Made:
        found = self._made.get(shapes)
        if found is None:
            cascade = _of_numbers(self._template(shapes, None))
            names = [decl.name for decl in cascade.inputs]
            sizes = infer_sizes(cascade, dict(zip(names, shapes, strict=True)))
            found = _Made(declared(cascade, sizes), self.pipeline, self.encryption)
            keep(self._made, shapes, found)
        return found

    # ---- looking inside

    def _show(self) -> _Made:
        if self._shown is None:
            raise ArgumentError(
                "it is packed for shapes that are not known yet",
                hint="give shapes= to compile, or call it first",
            )
        return self._shown

    @property
    def cascade(self) -> Cascade:
        """The Cascade after the passes."""
        return self._show().cascade

    @property
    def packed(self) -> Packed:
        """The plan: layouts, counts, and the plans that were not chosen."""
        return self._show().packed

    @property
    def source(self) -> str:
        """The text of the SlotProgram."""
        return str(self._show().packed.program)

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every step of the compilation: its pass, its dump and a comment on what it changed."""
        return self._show().steps()

    @property
    def parameters(self) -> Parameters:
        """Ring, primes and scale of the client and the server; a call may choose its own."""
        return self._show().setting.engine.parameters

    @property
    def report(self) -> Report:
        """What the last call cost, and how far off its result was.

        Raises:
            ArgumentError: it was not called yet.
        """
        if self._report is None:
            raise ArgumentError("there is no report before the first call")
        return self._report

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the SlotProgram's text, to a file that ends in `.slots`.

        Raises:
            UnsupportedError: another file is asked for.
            OSError: the file cannot be written.
        """
        if Path(path).suffix != ".slots":
            raise UnsupportedError(
                f"the ckks backend writes no {Path(path).suffix or 'file without a suffix'}",
                hint="a SlotProgram's text is a .slots file; keys and messages save themselves",
            )
        store.write(Path(path), f"{self.source}\n".encode())

    def __repr__(self) -> str:
        name = self._shown.cascade.name if self._shown is not None else "not packed yet"
        return f"<einloom.Encrypted {name} on ckks: {self.encryption}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """As a value: what it was made from; no key goes along."""
        shapes = tuple(self._show().shapes.values()) if self._fixed else None
        return type(self), (self._template, self.pipeline, self.encryption, shapes)


def _of_numbers(cascade: Cascade) -> Cascade:
    """With inputs that may be any floats: slots hold f64 or c128, whatever is declared."""
    inputs = tuple(
        replace(decl, dtype=None) if decl.dtype is not None and decl.dtype.is_inexact else decl
        for decl in cascade.inputs
    )
    return replace(cascade, inputs=inputs)


class _Made:
    """A Cascade packed for its shapes, and the two sides that serve calls of it."""

    def __init__(self, written: Cascade, pipeline: Pipeline, encryption: Encryption) -> None:
        self._written, self._pipeline, self._encryption = written, pipeline, encryption
        self.cascade = pipeline.apply(written)
        sizes = extents_known(self.cascade)
        self.shapes: dict[str, Shape] = {
            decl.name: tuple(extent.value(sizes) for extent in decl.extents)
            for decl in self.cascade.inputs
        }
        secret = names_of(encryption.secret, list(self.shapes), "secret")
        self.secret = list(self.shapes) if secret is None else secret
        self.packed = pack_cascade(self.cascade, self.secret, encryption)
        self._sides: tuple[Engine, ProgramClient, ProgramServer, float] | None = None

    def steps(self) -> tuple[Step, ...]:
        """What the Cascade was as written, after each pass, and packed."""
        first = Step("parse", str(self._written), "the Cascade as written")
        last = Step("pack", str(self.packed.program), self.packed.chosen)
        return (first, *self._pipeline.run(self._written)[1], last)

    @cached_property
    def setting(self) -> Setting:
        """What a client and a server share, whatever the inputs will be."""
        lowered, asked = self.packed.lowered, self._encryption
        secret = {name: self.shapes[name] for name in self.shapes if name in self.secret}
        plain = {name: self.shapes[name] for name in self.shapes if name not in self.secret}
        engine, limit = asked.engine, math.inf if asked.magnitude is None else asked.magnitude
        if isinstance(engine, str):
            if asked.magnitude is None:
                limit = 1.0 if asked.bound is None else asked.bound
            bound = self._bound(limit) if asked.bound is None else asked.bound
            engine = self._engine(engine, bound)
        return Setting(lowered, secret, plain, self.cascade.outputs, engine, limit)

    def _bound(self, limit: float) -> float:
        """What inputs of at most that size can lead to.

        Raises:
            ArgumentError: no float holds it.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            found = largest(self.packed.program, limit)
        if not math.isfinite(found):
            raise ArgumentError(
                f"inputs of up to magnitude={limit:g} lead to values that no float holds",
                hint="scale the inputs down; or give bound=, if what is computed stays smaller",
            )
        return found

    def _engine(self, name: EngineName, magnitude: float) -> Engine:
        asked = self._encryption
        parameters = parameters_for(
            self.packed.program,
            precision=20 if asked.precision is None else asked.precision,
            magnitude=magnitude,
            insecure=asked.insecure,
        )
        return engine_of(name, parameters, asked.seed or 0)

    def run(self, given: Mapping[str, Array]) -> tuple[Mapping[str, Array], Run]:
        """What is computed in the clear, and both sides at once on the rest.

        Keys are made anew only where larger values need other parameters.
        """
        lowered = self.packed.lowered
        check_real(lowered, given)
        left = self._left(given)
        made = lowered.inputs(given)
        with _telling(left):
            exact = Exact.of(lowered.program, made)
            engine, client, server = self._sides_for(exact)
        before = server.counts.copy()
        done = server.run(client.encrypt(made), made)
        did = server.counts.since(before)
        run = exact.compared(client.decrypt(done.outputs), engine.parameters, done, did)
        approximated = {str(each): each.error for each in lowered.approximated}
        report = replace(run.report, approximated=approximated, left=left)
        return made, replace(run, report=report)

    def _left(self, given: Mapping[str, Array]) -> dict[str, tuple[float, float]]:
        """The approximations whose arguments leave their interval, with the arguments' range."""
        found = ranges(self.cascade, self.secret, self.packed.lowered.approximated, given)
        return {
            str(each): (low, high)
            for each, (low, high) in found.items()
            if not (each.approximation.low <= low and high <= each.approximation.high)
        }

    def _sides_for(self, exact: Exact) -> tuple[Engine, ProgramClient, ProgramServer]:
        magnitude = exact.magnitude
        if self._sides is not None and magnitude <= self._sides[3]:
            return self._sides[:3]
        asked, program = self._encryption, self.packed.program
        if isinstance(asked.engine, str) and asked.magnitude is None and asked.bound is None:
            try:
                room, engine = magnitude, self._engine(asked.engine, magnitude)
            except ArgumentError as error:
                raise ArgumentError(
                    error.message,
                    deduced=error.deduced,
                    passed=(*error.passed, f"{exact.origin} to the largest values"),
                    hint=error.hint,
                ) from None
        else:
            room, engine = math.inf, self.setting.engine
        client = ProgramClient(program, engine)
        server = ProgramServer(program, engine.evaluator(client.keys()))
        self._sides = engine, client, server, room
        return engine, client, server


@contextmanager
def _telling(left: Mapping[str, tuple[float, float]]) -> Generator[None]:
    """What is refused within may be so because arguments left their intervals."""
    try:
        yield
    except (ArgumentError, SlotError) as error:
        if not left:
            raise
        said = (
            f"{name}, its arguments are from {a:.3g} to {b:.3g}" for name, (a, b) in left.items()
        )
        raise type(error)(
            error.message,
            deduced=(*error.deduced, *said),
            passed=error.passed,
            hint="a polynomial grows fast outside its interval: ask for it on a larger one",
        ) from None
