// One camera at a time, shown in one place of the page.

const SIDE = 640;

export const hasCamera = Boolean(navigator.mediaDevices?.getUserMedia);

let open = null; // { video, stream, button }

export function closeCamera() {
  if (!open) return;
  const { video, stream, button, closed } = open;
  open = null;
  stream.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  video.hidden = true;
  button.setAttribute("aria-pressed", "false");
  closed();
}

// Show the camera in `video`, until `button` is pressed again or another place wants it.
export async function toggleCamera(video, button, closed) {
  const same = open?.video === video;
  closeCamera();
  if (same) return false;
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: SIDE } } });
  } catch (error) {
    const reasons = { NotAllowedError: "this browser was not allowed to use it", NotFoundError: "there is none" };
    throw new Error(`no camera: ${reasons[error.name] ?? error.message}`);
  }
  open = { video, stream, button, closed };
  video.srcObject = stream;
  video.hidden = false;
  button.setAttribute("aria-pressed", "true");
  await video.play();
  return true;
}

// The frame that is shown, as a picture's file.
export function takePicture(video) {
  const scale = Math.min(1, SIDE / Math.max(video.videoWidth, video.videoHeight));
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth * scale;
  canvas.height = video.videoHeight * scale;
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
}
