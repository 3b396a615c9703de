// The hybrid convolution at the vertex with 0 to 13 circuits and "full": which channels, which groups of the norm, how
// many parameters, and the scale of every channel before and after the norm. All numbers come from the library.
const { COLOURS, fixed, label, line, menu, output, picture, row, slider, svg } = moving;

const CHANNELS = 40, WIDE = 9.4, LEFT = 12, FULL = 14;
const xOf = (channel) => LEFT + channel * WIDE;

function kinds(n) {  // who computes each channel: "circuit", "Basic circuit" or "convolution"
  return [...Array(CHANNELS).keys()].map((c) => (c < 3 * Math.min(n, 13) ? "circuit" : n === FULL ? "Basic circuit" : "convolution"));
}

function groups(n, size) {  // of the norm: "quantum", "mixed" or "classical"
  const of = kinds(n);
  return [...Array(CHANNELS / size).keys()].map((g) => {
    const classical = of.slice(g * size, (g + 1) * size).filter((kind) => kind === "convolution").length;
    return classical === 0 ? "quantum" : classical === size ? "classical" : "mixed";
  });
}

const PAINT = { circuit: "orange", "Basic circuit": "purple", convolution: "blue" };
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

function drawBars(values, of, top, high, scale) {
  return values.map((v, c) => {
    const y = high * Math.max(0, Math.min(1, scale(v)));
    return svg("rect", { x: xOf(c), y: top + high - y, width: WIDE - 1.5, height: y, fill: COLOURS[PAINT[of[c]]] });
  });
}

function draw(root, { size, rows }) {  // rows: {ansatz: [{conv, circuits, model, before, after}, …]}, of 0 … 14 circuits
  let ansatz = Object.keys(rows)[0], n = 1;
  const drawing = picture(400, 330), said = output();
  const update = () => {
    const found = rows[ansatz][n], of = kinds(n), norm = groups(n, size), count = (kind) => of.filter((k) => k === kind).length;
    const say = { "text-anchor": "start", "font-size": 13 };
    const boxes = of.map((kind, c) => svg("rect", { x: xOf(c), y: 24, width: WIDE - 1.5, height: 26, fill: COLOURS[PAINT[kind]],
      opacity: kind === "circuit" && Math.floor(c / 3) % 2 ? 0.6 : 1 }));
    const edges = [...Array(CHANNELS / size + 1).keys()].flatMap((g) => [[20, 70], [100, 180], [230, 310]].map(([top, end]) =>
      line(xOf(g * size) - 0.75, top, xOf(g * size) - 0.75, end, "currentColor", 1, { opacity: 0.5 })));
    const marks = norm.map((kind, g) => label(xOf((g + 0.5) * size) - 0.75, 66, kind === "mixed" ? "mixed" : kind[0].toUpperCase(),
      { "font-size": kind === "mixed" ? 11.5 : 13, "font-weight": kind === "mixed" ? "bold" : "normal" }));
    drawing.replaceChildren(...edges, ...boxes, ...marks,
      label(LEFT, 14, "40 channels in 10 groups; Q: all quantum, C: all classical", say),
      ...drawBars(found.before, of, 100, 80, (v) => (Math.log10(Math.max(v, 1e-2)) + 2) / 4),
      label(LEFT, 92, "std before the norm (log scale, 0.01 to 100)", say),
      ...drawBars(found.after, of, 230, 80, (v) => v / 2.5), label(LEFT, 222, "std after the norm (0 to 2.5)", say),
      line(LEFT, 180, 388, 180), line(LEFT, 310, 388, 310));
    const after = (wanted) => found.after.filter((_, c) => wanted(of[c] !== "convolution", norm[Math.floor(c / size)]));
    const scales = [["quantum channels in groups of their own", after((q, g) => q && g === "quantum")],
      ["quantum channels in the mixed group", after((q, g) => q && g === "mixed")],
      ["classical channels in the mixed group", after((q, g) => !q && g === "mixed")],
      ["other classical channels", after((q, g) => !q && g === "classical")]].filter(([, values]) => values.length);
    const names = { circuit: `${Math.min(n, 13)} circuit${n === 1 ? "" : "s"} (orange)`, "Basic circuit": "one Basic circuit (pink)",
      convolution: "the convolution (blue)" };
    const shares = Object.keys(names).filter(count).map((kind) => `${names[kind]} on ${count(kind)}`).join(", ");
    said.textContent = `${n === FULL ? "full" : `n = ${n}`}: of 40 channels ${shares}\n`
      + `one convolution: ${found.conv.toLocaleString("en")} parameters, ${found.circuits.toLocaleString("en")} of them in circuits; `
      + `the U-Net: ${found.model.toLocaleString("en")}\n`
      + `mean std after the norm: ${scales.map(([what, values]) => `${what} ${fixed(mean(values), 2)}`).join("; ")}`;
    drawing.setAttribute("aria-label", said.textContent);
  };
  root.append(
    row(menu("ansatz", Object.keys(rows).map((key) => [key, key]), ansatz, (key) => { ansatz = key; update(); }),
      slider("circuits, 0 to 13, then full", 0, FULL, 1, n, (v) => { n = v; update(); })),
    drawing, said);
  update();
}

Object.assign(moving, { kinds, groups });
moving.figures.block = draw;
