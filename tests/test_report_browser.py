"""The report in headless Chromium: what a reader's browser makes of report.html, on a screen, a phone and paper."""

import io
import os
import shutil

import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from brainmt_align.reporting.report import write_report
from tests.report_files import full_alignment, old_alignment, phenotype_run

MAKERS = {"full": full_alignment, "old": old_alignment, "phenotype": phenotype_run}
PHONE = 390
PAPER = 688  # pixels of a page of A4 between its margins
DARK = 235  # of 255: a pixel below it is no paper


@pytest.fixture(scope="module")
def browser():
    """Chromium; tests skip without it, except in CI, where that is a failure."""
    if (chromium := shutil.which("chromium")) is None:
        reason = "needs chromium on the path"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    return {name: write_report(make(folder / name)) for name, make in MAKERS.items()}


@pytest.fixture
def opened(browser, reports):
    """opened(name, width) -> the page, and what its console and its requests said."""
    pages = []

    def open_page(name, width=1280):
        page = browser.new_page(viewport={"width": width, "height": 844})
        pages.append(page)
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(reports[name].as_uri(), wait_until="load")
        return page, said, [url for url in asked if not url.startswith("data:")]

    yield open_page
    for page in pages:
        page.close()


@pytest.mark.parametrize("name", MAKERS)
def test_report_asks_for_nothing_but_itself_and_the_console_stays_silent(opened, reports, name):
    _, said, asked = opened(name)
    assert said == [] and asked == [reports[name].as_uri()]


@pytest.mark.parametrize("name", MAKERS)
def test_report_shows_every_image_and_says_what_it_shows(opened, name):
    page, _, _ = opened(name)
    images = page.eval_on_selector_all("img", "all => all.map(each => [each.complete, each.naturalWidth, each.alt.length])")
    assert images and all(complete and width > 0 and words > 10 for complete, width, words in images)
    assert page.locator("figure figcaption").count() == len(images)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("width", [PHONE, 1280])
def test_report_never_scrolls_sideways(opened, name, width):
    page, _, _ = opened(name, width)
    page.eval_on_selector_all("details", "all => all.forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.eval_on_selector_all(".box", "all => all.map(each => each.getBoundingClientRect().right)")
    assert boxes and max(boxes) <= width  # what is wider scrolls inside its box


def right_edge(box):
    """The least brightness at the right edge of a box, a few pixels above its lower end, where there are no letters."""
    image = Image.open(io.BytesIO(box.screenshot())).convert("L")
    row = [image.getpixel((x, image.height - 3)) for x in range(image.width)]
    return min(row[-4:])


def test_report_shadows_the_edge_beyond_which_a_table_scrolls(opened):
    page, _, _ = opened("full", PHONE)
    seen = 0
    for box in page.locator(".box:has(table)").all():
        if not box.is_visible():
            continue
        room = box.evaluate("e => e.scrollWidth - e.clientWidth")
        if not 0 < room <= 30:  # the shadow fades in over the last pixels
            assert (right_edge(box) < DARK) == (room > 0)
        if room > 30:
            seen += 1
            box.evaluate("e => e.scrollLeft = e.scrollWidth")
            assert right_edge(box) >= DARK  # nothing more there
    assert seen >= 2


def test_report_breaks_no_line_inside_an_interval(opened):
    page, _, _ = opened("full", PHONE)
    cells = page.locator("td", has_text="[").all_inner_texts()
    assert cells and not [text for text in cells if " " in text.split("[")[1]]


def test_report_is_legible_on_a_phone(opened):
    page, _, _ = opened("full", PHONE)
    sizes = page.eval_on_selector_all(
        "p, td:not(.long), th, li, figcaption", "all => all.map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 14
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.parametrize("name", MAKERS)
def test_report_prints_with_no_figure_cut_and_all_that_is_folded(opened, name):
    page, _, _ = opened(name, PAPER)
    assert page.pdf(format="A4", print_background=True).startswith(b"%PDF")
    page.emulate_media(media="print")
    fits = page.eval_on_selector_all("img", "all => all.map(e => e.getBoundingClientRect().right <= innerWidth)")
    assert all(fits)
    assert set(page.eval_on_selector_all("figure", "all => all.map(e => getComputedStyle(e).breakInside)")) == {"avoid"}
    wide = page.eval_on_selector_all("table", "all => all.filter(e => e.getBoundingClientRect().right > innerWidth).length")
    assert wide == 0
    assert min(page.eval_on_selector_all("details table", "all => all.map(e => e.getBoundingClientRect().height)")) > 0
