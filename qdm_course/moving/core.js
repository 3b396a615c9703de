// What the figures share: random numbers, SVG and HTML nodes, controls with labels, a player. `qdm_course.moving` puts
// this file and those that a figure needs, each in a block of its own, behind `const moving = {}`.
// Lines and letters are drawn in the colour of the page's own text, so that they show on dark pages too.
const COLOURS = {
  orange: "#E69F00", "sky blue": "#56B4E9", green: "#009E73", blue: "#0072B2", vermilion: "#D55E00", purple: "#CC79A7",
};

const range = (n) => [...Array(n).keys()];  // 0 … n - 1

function random(seed) {  // mulberry32: a function that returns numbers in [0, 1); the same seed, the same numbers
  let s = seed >>> 0;
  return () => {
    s = (s + 0x6d2b79f5) >>> 0;
    let t = Math.imul(s ^ (s >>> 15), 1 | s);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function normals(n, next) {  // n standard normal numbers, by the method of Box and Muller
  const angle = () => 2 * Math.PI * next();
  return Float64Array.from({ length: n }, () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(angle()));
}

const fixed = (x, digits = 3) => (Math.abs(x) < 0.5 * 10 ** -digits ? 0 : x).toFixed(digits).replace("-", "−");

function svg(tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function picture(width, height, more = "") {  // an empty drawing that shrinks with its page
  const style = `max-width:100%;height:auto;${more}`;
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, width, role: "img", style });
}

function line(x1, y1, x2, y2, stroke = "currentColor", width = 1, more = {}) {
  return svg("line", { x1, y1, x2, y2, stroke, "stroke-width": width, ...more });
}

function label(x, y, text, more = {}) {
  return svg("text", { x, y, fill: "currentColor", "text-anchor": "middle", "font-size": 13, ...more }, text);
}

function html(tag, attributes = {}, ...children) {
  const node = Object.assign(document.createElement(tag), attributes);
  node.append(...children);
  return node;
}

const row = (...children) => html("div", { style: "margin:0.3em 0" }, ...children);
const output = () => html("output", { style: "display:block;white-space:pre-wrap;font-family:monospace" });
const button = (textContent, onclick) => html("button", { type: "button", textContent, onclick });

function labelled(text, control) {
  control.setAttribute("aria-label", text);
  return html("label", { style: "display:inline-block;margin-right:1.5em" }, `${text} `, control);
}

function slider(text, min, max, step, value, change) {
  const input = html("input", { type: "range", min, max, step, oninput: () => change(Number(input.value)) });
  input.value = value;  // after its limits, which would cut it
  return Object.assign(labelled(text, input), { input });
}

function menu(text, options, value, change) {  // options: [[value, what is shown], …]
  const select = html("select", { onchange: () => change(select.value) });
  const fill = (entries, chosen) => {
    select.replaceChildren(...entries.map(([key, shown]) => html("option", { value: key, textContent: shown })));
    select.value = chosen;
  };
  fill(options, value);
  return Object.assign(labelled(text, select), { fill, select });
}

function box(text, checked, change) {
  const input = html("input", { type: "checkbox", checked, onchange: () => change(input.checked) });
  return labelled(text, input);
}

// Play, pause, steps and a slider for frames 0 … last. show(frame, playing) draws one. Nothing plays by itself; where
// the reader's system asks for less motion, "play" goes to the end at once.
function player(milliseconds, show) {
  let frame = 0, last = 0, stride = 1, timer = null;
  const at = slider("frame", 0, 0, 1, 0, (k) => { stop(); go(k); });
  const play = button("play", () => (timer === null ? start() : (stop(), go(frame))));
  function go(k) {
    frame = Math.max(0, Math.min(last, k));
    at.input.value = frame;
    show(frame, timer !== null);
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "play";
  }
  function start() {
    if (window.matchMedia("(prefers-reduced-motion: reduce)").matches) return go(last);
    if (frame === last) frame = 0;
    play.textContent = "pause";
    timer = setInterval(() => {
      if (!play.isConnected || frame + stride >= last) stop();
      go(frame + stride);
    }, milliseconds);
    go(frame);
  }
  const step = (by) => () => { stop(); go(frame + by); };
  const bar = row(play, " ", button("step back", step(-1)), " ", button("step", step(1)), " ", at);
  const reset = (frames, first = 0) => {
    stop();
    last = at.input.max = frames - 1;
    stride = Math.max(1, Math.round(last / 100));  // a long walk plays in about a hundred pictures
    go(first);
  };
  return { bar, reset };
}

Object.assign(moving, {
  COLOURS, range, random, normals, fixed, svg, picture, line, label, html, row, output, button, labelled, slider, menu,
  box, player, figures: {},
});
