"""The page in a real browser: what is clicked does what it says."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from browser import opened, running_browser
from playwright.sync_api import expect
from serving import Backwards, Client, serving
from small_config import PAIRS
from untrained import untrained_model, untrained_writer

from seq2seq_kit import insight
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.serving.models import ServedRun

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = "<img src onerror=x>"
_SIZES = {"units": 16, "embedding_dim": 8, "init_scale": 1.5}  # Outputs of several letters.


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seq2Seq]:
    folders = [tmp_path_factory.mktemp(name) for name in ("letters", "writer")]
    return {
        "letters": untrained_model(folders[0], seed=2, model=_SIZES),
        "writer": untrained_writer(folders[1]),
    }


@pytest.fixture(scope="module")
def client(browser: "Browser", models: dict[str, Seq2Seq]) -> Iterator[Client]:
    runs = {name: ServedRun(model) for name, model in models.items()}
    with serving({**runs, "backwards": Backwards()}) as client:
        yield client


@pytest.fixture(scope="module")
def page(browser: "Browser", client: Client) -> "Iterator[Page]":
    """One page, which the tests use one after the other."""
    with opened(browser, client.address) as page:
        yield page


def type_text(page: "Page", text: str, label: str = "Text to translate") -> None:
    page.get_by_label(label).fill(text)


def output_of(page: "Page") -> str:
    """The output once it has been looked into, without the mark of its end."""
    page.locator(".output:not([aria-busy]) button.word.end").wait_for()
    texts = page.locator(".output button.word:not(.end) .text").all_text_contents()
    return "".join(texts).strip()


def best(model: Seq2Seq, text: str, **options: Any) -> str:
    return next(iter(model.hypotheses([text], **options)))[0].text


def test_what_is_typed_is_written_word_by_word(page: "Page", models: dict[str, Seq2Seq]) -> None:
    type_text(page, "ab")
    type_text(page, "abba")
    assert output_of(page) == best(models["letters"], "abba")
    assert "First token after" in page.locator(".status").inner_text()
    words = page.locator(".output button.word")
    surprise = words.first.evaluate("word => word.style.getPropertyValue('--surprise')")
    assert 0 < float(surprise) <= 1
    assert "probability" in words.first.get_attribute("aria-label")


def test_a_forced_word_is_kept_and_the_model_goes_on(
    page: "Page", models: dict[str, Seq2Seq]
) -> None:
    type_text(page, "abab")
    before = output_of(page)
    page.locator(".output button.word").nth(2).click()
    choices = page.locator(".choices button.choice:not(:disabled)")
    choices.nth(2).wait_for()
    assert page.evaluate("document.activeElement.classList.contains('choice')")
    choices.nth(2).click()
    page.locator(".forced:not([hidden])").wait_for()
    after = output_of(page)
    prefix = page.locator(".forced").inner_text().removeprefix("Forced beginning: ").split("\n")[0]
    prefix = prefix.removesuffix(" Let go").strip()
    assert after == best(models["letters"], "abab", prefixes=[prefix]) != before
    page.get_by_role("button", name="Let go").click()
    page.locator(".forced").wait_for(state="hidden")
    assert output_of(page) == before


def test_the_keyboard_moves_among_words_and_opens_them(page: "Page") -> None:
    type_text(page, "ba")
    output_of(page)
    page.locator(".output button.word").first.focus()
    page.keyboard.press("ArrowRight")
    assert (
        page.evaluate("[...document.querySelectorAll('.word')].indexOf(document.activeElement)")
        == 1
    )
    page.keyboard.press("Enter")
    page.locator(".choices:not([hidden])").wait_for()
    page.keyboard.press("Escape")
    page.locator(".choices").wait_for(state="hidden")
    assert (
        page.evaluate("[...document.querySelectorAll('.word')].indexOf(document.activeElement)")
        == 1
    )


def test_the_best_outputs_can_be_shown(page: "Page", models: dict[str, Seq2Seq]) -> None:
    type_text(page, "bab")
    page.get_by_role("tab", name="Best outputs").click()
    page.get_by_label("How many").fill("3")
    page.locator(".hypothesis").nth(2).wait_for()
    expected = [
        one.text
        for one in next(iter(models["letters"].hypotheses(["bab"], beam_size=3, num_hypotheses=3)))
    ]
    # Until the server has answered, those of the number before are shown.
    expect(page.locator(".hypothesis .text")).to_have_text([text or "∅" for text in expected])
    page.locator(".hypothesis").nth(2).click()
    page.locator(".hypothesis").nth(2).and_(page.locator("[aria-pressed=true]")).wait_for()
    assert output_of(page) == expected[2]


def changed_text(page: "Page") -> str:
    """What is written with changes, in the view that is open."""
    panel = page.locator("[role=tabpanel]:not([hidden]) .changed")
    panel.locator("h4").wait_for()
    text = panel.locator(".text")
    return text.inner_text() if text.count() else panel.locator(".hint").inner_text()


def test_attention_is_dragged_and_set_by_sliders(page: "Page", models: dict[str, Seq2Seq]) -> None:
    type_text(page, "abab")
    before = output_of(page)
    page.get_by_role("tab", name="Attention").click()
    row = page.locator(".attention tbody tr").nth(1)
    row.wait_for()
    cells = row.locator("td")
    places = cells.count()
    start, end = cells.nth(0).bounding_box(), cells.nth(places - 1).bounding_box()
    assert start
    assert end
    page.mouse.move(start["x"] + 5, start["y"] + 5)
    page.mouse.down()
    page.mouse.move(end["x"] + 5, end["y"] + 5, steps=3)
    page.mouse.up()
    dragged = changed_text(page)
    forced = insight.ForcedAttention(step=1, weights=[0.0] * (places - 1) + [1.0])
    with insight.intervene(models["letters"], forced) as model:
        expected = best(model, "abab")
    assert dragged == ("The same output as before." if expected == before else expected)
    sliders = page.locator(".editor input[type=range]")
    assert [slider.input_value() for slider in sliders.all()] == ["0"] * (places - 1) + ["100"]
    sliders.nth(0).fill("100")
    expect(row.locator("td").nth(0)).to_have_attribute("title", re.compile("50 %"))
    page.get_by_role("button", name="Write with this attention").click()
    changed_text(page)
    page.get_by_role("button", name="As the model had it").click()
    expect(page.locator(".attention .row", has_text="✎")).to_have_count(0)


def test_a_slider_scales_a_gate_and_chosen_units(page: "Page", models: dict[str, Seq2Seq]) -> None:
    type_text(page, "abab")
    before = output_of(page)
    page.get_by_role("tab", name="Gates").click()
    expect(page.locator(".track svg[role=img]")).to_have_count(6)
    page.get_by_label("Scale of Hidden state").fill("0")
    hidden = {"layer": "decoder_0", "part": "hidden", "scale": 0.0}
    with insight.intervene(models["letters"], insight.Intervention(**hidden)) as model:
        expected = best(model, "abab")
    assert expected != before
    assert changed_text(page) == expected
    page.get_by_role("button", name="Show the units of Hidden state").click()
    unit = page.locator(".unit").nth(1)
    number = int(unit.locator("span").inner_text())
    unit.click()
    page.get_by_text(f"Sliders change units {number} of this layer.").wait_for()
    one = insight.Intervention(**hidden, units=[number])
    with insight.intervene(models["letters"], one) as model:
        expected = best(model, "abab")
    shown = "The same output as before." if expected == before else expected
    expect(page.locator("[role=tabpanel]:not([hidden]) .changed p")).to_have_text(shown)
    page.get_by_label("Another unit").fill("5")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_text("Sliders change units")).to_contain_text("5")
    page.get_by_role("button", name="All units").click()
    page.get_by_label("Layer").select_option("encoder_forward_0")
    page.get_by_label("Sliders").select_option("value")
    page.get_by_label("Hold Forget gate at a value").fill("0.2")
    expect(page.locator(".track output").nth(1)).to_have_text("= 0.2")
    changed_text(page)
    page.get_by_role("button", name="Reset all").click()
    expect(page.locator(".track output").nth(1)).to_have_text("unchanged")


def test_the_beam_is_drawn_as_a_tree(page: "Page", models: dict[str, Seq2Seq]) -> None:
    type_text(page, "abab")
    output_of(page)
    page.get_by_role("tab", name="Beam").click()
    page.locator(".tree svg").wait_for()
    page.get_by_label("Beam size").fill("2")
    tree = insight.beam_tree(models["letters"], "abab", beam_size=2)
    expect(page.locator(".tree svg text")).to_have_count(len(tree.nodes))
    expect(page.locator(".tree path.is-best")).to_have_count(
        sum(node.is_best for node in tree.nodes) - 1
    )
    assert page.locator(".ends li").first.inner_text().startswith(tree.output)


def test_similar_training_lines_are_found(page: "Page", models: dict[str, Seq2Seq]) -> None:
    type_text(page, PAIRS[7][0])
    output_of(page)
    page.get_by_role("tab", name="Similar lines").click()
    page.get_by_label("By the state of the").select_option("encoder")
    page.get_by_role("button", name="Find similar lines").click()
    first = page.locator(".similar li").first
    expect(first.locator("p").first).to_have_text(PAIRS[7][0])  # The line itself is nearest.
    assert "similarity 1 · line 8" in first.inner_text()


def test_two_texts_are_compared_word_by_word(page: "Page") -> None:
    page.get_by_role("tab", name="Best outputs").click()
    type_text(page, "ab")
    first = output_of(page)
    page.get_by_role("button", name="Compare").click()
    second = page.locator(".workspace").nth(1)
    expect(second.get_by_label("Model")).to_have_value("letters")  # The writer has another task.
    second.get_by_label("Text to translate").fill("aaabbb")
    second.locator("button.word.end").wait_for()
    page.locator(".workspace").nth(0).locator(".is-different").first.wait_for()
    assert second.locator(".is-different").count()
    second.get_by_label("Text to translate").fill("ab")
    expect(page.locator(".is-different")).to_have_count(0)
    expect(second.locator("button.word.end")).to_be_visible()
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".workspace")).to_have_count(1)
    assert output_of(page) == first


def test_a_language_model_goes_on_from_a_forced_word(page: "Page") -> None:
    page.get_by_label("Model").select_option("writer")
    expect(page.get_by_role("tab", name="Attention")).to_be_hidden()
    type_text(page, "01", "Beginning of a text")
    output_of(page)
    page.get_by_role("button", name="Write another").click()
    output_of(page)
    page.locator(".output button.word").first.click()
    page.get_by_label("Another beginning").fill("1100")
    page.get_by_role("button", name="Go on from here").click()
    page.locator(".word.is-forced").first.wait_for()
    assert output_of(page).startswith("1100")
    page.get_by_label("Model").select_option("letters")


def test_language_and_colors_can_be_chosen(page: "Page") -> None:
    page.get_by_label("Language").select_option("zh")
    assert page.evaluate("document.documentElement.lang") == "zh-Hans"
    page.get_by_role("tab", name="候选输出").wait_for()
    background = "getComputedStyle(document.body).backgroundColor"
    page.get_by_label("配色").select_option("dark")
    dark = page.evaluate(background)
    page.get_by_label("配色").select_option("light")
    assert page.evaluate(background) != dark
    page.reload()
    page.get_by_role("tab", name="候选输出").wait_for()
    page.get_by_label("语言").select_option("en")
    assert page.evaluate("document.documentElement.lang") == "en"


def test_an_error_of_the_server_is_shown_in_words(page: "Page") -> None:
    type_text(page, "ab" * 300)
    page.get_by_role("alert").get_by_text("tokens").wait_for()
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator("#problem")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_fault_of_accessibility_and_no_sideways_scrolling(
    browser: "Browser", client: Client, scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    size = {"width": 360, "height": 740}
    with opened(browser, client.address, viewport=size, color_scheme=scheme) as page:
        type_text(page, "abab")
        output_of(page)
        tabs = ["Best outputs", "Gates", "Attention"] if scheme == "light" else ["Gates"]
        for tab in tabs:
            page.get_by_role("tab", name=tab).click()
            page.locator(":is(.hypothesis, .track, .attention tbody):visible").first.wait_for()
            found = Axe().run(page, options={"resultTypes": ["violations"]})
            faults = [(one["id"], one["nodes"][0]["html"]) for one in found.response["violations"]]
            assert faults == []
            assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_page_asks_for_the_token(browser: "Browser") -> None:
    with (
        serving({"backwards": Backwards()}, token="open sesame") as client,
        opened(browser, client.address) as page,
    ):
        for token in ("wrong", "open sesame"):
            page.get_by_label("Token", exact=True).fill(token)
            page.get_by_role("button", name="Use it").click()
        type_text(page, "abc")
        expect(page.locator(".output")).to_have_text("cba")


def test_a_stream_can_be_stopped(browser: "Browser", client: Client) -> None:
    with opened(browser, client.address) as page:
        page.route("**/generate", lambda _route: None)  # The answer never comes.
        type_text(page, "ab")
        page.get_by_role("button", name="Stop").click()
        expect(page.locator(".status")).to_have_text("Stopped")
        page.unroute_all()
        page.route("**/generate", lambda route: route.abort())
        type_text(page, "abb")
        page.get_by_role("alert").get_by_text("does not answer").wait_for()


def test_model_output_never_becomes_html(browser: "Browser", client: Client) -> None:
    with opened(browser, client.address) as page:
        page.get_by_label("Model").select_option("backwards")
        type_text(page, HOSTILE[::-1])
        expect(page.locator(".output")).to_have_text(HOSTILE)
        page.get_by_text("This model is an export").wait_for()
        assert page.locator(".hypothesis .text").first.inner_text() == HOSTILE
        assert page.locator("main img, main script").count() == 0
        assert page.title() == "seq2seq_kit"


def test_the_browser_refuses_html_made_of_text(browser: "Browser", client: Client) -> None:
    with browser.new_context() as session:
        page = session.new_page()
        page.goto(client.address)
        with pytest.raises(Exception, match="TrustedHTML"):
            page.evaluate("() => { document.body.innerHTML = 'x'; }")
