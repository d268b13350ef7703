from sdbench.schema.outcome import Launch
from sdbench.schema.wire import Measurement


def test_no_field_of_a_launch_can_be_forgotten() -> None:
    fields = {**Launch.model_fields, **Measurement.model_fields}

    assert [name for name, field in fields.items() if not field.is_required()] == []
