import pytest

from mixmin_jax.errors import InputError
from mixmin_jax.training.mesh import make_mesh, source_devices


def test_a_mesh_has_both_axes_even_on_one_device():
    assert dict(make_mesh().shape) == {"source": 1, "data": 1}
    assert dict(make_mesh(2, 4).shape) == {"source": 2, "data": 4}


@pytest.mark.parametrize("axes", [(9, 1), (3, 3), (0, 1), (1, -1)])
def test_more_devices_than_there_are_is_an_error(axes):
    with pytest.raises(InputError, match="8 are there"):
        make_mesh(*axes)


@pytest.mark.parametrize(
    ("models", "present", "used"), [(8, 8, 8), (6, 4, 3), (2, 8, 2), (9, 8, 5), (1, 4, 1), (7, 2, 2)]
)
def test_models_use_no_more_devices_than_shorten_the_run(models, present, used):
    assert source_devices(models, present) == used
