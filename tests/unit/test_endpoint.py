"""A teacher behind an endpoint, against a real server on 127.0.0.1: labels, errors, retries, cost, cache, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_server import Chat, chat
from pydantic import ValidationError

from edgetf.config.labeller import INSTRUCTIONS, LabellerConfig
from edgetf.core.errors import ConfigError, DeviceError
from edgetf.data import chat as client
from edgetf.data.endpoint import Labelled, label_texts

NAMES = ["business", "sport", "tech"]
KEY = "sk-very/secret+0123456789"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, no key, no proxy, and next to no waiting."""
    monkeypatch.setenv("EDGETF_CACHE", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(client, "BASE_DELAY_SECONDS", 0.001)
    return tmp_path


def config(server: Chat, **changes: Any) -> LabellerConfig:
    return LabellerConfig(**{"endpoint": server.url, "model": "big", "concurrency": 1, "retries": 2, **changes})


def silent(done: int, total: int, note: str) -> None:
    """A report that nobody reads."""


def label(server: Chat, texts: Sequence[str], names: Sequence[str] = NAMES, **changes: Any) -> Labelled:
    return label_texts(config(server, **changes), texts, names, silent)


def cached(folder: Path) -> list[dict[str, Any]]:
    lines = [line for path in folder.glob("labels/*.jsonl") for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def says(word: str) -> Any:
    return lambda text: word


# The config


def test_the_address_loses_its_last_slash() -> None:
    assert LabellerConfig(endpoint="http://[::1]:8000/v1/", model="m").endpoint == "http://[::1]:8000/v1"


@pytest.mark.parametrize(
    "url",
    ["", "api.openai.com/v1", "ftp://host/v1", "http:///v1", "http://host:port/v1", "http://[::1/v1", "http://host",
     "http://host/v1/chat/completions", "http://ho st/v1", "http://host/v1/ä"],
)  # fmt: skip
def test_a_wrong_address_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="endpoint"):
        LabellerConfig(endpoint=url, model="m")


@pytest.mark.parametrize(
    "wrong",
    [{"endpoint": f"https://user:{KEY}@host:x/v1"}, {"endpoint": f"https://host/v1?key={KEY}"}, {"api_key_env": KEY}],
)
def test_a_key_in_the_config_is_refused_and_not_shown(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}: ") as refused:
        LabellerConfig(**{"endpoint": "http://host/v1", "model": "m", **wrong})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"instructions": "one of {labels}"}, "allowed: {classes}, {text}"),
        ({"max_usd": 1}, "limits nothing while both prices are 0"),
        ({"api_key": "x"}, "Extra inputs are not permitted"),
        ({"top_logprobs": 21}, "less than or equal to 20"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(ValidationError, match=line):
        LabellerConfig(**{"endpoint": "http://host/v1", "model": "m", **wrong})


# What is asked


def test_the_request_holds_the_classes_and_the_text() -> None:
    with chat(says("sport")) as server:
        label(server, ["a match"], top_logprobs=4)
    sent = server.requests[0]
    assert sent.pop("max_tokens") >= len("business")
    assert sent == {
        "model": "big",
        "messages": [
            {"role": "system", "content": INSTRUCTIONS.replace("{classes}", "business, sport, tech")},
            {"role": "user", "content": "a match"},
        ],
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 4,
    }
    assert "Authorization" not in server.headers[0]


def test_hard_labels_ask_for_no_logprobs() -> None:
    with chat(says("sport")) as server:
        label(server, ["a match"], top_logprobs=0)
    assert not {"logprobs", "top_logprobs"} & server.requests[0].keys()


def test_instructions_with_a_place_for_the_text_are_one_message() -> None:
    with chat(says("sport")) as server:
        label(server, ["of {classes}"], instructions='{"{text}"}: {classes}?')
    assert server.requests[0]["messages"] == [
        {"role": "user", "content": '{"of {classes}"}: business, sport, tech?'},
    ]


def test_the_key_goes_into_the_header_and_nowhere_else(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    with chat(says("sport"), fail=1) as server:
        settings = config(server, api_key_env="MY_KEY")
        label_texts(settings, ["a match"], NAMES, silent)
    assert [headers["Authorization"] for headers in server.headers] == [f"Bearer {KEY}"] * 2
    written = "".join(path.read_text() + path.name for path in cache.rglob("*") if path.is_file())
    assert "secret" not in written + repr(settings) + settings.model_dump_json() + "".join(capfd.readouterr())


def test_a_key_that_no_header_can_carry_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret\nX: y")
    with chat(says("sport")) as server, pytest.raises(ConfigError, match="what OPENAI_API_KEY holds") as refused:
        label(server, ["a match"])
    assert "secret" not in str(refused.value)


# What is made of the answer


def test_soft_labels_are_the_probabilities_of_the_first_token() -> None:
    listed = {"Sp": 0.5, " sport": 0.2, "tech": 0.2, "x": 0.06, "": 0.04}
    with chat(says("Sport"), candidates=listed) as server:
        found = label(server, ["a match"]).probabilities
    # left: 0.1, which would be more than the last of the list, 0.04
    np.testing.assert_allclose(found, [np.array([0.04, 0.7, 0.2]) / 0.94], rtol=1e-5)
    assert found.dtype == np.float32


def test_what_is_left_is_shared_evenly() -> None:
    with chat(says("sport"), candidates={"sport": 0.9}) as server:
        found = label(server, ["a match"]).probabilities
    np.testing.assert_allclose(found, [[0.05, 0.9, 0.05]], rtol=1e-5)


def test_a_token_of_two_classes_counts_only_where_it_was_generated() -> None:
    names = ["1", "10", "2"]
    with chat(lambda text: text, candidates={"1": 0.6, "2": 0.3, "10": 0.1}) as server:
        found = label(server, ["1", "10"], names).probabilities
    np.testing.assert_allclose(found, [[0.6, 0.1, 0.3], [0, 0.7, 0.3]], atol=1e-6)
    with chat(says("2"), candidates={"2": 0.5, "1": 0.4, "10": 0.1}) as server:
        found = label(server, ["1"], names).probabilities
    np.testing.assert_allclose(found, [np.array([0.1, 0.1, 0.5]) / 0.7], rtol=1e-5)


def test_an_answer_that_is_no_class_is_refused_though_a_token_fits() -> None:
    with chat(says("I do not know"), candidates={"I": 0.6, "sport": 0.4}) as server:
        assert label(server, ["a match"], ["internal", "sport"]).refused == 1


@pytest.mark.parametrize(
    ("names", "answer", "wanted"),
    [
        (NAMES, "sport", 1),
        (NAMES, ' "SPORT". ', 1),
        (NAMES, "**Sport**", 1),
        (NAMES, "The class is sport, clearly", 1),
        (NAMES, "Sports", 1),
        (NAMES, "busin", 0),
        (NAMES, "sport or tech", None),
        (NAMES, "politics", None),
        (NAMES, "", None),
        (["formal", "informal"], "It is informal", 1),
        (["spam", "not_spam"], "not spam", 1),
        (["very bad", "very good"], "very", None),
        (["C", "C++"], "C++.", 1),
        (["1", "-1", "?"], "-1", 1),
        (["1", "-1", "?"], "?", 2),
        (["体育", "科技"], "类别是体育", 0),
    ],
)
def test_hard_labels_are_read_from_the_answer(names: list[str], answer: str, wanted: int | None) -> None:
    with chat(says(answer)) as server:
        found = label(server, ["a text"], names)
    row = np.full(len(names), np.nan) if wanted is None else np.eye(len(names))[wanted]
    np.testing.assert_array_equal(found.probabilities, [row])
    assert found.refused == (wanted is None)


@pytest.mark.parametrize("names", [[], ["sport"], ["sport", "Sport "], ["sport", " "]])
def test_classes_that_cannot_be_told_apart_cost_nothing(names: list[str]) -> None:
    with chat(says("sport")) as server, pytest.raises(ConfigError, match="two or more that read differently"):
        label(server, ["a match"], names)
    assert not server.requests


# What goes wrong


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 503, 529])
def test_a_busy_endpoint_is_asked_again(status: int) -> None:
    with chat(says("sport"), fail=2, status=status) as server:
        found = label(server, ["a match"])
    assert found.requests == len(server.requests) == 3
    assert found.usd == 0
    assert found.refused == 0


def test_retry_after_is_waited_for() -> None:
    with chat(says("sport"), fail=1, status=429, retry_after="0.3") as server:
        label(server, ["a match"])
    assert server.times[1] - server.times[0] >= 0.3


@pytest.mark.parametrize("retry_after", ["Wed, 21 Oct 2037 07:28:00 GMT", "-5", "nan"])
def test_a_retry_after_that_is_no_number_of_seconds_is_left_alone(retry_after: str) -> None:
    with chat(says("sport"), fail=1, status=429, retry_after=retry_after) as server:
        assert label(server, ["a match"]).requests == 2


def test_an_endpoint_that_wants_hours_is_not_waited_for() -> None:
    with (
        chat(says("sport"), fail=1, status=429, retry_after="7200") as server,
        pytest.raises(DeviceError, match=r"after 1 tries \(429 .*busy.*, asks to wait 7200 s\)"),
    ):
        label(server, ["a match"])


def test_the_back_off_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BASE_DELAY_SECONDS", 0.1)
    with chat(says("sport"), fail=3) as server:
        label(server, ["a match"], retries=3)
    waits = np.diff(server.times)
    assert (waits >= [0.05, 0.1, 0.2]).all()


def test_a_lost_connection_is_asked_again_and_may_have_cost_money() -> None:
    notes: list[str] = []
    with chat(says("sport"), drop=1) as server:
        settings = config(server, usd_per_million_input_tokens=1)
        found = label_texts(settings, ["a match"], NAMES, lambda done, total, note: notes.append(note))
    assert found.requests == 2
    assert found.usd > 100e-6
    assert notes == [f"{found.usd:.4f} USD (estimated)"]


def test_a_slow_answer_is_asked_again() -> None:
    with chat(says("sport"), hang=1, hang_seconds=0.6) as server:
        assert label(server, ["a match"], timeout_seconds=0.3).requests == 2


def test_an_endpoint_that_is_not_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens
        server = Chat(says(""), url=f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
        with pytest.raises(
            DeviceError, match=r"/v1: no answer after 3 tries \(.*refused\); check that it runs"
        ) as refused:
            label(server, ["a match"])
    assert refused.value.exit_code == 4


def test_retries_end() -> None:
    with chat(says("sport"), fail=9) as server, pytest.raises(DeviceError, match=r"3 tries \(503 .*labeller.retries"):
        label(server, ["a match"])
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 404, 422])
def test_other_refusals_end_at_once_and_never_show_the_key(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    said = "no {key} for big"
    with (
        chat(says("sport"), fail=9, status=status, said=said) as server,
        pytest.raises(
            DeviceError, match=rf"answered {status} .*no \*\*\* for big.*; check labeller\.endpoint"
        ) as refused,
    ):
        label(server, ["a match"])
    assert len(server.requests) == 1
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(("key", "state"), [(KEY, "was refused"), (None, "is missing")])
@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_names_its_variable(
    status: int, key: str | None, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if key:
        monkeypatch.setenv("MY_KEY", key)
    with (
        chat(says("sport"), fail=9, status=status, said="wrong: sk-very***789") as server,
        pytest.raises(
            DeviceError, match=f"answered {status}, the key of the environment variable MY_KEY {state}"
        ) as no,
    ):
        label(server, ["a match"], api_key_env="MY_KEY")
    assert len(server.requests) == 1
    assert "sk-" not in str(no.value)


def test_nobody_waits_for_a_back_off_once_the_run_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BASE_DELAY_SECONDS", 60)

    def refuse(number: int) -> None:
        if number == 2:
            server.body = b"{}"

    with chat(says("sport"), fail=1, on_request=refuse) as server:
        started = time.monotonic()
        with pytest.raises(DeviceError, match="got {}, allowed"):
            label(server, ["a", "b"], concurrency=2)
        assert time.monotonic() - started < 20


@pytest.mark.parametrize("status", [301, 302, 307])
def test_the_key_does_not_follow_a_redirect(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with (
        chat(says("sport")) as other,
        chat(says("sport"), fail=9, status=status, location=f"{other.url}/chat/completions") as server,
        pytest.raises(DeviceError, match=f"answered {status}"),
    ):
        label(server, ["a match"])
    assert not other.requests


@pytest.mark.parametrize(
    "body", [b"", b"<html>hello", b"[]", b"null", b"\xff", b'{"choices": []}', b'{"choices": [{"message": null}]}',
             b'{"error": {"message": "overloaded"}}'],
)  # fmt: skip
def test_what_is_no_completion_is_shown(body: bytes) -> None:
    with chat(says("sport"), body=body) as server, pytest.raises(DeviceError, match="allowed: a chat comp") as refused:
        label(server, ["a match"])
    assert f"got {body.decode('utf-8', 'replace') or 'nothing'}, allowed" in str(refused.value)


@pytest.mark.parametrize("logprobs", [{"content": None}, {"content": [{"token": "sport", "logprob": -1}]}, "none", 5])
def test_logprobs_of_another_kind_leave_a_hard_label(logprobs: Any) -> None:
    answer = {"choices": [{"message": {"content": "sport"}, "logprobs": logprobs}]}
    with chat(says(""), body=json.dumps(answer).encode()) as server:
        np.testing.assert_array_equal(label(server, ["a match"]).probabilities, [[0, 1, 0]])


def test_a_model_that_declines_gives_no_class() -> None:
    answer = {"choices": [{"message": {"content": None, "refusal": "no"}}]}
    with chat(says(""), body=json.dumps(answer).encode()) as server:
        assert label(server, ["a match"]).refused == 1


# What it costs

PRICES = {"usd_per_million_input_tokens": 10.0, "usd_per_million_output_tokens": 50.0}


def test_the_cost_is_that_of_the_tokens_used() -> None:
    with chat(says("sport"), usage=(1000, 20)) as server:
        assert label(server, ["a", "b"], **PRICES).usd == pytest.approx(2 * (1000 * 10 + 20 * 50) / 1e6)


def test_tokens_that_are_not_told_are_estimated() -> None:
    notes: list[str] = []
    with chat(says("business"), usage=None) as server:
        settings = config(server, instructions="abcd: {text}", **PRICES)
        found = label_texts(settings, ["12345"], NAMES, lambda done, total, note: notes.append(note))
    assert found.usd == pytest.approx((3 * 10 + 2 * 50) / 1e6)  # 11 characters, and 8
    assert notes == ["0.0001 USD (estimated)"]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_cost_cap_is_not_passed_and_the_next_run_continues(concurrency: int) -> None:
    texts = [f"{k:02}" + "x" * 998 for k in range(12)]  # held back for each are 0.0117 USD, and 0.0105 is what it costs
    changes = {**PRICES, "concurrency": concurrency, "instructions": "{classes}"}
    with chat(says("sport"), usage=(1000, 10), delay=0.02) as server:
        with pytest.raises(ConfigError) as stopped:
            label(server, texts, **changes, max_usd=0.05)
        assert "labeller.max_usd: 4 of 12 texts are labelled, 4 requests cost 0.0420 USD, one" in str(stopped.value)
        assert "could pass 0.05; raise labeller.max_usd, or run the same again" in str(stopped.value)
        assert stopped.value.exit_code == 2
        done = label(server, texts, **changes, max_usd=1)
    assert (done.reused, done.requests, done.refused) == (4, 8, 0)
    assert sorted(server.texts) == texts


def test_what_is_held_back_is_free_again_once_the_answer_is_there() -> None:
    texts = [f"{k:02}" + "x" * 998 for k in range(6)]  # 0.0117 USD are held back for each: one at a time
    with chat(says("sport"), usage=(10, 1), delay=0.01) as server:
        found = label(server, texts, **PRICES, concurrency=4, instructions="{classes}", max_usd=0.013)
    assert found.requests == 6
    assert server.most_at_once == 1


def test_a_request_that_could_pass_the_cap_by_itself_is_not_made() -> None:
    with chat(says("sport")) as server, pytest.raises(ConfigError, match="0 of 1 texts are labelled, 0 requests"):
        label(server, ["x" * 1000], **PRICES, max_usd=0.001)
    assert not server.requests


def test_requests_are_capped_with_their_retries() -> None:
    with chat(says("sport"), fail=1) as server:
        with pytest.raises(ConfigError, match="labeller.max_requests: 2 of 5 texts are labelled, 3 requests cost"):
            label(server, list("abcde"), max_requests=3)
        assert len(server.requests) == 3
        assert label(server, list("abcde"), max_requests=3).requests == 3


# What is kept


def test_the_second_run_asks_nothing(cache: Path) -> None:
    with chat(says("sport"), candidates={"sport": 0.7, "tech": 1e-9}) as server:
        first = label(server, ["a match", "a game"])
        second = label(server, ["a game", "a match"])
        assert len(server.requests) == 2
    np.testing.assert_array_equal(first.probabilities[::-1], second.probabilities)
    assert (first.requests, first.reused, second.requests, second.reused, second.usd) == (2, 0, 0, 2, 0)
    assert sorted(cached(cache)[0]) == ["probabilities", "text_sha256"]
    assert [len(path.stem) for path in cache.glob("labels/*")] == [24]


def test_an_answer_is_on_disk_before_it_is_reported(cache: Path) -> None:
    kept: list[int] = []
    with chat(says("sport")) as server:
        label_texts(config(server), ["a", "b"], NAMES, lambda done, total, note: kept.append(len(cached(cache)) - done))
    assert min(kept) >= 0


def test_a_text_is_asked_once_however_often_it_stands_there() -> None:
    with chat(lambda text: text) as server:
        found = label(server, ["sport", "tech", "sport", "none", "none"])
        assert sorted(server.texts) == ["none", "sport", "tech"]
    assert found.refused == 2
    np.testing.assert_array_equal(found.probabilities[:3], np.eye(3)[[1, 2, 1]])
    assert np.isnan(found.probabilities[3:]).all()


def test_a_text_without_a_class_is_asked_again(cache: Path) -> None:
    with chat(says("none")) as server:
        label(server, ["a match"])
        assert not cached(cache)
        server.answer = says("sport")
        assert label(server, ["a match"]).refused == 0


@pytest.mark.parametrize(
    "changes", [{"model": "bigger"}, {"instructions": "{classes}"}, {"top_logprobs": 0}, {"names": NAMES[::-1]}]
)
def test_another_question_has_a_cache_of_its_own(changes: dict[str, Any]) -> None:
    with chat(says("sport")) as server:
        label(server, ["a match"])
        assert label(server, ["a match"], **changes).requests == 1
        assert label(server, ["a match"], retries=0, concurrency=2).reused == 1


@pytest.mark.parametrize("torn", ['{"text_sha256": "ab', '{"text_sha256": "ab"}', "[]", "{}\n7", '"\ud83d'])
def test_a_torn_line_is_ignored_and_the_next_one_is_whole(cache: Path, torn: str) -> None:
    with chat(says("sport")) as server:
        label(server, ["a match"])
        (path,) = cache.glob("labels/*.jsonl")
        with path.open("ab") as stream:
            stream.write(torn.encode("utf-8", "surrogatepass"))
        assert label(server, ["a match", "a game"]).reused == 1
        assert label(server, ["a match", "a game"]).reused == 2


def test_a_row_of_the_cache_that_does_not_fit_is_asked_again(cache: Path) -> None:
    with chat(says("sport")) as server:
        label(server, ["a match"])
        (path,) = cache.glob("labels/*.jsonl")
        path.write_text(path.read_text().replace("1.0", "NaN"))
        assert label(server, ["a match"]).requests == 1


def test_no_texts() -> None:
    with chat(says("sport")) as server:
        assert label(server, []).probabilities.shape == (0, 3)


def test_texts_are_asked_at_the_same_time_and_stay_in_order() -> None:
    texts = [f"{k} {NAMES[k % 3]}" for k in range(12)]
    seen: list[tuple[int, int]] = []
    with chat(lambda text: text[-5:].split()[-1], delay=0.05) as server:
        found = label_texts(
            config(server, concurrency=4), texts, NAMES, lambda done, total, note: seen.append((done, total))
        )
    assert 2 <= server.most_at_once <= 4
    np.testing.assert_array_equal(found.probabilities.argmax(axis=1), [k % 3 for k in range(12)])
    assert seen == [(k, 12) for k in range(1, 13)]


def test_ctrl_c_cancels_what_waits_and_keeps_what_came(cache: Path) -> None:
    def interrupt(number: int) -> None:
        if number == 5:
            os.kill(os.getpid(), signal.SIGINT)

    texts = [f"text {k}" for k in range(50)]
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # what a shell starts in the background ignores it
    with chat(says("sport"), delay=0.1, on_request=interrupt) as server:
        with pytest.raises(KeyboardInterrupt):
            label(server, texts, concurrency=2)
        signal.signal(signal.SIGINT, before)
        asked = len(server.requests)
        assert asked < 10
        assert len(cached(cache)) == asked
        assert label(server, texts[:10]).reused == asked
