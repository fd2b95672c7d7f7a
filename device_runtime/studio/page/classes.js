// The cards of classes: their pictures, and ways to add more.

import * as api from "./api.js";
import { closeCamera, hasCamera, takePicture, toggleCamera } from "./camera.js";
import { ask, byId, counted, dropZone, element, say, tell } from "./dom.js";
import { addressOf, dropThumbnails, keepThumbnail } from "./thumbnails.js";

const MOST_TILES = 60;
const BURST = 250; // milliseconds between pictures while the button is held

const cards = new Map(); // by class
const opened = new Set(); // classes of the model that this tab shows although they have no pictures yet

let changed = async () => {}; // looks at the studio's state again
let isOwn = () => false;

export function start(look, own) {
  changed = look;
  isOwn = own;
}

export function openCard(name) {
  opened.add(name);
}

export function cardOf(name) {
  return cards.get(name)?.root;
}

export function showClasses(state) {
  const byClass = new Map();
  for (const picture of state.pictures) {
    if (!byClass.has(picture.class)) byClass.set(picture.class, []);
    byClass.get(picture.class).push(picture);
  }
  const shown = state.classes.filter((name, place) => {
    return byClass.has(name) || place >= state.shipped_classes || opened.has(name);
  });
  for (const [name, card] of cards) {
    if (shown.includes(name)) continue;
    card.root.remove();
    cards.delete(name);
  }
  shown.forEach((name, place) => {
    if (!cards.has(name)) cards.set(name, new Card(name));
    const card = cards.get(name);
    const there = byId("classes").children[place];
    if (there !== card.root) byId("classes").insertBefore(card.root, there ?? null);
    card.show(byClass.get(name) ?? []);
  });
  dropThumbnails(state.pictures);
  return shown;
}

class Card {
  constructor(name) {
    this.name = name;
    this.root = byId("class-card").content.cloneNode(true).firstElementChild;
    this.find = (selector) => this.root.querySelector(selector);
    this.tiles = new Map(); // by number
    this.queue = [];
    this.root.dataset.class = name;
    this.find("h3").textContent = name;
    this.find(".choose").ariaLabel = `Choose pictures of ${name}`;
    this.find(".forget").ariaLabel = `Forget ${name}`;
    this.find(".forget").addEventListener("click", () => this.forget());
    const input = this.find("input");
    this.find(".choose").addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      this.add([...input.files]);
      input.value = ""; // so that the same file can be chosen again
    });
    dropZone(this.root, (files) => this.add(files));
    this.prepareCamera();
  }

  prepareCamera() {
    const [camera, shoot, video] = [".camera", ".shoot", "video"].map(this.find);
    camera.hidden = !hasCamera;
    camera.ariaLabel = `Camera for ${this.name}`;
    camera.addEventListener("click", async () => {
      tell(this.find(".error"), "");
      try {
        shoot.hidden = !(await toggleCamera(video, camera, () => (shoot.hidden = true)));
      } catch (error) {
        tell(this.find(".error"), error.message);
      }
    });
    let holding;
    const take = async () => {
      if (!video.hidden) this.add([await takePicture(video)]);
    };
    shoot.addEventListener("click", take);
    shoot.addEventListener("pointerdown", () => (holding = setInterval(take, BURST)));
    for (const end of ["pointerup", "pointerleave", "pointercancel"]) {
      shoot.addEventListener(end, () => clearInterval(holding));
    }
  }

  async add(files) {
    this.queue.push(...files);
    if (this.adding) return;
    this.adding = true;
    let done = 0;
    const problems = [];
    tell(this.find(".error"), "");
    while (this.queue.length) {
      this.showProgress(done, done + this.queue.length);
      const file = this.queue.shift();
      try {
        const { number } = await api.add(file, this.name);
        keepThumbnail(number, file);
        this.tiles.get(number)?.remove(); // the page may have seen it already, without its picture
        this.tiles.delete(number);
      } catch (error) {
        problems.push(error.message);
      }
      done += 1;
      if (done % 8 === 1) await changed("again");
    }
    this.adding = false;
    this.find(".progress").hidden = true;
    await changed("again");
    if (problems.length) {
      const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : "";
      tell(this.find(".error"), problems[0] + more);
    }
    if (done > problems.length) say(`${counted(done - problems.length, "picture")} of ${this.name} added`);
  }

  showProgress(done, all) {
    const [bar, words] = this.find(".progress").children;
    this.find(".progress").hidden = all < 2;
    bar.max = all;
    bar.value = done;
    words.textContent = `${done} of ${all}`;
  }

  show(pictures) {
    this.pictures = pictures;
    this.find(".count").textContent = pictures.length ? counted(pictures.length, "picture") : "no pictures yet";
    this.root.classList.toggle("filled", pictures.length > 0);
    this.find(".forget").textContent = pictures.length || isOwn(this.name) ? "Forget all" : "Close";
    const shown = pictures.slice(-MOST_TILES).reverse();
    const numbers = new Set(shown.map((picture) => picture.number));
    const list = this.find(".tiles");
    for (const [number, tile] of this.tiles) {
      if (numbers.has(number)) continue;
      const focused = tile.contains(document.activeElement);
      const next = tile.nextElementSibling ?? tile.previousElementSibling;
      tile.remove();
      this.tiles.delete(number);
      if (focused) (next?.querySelector("button") ?? this.find(".choose")).focus();
    }
    shown.forEach((picture, place) => {
      if (!this.tiles.has(picture.number)) this.tiles.set(picture.number, this.tile(picture));
      const tile = this.tiles.get(picture.number);
      if (list.children[place] !== tile) list.insertBefore(tile, list.children[place] ?? null);
    });
    const more = pictures.length - shown.length;
    this.find(".more").textContent = more ? `and ${more} older` : "";
    this.find(".more").hidden = !more;
  }

  tile(picture) {
    const added = new Date(picture.added * 1000);
    const day = added.toLocaleDateString(undefined, { day: "numeric", month: "short" });
    const words = element("span", { className: "words" }, `#${picture.number}`, element("br"), day);
    const remove = element("button", { type: "button", ariaLabel: `Forget picture ${picture.number}`, title: "Forget" }, "×");
    remove.addEventListener("click", () => this.forgetPicture(picture.number), { once: true });
    const tile = element("li", { title: `picture ${picture.number}, added ${added.toLocaleString()}` }, words, remove);
    addressOf(picture).then((address) => {
      if (address) words.replaceWith(element("img", { src: address, alt: `${this.name}, picture ${picture.number}` }));
    });
    return tile;
  }

  async forgetPicture(number) {
    try {
      await api.removePictures([number]);
      say(`picture ${number} is forgotten, and every head that was fitted with it`);
    } catch (error) {
      tell(this.find(".error"), error.message);
      this.tiles.get(number)?.remove(); // and comes again, with a button that works
      this.tiles.delete(number);
    }
    await changed("again");
  }

  async forget() {
    opened.delete(this.name);
    const count = this.pictures.length;
    if (count || isOwn(this.name)) {
      const text = "Every head that was fitted with one of them is forgotten too, and a new one is fitted to what is left.";
      const what = count ? `Forget ${counted(count, "picture")} of ${this.name}?` : `Forget the class ${this.name}?`;
      if (!(await ask(what, count ? text : "It has no pictures."))) return;
      try {
        await api.removeClass(this.name);
        say(`${this.name} is forgotten`);
      } catch (error) {
        tell(this.find(".error"), error.message);
        return;
      }
    }
    if (!this.find("video").hidden) closeCamera();
    byId("class-name").focus();
    await changed("again");
  }
}
