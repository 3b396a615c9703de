"""Figures that move without a kernel: their numbers are the library's, and they answer in a real browser."""

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
import torch

from qdm_course.moving import (
    block_row,
    circuit_data,
    mixture_denoiser,
    moving_block,
    moving_circuits,
    moving_film,
    moving_qubit,
    moving_reverse,
    moving_script,
    moving_shift,
    shift_circuits,
)
from qdm_course.widgets.films import read_film
from qdm_lib.audit import audit_circuit
from qdm_lib.checkpoint import SHIPPED
from qdm_lib.circuits import Circuit, Gate, fqconv, hqconv
from qdm_lib.diffusion import NoiseSchedule, cosine_betas, ddim_sample, ddpm_sample
from qdm_lib.simulator import simulate, statevector
from qdm_lib.unet import build_unet, count_parameters

NODE = shutil.which("node")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("QDM_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
CLOTHES = SHIPPED / "fashion-mnist" / "1hqconv"
needs_node = pytest.mark.skipif(not NODE, reason="no node on the PATH")
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on the PATH")


def by_node(expression: str, *parts: str):
    """The value of a JavaScript expression in which `moving` has what these scripts define."""
    code = f"{moving_script(*parts)}\nconsole.log(JSON.stringify({expression}))"
    done = subprocess.run([NODE, "-"], input=code, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# ------------------------------------------------------------------------------------ circuits (02, 03)


@needs_node
@pytest.mark.parametrize("circuit", [hqconv(3), fqconv(3)], ids=lambda c: c.name)
def test_the_scripts_circuits_are_those_of_the_simulator(circuit):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1, 12, generator=g, dtype=torch.float64)
    theta = torch.rand(circuit.n_weights, generator=g, dtype=torch.float64)
    data = json.dumps(circuit_data(circuit))
    theirs = by_node(f"moving.simulate({data}, {x[0].tolist()}, {theta.tolist()})", "circuit")
    assert np.allclose(theirs, simulate(circuit, x, theta)[0], atol=1e-12)


@needs_node
@pytest.mark.parametrize("make", [hqconv, fqconv])
def test_the_figures_first_layers_are_the_shorter_ansatz(make):
    whole = json.dumps({**circuit_data(make(3)), "n_layers": 3})
    for layers in (1, 2):
        cut = by_node(f"moving.firstLayers({whole}, {layers})", "circuit", "wires")
        assert {name: cut[name] for name in ("n_wires", "n_weights", "gates")} == json.loads(
            json.dumps(circuit_data(make(layers)))
        )


@needs_node
@pytest.mark.parametrize("make", [hqconv, fqconv])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_light_cones_are_what_derivatives_find(make, layers):
    """Gate by gate and input by input: what lights up is what moves ⟨Z⟩ at random points, no more and no less."""
    circuit = make(layers)
    audit = audit_circuit(circuit)
    found = by_node(
        f"Array.from({{length: 12}}, (_, w) => moving.lightCone({json.dumps(circuit_data(circuit))}, w))", "circuit"
    )
    for wire, cone in enumerate(found):
        assert tuple(np.flatnonzero(cone["wires"])) == audit.inputs_of(wire)
        lit = {g.param[1] for g, on in zip(circuit.gates, cone["gates"], strict=True) if on and g.param[0] == "weight"}
        assert lit == set(np.flatnonzero(audit.weight_to_output[:, wire] > audit.tolerance))


@needs_node
def test_the_scripts_slopes_are_those_of_autograd_and_of_the_two_rules():
    for name, circuit in shift_circuits().items():
        angles = torch.tensor([0.4, 1.1], dtype=torch.float64, requires_grad=True)
        x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
        (gradient,) = torch.autograd.grad(simulate(circuit, x, angles)[0, 0], angles)
        f = f"(a) => moving.simulate({json.dumps(circuit_data(circuit))}, [1, 2], [a, 1.1])[0]"
        slopes = by_node(f"moving.slopes({f}, 0.4)", "circuit", "shift")
        truth = gradient[0].item()
        assert abs(slopes["truth"] - truth) < 1e-6 and abs(slopes["four"] - truth) < 1e-9
        assert (abs(slopes["two"] - truth) < 1e-9) == (name == "RX")


@needs_node
def test_the_scripts_qubit_and_shots():
    after = by_node("moving.qubit([['Hadamard', 0], ['RZ', 0.7], ['RX', 1.2], ['RY', -0.4]])", "circuit", "qubit")
    gates = [Gate("Hadamard", (0,)), *(Gate(n, (0,), offset=a) for n, a in (("RZ", 0.7), ("RX", 1.2), ("RY", -0.4)))]
    psi = statevector(Circuit(tuple(gates), 1, 0, 0), torch.zeros(1, 0), torch.zeros(0)).flatten().numpy()
    assert np.allclose([complex(*a) for a in after["amplitudes"]], psi, atol=1e-6)
    pauli = [np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.diag([1, -1])]
    assert np.allclose(after["bloch"], [(psi.conj() @ p @ psi).real for p in pauli], atol=1e-6)
    some, none, all_of_them = by_node(
        "[moving.shots(0.3, 20000, 5), moving.shots(0, 50, 1), moving.shots(1, 50, 1)]", "circuit", "qubit"
    )
    assert abs(some - 6000) < 4 * (20000 * 0.21) ** 0.5 and (none, all_of_them) == (0, 50)


# ------------------------------------------------------------------------------ the reverse process (01)

MIXTURE = {"weights": [0.5, 0.2, 0.3], "means": [-0.7, 0.0, 0.6], "width": 0.05}


@needs_node
def test_the_scripts_schedule_and_times_are_the_librarys():
    schedule = NoiseSchedule(cosine_betas())
    assert np.allclose(by_node("moving.cosineAbar(1000)", "reverse"), schedule.alphas_cumprod, rtol=1e-9, atol=0)
    counts = [1, 2, 3, 5, 7, 20, 38, 50, 75, 200, 999, 1000]
    times = by_node(f"{counts}.map((n) => moving.timeGrid(1000, n))", "reverse")
    noise = torch.zeros(1, 1, dtype=torch.float64)
    for n, theirs in zip(counts, times, strict=True):
        states = ddim_sample(lambda x_t, t: x_t, schedule, noise.shape, steps=n, x_T=noise)
        assert theirs == [state.t for state in states]


@needs_node
@pytest.mark.parametrize(
    "steps, eta, clamp, error",
    [(20, 0.0, True, 0.0), (50, 0.0, False, 0.0), (7, 0.0, True, 0.02), (20, 1.0, True, 0.0), (50, 0.4, True, 0.01)],
)
def test_whole_trajectories_are_those_of_the_sampler(steps, eta, clamp, error):
    schedule, g = NoiseSchedule(cosine_betas()), torch.Generator().manual_seed(3)
    start = torch.randn(9, 1, generator=g, dtype=torch.float64)
    exact = mixture_denoiser(**MIXTURE, schedule=schedule)
    options = {"steps": steps, "eta": eta, "clip": clamp, "x_T": start, "generator": torch.Generator().manual_seed(4)}
    states = list(ddim_sample(lambda x_t, t: exact(x_t, t) + error, schedule, start.shape, **options))
    g = torch.Generator().manual_seed(4)  # the sampler drew these
    noise = [torch.randn(9, 1, generator=g, dtype=torch.float64).flatten().tolist() for _ in range(steps - 1)]
    chosen = {"mixture": MIXTURE, "steps": steps, "eta": eta, "clamp": clamp, "error": error}
    theirs = by_node(
        f"((noise) => moving.reverse({{...{json.dumps(chosen)}, abar: moving.cosineAbar(1000)}}, "
        f"{start.flatten().tolist()}, (k) => noise[k]).map(({{t, x}}) => [t, [...x]]))({json.dumps(noise)})",
        "reverse",
    )
    assert [t for t, _ in theirs] == [*(s.t for s in states), None]
    for (_, x), state in zip(theirs, states, strict=False):
        assert np.allclose(x, state.x_t.flatten(), rtol=1e-6, atol=1e-6)
    assert np.allclose(theirs[-1][1], states[-1].x_0.flatten(), rtol=1e-6, atol=1e-6)


@needs_node
def test_with_all_steps_and_eta_one_the_script_walks_as_ddpm():
    schedule = NoiseSchedule(cosine_betas(40))
    start = torch.randn(5, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = mixture_denoiser(**MIXTURE, schedule=schedule)
    states = ddpm_sample(exact, schedule, start.shape, x_T=start, generator=torch.Generator().manual_seed(2))
    *_, last = states
    g = torch.Generator().manual_seed(2)
    noise = [torch.randn(5, 1, generator=g, dtype=torch.float64).flatten().tolist() for _ in range(39)]
    chosen = {"mixture": MIXTURE, "steps": 40, "eta": 1, "clamp": True, "error": 0}
    theirs = by_node(
        f"((noise) => [...moving.reverse({{...{json.dumps(chosen)}, abar: moving.cosineAbar(40)}}, "
        f"{start.flatten().tolist()}, (k) => noise[k]).at(-1).x])({json.dumps(noise)})",
        "reverse",
    )
    assert np.allclose(theirs, last.x_0.flatten(), atol=1e-6)


@needs_node
def test_the_exact_noise_is_that_of_bayes_rule_and_distances_are_right():
    """E[ε | x_t] by a sum over a fine grid of x_0, and the distance of shifted quantiles, which is the shift."""
    w, m, s = (MIXTURE[name] for name in ("weights", "means", "width"))
    grid = np.linspace(-1.5, 1.5, 30_001)
    prior = sum(a * np.exp(-((grid - b) ** 2) / (2 * s**2)) for a, b in zip(w, m, strict=True))
    for abar, x in ((0.9, 0.5), (0.5, -0.2), (0.01, 2.0)):
        likelihood = np.exp(-((x - abar**0.5 * grid) ** 2) / (2 * (1 - abar)))
        eps = ((x - abar**0.5 * grid) / (1 - abar) ** 0.5 * prior * likelihood).sum() / (prior * likelihood).sum()
        assert abs(by_node(f"moving.exactEps({json.dumps(MIXTURE)}, {abar}, {x})", "reverse") - eps) < 1e-6
    cumulative = np.cumsum(prior) / prior.sum()
    quantiles = grid[np.searchsorted(cumulative, (np.arange(500) + 0.5) / 500)]
    near, far = (
        by_node(f"moving.distance({json.dumps(MIXTURE)}, {(quantiles + shift).tolist()})", "reverse")
        for shift in (0, 0.05)
    )
    assert near < 1e-3 and abs(far - 0.05) < 1e-3


# --------------------------------------------------------------------------------- the hybrid block (04)


@needs_node
def test_channels_and_groups_of_the_block_are_the_models():
    for n in (0, 1, 5, 7, 13, "full"):
        config = build_unet("unet", hybridization=n, verbose=False).config
        index = 14 if n == "full" else n
        kinds, groups = by_node(f"[moving.kinds({index}), moving.groups({index}, 4)]", "block")
        quantum = [kind != "convolution" for kind in kinds]
        assert quantum == [c < config.quantum_channels for c in range(40)]
        assert kinds.count("Basic circuit") == config.full
        names = {0: "classical", 4: "quantum"}
        assert groups == [names.get(sum(quantum[4 * g : 4 * g + 4]), "mixed") for g in range(10)]


def test_the_blocks_numbers_are_measured_in_the_models():
    row = block_row(1, images=8)
    model = build_unet("1hqconv", seed=0)
    assert row["model"] == count_parameters(model) == 475_329
    assert row["conv"] == count_parameters(model.vertex_block1.conv1) and row["circuits"] == 84
    assert max(row["before"][:3]) < 1 < 10 < min(row["before"][3:])
    assert max(row["after"][:3]) < 0.5 and row["after"][3] > 1.3
    full = block_row("full", "fqconv", images=2)
    assert full["model"] == 429_369 and full["conv"] == full["circuits"]
    assert block_row(0, images=2)["circuits"] == 0


# ------------------------------------------------------------------------------------------- as HTML


MAKERS = {
    "qubit": moving_qubit, "shift": moving_shift, "wires": moving_circuits, "reverse": moving_reverse,
    "block": moving_block, "film": lambda: moving_film(CLOTHES),
}  # fmt: skip


@cache
def bundle(name: str) -> dict[str, str]:
    return MAKERS[name]()._repr_mimebundle_()


@pytest.mark.parametrize("name", MAKERS)
def test_a_moving_figure_has_a_still_picture_with_words_and_downloads_nothing(name):
    html, words = bundle(name)["text/html"], bundle(name)["text/plain"]
    assert len(words) > 50 and f'alt="{words}"' in html and html.index("<img") < 200
    assert not re.findall(r"(?:src|href)=\"(?!data:)|\bimport\b|fetch\(|https?://(?!www\.w3\.org/2000/svg)", html)
    assert len(html.encode()) < 100_000
    others = [f"figures.{other} = draw" for other in MAKERS if other != name]
    assert f"figures.{name} = draw" in html and not any(other in html for other in others)


def test_every_moving_figure_is_in_the_notebook_where_the_thing_is_built():
    sources = Path(__file__).parent.parent / "notebooks" / "src"
    for place, calls in {
        "00": ["film"], "01": ["reverse"], "02": ["qubit", "shift"], "03": ["circuits"], "04": ["block"], "06": ["film"]
    }.items():  # fmt: skip
        (source,) = sources.glob(f"{place}_*.py")
        assert all(f"\nmoving_{name}(" in source.read_text(encoding="utf-8") for name in calls)


def test_a_model_without_a_film_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no film.png"):
        moving_film(tmp_path)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


JUPYTER = "svg, img, canvas { max-width: 100%; height: auto }"  # what JupyterLab and exported pages ask of pictures


@pytest.fixture
def opened(browser):
    """opened(names, …): a page with these figures, on a screen of that size; errors fail the test."""
    pages, errors = [], []

    def open_page(*names: str, width: int = 1280, height: int = 720, **options):
        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(("data:", "about:")) else errors.append(r.url))
        body = "".join(bundle(name)["text/html"] for name in names)
        head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><style>{JUPYTER}</style>"
        page.set_content(f"{head}{body}")
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not errors


def focus(page, name: str, role: str = "slider"):
    control = page.get_by_role(role, name=name, exact=True)
    control.focus()
    return control


@needs_browser
def test_qubit_and_parameter_shift_answer_to_the_keyboard(opened):
    page = opened("qubit", "shift")
    qubit, shift = page.locator("#qdm-qubit output"), page.locator("#qdm-shift output")
    assert "⟨Z⟩ = 0.500" in qubit.inner_text() and "φ = 0.40" in shift.inner_text()
    page.keyboard.press("Tab")  # the first control is the button RX
    page.keyboard.press("Enter")
    assert "RX(1.05), RX(1.05)" in qubit.inner_text()
    focus(page, "angle φ")
    before = shift.inner_text()
    page.keyboard.press("ArrowRight")
    assert "φ = 0.41" in shift.inner_text() and shift.inner_text() != before
    page.get_by_label("gate", exact=True).select_option("RX")
    numbers = re.findall(r"(?:slope|points\)|green\)) (−?[\d.]+)", shift.inner_text())
    assert len(numbers) == 3 and len(set(numbers)) == 1  # with RX both rules give the slope


@needs_browser
def test_the_circuits_move_by_keyboard_and_by_mouse_and_answer_at_once(opened):
    page = opened("wires")
    said = page.locator("#qdm-wires output")
    assert "depends on 4 of 12 inputs" in said.inner_text() and "8 of 28 weights" in said.inner_text()
    before = said.inner_text()
    focus(page, "its value")
    page.keyboard.press("ArrowRight")
    assert said.inner_text() != before
    page.get_by_label("layers").select_option("3")
    assert "12 of 12 inputs" in said.inner_text()
    page.get_by_label("circuit", exact=True).select_option("FQConv")
    assert "3 of 12 inputs (x0, x4, x8)" in said.inner_text()
    page.locator("#qdm-wires svg g").nth(20).click()
    assert page.get_by_label("input or angle").input_value() == "weight 8" and said.inner_text().startswith("θ8 = ")
    page.get_by_label("circuit", exact=True).select_option("HQConv")
    seconds = page.evaluate("""() => {
        const slider = document.querySelector("#qdm-wires input"), spent = [];
        for (let k = 0; k < 7; k++) {
            slider.value = 0.1 + 0.1 * k;
            const start = performance.now();
            slider.dispatchEvent(new Event("input"));
            document.body.getBoundingClientRect();  // the layout, too
            spent.push(performance.now() - start);
        }
        return Math.min(...spent) / 1000;
    }""")
    assert seconds < 0.1


@needs_browser
def test_the_reverse_process_steps_plays_and_follows_its_controls(opened):
    page = opened("reverse")
    said, frame = page.locator("#qdm-reverse output"), focus(page, "frame")
    assert "t = 999" in said.inner_text()
    page.keyboard.press("ArrowRight")
    assert frame.input_value() == "1" and "t = 979" in said.inner_text()
    page.get_by_role("button", name="step", exact=True).press("Enter")
    assert frame.input_value() == "2"
    page.get_by_role("button", name="step back").press("Enter")
    assert frame.input_value() == "1"

    def distance() -> float:
        return float(re.search(r"distance to the mixture ([\d.]+)", said.inner_text())[1])

    focus(page, "frame").press("End")
    clean = distance()
    focus(page, "error added to ε").press("End")
    clamped = distance()
    page.get_by_label("clamp x̂_0").uncheck()
    assert clean < clamped < distance()
    focus(page, "error added to ε").press("Home")
    page.get_by_label("steps", exact=True).select_option("5")
    assert frame.get_attribute("max") == "5" and distance() > clean
    focus(page, "η, from DDIM (0) to DDPM (1)").press("End")
    assert "η = 1.00" in said.inner_text()
    page.get_by_role("button", name="other noise").click()
    assert frame.input_value() == "0"
    page.get_by_role("button", name="play").click()
    page.wait_for_function("document.querySelector('#qdm-reverse output').textContent.includes('distance')")
    assert page.get_by_role("button", name="play").count() == 1  # it has stopped


@needs_browser
def test_playing_can_be_paused_and_less_motion_is_respected(opened):
    page = opened("film")
    said = page.locator("#qdm-film-fashion-mnist-1hqconv output")
    page.wait_for_function("document.querySelector('#qdm-film-fashion-mnist-1hqconv output').textContent")
    assert "frame 1 of 11: x_t at t = 999, pure noise" in said.inner_text()
    page.get_by_role("button", name="play").press("Enter")
    assert page.locator("output").get_attribute("aria-live") == "off"  # or a screen reader would say every frame
    page.wait_for_function("document.querySelector('output').textContent.startsWith('frame 3')")
    page.get_by_role("button", name="pause").press("Enter")
    stopped = said.inner_text()
    page.wait_for_timeout(700)
    assert said.inner_text() == stopped and page.locator("output").get_attribute("aria-live") == "polite"
    quiet = opened("film", reduced_motion="reduce")
    quiet.wait_for_function("document.querySelector('output').textContent")
    quiet.get_by_role("button", name="play").press("Enter")
    assert "frame 11 of 11: x_0, what 1hqconv drew" in quiet.locator("output").inner_text()  # at once


@needs_browser
def test_the_film_shows_the_stored_images(opened):
    page = opened("film")
    page.wait_for_function("document.querySelector('output').textContent")
    focus(page, "frame").press("End")
    pixels = page.evaluate("""() => {
        const canvas = document.querySelector("canvas");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return [...data].filter((_, k) => k % 4 === 0);
    }""")
    film = read_film(CLOTHES / "film.png")
    wanted = np.block([[film[-1][4 * r + c] for c in range(4)] for r in range(2)])
    assert np.array_equal(np.array(pixels).reshape(56, 112), wanted)


@needs_browser
def test_the_block_counts_by_keyboard(opened):
    page = opened("block")
    said = page.locator("#qdm-block output")
    focus(page, "circuits, 0 to 13, then full").press("Home")
    assert "n = 0: of 40 channels the convolution (blue) on 40" in said.inner_text()
    assert "the U-Net: 483,321" in said.inner_text()
    page.keyboard.press("ArrowRight")
    assert "475,329" in said.inner_text() and "quantum channels in the mixed group" in said.inner_text()
    page.keyboard.press("End")
    assert "full: " in said.inner_text() and "429,993" in said.inner_text() and "mixed" not in said.inner_text()
    page.get_by_label("ansatz").select_option("FQConv")
    assert "429,369" in said.inner_text()


@needs_browser
@pytest.mark.parametrize("size", [(1280, 720), (360, 740)], ids=["laptop", "phone"])
def test_every_control_has_a_name_and_no_page_scrolls_sideways(opened, size):
    page = opened(*MAKERS, width=size[0], height=size[1])
    page.wait_for_function("document.querySelector('#qdm-film-fashion-mnist-1hqconv output').textContent")
    assert page.locator("img").count() == 0  # the still pictures have given their places to the live ones
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 1, f"scrolls sideways by {wide} pixels"
    unnamed = page.evaluate("""() => [...document.querySelectorAll("input, select, button")]
        .filter((c) => !(c.getAttribute("aria-label") || c.textContent.trim())).length""")
    assert unnamed == 0
    drawn = page.evaluate("""() => [...document.querySelectorAll("svg[role=img]:not([aria-hidden]), canvas")]
        .map((picture) => (picture.getAttribute("aria-label") || "").length)""")
    assert len(drawn) == 6 and min(drawn) > 20
    circuit = page.locator("#qdm-wires svg")
    assert min(circuit.nth(k).bounding_box()["height"] for k in range(2)) > 370  # twelve wires, not cut off
    tall = [page.locator(f"#{place}").bounding_box()["height"] for place in ("qdm-reverse", "qdm-block", "qdm-wires")]
    assert max(tall) < 720  # controls and picture are seen together


@needs_browser
def test_without_scripts_the_still_pictures_are_shown(opened):
    page = opened(*MAKERS, java_script_enabled=False)
    pictures = page.locator("img")
    assert pictures.count() == len(MAKERS)
    assert all(pictures.nth(k).get_attribute("alt") for k in range(len(MAKERS)))
