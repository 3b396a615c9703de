"""What students write under a question: key → (right answers in several forms, wrong ones → what must be read).

Code, as text: tests/test_reading.py runs it by itself, tests/test_notebooks_run.py inside the notebook. Beside a wrong
answer stands a piece of the sentence that its mistake has to earn.
"""

CURVE = "schedule.alphas_cumprod"  # of SETUP, and of every notebook that has a question about it
SETUP = """
import math
import numpy as np
import torch
from torch import nn
from qdm_lib import diffusion
schedule = diffusion.NoiseSchedule(diffusion.cosine_betas())
betas, alphas_cumprod = schedule.betas, schedule.alphas_cumprod
"""


def x_0(text: str) -> str:
    return f"lambda x_t, t, eps, abar=schedule.alphas_cumprod: {text.replace('A', 'abar[t].view(-1, 1)')}"


ANSWERS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "00.1": (
        ("495", "torch.tensor(496)", "'493'", "497.0", f"int(({CURVE} - 0.5).abs().argmin())", "np.int64(495)"),
        {"0.5": "That is ᾱ itself", "663": "the factor of x_0", "999": "nothing of the picture is left",
         "300": "too small", "'half'": "A number is wanted"},
    ),
    "00.2": (
        ("3", "3.0", "'3'", "[3]", "torch.tensor([3])"),
        {"3.33": "no third of a circuit", "10": "number of channels", "4": "Three are nearer", "475_000": "too large"},
    ),
    "00.3": (
        ("140", "'140'", "5 * 28", "np.array(140)"),
        {"28": "That is one layer", "200": "counted, too", "152": "counted, too", "84": "three layers"},
    ),
    "01.1": (
        ("(0.3, 0.8)", "[0.3, 0.8]", "torch.tensor([0.3, 0.8])", "'0.3 and 0.8'", "'30 %, 80 %'"),
        {"(0.3, 0.64)": "a square root is missing", "(0.18, 0.8)": "a square root is missing",
         "(0.5, 0.8)": "does not stay", "(0.8, 0.3)": "another order", "0.3": "2 numbers are wanted"},
    ),
    "01.2": (
        ("496", "496.0", "' 496 '", "(schedule.snr < 1).nonzero()[0]"),
        {"495": "still at least 1", "500": "the offset s", "497": "count from 0", "0.5": "That is ᾱ"},
    ),
    "01.3": (
        (x_0("(x_t - (1 - A).sqrt() * eps) / A.sqrt()"), x_0("(x_t - (1 - A).float().sqrt() * eps) / A.float().sqrt()"),
         x_0("((x_t - (1 - A).sqrt() * eps) / A.sqrt()).numpy()"),
         x_0("((x_t - (1 - A).sqrt() * eps) / A.sqrt()).tolist()"), "schedule.predict_x0"),
        {x_0("x_t / A.sqrt()"): "the same for every eps",
         x_0("(x_t - (1 - A) * eps) / A.sqrt()"): "a square root is missing in front of eps",
         x_0("(x_t - (1 - A).sqrt() * eps) / A"): "in what you divide by",
         x_0("(x_t + (1 - A).sqrt() * eps) / A.sqrt()"): "a minus",
         x_0("x_t - (1 - A).sqrt() * eps"): "not x_0 yet",
         x_0("(x_t - (1 - abar[t]).sqrt() * eps) / abar[t].sqrt()"): "needs .view(-1, 1)",
         x_0("((x_t - (1 - A).sqrt() * eps) / A.sqrt()).clamp(-1, 1)"): "That is clamped",
         x_0("A.sqrt() * x_t + (1 - A).sqrt() * eps"): "the way forward",
         "lambda x_t, t, eps: torch.zeros(9, 1)": "On a random example",
         "lambda x_t, t, eps: torch.zeros(9)": "On a random example",
         "lambda x_t, t, eps: 1": "has shape ()",
         "lambda x_t, t, eps: math.sqrt(t) * x_t": "Your code stops with",
         "lambda x_t: x_t": "Your code stops with TypeError",
         "3": "its name alone"},
    ),
    "01.4": (
        ("lambda x_t, v, abar: (1 - abar).sqrt() * x_t + abar.sqrt() * v",
         "lambda x_t, v, abar: ((1 - abar)**0.5 * x_t + abar**0.5 * v).numpy()",
         "lambda x_t, v, abar: list((1 - abar).sqrt() * x_t + abar.sqrt() * v)"),
        {"lambda x_t, v, abar: torch.tensor([1.1, 0.4])": "has shape (2,)",
         "lambda x_t, v, abar: abar.sqrt() * x_t - (1 - abar).sqrt() * v": "That is x_0",
         "lambda x_t, v, abar: (1 - abar) * x_t + abar * v": "square roots",
         "lambda x_t, v, abar: (1 - abar).sqrt() * x_t - abar.sqrt() * v": "A sign is turned",
         "lambda x_t, v, abar: torch.ones(6)": "On a random example"},
    ),
    "01.5": (
        ("'copies'", "'Copy'", "'COPIES.'", "['copies']"),
        {"'new'": "knows nothing but", "'mixtures'": "At large t they are", "'dogs'": "One of these words",
         "3": "quotes"},
    ),
    "02.1": (
        ("(0.5, 0.25)", "[0.5, '25 %']", "torch.tensor([0.5, 0.25])", "(math.cos(math.pi / 3), 1/4)"),
        {"(0.866, 0.25)": "amplitude ψ_0", "(0.5, 0.5)": "its square", "(0.75, 0.25)": "That is P(0)",
         "(0.25, 0.5)": "other order"},
    ),
    "02.2": (
        ("3", "3.0", "'3'", "torch.tensor([3])"),
        {"2": "products of waves", "1": "twice that frequency", "5": "too large"},
    ),
    "02.3": (
        ("lambda s: torch.linalg.solve(2 * torch.sin(torch.tensor([[0.5], [1.0]]).double() * s),"
         " torch.tensor([0.5, 1.0]).double())",
         "lambda s: tuple(np.linalg.solve(2 * np.sin(np.outer([0.5, 1], s)), [0.5, 1]))",
         "lambda s: np.linalg.solve(2 * np.sin(np.outer([0.5, 1], s)), [0.5, 1]).astype('float32')"),
        {"lambda s: (0.4268, -0.0732)": "whatever s is",
         "lambda s: (0.5 / torch.sin(s[0]), 0.0)": "With c_2 = 0",
         "lambda s: np.linalg.solve(np.sin(np.outer([0.5, 1], s)), [0.5, 1])": "Twice too large",
         "lambda s: np.linalg.solve(2 * np.sin(np.outer([0.5, 1], s)), [1, 1])": "right-hand side"},
    ),
    "02.4": (
        ("16", "'16'", "16.0", "{16}"),
        {"20": "HQConv's number", "24": "targets again", "8": "not all", "56": "it is not exact"},
    ),
    "02.5": (
        ("(2, 0.5)", "[2, '1/2']", "'2, 50 %'", "torch.tensor([2, 0.5])"),
        {"(1, 1)": "minus sign", "(4, 0.5)": "what is that in θ", "4": "2 numbers are wanted",
         "(0.5, 2)": "another order"},
    ),
    "02.6": (
        ("1", "'1.0'", "(2 * (0.4268 + 0.0732))**2", "torch.tensor(1.0)"),
        {"0.25": "has four terms", "0.375": "sum of squares", "0.5": "counts by its size",
         "4": "the coefficients are smaller"},
    ),
    "03.1": (
        ("(2, 1)", "[2, 1]", "'(2, 1)'", "torch.tensor([2, 1])", "divmod(9, 4)"),
        {"(1, 1)": "channels first", "(1, 2)": "other order", "9": "4·c + p", "5": "(channel, pixel)"},
    ),
    "03.2": (
        ("[(0, 1), (1, 2), (2, 3)]", "((0, 5), (6, 3), (9, 2))", "{(0, 1), (2, 1), (3, 2)}",
         "np.array([[0, 1], [1, 2], [2, 3]])", "'(0, 1), (1, 2), (2, 3)'"),
        {"[(0, 4), (1, 2), (2, 3)]": "in one triangle already", "[(0, 1), (1, 2)]": "still 2 parts",
         "[(0, 1), (1, 2), (2, 3), (0, 3)]": "fewer than 4", "[(0, 12)]": "Wanted are pairs", "7": "Wanted are pairs",
         "[(1, 1)]": "two different wires", "'none'": "A number is wanted"},
    ),
    "03.3": (
        ("2", "2.0", "'2 '", "torch.tensor(2)"),
        {"4": "largest rank", "1": "That is one layer", "1.386": "natural logarithms"},
    ),
    "03.4": (
        ("12", "'12'", "3 * 4", "[12]"),
        {"84": "block A never runs", "4": "one layer", "72": "do nothing", "6": "two weights"},
    ),
    "03.5": (
        ("{4, 8}", "[8, 4]", "'4 and 8'", "torch.tensor([4, 8])", "(4.0, 8.0)"),
        {"{8}": "runs both ways", "8": "runs both ways", "4": "Wire 8 itself", "{0, 4, 8}": "only ever a control",
         "range(12)": "Nine wires", "{1, 8}": "right: 1, wrong: 1"},
    ),
    "04.1": (
        ("9.5", "90 ** 0.5", "'9.49'", "torch.tensor(90.0).sqrt()", "9.6"),
        {"90": "its square root", "12.6": "That is the vertex", "6.3": "all nine do", "1": "entries of size 1"},
    ),
    "04.2": (
        ("6_070", "'6,070'", "6070.0", "25 * 25 * 9 + 25 + 5 * 84"),
        {"5650": "circuits are missing", "6045": "biases", "14_860": "gets smaller", "24_280": "all four"},
    ),
    "04.3": (
        ("25_088", "'25,088'", "4 * 49 * 128", "'25 088'"),
        {"6272": "one of the four", "196": "one image", "100_352": "number of pixels"},
    ),
    "04.4": (
        ("lambda c_in, c: nn.Conv2d(c_in, c, 1)", "lambda c_in, c: nn.Sequential(nn.Conv2d(c_in, c, 1))",
         "lambda c_in, c: (lambda x: torch.einsum('oi,bihw->bohw', torch.ones(c, c_in), x))",
         "lambda c_in, c: nn.Sequential(nn.Conv2d(c_in, 8, 1), nn.Conv2d(8, c, 1, bias=False))"),
        {"lambda c_in, c: nn.Conv2d(c_in, c, 3, padding=1)": "kernel is larger",
         "lambda c_in, c: nn.Conv2d(40, 40, 1)": "Your code stops with",
         "lambda c_in, c: nn.Conv2d(c_in, c_in, 1)": "wanted is (40, 2, 2)",
         "lambda c_in, c: nn.Conv2d(c_in, c, 1) if c_in == c else nn.Conv2d(c_in, c, 2)": "wanted is",
         "lambda c_in, c: nn.Identity()": "moves 1 of the 40",
         "lambda c_in, c: nn.Conv2d(c_in, c, 1, groups=10)": "moves 4 of the 40",
         "lambda c_in, c: (lambda x: torch.cat([x[:, :1] * 0, x[:, 1:].sum(1, True).expand(-1, c - 1, 2, 2)], 1))":
             "Channel 0 moves 0 of the 40",
         "lambda c_in, c: 3": "A module is wanted",
         "nn.Conv2d(40, 40, 1)": "Your code stops with"},
    ),
    "04.5": (
        ("'classical'", "'Classical'", "['classical']", "'the classical ones'"),
        {"'quantum'": "behind the norm", "'same'": "not of one size", "'?'": "One of these words"},
    ),
    "04.6": (
        ("40", "[40]", "(40,)", "{40}", "'40'", "torch.tensor([40])"),
        {"10": "four channels each", "[1]": "a shift of all together", "[20, 40]": "a group of two",
         "[]": "There is one", "[1, 2, 4, 5, 8, 10, 20, 40]": "several channels"},
    ),
    "05.1": (
        ("[0, 0, 1, 1, 1, 2, 2]", "torch.tensor([0.0, 0, 1, 1, 1, 2, 2])", "'0 0 1 1 1 2 2'.split()",
         "(0, 0, 1, 1, 1, 2, 2)", "'0, 0, 1, 1, 1, 2, 2'"),
        {"[0, 0, 0, 1, 1, 2, 2]": "older `nearest`", "[0, 0, 0, 1, 1, 1, 2]": "then cut off",
         "torch.arange(7) / 3": "evenly", "[0, 1, 2]": "7 numbers are wanted",
         "[2, 2, 1, 1, 1, 0, 0]": "another order"},
    ),
    "05.2": (
        ("2 * 4 * 100 * 100 * 32", "'2,560,000'", "2.56e6", "torch.tensor(2560000)"),
        {"1_280_000": "each costs as much", "640_000": "one head", "819_200": "linear attention",
         "10_000": "number of pairs"},
    ),
    "05.3": (
        ("['b2', 'a2', 'b1', 'a1']", "'b2 a2 b1 a1'", "('B2', 'A2', 'B1', 'A1')", "'b2, a2, b1, a1'", "'b2a2b1a1'",
         "'b2 -> a2 -> b1 -> a1'"),
        {"'a1 b1 a2 b2'": "First in, first out", "'a2 b2 a1 b1'": "The levels are right", "'b1 a1 b2 a2'": "small maps",
         "'b2 a2'": "All four names", "3": "Words are wanted"},
    ),
    "05.4": (
        ("442_281", "'442,281'", "483_321 + 4 * (9 * 400 + 20 + 560 - 14_440)", "[442281.0]"),
        {"483_321 + 3620 + 560 - 14_440": "there are four",
         "483_321 + 4 * (9 * 625 + 25 + 560 - 14_440)": "20 are left",
         "483_321 + 4 * (3620 + 112 - 14_440)": "five times 112", "4180": "the whole U-Net"},
    ),
    "05.5": (
        ("1110", "[1110]", "'1,110'", "1110.0"),
        {"1109": "still smaller", "1111": "10 parameters", "84": "That is HQConv", "14_430": "all 13"},
    ),
    "05.6": (
        ("'large'", "'Large'", "'at large t'", "['large']"),
        {"'small'": "fine grain", "'same'": "Which level works on that", "900": "in quotes"},
    ),
    "06.1": (
        ("0.5", "'1/2'", "'50 %'", "(1 - schedule.alphas_cumprod).mean()", "[0.504]"),
        {"1": "without the P2 weight", "schedule.alphas_cumprod.mean()": "the mean of ᾱ", "0": "It answers 0",
         "0.642": "not its square root", "'half'": "A number is wanted"},
    ),
    "06.2": (
        ("9190", "'9,190'", "9190.0", "10 * 919"),
        {"919": "number of renewals", "9180": "1.004 %", "9187": "round up", "2000": "After 200 renewals",
         "4600": "10 %"},
    ),
    "06.3": (
        ("lambda seen: len(seen) >= 5 and sum(seen[-5:]) / 5 < 0.6",
         "lambda seen: len(seen) > 4 and torch.tensor(seen[-5:]).mean() < 0.6",
         "lambda seen: np.mean(seen[-5:]) < 0.6 if len(seen) >= 5 else False"),
        {"lambda seen: sum(seen[-5:]) / 5 < 0.6": "there are not five yet",
         "lambda seen: len(seen) >= 5 and max(seen[-5:]) < 0.6": "the mean counts, not every one",
         "lambda seen: len(seen) >= 5 and sum(seen) / len(seen) < 0.6": "only the last five count",
         "lambda seen: len(seen) >= 5 and seen[-1] < 0.6": "not the last loss alone",
         "lambda seen: len(seen) >= 5 and sum(seen[-5:]) / 5 > 0.6": "turned round",
         "lambda seen: len(seen) >= 5 and sum(seen[-5:]) / 5 < 0.55": "The mean of the last five",
         "lambda seen: np.mean(seen[-5]) < 0.6": "IndexError",
         "lambda seen: torch.tensor(seen)[-5:] < 0.6": "One True or False"},
    ),
    "06.4": (
        ("'weights'", "'The weights.'", "['weights']"),
        {"'average'": "the mean age", "'EMA'": "the mean age", "'same'": "the first 100 steps"},
    ),
    "06.5": (
        ("(28_000, 1_400)", "['28,000', '1,400']", "torch.tensor([28000, 1400])", "'28000; 1400'"),
        {"28_000": "wanted is DDIM", "(1000, 50)": "That is one batch", "(7_000_000, 350_000)": "each image alone",
         "(1400, 28_000)": "another order"},
    ),
    "07.1": (
        ("'vertex_block'", "('vertex_block',)", "['vertex_block1', 'vertex_block2']", "{'vertex_block'}"),
        {"'vertex'": "attention, or a part", "['vertex_block', 'vertex_attention.norm']": "or a part of it",
         "'vertex_attention'": "ResNet blocks be copied",
         "['vertex_block', 'encoder']": "outside the vertex", "3": "in quotes", "()": "ResNet blocks be copied"},
    ),
    "07.2": (
        ("13", "'13'", "13.0", "[13]"),
        {"12": "5.96 %", "12.75": "round up", "599": "number of renewals", "2": "every 10 steps"},
    ),
    "07.3": (
        ("('unet', 'unet')", "['UNet', 'unet']", "'unet → unet'", "'unet->unet'", "'unet -> unet'",
         "('classical', 'classical')"),
        {"('unet', '7hqconv')": "the claim itself", "('7hqconv', '7hqconv')": "circuits in the target",
         "'unet'": "Two presets", "('7hqconv', 'unet')": "only the circuits go"},
    ),
    "07.4": (
        ("lambda w, a: {n: (w if n.startswith('vertex') else a)[n] for n in w}",
         "lambda w, a: a | {n: v for n, v in w.items() if n.startswith('vertex')}",
         "lambda w, a: {n: (w[n] if n[:6] == 'vertex' else a[n]).numpy() for n in a}"),
        {"lambda w, a: {n: (a if n.startswith('vertex') else w)[n] for n in w}": "The other way round",
         "lambda w, a: {n: (w if 'vertex' in n else a)[n] for n in w}": "begin so",
         "lambda w, a: dict(w)": "Everything comes from weights",
         "lambda w, a: dict(a)": "Everything comes from average",
         "lambda w, a: a.update(w) or a": "writes into the average",
         "lambda w, a: {n: v for n, v in w.items() if n.startswith('vertex')}": "all are wanted",
         "lambda w, a: {'vertex_x': 1, 'first': 4}": "all are wanted",
         "lambda w, a: 3": "A state dict"},
    ),
    "08.1": (
        ("4", "'4'", "4.0", "2**2"),
        {"2": "Means and standard deviations double", "1": "no ratio", "16": "root of sixteen"},
    ),
    "08.2": (
        ("1", "1.0", "'1'", "torch.tensor([1.0])"),
        {"10": "all classes equally often", "0": "its exponential"},
    ),
    "08.3": (
        ("'falls'", "'Smaller'", "['falls']", "'it decreases'"),
        {"'stays'": "FID is biased", "'rises'": "they get smaller", "'maybe'": "One of these words"},
    ),
    "08.4": (
        ("lambda n, f_n, m, f_m: (m * f_m - n * f_n) / (m - n)",
         "lambda n, f_n, m, f_m: torch.tensor([(m * f_m - n * f_n) / (m - n)]).double()",
         "lambda n, f_n, m, f_m: np.polyfit([1 / n, 1 / m], [f_n, f_m], 1)[1]"),
        {"lambda n, f_n, m, f_m: f_m": "the larger size",
         "lambda n, f_n, m, f_m: (f_n + f_m) / 2": "the mean of both",
         "lambda n, f_n, m, f_m: np.polyfit([n, m], [f_n, f_m], 1)[1]": "a straight line in N",
         "lambda n, f_n, m, f_m: m * f_m - n * f_n": "Divide by m − n",
         "lambda n, f_n, m, f_m: 0.5": "On a random example"},
    ),
    "08.5": (
        ("'undecided'", "'Undecided'", "['UNDECIDED.']", "'open'"),
        {"'better'": "a trend", "'equivalent'": "lower end", "'worse'": "Smaller scores", "'hm'": "One of these words"},
    ),
    "09.1": (
        ("10_000", "'10,000'", "1e4", "'10^4'", "torch.tensor(10000)"),
        {"100": "the square of that", "7500": "another value", "1000": "it is 0.03"},
    ),
    "09.2": (
        ("(13, 26)", "[13, 26]", "'13 and 26'", "torch.tensor([13.0, 26.0])"),
        {"13": "2 numbers are wanted", "(26, 26)": "2ⁿ columns", "(13, 13)": "the root of", "(13, 27)": "2.1 GB",
         "(26, 13)": "2ⁿ columns"},
    ),
    "09.3": (
        ("(0.168, 1 / 168)", "('0.168', '1/168')", "[0.168, '0.6 %']", "torch.tensor([0.168, 0.00595])",
         "(0.17, 0.006)"),
        {"0.168": "2 numbers are wanted", "(0.084, 1 / 84)": "two wires", "(0.168, 0.595)": "in per cent",
         "(0.155, 1 / 168)": "at least one accident"},
    ),
    "09.4": (
        ("lambda measured, e: measured / (1 - 2 * e)", "lambda measured, e: torch.tensor(measured) / (1 - 2 * e)",
         "lambda measured, e: [np.float32(measured / (1 - 2 * e))]"),
        {"lambda measured, e: measured / (1 - e)": "does not give 0",
         "lambda measured, e: measured * (1 - 2 * e)": "undoing them divides",
         "lambda measured, e: measured + e": "no shift", "lambda measured, e: measured": "as it came",
         "lambda measured, e: measured / 0.96": "take the argument e"},
    ),
    "09.5": (
        ("lambda shots, gate, delay: shots * (168 * gate + delay)",
         "lambda shots, gate, delay: torch.tensor(shots * (168 * gate + delay))",
         "lambda shots, gate, delay: [np.float64(shots * 168 * gate + shots * delay)]"),
        {"lambda shots, gate, delay: shots * (84 * gate + delay)": "two CNOTs",
         "lambda shots, gate, delay: shots * 168 * gate + delay": "before every shot",
         "lambda shots, gate, delay: 168 * gate + delay": "That is one shot",
         "lambda shots, gate, delay: shots * 168 * gate": "delay between shots is missing",
         "lambda shots, gate, delay: 1.0": "On a random example"},
    ),
}  # fmt: skip
