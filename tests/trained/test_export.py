"""Exported models predict what the model predicts, for any batch size; with packages that only export needs."""

import dataclasses
import sys

import numpy as np
import pytest
from jax import export

from experiments.export_model import FORMATS, ExportModel, main
from mixmin_jax.errors import InputError
from mixmin_jax.trained.export import to_onnx, to_stablehlo
from mixmin_jax.trained.folder import save_model
from tests.trained.small_models import IMAGES, SERIES, TEXT, params_of, small_model, some_inputs

CONFIGS = pytest.mark.parametrize("config", [IMAGES, TEXT, SERIES], ids=["images", "text", "series"])


@CONFIGS
def test_stablehlo_is_loaded_and_run(config):
    pytest.importorskip("flatbuffers")
    model = small_model(config)
    program = export.deserialize(to_stablehlo(model))
    for count in (1, 5):
        inputs = some_inputs(config, count)
        np.testing.assert_allclose(program.call(inputs), model.outputs(inputs).probabilities_NxA, rtol=1e-5)


@pytest.fixture
def jax2onnx():
    pytest.importorskip("onnxruntime")
    return pytest.importorskip("jax2onnx")


@pytest.mark.filterwarnings("ignore")
@CONFIGS
def test_onnx_is_loaded_and_run(jax2onnx, config):
    import onnxruntime

    bfloat16 = dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, bfloat16=True))
    model = dataclasses.replace(small_model(config), config=bfloat16, params=params_of(config))
    session = onnxruntime.InferenceSession(to_onnx(model), providers=["CPUExecutionProvider"])
    for count in (1, 5):
        inputs = some_inputs(config, count)
        (found,) = session.run(None, {session.get_inputs()[0].name: inputs})
        np.testing.assert_allclose(found, small_model(config).outputs(inputs).probabilities_NxA, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_an_export_that_predicts_something_else_is_refused(jax2onnx, monkeypatch):
    true = jax2onnx.to_onnx
    monkeypatch.setattr(jax2onnx, "to_onnx", lambda f, shapes: true(lambda inputs: f(255 - inputs), shapes))
    with pytest.raises(InputError, match="probabilities differ from the model's by"):
        to_onnx(small_model(IMAGES))


def test_the_command_names_missing_packages_and_replaces_nothing(tmp_path, monkeypatch):
    save_model(small_model(IMAGES), tmp_path / "model")
    config = ExportModel(tmp_path / "model", "onnx", tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(InputError, match=r"jax2onnx and onnxruntime .*export-model"):
        main(config)
    assert not config.out.exists()
    config.out.write_bytes(b"mine")
    with pytest.raises(InputError, match="is there already"):
        main(config)


def test_the_command_writes_what_the_format_makes(tmp_path, monkeypatch):
    save_model(small_model(IMAGES), tmp_path / "model")
    monkeypatch.setitem(FORMATS, "stablehlo", lambda model: " ".join(model.classes).encode())
    main(ExportModel(tmp_path / "model", "stablehlo", tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == b"a b c"
