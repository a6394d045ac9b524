# SPDX-License-Identifier: Apache-2.0
"""Redirects are followed as RFC 9110 says, and lead nowhere that the guard would not go."""

from __future__ import annotations

import pytest
from tests.unit.executors.http_world import Names, World, serving
from yarl import URL

from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import Failed, Succeeded
from kubesaga.executors.egress import EgressGuard, Route
from kubesaga.executors.egress_policy import EgressPolicy
from kubesaga.executors.http import HttpExecutor
from kubesaga.executors.http_messages import Answer, Request, redirected
from kubesaga.settings import Settings


@pytest.fixture
async def site():
    async with serving() as made:
        yield made


@pytest.fixture
async def world(site):
    made = World(f"127.0.0.1:{site.port}")
    yield made
    await made.executor.close()


@pytest.mark.parametrize(
    ("status", "method", "then", "body_kept"),
    [
        pytest.param(301, "POST", "GET", False, id="301 makes GET of POST"),
        pytest.param(302, "POST", "GET", False, id="302 makes GET of POST"),
        pytest.param(301, "PUT", "PUT", True, id="301 keeps PUT"),
        pytest.param(302, "DELETE", "DELETE", True, id="302 keeps DELETE"),
        pytest.param(303, "POST", "GET", False, id="303 makes GET of POST"),
        pytest.param(303, "PUT", "GET", False, id="303 makes GET of PUT"),
        pytest.param(303, "HEAD", "HEAD", True, id="303 keeps HEAD"),
        pytest.param(307, "POST", "POST", True, id="307 keeps all"),
        pytest.param(308, "PATCH", "PATCH", True, id="308 keeps all"),
    ],
)
async def test_redirects_are_followed(world, site, status, method, then, body_kept):
    site.redirect("/from", status, "to?x=1")
    body = None if method == "HEAD" else {"a": 1}
    outcome = await world.call(site.url("/from"), method, headers={"Authorization": "Bearer t"}, body=body)
    assert isinstance(outcome, Succeeded)
    request, received = site.asked[1]
    assert (request.method, request.path_qs, request.headers["Authorization"]) == (then, "/to?x=1", "Bearer t")
    assert received == (b'{"a":1}' if body_kept and body else b"")
    assert ("Content-Type" in request.headers) is bool(body_kept and body)
    assert request.headers["Idempotency-Key"] == "run-uid/call/do"


async def test_another_origin_gets_none_of_the_authors_headers(site):
    world = World(f"127.0.0.1:{site.port}", f"localhost:{site.port}", names=Names(localhost="127.0.0.1"))
    site.redirect("/from", 307, site.url("/to", host="localhost"))
    secrets = {"Authorization": "Bearer t", "Cookie": "a=b", "X-Api-Key": "k", "Accept": "text/plain"}
    await world.call(site.url("/from"), "POST", headers=secrets, body={"a": 1})
    request, received = site.asked[1]
    assert request.host == f"localhost:{site.port}"
    assert not {"Authorization", "Cookie", "X-Api-Key"} & set(request.headers)
    assert (request.headers["Accept"], request.headers["Content-Type"]) == ("text/plain", "application/json")
    assert received == b'{"a":1}'


async def test_another_port_of_the_same_host_is_another_origin(site):
    async with serving() as other:
        world = World(f"127.0.0.1:{site.port}", f"127.0.0.1:{other.port}")
        site.redirect("/from", 307, other.url("/to"))
        await world.call(site.url("/from"), headers={"Authorization": "Bearer t"})
        ((request, _),) = other.asked
        assert "Authorization" not in request.headers


async def test_cookies_are_not_kept(world, site):
    site.answer("/from", status=307, headers={"Location": "/to", "Set-Cookie": "a=b"})
    await world.call(site.url("/from"))
    await world.call(site.url("/again"))
    assert all("Cookie" not in request.headers for request, _ in site.asked)


@pytest.mark.parametrize(("hops", "fine"), [(5, True), (6, False)])
async def test_at_most_five_redirects_are_followed(world, site, hops, fine):
    for hop in range(hops):
        site.redirect(f"/{hop}", 302, f"/{hop + 1}")
    outcome = await world.call(site.url("/0"))
    if fine:
        assert outcome == Succeeded(output={"path": "/5"})
    else:
        assert (outcome.reason, outcome.retryable) == (Reason.HTTP_FAILED, False)
        assert "5 are followed" in outcome.message


async def test_a_redirect_loop_ends(world, site):
    site.redirect("/", 302, "/")
    assert (await world.call(site.url())).reason is Reason.HTTP_FAILED
    assert len(site.asked) == 6


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/iam/?secret", "http://kubernetes.default/api?secret",
        "https://kubernetes.default.svc/api", "http://127.0.0.1:1/?secret", "http://2130706433/", "//10.0.0.1/",
        "http://[::ffff:169.254.169.254]/", "http://inner.example/",
    ],
)  # fmt: skip
async def test_a_redirect_passes_the_guard_again(site, location):
    world = World(f"127.0.0.1:{site.port}", names=Names(inner_example="10.0.0.1"))
    site.redirect("/", 302, location)
    outcome = await world.call(site.url())
    assert (outcome.reason, outcome.retryable, len(site.asked)) == (Reason.EGRESS_DENIED, False, 1)
    assert "secret" not in outcome.message


@pytest.mark.parametrize("location", ["ftp://example.com/", "http://a:secret@127.0.0.1/", "http://[", "\x01"])
async def test_a_redirect_to_what_is_no_url_is_refused(world, site, location):
    answer = Answer(status=302, location=location)
    request = Request(method="GET", url=URL(site.url()), headers={}, body=None)
    refused = redirected(request, answer)
    assert (refused.reason, refused.retryable) == (Reason.INVALID_INPUT, False)
    assert "answered 302 and a Location that cannot be used" in refused.message
    assert "secret" not in refused.message


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        pytest.param("https://example.com/", "http://example.com/?secret", True, id="from https to http"),
        pytest.param("http://example.com/", "https://example.com/", False, id="from http to https"),
        pytest.param("https://example.com/a", "/b", False, id="relative"),
    ],
)
def test_a_redirect_never_leaves_tls(before, after, refused):
    following = redirected(
        Request(method="GET", url=URL(before), headers={}, body=None), Answer(status=302, location=after)
    )
    assert isinstance(following, Failed) is refused
    if refused:
        assert (
            following.message
            == "GET https://example.com/ answered 302 and leads from https to http, to http://example.com/."
        )


async def test_a_server_outside_cannot_choose_what_is_called_inside(site):
    class Outside(EgressGuard):
        """Takes the first request for one to a public address."""

        async def route(self, url: URL, namespace: str) -> Route | Failed:
            found = await super().route(url, namespace)
            return Route(url=found.url, targets=found.targets, public=url.path == "/outside")

    policy = EgressPolicy([f"127.0.0.1:{site.port}"])
    site.redirect("/outside", 302, "/inside?secret")
    world = World()
    world.executor = HttpExecutor(Outside(policy, Names()), world.wake, Settings())
    outcome = await world.call(site.url("/outside"))
    assert (outcome.reason, outcome.retryable, len(site.asked)) == (Reason.EGRESS_DENIED, False, 1)
    assert f"a public server redirects to http://127.0.0.1:{site.port}/inside, which is not public" in outcome.message


async def test_a_name_that_is_rebound_between_two_requests_is_judged_each_time(site):
    class Rebinding(Names):
        async def __call__(self, host: str) -> list[str]:
            self.asked.append(host)
            return ["127.0.0.1"] if len(self.asked) == 1 else ["169.254.169.254"]

    world = World(f"127.0.0.1:{site.port}", names=Rebinding())
    site.redirect("/", 302, "/next")
    outcome = await world.call(f"http://rebind.example:{site.port}/")
    assert (outcome.reason, len(site.asked), len(world.names.asked)) == (Reason.EGRESS_DENIED, 1, 2)
