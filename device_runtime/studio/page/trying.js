// Trying the head in use on a picture, or on what the camera sees.

import * as api from "./api.js";
import { closeCamera, hasCamera, takePicture, toggleCamera } from "./camera.js";
import { bars, byId, dropZone, percent, tell } from "./dom.js";

const LEAST_WAIT = 200; // milliseconds from one look of the camera to the next

let still = null; // the picture that is shown
let live = false;

export function start() {
  const input = byId("try-file");
  byId("try-choose").addEventListener("click", () => input.click());
  byId("try-drop").addEventListener("click", () => live || input.click());
  input.addEventListener("change", () => {
    if (input.files.length) show(input.files[0]);
    input.value = "";
  });
  dropZone(byId("try-card"), (files) => show(files[0]));
  byId("try-camera").hidden = !hasCamera;
  byId("try-camera").addEventListener("click", useCamera);
}

// After another head came into use.
export function tryAgain() {
  if (still && !live) predict(still);
}

function show(file) {
  closeCamera();
  still = file;
  const picture = byId("try-picture");
  if (picture.src) URL.revokeObjectURL(picture.src);
  picture.onload = () => picture.classList.toggle("small", picture.naturalWidth < 100);
  picture.src = URL.createObjectURL(file);
  picture.alt = file.name ?? "the picture";
  picture.hidden = false;
  byId("try-empty").hidden = true;
  return predict(file);
}

async function useCamera() {
  const video = byId("try-video");
  tell(byId("try-error"), "");
  try {
    live = await toggleCamera(video, byId("try-camera"), () => {
      live = false;
      byId("try-empty").hidden = still !== null;
      byId("try-picture").hidden = still === null;
    });
  } catch (error) {
    tell(byId("try-error"), error.message);
    return;
  }
  if (!live) return;
  byId("try-empty").hidden = byId("try-picture").hidden = true;
  byId("shipped-says").textContent = "";
  while (live && !video.hidden) {
    const began = performance.now();
    const frame = document.hidden ? null : await takePicture(video);
    if (live && frame && !(await say(frame))) break;
    await new Promise((resolve) => setTimeout(resolve, Math.max(LEAST_WAIT - (performance.now() - began), 20)));
  }
}

async function predict(file) {
  if (!(await say(file))) return;
  const { likely } = await api.predict(file, "shipped");
  if (file !== still) return;
  const [first] = likely;
  byId("shipped-says").textContent = `The head as shipped says ${first.class}, ${percent(100 * first.probability)}.`;
}

async function say(picture) {
  try {
    const { likely } = await api.predict(picture, "personal");
    if (picture !== still && !live) return false; // another one is shown by now
    tell(byId("try-error"), "");
    byId("says-title").textContent = likely[0].class;
    bars(
      byId("likely"),
      likely.map((each, place) => [each.class, 100 * each.probability, place === 0]),
    );
    byId("says").hidden = false;
    return true;
  } catch (error) {
    tell(byId("try-error"), error.message);
    byId("says").hidden = true;
    return false;
  }
}
