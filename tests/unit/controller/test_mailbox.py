# SPDX-License-Identifier: Apache-2.0
"""Events on their way from one run to others."""

from __future__ import annotations

from typing import Any

import pytest

from kubesaga.api.action import Verb
from kubesaga.api.run import RecipientStatus
from kubesaga.controller.delivering.mailbox import Mailbox
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.command import Command
from kubesaga.engine.decision import Offer
from kubesaga.engine.snapshot import Reply
from kubesaga.testing.no_actions import NoActions

SENDER = RunKey(namespace="shop", name="messenger")


def key(name: str) -> RunKey:
    """Return a run of the namespace."""
    return RunKey(namespace="shop", name=name)


def offer(*names: str, uid: str = "m-1", value: Any = None) -> Offer:
    """Return an event for runs."""
    recipients = tuple(RecipientStatus(run=name, uid=f"uid-{name}", activities=["reply"]) for name in names)
    return Offer(command=Command(uid=uid, name="messenger", verb=Verb.SIGNAL, value=value), recipients=recipients)


class Post:
    """A mailbox and who was woken."""

    def __init__(self) -> None:
        self.woken: list[str] = []
        self.box = Mailbox(NoActions(), lambda key: self.woken.append(key.name))

    def told(self, name: str, uid: str | None = "") -> tuple[Command, ...]:
        """Return what a run has to answer."""
        return self.box.of_run(key(name), f"uid-{name}" if uid == "" else uid)

    async def answer(self, name: str, *, applied: bool = True) -> None:
        """Have a run answer the first thing that it was told."""
        await self.box.answer(self.told(name)[0], key(name), applied=applied, message=f"{name} says so")


@pytest.fixture
def post() -> Post:
    return Post()


async def test_who_is_offered_an_event_is_woken_and_told_and_the_sender_hears_the_answer(post: Post) -> None:
    post.box.offer(SENDER, offer("a", "b", value={"n": 1}))
    assert post.woken == ["a", "b"]
    (command,) = post.told("a")
    assert (command.target_uid, command.waiters, command.value) == ("uid-a", ("reply",), {"n": 1})
    await post.answer("a")
    assert post.woken == ["a", "b", "messenger"]
    assert post.box.replies("m-1") == {"uid-a": Reply(applied=True, message="a says so")}
    assert (post.told("a"), len(post.told("b"))) == ((), 1)


async def test_an_offer_that_is_repeated_wakes_nobody_and_asks_nobody_who_has_answered(post: Post) -> None:
    post.box.offer(SENDER, offer("a", "b"))
    await post.answer("a")
    post.woken.clear()
    post.box.offer(SENDER, offer("a", "b"))
    assert (post.woken, post.told("a")) == ([], ())


async def test_an_offer_that_is_taken_back_leaves_nothing(post: Post) -> None:
    post.box.offer(SENDER, offer("a", "b"))
    await post.answer("a", applied=False)
    post.box.offer(SENDER, offer())
    assert (post.told("b"), post.box.replies("m-1")) == ((), {})


async def test_an_answer_that_nobody_waits_for_any_more_is_dropped(post: Post) -> None:
    post.box.offer(SENDER, offer("a"))
    (command,) = post.told("a")
    post.box.gone(SENDER)
    assert post.told("a") == ()
    await post.box.answer(command, key("a"), applied=True, message="late")
    assert post.box.replies("m-1") == {}


async def test_a_run_of_the_same_name_with_another_uid_is_told_that_another_one_is_meant(post: Post) -> None:
    post.box.offer(SENDER, offer("a"))
    (command,) = post.told("a", uid="uid-later")
    assert command.problem == "the run that bears the name now is another one; its uid is uid-later"
    (command,) = post.told("a", uid=None)
    assert command.problem is None, "there is none: whoever answers says so"


async def test_two_senders_to_one_run_do_not_get_in_each_other_s_way(post: Post) -> None:
    post.box.offer(SENDER, offer("a"))
    post.box.offer(key("other"), offer("a", uid="m-2"))
    assert [command.uid for command in post.told("a")] == ["m-1", "m-2"]
    await post.answer("a")
    assert [command.uid for command in post.told("a")] == ["m-2"]
    assert (post.box.replies("m-1"), post.box.replies("m-2")) == (
        {"uid-a": Reply(applied=True, message="a says so")},
        {},
    )


async def test_what_is_no_event_goes_to_the_actions(post: Post) -> None:
    action = Command(uid="action-1", name="go", verb=Verb.SIGNAL, activity="reply")
    with pytest.raises(LookupError, match="there is no WorkflowAction 'go'"):
        await post.box.answer(action, key("a"), applied=True, message="")
