// One qubit: press gates, see the state, its point on the Bloch sphere, and what shots return.
const { COLOURS, button, fixed, label, line, output, picture, random, row, slider, svg } = moving;

function qubit(gates) {  // gates: [[name, angle], …] on |0⟩ → amplitudes and the point on the Bloch sphere
  const state = moving.start(1);
  for (const [name, angle] of gates) moving.apply(state, 1, name, [0], angle);
  const [a, b] = state.re, [c, d] = state.im;  // ψ_0 = a + ic, ψ_1 = b + id
  return { amplitudes: [[a, c], [b, d]], p: [a * a + c * c, b * b + d * d],
           bloch: [2 * (a * b + c * d), 2 * (a * d - b * c), a * a + c * c - b * b - d * d] };
}

function shots(p1, n, seed) {  // how often bit 1 comes out of n shots
  const next = random(seed);
  let ones = 0;
  for (let k = 0; k < n; k++) ones += next() < p1 ? 1 : 0;
  return ones;
}

function sphere([x, y, z]) {  // x looks towards the reader
  const at = [105 + 80 * (y - 0.35 * x), 105 - 80 * (z - 0.25 * x)], faint = { opacity: 0.35 };
  return [
    svg("circle", { cx: 105, cy: 105, r: 80, fill: COLOURS["sky blue"], "fill-opacity": 0.12, stroke: "currentColor" }),
    svg("ellipse", { cx: 105, cy: 105, rx: 80, ry: 20, fill: "none", stroke: "currentColor", ...faint }),
    line(105, 25, 105, 185, "currentColor", 1, faint), line(25, 105, 185, 105, "currentColor", 1, faint),
    line(105, 105, at[0], at[1], COLOURS.vermilion, 3),
    svg("circle", { cx: at[0], cy: at[1], r: 5, fill: COLOURS.vermilion }),
    label(105, 18, "|0⟩"), label(105, 203, "|1⟩"),
  ];
}

function bars(q, ones, n) {
  return [0, 1].flatMap((bit) => {
    const left = 215 + 95 * bit, count = bit ? ones : n - ones, high = (count / n) * 140, want = 170 - q.p[bit] * 140;
    return [
      svg("rect", { x: left, y: 170 - high, width: 70, height: high, fill: COLOURS[bit ? "orange" : "sky blue"] }),
      line(left - 8, want, left + 78, want, "currentColor", 2), label(left + 35, 188, `bit ${bit}: ${count}`),
    ];
  });
}

function draw(root) {
  let gates = [["RX", Math.PI / 3]], angle = Math.PI / 3, n = 100, seed = 1;
  const drawing = picture(400, 210), said = output();
  const update = () => {
    const q = qubit(gates), ones = shots(q.p[1], n, seed);
    drawing.replaceChildren(...sphere(q.bloch), ...bars(q, ones, n),
      label(297, 14, `${n} shots; lines: P(0), P(1)`));
    const amplitude = ([re, im]) => `${fixed(re)} ${im < -5e-4 ? "−" : "+"} ${fixed(Math.abs(im))}i`;
    const names = gates.map(([g, a]) => (a ? `${g}(${fixed(a, 2)})` : g)).join(", ");
    said.textContent = `circuit: ${names || "no gate yet"}\n`
      + `ψ = (${q.amplitudes.map(amplitude).join(", ")})\n⟨Z⟩ = ${fixed(q.p[0] - q.p[1])}, from ${n} shots `
      + `${fixed(1 - (2 * ones) / n)}`;
    drawing.setAttribute("aria-label", said.textContent);
  };
  const press = (text, act) => button(text, () => { act(); update(); });
  const add = (name) => press(name, () => gates.push([name, angle]));
  root.append(
    row(add("RX"), add("RY"), add("RZ"), press("X", () => gates.push(["PauliX", 0])),
      press("H", () => gates.push(["Hadamard", 0])), press("undo", () => gates.pop()),
      press("start again", () => { gates = []; }), press("measure again", () => { seed += 1; })),
    row(slider("angle of the next rotation", -3.14, 3.14, 0.01, 1.05, (v) => { angle = v; update(); }),
      slider("shots, as a power of ten", 0, 4, 0.5, 2, (v) => { n = Math.round(10 ** v); update(); })),
    drawing, said);
  update();
}

Object.assign(moving, { qubit, shots });
moving.figures.qubit = draw;
