// The denoising as a film. The still picture holds all frames, a row a frame and a column an image: the film is cut
// from it, so that nothing is stored twice.
const { html, output, player } = moving;

function draw(root, { frames, images, size, times, name }, still) {
  const across = images / 2, zoom = 3, said = output();
  const canvas = html("canvas", { width: across * size, height: 2 * size });
  canvas.style.cssText = `width:${across * size * zoom}px;max-width:100%;image-rendering:pixelated;display:block`;
  canvas.setAttribute("role", "img");
  const film = player(250, (frame, playing) => {
    const pen = canvas.getContext("2d");
    for (let k = 0; k < images; k++) {
      const to = [(k % across) * size, Math.floor(k / across) * size];
      pen.drawImage(still, k * size, frame * size, size, size, ...to, size, size);
    }
    said.setAttribute("aria-live", playing ? "off" : "polite");
    said.textContent = `frame ${frame + 1} of ${frames}: `
      + (times[frame] === null ? `x_0, what ${name} drew` : `x_t at t = ${times[frame]}${frame ? "" : ", pure noise"}`);
    canvas.setAttribute("aria-label", said.textContent);
  });
  root.append(film.bar, canvas, said);
  still.decode().then(() => film.reset(frames));
}

moving.figures.film = draw;
