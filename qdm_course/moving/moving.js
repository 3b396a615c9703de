// The figures that move without a kernel: plain JavaScript, no library, nothing downloaded. `qdm_course.moving`
// puts this file, a figure's data and a still picture into one piece of HTML. Under node it exports its functions.
const moving = (() => {
  // --------------------------------------------------------------------------- a circuit, as qdm_lib.simulator runs it
  // A gate: {name, wires, param: null or ["input" | "weight", k], scale, offset}; the last wire is the target.

  function matrix(name, angle) {  // [a, b, c, d], each [real, imaginary]; the gate's name without its control
    const c = Math.cos(angle / 2), s = Math.sin(angle / 2), h = Math.SQRT1_2;
    if (name === "RX") return [[c, 0], [0, -s], [0, -s], [c, 0]];
    if (name === "RY") return [[c, 0], [-s, 0], [s, 0], [c, 0]];
    if (name === "RZ") return [[c, -s], [0, 0], [0, 0], [c, s]];
    if (name === "PauliX" || name === "NOT") return [[0, 0], [1, 0], [1, 0], [0, 0]];
    if (name === "Hadamard") return [[h, 0], [h, 0], [h, 0], [-h, 0]];
    throw new Error(`no gate ${name}`);
  }

  function apply(state, n, name, wires, angle) {  // changes state = {re, im}; axis 0 is the first wire
    const [a, b, c, d] = matrix(wires.length > 1 ? name.slice(1) : name, angle);
    const bit = wires.map((w) => 1 << (n - 1 - w)), target = bit.pop(), control = bit.reduce((x, y) => x | y, 0);
    const { re, im } = state;
    for (let i = 0; i < re.length; i++) {
      if (i & target || (i & control) !== control) continue;
      const j = i | target, x = re[i], y = im[i], u = re[j], v = im[j];
      re[i] = a[0] * x - a[1] * y + b[0] * u - b[1] * v;
      im[i] = a[0] * y + a[1] * x + b[0] * v + b[1] * u;
      re[j] = c[0] * x - c[1] * y + d[0] * u - d[1] * v;
      im[j] = c[0] * y + c[1] * x + d[0] * v + d[1] * u;
    }
  }

  function start(n) {
    const state = { re: new Float64Array(1 << n), im: new Float64Array(1 << n) };
    state.re[0] = 1;
    return state;
  }

  function simulate(circuit, inputs, weights) {  // ⟨Z⟩ of every wire
    const n = circuit.n_wires, state = start(n), values = { input: inputs, weight: weights };
    for (const g of circuit.gates) {
      const angle = g.offset + (g.param ? g.scale * values[g.param[0]][g.param[1]] : 0);
      apply(state, n, g.name, g.wires, angle);
    }
    return [...Array(n).keys()].map((w) => {
      let z = 0;
      for (let i = 0; i < state.re.length; i++) {
        const p = state.re[i] ** 2 + state.im[i] ** 2;
        z += i & (1 << (n - 1 - w)) ? -p : p;
      }
      return z;
    });
  }

  // --------------------------------------------------------------------------- the numbers of the two figures

  function qubit(gates) {  // gates: [[name, angle], …] on |0⟩ → amplitudes and the point on the Bloch sphere
    const state = start(1);
    for (const [name, angle] of gates) apply(state, 1, name, [0], angle);
    const [a, b] = state.re, [c, d] = state.im;  // ψ_0 = a + ic, ψ_1 = b + id
    return { amplitudes: [[a, c], [b, d]], p: [a * a + c * c, b * b + d * d],
             bloch: [2 * (a * b + c * d), 2 * (a * d - b * c), a * a + c * c - b * b - d * d] };
  }

  function shots(p1, n, seed) {  // how often bit 1 comes out of n shots; the same seed gives the same answer
    let ones = 0, s = seed >>> 0;
    for (let k = 0; k < n; k++) {  // mulberry32
      s = (s + 0x6d2b79f5) >>> 0;
      let t = Math.imul(s ^ (s >>> 15), 1 | s);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      ones += ((t ^ (t >>> 14)) >>> 0) / 4294967296 < p1 ? 1 : 0;
    }
    return ones;
  }

  const C = [1, -1].map((sign) => (1 + sign * Math.SQRT2) / (4 * Math.SQRT2)), HALF = Math.PI / 2;

  function slopes(f, angle) {  // two-term rule, four-term rule, and a fine central difference as the truth
    const d = (s) => f(angle + s) - f(angle - s);
    return { two: d(HALF) / 2, four: C[0] * d(HALF) + C[1] * d(3 * HALF), truth: (8 * d(1e-3) - d(2e-3)) / 12e-3 };
  }

  // --------------------------------------------------------------------------- drawing

  const NS = "http://www.w3.org/2000/svg";
  const svg = (tag, attributes, text) => {
    const node = document.createElementNS(NS, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const html = (tag, attributes = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), attributes);
    node.append(...children);
    return node;
  };
  const slider = (label, min, max, step, value, change) => {
    const input = html("input", { type: "range", min, max, step, value, oninput: () => change(Number(input.value)) });
    input.setAttribute("aria-label", label);
    return html("label", { style: "display:inline-block;margin-right:1.5em" }, `${label} `, input);
  };
  const fixed = (x, digits = 3) => (Math.abs(x) < 5e-7 ? 0 : x).toFixed(digits).replace("-", "−");

  function drawQubit(root) {
    let gates = [], angle = Math.PI / 3, n = 100, seed = 1;
    const picture = svg("svg", { viewBox: "0 0 520 210", width: 520, role: "img", style: "max-width:100%" });
    const said = html("output", { style: "display:block;white-space:pre-line;font-family:monospace" });
    const update = () => {
      const q = qubit(gates), [x, y, z] = q.bloch, ones = shots(q.p[1], n, seed);
      const at = [105 + 80 * (y - 0.35 * x), 105 - 80 * (z - 0.25 * x)];  // x looks towards the reader
      const line = (x1, y1, x2, y2, colour, width = 1) => svg("line", { x1, y1, x2, y2, stroke: colour, "stroke-width": width });
      const parts = [
        svg("circle", { cx: 105, cy: 105, r: 80, fill: "#F5F9FC", stroke: "#777" }),
        svg("ellipse", { cx: 105, cy: 105, rx: 80, ry: 20, fill: "none", stroke: "#BBB" }),
        line(105, 25, 105, 185, "#BBB"), line(25, 105, 185, 105, "#BBB"),
        line(105, 105, at[0], at[1], "#D55E00", 3), svg("circle", { cx: at[0], cy: at[1], r: 5, fill: "#D55E00" }),
        svg("text", { x: 105, y: 18, "text-anchor": "middle", "font-size": 13 }, "|0⟩"),
        svg("text", { x: 105, y: 203, "text-anchor": "middle", "font-size": 13 }, "|1⟩"),
      ];
      [0, 1].forEach((bit) => {
        const left = 260 + 130 * bit, count = bit ? ones : n - ones, high = (count / n) * 140, want = q.p[bit] * 140;
        parts.push(svg("rect", { x: left, y: 170 - high, width: 70, height: high, fill: bit ? "#E69F00" : "#56B4E9" }));
        parts.push(line(left - 8, 170 - want, left + 78, 170 - want, "#000", 2));
        parts.push(svg("text", { x: left + 35, y: 188, "text-anchor": "middle", "font-size": 13 }, `bit ${bit}: ${count}`));
      });
      parts.push(svg("text", { x: 360, y: 14, "text-anchor": "middle", "font-size": 12 }, `${n} shots; black: P(0), P(1)`));
      picture.replaceChildren(...parts);
      const amplitude = ([re, im]) => `${fixed(re)} ${im < -5e-7 ? "−" : "+"} ${fixed(Math.abs(im))}i`;
      said.textContent = `circuit: ${gates.map(([g, a]) => (a ? `${g}(${fixed(a, 2)})` : g)).join(", ") || "no gate yet"}\n`
        + `ψ = (${q.amplitudes.map(amplitude).join(", ")})\n⟨Z⟩ = ${fixed(q.p[0] - q.p[1])}, from ${n} shots `
        + `${fixed(1 - (2 * ones) / n)}`;
      picture.setAttribute("aria-label", said.textContent);
    };
    const button = (text, act) => html("button", { type: "button", textContent: text, onclick: () => { act(); update(); } });
    const add = (name, turns = true) => button(name, () => gates.push([name, turns ? angle : 0]));
    root.append(
      html("div", {}, add("RX"), add("RY"), add("RZ"), button("X", () => gates.push(["PauliX", 0])),
        button("H", () => gates.push(["Hadamard", 0])), button("undo", () => gates.pop()),
        button("start again", () => { gates = []; }), button("measure again", () => { seed += 1; })),
      html("div", {}, slider("angle of the next rotation", -3.14, 3.14, 0.01, 1.05, (v) => { angle = v; update(); }),
        slider("shots, as a power of ten", 0, 4, 0.5, 2, (v) => { n = Math.round(10 ** v); update(); })),
      picture, said);
    gates.push(["RX", angle]);
    update();
  }

  function drawShift(root, data) {
    let angle = 0.4, name = Object.keys(data.circuits)[0];
    const picture = svg("svg", { viewBox: "0 0 560 230", width: 560, role: "img", style: "max-width:100%" });
    const said = html("output", { style: "display:block;white-space:pre-line;font-family:monospace" });
    const at = (x, y) => [280 + (x * 260) / (4 * Math.PI), 115 - 95 * y];
    const update = () => {
      const f = (a) => simulate(data.circuits[name], data.inputs, [a, ...data.weights])[0];
      const found = slopes(f, angle), parts = [];
      const curve = [...Array(161).keys()].map((k) => { const a = (k / 80 - 1) * 4 * Math.PI; return at(a, f(a)).join(","); });
      parts.push(svg("line", { x1: 20, x2: 540, y1: 115, y2: 115, stroke: "#BBB" }));
      parts.push(svg("polyline", { points: curve.join(" "), fill: "none", stroke: "#0072B2", "stroke-width": 2 }));
      [[HALF, "#D55E00"], [-HALF, "#D55E00"], [3 * HALF, "#009E73"], [-3 * HALF, "#009E73"]].forEach(([s, colour]) => {
        const [cx, cy] = at(angle + s, f(angle + s));
        parts.push(svg("circle", { cx, cy, r: 6, fill: colour }));
      });
      const [x, y] = at(angle, f(angle)), run = 40, rise = (found.truth * run * 95 * 4 * Math.PI) / 260;
      parts.push(svg("line", { x1: x - run, x2: x + run, y1: y + rise, y2: y - rise, stroke: "#000", "stroke-width": 2 }));
      parts.push(svg("circle", { cx: x, cy: y, r: 6, fill: "#000" }));
      picture.replaceChildren(...parts);
      said.textContent = `φ = ${fixed(angle, 2)}   f(φ) = ${fixed(f(angle), 4)}\nslope ${fixed(found.truth, 4)}   `
        + `two terms (red points) ${fixed(found.two, 4)}   four terms (red and green) ${fixed(found.four, 4)}`;
      picture.setAttribute("aria-label", said.textContent);
    };
    const choice = html("select", { onchange: () => { name = choice.value; update(); } },
      ...Object.keys(data.circuits).map((key) => html("option", { value: key, textContent: key })));
    choice.setAttribute("aria-label", "gate");
    root.append(html("div", {}, html("label", {}, "gate ", choice), " ",
      slider("angle φ", -6.28, 6.28, 0.01, angle, (v) => { angle = v; update(); })), picture, said);
    update();
  }

  function show(id, figure, data) {  // the still picture gives its place to the live one
    const box = document.getElementById(id), live = html("div");
    ({ qubit: drawQubit, shift: drawShift })[figure](live, data);
    box.replaceChildren(live);
  }

  return { simulate, qubit, shots, slopes, show };
})();
if (typeof module !== "undefined") module.exports = moving;
