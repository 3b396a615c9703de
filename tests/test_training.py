"""The loss, the moving average and the loop, on models small enough to know what must come out."""

import itertools
import re

import pytest
import torch
from torch import nn

from qdm_lib.diffusion import NoiseSchedule, cosine_betas
from qdm_lib.training import EMA, TrainConfig, TrainStep, make_optimizer, p2_loss, train

SCHEDULE = NoiseSchedule(cosine_betas(100))


class Toy(nn.Module):
    """eps = conv(x_t) + table[t]: learns something, in milliseconds."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.table = nn.Embedding(100, 1)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("last_mean", torch.zeros(()))

    def forward(self, x_t, t):
        if self.training:
            self.calls += 1
            self.last_mean = x_t.detach().mean()
        return self.conv(x_t) + self.table(t)[:, :, None, None]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(seed=0, n=8):
    g = seeded(seed)
    while True:
        yield torch.rand(n, 1, 4, 4, generator=g) * 2 - 1


def run(steps, seed=0, model=None, **options):
    model = model or Toy()
    ema, optimizer = EMA(model), make_optimizer(model)
    options = {"generator": seeded(seed), "steps": steps} | options
    done = list(train(model, SCHEDULE, images(), optimizer, ema, **options))
    return model, ema, optimizer, done


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# ----------------------------------------------------------------------------------------------- loss


def test_p2_loss_is_the_formula():
    g = seeded()
    x_0, eps = torch.randn(2, 5, 1, 4, 4, generator=g, dtype=torch.float64)
    t = torch.tensor([0, 1, 50, 98, 99])
    loss = p2_loss(lambda x_t, t: 0.5 * x_t, SCHEDULE, x_0, t, eps)
    wanted = 0.0
    for i in range(5):
        abar = SCHEDULE.alphas_cumprod[t[i]]
        x_t = abar.sqrt() * x_0[i] + (1 - abar).sqrt() * eps[i]
        wanted += (1 - abar) * ((eps[i] - 0.5 * x_t) ** 2).mean() / 5
    torch.testing.assert_close(loss, wanted)
    plain = p2_loss(lambda x_t, t: 0.5 * x_t, SCHEDULE, x_0, t, eps, gamma=0)
    x_t = SCHEDULE.q_sample(x_0, t, eps)
    torch.testing.assert_close(plain, ((eps - 0.5 * x_t) ** 2).mean())


def test_p2_loss_refuses_a_model_of_the_wrong_shape():
    x, t = torch.zeros(2, 1, 4, 4), torch.tensor([1, 2])
    with pytest.raises(ValueError, match="must keep shape"):
        p2_loss(lambda x_t, t: x_t[:, :, :1], SCHEDULE, x, t, x)


def test_autocast_lowers_the_precision_of_the_model_only():
    seen = []

    class Spy(Toy):
        def forward(self, x_t, t):
            out = super().forward(x_t, t)
            seen.append((x_t.dtype, self.conv(x_t).dtype))
            return out

    _, _, _, done = run(2, model=Spy(), autocast=torch.bfloat16)
    assert seen == [(torch.float32, torch.bfloat16)] * 2
    exact = run(2)[3]
    assert done[1].loss == pytest.approx(exact[1].loss, rel=0.02) and done[1].loss != exact[1].loss


# ------------------------------------------------------------------------------------- moving average


def test_ema_follows_a_hand_written_reference():
    model = nn.Linear(1, 1, bias=False)
    ema = EMA(model)
    values = torch.randn(400, generator=seeded()).tolist()
    average = None
    for step, value in enumerate(values):
        with torch.no_grad():
            model.weight.fill_(value)
        ema.update(model, step)
        if step <= 99:
            average = value
        elif step in range(109, 400, 10):
            decay = min(0.995, 1 - 1 / (step - 100) ** (2 / 3))
            average = decay * average + (1 - decay) * value
        assert ema.state_dict()["weight"].item() == pytest.approx(average, abs=1e-6), step


def test_ema_decay_rises_to_its_limit():
    ema = EMA(nn.Linear(1, 1))
    assert [ema.decay_at(s) for s in (0, 99, 100, 101)] == [0, 0, 0, 0]
    assert ema.decay_at(109) == pytest.approx(1 - 9 ** (-2 / 3))  # 0.769
    assert ema.decay_at(2900) < 0.995 and ema.decay_at(2940) == 0.995  # 0.005^(-3/2) = 2828.4
    early = EMA(nn.Linear(1, 1), TrainConfig(ema_start=9, ema_every=10))
    assert early.decay_at(9) == 0  # the first average can fall on the step where the formula has 0^(-2/3)


def test_ema_copies_buffers_and_averages_weights():
    config = TrainConfig(ema_start=1, ema_every=1, ema_decay=0.5)
    model = Toy()
    ema = EMA(model, config)
    before = model.conv.bias.detach().clone()
    with torch.no_grad():
        model.conv.bias += 1
        model.calls += 7
        model.last_mean.fill_(3.0)
    ema.update(model, 5)
    torch.testing.assert_close(ema.state_dict()["conv.bias"], before + 0.5)
    assert ema.state_dict()["calls"] == 7 and ema.state_dict()["last_mean"] == 3.0


def test_ema_applied_to_gives_the_weights_back_even_after_an_error():
    model, ema, _, _ = run(105)
    own = {k: v.clone() for k, v in model.state_dict().items()}
    assert not same(own, ema.state_dict())
    with pytest.raises(KeyError), ema.applied_to(model) as m:
        assert m is model and same(model.state_dict(), ema.state_dict())
        raise KeyError
    assert same(model.state_dict(), own)
    ema.copy_to(model)
    assert same(model.state_dict(), ema.state_dict())


def test_ema_leaves_another_model_as_it_was():
    _, ema, _, _ = run(3)
    other = Toy(seed=1)
    other.table = nn.Embedding(100, 2)  # the convolution would fit
    own = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(ValueError, match=r"another model: 1 entries.*table\.weight"), ema.applied_to(other):
        pass
    assert same(other.state_dict(), own)
    with pytest.raises(ValueError, match="another model"):
        ema.copy_to(other)
    assert same(other.state_dict(), own)


def test_ema_state_goes_around_and_refuses_another_model():
    _, ema, _, _ = run(105)
    other = EMA(Toy(seed=1))
    other.load_state_dict(ema.state_dict())
    assert same(other.state_dict(), ema.state_dict())
    kept = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(ValueError, match="another model: 7 entries.*bias"):
        other.load_state_dict(nn.Linear(2, 2).state_dict())
    assert same(other.state_dict(), kept)


def test_ema_looks_through_a_compiled_model():
    model = Toy()
    compiled = torch.compile(model)  # compiles at the first call only, which never comes
    ema = EMA(compiled)
    assert ema.state_dict().keys() == model.state_dict().keys()
    with ema.applied_to(compiled):
        pass


# ----------------------------------------------------------------------------------------------- loop


def test_training_repeats_with_the_seed():
    a, b, c = run(20), run(20), run(20, seed=1)
    assert a[3] == b[3] != c[3]
    assert all(same(a[i].state_dict(), b[i].state_dict()) for i in (0, 1))  # weights and average


def test_steps_are_counted_from_start_step():
    done = run(3, start_step=40)[3]
    assert [s.step for s in done] == [41, 42, 43]
    assert all(isinstance(s, TrainStep) and s.loss > 0 and s.grad_norm > 0 for s in done)


def test_two_pieces_make_the_same_run_as_one():
    whole = run(12)
    model, batches, g = Toy(), images(), seeded()
    ema, optimizer = EMA(model), make_optimizer(model)
    done = []
    for step in train(model, SCHEDULE, batches, optimizer, ema, generator=g, steps=100):
        done.append(step)
        if step.step == 5:
            break  # everything stands after step 5
    done += train(model, SCHEDULE, batches, optimizer, ema, generator=g, start_step=5, steps=7)
    assert done == whole[3] and same(model.state_dict(), whole[0].state_dict())
    assert same(ema.state_dict(), whole[1].state_dict())


def test_one_step_is_adam_on_the_loss():
    model, reference = Toy(), Toy()
    optimizer = make_optimizer(model)
    (step,) = train(model, SCHEDULE, images(), optimizer, None, generator=seeded(), steps=1)

    g, x_0 = seeded(), next(images())
    t = torch.randint(0, 100, (8,), generator=g)
    loss = p2_loss(reference, SCHEDULE, x_0, t, torch.randn(x_0.shape, generator=g))
    grads = torch.autograd.grad(loss, list(reference.parameters()))
    assert step.loss == loss.item()
    assert step.grad_norm == pytest.approx(sum((x**2).sum() for x in grads).sqrt().item(), rel=1e-6)
    for before, after, grad in zip(reference.parameters(), model.parameters(), grads, strict=True):
        # Adam's first step is lr · g/(|g| + 1e-8)
        torch.testing.assert_close(after, before - 1e-3 * grad / (grad.abs() + 1e-8), rtol=0, atol=1e-6)


def test_the_loss_falls():
    done = run(400)[3]
    first, last = ([s.loss for s in done[part]] for part in (slice(0, 50), slice(350, 400)))
    assert sum(last) < 0.75 * sum(first)


def test_training_goes_on_in_train_mode_after_a_pause_in_eval_mode():
    model = Toy()
    for _ in train(model, SCHEDULE, images(), make_optimizer(model), None, generator=seeded(), steps=3):
        model.eval()
    assert model.calls == 3


@pytest.mark.parametrize("poison", ["image", "weight"])
def test_a_loss_that_is_no_number_stops_before_the_weights_are_touched(poison):
    model = Toy()
    optimizer, ema = make_optimizer(model), EMA(model)
    bad = torch.full((8, 1, 4, 4), float("nan"))
    batches = itertools.chain(itertools.islice(images(), 3), [bad if poison == "image" else next(images())])
    steps = train(model, SCHEDULE, batches, optimizer, ema, generator=seeded(), steps=4)
    for _ in range(3):
        next(steps)
    if poison == "weight":
        with torch.no_grad():
            model.conv.weight[0, 0, 0, 0] = float("inf")
    kept = {k: v.clone() for k, v in model.state_dict().items() if "conv" in k or "table" in k}
    moments = [v["exp_avg"].clone() for v in optimizer.state.values()]
    with pytest.raises(FloatingPointError, match=r"step 4.*weights of step 3.*below 0\.001"):
        next(steps)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in kept.items())
    assert all(torch.equal(v["exp_avg"], m) for v, m in zip(optimizer.state.values(), moments, strict=True))
    assert all(v["step"] == 3 for v in optimizer.state.values())


# ------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    "options, error",
    [
        ({"steps": 0}, ValueError),
        ({"steps": -1}, ValueError),
        ({"steps": 1.5}, ValueError),
        ({"start_step": -1}, ValueError),
        ({"generator": 3}, TypeError),
        ({"autocast": torch.float16}, ValueError),
    ],
)
def test_train_refuses_bad_arguments_at_the_call(options, error):
    model = Toy()
    with pytest.raises(error):
        train(model, SCHEDULE, images(), make_optimizer(model), None, **{"generator": seeded()} | options)


def test_train_refuses_an_optimizer_or_an_average_of_another_model():
    model, other, wide = Toy(), Toy(seed=1), Toy()
    wide.table = nn.Embedding(100, 2)
    rest = {"generator": seeded(), "steps": 1}
    with pytest.raises(ValueError, match=r"does not hold 3 weights of the model .*conv\.weight.*make_optimizer"):
        train(model, SCHEDULE, images(), make_optimizer(other), None, **rest)
    with pytest.raises(ValueError, match=r"averaged weights belong to another model.*table\.weight"):
        train(model, SCHEDULE, images(), make_optimizer(model), EMA(wide), **rest)
    part = torch.optim.Adam(model.conv.parameters())
    with pytest.raises(ValueError, match=r"does not hold 1 weights .*table\.weight"):
        train(model, SCHEDULE, images(), part, None, **rest)
    model.table.requires_grad_(False)
    kept = model.conv.weight.detach().clone()
    next(train(model, SCHEDULE, images(), part, EMA(other), **rest))  # an average of the same architecture will do
    assert not torch.equal(model.conv.weight, kept)


def test_train_knows_the_weights_of_a_compiled_model():
    model = Toy()
    compiled = torch.compile(model, backend="eager")
    for optimizer in (make_optimizer(model), make_optimizer(compiled)):
        next(train(compiled, SCHEDULE, images(), optimizer, EMA(model), generator=seeded(), steps=1))


def test_train_refuses_bare_betas_at_the_call():
    model = Toy()
    with pytest.raises(TypeError, match="schedule must be a NoiseSchedule"):
        train(model, cosine_betas(100), images(), make_optimizer(model), None, generator=seeded())


def test_batches_that_end_early_are_named_unless_no_number_was_asked():
    model = Toy()
    start = (model, SCHEDULE)
    rest = {"optimizer": make_optimizer(model), "ema": None, "generator": seeded()}
    assert len(list(train(*start, itertools.islice(images(), 2), **rest))) == 2
    with pytest.raises(ValueError, match="ended after step 2; 3 were wanted"):
        list(train(*start, itertools.islice(images(), 2), **rest, steps=3))


@pytest.mark.parametrize(
    "batch, error, message",
    [
        ([torch.zeros(2, 1, 4, 4), torch.zeros(2)], TypeError, "labels"),
        (torch.rand(2, 1, 4, 4), ValueError, "lie in .-1, 1.; these reach from 0"),
        (torch.rand(2, 1, 4, 4) + 1e-3, ValueError, "to_model_range"),
        (torch.zeros(2, 1, 4, 4), ValueError, "reach from 0 to 0"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), TypeError, "floating-point"),
        (torch.zeros(0, 1, 4, 4), ValueError, r"hold something, not \(0, 1, 4, 4\)"),
        (torch.zeros(2), ValueError, r"shape \(B, …\)"),
        (torch.arange(32.0).view(2, 1, 4, 4) * 8, ValueError, r"in \[-1, 1\]; these reach from 0 to 248"),
    ],
)
def test_batches_of_the_wrong_kind_are_named(batch, error, message):
    model = Toy()
    with pytest.raises(error, match=message):
        next(train(model, SCHEDULE, [batch], make_optimizer(model), None, generator=seeded()))


def test_augmented_images_may_pass_the_range():
    model, batch = Toy(), torch.full((2, 1, 4, 4), -1.2)
    assert next(train(model, SCHEDULE, [batch], make_optimizer(model), None, generator=seeded())).step == 1


@pytest.mark.parametrize(("mean", "deviation"), [(0.286, 0.353), (0.1307, 0.3081), (0.3, 0.2)])
def test_images_normalised_to_mean_0_are_warned_of(mean, deviation):
    model, batch = Toy(), (torch.linspace(0, 1, 32).view(2, 1, 4, 4) - mean) / deviation
    with pytest.warns(UserWarning, match=r"pass ±1.5, as after a normalisation to mean 0") as said:
        list(train(model, SCHEDULE, [batch, batch / 1.01], make_optimizer(model), None, generator=seeded()))
    assert len({str(each.message) for each in said}) == 1  # Python shows equal warnings once


@pytest.mark.parametrize(
    "options, error",
    [
        ({"learning_rate": 0}, ValueError),
        ({"learning_rate": float("nan")}, ValueError),
        ({"betas": (0.9, 1.0)}, ValueError),
        ({"betas": (0.9,)}, ValueError),
        ({"betas": 0.9}, ValueError),
        ({"betas": ("a", "b")}, ValueError),
        ({"learning_rate": "1e-3"}, ValueError),
        ({"p2_gamma": "1"}, ValueError),
        ({"ema_decay": None}, ValueError),
        ({"ema_power": [1]}, ValueError),
        ({"batch_size": 0}, ValueError),
        ({"batch_size": 12.5}, ValueError),
        ({"p2_k": -1}, ValueError),
        ({"p2_gamma": float("inf")}, ValueError),
        ({"ema_decay": 1.0}, ValueError),
        ({"ema_every": 0}, ValueError),
        ({"ema_start": -1}, ValueError),
        ({"ema_power": 0}, ValueError),
    ],
)
def test_train_config_is_checked(options, error):
    (name,) = options
    with pytest.raises(error, match=f"{name} must be .*{re.escape(repr(options[name]))}"):
        TrainConfig(**options)


def test_train_config_reads_its_own_json():
    assert TrainConfig(betas=[0.9, 0.99]) == TrainConfig()


def test_a_model_without_weights_to_train_is_named():
    with pytest.raises(ValueError, match="no weights to train"):
        make_optimizer(Toy().requires_grad_(False))
