"""The element types of safetensors files, as numpy knows them (ml_dtypes fills the gaps)."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

DType = np.dtype[Any]

BF16: DType = np.dtype(ml_dtypes.bfloat16)
F16: DType = np.dtype(np.float16)
F32: DType = np.dtype(np.float32)
U8: DType = np.dtype(np.uint8)
U32: DType = np.dtype(np.uint32)

# Names of the safetensors format: https://huggingface.co/docs/safetensors (serialisation of dtypes).
BY_NAME: dict[str, DType] = {
    "BOOL": np.dtype(np.bool_),
    "U8": U8,
    "I8": np.dtype(np.int8),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "F16": F16,
    "BF16": BF16,
    "U32": U32,
    "I32": np.dtype(np.int32),
    "F32": F32,
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F64": np.dtype(np.float64),
}
NAMES: dict[DType, str] = {dtype: name for name, dtype in BY_NAME.items()}

FLOATS = frozenset({BF16, F16, F32, np.dtype(np.float64)})
"""Types that hold weights as plain numbers; only these are cast or quantized."""

# What people and config.json call the plain types.
SPEC_NAMES: dict[str, DType] = {
    "bf16": BF16,
    "bfloat16": BF16,
    "fp16": F16,
    "float16": F16,
    "fp32": F32,
    "float32": F32,
}
SHORT_NAMES: dict[DType, str] = {BF16: "bf16", F16: "fp16", F32: "fp32"}


def is_float(dtype: DType) -> bool:
    return dtype in FLOATS
