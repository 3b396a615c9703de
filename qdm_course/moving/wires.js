// HQConv and FQConv: every input and angle moves; the light cone of an output lights up; ⟨Z⟩ of all wires is live.
const { COLOURS, button, fixed, html, label, lightCone, line, menu } = moving;
const { output, random, range, row, simulate, slider, svg } = moving;

const OF_BLOCK = { encoding: "sky blue", A: "orange", B: "green", C: "vermilion", D: "purple" };
const HIGH = 30, WIDE = 40, TOP = 16;
const yOf = (wire) => TOP + HIGH * wire, xOf = (column) => 70 + WIDE * column;
const nameOf = (wire) => `c${Math.floor(wire / 4)} p${wire % 4}`;
const weight = (strong) => (strong ? "bold" : "normal");
const sourceOf = (param) => `${param[0] === "input" ? "x" : "θ"}${param[1]}`;

function firstLayers(circuit, layers) {  // the same circuit cut off after some of its layers
  const per = circuit.n_weights / circuit.n_layers, n_weights = layers * per;
  const gates = circuit.gates.filter((g) => g.param[0] === "input" || g.param[1] < n_weights);
  return { ...circuit, gates, n_weights };
}

function drawGate(gate, lit, chosen, choose) {
  const x = xOf(gate.column), ys = gate.wires.map(yOf), y = ys[ys.length - 1], colour = COLOURS[OF_BLOCK[gate.block]];
  const group = svg("g", { opacity: lit ? 1 : 0.4, style: "cursor:pointer" });
  if (ys.length > 1) {
    group.append(line(x, ys[0], x, y, colour, 2.5), svg("circle", { cx: x, cy: ys[0], r: 4.5, fill: colour }));
  }
  const edge = { stroke: chosen ? "#000" : colour, "stroke-width": chosen ? 3 : 1.5 };
  group.append(
    svg("rect", { x: x - 17, y: y - 14, width: 34, height: 28, rx: 4, fill: "#FFF" }),  // hides the wire
    svg("rect", { x: x - 17, y: y - 14, width: 34, height: 28, rx: 4, fill: colour, "fill-opacity": 0.25, ...edge }),
    label(x, y - 1, gate.name.slice(-2), { "font-size": 12, fill: "#000" }),
    label(x, y + 11, sourceOf(gate.param), { "font-size": 11, fill: "#000" }));
  group.addEventListener("click", choose);
  return group;
}

function drawBars(z, chosen, cone) {  // ⟨Z⟩ of every wire, from −1 on the left to 1 on the right
  return z.flatMap((value, wire) => {
    const y = yOf(wire), long = 40 * value;
    return [
      svg("rect", { x: 45 + Math.min(0, long), y: y - 9, width: Math.abs(long), height: 18,
        fill: wire === chosen ? COLOURS.vermilion : COLOURS.blue, opacity: cone.wires[wire] ? 1 : 0.4 }),
      label(92, y + 4, fixed(value, 2), {
        "text-anchor": "start", "font-size": 12, "font-weight": weight(wire === chosen),
      }),
    ];
  });
}

function draw(root, { circuits }) {
  let name = Object.keys(circuits)[0], layers = 1, wire = 0, param = ["input", 0], circuit, cone;
  const next = random(3), values = { input: Array.from({ length: 12 }, () => 4 * next() - 2),
                                     weight: Array.from({ length: 84 }, () => next()) };
  const drawing = svg("svg", { role: "img", "aria-hidden": "true" }), said = output();
  const bars = svg("svg", { role: "img", style: `flex:none;max-width:none;width:140px;height:${TOP + 12 * HIGH}px` });
  const value = slider("its value", 0, 1, 0.01, 0, (v) => { values[param[0]][param[1]] = v; measure(); });
  const which = menu("input or angle", [], "", (key) => choose(key.split(" ")));

  const isChosen = (gate) => gate.param.join() === param.join();

  function choose([kind, k]) {
    param = [kind, Number(k)];
    Object.assign(value.input, kind === "input" ? { min: -3.14, max: 3.14 } : { min: 0, max: 1 });
    value.input.value = values[kind][param[1]];
    which.select.value = param.join(" ");
    update();
  }

  function rebuild() {
    circuit = firstLayers(circuits[name], layers);
    const described = (g) => `${sourceOf(g.param)}: ${g.name} on ${g.wires.map(nameOf).join(" → ")}`;
    const options = circuit.gates.map((g) => [g.param.join(" "), described(g)]);
    which.fill(options, param.join(" "));
    choose(circuit.gates.some(isChosen) ? param : ["input", 0]);
  }

  function update() {  // the circuit, when another one, another output or another angle is chosen; and what it returns
    cone = lightCone(circuit, wire);
    const end = xOf(Math.max(...circuit.gates.map((g) => g.column)) + 1);
    // Jupyter would shrink it: max-width.
    drawing.style.cssText = `display:block;max-width:none;width:${end}px;height:${TOP + 12 * HIGH}px`;
    drawing.replaceChildren(
      ...cone.wires.flatMap((_, w) => [
        line(52, yOf(w), end, yOf(w), cone.wires[w] ? COLOURS.vermilion : "currentColor", cone.wires[w] ? 2.5 : 1,
          { opacity: cone.wires[w] ? 1 : 0.3 }),
        label(2, yOf(w) + 4, nameOf(w), { "text-anchor": "start", "font-weight": weight(w === wire) })]),
      ...circuit.gates.map((g, k) => drawGate(g, cone.gates[k], isChosen(g), () => choose(g.param))));
    measure();
  }

  function measure() {  // all that a moved value changes
    const z = simulate(circuit, values.input, values.weight);
    const zero = line(45, 0, 45, TOP + 12 * HIGH, "currentColor", 1, { opacity: 0.4 });
    bars.replaceChildren(zero, ...drawBars(z, wire, cone));
    const inputs = range(12).filter((w) => cone.wires[w]);
    const weights = circuit.gates.filter((g, k) => cone.gates[k] && g.param[0] === "weight").length;
    said.textContent = `${sourceOf(param)} = ${fixed(values[param[0]][param[1]], 2)}. Output ${nameOf(wire)}: ⟨Z⟩ = `
      + `${fixed(z[wire], 4)}. It depends on ${inputs.length} of 12 inputs `
      + `(${inputs.map((w) => `x${w}`).join(", ")}) and on ${weights} of ${circuit.n_weights} weights.`;
    bars.setAttribute("aria-label", z.map((v, w) => `${nameOf(w)}: ${fixed(v, 2)}`).join(", "));
  }

  const scrolled = html("div", { style: "overflow-x:auto;min-width:0", tabIndex: 0, role: "group" }, drawing);
  scrolled.setAttribute("aria-label", "the circuit; it scrolls sideways");
  const shake = () => {
    values.input = values.input.map(() => 4 * next() - 2);
    values.weight = values.weight.map(() => next());
    choose(param);
  };
  root.append(
    row(menu("circuit", Object.keys(circuits).map((key) => [key, key]), name, (key) => { name = key; rebuild(); }),
      menu("layers", [1, 2, 3].map((n) => [n, n]), layers, (n) => { layers = Number(n); rebuild(); }),
      menu("output", range(12).map((w) => [w, `${nameOf(w)} (wire ${w})`]), wire, (w) => {
        wire = Number(w);
        update();
      })),
    row(which, value, button("all at random", shake)),
    html("div", { style: "display:flex" }, scrolled, bars),
    said);
  rebuild();
}

Object.assign(moving, { firstLayers });
moving.figures.wires = draw;
