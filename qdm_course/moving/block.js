// The hybrid convolution at the vertex with 0 to 13 circuits and "full": which channels, which groups of the norm, how
// many parameters, and the scale of every channel before and after the norm. All numbers come from the library.
const { COLOURS, fixed, label, line, menu, output, picture, range, row, slider, svg } = moving;

const CHANNELS = 40, WIDE = 9.4, LEFT = 12, FULL = 14;
const xOf = (channel) => LEFT + channel * WIDE;

function kinds(n) {  // who computes each channel: "circuit", "Basic circuit" or "convolution"
  const rest = n === FULL ? "Basic circuit" : "convolution";
  return range(CHANNELS).map((c) => (c < 3 * Math.min(n, 13) ? "circuit" : rest));
}

function groups(n, size) {  // of the norm: "quantum", "mixed" or "classical"
  const of = kinds(n);
  return range(CHANNELS / size).map((g) => {
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

function draw(root, { size, rows }) {  // rows: {ansatz: [{conv, circuits, model, before, after}, …]}, a row a choice
  let ansatz = Object.keys(rows)[0], n = 1;
  const drawing = picture(400, 330), said = output();
  const update = () => {
    const found = rows[ansatz][n], of = kinds(n), norm = groups(n, size);
    const count = (kind) => of.filter((k) => k === kind).length;
    const say = { "text-anchor": "start", "font-size": 13 };
    const boxes = of.map((kind, c) => svg("rect", {
      x: xOf(c), y: 24, width: WIDE - 1.5, height: 26, fill: COLOURS[PAINT[kind]],
      opacity: kind === "circuit" && Math.floor(c / 3) % 2 ? 0.6 : 1,  // neighbouring circuits in two shades
    }));
    const edges = range(CHANNELS / size + 1).flatMap((g) => {
      const x = xOf(g * size) - 0.75, edge = (top, end) => line(x, top, x, end, "currentColor", 1, { opacity: 0.5 });
      return [edge(20, 70), edge(100, 180), edge(230, 310)];
    });
    const marks = norm.map((kind, g) => {
      const mixed = kind === "mixed", font = mixed ? { "font-size": 11.5, "font-weight": "bold" } : {};
      return label(xOf((g + 0.5) * size) - 0.75, 66, mixed ? "mixed" : kind[0].toUpperCase(), font);
    });
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
    const names = {
      circuit: `${Math.min(n, 13)} circuit${n === 1 ? "" : "s"} (orange)`,
      "Basic circuit": "one Basic circuit (pink)",
      convolution: "the convolution (blue)",
    };
    const [conv, circuits, model] = [found.conv, found.circuits, found.model].map((k) => k.toLocaleString("en"));
    const shares = Object.keys(names).filter(count).map((kind) => `${names[kind]} on ${count(kind)}`).join(", ");
    said.textContent = `${n === FULL ? "full" : `n = ${n}`}: of 40 channels ${shares}\n`
      + `one convolution: ${conv} parameters, ${circuits} of them in circuits; the U-Net: ${model}\n`
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
