"""A trained model for programs without this library: ONNX for onnxruntime and others, StableHLO for JAX and XLA.

Both map inputs (uint8; raw series: float32) of any batch size to class probabilities, with the parameters inside.
"""

import dataclasses
import logging
from typing import Any

import jax
import numpy as np
from jax import export

from mixmin_jax.errors import InputError
from mixmin_jax.trained.kinds import inputs_of
from mixmin_jax.trained.model import TrainedModel

EXTRA = 'pip install -e ".[export-model]"'
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
TOLERANCE = 1e-4  # largest difference of a probability: float32 rounding is about 1e-7
_CHECKED = 3  # random inputs that are compared, a batch of another size than was traced


def to_stablehlo(model: TrainedModel) -> bytes:
    """The serialized program, for `jax.export.deserialize(content).call(inputs)` on any platform.

    Raises:
        InputError: the package flatbuffers is missing.
    """
    (batch,) = export.symbolic_shape("batch")
    program = export.export(jax.jit(lambda inputs: model.predict(model.params, inputs)), platforms=PLATFORMS)
    try:
        return bytes(program(inputs_of(model.config, batch)).serialize())
    except ImportError as error:
        raise InputError(f"StableHLO needs the package flatbuffers: {EXTRA}") from error


def to_onnx(model: TrainedModel) -> bytes:
    """The model as ONNX, compared with `predict` on random inputs in onnxruntime.

    A model that computes in bfloat16 is exported in float32, which onnxruntime needs on CPUs.

    Raises:
        InputError: jax2onnx or onnxruntime is missing, or the exported model predicts something else.
    """
    try:
        import jax2onnx
        import onnxruntime
    except ImportError as error:
        raise InputError(f"ONNX needs the packages jax2onnx and onnxruntime ({error}): {EXTRA}") from error
    encoder = dataclasses.replace(model.config.encoder, bfloat16=False)
    exact = dataclasses.replace(model, config=dataclasses.replace(model.config, encoder=encoder))
    logger = logging.getLogger("onnx_ir.serde")  # warns of shapes of constants
    disabled = logger.disabled
    try:
        logger.disabled = True
        found: Any = jax2onnx.to_onnx(
            lambda inputs: exact.predict(exact.params, inputs), [inputs_of(model.config, "batch")]
        )
    finally:
        logger.disabled = disabled
    content = bytes(found.SerializeToString())
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    like = inputs_of(model.config, _CHECKED)
    inputs = np.random.default_rng(0).integers(0, 256, like.shape, np.uint8).astype(like.dtype)
    (theirs,) = session.run(None, {session.get_inputs()[0].name: inputs})
    difference = float(np.abs(theirs - exact.outputs(inputs).probabilities_NxA).max())
    if not difference <= TOLERANCE:
        raise InputError(
            f"the exported model's probabilities differ from the model's by {difference:.2g}: this version of jax2onnx"
            " cannot export it; StableHLO can"
        )
    return content
