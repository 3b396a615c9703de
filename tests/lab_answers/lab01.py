"""Lab 01: right answers in any variant, and at least three usual mistakes for each task."""

from dataclasses import replace

import torch

from qdm_labs.lab01 import PREDICTS, World
from qdm_lib.diffusion import NoiseSchedule


def of(v, abar):
    """The world of a table."""
    full = abar if v.first else torch.cat([torch.ones(1, dtype=abar.dtype), abar])
    return World(v, NoiseSchedule(1 - full[1:] / full[:-1]))


def trained(v, steps=800, see_t=True):
    def train_denoiser(data, abar):
        w, g = of(v, abar), torch.Generator().manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(2, 64), torch.nn.SiLU(), torch.nn.Linear(64, 64), torch.nn.SiLU(),
                                  torch.nn.Linear(64, 1))  # fmt: skip
        optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
        snr = (abar / (1 - abar)).log().clamp(-10, 10).float() / 5

        def model(x_t, t):
            return net(torch.cat([3 * x_t.float(), see_t * snr[t].view(-1, 1)], 1))

        for _ in range(steps):
            x_0 = data(256).double()
            t = torch.randint(v.first, len(abar), (256,), generator=g)
            eps = torch.randn(256, 1, generator=g, dtype=torch.float64)
            loss = (model(w.q(x_0, t, eps), t) - w.target(x_0, t, eps).float()).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return lambda x_t, t: model(x_t, t).detach()

    return train_denoiser


def right(v):
    """task -> a right answer."""
    return {
        "q_sample": lambda x_0, t, eps, abar: of(v, abar).q(x_0, t, eps),
        "posterior": lambda x_0, x_t, t, abar: of(v, abar).posterior(x_0, x_t, t),
        "clean_image": lambda x_t, t, out, abar: of(v, abar).clean(x_t, t, out),
        "ddpm_step": lambda model, x_t, t, abar, z: of(v, abar).ddpm(model, x_t, t, z),
        "ddim_step": lambda model, x_t, t, u, abar, z: of(v, abar).ddim(model, x_t, t, u, z),
        "p2_loss": lambda model, x_0, t, eps, abar: of(v, abar).loss(model, x_0, t, eps),
        "train_denoiser": trained(v),
    }


def wrong(v):
    """task -> [(a usual mistake, words of the sentence that the student has to read)]."""
    other = replace(v, predicts=next(p for p in PREDICTS if p != v.predicts))
    variance = replace(v, small_variance=not v.small_variance)

    def jump(f):
        return lambda x_0, t, eps, abar: f(abar[t].view(-1, *[1] * (x_0.ndim - 1)), x_0, eps)

    def noisy_end(model, x_t, t, abar, z):
        w = of(v, abar)
        return w.ddpm(model, x_t, t, z) + (w.schedule.betas[0].sqrt() * z if t == v.first else 0)

    def scaled_by_variance(model, x_t, t, abar, z):
        w = of(v, abar)
        mean = w.ddpm(model, x_t, t, 0 * z)
        return mean + (w.ddpm(model, x_t, t, z) - mean).div(z) ** 2 * z

    return {
        "q_sample": [
            (jump(lambda a, x, e: a * x + (1 - a) * e), "square roots are missing"),
            (jump(lambda a, x, e: a.sqrt() * x + (1 - a) * e), "variance of the noise"),
            (jump(lambda a, x, e: (1 - a).sqrt() * x + a.sqrt() * e), "exchanged"),
            (jump(lambda a, x, e: a.sqrt() * x + (1 - a.sqrt()) * e), "not 1 − √ᾱ"),
        ],
        "posterior": [
            (lambda x_0, x_t, t, abar: of(v, abar).posterior(x_t, x_0, t), "exchanged"),
            (lambda x_0, x_t, t, abar: (lambda m, s: (m, s.sqrt()))(*of(v, abar).posterior(x_0, x_t, t)),
             "standard deviation"),
            (lambda x_0, x_t, t, abar: (of(v, abar).posterior(x_0, x_t, t)[0], of(v, abar).schedule.betas[t - v.first]),
             "This is β_t"),
            (lambda x_0, x_t, t, abar: of(v, abar).posterior(x_0, x_t, t)[0], "Two values are wanted"),
        ],
        "clean_image": [
            (lambda x_t, t, out, abar: of(v, abar).clean(x_t, t, out, clamp=False), "clamp it"),
            (lambda x_t, t, out, abar: of(other, abar).clean(x_t, t, out), "in this variant the network predicts"),
            (lambda x_t, t, out, abar: of(v, abar).clean(x_t, t, out, clamp=False).clamp(0, 1), "0"),
        ],
        "ddpm_step": [
            (lambda model, x_t, t, abar, z: of(v, abar).ddpm(model, x_t, t, 0 * z), "not added"),
            (scaled_by_variance, "multiplied by the variance"),
            (lambda model, x_t, t, abar, z: of(variance, abar).ddpm(model, x_t, t, z), "variance is another one"),
            (lambda model, x_t, t, abar, z: of(v, abar).ddpm(model, x_t, t, z, clamp=False), "not clamped"),
            (noisy_end, "it must not"),
        ],
        "ddim_step": [
            (lambda model, x_t, t, u, abar, z: of(v, abar).ddim(model, x_t, t, u, z, eta=0.0), "η = 0"),
            (lambda model, x_t, t, u, abar, z: of(v, abar).ddim(model, x_t, t, u, z, eta=1.0), "This is η = 1"),
            (lambda model, x_t, t, u, abar, z: of(v, abar).ddim(model, x_t, t, u, z, full=True), "not taken off"),
        ],
        "p2_loss": [
            (lambda model, x_0, t, eps, abar: of(v, abar).loss(model, x_0, t, eps, gamma=0.0), "weight is missing"),
            (lambda model, x_0, t, eps, abar: of(v, abar).loss(model, x_0, t, eps, 1.0, 1.0), "k = γ = 1"),
            (lambda model, x_0, t, eps, abar: of(v, abar).loss(model, x_0, t, eps) * x_0.numel(), "sum over"),
            (lambda model, x_0, t, eps, abar: of(other, abar).loss(model, x_0, t, eps), "The target is"),
        ],
        "train_denoiser": [
            (trained(v, steps=0), "times that of the best straight line"),
            (trained(other), "times that of the best straight line"),
            (lambda data, abar: 3.0, "A model is wanted"),
        ],
    }  # fmt: skip
