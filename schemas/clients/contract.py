"""The contract as Python sees it: the official CloudEvents SDK reads every sample, and `jsonschema` decides about
every body of rules.json as the page does. Run by schemas/tests/clients.rs."""

import copy
import json
import pathlib
from datetime import datetime

from cloudevents.core.bindings import http
from jsonschema import Draft202012Validator, FormatChecker

HERE = pathlib.Path(__file__).resolve().parent.parent


def load(path):
    return json.loads(path.read_text("utf-8"))


def changed(body, case):
    """The sample's body with the case's changes, which name their places by JSON pointers."""
    body = copy.deepcopy(body)
    for pointer, value in case.get("set", {}).items():
        *way, last = pointer[1:].split("/")
        place = body
        for step in way:
            place = place[step]
        place[last] = value
    for pointer in case.get("remove", []):
        *way, last = pointer[1:].split("/")
        place = body
        for step in way:
            place = place[step]
        del place[last]
    return body


def decode(sample):
    """Of the NATS binding only the place of the content type differs from HTTP's binary mode."""
    headers = {name.lower(): value for name, value in sample["headers"].items()}
    headers["content-type"] = headers.pop("ce-datacontenttype")
    body = json.dumps(sample["body"]).encode()
    event = http.from_binary_event(http.HTTPMessage(headers=headers, body=body))
    assert event.get_id() == sample["headers"]["ce-id"]
    assert event.get_source() == sample["headers"]["ce-source"]
    assert event.get_type() == sample["headers"]["ce-type"]
    assert event.get_dataschema() == sample["headers"]["ce-dataschema"]
    assert event.get_time() == datetime.fromisoformat(sample["headers"]["ce-time"].replace("Z", "+00:00"))
    assert event.get_data() == sample["body"]


def main():
    validators, samples = {}, {}
    for path in sorted((HERE / "json").glob("*.json")):
        schema = load(path)
        Draft202012Validator.check_schema(schema)
        formats = FormatChecker(["uuid", "date-time"])
        assert set(formats.checkers) == {"uuid", "date-time"}, "a check of a format is not installed"
        validators[path.stem] = Draft202012Validator(schema, format_checker=formats)
    for path in sorted((HERE / "samples").glob("*.json")):
        sample = samples[path.stem] = load(path)
        decode(sample)
        validators[path.stem].validate(sample["body"])
        by_name = {v.schema["$id"]: v for v in validators.values()}
        by_name[sample["headers"]["ce-dataschema"]].validate(sample["body"])
    cases = load(HERE / "rules.json")
    for case in cases:
        fits = validators[case["schema"]].is_valid(changed(samples[case["schema"]]["body"], case))
        assert fits == case["fits"], case
    print(len(validators), "schemas,", len(samples), "samples,", len(cases), "bodies")


main()
