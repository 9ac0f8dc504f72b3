"""How hits are shown to people: nothing wider than the screen, the query's words marked."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from deploy.cli import hits, reply
from deploy.cli.hits import print_hits
from deploy.cli.passage import MARK, passage_text, title_text
from deploy.cli.reply import print_settings, print_timings
from trireme.v1 import collection_pb2, document_pb2, ranking_pb2, search_pb2


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Console:
    """What is printed, on a screen of 80 columns."""
    console = Console(file=io.StringIO(), width=80, color_system=None)
    for module in (hits, reply):
        monkeypatch.setattr(module, "console", console)
    return console


def shown(screen: Console) -> list[str]:
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue().splitlines()


def hit(text: str, *spans: tuple[int, int], title: str = "", start: int = 0) -> search_pb2.Hit:
    """A hit whose passage reaches from byte `start` to the end."""
    return search_pb2.Hit(
        document=document_pb2.Document(id="d1", title=title, text=text),
        passage=search_pb2.PassageSpan(start_byte=start, end_byte=len(text.encode())),
        highlights=[search_pb2.TextSpan(start_byte=a, end_byte=b) for a, b in spans],
    )


def explained(rank: int, *, sparse: bool = False) -> search_pb2.Hit:
    found = hit("many oarsmen row " * 30, title=f"ship number {rank}")
    found.score = 0.9
    why = found.provenance
    why.dense.CopyFrom(search_pb2.LegRank(rank=rank, score=0.5, contribution=0.0161))
    if sparse:
        why.sparse.CopyFrom(search_pb2.LegRank(rank=88, score=123.456, contribution=0.0068))
        why.lexical.CopyFrom(search_pb2.LegRank(rank=77, score=23.456, contribution=0.0073))
    why.fused_rank, why.fused_score = rank + 2, 0.0325
    why.rerank_logit, why.fused_part, why.rerank_part = 5.25, 0.6, 0.3
    why.shard, why.generation = 1, 11
    return found


def marked(text: Text) -> list[str]:
    return [text.plain[span.start : span.end] for span in text.spans if span.style == MARK]


def test_marked_words_are_those_of_the_spans_also_behind_wide_characters() -> None:
    text = "über die Ruderer: rowed by oarsmen"
    start = len("über die Ruderer: ".encode())

    found = passage_text(hit(text, (start, start + 5)), 160)

    assert found.plain == text
    assert marked(found) == ["rowed"]


def test_a_mark_far_into_a_long_passage_is_shown() -> None:
    text = "word " * 100 + "rowed by oarsmen " + "word " * 100

    found = passage_text(hit(text, (500, 505)), 80)

    assert found.plain.startswith("… word")
    assert found.plain.endswith(" …")
    assert marked(found) == ["rowed"]
    assert len(found) <= 80 + len("… ") + len(" …")


def test_what_is_left_out_before_and_after_is_shown_as_dots() -> None:
    text = "first sentence. second sentence."
    found = hit(text, start=16)
    assert passage_text(found, 160).plain == "… second sentence."

    found.passage.start_byte, found.passage.end_byte = 0, 15
    assert passage_text(found, 160).plain == "first sentence. …"


def test_lines_of_a_text_become_one() -> None:
    assert passage_text(hit("two\n\n  lines "), 160).plain == "two lines"


def test_a_title_has_the_id_beside_it_unless_they_are_the_same() -> None:
    assert title_text(hit("x", title="The Title")).plain == "The Title  d1"
    assert title_text(hit("x", title="d1")).plain == "d1"
    assert title_text(hit("x")).plain == "d1"
    with_mark = hit("x", title="rowed ships")
    with_mark.title_highlights.add(start_byte=0, end_byte=5)
    assert marked(title_text(with_mark)) == ["rowed"]


@pytest.mark.parametrize("sparse", [False, True])
def test_an_explanation_fits_on_the_screen_and_says_it_all(screen: Console, sparse: bool) -> None:
    answer = search_pb2.SearchResponse(hits=[explained(rank, sparse=sparse) for rank in (1, 2)])

    print_hits(answer, explain=True)

    lines = shown(screen)
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for figure in ("1: 0.500", "+0.0161", "3: 0.0325", "+5.25", "0.600", "+0.300", "+2"):
        assert figure in text, figure
    assert "ship number 2" in text
    assert "shard 1, generation 11, bytes 0-510" in text
    assert ("88: 123.456" in text) is sparse


def test_a_leg_that_was_asked_and_found_none_of_the_hits_has_its_column(screen: Console) -> None:
    found = explained(1)
    found.provenance.ClearField("dense")
    answer = search_pb2.SearchResponse(
        hits=[found], encoder=collection_pb2.ModelVersion(model="bi_encoder", version="1")
    )

    print_hits(answer, explain=True)

    assert "dense" in shown(screen)[0]


def test_groups_are_shown_with_their_values_and_sizes(screen: Console) -> None:
    oars = document_pb2.AttributeValue(string_value="oars")
    answer = search_pb2.SearchResponse(
        candidate_count=9,
        groups=[
            search_pb2.HitGroup(value=oars, hits=[hit("a"), hit("b")], size=5),
            search_pb2.HitGroup(hits=[hit("c")], size=4),
        ],
    )

    print_hits(answer, explain=False, after=10)

    text = "\n".join(shown(screen))
    assert "oars: 5 of 9 candidates" in text
    assert "no value: 4 of 9 candidates" in text
    assert "11.2" in text
    assert "12.1" in text


def test_nothing_found_is_said(screen: Console) -> None:
    print_hits(search_pb2.SearchResponse(), explain=True)

    assert shown(screen) == ["no document was found"]


def test_the_settings_used_are_shown(screen: Console) -> None:
    answer = search_pb2.SearchResponse(
        fusion=ranking_pb2.Fusion(
            method=ranking_pb2.FUSION_METHOD_RRF, k=60, dense_weight=0.7, lexical_weight=1
        ),
        rerank=ranking_pb2.Rerank(enabled=True, depth=20, weight=0.3),
        window=100,
        candidate_count=145,
        coverage=0.5,
        encoder=collection_pb2.ModelVersion(
            model="bi_encoder", version="2", fingerprint="0123456789"
        ),
        shards=[
            search_pb2.ShardAnswer(shard=0, complete=True, generation=7, sequence=70),
            search_pb2.ShardAnswer(shard=1),
        ],
        timings=[search_pb2.StageTiming(stage=search_pb2.STAGE_ENCODE, microseconds=1500)],
        total_microseconds=3000,
    )

    print_settings(answer)
    print_timings(answer)

    text = " ".join(" ".join(shown(screen)).split())
    assert "rrf, k 60, weights dense 0.7, lexical 1; windows of 100 gave 145 candidates" in text
    assert "20 documents, weight 0.3" in text
    assert "bi_encoder 2 (01234567)" in text
    assert "0 at generation 7, change 70; 1 incomplete; coverage 50%" in text
    assert "encode 1.5" in text
