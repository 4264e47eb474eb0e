"""Reads the arrays of a pickle without running anything in it.

The published reference pickles theta: dicts (haiku's mappings) of numpy or JAX arrays. A pickle is a
program that may call any importable function; here every name in it is looked up in a fixed table of
inert stand-ins, which record bytes and shapes, and any other name is refused.
"""

import io
import math
import pickle
from typing import Any

import numpy as np

from learned_aggregation.errors import UserError


def read_arrays(content: bytes, where: str) -> Any:
    """The nested dicts of numpy arrays that a pickle holds.

    Raises:
      UserError: the pickle names something other than dicts and plain arrays.
      Exception: of any type, for a truncated or malformed pickle.
    """
    return _plain(_Unpickler(content, where).load())


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, where: str):
        super().__init__(io.BytesIO(content))
        self._where = where

    def find_class(self, module: str, name: str) -> Any:
        stand_in = _STAND_INS.get((module.replace("numpy._core", "numpy.core"), name))
        if stand_in is None:
            raise UserError(
                f"{self._where}: expected a pickle of dicts and arrays only, got one that names "
                f"{f'{module}.{name}'!r}. It was not loaded; ask its author for a .safetensors file."
            )
        return _Call(stand_in)


class _Call:
    """What a name in the pickle becomes: callable, and closed to everything else."""

    __slots__ = ("_function",)

    def __init__(self, function: Any):
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a pickle may not change what its names stand for")


class _Dtype:
    """A numpy dtype: kind and size now, byte order by the state that follows."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_: Any):
        if not isinstance(code, str) or code not in ("f2", "f4", "f8", "i4", "i8", "u4", "u8", "b1"):
            raise ValueError(f"arrays of dtype {code!r} are not admitted")
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = {"<": "<", ">": ">"}.get(state[1], "=")

    def numpy(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class _Array:
    """A numpy array: its state (version, shape, dtype, is_fortran, bytes) follows."""

    __slots__ = ("value",)

    def __init__(self, *_: Any):
        self.value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, raw = state
        self.value = _array(raw, dtype, shape, "F" if fortran else "C").value


def _array(raw: Any, dtype: Any, shape: tuple, order: str = "C") -> _Array:
    """The arguments of numpy's `_frombuffer`, checked."""
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes | bytearray):
        raise ValueError("an array must be plain bytes of a plain dtype")
    if len(raw) != math.prod(shape) * dtype.numpy().itemsize:
        raise ValueError(f"{len(raw)} bytes do not fill shape {shape}")
    array = _Array()
    flat = np.frombuffer(raw, dtype.numpy()).astype(dtype.numpy().newbyteorder("="))
    array.value = flat.reshape(shape, order="F" if order == "F" else "C")
    return array


def _scalar(dtype: Any, raw: Any) -> _Array:
    return _array(raw, dtype, ())


def _jax_array(_function: Any, _args: Any, state: tuple, *_: Any) -> _Array:
    array = _Array()
    array.__setstate__(state)
    return array


def _mapping(*items: Any) -> dict:
    if any(not isinstance(item, dict) for item in items):
        raise ValueError("a mapping must be built from a dict")
    return {name: value for item in items for name, value in item.items()}


def _latin1(text: Any, encoding: Any) -> bytes:
    """Protocol 2 stores bytes as text."""
    if encoding != "latin1":
        raise ValueError(f"bytes in {encoding!r} are not admitted")
    return text.encode("latin1")


def _plain(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _plain(value) for name, value in tree.items()}
    return tree.value if isinstance(tree, _Array) else tree


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _latin1,
    ("jax._src.array", "_reconstruct_array"): _jax_array,
    ("jax._src.device_array", "reconstruct_device_array"): _jax_array,
    ("haiku._src.data_structures", "FlatMap"): _mapping,
    ("haiku._src.data_structures", "FlatMapping"): _mapping,
    ("haiku._src.data_structures", "frozendict"): _mapping,
    ("haiku._src.data_structures", "to_haiku_dict"): _mapping,
    ("collections", "OrderedDict"): _mapping,
}
