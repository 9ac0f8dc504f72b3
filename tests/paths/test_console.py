"""The web console in a real Chromium, as a person uses it: real searches against a family."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.paths.conftest import Family
from trireme.v1 import search_pb2

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), "")
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
SCREENSHOTS = os.environ.get("TRIREME_SCREENSHOTS", "")

pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason="no Chromium on PATH (Debian: apt-get install chromium)"
)


@dataclass
class Console:
    """One open page, and everything that it complained of or asked of other servers."""

    page: Any
    origin: str
    complaints: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Notes errors, violations of the policy, and requests that leave the origin."""
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._note)
        self.page.on("request", self._check)

    def _note(self, message: Any) -> None:
        # A refused search is an answer; Chromium logs its status all the same.
        if message.type == "error" and "status of" not in message.text:
            self.complaints.append(message.text)

    def _check(self, request: Any) -> None:
        if not request.url.startswith(self.origin):
            self.complaints.append(f"asked {request.url}")

    async def open(self, collection: str, fragment: str = "") -> None:
        """Loads the page and chooses a collection."""
        await self.page.goto(f"{self.origin}/console/{fragment}")
        if not fragment:
            await self.page.select_option("#collection", collection)

    async def ask(self, query: str) -> None:
        """Types a query and presses Enter; returns when the answer is shown."""
        await self.page.fill("#query", query)
        await self.page.press("#query", "Enter")
        await self.page.wait_for_selector("#insight:not([hidden]), #message:not([hidden])")

    async def texts(self, selector: str) -> list[str]:
        """What is shown by all elements of a selector."""
        return list(await self.page.locator(selector).all_inner_texts())

    async def keep(self, name: str) -> None:
        """Writes a screenshot if TRIREME_SCREENSHOTS names a folder, for people to look at."""
        if SCREENSHOTS:
            await self.page.screenshot(path=str(Path(SCREENSHOTS) / f"{name}.png"))


@pytest_asyncio.fixture(scope="module")
async def browser() -> AsyncIterator[Any]:
    playwright_api = pytest.importorskip("playwright.async_api")
    async with playwright_api.async_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        await chromium.close()


@pytest_asyncio.fixture
async def console(browser: Any, family: Family) -> AsyncIterator[Console]:
    context = await browser.new_context(viewport={"width": 1360, "height": 900})
    opened = Console(await context.new_page(), f"http://{family.cluster.http_address}")
    opened.watch()
    yield opened
    await context.close()
    assert opened.complaints == []


async def stored(family: Family, collection: str, **texts: str) -> search_pb2.SearchResponse:
    """Stores texts; returns when searches see them."""
    position = await family.put(collection, **texts)
    return await family.search(collection, "ship", min_position=position)


async def test_hits_show_what_every_leg_and_the_reranker_gave(
    family: Family, console: Console, collection: str
) -> None:
    await stored(family, collection, a="a ship with sails", b="a ship with oars", c="a tax on salt")
    await console.open(collection)

    await console.ask("ship with sails")
    await console.keep("hits")

    hits = await console.texts("#hits > li")
    assert len(hits) == 3
    assert "a ship with sails" in hits[0]
    assert await console.texts("#hits > li:first-child mark") == ["ship", "sails"]
    label = await console.page.get_attribute("#hits > li:first-child .bar", "aria-label")
    assert {"dense", "lexical", "reranker"} <= set(label.replace(",", "").split())
    parts = console.page.locator("#hits > li:first-child .bar span")
    widths = [(await parts.nth(n).bounding_box())["width"] for n in range(await parts.count())]
    bar = await console.page.locator("#hits > li:first-child .bar").bounding_box()
    # The best hit's parts fill its bar.
    assert len(widths) == 3
    assert sum(widths) == pytest.approx(bar["width"], abs=3)
    stages = await console.texts("#insight .timeline tbody td:first-child")
    assert {"encode", "dense", "lexical", "fuse", "fetch", "rerank", "whole"} <= set(stages)


async def test_sliders_and_choices_go_into_the_search(
    family: Family, console: Console, collection: str
) -> None:
    await stored(family, collection, a="a ship", b="a boat")
    await console.open(collection)
    await console.page.click("#settings summary")
    for _ in range(3):
        await console.page.press("#dense-weight", "ArrowRight")
    await console.page.select_option("#method", "FUSION_METHOD_MIN_MAX")
    await console.page.select_option("#rerank", "off")
    await console.page.fill("#filter", 'id = "a"')

    await console.ask("ship")
    await console.keep("settings")

    used = " | ".join(await console.texts("#insight section tr"))
    assert "dense 1.3, lexical 1" in used.replace("\t", " ")
    assert "min max" in used
    assert "reranking\toff" in used
    assert "1 of 2 match" in used
    assert len(await console.texts("#hits > li")) == 1
    await console.page.click("#defaults")
    assert "as the collection says" in await console.page.inner_text("#changed")


async def test_texts_of_documents_never_become_markup(
    family: Family, console: Console, collection: str
) -> None:
    await stored(family, collection, a=f"a ship {HOSTILE}")
    await console.open(collection)

    await console.ask(f"ship {HOSTILE}")

    assert HOSTILE in (await console.texts("#hits .passage"))[0]
    assert await console.page.locator("#hits img, #hits script").count() == 0
    assert await console.page.title() == "Trireme console"


async def test_a_degraded_answer_is_shown_as_one(
    family: Family, console: Console, collection: str
) -> None:
    await stored(family, collection, a="a ship")
    await console.open(collection)
    family.triton.set_fault("unhealthy")

    await console.ask("ship")
    await console.keep("degraded")

    shortfalls = await console.texts("#degraded li")
    assert any("rerank" in each and "TRITON_UNAVAILABLE" in each for each in shortfalls)
    assert len(await console.texts("#hits > li")) == 1


async def test_a_refusal_is_told_with_its_reason(console: Console, collection: str) -> None:
    await console.open(collection)
    await console.page.fill("#filter", "year >>")

    await console.ask("ship")

    assert "INVALID_FILTER" in await console.page.inner_text("#message")
    assert await console.texts("#hits > li") == []


async def test_further_pages_are_added_below(
    family: Family, console: Console, collection: str
) -> None:
    await stored(family, collection, **{f"d{n:02}": f"ship number {n}" for n in range(14)})
    await console.open(collection)
    await console.ask("ship")
    assert len(await console.texts("#hits > li")) == 10

    await console.page.click("#more")
    await console.page.wait_for_selector("#hits > li:nth-child(14)")

    ids = await console.texts("#hits .id")
    assert len(set(ids)) == 14
    assert not await console.page.is_visible("#more")


async def test_the_cluster_page_shows_every_shard(
    family: Family, console: Console, collection: str
) -> None:
    await stored(family, collection, a="a ship", b="a boat")
    await console.open(collection, "#cluster")

    card = console.page.locator(".collection", has=console.page.get_by_text(collection, exact=True))
    await card.wait_for()
    await console.keep("cluster")

    assert "2 documents" in await card.inner_text()
    assert await card.locator("tbody tr").count() == 2
    assert await console.page.inner_text("#health") == "serving"


async def test_everything_has_a_name_and_can_be_reached_by_keyboard(
    family: Family, console: Console, collection: str
) -> None:
    await stored(family, collection, a="a ship")
    await console.open(collection)
    await console.page.click("#settings summary")

    nameless = await console.page.evaluate(
        "[...document.querySelectorAll('input, select, button')].filter((each) =>"
        " !each.textContent.trim() && !each.labels?.length).map((each) => each.id)"
    )
    reached = set()
    await console.page.focus("#query")
    for _ in range(20):
        await console.page.keyboard.press("Tab")
        reached.add(await console.page.evaluate("document.activeElement.id"))

    assert nameless == []
    # The collection has no sparse leg to weigh.
    wanted = {"collection", "mode", "filter", "method", "dense-weight", "depth", "deadline"}
    assert wanted | {"rerank", "operators", "defaults", "page-size"} <= reached
    assert "sparse-weight" not in reached


async def test_dark_and_light_follow_the_persons_wish(console: Console, collection: str) -> None:
    await console.open(collection)
    grounds = []
    for scheme in ("light", "dark"):
        await console.page.emulate_media(color_scheme=scheme)
        grounds.append(
            await console.page.evaluate(
                "getComputedStyle(document.documentElement).backgroundColor"
            )
        )

    assert grounds == ["rgb(251, 251, 250)", "rgb(21, 24, 28)"]


async def test_pages_may_not_be_framed_or_run_foreign_code(
    family: Family, console: Console
) -> None:
    reply = await console.page.goto(f"{console.origin}/console/")

    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert reply.headers["x-content-type-options"] == "nosniff"
