"""The built report in a real browser, opened from disk as a reader opens it."""

import json
import os
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from lib.report import PAGES

BROWSER = next(filter(None, map(shutil.which, ("google-chrome", "chromium", "chromium-browser"))), None)
DRIVER = shutil.which("chromedriver")
PHONE, DESK = (390, 844), (1200, 900)

pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER) and not os.environ.get("CI"), reason="no chromium and chromedriver on this machine"
)


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for switch in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def visit(browser, path: Path, size=DESK) -> None:
    """Open a page, whole, at a window's size; what was logged before is forgotten.

    A busy machine's driver at times returns while the page is still the last one or half there.
    """
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(path.as_uri())
    WebDriverWait(browser, 60).until(
        lambda _: browser.execute_script("return [location.href, document.readyState]") == [path.as_uri(), "complete"]
    )


def requests(browser) -> list[str]:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_quiet_light_and_described(built, browser, name):
    path = built / "html" / f"{name}.html"
    visit(browser, path)
    urls = requests(browser)
    assert path.as_uri() in urls
    assert [url for url in urls if urlsplit(url).scheme not in ("file", "data")] == []
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    images = browser.find_elements(By.TAG_NAME, "img")
    assert images
    for image in images:
        assert len(image.get_attribute("alt")) > 20
        assert int(image.get_property("naturalWidth")) > 0
    assert path.stat().st_size < 3_000_000


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_no_page_scrolls_sideways(built, browser, name, size):
    visit(browser, built / "html" / f"{name}.html", size)
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    assert 300 < wide <= size[0]


def test_every_link_leads_somewhere(built, browser):
    """Pages, fragments and records are opened; a table for download only has to be there."""
    links = set()
    for name in PAGES:
        visit(browser, built / "html" / f"{name}.html")
        links |= set(browser.execute_script("return [...document.querySelectorAll('a[href]')].map(a => a.href)"))
    assert {urlsplit(link).scheme for link in links} == {"file"}
    paths: dict[Path, set[str]] = {}
    for link in links:
        paths.setdefault(Path(unquote(urlsplit(link).path)), set()).add(unquote(urlsplit(link).fragment))
    assert len([path for path in paths if path.suffix == ".json"]) > 20
    for path, fragments in paths.items():
        assert path.is_file(), path
        assert path.is_relative_to(built / "html")
        if path.suffix == ".csv":
            continue
        visit(browser, path)
        targets = browser.execute_script("return [...document.querySelectorAll('[id]')].map(each => each.id)")
        assert fragments - {""} <= set(targets), path.name
        if path.suffix == ".json":
            assert json.loads(browser.find_element(By.TAG_NAME, "pre").text)


@pytest.mark.parametrize("name", PAGES)
def test_contents_and_pages_are_navigable_and_a_reduced_page_says_so_everywhere(built, browser, name):
    visit(browser, built / "html" / f"{name}.html", PHONE)
    assert len(browser.find_elements(By.CSS_SELECTOR, "nav.pages a")) == len(PAGES)
    assert len(browser.find_elements(By.CSS_SELECTOR, "nav.contents a")) >= 3
    assert "profile smoke" in browser.title
    browser.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    ribbon = browser.find_element(By.CSS_SELECTOR, ".ribbon")
    top = browser.execute_script("return arguments[0].getBoundingClientRect().top", ribbon)
    assert "Nothing on this page is a result" in ribbon.text
    assert abs(top) < 1  # it stays in sight at the end of the page


def test_printed_pages_leave_out_what_only_a_screen_can_use(built, browser):
    visit(browser, built / "html" / "index.html")
    shown = "return getComputedStyle(document.querySelector(arguments[0])).display"
    for media, displays in (("screen", {"flex", "block"}), ("print", {"none"})):
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})
        assert {browser.execute_script(shown, part) for part in ("nav.pages", "details.code")} == displays
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert browser.execute_script(shown, ".ribbon") != "none"


def test_the_cover_answers_on_the_first_screen(built, browser):
    visit(browser, built / "html" / "index.html")
    title = browser.find_element(By.TAG_NAME, "h1")
    assert "Does it replicate?" in title.text
    assert "inconclusive" in title.text
    for first in ("table.report", "figure img"):
        bottom = "return document.querySelector(arguments[0]).getBoundingClientRect().bottom"
        assert browser.execute_script(bottom, first) <= DESK[1]
