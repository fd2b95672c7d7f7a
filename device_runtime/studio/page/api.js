// Calls of the studio's API. The token came in the page's address, behind #, and goes with each call.

const token = () => location.hash.slice(1);

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(path, options = {}) {
  const headers = { Authorization: `Bearer ${token()}`, ...options.headers };
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  let message = `the studio answered with ${answer.status}`;
  try {
    message = (await answer.json()).error;
  } catch {
    // said as well as it can be
  }
  throw new Refused(answer.status, message);
}

async function post(path, value = {}) {
  const headers = { "Content-Type": "application/json" };
  return (await call(path, { method: "POST", headers, body: JSON.stringify(value) })).json();
}

async function send(path, picture) {
  const headers = { "Content-Type": "application/octet-stream" };
  try {
    return await (await call(path, { method: "POST", headers, body: picture })).json();
  } catch (error) {
    // The studio does not know what the file is called here.
    error.message = error.message.replace(/^picture: /, picture.name ? `${picture.name}: ` : "");
    throw error;
  }
}

// What there is to see; null where nothing changed since `known`.
export async function state(known) {
  const answer = await call(`api/state?known=${encodeURIComponent(known)}`);
  return answer.status === 204 ? null : answer.json();
}

export const add = (picture, label) => send(`api/pictures?class=${encodeURIComponent(label)}`, picture);
export const predict = (picture, head) => send(`api/predict?head=${head}`, picture);
export const thumbnail = async (number) => (await call(`api/pictures/${number}`)).blob();
export const addClass = (name) => post("api/classes", { name });
export const removePictures = (numbers) => post("api/remove", { numbers });
export const removeClass = (name) => post("api/remove", { class: name });
export const fit = () => post("api/fit");
export const rollBack = (shown) => post("api/rollback", { in_use: shown });
