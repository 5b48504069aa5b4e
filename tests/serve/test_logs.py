import json
import logging
import sys

from cascade.observe.logs import JsonFormatter, describe


def record(message="hello", exc_info=None, **extra):
    made = logging.getLogger("cascade.test").makeRecord(
        "cascade.test", logging.INFO, __file__, 1, message, (), exc_info, extra=extra
    )
    return json.loads(JsonFormatter().format(made))


def test_a_record_is_one_json_object_with_its_extra_fields():
    line = record(request_id="a\nb", seconds=0.5)
    assert list(line) == ["time", "level", "logger", "message", "request_id", "seconds"]
    assert (line["level"], line["logger"], line["request_id"]) == ("info", "cascade.test", "a\nb")


def test_what_json_does_not_know_is_logged_as_its_string():
    assert record(path=__import__("pathlib").Path("x"))["path"] == "x"


def test_groups_and_suppressed_contexts():
    try:
        try:
            raise KeyError("quoted")
        except KeyError:
            raise ExceptionGroup("quoted", [ValueError("quoted")]) from None
    except ExceptionGroup as error:
        lines = describe(error)
        assert [line for line in lines if line.startswith("builtins.")] == [
            "builtins.ExceptionGroup",
            "builtins.ValueError",
        ]
        assert "quoted" not in json.dumps(record(exc_info=sys.exc_info()))
