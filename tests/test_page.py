"""The page in a real browser: what is clicked does what it says."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from browser import opened, running_browser
from playwright.sync_api import expect
from serving import Backwards, Client, serving
from untrained import untrained_model, untrained_writer

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
    assert page.locator(".hypothesis .text").all_text_contents() == [t or "∅" for t in expected]
    page.locator(".hypothesis").nth(2).click()
    page.locator(".hypothesis").nth(2).and_(page.locator("[aria-pressed=true]")).wait_for()
    assert output_of(page) == expected[2]


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
