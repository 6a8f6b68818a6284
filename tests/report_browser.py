"""Reads the page of `duo report` as a user does: in headless Chromium, through chromedriver.

report_browser.py PAGE FOLLOWED FOLDER METRICS: the finished page; one that is being followed, of
the run in FOLDER; and the whole of its metrics, with which it ends.
"""
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--window-size=1000,900"]
failures = []


def check(condition, what):
    if not condition:
        failures.append(what)
        print("report_browser:", what)


class Browser:
    """One session of WebDriver; the protocol is plain HTTP."""

    def __enter__(self):
        self.profile = tempfile.mkdtemp(prefix="duo-report-")
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL, text=True)
        port = None
        while port is None:
            line = self.driver.stdout.readline()
            if not line:
                raise RuntimeError("chromedriver does not start")
            found = re.search(r"successfully on port (\d+)", line)
            port = found and found.group(1)
        self.base = f"http://127.0.0.1:{port}/session"
        options = {"args": FLAGS + [f"--user-data-dir={self.profile}"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options,
                  "goog:loggingPrefs": {"browser": "ALL"}}
        answer = self.call("", {"capabilities": {"alwaysMatch": wanted}})
        self.base += "/" + answer["sessionId"]
        return self

    def __exit__(self, *_):
        try:
            self.call("", method="DELETE")
        except OSError:
            pass
        self.driver.terminate()
        self.driver.wait()
        shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, path, body=None, method="POST"):
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(self.base + path, data, method=method,
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()[:600]) from error

    def open(self, page, fragment=""):
        self.call("/url", {"url": "file://" + urllib.parse.quote(os.path.abspath(page)) + fragment})

    def run(self, script, *arguments):
        return self.call("/execute/sync", {"script": script, "args": list(arguments)})

    def element(self, selector):
        return next(iter(self.call("/element", {"using": "css selector", "value": selector})
                         .values()))

    def keys(self, selector, text):
        self.call(f"/element/{self.element(selector)}/value", {"text": text})

    def click(self, selector):
        self.call(f"/element/{self.element(selector)}/click")

    def complaints(self):
        return [entry["message"] for entry in self.call("/se/log", {"type": "browser"})
                if entry["level"] in ("SEVERE", "WARNING")]


def close(a, b, tolerance=1e-3):
    return a is not None and b is not None and math.isclose(a, b, rel_tol=tolerance, abs_tol=1e-3)


DATA = "const data = JSON.parse(document.getElementById('data').textContent); "
# What the button copies, which is what the figure is drawn from.
CSV = """const done = arguments[arguments.length - 1];
navigator.clipboard.writeText = (text) => { done(text); return Promise.resolve(); };
document.querySelector(`#${arguments[0]} .head button`).click();"""


def csv(browser, figure):
    text = browser.call("/execute/async", {"script": CSV, "args": [figure]})
    return [line.split(",") for line in text.strip().split("\n")]


def check_figures(browser):
    ids = browser.run("return [...document.querySelectorAll('figure')].map((f) => f.id)")
    for wanted in ("loss", "learning-rate", "gradient-norm", "speed", "mfu", "temperature",
                   "penalty", "router-usage", "usage-1", "budget-1", "policies-1", "hindsight-1",
                   "schedules-1", "models-1", "trained-1", "choices-1", "map-1", "routes-1", "text-1", "run-1", "files"):
        check(wanted in ids, f"no figure {wanted}")
    silent = browser.run("""return [...document.querySelectorAll('figure')].filter((f) =>
        f.querySelector('.alternative').textContent.length < 10 || !f.querySelector('h3').textContent
        || !f.querySelector('.head button')).map((f) => f.id)""")
    check(silent == [], f"without text, title or data: {silent}")
    strange = browser.run("""return [...document.querySelectorAll('figure')].filter((f) =>
        /\\[object|undefined|NaN/.test(f.textContent)).map((f) => f.id)""")
    check(strange == [], f"undefined or NaN in {strange}")


def check_curves(browser):
    rows = [row for row in csv(browser, "loss") if row[0] == "training"]
    check(len(rows) == 40 and close(float(rows[15][2]), 5.0), f"loss: {rows[15:16]}")
    held_out = [row for row in csv(browser, "loss") if row[0] == "held out"]
    check([row[1] for row in held_out] == ["10", "20", "30", "40"], f"held out: {held_out}")
    check(len(csv(browser, "temperature")) == 21, "temperature is of the router stage alone")
    painted = browser.run("""const canvas = document.querySelector('#loss canvas');
        const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return data.some((value) => value !== 0)""")
    check(painted, "nothing is drawn in the figure of the loss")
    browser.keys("#loss canvas", "\ue014\ue014")  # arrow right, twice
    said = browser.run("return document.getElementById('said').textContent")
    check(said == "training, step 2: 5.875", f"keys in a curve say: {said}")


def check_budgets(browser):
    rows = csv(browser, "budget-1")
    oracle = {float(row[1]): float(row[2]) for row in rows if row[0] == "oracle"}
    wanted = browser.run(DATA + """const study = data.studies.find((s) => s.files.some((f) => f.curves));
        return study.files.find((f) => f.curves).curves.oracle""")
    check(len(oracle) == 4, f"the oracle has budgets {sorted(oracle)}")
    for budget, (loss, _) in enumerate(wanted):
        check(close(oracle.get(float(budget)), math.exp(loss)), f"oracle at {budget}: {oracle}")
    policies = browser.run("return document.querySelector('#policies-1 tbody').textContent")
    check("router" in policies and "fixed-2" in policies, "policies are missing in the table")


def check_models(browser):
    rows = csv(browser, "models-1")[1:]
    points = {(name, float(x)): float(y) for name, x, y in
              ((",".join(row[:-2]).strip('"'), *row[-2:]) for row in rows)}
    check(points == {("both (duo)", 1): 4.5, ("both (duo)", 2): 4.25, ("both (duo)", 3): 4.125,
                     ("after (dense, small)", 1): 4.75, ("after (dense, small)", 3): 4,
                     ("dense models", 2): 4.375}, f"models at equal FLOPs: {points}")
    rows = [row[-2:] for row in csv(browser, "trained-1")[1:]]
    check(rows == [["0", "4.5"], ["0.5", "4.25"], ["1", "4.125"], ["0", "4.75"], ["1", "4"]],
          f"loss by share of big: {rows}")
    rows = csv(browser, "choices-1")[1:]
    check(rows == [["both (duo)", "2", "50"], ["dense models", "2", "37.5"],
                   ["chance", "2", "25"], ["chance", "2", "25"]], f"multiple choice: {rows}")
    title = browser.run("return document.querySelector('#choices-1 h3').textContent")
    check(title == "Multiple choice: quiz <b>.jsonl", f"multiple choice is called {title}")
    check(not browser.run("return document.getElementById('models-2')"), "one model is compared")
    budgets = browser.run("""return [...document.querySelectorAll('figure[id^=policies-]')]
        .filter((f) => f.textContent.includes('models.json')).length""")
    # The model elsewhere, and the small FFN that a dense model never trained.
    check(budgets == 2, f"models.json has {budgets} tables of policies, wanted are 2")


def check_maps(browser):
    wanted = browser.run(DATA + """return data.studies[0].policies.find((p) => /^oracle/.test(p.name)).map.big""")
    drawn = browser.run("""const map = document.querySelector('#map-1 .map svg');
        return [...map.querySelectorAll('rect[data-value]')].map((r) =>
            [Number(r.dataset.layer), Number(r.dataset.column), Number(r.dataset.value)])""")
    check(len(drawn) == 3 * 20, f"{len(drawn)} cells of 60")
    check(all(close(wanted[l][c], value) for l, c, value in drawn), "cells differ from the data")
    browser.keys("#map-1 .map svg", "\ue014\ue013")  # right, up
    said = browser.run("return document.querySelector('#map-1 .readout').textContent")
    check(said.startswith("layer 1, position 0: "), f"keys in a map say: {said}")
    layers = browser.run("return document.querySelectorAll('#usage-1 rect[data-value=\"0.75\"]').length")
    check(layers == 20, f"usage of layer 2 in {layers} of 20 steps")


def check_routes(browser):
    name, row, first = browser.run(DATA + """const study = data.studies[0];
        const i = Number(document.querySelector('#routes-1 select').value);
        return [study.policies[i].name, study.sequences[0].routes[i], study.sequences[0].loss[i][0]]""")
    rows = csv(browser, "routes-1")
    check("".join(line[-1] for line in rows[1:]) == row, f"routes of {name}: {rows[1]}")
    check(close(float(rows[1][-2]), first), f"loss of {name}: {rows[1]}")
    browser.keys("#routes-1 svg", "\ue014")
    said = browser.run("return document.querySelector('#routes-1 .readout').textContent")
    check(f"route {row[:3]}" in said and "[" in said, f"keys in routes say: {said}")


def text_values(browser, figure):
    return browser.run(f"""return [...document.querySelectorAll('#{figure} .text span[data-t]')]
        .map((s) => Number(s.dataset.value))""")


def check_text(browser):
    figure, index = browser.run(DATA + """const names = (s) => s.policies.map((p) => p.name);
        const i = data.studies.findIndex((s) => names(s).includes('small') && names(s).includes('big'));
        return [`text-${i + 1}`, i]""")
    losses = browser.run(DATA + f"""const s = data.studies[{index}], of = (name) =>
        s.sequences[0].loss[s.policies.findIndex((p) => p.name === name)];
        return {{small: of('small'), big: of('big')}}""")
    chosen = browser.run(DATA + f"""const s = data.studies[{index}];
        const select = document.querySelector('#{figure} select[name^=text-policy]');
        return s.sequences[0].loss[Number(select.value)]""")
    expected = {"small": losses["small"], "big": losses["big"], "chosen": chosen,
                "gap": [a - b for a, b in zip(losses["small"], chosen)]}
    grounds = set()
    for choice, values in expected.items():
        browser.run(f"document.querySelector('#{figure} input[value={choice}]').click()")
        shown = text_values(browser, figure)
        check(len(shown) == len(values) and all(close(a, b) for a, b in zip(shown, values)),
              f"text by {choice}: {shown[:4]}, wanted {values[:4]}")
        grounds.add(browser.run(f"""return [...document.querySelectorAll('#{figure} .text span')]
            .map((s) => s.style.background).join()"""))
    check(len(grounds) == 4, "a switch does not change the colours")
    browser.keys(f"#{figure} .text", "\ue014")
    said = browser.run(f"return document.querySelector('#{figure} .readout').textContent")
    check("position 0: small" in said and "gap" in said, f"keys in a text say: {said}")


def check_hostile(browser):
    check(browser.run("return window.broken === undefined && typeof broken === 'undefined'"),
          "a text was executed")
    check(browser.run("return document.querySelectorAll('img, main script').length") == 0,
          "a text became elements")
    texts = browser.run("""return [...document.querySelectorAll('.text, option, .readout')]
        .map((node) => node.textContent).join('')""")
    check(not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f\x1b\x7f]", texts),
          "marks that turn the direction, or controls, are in the texts as they are")
    check("<script>" in texts or "</script>" in texts, "the hostile text is not shown")
    check(browser.run("return document.title").endswith("tiny"), "the title is not the run's name")
    check("window.broken=4" in browser.run("return document.querySelector('#run-1 pre').textContent"),
          "the recipe is not shown whole")


def check_sizes(browser):
    for width in (360, 1000):
        browser.call("/window/rect", {"width": width, "height": 800})
        time.sleep(0.5)
        wide = browser.run("return document.documentElement.scrollWidth - window.innerWidth")
        check(wide <= 0, f"{wide} pixels too wide in a window of {width}: " + str(browser.run(
            """return [...document.querySelectorAll('main *')].filter((node) => !node.closest('.scroll') &&
                node.getBoundingClientRect().right > window.innerWidth).map((node) =>
                `${node.tagName}.${node.className} in ${(node.closest('figure') || {}).id}`).slice(0, 4)""")))


def check_told(browser, page):
    browser.open(page)
    policies = browser.run("""return [...document.querySelectorAll('figure[id^=policies-] tbody tr')]
        .map((row) => row.children[0].textContent)""")
    for name in ("router:1.5", "router:2"):
        for file in ("one", "two"):
            check(f"{name} told-{file}" in policies, f"no {name} of told-{file}: {policies}")


def check_alone(browser, page):
    browser.open(page, "#figure=map-1")
    browser.call("/refresh")
    shown = browser.run("""return [...document.querySelectorAll('figure')].filter((f) =>
        f.getClientRects().length > 0).map((f) => f.id)""")
    check(shown == ["map-1"], f"alone are {shown}")


def check_following(browser, page, folder, metrics):
    for _ in range(100):
        if os.path.exists(page):
            break
        time.sleep(0.1)
    browser.open(page)
    last = "return Math.max(...[...document.querySelectorAll('#run-1 td')].map((td) => " \
           "Number((/^step (\\d+) of/.exec(td.textContent) || [])[1]) || 0))"
    check(browser.run(last) == 25, "the followed page does not show step 25")
    browser.run("window.scrollTo(0, 700); window.before = 1")
    shutil.copy(metrics, folder + "/metrics.new")
    os.rename(folder + "/metrics.new", folder + "/metrics.jsonl")
    for _ in range(150):
        time.sleep(0.1)
        if browser.run("return document.readyState === 'complete'") and browser.run(last) == 40:
            break
    check(browser.run(last) == 40, "the open page does not follow the run")
    check(browser.run("return window.before === undefined"), "the page was not loaded anew")
    at = browser.run("return window.scrollY")
    check(abs(at - 700) < 80, f"the page lost its place: {at}")  # the last page is shorter


def main():
    page, told, followed, folder, metrics = sys.argv[1:]
    with Browser() as browser:
        browser.open(page)
        for part in (check_figures, check_curves, check_budgets, check_models, check_maps, check_routes,
                     check_text, check_hostile, check_sizes):
            part(browser)
        check_told(browser, told)
        check_alone(browser, page)
        check_following(browser, followed, folder, metrics)
        complaints = browser.complaints()
        check(complaints == [], f"the console says {complaints}")
        asked = browser.run("return performance.getEntriesByType('resource').map((e) => e.name)")
        check(asked == [], f"the page asks for {asked}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
