# SPDX-License-Identifier: Apache-2.0
"""The invariants, read from the record of a play. Each check yields sentences; none means that it holds.

What they go by are the API server's versions (one count over all kinds, so that "before" has a meaning between a pod and
a run), the moments at which it answered, and the effects that the handlers and the service have seen.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from tests.faults.calls import Sent
from tests.faults.record import Effect, Record, Version
from tests.faults.saga import Saga

from kubesaga.api.deed import ActivityPhase
from kubesaga.api.names import ACTIVITY_ANNOTATION, DEED_ANNOTATION, FINISHED_LABEL, POD_FINALIZER, RUN_FINALIZER
from kubesaga.api.run import RunPhase
from kubesaga.engine.transitions import ACTIVITY_MOVES, RUN_MOVES, UNDO_MOVES

_EARLY: Final = 0.02
"""Seconds that the time of day and the status's milliseconds may differ by."""

DEEDS: Final = ("do", "undo", "fallback")
"""What can be done of an activity; each deed has attempts and an idempotency key of its own."""

Check = Callable[[Record, str, Saga], Iterator[str]]


def violations(record: Record) -> list[str]:
    """Return everything that the record shows to be wrong."""
    found = [
        f"{name}: {told}"
        for name, saga in record.sagas.items()
        for check in CHECKS
        for told in check(record, name, saga)
    ]
    if record.waited_for:
        found.append(f"I8: waited in vain for {record.waited_for}")
    return [*found, *one_writer_after_the_other(record)]


def _known(version: Version | None, activity: str, deed: str) -> Mapping[str, Any]:
    """Return what a status says of a deed: of an activity as such, its undo, or its fallback."""
    known = version.activity(activity) if version is not None else {}
    part = {"undo": "compensation", "fallback": "fallback"}.get(deed)
    return known if part is None else known.get(part) or {}


def one_writer_after_the_other(record: Record) -> list[str]:
    """Once another operator, or another life of one, has written, the one before writes no more."""
    if not record.alone:
        return []
    found: list[str] = []
    over: set[tuple[str, int]] = set()
    writing: tuple[str, int] | None = None
    for sent in sorted(record.calls, key=lambda sent: sent.at):
        if not sent.call.mutates or sent.status is None or sent.status >= 300:
            continue
        writer = (sent.operator, sent.life)
        if writer in over:
            found.append(
                f"leader: {sent.operator} in its life {sent.life} wrote ({sent.call.label}) after another had taken over"
            )
        if writing is not None and writer != writing:
            over.add(writing)
        writing = writer
    return found


def one_pod_an_attempt(record: Record, name: str, saga: Saga) -> Iterator[str]:
    """I1."""
    by_attempt: dict[str, set[str]] = {}
    for uid, versions in _pods(record, name).items():
        by_attempt.setdefault(_attempt_of(versions[0]), set()).add(uid)
    for attempt, uids in by_attempt.items():
        if len(uids) > 1:
            yield f"I1: attempt {attempt} had {len(uids)} pods"


def status_before_pod(record: Record, name: str, saga: Saga) -> Iterator[str]:
    """Law 1 for pods: the attempt stands in the status before its pod exists."""
    runs = record.of_run(name)
    for versions in _pods(record, name).values():
        activity, deed, number = _attempt_of(versions[0]).split("/")
        known = _known(_before(runs, versions[0].number), activity, deed)
        if (known.get("attempt"), known.get("phase")) != (int(number), "Running"):
            yield f"law 1: the pod of {activity}/{deed}/{number} was made when the status said {_words(known)}"


def status_before_effect(record: Record, name: str, saga: Saga) -> Iterator[str]:
    """Law 1 in process: the attempt, and each start of it over again, stands in the status before it begins."""
    if not record.alone:
        return  # between the record and the start another operator may have gone on
    runs = {version.number: version for version in record.of_run(name)}
    written = sorted((sent.executed_at, sent.version) for sent in record.calls if _is_status_of(sent, name))
    moments = [moment for moment, _ in written]
    starts: Counter[str] = Counter()
    for effect in _effects(record, name):
        starts[effect.place] += 1
        position = bisect_right(moments, effect.at) - 1
        said = runs.get(written[position][1] or 0) if position >= 0 else None
        known = _known(said, effect.activity, effect.deed)
        interruptions = known.get("interruptions") or 0
        if (known.get("attempt"), known.get("phase")) != (effect.attempt, "Running"):
            yield f"law 1: {effect.place} began when the status said {_words(known)}"
        elif starts[effect.place] > 1 + interruptions:
            yield f"law 1: {effect.place} began {starts[effect.place]} times, the status knows of {interruptions} interruptions"


def no_more_effects_than_deaths_explain(record: Record, name: str, saga: Saga) -> Iterator[str]:
    """At least once, and more than once only by a death of the operator."""
    if not record.alone:
        return
    for place, count in Counter(effect.place for effect in _effects(record, name)).items():
        if count > 1 + record.deaths:
            yield f"I5: {place} took effect {count} times, the operator died {record.deaths} times"


def only_allowed_moves(record: Record, name: str, saga: Saga) -> Iterator[str]:
    """I2: phases move along the tables, numbers do not go back, what is finished stays."""
    for old, new in pairwise(record.of_run(name)):
        if old.uid != new.uid or new.type == "DELETED":
            continue
        before, after = old.status.get("phase"), new.status.get("phase")
        if before != after and (
            after is None or RunPhase(after) not in RUN_MOVES[RunPhase(before) if before else None]
        ):
            yield f"I2: the run moves from {before} to {after}"
        if before is not None and RunPhase(before).finished and old.status != new.status:
            yield f"I2: the run is {before} and its status changes"
        for activity in old.status.get("activities") or {}:
            for deed in DEEDS:
                yield from _deed_moves(activity, deed, _known(old, activity, deed), _known(new, activity, deed))


def _deed_moves(activity: str, deed: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    if not old:
        return
    name = activity if deed == "do" else f"the {deed} of {activity}"
    if not new:
        yield f"I2: {name} vanishes from the status"
        return
    before, after = ActivityPhase(old["phase"]), ActivityPhase(new["phase"])
    if before is not after and after not in (UNDO_MOVES if deed == "undo" else ACTIVITY_MOVES)[before]:
        yield f"I2: {name} moves from {before} to {after}"
    for number in ("attempt", "completionOrder"):
        if (new.get(number) or 0) < (old.get(number) or 0):
            yield f"I2: {number} of {name} goes back from {old[number]} to {new.get(number)}"
    if before.ended and after is before and old.get("output") != new.get("output"):
        yield f"I2: the output of {name} changes after its end"
    due = old.get("nextAttemptTime")
    if due and after is before and new.get("nextAttemptTime") != due:
        yield f"I5: {name} waits until {due}, then until {new.get('nextAttemptTime')}"
    if due and new.get("attemptStartTime", due) < due and after is ActivityPhase.RUNNING:
        yield f"I5: {name} did not wait until {due}"


def no_lost_end(record: Record, name: str, saga: Saga) -> Iterator[str]:
    """I3: a pod is let go only when the status has its end, and its end is what the status says."""
    runs = record.of_run(name)
    for versions in _pods(record, name).values():
        activity, deed, number = _attempt_of(versions[0]).split("/")
        released = next((each for each in versions if not _held(each)), None)
        if released is not None:
            known = _known(_before(runs, released.number), activity, deed)
            over = known.get("phase", "Pending") not in ("Pending", "Running") or known.get("attempt", 0) > int(number)
            if not over:
                yield f"I3: the pod of {activity}/{deed}/{number} was let go when the status said {_words(known)}"
        ended = [each for each in versions if each.status.get("phase") == "Succeeded"]
        final = _known(runs[-1] if runs else None, activity, deed)
        undone = final.get("phase") in ("Compensating", "Compensated")
        if ended and final.get("attempt") == int(number) and final.get("phase") != "Succeeded" and not undone:
            yield f"I3: the pod of {activity}/{deed}/{number} succeeded, the status says {_words(final)}"


def order_of_the_graph(record: Record, name: str, saga: Saga) -> Iterator[str]:
    """What an activity needs has ended well in the status when it is begun; later it may be undone."""
    for activity, needs in saga.needs.items():
        begun = (each for each in record.of_run(name) if each.activity(activity).get("phase") not in (None, "Skipped"))
        first = next(begun, None)
        if first is None:
            continue
        waits = [need for need in needs if first.activity(need).get("phase") not in ("Succeeded", "Skipped")]
        if waits:
            yield f"order: {activity} is begun before {', '.join(waits)} ended well"


def retry_budget(record: Record, name: str, saga: Saga) -> Iterator[str]:
    """I5: not more attempts than allowed, none before its time."""
    due: dict[str, datetime] = {}
    for version in record.of_run(name):
        for activity in version.status.get("activities") or {}:
            for deed in DEEDS:
                known = _known(version, activity, deed)
                if known.get("attempt", 0) > saga.most:
                    yield f"I5: {activity}/{deed} has {known['attempt']} attempts, {saga.most} are allowed"
                    return
                if known.get("nextAttemptTime"):
                    due[f"{activity}/{deed}/{known['attempt'] + 1}"] = datetime.fromisoformat(known["nextAttemptTime"])
    for effect in _effects(record, name):
        when = due.get(effect.place)
        if when is not None and effect.clock < when.timestamp() - _EARLY:
            yield f"I5: {effect.place} began {when.timestamp() - effect.clock:.2f} s too early"


def one_key_a_deed(record: Record, name: str, saga: Saga) -> Iterator[str]:
    """I13: every call of one deed bears the one key that follows from run and activity."""
    uid = next((version.uid for version in record.of_run(name)), "")
    for effect in _effects(record, name):
        if effect.key not in {f"{uid}/{effect.activity}/{deed}" for deed in DEEDS}:
            yield f"I13: {effect.place} bore the key {effect.key}"


def undone_in_reverse(record: Record, name: str, saga: Saga) -> Iterator[str]:
    """I4: undos begin in reverse order of completion as it is recorded, and nothing goes forward after the first of them."""
    runs, effects = record.of_run(name), _effects(record, name)
    undos = [effect for effect in effects if effect.deed == "undo"]
    if not undos:
        return
    order = [
        runs[-1].activity(activity).get("completionOrder") or 0
        for activity in dict.fromkeys(undo.activity for undo in undos)
    ]
    if order != sorted(order, reverse=True):
        yield f"I4: undone in the order {order} of completion, which is not the reverse"
    forward = [
        effect
        for effect in effects
        if effect.deed != "undo" and effect.at > undos[0].at and effect.activity not in saga.last
    ]
    if forward:
        yield f"I4: {forward[0].place} began after {undos[0].place}"
    undone = {undo.activity for undo in undos}
    if undone != set(saga.undone) and not record.waited_for:
        yield f"I4: {sorted(undone)} were undone, {sorted(saga.undone)} were to be"


def the_end_is_as_without_faults(record: Record, name: str, saga: Saga) -> Iterator[str]:
    """Every history leads to the end of the undisturbed run: phases, attempts, outputs, and every effect at least once."""
    runs = record.of_run(name)
    if record.waited_for or not runs:
        return
    last = runs[-1]
    if saga.phase and last.status.get("phase") != saga.phase:
        yield f"end: the run is {last.status.get('phase')} ({last.status.get('reason')}: {last.status.get('message')}), not {saga.phase}"
    for activity, end in saga.ends.items():
        known = last.activity(activity)
        if (known.get("phase"), known.get("attempt", 1)) != (end.phase, end.attempt):
            yield f"end: {activity} is {_words(known)}, not {end.phase}/{end.attempt}"
        elif end.output is not None and known.get("output") != end.output:
            yield f"end: {activity} has put out {known.get('output')}, not {end.output}"
        elif activity in saga.pods:
            if not _pods(record, name):
                yield f"end: {activity} is {_words(known)} and had no pod"
        elif activity not in saga.waits and not any(effect.activity == activity for effect in _effects(record, name)):
            yield f"end: {activity} is {_words(known)} and has had no effect"


def nothing_is_left(record: Record, name: str, saga: Saga) -> Iterator[str]:
    """I9: no finalizer of ours stays, on a run or a pod, and the run is marked finished."""
    runs = record.of_run(name)
    if record.waited_for or not runs or runs[-1].type == "DELETED":
        return
    metadata = runs[-1].object["metadata"]
    if RUN_FINALIZER in (metadata.get("finalizers") or ()):
        yield "I9: the run keeps its finalizer"
    if (metadata.get("labels") or {}).get(FINISHED_LABEL) != "true":
        yield "I9: the run is not marked finished"
    for versions in _pods(record, name).values():
        if _held(versions[-1]):
            yield f"I9: the pod of {_attempt_of(versions[-1])} is still held"


CHECKS: Final[tuple[Check, ...]] = (
    one_pod_an_attempt, status_before_pod, status_before_effect, no_more_effects_than_deaths_explain, only_allowed_moves,
    no_lost_end, order_of_the_graph, retry_budget, one_key_a_deed, undone_in_reverse, the_end_is_as_without_faults, nothing_is_left,
)  # fmt: skip


def _pods(record: Record, name: str) -> dict[str, list[Version]]:
    runs = record.of_run(name)
    return record.pods_of(runs[0].uid) if runs else {}


def _effects(record: Record, name: str) -> list[Effect]:
    return sorted((effect for effect in record.effects if effect.run == name), key=lambda effect: effect.at)


def _attempt_of(pod: Version) -> str:
    metadata = pod.object["metadata"]
    marks = metadata.get("annotations") or {}
    # The number is in the name, which nobody can edit.
    return f"{marks.get(ACTIVITY_ANNOTATION, '?')}/{marks.get(DEED_ANNOTATION, 'do')}/{metadata['name'].rpartition('-')[2]}"


def _held(pod: Version) -> bool:
    return POD_FINALIZER in (pod.object["metadata"].get("finalizers") or ()) and pod.type != "DELETED"


def _before(versions: list[Version], number: int) -> Version | None:
    """Return the last version that is older than a number."""
    older = [version for version in versions if version.number < number]
    return older[-1] if older else None


def _is_status_of(sent: Sent, name: str) -> bool:
    return sent.call.name == name and sent.call.label == "patch workflowruns/status" and sent.version is not None


def _words(known: Mapping[str, Any]) -> str:
    return f"{known.get('phase', 'nothing')}/{known.get('attempt', 1)}" if known else "nothing"
