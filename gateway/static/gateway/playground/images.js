// Images that are sent along: read, made smaller where they are large, and refused where they are too large.

export const MOST_IMAGES = 8;
export const MOST_CHARACTERS = 16 * 1024 * 1024;
const LARGEST_FILE_BYTES = 25 * 1024 * 1024;
const LARGEST_BYTES = 4 * 1024 * 1024;
const LARGEST_SIDE = 2048;
const AS_THEY_ARE_BYTES = 1024 * 1024;
const KINDS = ["image/png", "image/jpeg", "image/webp", "image/gif"];

export class NotSendable extends Error {}

// The image as a data URL. Raises NotSendable.
export async function dataUrlOf(file) {
  if (!KINDS.includes(file.type)) throw new NotSendable(`${file.name} is no PNG, JPEG, WebP or GIF.`);
  if (file.size > LARGEST_FILE_BYTES) throw new NotSendable(`${file.name} is larger than 25 MB.`);
  const picture = await createImageBitmap(file).catch(() => {
    throw new NotSendable(`${file.name} cannot be read as an image.`);
  });
  const isSmall = Math.max(picture.width, picture.height) <= LARGEST_SIDE && file.size <= AS_THEY_ARE_BYTES;
  const kept = isSmall ? file : await smaller(picture);
  picture.close();
  if (kept.size > LARGEST_BYTES) throw new NotSendable(`${file.name} is too large to send.`);
  return readAsDataUrl(kept);
}

function smaller(picture) {
  const scale = Math.min(1, LARGEST_SIDE / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "white"; // JPEG has no transparency
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85));
}

function readAsDataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new NotSendable("The image cannot be read."));
    reader.readAsDataURL(blob);
  });
}
