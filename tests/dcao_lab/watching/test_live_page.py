"""The local page: what the server answers, and what a real browser makes of it."""

import json
import socket
import struct
import threading
import urllib.error
import urllib.request

import pytest

from dcao_lab.watching.live import LiveRun
from dcao_lab.watching.server import PageServer
from helpers import browser as browsers
from helpers.live_logs import LAST_REASON, lines_of, write_log

MISSING = browsers.what_is_missing()
if MISSING is None:
    from playwright import sync_api as playwright

VIEWS = {"light": ("light", 1280, 800), "dark": ("dark", 1280, 800), "phone": ("light", 390, 844)}
needs_browser = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


class Served:
    """A log, the run that follows it, and its page."""

    def __init__(self, path, num_records):
        self.path = write_log(path, num_records=num_records)
        self.run = LiveRun(path)
        self.run.look()
        self.server = PageServer(self.run)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def look(self):
        self.run.look()
        self.server.publish(self.run)

    def get(self, path, **headers):
        request = urllib.request.Request(f"{self.server.url}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)


@pytest.fixture
def serve(tmp_path):
    served = []

    def serve(num_records):
        served.append(Served(tmp_path / "run.jsonl", num_records))
        return served[-1]

    yield serve
    for each in served:
        each.close()


def test_only_this_machine_can_ask(serve):
    assert serve(3).server.server_address[0] == "127.0.0.1"


def test_a_foreign_name_for_this_machine_is_refused(serve):
    served = serve(3)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        served.get("data", Host="example.org")
    assert served.get("data", Host=f"localhost:{served.server.server_port}")[0] == 200


@pytest.mark.parametrize("path", ["nothing", "../pyproject.toml", "live.js"])
def test_nothing_else_is_served(serve, path):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        serve(3).get(path)


def test_what_a_page_has_seen_is_not_sent_again(serve):
    served = serve(3)
    _, content = served.get("data?seen=")
    seen = json.loads(content)["version"]
    assert served.get(f"data?seen={seen}") == (204, b"")
    with served.path.open("a") as file:
        file.write(lines_of(4, begin=3))
    served.look()
    status, content = served.get(f"data?seen={seen}")
    assert (status, json.loads(content)["state"]) == (200, "last record at step 30")


def test_a_hundred_thousand_steps_are_an_answer_of_a_few_kilobytes(serve):
    _, content = serve(10_000).get("data")  # a record every ten steps
    shown = json.loads(content)
    assert shown["state"] == "last record at step 99990"
    assert [len(panel["steps"]) for panel in shown["panels"]] == [1000] * 3
    assert len(content) < 150_000  # three curves of 1000 points of two numbers of at most 25 characters


def test_a_browser_that_goes_away_in_mid_answer_is_not_an_error(serve, capfd):
    served = serve(10)
    with socket.create_connection(served.server.server_address) as browser:
        browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
        browser.sendall(f"GET /plotly.js HTTP/1.1\r\nHost: localhost:{served.server.server_port}\r\n\r\n".encode())
        browser.recv(10)
    served.get("data")
    served.close()
    assert capfd.readouterr() == ("", "")


@pytest.fixture(scope="module")
def browser():
    with browsers.running() as browser:
        yield browser


@pytest.fixture
def open_page(browser):
    contexts = []

    def open_page(served, view="light"):
        scheme, width, height = VIEWS[view]
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = browsers.page_with_complaints(context, own=(served.server.url, "data:"))
        page.goto(served.server.url)
        page.locator(".plot .main-svg").nth(2).wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.browser
@needs_browser
@pytest.mark.parametrize("view", VIEWS)
def test_everything_is_shown_and_nothing_sticks_out_or_complains(serve, open_page, view):
    page = open_page(serve(400), view)
    playwright.expect(page.locator("#state")).to_have_text("last record at step 3990")
    playwright.expect(page.locator("#reason")).to_have_text(LAST_REASON)
    playwright.expect(page.locator("#notices")).to_have_text("arrived; skipped 3 times")
    captions = [caption.inner_text().split("\n") for caption in page.locator("figcaption").all()]
    assert captions == [["training loss", "0.181"], ["stability number s", "1.2"], ["learning rate", "0.002"]]
    assert page.locator(".annotation-text").all_text_contents() == ["edge 2"]
    assert page.locator(".scatterlayer .trace").count() == 3
    for plot in page.locator(".plot").all():
        drawn, place = plot.locator(".main-svg").first.bounding_box(), plot.bounding_box()
        assert drawn["width"] == pytest.approx(place["width"], abs=1.0)  # drawn in whole pixels
    assert page.evaluate("document.documentElement.scrollWidth") <= VIEWS[view][1]
    assert page.complaints == []


@pytest.mark.browser
@needs_browser
def test_the_page_follows_a_log_that_grows_and_one_that_is_written_anew(serve, open_page):
    served = serve(3)
    page = open_page(served)
    state = page.locator("#state")
    playwright.expect(state).to_have_text("last record at step 20")
    with served.path.open("a") as file:
        file.write(lines_of(10, begin=3) + '{"step": 1')
    served.look()
    playwright.expect(state).to_have_text("last record at step 90")
    write_log(served.path, num_records=2)
    served.look()
    playwright.expect(state).to_have_text("last record at step 10")
    assert page.evaluate("document.querySelector('.plot').data[0].x") == [0, 10]
    assert page.complaints == []


@pytest.mark.browser
@needs_browser
def test_the_button_switches_the_colours_of_page_and_curves(serve, open_page):
    page = open_page(serve(30))
    colours = "[getComputedStyle(document.body).backgroundColor, document.querySelector('.xtick text').style.fill]"
    before = page.evaluate(colours)
    page.locator("#theme").click()
    page.wait_for_function(f"{colours}.every((colour, part) => colour !== {json.dumps(before)}[part])")


@pytest.mark.browser
@needs_browser
def test_a_reason_is_text_and_a_server_that_stops_is_said(serve, open_page):
    served = serve(3)
    page = open_page(served)
    hostile = json.loads(lines_of(4, begin=3))
    hostile["decision"]["reason"] = "<img src=x onerror='window.hacked = 1'>"
    with served.path.open("a") as file:
        file.write(json.dumps(hostile) + "\n")
    served.look()
    playwright.expect(page.locator("#reason")).to_have_text("<img src=x onerror='window.hacked = 1'>")
    assert page.evaluate("window.hacked") is None
    assert page.complaints == []
    served.server.shutdown()
    served.server.server_close()
    playwright.expect(page.locator("#state")).to_have_text("dcao-lab watch has stopped; this is what it showed last")
