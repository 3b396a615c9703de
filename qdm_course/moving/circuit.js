// A circuit, as qdm_lib.simulator runs it. A gate: {name, wires, param: null or ["input" | "weight", k], scale, offset,
// block, column}; the last wire is the target.

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
  return moving.range(n).map((w) => {
    let z = 0;
    for (let i = 0; i < state.re.length; i++) {
      const p = state.re[i] ** 2 + state.im[i] ** 2;
      z += i & (1 << (n - 1 - w)) ? -p : p;
    }
    return z;
  });
}

// Which gates and wires stand behind ⟨Z⟩ of one wire. Walk back from the end and keep, for each wire, whether the
// observable is on it: NO, as a diagonal matrix (like Z), or as ANY matrix. A gate that commutes with it changes
// nothing and is left out: a diagonal one where all is diagonal, a controlled one whose control is no more than
// diagonal and whose target is free. For RX, RZ, CRX and CRZ.
const NO = 0, DIAGONAL = 1, ANY = 2;

function lightCone(circuit, output) {  // {gates: a Boolean for each, wires: the same}
  const on = Array(circuit.n_wires).fill(NO), gates = circuit.gates.map(() => false);
  on[output] = DIAGONAL;
  for (let k = circuit.gates.length - 1; k >= 0; k--) {
    const { name, wires } = circuit.gates[k], target = wires[wires.length - 1], turnsZ = name.endsWith("RZ");
    const control = wires.length > 1 ? wires[0] : null;
    const free = turnsZ ? on[target] <= DIAGONAL : on[target] === NO;
    if (free && (control === null || on[control] <= DIAGONAL)) continue;
    gates[k] = true;
    on[target] = turnsZ ? Math.max(on[target], DIAGONAL) : ANY;
    if (control !== null) on[control] = Math.max(on[control], DIAGONAL);
  }
  return { gates, wires: on.map((kind) => kind !== NO) };
}

Object.assign(moving, { simulate, apply, start, lightCone });
