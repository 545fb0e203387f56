#!/usr/bin/env python3
"""The page of `ekv map --html` in a browser: clicks through it as a user would, and compares what it
shows with what the independent reader reads.

Without chromium or selenium it says so and is skipped. Each test is a function whose name is the
sentence that it holds.

    test_map_page.py --screenshot FILE.png    makes the picture for the README instead
"""

import glob
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ekv_reader import DELETE, HEAD, Store  # noqa: E402

BUILD = os.environ.get("EKV_BUILD_DIR", "build/release")
SOURCE = os.environ.get("EKV_SOURCE_DIR", ".")
EKV = os.path.join(BUILD, "ekv")
ROUTER = os.path.join(SOURCE, "images", "router.bin")
RENUMBERED = "2026-11-21 10:14:00"
CLEANED_UP = "2026-11-22 00:41:00"

HOSTILE = {
    b"</script><script>window.owned = 1</script>": b"<!-- <script> window.owned = 2",
    b"<img src=x onerror='window.owned = 3'>": b'"><svg onload="window.owned = 4">',
    b"quote\"'&amp;\\": b"line\nfeed\ttab\\",
    b"\xff\x00\x01binary": bytes(range(256)),
    b"": b"of the empty key",
    "häfen/привет/日本".encode(): "ü€😀".encode() * 10,
    b"@DATA@ @STYLE@": b"@SCRIPT@",
}


def skip(text):
    print(f"SKIPPED: {text}")
    sys.exit(77)


def find_browser():
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not browser or not driver:
        skip("the page is not tested without: apt-get install chromium chromium-driver")
    if importlib.util.find_spec("selenium") is None:
        skip("the page is not tested without: apt-get install python3-selenium")
    return browser, driver


def start_browser(directory, width=1280, height=860):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    browser, driver = find_browser()
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for word in ("headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-sync",
                 "disable-background-networking", "disable-component-update", "hide-scrollbars",
                 "disable-dev-shm-usage", "force-device-scale-factor=1",
                 f"user-data-dir={directory}/profile", f"window-size={width},{height}"):
        options.add_argument("--" + word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(service=Service(driver), options=options)
    started.set_script_timeout(300)  # the machine may be busy
    started.set_page_load_timeout(300)
    return started


class Page:
    """A page of an image, opened in the browser."""

    def __init__(self, browser, directory, image, html=None):
        self.browser = browser
        path = os.path.join(directory, "page.html")
        if html is None:
            html = subprocess.run([EKV, "-C", image, "map", "--html"], check=True,
                                  stdout=subprocess.PIPE).stdout
        with open(path, "wb") as file:
            file.write(html)
        browser.get("file://" + path)

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def one(self, selector):
        return self.browser.find_element("css selector", selector)

    def text(self, selector):
        return self.one(selector).text

    def raw(self, selector):
        """Text as it is, blanks and line ends included."""
        return self.one(selector).get_attribute("textContent")

    def click(self, selector):
        self.one(selector).click()

    def press(self, keys, selector="body"):
        self.one(selector).send_keys(keys)

    def script(self, text, *arguments):
        return self.browser.execute_script(text, *arguments)

    def click_sector(self, number):
        """Clicks until the page shows that sector: what opened just before may still move it."""
        for _ in range(20):
            self._click_at(number)
            if self.text("#sector-title").lower().startswith(f"sector {number}:"):
                return
            time.sleep(0.1)
        raise AssertionError(f"sector {number} is not shown, but {self.text('#sector-title')!r}")

    def _click_at(self, number):
        from selenium.webdriver.common.actions.action_builder import ActionBuilder
        x, y = self.centre(number)
        left, top = self.script(
            "const box = document.getElementById('grid'); box.scrollTop = arguments[0] - 40;"
            "const canvas = document.getElementById('canvas').getBoundingClientRect();"
            "return [canvas.left, canvas.top]", y)
        actions = ActionBuilder(self.browser)
        actions.pointer_action.move_to_location(int(left + x), int(top + y)).click()
        actions.perform()

    def centre(self, number):
        return self.script("return [grid.size * (arguments[0] % grid.columns + 0.5),"
                           "grid.size * (Math.floor(arguments[0] / grid.columns) + 0.5)]", number)

    def colour(self, number):
        """The pixel in the middle of a sector."""
        x, y = self.centre(number)
        return self.script("const ratio = window.devicePixelRatio; return Array.from("
                           "document.getElementById('canvas').getContext('2d').getImageData("
                           "arguments[0] * ratio, arguments[1] * ratio, 1, 1).data)", x, y)

    def search(self, text):
        self.one("#search").clear()
        self.press(text, "#search")

    def keys(self):
        """The keys that the list shows, in order."""
        return self.script(
            "return Array.from(document.querySelectorAll('.key-row')).sort((a, b) =>"
            "a.ariaPosInSet - b.ariaPosInSet).map((row) => row.querySelector('b').textContent)")

    def click_row(self, number=0):
        """Clicks a row of the list, which may just be drawn anew."""
        from selenium.common.exceptions import StaleElementReferenceException
        for _ in range(20):
            try:
                self.click(f".key-row[aria-posinset='{number + 1}']")
                return
            except StaleElementReferenceException:
                pass
        raise AssertionError("the list of keys does not come to rest")

    def choose(self, key):
        self.search(key)
        self.click_row(self.keys().index(key))

    def slide_to(self, time):
        """Back from now with the arrow key, to the last transaction of this time."""
        from selenium.webdriver import Keys
        self.press(Keys.END, "#slider")
        for _ in range(400):
            if time in self.text("#moment"):
                return
            self.press(Keys.ARROW_LEFT, "#slider")
        raise AssertionError(f"the slider does not come to {time}: {self.text('#moment')}")

    def rows(self, selector):
        """The texts of the cells of a table's rows."""
        return self.script("return Array.from(document.querySelectorAll(arguments[0] + ' tbody tr'),"
                           "row => Array.from(row.cells, cell => cell.textContent))", selector)


def versions_of(store, key):
    """{version: (value or None, address)} of what lies in the log sectors of an image."""
    found = {}
    for address, record in records_of(store):
        if record.key == key and record.kind <= HEAD:
            found[record.version] = (None if record.kind == DELETE else record.value, address)
    return found


def records_of(store, only=None):
    for sector in range(store.count) if only is None else [only]:
        stamp = store.stamp_b(sector)
        address = sector * store.sector_size + store.body
        while stamp and stamp.kind == 1 and address % store.sector_size:
            record = store.record(stamp.sequence, address)
            if not record:
                break
            yield address, record
            address += record.size


def read(path):
    with open(path, "rb") as file:
        return Store(file.read())


# --- Tests ---------------------------------------------------------------------------------------


def the_page_needs_nothing_else(browser, directory):
    page = Page(browser, directory, ROUTER)
    assert page.text("h1") == "router", page.text("h1")
    assert page.script("return performance.getEntriesByType('resource').length") == 0
    assert page.script("return document.querySelectorAll('[src], link').length") == 0
    facts = page.text("#facts")
    assert "64 KiB, 16 × 4 KiB" in facts, facts
    assert page.text("#key-count") == "25"


def a_colouring_changes_picture_and_legend(browser, directory):
    page = Page(browser, directory, ROUTER)
    colours = {}
    for by in ("fill", "age", "wear", "kind"):
        page.click(f"[data-by={by}]")
        pressed = [button.get_attribute("data-by")
                   for button in page.all("[data-by][aria-pressed=true]")]
        assert pressed == [by], f"{pressed} are pressed, not {by}"
        colours[by] = tuple(tuple(page.colour(i)) for i in range(16))
        legend = page.text("#legend")
        word = {"fill": "% live", "age": "newest", "wear": "erases", "kind": "manifest"}[by]
        assert word in legend, f"the legend of {by} is {legend}"
    assert len(set(colours.values())) == 4, "two colourings look the same"
    store = read(ROUTER)
    erases = [int.from_bytes(store.image[at + 19:at + 23], "little")
              for at in range(0, 16 * 4096, 4096)]
    for i in range(16):
        for j in range(16):
            assert (erases[i] == erases[j]) == (colours["wear"][i] == colours["wear"][j]), \
                f"sectors {i} and {j} were erased {erases[i]} and {erases[j]} times"


def a_sector_shows_its_records(browser, directory):
    page, store = Page(browser, directory, ROUTER), read(ROUTER)
    for sector in (3, 6):
        page.click_sector(sector)
        assert page.text("#sector-title") == f"Sector {sector}: log", page.text("#sector-title")
        expected = [(f"0x{address % 4096:03x}", str(record.size), record.key.decode())
                    for address, record in records_of(store, sector) if record.kind <= HEAD]
        shown = [tuple(row[:2]) + (row[3],) for row in page.rows("#sector-body")
                 if row[2] in ("put", "delete", "head")]
        assert shown == expected, f"sector {sector} shows {shown[:3]}, not {expected[:3]}"
    page.click_sector(0)
    kinds = {row[2] for row in page.rows("#sector-body")}
    assert {"stamp-a", "stamp-b", "checkpoint", "edit"} <= kinds, kinds
    for sector in range(16):
        page.click_sector(sector)
        rows = page.rows("#sector-body")
        assert not any("damaged" in row for row in rows), f"sector {sector} is not damaged: {rows}"
        sizes = [int(row[1]) for row in rows]
        assert [int(row[0], 16) for row in rows] == [sum(sizes[:i]) for i in range(len(sizes))]
        assert sum(sizes) == 4096, f"there is a gap in what sector {sector} holds"


def a_record_of_a_sector_leads_to_its_key(browser, directory):
    page = Page(browser, directory, ROUTER)
    page.click_sector(3)
    row = next(row for row in page.all("#sector-body tbody tr") if "net/lan/ip" in row.text)
    row.click()
    assert page.text("#key-title") == "net/lan/ip"
    assert page.raw("#value") == "192.168.1.1", "the version of the row is not shown"


def a_key_is_found_and_has_its_history(browser, directory):
    page, store = Page(browser, directory, ROUTER), read(ROUTER)
    page.search("LAN/")
    assert page.keys() == ["net/lan/dhcp/first", "net/lan/dhcp/last", "net/lan/ip", "net/lan/mask"]
    page.choose("net/lan/ip")
    assert page.raw("#value") == "10.0.0.1"
    expected = [[str(version), value.decode(), f"0x{address:04x}"] for version, (value, address)
                in sorted(versions_of(store, b"net/lan/ip").items(), reverse=True)]
    shown = [[row[0], row[5], row[4]] for row in page.rows("#key-body")]
    assert shown == expected and len(shown) == 2, f"the history is {shown}, not {expected}"
    page.all("#key-body tbody tr")[1].click()
    assert page.raw("#value") == "192.168.1.1", "a click on an old version does not show it"


def the_slider_shows_the_store_as_it_was(browser, directory):
    page = Page(browser, directory, ROUTER)
    page.choose("net/lan/ip")
    assert page.raw("#value") == "10.0.0.1"
    page.slide_to(RENUMBERED)
    assert "4 changes" in page.text("#moment"), page.text("#moment")
    assert page.raw("#value") == "10.0.0.1"
    page.click("#older")
    assert page.raw("#value") == "192.168.1.1", "one transaction earlier the address was another"
    page.click("#now")
    assert page.raw("#value") == "10.0.0.1"
    page.press("[", "#canvas")
    assert "(218 of 219)" in page.text("#moment"), page.text("#moment")


def a_removed_key_comes_back_in_the_past(browser, directory):
    page = Page(browser, directory, ROUTER)
    page.search("vpn/")
    assert page.keys() == ["vpn/office/allowed", "vpn/office/endpoint"], page.keys()
    page.click("#gone")
    assert len(page.keys()) == 5 and len(page.all(".key-row.gone")) == 3, page.keys()
    page.choose("vpn/office/key")
    assert "removes the key" in page.text("#key-body")
    page.slide_to(CLEANED_UP)
    assert "3 changes" in page.text("#moment"), page.text("#moment")
    page.click("#older")
    assert page.raw("#value") == "4JfUvQ0uY5pVx3nS2sWc7kRb9mLz1tHd6gEaXoPqTkI="
    page.click("#gone")
    page.search("vpn/")
    assert len(page.keys()) == 5, "keys that were there then are not listed"
    page.all("#key-body tbody tr")[0].find_element("css selector", "button[title^=The]").click()
    assert CLEANED_UP in page.text("#moment"), "'go to' does not go to the version's moment"


def everything_goes_by_keyboard(browser, directory):
    from selenium.webdriver import Keys
    page = Page(browser, directory, ROUTER)
    page.press("4")
    assert page.all("[data-by=wear][aria-pressed=true]")
    page.press("1")
    page.press(Keys.HOME, "#canvas")
    page.press(Keys.ARROW_RIGHT * 3, "#canvas")
    assert page.text("#sector-title").startswith("Sector 3:"), page.text("#sector-title")
    page.press(Keys.ARROW_DOWN, "#canvas")
    columns = page.script("return grid.columns")
    assert page.text("#sector-title").startswith(f"Sector {3 + columns}:")
    page.press("/")
    assert page.script("return document.activeElement.id") == "search"
    page.press("net/", "#search")
    page.press(Keys.ESCAPE, "#search")
    page.press(Keys.ARROW_DOWN, "#key-list")
    assert page.text("#key-title") == "net/dns", page.text("#key-title")
    page.press(Keys.END, "#key-list")
    assert page.text("#key-title") == "net/wan/proto", page.text("#key-title")


def hostile_and_binary_keys_are_only_shown(browser, directory):
    image = os.path.join(directory, "image")
    subprocess.run([EKV, "-C", image, "format", "--size", "256K", "--retain", "3",
                    "--label", "</title><b>x"],
                   check=True, stdout=subprocess.DEVNULL)
    for key, value in HOSTILE.items():
        if b"\0" not in key:
            subprocess.run([EKV, "-C", image, "put", "--", key, "-"], input=value, check=True)
    subprocess.run([EKV, "-C", image, "put", "large", "-"], input=b"0123456789abcdef" * 9000,
                   check=True)
    page = Page(browser, directory, image)
    assert page.script("return window.owned === undefined"), "a key or value was taken for script"
    assert page.text("h1") == "</title><b>x"
    assert page.script("return document.querySelectorAll('img, svg').length") == 0
    for key, value in HOSTILE.items():
        if b"\0" in key or not key:
            continue
        text = page.script("return lineOf(arguments[0])", key.decode())
        page.search(text)
        page.click_row()
        assert page.raw("#value") == value.decode(), f"{key} shows {page.raw('#value')}"
    page.click_sector(page.script("return sectors.findIndex((s) => sectorOf.role(s) === 'log')"))
    kinds = [row[2] for row in page.rows("#sector-body")]
    assert kinds.count("put") >= len(HOSTILE) - 1, f"records with ordinals are shown as {kinds}"
    page.search("(nothing has this)")
    assert page.keys() == []
    page.choose("large")
    assert "of 144,000 bytes" in page.text("#key-body"), page.text("#key-body")
    assert page.raw("#value").startswith("0123456789abcdef0123")
    page.click(".value .tools button")
    assert page.raw("#value").startswith("000000  30 31 32 33"), page.raw("#value")[:60]


def damage_and_fragments_are_shown(browser, directory):
    with open(ROUTER, "rb") as file:
        whole = file.read()
    damaged = bytearray(whole)
    at = whole.index(b"net/lan/ip10.0.0.1")
    damaged[at + 12] ^= 0x40
    path = os.path.join(directory, "damaged")
    with open(path, "wb") as file:
        file.write(damaged)
    page = Page(browser, directory, path)
    assert "finding" in page.text("#findings-button"), page.text("#findings-button")
    page.click("#findings-button")
    assert page.rows("#findings"), "the findings are not listed"
    page.click_sector(at // 4096)
    assert "damaged" in page.text("#sector-body"), "the damaged record is not marked"

    # The upper half of it, behind something else.
    with open(path, "wb") as file:
        file.write(b"\x55" * 8192 + whole[0x5000:])
    page = Page(browser, directory, path)
    page.search("net/lan/ip")
    assert page.keys() == ["net/lan/ip"], page.keys()
    page.click_row()
    assert page.raw("#value") == "10.0.0.1"
    assert "not in this dump" in page.text("#legend"), page.text("#legend")


def images_of_the_corpus_open(browser, directory):
    """Every fourth, since each takes a second; test_map.py reads the data of all."""
    for path in sorted(glob.glob(os.path.join(SOURCE, "images", "*.bin")))[::4]:
        made = subprocess.run([EKV, "-C", path, "map", "--html"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL)
        if made.returncode == 2:
            continue  # test_map.py says why
        page = Page(browser, directory, None, made.stdout)
        page.script("sectors.slice(0, 40).forEach((_, number) => chooseSector(number));"
                    "keys.slice(0, 20).forEach((key) => chooseKey(key.index, -1));"
                    "for (let i = 0; i <= NOW; i += Math.max(1, NOW >> 3)) chooseMoment(i);"
                    "for (const by of ['fill', 'age', 'wear']) chooseColour(by);")
        errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert not errors, f"{path}: {errors}"
        count = page.script("return sectors.length")
        page.click_sector(count - 1)
        assert page.text("#sector-title").startswith(f"Sector {count - 1}:"), path


def what_hosts_keep_beside_keys_is_shown_on_request(browser, directory):
    image, tree = os.path.join(directory, "populated"), os.path.join(directory, "tree")
    os.makedirs(os.path.join(tree, "sub"))
    with open(os.path.join(tree, "file"), "w", encoding="utf-8") as file:
        file.write("content")
    os.symlink("file", os.path.join(tree, "link"))
    subprocess.run([EKV, "-C", image, "format", "--size", "256K", "--populate", tree], check=True,
                   stdout=subprocess.DEVNULL)
    aside = sum(space for space, _, _, _, _ in read(image).items())
    assert aside > 0, "nothing is kept aside: the test shows less than it should"
    page = Page(browser, directory, image)
    plain = len(page.keys())
    page.click("#aside")
    assert len(page.keys()) == plain + aside, page.keys()
    assert len(page.all(".key-row .tag")) == aside
    page = Page(browser, directory, ROUTER)
    assert not page.one("#aside").is_displayed(), "there is nothing aside to ask for"


def a_hundred_thousand_records_are_usable(browser, directory):
    html = subprocess.run([EKV, "-C", ROUTER, "map", "--html"], check=True,
                          stdout=subprocess.PIPE).stdout
    begin = html.index(b'id="data">') + len(b'id="data">')
    end = html.index(b"</script>", begin)
    data = json.loads(html[begin:end])
    count, versions = 25000, 4
    width = len(data["record_columns"])
    column = {name: i for i, name in enumerate(data["record_columns"])}
    template = next(row for row in data["records"] if data["kinds"][row[column["kind"]]] == "put")
    data["keys"] = [[0, f"key/{i:05}"] for i in range(count)]
    data["records"] = []
    for key in range(count):
        for age in range(versions):
            row = template[:width]
            number = key + (versions - 1 - age) * count
            row[column["key"]], row[column["value"]] = key, f"value {number}"
            row[column["version"]], row[column["begin_after"]] = 1000 + number, 0
            row[column["current"]], row[column["address"]] = int(age == 0), number * 64
            data["records"].append(row)
    place = {row[column["version"]]: i for i, row in enumerate(data["records"])}
    data["transactions"] = [[1000 + i, 0, True, [place[1000 + i]]] for i in range(count * versions)]
    data["sector_count"], data["size"] = 16384, 16384 * 4096
    data["sectors"] = [data["sectors"][i % 16] for i in range(16384)]
    data["items"] = [[] for _ in range(16384)]
    page = Page(browser, directory, None,
                html[:begin] + json.dumps(data).encode().replace(b"<", b"\\u003c") + html[end:])
    assert page.text("#key-count") == "25,000"
    assert len(page.all(".key-row")) < 100, "rows that cannot be seen are in the page"
    page.search("key/17123")
    page.click_row()
    assert page.raw("#value") == f"value {17123 + 3 * count}"
    page.press("[[[")
    page.script("chooseMoment(17123)")
    assert page.raw("#value") == "value 17123", page.raw("#value")
    page.click_sector(9000)
    assert page.text("#sector-title").startswith("Sector 9000:"), page.text("#sector-title")


# --- Running them --------------------------------------------------------------------------------


def screenshot(path):
    with tempfile.TemporaryDirectory() as directory:
        browser = start_browser(directory, 1180, 800)
        try:
            page = Page(browser, directory, ROUTER)
            page.click("#gone")
            page.slide_to(RENUMBERED)
            page.click_sector(5)
            page.choose("net/lan/ip")
            page.script("document.getElementById('search').value = ''; searchKeys();"
                        "chooseKey(ui.key, -1); document.getElementById('sector-body').scrollTop ="
                        "document.querySelector('#sector-body tr.chosen').offsetTop - 120;"
                        "document.activeElement.blur(); document.getElementById('tip').hidden = true")
            browser.save_screenshot(path)
        finally:
            browser.quit()


def main():
    if sys.argv[1:2] == ["--screenshot"]:
        screenshot(sys.argv[2])
        return
    failed = False
    with tempfile.TemporaryDirectory() as directory:
        browser = start_browser(directory)
        try:
            for test in (the_page_needs_nothing_else, a_colouring_changes_picture_and_legend,
                         a_sector_shows_its_records, a_record_of_a_sector_leads_to_its_key,
                         a_key_is_found_and_has_its_history, the_slider_shows_the_store_as_it_was,
                         a_removed_key_comes_back_in_the_past, everything_goes_by_keyboard,
                         hostile_and_binary_keys_are_only_shown, damage_and_fragments_are_shown,
                         images_of_the_corpus_open,
                         what_hosts_keep_beside_keys_is_shown_on_request,
                         a_hundred_thousand_records_are_usable):
                try:
                    test(browser, directory)
                    errors = [entry["message"] for entry in browser.get_log("browser")
                              if entry["level"] == "SEVERE"]
                    assert not errors, f"the console says {errors}"
                    print("ok:", test.__name__)
                except Exception as error:  # selenium has many of its own
                    failed = True
                    print(f"FAILED: {test.__name__}: {error!r}"[:600])
        finally:
            browser.quit()
    sys.exit(failed)


if __name__ == "__main__":
    main()
