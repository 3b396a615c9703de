// The reverse process in one dimension: DDIM … DDPM with the exact noise of a mixture of Gaussians, as
// qdm_lib.diffusion.ddim_sample walks it. A mixture: {weights, means, width}.
const { COLOURS, box, button, fixed, label, line, menu, normals, output } = moving;
const { picture, player, random, range, row, slider, svg } = moving;

function cosineAbar(T, s = 0.008) {  // ᾱ_0 … ᾱ_{T-1} of the cosine schedule, betas clipped at 0.999
  const f = (k) => Math.cos(((k / T + s) / (1 + s)) * (Math.PI / 2)) ** 2, abar = [];
  for (let t = 0, product = 1; t < T; t++) abar.push(product *= 1 - Math.min(0.999, 1 - f(t + 1) / f(t)));
  return abar;
}

function timeGrid(T, steps) {  // `steps` times from T - 1 to 0; halves are rounded to even numbers, as torch does
  const even = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));
  const step = (T - 1) / Math.max(1, steps - 1), half = steps / 2;  // counted from the nearer end, as torch does, too
  return range(steps).map((k) => even(k < half ? T - 1 - step * k : step * (steps - 1 - k)));
}

function terms({ weights, means, width }, abar, x) {  // each component's share of the density of x_t, and the variance
  const v = abar * width ** 2 + 1 - abar, root = Math.sqrt(abar);
  const away = means.map((m) => x - root * m), least = Math.min(...away.map((d) => d * d));
  // The smallest exponent is taken out: far away all shares would be 0 otherwise.
  return { v, away, least, share: away.map((d, k) => weights[k] * Math.exp((least - d * d) / (2 * v))) };
}

function density(mixture, abar, x) {
  const { v, least, share } = terms(mixture, abar, x);
  return share.reduce((a, b) => a + b) * Math.exp(-least / (2 * v)) / Math.sqrt(2 * Math.PI * v);
}

function exactEps(mixture, abar, x) {  // E[ε | x_t = x]
  const { v, away, share } = terms(mixture, abar, x), all = share.reduce((a, b) => a + b);
  return Math.sqrt(1 - abar) / v * share.reduce((sum, s, k) => sum + s * away[k], 0) / all;
}

// The states [{t, x}, …]: x_t at every time that is visited, and at last the samples x_0, with t null.
// start: the noise x_T; noise(k): as many numbers for step k, asked for where η > 0; error: is added to every ε.
function reverse({ mixture, abar, steps, eta, clamp, error }, start, noise) {
  const times = timeGrid(abar.length, steps), states = [];
  let x = Float64Array.from(start);
  times.forEach((t, k) => {
    states.push({ t, x });
    const a = abar[t], last = k + 1 === steps, b = last ? 1 : abar[times[k + 1]];
    const sigma = last ? 0 : eta * Math.sqrt(((1 - b) / (1 - a)) * (1 - a / b));
    const z = sigma > 0 ? noise(k) : null;
    x = x.map((value, i) => {
      let guess = (value - Math.sqrt(1 - a) * (exactEps(mixture, a, value) + error)) / Math.sqrt(a);
      if (clamp) guess = Math.max(-1, Math.min(1, guess));
      const eps = (value - Math.sqrt(a) * guess) / Math.sqrt(1 - a);  // anew, since the guess may have been clamped
      if (last) return guess;
      return Math.sqrt(b) * guess + Math.sqrt(Math.max(0, 1 - b - sigma ** 2)) * eps + (z ? sigma * z[i] : 0);
    });
  });
  return [...states, { t: null, x }];
}

function distance(mixture, samples) {  // Wasserstein-1: mean |sorted sample − quantile of the same rank|
  const sorted = Float64Array.from(samples).sort(), fine = 4000, step = 2.4 / fine;
  let k = 0, below = 0, sum = 0;
  sorted.forEach((value, i) => {
    for (; below < (i + 0.5) / sorted.length && k < fine; k++) {
      below += step * density(mixture, 1, -1.2 + (k + 0.5) * step);
    }
    sum += Math.abs(value - (-1.2 + k * step));
  });
  return sum / sorted.length;
}

const PARTICLES = 400, PATHS = 24, REACH = 3, BINS = 60;
const across = (x) => 200 + (Math.max(-REACH, Math.min(REACH, x)) * 190) / REACH;  // what is beyond lies on the edge

function histogram(x, mixture, abar) {  // bars, and the exact density as a line; the scale follows the highest of both
  const counts = Array(BINS).fill(0), width = (2 * REACH) / BINS;
  const grid = range(241).map((k) => -REACH + k * 0.025);
  x.forEach((v) => { counts[Math.max(0, Math.min(BINS - 1, Math.floor((v + REACH) / width)))] += 1; });
  const shares = counts.map((n) => n / (x.length * width)), exact = grid.map((at) => density(mixture, abar, at));
  const top = Math.max(0.6, ...shares, ...exact), high = (d) => 110 - (100 * d) / top;
  const bars = shares.map((share, k) => svg("rect", {
    x: across(-REACH + k * width), y: high(share), width: 380 / BINS - 0.5, height: 110 - high(share),
    fill: COLOURS["sky blue"],
  }));
  const points = grid.map((at, k) => `${across(at)},${high(exact[k])}`).join(" ");
  const ticks = [-2, -1, 0, 1, 2].flatMap((at) => {
    const x = across(at);
    return [line(x, 110, x, 114), label(x, 126, fixed(at, 0))];
  });
  return [...bars, svg("polyline", { points, fill: "none", stroke: COLOURS.vermilion, "stroke-width": 2 }),
    line(10, 110, 390, 110), ...ticks];
}

function paths(states, frame) {  // of some particles; time runs downwards, from noise to x_0
  const y = (k) => 140 + (150 * k) / (states.length - 1), parts = [];
  const stride = Math.max(1, Math.round(states.length / 200));  // more points than pixels would show nothing
  const frames = range(frame + 1).filter((k) => k % stride === 0 || k === frame);
  for (let i = 0; i < PATHS; i++) {
    const points = frames.map((k) => `${across(states[k].x[i])},${y(k)}`).join(" ");
    parts.push(svg("polyline", { points, fill: "none", stroke: "currentColor", opacity: 0.5 }));
    parts.push(svg("circle", { cx: across(states[frame].x[i]), cy: y(frame), r: 3.5, fill: COLOURS.blue }));
  }
  return parts;
}

function draw(root, { mixture, T }) {
  const abar = cosineAbar(T), drawing = picture(400, 300), said = output();
  const chosen = { mixture, abar, steps: 50, eta: 0, clamp: true, error: 0 };
  let states = [], seed = 1;
  const film = player(80, (frame, playing) => {
    const { t, x } = states[frame], left = t === null ? 1 : abar[t];
    const say = { "text-anchor": "start" };
    drawing.replaceChildren(...histogram(x, mixture, left), ...paths(states, frame), label(6, 146, "noise", say),
      label(6, 294, "x_0", say));
    said.setAttribute("aria-live", playing ? "off" : "polite");
    said.textContent = `${chosen.steps} steps, η = ${fixed(chosen.eta, 2)}, error of ε ${fixed(chosen.error, 3)}, x̂_0 `
      + `${chosen.clamp ? "clamped" : "not clamped"}\n` + (t === null ? "x_0, the samples: distance to the mixture "
      + `${fixed(distance(mixture, x), 4)}` : `t = ${t}, share of the signal ᾱ = ${left.toPrecision(3)}`);
    drawing.setAttribute("aria-label", `${said.textContent}\nHistogram of ${PARTICLES} particles, ${PATHS} paths.`);
  });
  const run = (toTheEnd = true) => {
    const next = random(seed), start = normals(PARTICLES, next);
    states = reverse(chosen, start, () => normals(PARTICLES, next));
    film.reset(states.length, toTheEnd ? states.length - 1 : 0);
  };
  const set = (name) => (value) => { chosen[name] = value; run(); };
  root.append(
    row(menu("steps", [5, 10, 20, 50, 200, T].map((n) => [n, n]), chosen.steps, (n) => set("steps")(Number(n))),
      slider("η, from DDIM (0) to DDPM (1)", 0, 1, 0.05, 0, set("eta")),
      slider("error added to ε", 0, 0.05, 0.0025, 0, set("error")), box("clamp x̂_0", true, set("clamp"))),
    film.bar, row(button("other noise", () => { seed += 1; run(false); })), drawing, said);
  run(false);
}

Object.assign(moving, { cosineAbar, timeGrid, density, exactEps, reverse, distance });
moving.figures.reverse = draw;
