// Small pictures for tiles. fbkit remembers features, not pictures: this tab shows what it added itself, and what the
// profile keeps.

import { thumbnail } from "./api.js";

const SIDE = 160;

const addresses = new Map(); // of pictures by number: a promise of a URL, or of null

async function shrink(file) {
  try {
    const picture = await createImageBitmap(file);
    const side = Math.min(picture.width, picture.height);
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = SIDE;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = side > SIDE;
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, (picture.width - side) / 2, (picture.height - side) / 2, side, side, 0, 0, SIDE, SIDE);
    picture.close();
    const small = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    return URL.createObjectURL(small);
  } catch {
    return null; // a format that this browser does not know
  }
}

export function keepThumbnail(number, file) {
  if (number) addresses.set(number, shrink(file));
}

export function addressOf(picture) {
  if (!addresses.has(picture.number) && picture.kept) {
    addresses.set(
      picture.number,
      thumbnail(picture.number).then(
        (blob) => URL.createObjectURL(blob),
        () => null,
      ),
    );
  }
  return addresses.get(picture.number) ?? Promise.resolve(null);
}

// Of pictures that are not among `pictures`. Numbers rise: what is above them all was added after these were seen.
export async function dropThumbnails(pictures) {
  const known = new Set(pictures.map((picture) => picture.number));
  const last = pictures.at(-1)?.number ?? 0;
  for (const [number, address] of addresses) {
    if (known.has(number) || number > last) continue;
    addresses.delete(number);
    const url = await address;
    if (url) URL.revokeObjectURL(url);
  }
}
