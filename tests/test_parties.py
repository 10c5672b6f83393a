"""A client and a server apart: what passes between them, and what the server cannot know."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.backends.ckks.params import Parameters
from einloom.backends.ckks.report import engine_of
from einloom.backends.ckks.seal import sealapi
from einloom.ir.errors import ArgumentError, EinloomError, OperandError, RankError, UnsupportedError
from einloom.parties import Server

from . import encrypting

RNG = np.random.default_rng(3)
A, V = RNG.uniform(-1, 1, (3, 4)), RNG.uniform(-1, 1, 4)
ENGINES = pytest.mark.parametrize("engine", ["simulated", "seal"])


def compiled(engine: Any = "simulated", what: str = "ij,j->i", **options: Any) -> el.Encrypted:
    asked: dict[str, Any] = {"shapes": [(3, 4), (4,)], "secret": [0], **options}
    return encrypting.compiled(what, engine=engine, **asked)


@ENGINES
def test_objects_bytes_and_files(engine: Any, tmp_path: Path) -> None:
    f = compiled(engine)
    client = f.client()
    keys, sent = client.keys(), client.encrypt(A)
    direct = client.decrypt(f.server(keys).run(sent, V))
    np.testing.assert_allclose(direct, A @ V, atol=1e-4)
    reply = f.server(keys.to_bytes()).run(sent.to_bytes(), B=V)
    np.testing.assert_allclose(client.decrypt(reply.to_bytes()), A @ V, atol=1e-4)
    keys.save(tmp_path / "keys")
    sent.save(tmp_path / "sent")
    f.server(tmp_path / "keys").run(str(tmp_path / "sent"), V).save(tmp_path / "reply")
    client.save_secret_key(tmp_path / "secret")
    again = f.client(tmp_path / "secret")
    np.testing.assert_allclose(again.decrypt(tmp_path / "reply"), A @ V, atol=1e-4)
    assert (tmp_path / "secret").stat().st_mode & 0o077 == 0


SERVER = """
import sys
import numpy as np
import einloom as el

f = el.compile("ij,j->i", backend="ckks", engine=sys.argv[1], shapes=[(3, 4), (4,)], secret=[0])
f.server("keys").run("sent", np.load("v.npy")).save("reply")
"""


@ENGINES
def test_two_processes(engine: Any, tmp_path: Path) -> None:
    client = compiled(engine).client()
    client.keys().save(tmp_path / "keys")
    client.encrypt(A=A).save(tmp_path / "sent")
    np.save(tmp_path / "v.npy", V)
    command = [sys.executable, "-c", SERVER, engine]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    np.testing.assert_allclose(client.decrypt(tmp_path / "reply"), A @ V, atol=1e-4)


def test_both_sides_agree_on_what_is_real() -> None:
    f, z = compiled(), V * 0.5j
    client = f.client()
    server = f.server(client.keys())
    for a, v in ((A, V), (A * 0.5j, V), (A, z), (A * 0.5j, z)):
        reply = server.run(client.encrypt(a).to_bytes(), v)
        found = client.decrypt(reply.to_bytes())
        assert np.iscomplexobj(found) == (np.iscomplexobj(a) or np.iscomplexobj(v))
        np.testing.assert_allclose(found, a @ v, atol=1e-4)


@ENGINES
def test_outputs_in_the_clear_go_along(engine: Any) -> None:
    text = """cascade f(X[B,F], W[F]) -> N, Z {
      Z[b] = X[b,f] * W[f]
      N[f] = W[f] * W[f]
    }"""
    f = encrypting.compiled(text, engine=engine, secret="X", shapes=[(3, 4), (4,)])
    client = f.client()
    reply = f.server(client.keys()).run(client.encrypt(A), V)
    n, z = client.decrypt(reply.to_bytes())
    np.testing.assert_array_equal(n, V * V)
    np.testing.assert_allclose(z, A @ V, atol=1e-4)


def test_the_parameters_hold_what_the_inputs_may_be() -> None:
    """The bound on what is computed on the way is enough: nothing wraps at its edge."""
    f = compiled(magnitude=50)
    client = f.client()
    a, v = np.full((3, 4), 50.0), np.full(4, -50.0)
    found = client.decrypt(f.server(client.keys()).run(client.encrypt(a), v))
    np.testing.assert_allclose(found, a @ v, atol=1e-2)
    with pytest.raises(ArgumentError, match="at most 50"):
        client.encrypt(a * 1.001)
    with pytest.raises(ArgumentError, match="at most 50"):
        f.server(client.keys()).run(client.encrypt(a), v * 1.001)


def reachable(thing: object) -> list[object]:
    """Everything that can be got at from an object, but modules, classes and functions."""
    found: dict[int, object] = {}
    waiting = [thing]
    skipped = (type, ModuleType, FunctionType, BuiltinFunctionType)
    while waiting:
        each = waiting.pop()
        if id(each) in found or isinstance(each, skipped):
            continue
        found[id(each)] = each
        waiting += gc.get_referents(each)
    return list(found.values())


def test_the_server_cannot_decrypt() -> None:
    """All that a server holds is tried: there is no secret key, and nothing else decrypts."""
    f, api = compiled("seal"), sealapi()
    client = f.client()
    sent = client.encrypt(A).to_bytes()
    server = f.server(client.keys().to_bytes())
    reply = server.run(sent, V)
    held = [*reachable(server), *reachable(reply)]
    secretive = (api.SecretKey, api.KeyGenerator, api.Decryptor, api.Encryptor)
    assert not [each for each in held if isinstance(each, secretive)]
    assert [each for each in held if isinstance(each, api.GaloisKeys)]  # the search does find keys
    assert [each for each in reachable(client) if isinstance(each, secretive)]
    # Another secret key decrypts to noise, as large as the modulus, whoever made it.
    other = f.client()
    with pytest.raises(EinloomError, match="other keys"):
        other.decrypt(reply)
    stranger = reachable(other)
    makers: list[Any] = [each for each in stranger if isinstance(each, api.KeyGenerator)]
    (maker,) = makers
    (context,) = {id(each): each for each in held if isinstance(each, api.SEALContext)}.values()
    decryptor = api.Decryptor(context, maker.secret_key())
    encoder = api.CKKSEncoder(context)
    for ciphertext in (each for each in held if isinstance(each, api.Ciphertext)):
        plain = api.Plaintext()
        decryptor.decrypt(ciphertext, plain)
        slots = np.array(encoder.decode_complex(plain))
        assert np.abs(slots).mean() > 100  # the values are below 4


def test_no_key_in_what_is_sent(tmp_path: Path) -> None:
    client = compiled("seal").client()
    client.save_secret_key(tmp_path / "secret")
    secret = (tmp_path / "secret").read_bytes()
    middle = secret[len(secret) // 2 : len(secret) // 2 + 64]
    for public in (client.keys().to_bytes(), client.encrypt(A).to_bytes()):
        assert middle not in public


@ENGINES
def test_nothing_printed_or_pickled_tells_a_secret(engine: Any) -> None:
    f = compiled(engine)
    client = f.client()
    keys, sent = client.keys(), client.encrypt(A)
    server = f.server(keys)
    reply = server.run(sent, V)
    for thing in (client, keys, sent, server, reply, f):
        assert ("not secure" in repr(thing)) == (engine == "simulated")
        assert str(round(float(A[0, 0]), 4))[2:] not in repr(thing)
        assert len(repr(thing)) < 200
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(EinloomError, match="secret key"):
            take(client)
    for thing in (keys, sent, server, reply):
        with pytest.raises(UnsupportedError, match="not pickled"):
            pickle.dumps(thing)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    f, target = compiled(), tmp_path / "none" / "f.slots"
    client = f.client()
    for write in (f.save, client.save_secret_key, client.keys().save):
        with pytest.raises(FileNotFoundError) as caught:
            write(target)
        assert caught.value.filename == str(target)


def test_what_is_refused(tmp_path: Path) -> None:
    f, other = compiled(), compiled(name="other")
    client = f.client()
    keys, sent = client.keys(), client.encrypt(A)
    server = f.server(keys)
    damaged = bytearray(sent.to_bytes())
    damaged[-50] ^= 1
    no_message: Any = client.decrypt
    cases: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: server.run(no_message, V), OperandError, "path of a file"),
        (lambda: server.run(bytes(damaged), V), ArgumentError, "damaged"),
        (lambda: server.run(b"nothing", V), ArgumentError, "not a file"),
        (lambda: server.run(keys.to_bytes(), V), ArgumentError, "another kind"),
        (lambda: server.run(sent), ArgumentError, "missing: B"),
        (lambda: server.run(sent, A=A), OperandError, "A is no input here"),
        (lambda: server.run(sent, V[:2]), RankError, "(2,)"),
        (lambda: client.encrypt(A, V), ArgumentError, "1 input is needed, 2"),
        (lambda: client.encrypt(B=V), OperandError, "B is no input here"),
        (lambda: client.decrypt(sent), ArgumentError, "encrypted outputs"),
        (lambda: client.decrypt(sent.to_bytes()), ArgumentError, "another kind"),
        (lambda: other.server(keys).run(sent, V), ArgumentError, "another program than other"),
        (lambda: compiled("seal").server(keys.to_bytes()), ArgumentError, "engine"),
        (lambda: compiled(precision=30).server(keys.to_bytes()), ArgumentError, "parameters"),
        (lambda: f.client(tmp_path / "none"), FileNotFoundError, "none"),
    ]
    for call, error, part in cases:
        with pytest.raises(error) as caught:
            call()
        assert part in str(caught.value)


def test_a_message_of_another_program_is_refused() -> None:
    """Though it has the same parameters."""
    f, other = compiled(), compiled(name="other")
    client = f.client()
    assert f.parameters == other.parameters
    server: Server = other.server(client.keys())
    with pytest.raises(ArgumentError, match="of another program"):
        server.run(client.encrypt(A).to_bytes(), V)


@ENGINES
def test_what_another_client_or_other_primes_made_is_refused(engine: Any) -> None:
    """As objects and as bytes, though the program is the same and the seed too."""
    f, again, large = compiled(engine), compiled(engine), compiled(engine, magnitude=64)
    assert f.source == large.source
    client = f.client()
    reply = f.server(client.keys()).run(client.encrypt(A), V)
    for other in (f.client(), again.client()):
        for message in (reply, reply.to_bytes()):
            with pytest.raises(EinloomError, match="under other keys"):
                other.decrypt(message)
    other = large.client()
    server = large.server(other.keys())
    for message, sent in (
        (reply, client.encrypt(A)),
        (reply.to_bytes(), client.encrypt(A).to_bytes()),
    ):
        with pytest.raises(ArgumentError, match="of other parameters"):
            other.decrypt(message)
        with pytest.raises(ArgumentError, match="of other parameters"):
            server.run(sent, V)


def test_two_programs_of_one_name_are_told_apart() -> None:
    f, wide = compiled(), compiled(slots=64)
    client = f.client()
    server: Server = wide.server(wide.client().keys())
    assert f.parameters == wide.parameters
    with pytest.raises(ArgumentError, match="of another program") as caught:
        server.run(client.encrypt(A), V)
    its, ours = (line for line in str(caught.value).split("\n") if "program: einsum" in line)
    assert its.split("digest ")[1] != ours.split("digest ")[1]


@ENGINES
def test_keys_that_lack_what_the_program_needs_are_refused(engine: Any) -> None:
    own = engine_of(engine, Parameters.create(8192, [45, 36, 36, 60]))
    f, other = compiled(own), compiled(own, "ij,ij->ij", shapes=[(3, 4)] * 2, secret=None)
    product, turned = other.client().keys(), f.client().keys()
    for keys in (product, product.to_bytes()):
        with pytest.raises(ArgumentError, match="needs: rotations by") as caught:
            f.server(keys)
        steps = {step for op in f.packed.program.ops for step in op.steps}
        said = str(caught.value).split("rotations by ")[1].splitlines()[0]
        assert {int(step) for step in said.split(", ")} == steps
    with pytest.raises(ArgumentError, match="einsum needs: relinearisation"):
        other.server(turned)
    powers = compiled(own, keys="powers-of-two")
    f.server(powers.client().keys())  # these serve every rotation
