"""The forward process, Bayes' rule, and samplers that must find a Gaussian again."""

import math

import numpy as np
import pytest
import torch

from qdm_lib.diffusion import (
    NoiseSchedule,
    _time_grid,
    cosine_betas,
    ddim_sample,
    ddpm_sample,
    dpm_solver_sample,
    linear_betas,
    sample,
)

F64 = torch.float64
COSINE = NoiseSchedule(cosine_betas())
ALL_T = torch.arange(1000)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian_oracle(schedule, mean, std):
    """The best possible noise predictor for pixels N(mean, std²): E[eps | x_t], from joint normality.

    x_t = √ᾱ x_0 + √(1-ᾱ) eps has mean √ᾱ·mean and variance ᾱ·std² + 1-ᾱ; its covariance with eps is √(1-ᾱ).
    """

    def model(x_t, t):
        a = schedule.alphas_cumprod[t].view(-1, *[1] * (x_t.ndim - 1)).to(x_t.dtype)
        return (1 - a).sqrt() * (x_t - a.sqrt() * mean) / (a * std**2 + 1 - a)

    return model


# ------------------------------------------------------------------------------------ forward process


def test_cosine_betas_follow_equation_17():
    def f(tau):
        return math.cos((tau + 0.008) / 1.008 * math.pi / 2) ** 2

    abar = COSINE.alphas_cumprod
    for t in (0, 1, 250, 500, 998):  # before the clip the product telescopes
        assert abar[t].item() == pytest.approx(f((t + 1) / 1000) / f(0), rel=1e-9)
    assert COSINE.betas[-1] == 0.999 and COSINE.betas[-2] < 0.999
    assert COSINE.betas.dtype == abar.dtype == COSINE.snr.dtype == F64 and COSINE.T == 1000


@pytest.mark.parametrize("make", [list, tuple, np.array, lambda betas: torch.tensor(betas, dtype=F64)])
def test_betas_are_taken_in_double_precision(make):
    """Those of a list were once rounded to float32."""
    betas = [0.1, 1 / 3, 0.7]
    assert NoiseSchedule(make(betas)).betas.tolist() == betas and NoiseSchedule(make(betas)).betas.dtype == F64


def test_a_schedule_has_its_betas_for_itself():
    betas = torch.tensor([0.1, 0.2], dtype=F64, requires_grad=True)
    schedule = NoiseSchedule(betas)
    with torch.no_grad():
        betas.fill_(0.5)
    assert schedule.betas.tolist() == [0.1, 0.2] and not schedule.betas.requires_grad


def test_linear_betas():
    betas = linear_betas(1000)
    assert betas[0] == 1e-4 and betas[-1] == 0.02 and len(betas) == 1000
    torch.testing.assert_close(betas.diff(), torch.full((999,), (0.02 - 1e-4) / 999, dtype=F64))


@pytest.mark.parametrize("betas", [cosine_betas(), linear_betas(), cosine_betas(7)])
def test_one_step_kernels_compose_to_the_closed_form(betas):
    schedule = NoiseSchedule(betas)
    scale, variance, scales, variances = 1.0, 0.0, [], []
    for beta in betas.tolist():  # x ← √(1-β) x + √β z
        scale, variance = math.sqrt(1 - beta) * scale, (1 - beta) * variance + beta
        scales.append(scale)
        variances.append(variance)
    t = torch.arange(schedule.T)
    one, zero = torch.ones(schedule.T, 1, dtype=F64), torch.zeros(schedule.T, 1, dtype=F64)
    torch.testing.assert_close(schedule.q_sample(one, t, zero).flatten(), torch.tensor(scales, dtype=F64))
    jump = schedule.q_sample(zero, t, one).flatten() ** 2
    torch.testing.assert_close(jump, torch.tensor(variances, dtype=F64))


@pytest.mark.parametrize("t", [1, 10, 500, 998, 999])
def test_posterior_agrees_with_bayes_rule_on_a_grid(t):
    beta, before, after = COSINE.betas[t].item(), *COSINE.alphas_cumprod[t - 1 : t + 1].tolist()
    x_0 = 0.7
    x_t = math.sqrt(after) * x_0 - 0.8 * math.sqrt(1 - after)
    width = math.sqrt(1 - before)
    x = math.sqrt(before) * x_0 + width * torch.linspace(-9, 9, 400_001, dtype=F64)  # x_{t-1}
    log_prior = -((x - math.sqrt(before) * x_0) ** 2) / (2 * (1 - before))
    log_likelihood = -((x_t - math.sqrt(1 - beta) * x) ** 2) / (2 * beta)
    p = torch.softmax(log_prior + log_likelihood, 0)
    mean = (p * x).sum()
    variance = (p * (x - mean) ** 2).sum()

    images = [torch.full((1, 1, 1, 1), v, dtype=F64) for v in (x_0, x_t)]
    got_mean, got_variance = COSINE.q_posterior(*images, torch.tensor([t]))
    assert got_mean.item() == pytest.approx(mean.item(), rel=1e-7)
    assert got_variance.item() == pytest.approx(variance.item(), rel=1e-7)


def test_posterior_at_t_0_is_x_0_itself():
    x_0, x_t = torch.rand(2, 3, 1, 2, 2, dtype=F64, generator=seeded())
    mean, variance = COSINE.q_posterior(x_0, x_t, torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(mean, x_0, rtol=1e-10, atol=0)
    assert variance.shape == (3, 1, 1, 1) and (variance == 0).all()


def test_predictions_invert_q_sample():
    g = seeded()
    x_0 = torch.rand(1000, 1, 2, 2, dtype=F64, generator=g) * 2 - 1
    eps = torch.randn(1000, 1, 2, 2, dtype=F64, generator=g)
    x_t = COSINE.q_sample(x_0, ALL_T, eps)
    torch.testing.assert_close(COSINE.predict_x0(x_t, ALL_T, eps), x_0, rtol=0, atol=1e-10)
    torch.testing.assert_close(COSINE.predict_eps(x_t, ALL_T, x_0), eps, rtol=0, atol=1e-10)


def test_p2_weight_with_k_and_gamma_one_is_one_minus_abar():
    torch.testing.assert_close(COSINE.p2_weight(ALL_T), 1 - COSINE.alphas_cumprod, rtol=1e-12, atol=0)
    assert (COSINE.p2_weight(ALL_T, gamma=0) == 1).all()
    torch.testing.assert_close(COSINE.p2_weight(ALL_T, k=2, gamma=0.5), (2 + COSINE.snr) ** -0.5)


def test_results_have_the_dtype_of_the_images():
    x, t = torch.rand(2, 1, 3, 3), torch.tensor([0, 999])
    for dtype in (torch.float32, F64, torch.bfloat16):
        assert COSINE.q_sample(x.to(dtype), t, x.to(dtype)).dtype == dtype
    assert COSINE.betas.dtype == F64


# ------------------------------------------------------------------------------------------- samplers


MEAN, STD = torch.tensor([0.3, -0.5, 0.0]), torch.tensor([0.2, 0.1, 0.5])  # three different pixels


def test_ddpm_recovers_a_gaussian():
    """4,000 draws: standard errors are 1.6 % of the deviation for the mean and 1.1 % for the deviation."""
    model = gaussian_oracle(COSINE, MEAN, STD)
    x = sample(ddpm_sample(model, COSINE, (4000, 3), generator=seeded(), clip=False))
    assert ((x.mean(0) - MEAN).abs() < 0.05 * STD).all()
    assert ((x.std(0) / STD - 1).abs() < 0.04).all()


def test_ddim_with_noise_recovers_a_gaussian():
    """With eta = 1 the error of 50 large steps shows: a fifth of the narrowest pixel's deviation is lost."""
    model = gaussian_oracle(COSINE, MEAN, STD)
    for steps, tolerance in ((50, 0.22), (500, 0.05)):
        states = ddim_sample(model, COSINE, (4000, 3), steps=steps, eta=1.0, generator=seeded(), clip=False)
        x = sample(states)
        assert ((x.mean(0) - MEAN).abs() < 0.05 * STD).all()
        assert ((x.std(0) / STD - 1).abs() < tolerance).all()


def linear_map(sampler, std, steps):
    """(c, d): with the oracle a sampler without noise is x_0 = c + d·x_T, so N(c, d²) for x_T ~ N(0, 1)."""
    x_T = torch.tensor([[0.0], [1.0]], dtype=F64)
    model = gaussian_oracle(COSINE, 0.3, std)
    at_0, at_1 = sample(sampler(model, COSINE, (2, 1), steps=steps, x_T=x_T, clip=False)).flatten().tolist()
    return at_0, at_1 - at_0


def test_ddim_without_noise_recovers_a_gaussian():
    for steps, tolerance in ((50, 0.07), (200, 0.02), (1000, 0.005)):
        mean, std = linear_map(ddim_sample, 0.2, steps)
        assert mean == pytest.approx(0.3, abs=1e-4)
        assert std == pytest.approx(0.2, rel=tolerance)


def test_dpm_solver_recovers_a_gaussian():
    """The narrower the pixel, the more of its path lies in the last steps, too far apart on a coarse grid."""
    for steps, true_std, tolerance in ((20, 1.0, 0.01), (20, 0.2, 0.09), (50, 0.2, 0.01)):
        mean, std = linear_map(dpm_solver_sample, true_std, steps)
        assert mean == pytest.approx(0.3, abs=1e-4)
        assert std == pytest.approx(true_std, rel=tolerance)
        assert abs(std - true_std) < 0.6 * abs(linear_map(ddim_sample, true_std, steps)[1] - true_std)


def test_dpm_solver_is_of_second_order_and_ddim_of_first():
    """Twice the steps halve the error at first order and quarter it at second, in the limit of many steps.

    For pixels N(·, 1) x_t has variance 1 at all times, so the exact path has d = 1.
    """
    both = (ddim_sample, dpm_solver_sample)
    error = {(f, n): abs(linear_map(f, 1.0, n)[1] - 1) for f in both for n in (40, 80)}
    assert error[ddim_sample, 40] / error[ddim_sample, 80] == pytest.approx(2, abs=0.1)
    assert error[dpm_solver_sample, 40] / error[dpm_solver_sample, 80] > 3
    assert error[dpm_solver_sample, 40] < 0.05 * error[ddim_sample, 40]


def test_ddim_with_all_steps_and_eta_1_is_ddpm():
    schedule = NoiseSchedule(cosine_betas(60))
    model = gaussian_oracle(schedule, 0.3, 0.2)
    x_T = torch.randn(5, 1, 2, 2, dtype=F64, generator=seeded(1))
    ddpm = sample(ddpm_sample(model, schedule, x_T.shape, generator=seeded(), x_T=x_T))
    ddim = sample(ddim_sample(model, schedule, x_T.shape, steps=60, eta=1.0, generator=seeded(), x_T=x_T))
    torch.testing.assert_close(ddpm, ddim, rtol=0, atol=1e-9)


def test_no_noise_is_drawn_at_t_0():
    schedule, shape = NoiseSchedule(cosine_betas(6)), (3, 1, 2, 2)
    g, reference = seeded(), seeded()
    *_, last = ddpm_sample(gaussian_oracle(schedule, 0.3, 0.2), schedule, shape, generator=g)
    for _ in range(6):  # the start, then after t = 5, 4, 3, 2, 1: none after t = 0
        torch.randn(shape, generator=reference)
    assert torch.equal(g.get_state(), reference.get_state())
    assert last.t == 0
    eps = gaussian_oracle(schedule, 0.3, 0.2)(last.x_t, torch.zeros(3, dtype=torch.int64))
    x_0 = schedule.predict_x0(last.x_t, torch.zeros(3, dtype=torch.int64), eps)
    assert torch.equal(last.x_0, x_0.clamp(-1, 1))


SAMPLERS = [
    pytest.param(lambda *a, **k: ddpm_sample(*a, **k), 30, id="ddpm"),
    pytest.param(lambda *a, **k: ddim_sample(*a, steps=7, eta=0.5, **k), 7, id="ddim"),
    pytest.param(lambda *a, **k: dpm_solver_sample(*a, steps=7, **k), 7, id="dpm"),
]
SHORT = NoiseSchedule(cosine_betas(30))


@pytest.mark.parametrize("sampler, n", SAMPLERS)
def test_states_run_from_pure_noise_to_t_0_within_the_clip(sampler, n):
    def wild(x_t, t):
        return 50 * torch.sin(30 * x_t)

    x_T = torch.randn(2, 1, 3, 3, generator=seeded())
    states = list(sampler(wild, SHORT, x_T.shape, generator=seeded(1), x_T=x_T))
    assert [s.step for s in states] == list(range(n))
    times = [s.t for s in states]
    assert times[0] == 29 and times[-1] == 0 and times == sorted(set(times), reverse=True)
    assert torch.equal(states[0].x_t, x_T)
    assert all(s.x_0.abs().max() <= 1 and s.x_t.isfinite().all() for s in states)
    assert sample(iter(states)) is states[-1].x_0


@pytest.mark.parametrize("sampler, n", SAMPLERS)
def test_samplers_repeat_with_the_seed(sampler, n):
    model = gaussian_oracle(SHORT, 0.3, 0.2)
    shape, seeds = (2, 1, 3, 3), (0, 0, 1)
    first, again, other = (sample(sampler(model, SHORT, shape, generator=seeded(s))) for s in seeds)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.dtype == torch.float32


@pytest.mark.parametrize("sampler, n", SAMPLERS)
def test_samplers_keep_no_graph_and_leave_the_callers_gradients_on(sampler, n):
    net = torch.nn.Conv2d(1, 1, 1)
    for state in sampler(lambda x, t: net(x), SHORT, (1, 1, 2, 2)):
        assert torch.is_grad_enabled() and not state.x_0.requires_grad and not state.x_t.requires_grad


def test_a_fixed_start_makes_ddim_repeatable_without_a_generator():
    model, x_T = gaussian_oracle(SHORT, 0.3, 0.2), torch.randn(2, 1, 3, 3, generator=seeded())
    kept, before = x_T.clone(), torch.get_rng_state()
    a, b = (sample(ddim_sample(model, SHORT, x_T.shape, steps=5, x_T=x_T)) for _ in range(2))
    assert torch.equal(a, b) and torch.equal(x_T, kept) and torch.equal(before, torch.get_rng_state())


def test_time_grids_visit_distinct_steps_from_the_last_to_0():
    for T in (1000, 7, 1):
        for steps in range(1, T + 1):
            times = _time_grid(T, steps)
            assert len(times) == steps and times == sorted(set(times), reverse=True)
            assert times[0] == T - 1 and (steps == 1 or times[-1] == 0)


# ------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    "betas, error",
    [
        ([], ValueError),
        ([[0.1]], ValueError),
        ([0.1, 1.0], ValueError),
        ([0.0, 0.1], ValueError),
        ([0.1, float("nan")], ValueError),
        ([0.9] * 100, ValueError),
        ([1e-17, 0.5], ValueError),  # 1 - 1e-17 is 1: no noise, snr would be infinite
    ],
)
def test_schedule_refuses_bad_betas(betas, error):
    with pytest.raises(error):
        NoiseSchedule(betas)


@pytest.mark.parametrize(
    "make",
    [
        lambda: cosine_betas(0),
        lambda: cosine_betas(10, s=0),
        lambda: linear_betas(10, 0.0),
        lambda: linear_betas(-1),
    ],
)
def test_schedules_refuse_bad_arguments(make):
    with pytest.raises(ValueError):
        make()


def test_bad_times_and_shapes_are_named():
    x = torch.zeros(2, 1, 3, 3)
    with pytest.raises(TypeError, match="int64"):
        COSINE.q_sample(x, torch.tensor([0.0, 1.0]), x)
    with pytest.raises(TypeError, match="int64"):
        COSINE.p2_weight(3)
    for t in ([0, 1000], [-1, 0]):
        with pytest.raises(ValueError, match="0 … 999"):
            COSINE.q_sample(x, torch.tensor(t), x)
    with pytest.raises(ValueError, match="one step for each image"):
        COSINE.q_sample(x, torch.tensor([1]), x)
    with pytest.raises(ValueError, match="one step for each image"):
        COSINE.q_sample(x, torch.tensor(1), x)
    with pytest.raises(ValueError, match="eps has shape"):
        COSINE.q_sample(x, torch.tensor([1, 2]), x[:1])
    with pytest.raises(TypeError, match="floating-point"):
        COSINE.q_sample(x.to(torch.uint8), torch.tensor([1, 2]), x)
    with pytest.raises(ValueError, match="P2"):
        COSINE.p2_weight(torch.tensor([1]), k=-1)


@pytest.mark.parametrize(
    "call, error",
    [
        (lambda m: ddim_sample(m, SHORT, (1, 1), steps=0), ValueError),
        (lambda m: ddim_sample(m, SHORT, (1, 1), steps=31), ValueError),
        (lambda m: ddim_sample(m, SHORT, (1, 1), steps=2.5), ValueError),
        (lambda m: ddim_sample(m, SHORT, (1, 1), steps=5, eta=1.5), ValueError),
        (lambda m: dpm_solver_sample(m, SHORT, (1, 1), steps=-3), ValueError),
        (lambda m: ddpm_sample(m, SHORT, (0, 1)), ValueError),
        (lambda m: ddpm_sample(m, SHORT, (2, 1), x_T=torch.zeros(3, 1)), ValueError),
        (lambda m: ddpm_sample(m, SHORT, (2, 1), x_T=[[0.0], [0.0]]), TypeError),
        (lambda m: ddpm_sample(m, SHORT, (2, 1), generator=5), TypeError),
        (lambda m: ddim_sample(m, SHORT, (2, 1), steps=3, x_T=np.zeros((2, 1))), TypeError),
        (lambda m: ddpm_sample(m, SHORT, (2, 1), device="gpu"), ValueError),
    ],
)
def test_samplers_refuse_bad_arguments_at_the_call(call, error):
    with pytest.raises(error):
        call(lambda x, t: x)  # never iterated


@pytest.mark.parametrize("sampler, n", SAMPLERS)
@pytest.mark.parametrize(
    "wrong, error, message",
    [
        ({"schedule": cosine_betas(30)}, TypeError, "schedule must be a NoiseSchedule.*not Tensor"),
        ({"shape": (16, 0)}, ValueError, "shape must be a whole number, at least 1; got 0"),
        ({"shape": (16, 1.5)}, ValueError, "shape must be a whole number, at least 1; got 1.5"),
        ({"x_T": torch.zeros(2, 1, dtype=torch.int64)}, ValueError, "float noise"),
        ({"device": "gpu"}, ValueError, "cannot use the device 'gpu'"),
    ],
)
def test_every_sampler_names_a_bad_argument_at_the_call(sampler, n, wrong, error, message):
    options = {"schedule": SHORT, "shape": (2, 1)} | wrong
    with pytest.raises(error, match=message):
        sampler(lambda x, t: x, options.pop("schedule"), options.pop("shape"), **options)  # never iterated


def test_a_model_of_the_wrong_shape_is_named():
    with pytest.raises(ValueError, match="must keep shape"):
        sample(ddpm_sample(lambda x, t: x[:1], SHORT, (2, 1, 3, 3)))


def test_a_used_up_sampler_is_named():
    states = ddim_sample(lambda x, t: x, SHORT, (1, 1), steps=2)
    sample(states)
    with pytest.raises(ValueError, match="used up"):
        sample(states)


def test_whole_numbers_of_numpy_are_whole_numbers():
    assert torch.equal(cosine_betas(np.int64(100)), cosine_betas(100))
    assert torch.equal(linear_betas(np.int32(100)), linear_betas(100))
    states = [ddim_sample(lambda x, t: x, SHORT, shape, steps=steps, generator=torch.Generator().manual_seed(0))
              for shape, steps in (((2, 1), 3), ((np.int64(2), np.int64(1)), np.int64(3)))]  # fmt: skip
    assert torch.equal(*map(sample, states))
    for wrong in (True, 100.0, "100", None):
        with pytest.raises(ValueError, match="T must be a whole number"):
            cosine_betas(wrong)


def test_the_schedule_of_the_recipe_is_the_default():
    assert torch.equal(NoiseSchedule().betas, cosine_betas())


def test_a_model_in_double_precision_is_sampled_in_it():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

        def forward(self, x_t, t):
            return self.scale * x_t

    for sampler, options in ((ddpm_sample, {}), (ddim_sample, {"steps": 3}), (dpm_solver_sample, {"steps": 3})):
        assert sample(sampler(Model(), SHORT, (2, 1), **options)).dtype == torch.float64


def test_off_the_cpu_the_loss_weight_needs_no_float64():
    """Apple's GPUs have none: the weight is computed on the table and rounded, so a device sees float32 only."""
    on_meta = SHORT.p2_weight(torch.zeros(3, dtype=torch.int64, device="meta"))
    assert on_meta.device.type == "meta" and on_meta.dtype == torch.float32
    assert SHORT.p2_weight(torch.tensor([0, 1])).dtype == torch.float64
