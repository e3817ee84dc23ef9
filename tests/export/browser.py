#!/usr/bin/env python3
"""The page of `berth export` in a headless Chromium.

    tests/export/browser.py TOOL HOLDER STARTS [TEST...]

STARTS is for its neighbours. With PICTURES=FOLDER in the environment it leaves pictures there.
Would be broken if this failed: a page that shows nothing, other figures than the processes have, or
runs what a process is called.
"""

import os
import shutil
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
import webdriver  # noqa: E402
from exporter import Exporter, Program, skip, skip_if_blind  # noqa: E402
from webdriver import Browser  # noqa: E402

TOOL, HOLDER = (os.path.abspath(path) for path in sys.argv[1:3])
PICTURES = os.environ.get("PICTURES")
# Fifteen bytes are all that a process may be called.
HOSTILE = ("<img src=x>", "</script><b>", "'\"><svg/onload")

SHOWN = "return document.querySelectorAll('section .box > *').length > 5"
VALUE = """const found = document.querySelectorAll(arguments[0]);
           return found.length === 1 ? found[0].dataset.value : `${found.length} of them`;"""


def holder(*arguments):
    return Program(HOLDER, *arguments, BERTH_CONF="limit:64M")


def raw(value):
    return "none" if value is None else str(value)


class Page(unittest.TestCase):
    def opened(self, browser, exporter, pid, ready=SHOWN):
        browser.open("about:blank")  # what only changes behind the # is not loaded anew
        browser.open(f"http://{exporter.host}:{exporter.port}/#pid={pid}")
        browser.wait_for(ready)

    def picture(self, browser, name):
        if PICTURES:
            browser.picture(os.path.join(PICTURES, f"{name}.png"))

    def test_it_shows_the_figures_of_the_json(self):
        with holder("shown") as one, Exporter(TOOL) as exporter, Browser() as browser:
            self.opened(browser, exporter, one.pid)
            figures = exporter.metrics_of(one.pid)
            process = figures["process"]
            for name in ("limit_used_bytes", "limit_bytes", "limit_peak_bytes", "live_high_bytes",
                         "mapped_bytes", "failures"):
                self.assertEqual(browser.run(VALUE, f"#limit [data-metric={name}]"),
                                 raw(process[name]), name)
            for name, value in process.items():
                if name.startswith("ladder_"):
                    self.assertEqual(browser.run(VALUE, f"#events [data-metric={name}]"),
                                     raw(value), name)
            for pool in figures["pools"]:
                row = f'[data-pool="{pool["name"]}"]'
                for name in ("used_bytes", "capacity_bytes", "limit_bytes", "arenas", "refills"):
                    self.assertEqual(browser.run(VALUE, f"#pools {row} [data-metric={name}]"),
                                     raw(pool[name]), name)
                for number, arena in enumerate(pool["arena"]):
                    cell = f"#arenas {row}[data-arena='{number}'] [data-metric=slab_lent_bytes]"
                    self.assertEqual(browser.run(VALUE, cell), raw(arena["slab_lent_bytes"]))
            for tag in figures["tags"]:
                cell = f"#tags [data-tag='{tag['name']}'] [data-metric=live_high_bytes]"
                self.assertEqual(browser.run(VALUE, cell), raw(tag["live_high_bytes"]))
            self.assertEqual([tag["name"] for tag in figures["tags"]], ["held.tag"])
            share = process["limit_used_bytes"] / process["limit_bytes"]
            self.assertEqual(browser.run("return document.getElementById('share').textContent"),
                             f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %")
            self.assertEqual(browser.complaints(), [])

    def test_the_table_of_size_classes_has_them_all(self):
        with holder() as one, Exporter(TOOL) as exporter, Browser() as browser:
            self.opened(browser, exporter, one.pid)
            browser.run("document.querySelector('#classes .toggle')?.click()")
            classes = {(pool["name"], row["size_bytes"]): row["lent_blocks"]
                       for pool in exporter.metrics_of(one.pid)["pools"] for row in pool["class"]}
            shown = browser.run("""return [...document.querySelectorAll('#classes tbody tr')].map(
                row => [row.dataset.pool, Number(row.dataset.size),
                        Number(row.querySelector('[data-metric=lent_blocks]').dataset.value)])""")
            self.assertEqual({(pool, size): lent for pool, size, lent in shown}, classes)

    def test_the_top_sites_are_there_where_samples_are_taken(self):
        with Program(HOLDER, "sampled", BERTH_CONF="sample:4K") as one, holder() as other, \
                Exporter(TOOL) as exporter, Browser() as browser:
            self.opened(browser, exporter, one.pid,
                        "return document.querySelectorAll('#sites tbody tr').length > 0")
            told = exporter.json(f"/json/sites?pid={one.pid}")["sites"]
            shown = browser.run("""return [...document.querySelectorAll('#sites tbody tr')].map(
                row => [row.cells[0].textContent, row.cells[2].textContent,
                        Number(row.querySelector('[data-metric=bytes]').dataset.value)])""")
            self.assertEqual(shown, [[site["function"], site["library"], site["bytes"]]
                                     for site in told])
            self.assertEqual(browser.run("return document.querySelector('#sites a').pathname"),
                             "/debug/pprof/heap")
            self.picture(browser, "sites")
            self.opened(browser, exporter, other.pid)
            said = browser.run("return document.querySelector('#sites .box').textContent")
            self.assertEqual(said, "No samples are taken. Switch them on: "
                             f"berth ctl {other.pid} sample=512K")
            self.assertEqual(browser.run("return document.querySelector('#sites table')"), None)
            self.assertEqual(browser.complaints(), [])

    def test_a_file_name_is_text_whatever_it_is(self):
        with tempfile.TemporaryDirectory() as folder, Exporter(TOOL) as exporter, \
                Browser() as browser:
            name = "<img src=x><b>'\""
            program = shutil.copy(HOLDER, os.path.join(folder, name))
            with Program(program, BERTH_CONF="sample:4K") as one:
                self.opened(browser, exporter, one.pid,
                            "return document.querySelectorAll('#sites tbody tr').length > 0")
                self.assertEqual(browser.run("return document.querySelector('#sites tbody tr')"
                                             ".cells[2].textContent"), name)
                self.assertEqual(browser.run("return document.querySelectorAll('img:not(.map)').length"),
                                 0)

    def test_slow_paths_have_their_histograms(self):
        with holder() as one, Exporter(TOOL) as exporter, Browser() as browser:
            self.opened(browser, exporter, one.pid)
            taken = {path["name"]: path for path in exporter.metrics_of(one.pid)["slow"]
                     if path["count"] > 0}
            self.assertIn("chunk_map", taken)
            shown = browser.run("""return [...document.querySelectorAll('#slow tbody tr')].map(
                row => [row.dataset.path,
                        Number(row.querySelector('[data-metric=count]').dataset.value),
                        row.querySelector('path').getAttribute('d').split('z').filter(
                            bar => bar && !bar.includes('v-0') && !bar.includes('v0')).length])""")
            self.assertEqual(shown, [
                [name, path["count"], sum(1 for key, calls in path.items()
                                          if key.startswith(("within_", "beyond")) and calls)]
                for name, path in taken.items()])
            self.assertEqual(browser.complaints(), [])

    def test_the_map_can_be_looked_at(self):
        with holder("drawn") as one, Exporter(TOOL) as exporter, Browser() as browser:
            self.opened(browser, exporter, one.pid)
            browser.wait_for("return document.querySelector('#map img')?.naturalWidth > 1000")
            path = browser.run("return document.querySelector('#map a').getAttribute('href')")
            self.assertEqual(path, f"/map.svg?pid={one.pid}")
            browser.open(f"http://{exporter.host}:{exporter.port}{path}")
            browser.wait_for("return document.documentElement.tagName === 'svg'")
            filled = browser.run("return new Set([...document.querySelectorAll('path')].map("
                                 "one => getComputedStyle(one).fill)).size")
            self.assertGreater(filled, 1)  # its styles count
            self.assertEqual(browser.complaints(), [])
            self.picture(browser, "map")

    def test_the_balance_is_drawn_through_time(self):
        with holder() as one, Exporter(TOOL) as exporter, Browser() as browser:
            self.opened(browser, exporter, one.pid,
                        "return document.querySelectorAll('svg.chart path').length > 0")
            past = exporter.json(f"/json/history?pid={one.pid}")
            parts = [series["name"] for series in past["series"] if "group" in series]
            self.assertEqual(browser.run(
                "return [...document.querySelectorAll('svg.chart path')].map(p => p.dataset.part)"),
                parts)
            latest = dict(zip([series["name"] for series in past["series"]],
                              past["points"][-1][1:]))
            for name in parts:
                self.assertEqual(browser.run(VALUE, f".legend [data-part={name}] b"),
                                 raw(latest[name]), name)

    def test_pointing_at_the_balance_tells_of_that_time(self):
        with holder() as one, Exporter(TOOL) as exporter, Browser() as browser:
            self.opened(browser, exporter, one.pid,
                        "return document.querySelector('svg.chart') !== null")
            note = "document.querySelector('#balance .note').textContent"
            self.assertIn("now", browser.run(f"return {note}"))
            left, top, width, height = browser.run("""
                const place = document.querySelector('svg.chart').getBoundingClientRect();
                return [place.left, place.top, place.width, place.height]""")
            browser.point_at(left + width / 2, top + height / 2)
            browser.wait_for(f"return / at \\d/.test({note})")
            self.assertEqual(browser.run("return document.querySelectorAll('.cursor').length"), 1)
            browser.point_at(left + width / 2, 1)
            browser.wait_for(f"return / now/.test({note})")

    def test_a_name_is_text_whatever_it_is(self):
        with Exporter(TOOL) as exporter, Browser() as browser:
            for name in HOSTILE:
                with holder(name) as one:
                    self.opened(browser, exporter, one.pid)
                    self.assertEqual(browser.run(
                        "return document.querySelector('#heading strong').textContent"), name)
                    self.assertEqual(browser.run("return document.querySelectorAll("
                                                 "'img:not(.map), b b, svg:not(.chart, .spark)')"
                                                 ".length"), 0)
            # The picture of one that has ended meanwhile is not there.
            self.assertEqual([said for said in browser.complaints() if "/map.svg?" not in said], [])

    def test_another_process_can_be_chosen_and_one_that_ends_is_missed(self):
        with Exporter(TOOL) as exporter, Browser() as browser, holder("stays") as stays:
            with holder("ends") as ends:
                self.opened(browser, exporter, stays.pid)
                browser.wait_for("return document.querySelector(`#processes [data-pid="
                                 "'${arguments[0]}']`)", ends.pid)
                browser.run("document.querySelector(`#processes [data-pid='${arguments[0]}']`)"
                            ".click()", ends.pid)
                browser.wait_for("return document.querySelector('#heading strong')?.textContent"
                                 " === 'ends'")
            browser.wait_for("return document.getElementById('nothing')?.textContent"
                             ".includes('has ended')")

    def test_one_that_does_not_answer_is_said_so(self):
        with Exporter(TOOL) as exporter, Browser() as browser:
            self.opened(browser, exporter, 0, "return document.getElementById('nothing')")
            exporter.process.terminate()
            browser.wait_for("return document.getElementById('status').className === 'bad'")

    def test_it_is_readable_on_a_phone_and_in_the_dark(self):
        for name, width, height, dark in (("light", 1280, 900, False), ("dark", 1280, 900, True),
                                          ("phone", 360, 740, False),
                                          ("phone-dark", 360, 740, True)):
            with self.subTest(name), holder("pictured") as one, Exporter(TOOL) as exporter, \
                    Browser(width, height, dark) as browser:
                self.opened(browser, exporter, one.pid,
                            "return document.querySelector('svg.chart') !== null")
                self.assertLessEqual(browser.run("return document.documentElement.scrollWidth"),
                                     width)
                light = browser.run("""return getComputedStyle(document.body).backgroundColor
                    .match(/\\d+/g).slice(0, 3).every(part => part > 128)""")
                self.assertEqual(light, not dark)
                small = browser.run("""return [...document.querySelectorAll('button')].filter(one =>
                    one.getBoundingClientRect().height < 36).length""")
                self.assertEqual(small, 0)
                self.picture(browser, name)


if __name__ == "__main__":
    skip_if_blind()
    if webdriver.missing():
        skip(f"{webdriver.missing()} is not installed (Debian: chromium, chromium-driver)")
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)  # says where it stands
