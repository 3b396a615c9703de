"""An answer to every exercise that checks itself, as its solution gives it: notebook -> number -> code."""

ANSWERS = {
    "00_welcome": {
        "1": "140",
        "2": "int((schedule.alphas_cumprod - 0.5).abs().argmin())",
        "3": "3",
    },
    "01_ddpm": {
        "1": "int((schedule.snr < 1).nonzero()[0])",
        "2": "abar = alphas_cumprod[t].float().view(-1, 1)\nreturn (x_t - (1 - abar).sqrt() * eps) / abar.sqrt()",
        "3": "return (1 - abar).sqrt() * x_t + abar.sqrt() * v",
        "4": "clothes[bundle.labels == 9]",
    },
    "02_variational_circuits": {
        "1": "3",
        "2": "16",
        "3": "return torch.linalg.solve(2 * torch.sin(frequencies[:, None] * s), frequencies)",
        "4": "(2, 0.5)",
        "5": "1",
    },
    "03_hqconv_fqconv": {
        "1": "(1, 1)",
        "2": "2",
        "3": "[(0, 1), (1, 2), (2, 3)]",
        "4": "{4, 8}",
        "5": "{0, 1, 2, 3}",
    },
    "04_qresnet": {
        "1": "6_070",
        "2": "25_088",
        "3": "[40]",
        "4": "return nn.Conv2d(c_in, c, 1)",
        "5": 'float(measured["fresh"][1, 1, "conv"][3] / measured["fresh"][1, 1, "conv"][:3].mean())',
    },
    "05_hybrid_unet": {
        "1": "2 * 4 * 100 * 100 * 32",
        "2": "classical + 4 * (conv(40 - 5 * 4) + 5 * 112 - conv(40))",
        "3": "1110",
        "4": "return [skips[i + 1 if i % 2 == 0 else i - 1] for i in range(len(skips))]",
    },
    "06_training": {
        "1": "(1 - schedule.alphas_cumprod).mean()",
        "2": "9190",
        "3": "return len(seen) >= 5 and sum(seen[-5:]) / 5 < 0.6",
        "4": "(28_000, 1_400)",
    },
    "07_transfer_learning": {
        "1": "13",
        "2": '"vertex_block"',
        "3": '("unet", "unet")',
        "4": 'return {name: (weights if name.startswith("vertex") else average)[name] for name in weights}',
    },
    "08_evaluation": {
        "1": "1.0",
        "2": "4",
        "3": '(lambda n, m: (m * means["real", m] - n * means["real", n]) / (m - n))(*sizes[-2:])',
        "4": '"undecided"',
    },
    "09_towards_hardware": {
        "1": "10_000",
        "2": "(13, 26)",
        "3": "return measured / (1 - 2 * E_READ)",
        "4": "80e-9, 200e-6",
        "5": "(0.168, 1 / 168)",
    },
}
