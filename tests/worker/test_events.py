import io

from sdbench.schema.wire import WORKER_EVENT, FailureEvent, StageEvent
from sdbench.worker.events import EventWriter


def test_failure_names_the_stage_it_happened_in() -> None:
    stream = io.BytesIO()
    events = EventWriter(stream)
    events.emit(StageEvent(stage="load"))
    events.emit_failure(KeyError("x"))
    event = WORKER_EVENT.validate_json(stream.getvalue().splitlines()[1])
    assert isinstance(event, FailureEvent)
    assert (event.stage, event.error_type, event.out_of_memory) == ("load", "KeyError", None)
