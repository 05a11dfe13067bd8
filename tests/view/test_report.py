"""The report: one file that needs no network, read back by a real browser."""

import gzip
import hashlib
import json
import re
from base64 import b64decode, b64encode
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import nibabel
import numpy as np
import pytest
import torch
from browser import drive, needs_browser, print_out
from handmade import affine_of, make

import medsal
from medsal import ClassScore, GuidedBackprop
from medsal.view import report
from medsal.view.planes import patient_grid
from medsal.view.report import display
from medsal.view.report.viewer import PAGE_FILES

OBLIQUE = affine_of((1, 2, 0), (1, -1, 1), turn=(25, 14, -8))
AT = (3, 9, 2)


def case(**fields):
    """Two methods of two targets on an oblique, left-handed grid; the second is signed."""
    rng = np.random.default_rng(0)
    image, data = rng.random((1, 24, 28, 18)) * 100, np.zeros((24, 28, 18))
    data[AT] = 2.0
    one = make(image, data, OBLIQUE, **fields)
    targets = (ClassScore(0), ClassScore(1))
    one = replace(one, data=torch.cat([one.data, one.data * 0.4], 1), target=targets)
    noise = torch.as_tensor(rng.normal(size=(1, 2, 24, 28, 18))).float()
    return [one, replace(one, data=noise, method=GuidedBackprop(), layer=None)]


def picture():
    image = np.random.default_rng(0).integers(0, 255, (3, 30, 44))
    data = np.zeros((30, 44))
    data[20, 7], data[5, 30] = 1.0, 0.25
    return make(image, data)


@pytest.fixture(scope="module")
def text():
    """The report of the case."""
    return report(case())


class Page(HTMLParser):
    """Tags with their attributes; an error where one is not closed."""

    EMPTY = ("meta", "img", "input", "br")

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def volume(page, name):
    """A volume of the page as nibabel reads it."""
    packed = re.search(rf'<script type="text/plain" id="{name}">([^<]+)', page)[1]
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(b64decode(packed)))


def digest(text):
    return "sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_the_page_is_whole_and_accessible():
    text = report(case(), classes=["none <b>", "ring"])
    page = Page(text)
    assert [each["lang"] for each in page.all("html")] == ["en"]
    assert all(len(each["alt"]) > 40 for each in page.all("img"))
    assert len(page.all("img")) == 4
    for control in page.all("input") + page.all("select"):
        assert re.search(rf'<label[^>]*>[^\n]*id="{control["id"]}"', text)
    assert all(each["scope"] in ("col", "row") for each in page.all("th"))
    assert "<b>" not in text
    assert "none &lt;b&gt;" in text
    assert text.count("Research use: not a diagnosis") >= 2
    assert text.index('id="pictures"') < text.index('id="viewer"')
    assert len({tag for tag, _ in page.tags if tag != tag.lower()}) == 0


def test_nothing_but_its_own_scripts_may_run_or_load(text):
    policy = unescape(Page(text).all("meta")[1]["content"])
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.S)
    assert len(scripts) == 1
    assert f"'{digest(scripts[0])}'" in policy
    assert f"'{digest(style)}'" in policy
    sources = [each.get("src", "data:") for _, each in Page(text).tags]
    assert all(each.startswith("data:") for each in sources)
    assert not any("href" in each for _, each in Page(text).tags)


def test_the_vendored_viewer_is_the_one_that_is_named(text):
    code = gzip.decompress((PAGE_FILES / "niivue.umd.js.gz").read_bytes())
    licence = (PAGE_FILES / "LICENSE.niivue.txt").read_text()
    assert hashlib.sha256(code).hexdigest() in licence
    assert b"</script" not in code
    assert "Redistributions in binary form" in text
    assert len(text) < 2_500_000


def test_values_of_the_table_are_exact(text):
    largest = case()[1].data[0, 1].max()
    assert f"<td>{float(largest):.9g}</td>" in text
    place = (OBLIQUE @ [*AT, 1])[:3]
    said = ", ".join(f"{x:.1f}".replace("-", "\N{MINUS SIGN}") for x in place)
    assert f"<td>RAS ({said}) mm</td>" in text
    assert "methods differ in their units" in text


def test_volumes_lie_on_the_scan_and_keep_their_values(text):
    results = case()
    about = json.loads(re.search(r'id="case">(.*?)</script>', text, re.S)[1])
    points = np.array([(0, 0, 0), AT, (23, 5, 17)])
    for k, (result, target) in enumerate((r, t) for r in results for t in (0, 1)):
        found, step = volume(text, f"map{k}"), about["maps"][k]["step"]
        values = found.get_fdata()
        for point in points:
            there = np.linalg.solve(found.affine, OBLIQUE @ [*point, 1])[:3]
            index = tuple(np.rint(there).astype(int))
            np.testing.assert_allclose(there, index, atol=1e-3)
            raw = float(result.data[(0, target, *point)])
            assert abs(values[index] - raw) <= step * 0.51
        assert abs(values).max() == pytest.approx(float(result.data[0, target].abs().max()))
    scan = volume(text, "scan")
    there = np.linalg.solve(scan.affine, OBLIQUE @ [*AT, 1])[:3]
    value = scan.get_fdata()[tuple(np.rint(there).astype(int))]
    assert value == pytest.approx(float(results[0].image[(0, 0, *AT)]), abs=0.01)
    assert [each["top"] for each in about["maps"]][:2] == [2.0, 2.0]  # one scale


def test_large_scans_are_shown_in_blocks_that_keep_the_peak():
    affine = np.diag([0.5, 0.5, 3.0, 1.0])
    shown = display.display_grid(patient_grid(affine, (101, 100, 20)), 60_000)
    assert shown.blocks == (2, 2, 1)
    values = np.random.default_rng(0).normal(size=(101, 100, 20))
    strongest, mean = shown.strongest(values), shown.mean(values)
    assert strongest.shape == mean.shape == (51, 50, 20)
    part = values[20:22, 40:42, 7]
    assert strongest[10, 20, 7] == part.flat[np.abs(part).argmax()]
    assert mean[10, 20, 7] == pytest.approx(part.mean(), rel=1e-5)
    middle = shown.affine @ [10, 20, 7, 1]
    np.testing.assert_allclose(middle[:3], (affine @ [20.5, 40.5, 7, 1])[:3])


def test_what_is_packed_is_within_half_a_step(monkeypatch):
    monkeypatch.setattr(display, "MAP_BYTES", 0)  # 256 steps
    for result in case():
        text = report(result)
        about = json.loads(re.search(r'id="case">(.*?)</script>', text, re.S)[1])
        assert volume(text, "map1").get_data_dtype() == np.uint8
        values = volume(text, "map1").get_fdata()
        raw = np.sort(result.data[0, 1].double().numpy().ravel())
        assert np.abs(np.sort(values.ravel()) - raw).max() <= about["maps"][1]["step"] * 0.51


def test_a_report_stays_below_its_size(text, monkeypatch):
    from medsal.view.report import viewer

    monkeypatch.setattr(viewer, "BYTES", 60_000)
    smaller = report(case())
    assert len(smaller) < len(text)
    assert "Shown in blocks of" in smaller


def test_many_maps_have_a_picture_for_each_method():
    results = case()
    data = results[0].data[:, :1].repeat(1, 9, 1, 1, 1)
    many = replace(results[0], data=data, target=tuple(map(ClassScore, range(9))))
    assert len(Page(report(many)).all("img")) == 1


def test_checks_and_provenance_are_tables():
    made = [
        {"Method": {"Name": "gradcam"}, "Target": {"Name": k}, "Grid": [[1, 2], [3, 4]]}
        for k in "ab"
    ]
    checks = {"randomised": {"similarity": 0.125, "passed": True}, "deletion": [1, 2]}
    assert "<caption>Sanity checks and faithfulness: a</caption>" in report(
        case()[0], checks={"a": {"b": 1}, "c": {"d": [{"e": 1}, {"e": 2}]}}
    )
    text = report(case()[0], provenance=made, checks=checks)
    for row in (
        '<th scope="row">randomised.similarity</th><td>0.125</td>',
        '<th scope="row">randomised.passed</th><td>yes</td>',
        '<th scope="row">deletion</th><td>1, 2</td>',
        '<th scope="row">Method.Name</th><td>gradcam</td>',
        '<th scope="row">Target.Name</th><td>b</td>',
        '<th scope="row">Grid</th><td>1, 2; 3, 4</td>',
    ):
        assert row in text
    assert text.count("Method.Name") == 1  # what maps have in common is said once
    assert 'id="checks"' not in report(case()[0])


def test_a_signal_has_a_picture_and_no_viewer():
    text = report(make(np.ones((1, 50)), np.linspace(0, 1, 50)))
    assert len(Page(text).all("img")) == 1
    assert "<script" not in text
    assert "script-src 'none'" in unescape(text)


def test_a_notebook_shows_the_viewer_in_a_frame_of_its_own():
    shown = case()[0].view(classes=["none", "ring"], height=500)
    frame = shown._repr_html_()
    assert frame.startswith("<iframe ")
    assert "height:500px" in frame
    inner = unescape(re.search(r'srcdoc="([^"]*)"', frame)[1])
    assert inner == shown.html
    assert 'class="volume notebook"' in inner
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    two = medsal.explain(net, torch.rand(2, 1, 4, 4, 4), method="gradient")
    with pytest.raises(ValueError, match=r"result\[0\]\.view"):
        two.view()


def test_a_result_is_saved_as_a_report(tmp_path):
    net = torch.nn.Sequential(
        torch.nn.Conv3d(1, 2, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool3d(1),
        torch.nn.Flatten(), torch.nn.Linear(2, 2),
    )  # fmt: skip
    result = medsal.explain(net, torch.rand(1, 1, 8, 9, 10), target=[0, 1])
    (path,) = result.save(tmp_path / "x.html", checks={"deletion": 0.5})
    text = path.read_text("utf-8")
    assert "Method.Reference" in text
    assert ">deletion</th><td>0.5</td>" in text
    assert 'known": false' in text


def test_what_is_packed_into_a_text_is_not_written_out():
    text = report(case()[0], provenance=[{"Mask": "A" * 9000, "Said": "B" * 400}] * 2)
    assert f"{'A' * 60}... (9000 characters)" in text
    assert "A" * 61 not in text
    assert "B" * 400 in text


@needs_browser
def test_a_browser_reads_the_raw_values_back(tmp_path):
    seen = torch.ones(1, 1, 24, 28, 18, dtype=torch.bool)
    seen[..., :2, :, :] = False
    results = case(seen=seen)
    page = report(results, classes=["none", "ring"])
    found = drive(page, tmp_path, """
        const at = {start: document.getElementById("readout").textContent, state: state()};
        at.shown = document.documentElement.dataset.shown;
        at.other = await set("target", "1");
        await set("method", "1");
        at.noise = await set("peak");
        at.opacity = await set("opacity", "0.2");
        at.threshold = await set("threshold", "0.5");
        at.cut = document.getElementById("threshold-value").textContent;
        await set("fade", false);
        await set("radiological", false);
        at.layout = await set("layout", "axial");
        return at;
    """)  # fmt: skip
    at = found["answer"]
    assert found["refused"] == []
    assert found["loaded"] == []
    assert at["state"] == "ready"
    assert at["shown"] == "3"  # the scan, the map, what was not seen
    place = ", ".join(f"{x:.1f}" for x in (OBLIQUE @ [*AT, 1])[:3])
    assert at["start"].startswith(f"RAS {place} mm · GradCAM, class 0 (none): 2 raw, to within")
    assert "GradCAM, class 1 (ring): 0.8 raw" in at["other"]
    values = results[1].data[0, 1] * seen[0, 0]
    peak = float(values.flatten()[values.abs().argmax()])
    raw = float(re.search(r"GuidedBackprop, class 1 \(ring\): (\S+) raw", at["noise"])[1])
    assert raw == pytest.approx(peak, rel=1e-3)
    top = float((results[1].data * seen).abs().max())
    assert float(at["cut"]) == pytest.approx(0.5 * top, rel=1e-3)
    assert at["layout"] == at["threshold"] == at["opacity"] == at["noise"]


@needs_browser
def test_without_webgl_the_pictures_remain(tmp_path):
    found = drive(report(case()[0]), tmp_path, """
        const pictures = [...document.querySelectorAll("#pictures img")];
        return {
            state: state(), said: document.getElementById("status").textContent,
            controls: document.getElementById("controls").hidden,
            widths: pictures.map((each) => each.naturalWidth),
        };
    """, "--disable-3d-apis")  # fmt: skip
    at = found["answer"]
    assert at["state"] == "failed"
    assert "no WebGL 2" in at["said"]
    assert at["controls"]
    assert len(at["widths"]) == 2
    assert min(at["widths"]) > 700


@needs_browser
def test_a_browser_shows_a_picture_without_webgl(tmp_path):
    found = drive(report(picture()), tmp_path, """
        const canvas = document.getElementById("canvas");
        const at = {state: state(), start: document.getElementById("readout").textContent};
        await set("opacity", "1");
        const pixel = (x, y) => [...canvas.getContext("2d").getImageData(x, y, 1, 1).data];
        at.hot = pixel(7, 20);
        await set("threshold", "0.5");
        await set("fade", false);
        at.bare = pixel(30, 5);
        canvas.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
        await new Promise((done) => setTimeout(done, 200));
        at.moved = document.getElementById("readout").textContent;
        at.size = [canvas.width, canvas.height];
        return at;
    """, "--disable-3d-apis")  # fmt: skip
    at = found["answer"]
    assert found["refused"] == []
    assert at["state"] == "ready"
    assert at["start"].startswith("row 20, column 7 · GradCAM, class 1: 1 raw")
    assert "row 20, column 8" in at["moved"]
    assert ": 0 raw" in at["moved"]
    assert at["size"] == [44, 30]
    assert at["hot"][:3] == [252, 255, 164]  # the last colour of inferno
    expected = picture().image[0, :, 5, 30].tolist()
    assert at["bare"][:3] == pytest.approx(expected, abs=1)


@needs_browser
def test_it_prints(tmp_path):
    pdf = print_out(report(case()[0]), tmp_path)
    assert pdf.startswith(b"%PDF")
    assert pdf.count(b"/Subtype /Image") >= 2
