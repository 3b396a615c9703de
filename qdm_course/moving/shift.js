// The parameter-shift rule: drag the angle; f, the shifted points, and what two and four terms make of them.
const { COLOURS, fixed, line, menu, output, picture, range, row, simulate, slider, svg } = moving;

const C = [1, -1].map((sign) => (1 + sign * Math.SQRT2) / (4 * Math.SQRT2)), HALF = Math.PI / 2;

function slopes(f, angle) {  // two-term rule, four-term rule, and a fine central difference as the truth
  const d = (s) => f(angle + s) - f(angle - s);
  return { two: d(HALF) / 2, four: C[0] * d(HALF) + C[1] * d(3 * HALF), truth: (8 * d(1e-3) - d(2e-3)) / 12e-3 };
}

function draw(root, data) {
  let angle = 0.4, name = Object.keys(data.circuits)[0];
  const drawing = picture(560, 230), said = output();
  const at = (x, y) => [280 + (x * 260) / (4 * Math.PI), 115 - 95 * y];
  const update = () => {
    const f = (a) => simulate(data.circuits[name], data.inputs, [a, ...data.weights])[0];
    const found = slopes(f, angle);
    const curve = range(161).map((k) => (k / 80 - 1) * 4 * Math.PI).map((a) => at(a, f(a)).join(","));
    const parts = [line(20, 115, 540, 115, "currentColor", 1, { opacity: 0.35 }),
      svg("polyline", { points: curve.join(" "), fill: "none", stroke: COLOURS.blue, "stroke-width": 3 })];
    [[HALF, "vermilion"], [-HALF, "vermilion"], [3 * HALF, "green"], [-3 * HALF, "green"]].forEach(([s, colour]) => {
      const [cx, cy] = at(angle + s, f(angle + s));
      parts.push(svg("circle", { cx, cy, r: 7, fill: COLOURS[colour] }));
    });
    const [x, y] = at(angle, f(angle)), run = 40, rise = (found.truth * run * 95 * 4 * Math.PI) / 260;
    parts.push(line(x - run, y + rise, x + run, y - rise, "currentColor", 2));
    parts.push(svg("circle", { cx: x, cy: y, r: 7, fill: "currentColor" }));
    drawing.replaceChildren(...parts);
    said.textContent = `φ = ${fixed(angle, 2)}   f(φ) = ${fixed(f(angle), 4)}\nslope ${fixed(found.truth, 4)}   `
      + `two terms (red points) ${fixed(found.two, 4)}   four terms (red and green) ${fixed(found.four, 4)}`;
    drawing.setAttribute("aria-label", said.textContent);
  };
  root.append(
    row(menu("gate", Object.keys(data.circuits).map((key) => [key, key]), name, (key) => { name = key; update(); }),
      slider("angle φ", -6.28, 6.28, 0.01, angle, (v) => { angle = v; update(); })),
    drawing, said);
  update();
}

Object.assign(moving, { slopes });
moving.figures.shift = draw;
