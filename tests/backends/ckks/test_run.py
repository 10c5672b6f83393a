"""SlotPrograms on both engines: what they decrypt to, and the traces that the rules predict."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, cast

import numpy as np
import pytest

import einloom as el
from einloom.backends.ckks.engine import Engine
from einloom.backends.ckks.foresight import parameters_for, predicted
from einloom.backends.ckks.params import Parameters
from einloom.backends.ckks.report import EngineName, Run, run
from einloom.backends.ckks.run import Evaluated, ProgramClient, ProgramServer
from einloom.backends.ckks.seal import Seal
from einloom.backends.ckks.simulator import Simulator
from einloom.ir.errors import ArgumentError, EinloomError, LevelError, SlotError
from einloom.ir.slot_counts import count
from einloom.ir.slot_parser import parse_slots
from einloom.ir.slot_verify import State, trace
from einloom.ir.slots import SlotProgram
from einloom.passes.fhe.einhops import einhops
from einloom.passes.fhe.pack import plans
from einloom.passes.fhe.problem import problem_of

from ...passes.fhe.test_einhops import SMALL
from ...passes.fhe.test_pack import MORE

Case = tuple[str, list[tuple[int, ...]]]
#: The nine einsums of EinHops' table are the first nine.
NINE = SMALL[:9]
WAYS = ("einhops", "row-major", "free")


def packed(case: Case, way: str, slots: int = 128, secret: list[str] | None = None) -> SlotProgram:
    cascade = el.parse(case[0])
    names = [decl.name for decl in cascade.inputs]
    problem = problem_of(cascade, dict(zip(names, case[1], strict=True)), secret)
    if way == "einhops":
        return einhops(problem, slots)
    return plans(problem, slots, "free" if way == "free" else "row-major")[0].program


def arrays(program: SlotProgram, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {each.name: rng.uniform(-1, 1, each.shape) for each in program.inputs}


def checked(case: Case, program: SlotProgram, engine: Engine | EngineName = "simulated") -> Run:
    """Runs it, and holds it to the interpreter, to the counts and to the rules' own trace."""
    given = arrays(program)
    done = run(program, given, engine)
    (found,) = done.outputs.values()
    (error,) = done.report.errors.values()
    wanted = el.evaluate(case[0], **given)
    assert 0 < error.bound < 1e-2
    assert np.abs(found - wanted).max() < error.bound
    assert math.isclose(np.abs(found - wanted).max(), error.largest, rel_tol=1e-6)
    known, counts = count(program), done.report.counts
    rotations, keys = known.rotations, known.key_bytes(done.report.parameters.degree)
    assert (counts.rotations.total(), counts.key_switches) == (rotations, known.key_switches)
    assert (counts.pt_mults, counts.rescales) == (known.pt_mults, known.rescales)
    assert (counts.ct_mults + counts.squares, counts.encodes) == (known.ct_mults, known.encodes)
    assert (counts.key_bytes, done.report.levels) == (keys, known.levels)
    foreseen = predicted(program, done.report.parameters)
    assert [(each.level, each.size) for each in done.report.made] == [
        (each.level, each.size) for each in foreseen
    ]
    for each, would, state in zip(done.report.made, foreseen, trace(program), strict=True):
        assert each.scale == would.scale
        assert math.isclose(each.scale, in_numbers(state, done.report.parameters), rel_tol=1e-15)
    return done


def in_numbers(state: State, parameters: Parameters) -> float:
    """The exact scale of a trace, rounded once."""
    powers = [Fraction(parameters.primes[level]) ** power for level, power in state.scale[1]]
    return float(math.prod(powers, start=Fraction(parameters.scale) ** state.scale[0]))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", [*SMALL, *MORE], ids=[row[0] for row in [*SMALL, *MORE]])
def test_simulated(case: Case, way: str) -> None:
    if case in MORE and way == "einhops":
        return  # refused: test_einhops
    done = checked(case, packed(case, way))
    assert "simulated, not secure" in str(done.report)


@pytest.mark.parametrize("way", ["row-major", "free"])
@pytest.mark.parametrize("seed", range(8))
def test_random_einsums(seed: int, way: str) -> None:
    """Labels, repeated ones among them, sizes, secrets and slots at random."""
    rng = np.random.default_rng(seed)
    sizes = {label: int(rng.integers(1, 5)) for label in "ijk"}
    terms = ["".join(rng.choice(list("ijk"), int(rng.integers(0, 4)))) for _ in range(2)]
    both = sorted(set("".join(terms)))
    kept = "".join(rng.permutation(both)[: int(rng.integers(0, len(both) + 1))])
    shapes = [tuple(sizes[label] for label in term) for term in terms]
    case = f"{','.join(terms)}->{kept}", shapes
    names = [decl.name for decl in el.parse(case[0]).inputs]
    secret = names if seed % 2 else [names[int(rng.integers(2))]]
    checked(case, packed(case, way, int(rng.choice([64, 256])), secret))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", NINE, ids=[row[0] for row in NINE])
def test_seal_leaves_the_simulators_trace(case: Case, way: str) -> None:
    program = packed(case, way)
    real = checked(case, program, "seal").report
    parameters = real.parameters
    ours = checked(case, program, Simulator(parameters, hoisting=False)).report
    assert ours.made == real.made
    assert ours.counts == real.counts
    assert "Microsoft SEAL" in str(real)
    assert "not secure" not in str(real)


def test_the_error_is_the_one_expected() -> None:
    """Over 5 keys of SEAL's, on the elements themselves, not on all slots."""
    case: Case = ("ik,kj->ij", [(8, 8), (8, 8)])
    program = packed(case, "row-major", 512)
    engine = Seal(parameters_for(program))
    errors = [
        next(iter(run(program, arrays(program, n), engine).report.errors.values()))
        for n in range(5)
    ]
    measured = np.sqrt(np.mean([error.measured**2 for error in errors]))
    expected = np.sqrt(np.mean([error.expected**2 for error in errors]))
    assert 0.5 < measured / expected < 2


@pytest.mark.parametrize("name", ["simulated", "seal"])
def test_two_sides(name: str) -> None:
    """A client with the secret key; a server with evaluation keys; constants are encoded once."""
    program = packed(("ij,j->i", [(4, 6), (6,)]), "row-major", 64, ["A"])
    parameters = parameters_for(program, magnitude=8)
    engine: Engine = Simulator(parameters) if name == "simulated" else Seal(parameters)
    client = ProgramClient(program, engine)
    keys = client.keys()
    assert keys.steps == {step % parameters.slots for step in count(program).rotation_keys}
    assert not keys.relinearization
    server = ProgramServer(program, engine.evaluator(keys))
    encodes: list[int] = []
    for seed in range(3):
        given = arrays(program, seed)
        sent = client.encrypt({"A": given["A"]})
        done: Evaluated = server.run(sent, {"B": given["B"]})
        found = client.decrypt(done.outputs)["Y"]
        np.testing.assert_allclose(found, given["A"] @ given["B"], atol=1e-3)
        encodes.append(server.evaluator.counts.encodes)
    known = count(program)
    assert encodes[0] == known.encodes
    assert np.diff(encodes).tolist() == [known.encodes - known.constant_encodes] * 2
    assert not hasattr(server.evaluator, "decrypt")


def test_every_operation() -> None:
    """Those that no packing writes yet, too; complex numbers; a factor at another's scale."""
    text = """\
slots all in 8 levels 3 {
  input A: [4] in 8: d0 4:2
  input B: plain [4]
  plain 0 = B{0<-0+4:2<-1}
  plain 1 = complex(0.5,-1.0)
  %1 = mul %0, %0
  %2 = relinearize %1
  %3 = rescale %2
  %4 = mul_plain %3, plain 0
  %5 = rescale %4
  %6 = mod_switch %0
  %7 = mul_plain %6, plain 1 like %3
  %8 = rescale %7
  %9 = sub %5, %8
  %10 = neg %9
  %11 = add_plain %10, plain 1
  %12, %13 = rotate %11 by 2, -1
  %14 = add %12, %11
  output Y: [4] in 8: d0 4:2 = %14
}
"""
    program = parse_slots(text)
    names: tuple[EngineName, ...] = ("simulated", "seal")
    for name in names:
        a, b = np.array([1, 2j, -1, 0.5]), np.array([1.0, 2.0, -3.0, 0.25])
        done = run(program, {"A": a, "B": b}, name)
        each = -(a * a * b - a * (0.5 - 1j)) + (0.5 - 1j)
        wanted = each + np.roll(each, -1)
        error = done.report.errors["Y"]
        assert np.abs(done.outputs["Y"] - wanted).max() < error.bound < 1e-3
        assert done.report.counts.squares == 1
        made = done.report.made
        assert (made[8].level, made[8].scale) == (made[5].level, made[5].scale)


def test_sums_of_rescaled_values_keep_one_scale() -> None:
    """(a·q)/q is not a in floats where a is no power of two; over many levels it would drift."""
    lines = ["  %1 = mul %0, %0", "  %2 = relinearize %1", "  %3 = rescale %2"]
    value, level, depth = 3, 9, 10
    low = value
    while level:
        lines += [
            f"  %{value + 1} = mul_plain %{low}, plain 0",
            f"  %{value + 2} = rescale %{value + 1}",
        ]
        low, value, level = value + 2, value + 2, level - 1
    high = 3
    for _ in range(9):
        lines.append(f"  %{value + 1} = mod_switch %{high}")
        high = value = value + 1
    lines.append(f"  %{value + 1} = add %{low}, %{high}")
    head = f"slots deep in 8 levels {depth} {{\n  input A: [8] in 8: d0 8:1\n  plain 0 = 1.0\n"
    tail = f"\n  output Y: [8] in 8: d0 8:1 = %{value + 1}\n}}\n"
    program = parse_slots(head + "\n".join(lines) + tail)
    done = run(program, {"A": np.linspace(-1, 1, 8)})
    np.testing.assert_allclose(done.outputs["Y"], 2 * np.linspace(-1, 1, 8) ** 2, atol=1e-3)


def test_chosen_parameters_fit_the_program_and_the_values() -> None:
    program = packed(("ij,jk->ik", [(4, 4), (4, 4)]), "row-major", 64)
    given = {name: 1000 * array for name, array in arrays(program).items()}
    done = run(program, given, precision=16)
    chosen = done.report.parameters
    assert (chosen.top_level, chosen.secure) == (program.levels, True)
    np.testing.assert_allclose(done.outputs["Y"], given["A"] @ given["B"], rtol=1e-3, atol=10)
    assert chosen.primes[0] > parameters_for(program, precision=16).primes[0] * 2**15


def refusals(program: SlotProgram) -> list[tuple[type[EinloomError], Any]]:
    parameters = parameters_for(program)
    few = Parameters.choose(slots=64, depth=0)
    small = Parameters.create(8, [30] * (program.levels + 1) + [40], insecure=True)
    given, unknown = arrays(program), cast(Any, "openfhe")

    def mixed() -> None:
        engine = Simulator(parameters)
        client = ProgramClient(program, engine)
        server = ProgramServer(program, engine.evaluator(client.keys()))
        server.run(client.encrypt(given)[:1] * 2, given)

    def lower() -> None:
        engine = Simulator(parameters)
        client = ProgramClient(program, engine)
        server = ProgramServer(program, engine.evaluator(client.keys()))
        server.run([server.evaluator.mod_switch(each) for each in client.encrypt(given)], given)

    return [
        (LevelError, lambda: run(program, given, Simulator(few))),
        (SlotError, lambda: run(program, given, Simulator(small))),
        (ArgumentError, lambda: run(program, {"A": given["A"]})),
        (ArgumentError, lambda: run(program, {"B": given["B"]})),
        (SlotError, lambda: run(program, given | {"B": np.ones((2, 2))})),
        (ArgumentError, lambda: run(program, given, unknown)),
        (ArgumentError, mixed),
        (LevelError, lower),
    ]


@pytest.mark.parametrize("number", range(8))
def test_mistakes(number: int) -> None:
    error, mistake = refusals(packed(("ij,j->i", [(4, 6), (6,)]), "row-major", 64, ["A"]))[number]
    with pytest.raises(error):
        mistake()


def squarings(count: int) -> str:
    """S[i+1] = S[i]², encrypted."""
    return f"cascade t(A[]) -> S {{\n ranks I={count}\n S[0]=A\n S[i+1]=S[i]*S[i]\n}}"


def test_scales_of_many_squarings_are_foreseen() -> None:
    """Exactly written, a scale takes twice the digits after each: 20 of them took minutes."""
    f = el.compile(squarings(18), backend="ckks", shapes=[()], slots=1, insecure=True)
    f(np.array(0.9))
    foreseen = predicted(f.packed.program, f.parameters)
    assert f.report.made == foreseen
    assert f.report.errors["S"].largest < f.report.errors["S"].bound < 1e-3


def test_a_scale_out_of_bounds_is_foreseen() -> None:
    f = el.compile(squarings(30), backend="ckks", shapes=[()])
    with pytest.raises(LevelError, match=r"the scale of the product is out of bounds") as caught:
        f.client()
    assert "mul %" in str(caught.value)


def test_more_levels_than_rings_have_are_refused_at_once() -> None:
    most = Parameters.most_depth()
    assert Parameters.choose(slots=1, depth=most).top_level == most
    with pytest.raises(ArgumentError, match="no ring"):
        Parameters.choose(slots=1, depth=most + 1)
    with pytest.raises(LevelError, match=rf"needs {most + 1}, and there are {most}") as caught:
        el.compile(squarings(500), backend="ckks", shapes=[()])
    assert "no ring has more" in str(caught.value)
    engine = Simulator(Parameters.choose(slots=1, depth=1))
    with pytest.raises(LevelError, match="needs 2, and there are 1") as caught:
        el.compile(squarings(3), backend="ckks", shapes=[()], engine=engine)
    assert "the engine has no more" in str(caught.value)
    with pytest.raises(ArgumentError, match="a chain has 256 primes at most"):
        Parameters.create(1024, [40] * 257, insecure=True)


@pytest.mark.parametrize("engine", [Simulator, Seal])
@pytest.mark.parametrize("large", [1e308, 1e305j])
def test_no_engine_encodes_what_its_transform_cannot_sum(engine: Any, large: complex) -> None:
    program = packed(("i->i", [(4,)]), "free")
    client = ProgramClient(program, engine(parameters_for(program)))
    with pytest.raises(SlotError, match="A: the values are too large to encode"):
        client.encrypt({"A": np.full(4, large)})


def test_a_server_keeps_no_more_than_it_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    program = packed(("ij->ji", [(4, 4)]), "row-major")
    engine = Simulator(parameters_for(program))
    client = ProgramClient(program, engine)
    encodes: list[tuple[int, int]] = []
    for room in (1 << 30, 3 * 8 * engine.parameters.degree * (program.levels + 1)):
        monkeypatch.setattr("einloom.backends.ckks.run._KEPT_BYTES", room)
        server = ProgramServer(program, engine.evaluator(client.keys()))
        found: list[int] = []
        for _ in range(2):
            before = server.counts.copy()
            done = server.run(client.encrypt(arrays(program)))
            found.append(server.counts.since(before).encodes)
            (output,) = client.decrypt(done.outputs).values()
            np.testing.assert_allclose(output, arrays(program)["A"].T, atol=1e-3)
        encodes.append((found[0], found[1]))
    (whole, again), (short, once_more) = encodes
    assert whole == short > 3
    assert (again, once_more) == (0, short - 3)
